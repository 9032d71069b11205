"""Usual preprocessings are tried on labelled images: the right one wins, and the areas are those of the definition."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from faithface.card import InputCard, ModelCard
from faithface.contract import Dataset, Face, Sample
from faithface.errors import UsageError
from faithface.preprocessing import Fit, balanced_error, candidates, fits_text, try_preprocessings
from faithface.tasks import auc
from tests.support.graphs import Graph, card_for


def redness(tmp_path: Path) -> ModelCard:
    """A classifier that is right on BGR pixels at ±1 only: a narrow window on red, high where it is near 0.6."""
    g = Graph()
    pooled = g.op("Flatten", g.op("GlobalAveragePool", g.x))
    red = g.op("Gather", pooled, g.const([2], np.int64), axis=1)
    score = g.op("Sub", g.const(0.3), g.op("Abs", g.op("Sub", red, g.const(0.2))))
    card = card_for(g.model(g.op("Concat", g.op("Neg", score), score, axis=1), units=2), tmp_path, kind="logits")
    return card.model_copy(update={"input": InputCard(size=(16, 16), color="BGR", mean=(0.5,), std=(0.5,))})


@dataclass(frozen=True)
class Reds(Dataset):
    """Attacks are of one red, bona fide images of darker and brighter ones; green and blue say nothing."""

    name: str = "reds"
    task: str = "pad"
    labels: tuple[str, str] = ("bona-fide", "attack")

    def items(self) -> list[Sample]:
        made = []
        for i in range(24):
            rng = np.random.default_rng(i)
            red = 0.6 if i % 2 else (0.15, 0.53, 0.95)[i // 2 % 3]
            colour = np.array([red, rng.random(), rng.random()], dtype=np.float32)
            pixels = np.clip(colour + 0.02 * rng.standard_normal((16, 16, 3)), 0, 1).astype(np.float32)
            made.append(Sample(f"s{i}", Face(f"f{i}", lambda pixels=pixels: pixels), self.labels[i % 2]))
        return made


def test_the_right_preprocessing_wins_and_the_text_says_by_how_much(tmp_path: Path) -> None:
    right = redness(tmp_path)
    fits = try_preprocessings(right, Reds())
    assert fits[0].name == "the card's"
    assert fits[0].auc == 1.0
    assert fits[0].error == 0.0
    wrong = right.model_copy(update={"input": InputCard(size=(16, 16), color="RGB", mean=(0.0,), std=(1.0,))})
    fits = try_preprocessings(wrong, Reds())
    assert fits[0].name == "BGR -1..1"
    own = next(fit for fit in fits if fit.name == "the card's")
    text = fits_text(fits, "reds")
    assert f"BGR -1..1 fits better than the card's by {1 - own.auc:.3f} of AUC" in text
    for line in ('color = "BGR"', "mean = [0.5", "std = [0.5"):
        assert line in text
    assert max(map(len, text.splitlines())) <= 80


def test_preprocessings_that_the_images_do_not_tell_apart_are_named(tmp_path: Path) -> None:
    own = Fit("the card's", InputCard(size=(16, 16)), 1.0, 0.0, 3.0)
    others = [replace(own, name=f"another, number {i}", auc=0.985) for i in range(6)]
    text = fits_text([own, *others, replace(own, name="far", auc=0.9)], "reds")
    told = text[text.index("no other fits") :].replace("\n", " ")
    assert "far" not in told
    assert all(one.name in told for one in others)
    assert told.endswith("these images do not tell them apart: take more, or ask who trained the network")
    assert max(map(len, text.splitlines())) <= 80


def test_classes_that_are_turned_round_are_named(tmp_path: Path) -> None:
    card = redness(tmp_path)
    turned = card.output.model_copy(update={"classes": ("attack", "bona-fide")})
    text = fits_text(try_preprocessings(card.model_copy(update={"output": turned}), Reds()), "reds")
    assert "its classes are probably swapped" in text


def test_labels_that_are_not_the_cards_are_named(tmp_path: Path) -> None:
    """With lines that, put into the card, answer the question."""
    card = redness(tmp_path)
    with pytest.raises(UsageError, match=r"its labels are live, spoof; .*'bona-fide', 'attack'") as refused:
        try_preprocessings(card, Reds(labels=("live", "spoof")))
    lines = re.search(r'classes = (\[.*?\]), positive = "(\w+)"', str(refused.value))
    assert lines is not None
    named = {"classes": tuple(json.loads(lines[1])), "positive": lines[2]}
    assert lines[2] == "spoof"
    output = card.output.model_copy(update=named)
    fits = try_preprocessings(card.model_copy(update={"output": output}), Reds(labels=("live", "spoof")))
    assert [fit.auc for fit in fits] == [fit.auc for fit in try_preprocessings(card, Reds())]


def test_the_cards_own_preprocessing_is_not_tried_twice(tmp_path: Path) -> None:
    names = [name for name, _ in candidates(redness(tmp_path))]
    assert names[0] == "the card's"
    assert "BGR -1..1" not in names
    assert len(names) == len(set(names)) == 10


def test_auc_and_error_are_those_of_their_definitions() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        scores, positive = rng.integers(0, 6, 15).astype(float), rng.random(15) < 0.4
        if positive.all() or not positive.any():
            continue
        high, low = scores[positive], scores[~positive]
        wins = [(p > n) + (p == n) / 2 for p in high for n in low]
        assert auc(scores, positive) == pytest.approx(np.mean(wins))
        rates = [((high < t).mean() + (low >= t).mean()) / 2 for t in [*scores, np.inf]]
        assert balanced_error(scores, positive) == pytest.approx(min(rates))


def test_every_candidate_runs_the_same_file(tmp_path: Path) -> None:
    card = redness(tmp_path)
    assert {made.size for _, made in candidates(card)} == {(16, 16)}
    assert torch.tensor([made.std[0] for _, made in candidates(card)]).min() == pytest.approx(1 / 255)
