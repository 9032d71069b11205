"""``faithface explain``: the picture, its scales, and what is said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from faithface.figures import SIGNED, SINGLE, overlay, scale_of


def images(made: Path) -> list[Path]:
    return sorted((made / "crops").glob("*.png"))


def test_a_classifier_is_drawn_with_its_class_and_probability(faithface: Any, made: Path) -> None:
    said = faithface("explain", "--model", made / "pad.toml", "--explainer", "grad-cam", images(made)[0], "-o", "a.png")
    assert said.code == 0
    assert said.out.startswith("a.png: grad-cam; pad: ")
    with Image.open("a.png") as picture:
        assert picture.size[0] > picture.size[1] > 300


def test_a_pair_is_drawn_two_by_two(faithface: Any, made: Path) -> None:
    a, b, *_ = images(made)
    said = faithface("explain", "--model", made / "verification.toml", "--explainer", "ramp", a, b, "-o", "out/p.png")
    assert said.code == 0
    assert "cosine" in said.out
    with Image.open("out/p.png") as picture:
        pixels = np.asarray(picture.convert("RGB"), dtype=float)
    colour = np.abs(pixels[..., 0] - pixels[..., 2])
    h, w = colour.shape
    # The ramp falls from left to right: in each of the four overlays the left is coloured, the right is grey.
    for rows in (slice(h // 5, h // 3), slice(2 * h // 3, 4 * h // 5)):
        left_a, right_a = colour[rows, int(0.03 * w) : int(0.15 * w)], colour[rows, int(0.33 * w) : int(0.42 * w)]
        assert left_a.mean() > 5 * right_a.mean() + 1


def test_a_threshold_decides_the_pair_where_the_card_has_none(faithface: Any, made: Path) -> None:
    a, b, *_ = images(made)
    asked = ("explain", "--model", made / "verification.toml", "--explainer", "fggb", a, b, "-o", "p.png")
    without = faithface(*asked)
    assert without.code == 1
    assert "--threshold" in without.err
    for threshold, verdict in ((-0.5, "same person"), (1.5, "different people")):
        said = faithface(*asked, f"--threshold={threshold}")
        assert said.code == 0
        assert f"{verdict} (threshold {threshold:.3f})" in said.out


def test_several_explainers_make_a_contact_sheet_and_a_failing_one_is_named(faithface: Any, made: Path) -> None:
    names = ["--explainer", "ramp", "--explainer", "fails", "--explainer", "edges"]
    said = faithface("explain", "--model", made / "pad.toml", *names, images(made)[0], "-o", "s.png")
    assert said.code == 1
    assert "s.png: ramp, edges; pad: " in said.out
    assert 'explainer "fails" not drawn' in said.err


def test_a_picture_is_the_same_every_time(faithface: Any, made: Path) -> None:
    for name in ("1.png", "2.png"):
        faithface("explain", "--model", made / "pad.toml", "--explainer", "random", images(made)[0], "-o", name)
    assert Path("1.png").read_bytes() == Path("2.png").read_bytes()


@pytest.mark.parametrize(
    ("card", "count", "words"),
    [("pad", 2, "needs 1 image; got 2"), ("verification", 1, "needs 2 images; got 1")],
)
def test_the_wrong_number_of_images_is_a_usage_error(
    faithface: Any, made: Path, card: str, count: int, words: str
) -> None:
    said = faithface(
        "explain", "--model", made / f"{card}.toml", "--explainer", "ramp", *images(made)[:count], "-o", "x.png"
    )
    assert said.code == 2
    assert words in said.error


def test_an_unknown_format_and_an_unreadable_image_are_usage_errors(faithface: Any, made: Path) -> None:
    command = ["explain", "--model", made / "pad.toml", "--explainer", "ramp"]
    assert ".png, .pdf, .svg" in faithface(*command, images(made)[0], "-o", "x.jpg").error
    assert "no such image" in faithface(*command, "none.png", "-o", "x.png").error


def test_scales_are_symmetric_for_signed_maps_and_start_at_the_smallest_value_else() -> None:
    rng = np.random.default_rng(0)
    signed = scale_of(rng.normal(size=(50, 50)))
    assert signed.colours == SIGNED
    assert signed.low == -signed.high
    high = scale_of(0.5 + 0.1 * rng.random((50, 50)))
    assert high.colours == SINGLE
    assert high.low == pytest.approx(0.5, abs=1e-3)
    for value in (0.0, 2.0):
        flat = scale_of(np.full((5, 5), value))
        assert flat.high > flat.low


def test_an_overlay_leaves_the_image_grey_where_nothing_is_relevant() -> None:
    image = np.random.default_rng(1).random((8, 8, 3))
    map_ = np.zeros((8, 8))
    map_[0, 0] = 1.0
    drawn = overlay(image, map_, scale_of(map_))
    assert np.ptp(drawn[4, 4]) == pytest.approx(0)
    assert np.ptp(drawn[0, 0]) > 0.05
    assert drawn.min() >= 0
    assert drawn.max() <= 1
