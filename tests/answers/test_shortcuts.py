"""``faithface shortcuts``: values on hand-made networks whose shortcut is known, the page, and what is refused."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from faithface.answers.players import Places, Things, players_of
from faithface.answers.scoring import choose_items, log_odds, score_players
from faithface.answers.shortcuts import find_shortcuts, share_intervals, summarise
from faithface.answers.shortcuts_page import render_shortcuts
from faithface.card import load_card
from faithface.cli import main
from faithface.contract import Dataset, Face, Sample
from faithface.errors import RunError, UsageError
from faithface.loading import clean_threshold, dataset_scores
from faithface.model import open_model
from faithface.plugins import load_registry
from faithface.regions.partition import PLACES, regions_of_places
from tests.support.networks import export
from tests.support.runs import write_card, write_constant, write_folder, write_pairs

SIDE = 32
NAMES = ("cue", "tag", "glasses")
SPOTS = {
    "cue": (slice(20, 24), slice(14, 18)),
    "tag": (slice(0, 3), slice(0, 3)),
    "glasses": (slice(8, 10), slice(8, 24)),
}


class Spots(nn.Module):
    """Logits from the mean brightness of known spots: every part's contribution is known."""

    def __init__(self, weights: dict[str, float]) -> None:
        super().__init__()
        mask = torch.zeros(3, SIDE, SIDE)
        for name, weight in weights.items():
            rows, columns = SPOTS[name]
            mask[:, rows, columns] = weight / mask[:, rows, columns].numel()
        self.register_buffer("mask", mask)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        odds = (x * self.mask).sum(dim=(1, 2, 3)) - 0.25
        return torch.stack([torch.zeros_like(odds), 10 * odds], dim=1)


def card_of(folder: Path, weights: dict[str, float]) -> Path:
    card = write_card(folder, "pad", name="spots")
    (onnx,) = folder.glob("*.onnx")
    export(Spots(weights), (3, SIDE, SIDE), onnx)
    card.write_text(card.read_text().replace("mean = [0.5]", "mean = [0.0]").replace("std = [0.5]", "std = [1.0]"))
    return card


class Spotted(Dataset):
    """Grey images in which three spots are bright or dark, with all changes where ``things`` is set."""

    name = "spotted"
    task = "pad"
    classes = ("bona-fide", "attack")
    positive = "attack"

    def __init__(self, n: int = 24, things: bool = True, aligned: bool = True) -> None:
        self.n, self.things, self.aligned = n, things, aligned

    def items(self) -> list[Sample]:
        present = np.random.default_rng(5).random((self.n, 3)) < 0.5
        made = []
        for i, row in enumerate(present):
            others = {}
            for size in (1, 2, 3):
                for changed in itertools.combinations(range(3), size):
                    bits = row.copy()
                    bits[list(changed)] ^= True
                    role = "changed: " + " + ".join(NAMES[t] for t in changed)
                    others[role] = self.face(f"{i}-{changed}", bits, i)
            made.append(
                Sample(
                    f"s{i:02d}", self.face(str(i), row, i), self.classes[int(row[0])], {}, others if self.things else {}
                )
            )
        return made

    def face(self, name: str, bits: np.ndarray, person: int) -> Face:
        def read() -> np.ndarray:
            image = np.full((SIDE, SIDE, 3), 0.4, np.float32)
            for name_, bit in zip(NAMES, bits, strict=True):
                image[SPOTS[name_]] = 0.9 if bit else 0.1
            return image

        return Face(name, read, f"person {person}")


