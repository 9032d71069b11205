"""``faithface why``: one decision from the command line, its page, and what it refuses."""

from __future__ import annotations

import dataclasses
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from faithface.answers import why
from faithface.answers.page import render_page
from faithface.answers.wording import sentence, standing_out
from faithface.cli import main
from faithface.errors import FaithfaceError
from faithface.images import read_image
from faithface.loading import clean_threshold
from faithface.model import open_model
from faithface.plugins import load_registry
from faithface.regions.partition import ARCFACE
from faithface.regions.shapley import RegionValues
from faithface.tasks import cosine
from tests.support.networks import build, export
from tests.support.runs import (
    SIZE,
    Fails,
    Ramp,
    with_extras,
    write_card,
    write_constant,
    write_folder,
    write_pairs,
    write_quarters,
)

POINTS = (np.array(ARCFACE.landmarks) + 0.5) * (SIZE / 112) - 0.5


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("why")
    return {
        "root": root,
        "masks": write_quarters(root / "masks"),
        "pairs": write_pairs(root, people=12),
        "crops": root / "crops",
        "folder": write_folder(root / "pad"),
        "verification": str(write_card(root, "verification")),
        "pad": str(write_card(root, "pad")),
        "registry": with_extras(load_registry(), Ramp(), Fails()),
    }


def ask(made: dict[str, Any], a: str = "p0_0.png", b: str = "p1_0.png", **options: Any):
    options = {"dataset": made["pairs"], "masks": made["masks"], "registry": made["registry"]} | options
    return why([made["crops"] / a, made["crops"] / b], made["verification"], **options)


def test_the_values_of_a_pair_are_those_of_its_own_strangers(made: dict[str, Any]) -> None:
    """Re-derived at four regions: compose, embed, compare, and average what each region loses."""
    answer = ask(made, fill="stranger", fills=3)
    registry, crops = made["registry"], made["crops"]
    model = open_model(registry.model(made["verification"]).object)
    data = registry.dataset(made["pairs"]).object
    names = answer.fill_names["stranger"]
    assert len({name.split("_")[0] for name in names} - {"p0", "p1"}) == 3  # three other people
    pixels = {n: torch.from_numpy(read_image(crops / n).transpose(2, 0, 1)) for n in (*names, "p0_0.png", "p1_0.png")}
    reference = model.embeddings(pixels["p1_0.png"][None])
    values = answer.values[0]
    for f, name in enumerate(names):
        scores = {}
        for kept in range(16):
            image = pixels[name].clone()
            for r in range(4):
                if kept >> r & 1:
                    image[:, answer.regions.labels == r] = pixels["p0_0.png"][:, answer.regions.labels == r]
            scores[kept] = float(cosine(model.embeddings(image[None]), reference))
        for r in range(4):
            # Over sizes of the coalition first, then over coalitions of that size: the average over all orders.
            gains = [[] for _ in range(4)]
            for kept in range(16):
                if not kept >> r & 1:
                    gains[kept.bit_count()].append(scores[kept | 1 << r] - scores[kept])
            assert values.values[f, r] == pytest.approx(np.mean([np.mean(g) for g in gains]), abs=1e-5)
        assert values.values[f].sum() == pytest.approx(scores[15] - scores[0], abs=1e-5)
    assert answer.score == pytest.approx(scores[15], abs=1e-5)
    assert answer.passes == 3 * 2**4
    assert answer.threshold == pytest.approx(clean_threshold(model, data))
    assert answer.known_same is False


