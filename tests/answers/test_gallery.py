"""``faithface why PROBE --gallery``: the margin's values by brute force, who the mate is, the page, what is refused."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from faithface.answers import why_among
from faithface.answers.page import render_page
from faithface.answers.wording import sentence
from faithface.cli import main
from faithface.errors import UsageError
from faithface.images import read_image
from faithface.model import open_model
from faithface.plugins import load_registry
from faithface.tasks import cosine
from tests.support.runs import write_card, write_pairs, write_quarters

PEOPLE = 6


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("gallery")
    write_pairs(root, people=PEOPLE)
    gallery = root / "gallery"
    for path in (root / "crops").glob("*.png"):
        home = gallery / path.stem.split("_")[0]
        home.mkdir(parents=True, exist_ok=True)
        (home / path.name).write_bytes(path.read_bytes())
    return {
        "gallery": gallery,
        "crops": root / "crops",
        "masks": write_quarters(root / "masks"),
        "model": str(write_card(root, "verification")),
        "registry": load_registry(),
    }


def ask(made: dict[str, Any], **options: Any):
    probe = options.pop("probe", made["crops"] / "p0_0.png")
    options = {"masks": made["masks"], "registry": made["registry"], "fills": 2} | options
    return why_among(probe, made["gallery"], made["model"], **options)


def pixels(path: Path) -> torch.Tensor:
    return torch.from_numpy(read_image(path).transpose(2, 0, 1))


def test_values_are_those_of_the_margin_averaged_over_all_orders(made: dict[str, Any]) -> None:
    """Four regions, by brute force: similarity to the best mate minus that to the best other, in all 24 orders."""
    answer = ask(made, mate="p0")
    ranking = answer.ranking
    assert ranking is not None
    model = open_model(made["registry"].model(made["model"]).object)
    probe = pixels(made["crops"] / "p0_0.png")
    similarity = {
        path: float(cosine(model.embeddings(probe[None]), model.embeddings(pixels(path)[None])))
        for path in made["gallery"].rglob("*.png")
    }
    of_mate = {path: value for path, value in similarity.items() if path.parent.name == "p0"}
    of_others = {path: value for path, value in similarity.items() if path.parent.name != "p0"}
    best, other = max(of_mate, key=lambda p: of_mate[p]), max(of_others, key=lambda p: of_others[p])
    assert ranking.mate.image == best.relative_to(made["gallery"]).as_posix()
    assert ranking.other.image == other.relative_to(made["gallery"]).as_posix()
    assert answer.score == pytest.approx(similarity[best] - similarity[other], abs=1e-6)
    references = model.embeddings(torch.stack([pixels(best), pixels(other)]))
    for f, name in enumerate(answer.fill_names["stranger"]):
        assert name.split("/")[0] not in ("p0", other.parent.name)  # a third person
        fill = pixels(made["gallery"] / name)

        def margin(replaced: tuple[int, ...], fill: torch.Tensor = fill) -> float:
            image = probe.clone()
            for r in replaced:
                image[:, answer.regions.labels == r] = fill[:, answer.regions.labels == r]
            embedded = model.embeddings(image[None])
            return float(cosine(embedded, references[:1]) - cosine(embedded, references[1:]))

        expected = np.zeros(4)
        for order in itertools.permutations(range(4)):
            for at, r in enumerate(order):
                expected[r] += (margin(order[:at]) - margin(order[: at + 1])) / 24
        assert answer.values[0].values[f] == pytest.approx(expected, abs=1e-5)
    assert answer.values[0].residual < 1e-5
    assert answer.passes == 2 * 2**4


def test_who_the_mate_is(made: dict[str, Any]) -> None:
    unknown = ask(made)
    assert unknown.ranking is not None
    assert not unknown.ranking.known
    assert unknown.ranking.rank == 1
    assert any("Nobody said who the probe is" in line for line in unknown.cautions)
    inside = ask(made, probe=made["gallery"] / "p3" / "p3_1.png")
    assert inside.ranking is not None
    assert inside.ranking.known
    assert inside.ranking.mate.image == "p3/p3_0.png"  # never the probe itself
    wrong = ask(made, mate="p4")
    assert wrong.ranking is not None
    assert wrong.ranking.rank > 1
    assert wrong.score < 0
    assert "is found rather than p4" in sentence(wrong)


def test_the_other_s_own_pixels_can_replace_regions(made: dict[str, Any]) -> None:
    answer = ask(made, fill="partner", mate="p0")
    assert answer.ranking is not None
    model = open_model(made["registry"].model(made["model"]).object)
    mate, other = (pixels(made["gallery"] / one.image) for one in (answer.ranking.mate, answer.ranking.other))
    a, b = model.embeddings(torch.stack([mate, other]))
    # The fully replaced probe is the other person's image.
    assert answer.values[0].filled[0] == pytest.approx(float(cosine(b[None], a[None])) - 1, abs=1e-5)


def test_the_page_shows_the_three_and_the_ranking(made: dict[str, Any]) -> None:
    answer = ask(made, mate="p0")
    page = render_page(answer)
    assert answer.ranking is not None
    for one in answer.ranking.candidates:
        assert f"{one.similarity:.3f}".replace("-", "−") in page
    assert f"orange speaks for {answer.ranking.mate.person}</span>" in page
    assert f"blue for {answer.ranking.other.person}</span>" in page
    assert "Who is most similar" in page
    assert page.count("<image href=") == 4  # probe, mate, other, and the regions
    assert "Swap the images" not in page


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--mate", "p44"], 'did you mean "p4"'),
        (["--explainer", "occlusion"], "a gallery has neither"),
        (["--gallery", "{crops}"], "outside of a person's folder"),
        (["--gallery", "{gallery}/p0"], "outside of a person's folder"),
        (["--gallery", "{gallery}/nothing"], "is not a folder"),
    ],
)
def test_what_cannot_be_searched_is_one_line(
    made: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    arguments = ["why", made["crops"] / "p0_0.png", "--gallery", made["gallery"], "--model", made["model"]]
    arguments += ["--masks", made["masks"], "--fills", 2, "-o", tmp_path / "p.html", *options]
    assert main([str(one).format(**made) for one in arguments]) == 2
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1
    assert said in error
    assert not (tmp_path / "p.html").exists()


def test_a_mate_without_a_gallery_is_refused(made: dict[str, Any], tmp_path: Path, capsys: Any) -> None:
    a = str(made["crops"] / "p0_0.png")
    assert main(["why", a, a, "--model", made["model"], "--mate", "p0", "-o", str(tmp_path / "p.html")]) == 2
    assert "--gallery" in capsys.readouterr().err


def test_a_gallery_with_too_few_people_falls_back_to_blur_and_says_so(made: dict[str, Any]) -> None:
    answer = ask(made, mate="p0", fills=PEOPLE)
    assert [value.fill for value in answer.values] == ["blur"]
    assert any("besides the two" in line for line in answer.cautions)


def test_one_person_is_no_gallery(made: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "a.png").write_bytes((made["crops"] / "p0_0.png").read_bytes())
    with pytest.raises(UsageError, match="images of 1 people; expected at least 2"):
        why_among(made["crops"] / "p0_0.png", tmp_path, made["model"], masks=made["masks"])


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_a_search_can_be_a_picture(made: dict[str, Any], tmp_path: Path, suffix: str) -> None:
    from faithface.answers.picture import draw, write_picture

    answer = ask(made, mate="p0")
    out = tmp_path / f"search{suffix}"
    write_picture(answer, out)
    assert out.stat().st_size > 10_000
    texts = [text.get_text() for text in draw(answer).texts]
    assert sentence(answer) in " ".join(texts).replace("\n", " ")
    labels = {label.get_text() for axes in draw(answer).axes for label in axes.get_yticklabels()}
    for name, value, margin in zip(answer.regions.names, answer.values[0].mean, answer.values[0].margin, strict=True):
        assert f"{name}  {value:+.4f} ± {margin:.4f}".replace("-", "−") in labels


def test_nothing_that_a_picture_says_is_cut_off(made: dict[str, Any]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    from faithface.answers.picture import draw

    figure = draw(ask(made, mate="p0"))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    ticks = {tick for axes in figure.axes for tick in axes.get_xticklabels()}  # those out of the axis are not drawn
    said = [one for one in figure.findobj(Text) if one.get_text().strip() and one not in ticks]
    boxes = [(one.get_text(), one.get_window_extent(canvas.get_renderer())) for one in said]
    assert [text for text, box in boxes if box.x0 < 0 or box.x1 > figure.bbox.x1 + 1] == []
    # Captions of neighbouring pictures do not touch.
    captions = sorted((box.x0, box.x1) for text, box in boxes if text.endswith(".png") or text.startswith("orange"))
    assert len(captions) == 4
    assert all(before[1] < after[0] for before, after in itertools.pairwise(captions))
