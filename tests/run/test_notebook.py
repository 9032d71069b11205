"""What a notebook shows: short texts, small tables, figures of the right numbers; failures never pass silently."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

import faithface
from tests.support.networks import faces, tiny
from tests.support.runs import Fails, MeanRelevance, Ramp, write_images

CURVED = "deletion@1(grid=4,points=5)"


@pytest.fixture(scope="module")
def result(pad_card: str, folder: str) -> faithface.Result:
    """Eight explainers and four protocols: more than fits."""
    slopes = [Ramp(slope=float(s)) for s in range(1, 8)]
    metrics = [MeanRelevance(), CURVED, "entropy@1", "insertion@1(grid=4,points=5)"]
    return faithface.evaluate(pad_card, folder, [*slopes, "random"], metrics, limit=6)


def test_dir_shows_the_api_and_nothing_else() -> None:
    shown = dir(faithface)
    assert {"evaluate", "explain", "Result", "Explanation", "Explainer", "hookimpl"} <= set(shown)
    assert shown == sorted(faithface.__all__)
    assert all(getattr(faithface, name) is not None for name in shown)


def test_the_text_of_a_result_has_at_most_15_lines(result: faithface.Result, pair_card: str, pairs: str) -> None:
    lines = repr(result).splitlines()
    assert len(lines) <= 15
    assert "(+1 protocols)" in lines[0]
    assert any(line.startswith(("ramp ", "ramp(")) for line in lines)
    assert "0.5000 [0.5000, 0.5000]" in repr(result)
    many = faithface.evaluate(pair_card, pairs, [Ramp(slope=float(s)) for s in range(20)], ["entropy@1"], limit=2)
    lines = repr(many).splitlines()
    assert len(lines) == 15
    assert any(line.startswith("… and ") for line in lines)


def test_a_notebook_gets_a_table_with_intervals_and_thumbnails(result: faithface.Result) -> None:
    text = result._repr_html_()
    assert text.count("<tr>") == 1 + 8
    assert "0.5000 [0.5000, 0.5000]" in text
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', text)
    assert len(pictures) == 8
    first = Image.open(io.BytesIO(base64.b64decode(pictures[0])))
    assert first.size == (48, 48)
    shown = np.asarray(first.convert("RGB")).astype(float)
    left, right = shown[:, :8].mean(), shown[:, -8:].mean()
    assert left != pytest.approx(right, abs=5)  # the ramp falls from left to right


def test_names_in_html_are_text(pad_card: str, folder: str) -> None:
    result = faithface.evaluate(pad_card, folder, [Fails()], [MeanRelevance()], limit=2)
    changed = faithface.Result(result.values, result.records, ("<script>",), ())
    assert "<script>" not in changed._repr_html_()


def test_the_figure_of_intervals_shows_the_numbers(result: faithface.Result) -> None:
    (axes,) = result.plot("mean-relevance@1").axes
    numbers = {k.record.explainer.spec: k.record.numbers[0].number for k in result.records}
    labels = [text.get_text() for text in axes.get_yticklabels()]
    points = [float(line.get_xdata()[0]) for line in axes.lines if line.get_marker() == "o"]
    assert dict(zip(labels, points, strict=True)) == pytest.approx(numbers)
    assert len([axes for axes in result.plot().axes if axes.get_title()]) == 4
    with pytest.raises(faithface.UsageError, match=r'no metric "entropie@1".*did you mean "entropy@1"'):
        result.plot("entropie@1")


def test_curves_are_means_over_samples(result: faithface.Result) -> None:
    (axes,) = result.curves(CURVED, explainers="random").axes
    (line,) = axes.lines
    mine = result.curve_points.filter(pl.col("metric") == CURVED, pl.col("explainer") == "random")
    expected = mine.group_by("fraction").agg(pl.col("value").mean()).sort("fraction")
    np.testing.assert_allclose(line.get_xdata(), expected["fraction"])
    np.testing.assert_allclose(line.get_ydata(), expected["value"])
    with pytest.raises(faithface.UsageError, match="no curve of entropy@1 is kept; curves are there of: deletion"):
        result.curves("entropy@1")


def test_overlays_show_the_first_samples(result: faithface.Result, pair_card: str, pairs: str) -> None:
    figure = result.overlays(["random", "ramp(slope=2.0)"])
    assert sum(bool(axes.images) for axes in figure.axes) == 2 * 4
    assert {shown.maps["relevance"].shape for shown in result.shown} == {(32, 32)}
    with pytest.raises(faithface.UsageError, match="no map is kept of rise; maps are there of: ramp"):
        result.overlays("rise")
    of_pairs = faithface.evaluate(pair_card, pairs, [Ramp()], ["entropy@1"], limit=2)
    assert {shown.image.shape for shown in of_pairs.shown} == {(2, 32, 32, 3)}
    assert sum(bool(axes.images) for axes in of_pairs.overlays().axes) == 2


def test_pandas_holds_the_values(result: faithface.Result) -> None:
    pytest.importorskip("pandas")
    frame = result.to_pandas()
    assert list(frame.columns) == result.values.columns
    assert frame["value"].tolist() == result.values["value"].to_list()


# --- failures


def test_failures_are_recorded_and_printed_or_raised(
    pad_card: str, folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = faithface.evaluate(pad_card, folder, [Fails(), Ramp()], [MeanRelevance()], limit=2)
    said = capsys.readouterr().err
    assert said.count("faithface: failed: ") == 1
    assert result.failures[0] in said
    assert "1 failed; result.failures lists them" in said
    with pytest.raises(faithface.RunError, match="ZeroDivisionError: a mistake") as caught:
        faithface.evaluate(pad_card, folder, [Fails(), Ramp()], [MeanRelevance()], limit=2, errors="raise")
    assert 'raise ZeroDivisionError("a mistake' in caught.value.__notes__[0]
    with pytest.raises(faithface.UsageError, match='errors is "ignore"; expected "record" or "raise"'):
        faithface.evaluate(pad_card, folder, [Ramp()], [MeanRelevance()], errors="ignore")  # type: ignore[arg-type]


# --- one image


def test_explain_gives_the_explainers_own_maps_and_a_figure(pad_card: str, tmp_path: Path) -> None:
    (path,) = write_images(tmp_path, 1)
    maps, figure = faithface.explain(pad_card, path, Ramp())
    expected = np.broadcast_to(np.linspace(1, 0, 32, dtype=np.float32), (1, 32, 32))
    np.testing.assert_allclose(maps.relevance.numpy(), expected, atol=1e-6)
    assert sum(bool(axes.images) for axes in figure.axes) == 2
    pixels = np.asarray(Image.open(path))
    same = faithface.explain(pad_card, pixels, "grad-cam")
    assert same.maps.relevance.equal(faithface.explain(pad_card, str(path), "grad-cam").maps.relevance)
    assert Image.open(io.BytesIO(same._repr_png_())).size[0] > 300
    assert repr(same).startswith("<Explanation: relevance; tiny-pad-0: ")


def test_explain_takes_two_images_of_a_pair(pair_card: str) -> None:
    a, b = (face.read() for face in faces(2, 32))
    found = faithface.explain(pair_card, [a, b], "fggb", threshold=0.5)
    assert found.maps.similarity.shape == (1, 2, 32, 32)
    assert "threshold 0.500" in found.answer
    assert sum(bool(axes.images) for axes in found.figure.axes) == 4


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((8, 8)), r"an array of shape \(8, 8\) and float64; expected H×W×3"),
        (np.full((8, 8, 3), 200.0), "values from 200 to 200; expected 0 to 1, or uint8"),
        ([np.zeros((8, 8, 3)), np.zeros((8, 8, 3))], "is for pad and needs 1 image; got 2"),
        ("nowhere.png", "nowhere.png"),
    ],
)
def test_what_is_no_image_is_refused(tmp_path: Path, image: object, words: str) -> None:
    with pytest.raises(faithface.FaithfaceError, match=words):
        faithface.explain(tiny("cnn", "pad", tmp_path), image, Ramp())  # type: ignore[arg-type]