@pytest.mark.parametrize(
    ("weights", "found"),
    [
        ({"cue": 1.0, "tag": 0.0, "glasses": 0.0}, ()),
        ({"cue": 0.5, "tag": 0.5, "glasses": 0.0}, ("tag",)),
        ({"cue": 0.2, "tag": 0.5, "glasses": 0.3}, ("tag", "glasses")),
    ],
)
def test_shares_are_the_weights_of_an_additive_network(
    tmp_path: Path, weights: dict[str, float], found: tuple[str, ...]
) -> None:
    """Each spot moves the log-odds by 10 · 0.8 · weight, so that the shares are the weights themselves."""
    data = Spotted()
    items = data.items()
    players = players_of(data, items, (SIDE, SIDE), None)
    assert isinstance(players, Things)
    assert players.names == NAMES
    model = open_model(load_card(card_of(tmp_path, weights)))
    scores = score_players(model, data, items, players, 1, 0)
    assert scores.shape == (24, 1, 8)
    parts, values = summarise(scores, players, [item.face.identity or "" for item in items])
    for part in parts:
        assert part.share == pytest.approx(weights[part.name], abs=1e-5)
        assert part.low == pytest.approx(part.share, abs=1e-5)  # every image says the same
    assert {part.name for part in parts if part.verdict == "shortcut"} == set(found)
    assert parts[0].verdict == "evidence"
    present = np.random.default_rng(5).random((24, 3)) < 0.5
    signs = np.where(present, 1, -1)
    assert values == pytest.approx(signs * [8 * weights[name] / 2 * 2 for name in NAMES], abs=1e-4)
    # The decision turns where the single change takes the log-odds over zero; recomputed from the definition.
    for t, part in enumerate(parts):
        changed = present.copy()
        changed[:, t] ^= True
        odds = [(np.where(bits, 0.9, 0.1) @ [weights[name] for name in NAMES]) - 0.25 for bits in (present, changed)]
        assert part.turned == pytest.approx(((odds[0] >= 0) != (odds[1] >= 0)).mean())


def test_places_find_a_tag_in_the_corner_and_not_a_spot_in_the_face(tmp_path: Path) -> None:
    data = Spotted(n=16, things=False)
    items = data.items()
    for weights, place in (({"tag": 1.0}, "corners"), ({"cue": 1.0}, "face")):
        folder = tmp_path / place
        folder.mkdir()
        model = open_model(load_card(card_of(folder, weights)))
        players = players_of(data, items, (SIDE, SIDE), "arcface")
        assert isinstance(players, Places)
        scores = score_players(model, data, items, players, 2, 0)
        assert scores.shape == (16, 2, 2**5)
        parts, _ = summarise(scores, players, [item.id for item in items])
        shares = {part.name: part.share for part in parts}
        assert shares[place] == pytest.approx(1, abs=1e-5)
        assert {part.name for part in parts if part.verdict == "shortcut"} == (
            {"corners"} if place == "corners" else set()
        )


def test_places_are_where_their_names_say() -> None:
    regions = regions_of_places((112, 112))
    assert regions.names == PLACES
    named = np.array(regions.names)[regions.labels]
    assert {named[0, 0], named[0, 111], named[111, 0], named[111, 111]} == {"corners"}
    assert named[0, 56] == named[56, 0] == named[111, 40] == "border"
    assert named[52, 38] == named[52, 74] == "eyes"
    assert named[72, 56] == named[92, 56] == "face"
    assert named[95, 18] == named[95, 93] == "background"
    assert (regions.labels == PLACES.index("corners")).sum() == 4 * 14 * 14


def test_the_interval_of_a_share_counts_people_and_not_images() -> None:
    """Ten images of one person say no more than one: the interval over people stays as wide."""
    rng = np.random.default_rng(0)
    size = rng.random((12, 2))
    people = [f"p{i}" for i in range(12)]
    share, low, high = share_intervals(size, people)
    again, low_again, high_again = share_intervals(np.repeat(size, 10, axis=0), list(np.repeat(people, 10)))
    assert share == pytest.approx(again)
    assert low == pytest.approx(low_again)
    assert high == pytest.approx(high_again)
    _, low_apart, high_apart = share_intervals(np.repeat(size, 10, axis=0), [str(i) for i in range(120)])
    assert (high_apart - low_apart < 0.5 * (high - low)).all()


@pytest.mark.parametrize(
    ("kind", "classes"), [("logits", 2), ("logits", 3), ("probabilities", 2), ("logit", 2), ("probability", 2)]
)
def test_log_odds_are_those_of_the_positive_class(tmp_path: Path, kind: str, classes: int) -> None:
    names = ["bona-fide", "attack", "other"][:classes]
    card = load_card(write_card(tmp_path, "pad"))
    output = card.output.model_copy(update={"kind": kind, "classes": tuple(names), "positive": "attack"})
    card = card.model_copy(update={"output": output})
    outputs = torch.randn(5, classes if kind in ("logits", "probabilities") else 1, dtype=torch.float64)
    if kind == "probabilities":
        p = outputs.softmax(dim=1)
        outputs = p
    elif kind == "probability":
        outputs = outputs.sigmoid()
    probability = {
        "logits": lambda: outputs.softmax(dim=1)[:, 1],
        "probabilities": lambda: outputs[:, 1],
        "logit": lambda: outputs.sigmoid()[:, 0],
        "probability": lambda: outputs[:, 0],
    }[kind]()
    assert log_odds(card, outputs, [1]).numpy() == pytest.approx(
        torch.log(probability / (1 - probability)).numpy(), abs=1e-6
    )