def test_a_rejected_pair_is_held_against_its_partner_and_strangers(made: dict[str, Any]) -> None:
    answer = ask(made, threshold=2.0, fills=4, explainers=["ramp"])
    assert answer.decision == "rejected"
    assert [v.fill for v in answer.values] == ["partner", "stranger"]
    partner = answer.of("partner")
    assert partner is not None
    assert partner.filled[0] == pytest.approx(1, abs=1e-6)
    assert partner.values.sum() == pytest.approx(answer.score - 1, abs=1e-5)
    by_name = {(a.explainer, a.reference): a for a in answer.agreements}
    assert set(by_name) == {(e, f) for e in ("ramp", "centre-prior") for f in ("partner", "stranger")}
    ramp = by_name["ramp", "partner"]
    assert ramp.kind == "dissimilarity"
    # The ramp falls from left to right: left quarters weigh more; ranks as scipy gives them, by hand.
    left = np.linspace(1, 0, SIZE)[: SIZE // 2].sum() * (SIZE // 2)
    assert ramp.sums[0] == pytest.approx(left, rel=1e-5)
    from scipy.stats import spearmanr

    assert ramp.spearman == pytest.approx(spearmanr(ramp.sums, -partner.mean).statistic)


def test_nobody_is_a_stranger_to_himself(made: dict[str, Any]) -> None:
    """The probe's other pictures, and whoever the model takes for one of the two, never replace a region."""
    answer = ask(made, "p0_0.png", "p0_1.png", fill="stranger", fills=4)
    assert answer.known_same is True
    assert not [name for name in answer.fill_names["stranger"] if name.startswith("p0_")]
    model = open_model(made["registry"].model(made["verification"]).object)
    crops = made["crops"]
    own = torch.stack([torch.from_numpy(read_image(crops / n).transpose(2, 0, 1)) for n in ("p0_0.png", "p0_1.png")])
    for name in answer.fill_names["stranger"]:
        face = torch.from_numpy(read_image(crops / name).transpose(2, 0, 1))[None]
        assert float(cosine(model.embeddings(face), model.embeddings(own)).max()) < answer.threshold


def test_the_same_seed_gives_the_same_answer_and_another_seed_other_strangers(made: dict[str, Any]) -> None:
    first, again, other = (ask(made, fill="stranger", fills=3, seed=s) for s in (0, 0, 1))
    assert np.array_equal(first.values[0].values, again.values[0].values)
    assert first.fill_names != other.fill_names


def test_a_classifier_is_held_against_blur(made: dict[str, Any]) -> None:
    image = sorted(Path(made["folder"]).rglob("*.png"))[0]
    answer = why([image], made["pad"], dataset=f"folder:{made['folder']}", masks=made["masks"], fills=3)
    assert answer.predicted in ("bona-fide", "attack")
    assert [v.fill for v in answer.values] == ["blur"]
    assert answer.values[0].values.sum(axis=1) == pytest.approx(answer.score - answer.values[0].filled, abs=1e-5)
    from scipy.ndimage import gaussian_filter

    pixels = read_image(image)
    model = open_model(load_registry().model(made["pad"]).object)
    column = model.card.output.classes.index(answer.predicted)
    for f, ratio in enumerate((0.5, 1, 2)):
        sigma = 0.08 * ratio * SIZE
        blurred = np.stack([gaussian_filter(pixels[..., c], sigma, mode="reflect") for c in range(3)])
        score = float(model.scores(torch.from_numpy(blurred)[None])[0, column])
        assert answer.values[0].filled[f] == pytest.approx(score, abs=1e-5)
    # The lead says how much of the probability no region accounts for.
    assert f"With the whole face blurred it is {answer.values[0].filled.mean():.3f}." in render_page(answer)


def test_a_set_of_one_kind_of_pair_gives_no_decision_and_says_so(made: dict[str, Any], tmp_path: Path) -> None:
    rows = (made["root"] / "pairs.csv").read_text().splitlines()
    (tmp_path / "impostors.csv").write_text("\n".join([rows[0], *(row for row in rows if ",0," in row)]))
    answer = ask(made, dataset=f"pairs:{tmp_path / 'impostors.csv'}@{made['crops']}", fills=2)
    assert (answer.decision, answer.threshold) == ("scored", None)
    assert sentence(answer).startswith(f"Similarity {answer.score:.3f}: ".replace("-", "−"))
    assert any("pairs of one kind only" in caution for caution in answer.cautions)
    assert "pairs of one kind only" in render_page(answer)


# --- the page


class Reader(HTMLParser):
    """Collects text, tags and addresses."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.tags, self.addresses, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "data")]
        if tag not in ("meta", "img", "br", "rect", "line", "path", "image", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.open:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_stands_alone_and_says_what_the_answer_says(made: dict[str, Any]) -> None:
    answer = ask(made, threshold=2.0, fills=3, explainers=["ramp", "fails"])
    page = Reader(render_page(answer))
    assert not page.open
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert page.addresses
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    said = re.sub(r"\s+", " ", " ".join(page.text))
    assert sentence(answer) in said
    for name, value, margin in zip(answer.regions.names, answer.values[1].mean, answer.values[1].margin, strict=True):
        assert name in said
        assert f"{value:+.4f} ± {margin:.4f}".replace("-", "−") in said
    assert 'explainer "fails" gave no map' in said
    assert "prefers-color-scheme: dark" in said


def test_text_from_outside_is_escaped(made: dict[str, Any], tmp_path: Path) -> None:
    odd = tmp_path / "a<b>&.png"
    odd.write_bytes((made["crops"] / "p0_0.png").read_bytes())
    page = render_page(ask(made, str(odd), fill="stranger", fills=2))
    assert "a<b>" not in page
    assert "a&lt;b&gt;&amp;.png" in page


def test_a_region_is_named_only_where_its_interval_excludes_zero() -> None:
    names = ("eyes", "nose", "jaw", "hair")
    clear, wide = np.array([0.5, 0.2, -0.1, 0.01]), np.array([0.5, 0.2, -0.1, 0.01])
    noise = np.array([[1, 1, 1, 1], [-1, -1, -1, -1], [0, 0, 0, 0]])
    values = RegionValues("stranger", clear + 0.01 * noise, 1.0, np.zeros(3), 48)
    assert standing_out(values, names, +1) == ["eyes"]  # which alone makes up 60 % of what speaks for it
    assert standing_out(values, names, -1) == ["jaw"]
    values = RegionValues("stranger", wide + 0.3 * noise, 1.0, np.zeros(3), 48)
    assert standing_out(values, names, +1) == []
    assert standing_out(values, names, -1) == []


@pytest.mark.parametrize(
    ("decision", "fill", "mean", "said"),
    [
        ("scored", "blur", [0.0, -0.2, 0.3, 0.0], "Similarity {score}: the nose raises it; the eyes lower it."),
        ("scored", "blur", [0.0, 0.2, 0.1, 0.0], "Similarity {score}: the eyes raise it."),
        (
            "scored",
            "blur",
            [0.0, -0.2, 0.0001, 0.0],
            "Similarity {score}: the eyes lower it.",
        ),  # no claim on the others
        ("accepted", "blur", [0.0, 0.0, 0.3, 0.0], "Accepted: the nose carries the match."),
        (
            "accepted",
            "blur",
            [0.0, -0.2, 0.0, 0.0],
            "Accepted: no region carries the match by itself; the eyes weaken it.",
        ),
        ("accepted", "stranger", [0.0, 0.2, -0.1, 0.0], "Accepted: the eyes agree; the nose differs."),
        ("rejected", "stranger", [0.0, 0.2, -0.1, 0.0], "Rejected: the nose differs most; the eyes agree."),
    ],
)
def test_a_pair_is_told_in_a_sentence(
    made: dict[str, Any], decision: str, fill: str, mean: list[float], said: str
) -> None:
    spread = 1e-4 * np.array([[1.0, -1, 1, -1], [-1, 1, -1, 1], [0, 0, 0, 0]])
    values = RegionValues(fill, np.array(mean) + spread, 0.4, np.zeros(3), 24)
    answer = ask(made, fill="blur", fills=1)
    names = dataclasses.replace(answer.regions, names=("jaw", "eyes", "nose", "hair"))
    told = dataclasses.replace(answer, decision=decision, values=(values,), regions=names, score=-0.25)
    assert sentence(told) == said.format(score="−0.250")


# --- what is refused, on the command line


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    code = main([str(a) for a in arguments])
    said = capsys.readouterr().err
    assert code in (1, 2)
    assert len(said.strip().splitlines()) == 1
    return said


def test_the_command_writes_the_page(made: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "page.html"
    a, b = made["crops"] / "p0_0.png", made["crops"] / "p2_0.png"
    points = " ".join(f"{x:.2f},{y:.2f}" for x, y in POINTS)
    asked = ["why", a, b, "--model", made["verification"], "--dataset", made["pairs"], "--fills", 2]
    code = main([str(x) for x in [*asked, "--landmarks", points, "--fill", "partner", "-o", out]])
    assert code == 0
    assert capsys.readouterr().out.startswith(f"{out}: ")
    assert "<!doctype html>" in out.read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "no template is known for crops of 32×32"),
        ({"--crop": "arcface", "--dataset": "{pairs}(aligned=false)"}, "not aligned"),
        ({"--crop": "arcface", "--fill": "stranger"}, "--dataset"),
        ({"--crop": "arcface", "--dataset": "{pairs}", "--fills": 200}, "expected 200 fills"),
        ({"--crop": "arcface", "--fill": "strangers"}, 'did you mean "stranger"'),
        ({"--crop": "arcface", "--masks": "{masks}"}, "exclude each other"),
        ({"--crop": "arcface", "--explainer": "ocluson"}, 'did you mean "occlusion"'),
        ({"--landmarks": "1,2 3"}, "expected five points"),
        ({"--masks": "{crops}/nothing"}, "is not a folder with images"),
        ({"--crop": "arcface", "--dataset": "folder:{folder}"}, "is for pad"),
    ],
)
def test_what_cannot_be_answered_is_one_line_and_no_page(
    made: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], options: dict[str, str], said: str
) -> None:
    a, b = made["crops"] / "p0_0.png", made["crops"] / "p1_0.png"
    extra = [str(x).format(**made) for pair in options.items() for x in pair]
    error = refused(capsys, "why", a, b, "--model", made["verification"], "-o", tmp_path / "p.html", *extra)
    assert said in error
    assert not (tmp_path / "p.html").exists()


def test_images_that_hold_no_face_of_the_right_size_are_refused(
    made: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = made["crops"] / "p0_0.png"
    large, blank = tmp_path / "large.png", tmp_path / "blank.png"
    Image.open(good).resize((50, 40)).save(large)
    Image.new("RGB", (SIZE, SIZE), (90, 90, 90)).save(blank)
    model = ["--model", made["verification"], "-o", tmp_path / "p.html"]
    assert "is 40×50; model" in refused(capsys, "why", good, large, *model)
    assert "single colour" in refused(capsys, "why", good, blank, "--crop", "arcface", *model)
    assert "needs 2 images; got 1" in refused(capsys, "why", good, *model)
    assert "neither a page nor a picture" in refused(capsys, "why", good, good, *model[:2], "-o", tmp_path / "p.txt")


def test_a_network_whose_score_does_not_move_gets_no_page(made: dict[str, Any], tmp_path: Path) -> None:
    card = write_constant(tmp_path)
    with pytest.raises(FaithfaceError, match="does not change when regions are replaced"):
        why([made["crops"] / "p0_0.png"], str(card), masks=made["masks"], fills=2)


# --- the how-to page


def test_the_commands_of_the_how_to_page_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a tiny network at the size of the page's crops, and a fill or two instead of eight."""
    write_pairs(tmp_path / "faces", people=6)
    crops = tmp_path / "faces" / "crops"
    for path in crops.glob("*.png"):
        Image.open(path).resize((112, 112)).save(tmp_path / "faces" / path.name)
    masks = tmp_path / "masks"
    masks.mkdir()
    Image.fromarray(np.eye(112, dtype=np.uint8) * 255).save(masks / "diagonal.png")
    for task, name in (("verification", "my-net"), ("pad", "my-pad")):
        card = write_card(tmp_path, task, name=name)
        card.write_text(card.read_text().replace(f"size = [{SIZE}, {SIZE}]", "size = [112, 112]"))
        (onnx,) = tmp_path.glob(f"*-{task}-*.onnx")
        export(build("cnn", 16 if task == "verification" else 2, 112), (3, 112, 112), onnx)
    monkeypatch.chdir(tmp_path)
    page = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "why-this-face.md"
    commands = re.findall(r"^faithface (why .*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(commands) == 6
    for path in (tmp_path / "faces").glob("*.png"):
        home = tmp_path / "gallery" / path.stem.split("_")[0]
        home.mkdir(parents=True, exist_ok=True)
        (home / path.name).write_bytes(path.read_bytes())
    for command in commands:
        words = shlex.split(command)
        assert main([*words, "--fills", "2"]) == 0, capsys.readouterr().err
        assert Path(words[-1]).read_text(encoding="utf-8").startswith("<!doctype html>")


# --- real faces


@pytest.mark.slow
def test_on_real_faces_a_few_strangers_are_enough(real_data: Path) -> None:
    """Reliability of at least 0.8, and the mouth and eyes outweigh border and hair of a genuine pair."""
    pytest.importorskip("faithface_resnet29")
    faces = real_data / "faces"
    data = f"pairs:{faces / 'pairs.csv'}@{faces / '150'}"
    answer = why([faces / "150" / f"df_p01_{i}.png" for i in (1, 2)], "resnet29", dataset=data, fills=4)
    assert answer.decision == "accepted"
    values = answer.values[0]
    assert answer.passes == 4 * 2**10
    assert values.reliability >= 0.8
    assert values.residual < 1e-5
    by_name = dict(zip(answer.regions.names, values.mean, strict=True))
    assert min(by_name["eyes"], by_name["mouth"]) > max(by_name["hair"], by_name["border"])