def test_pairs_are_scored_by_their_distance_to_the_threshold(tmp_path: Path) -> None:
    """Subset 0 is the pair as it is; the last subset is a stranger against the reference."""
    registry = load_registry()
    card = registry.model(str(write_card(tmp_path, "verification"))).object
    data = registry.dataset(write_pairs(tmp_path, people=5)).object
    model = open_model(card)
    items = choose_items(data, card, 4, 0)
    assert sorted(item.same for item in items) == [False, False, True, True]
    players = players_of(data, items, card.input.size, "arcface")
    scores = score_players(model, data, items, players, 2, 0)
    similarity, _ = dataset_scores(model, data)
    at = [[other.id for other in data.items()].index(item.id) for item in items]
    expected = similarity[at] - clean_threshold(model, data)
    assert scores[:, 0, 0] == pytest.approx(expected, abs=1e-5)
    parts, values = summarise(scores, players, [str(item.a.identity) for item in items])
    lost = scores[..., 0].mean(axis=1) - scores[..., -1].mean(axis=1)
    assert values.sum(axis=1) == pytest.approx(lost, abs=1e-5)
    assert sum(part.share for part in parts) == pytest.approx(1)


# --- what is refused


def test_what_cannot_be_asked_is_refused(tmp_path: Path) -> None:
    data = Spotted()
    items = data.items()
    with pytest.raises(UsageError, match="not aligned"):
        players_of(Spotted(things=False, aligned=False), Spotted(things=False).items(), (SIDE, SIDE), None)
    del items[3].others["changed: tag"]  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match='sample "s03" has no image "changed: tag"'):
        players_of(data, items, (SIDE, SIDE), None)
    model = open_model(load_card(card_of(tmp_path, {"cue": 0.0})))
    fresh = data.items()
    players = players_of(data, fresh, (SIDE, SIDE), None)
    with pytest.raises(RunError, match="does not move whatever is replaced"):
        score_players(model, data, fresh, players, 1, 0)


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("pad", "the score does not move whatever is replaced"),
        # Whoever is shown, it takes him for the same person, so nobody is a stranger.
        ("verification", "more are not used, because the network takes them for one of the two"),
    ],
)
def test_a_network_of_one_output_gets_no_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], task: str, said: str
) -> None:
    card = write_constant(tmp_path, task)
    data = f"folder:{write_folder(tmp_path / 'pad')}" if task == "pad" else write_pairs(tmp_path, people=6)
    arguments = ["--crop", "arcface", "--limit", "4", "--fills", "1", "--compare", "0", "-o", str(tmp_path / "p.html")]
    assert main(["shortcuts", str(card), "--dataset", data, *arguments]) in (1, 2)
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1
    assert said in error
    assert not (tmp_path / "p.html").exists()


def test_a_set_of_one_class_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card, folder = write_card(tmp_path, "pad"), write_folder(tmp_path / "pad")
    for path in (folder / "attack").glob("*.png"):
        path.unlink()
    assert main(["shortcuts", str(card), "--dataset", f"folder:{folder}", "--crop", "arcface"]) == 2
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1
    assert "one class only" in error


# --- the command and its page


def test_the_command_says_what_the_page_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card, folder = write_card(tmp_path, "pad"), write_folder(tmp_path / "pad")
    asked: dict[str, Any] = {"limit": 6, "fills": 1, "compare": 0, "crop": "arcface", "registry": load_registry()}
    found = find_shortcuts(str(card), f"folder:{folder}", **asked)
    page = render_shortcuts(found)
    assert "<script" not in page
    assert 'src="data:image/png' in page
    assert all(line in page.replace("&#39;", "'") for line in found.cautions)
    assert any("6 samples are few" in line for line in found.cautions)
    for part in found.parts:
        assert f"<b>{part.share:.0%}</b>" in page
    out = tmp_path / "page.html"
    arguments = ["--dataset", f"folder:{folder}", "--crop", "arcface", "--limit", "6", "--fills", "1", "--compare", "0"]
    assert main(["shortcuts", str(card), *arguments, "-o", str(out)]) == 0
    said = capsys.readouterr().out
    assert said.strip() == found.text().strip()
    assert max(len(line) for line in said.splitlines()[2:]) <= 80
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")
