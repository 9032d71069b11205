"""Remarks on numbers that are there: constant maps are said in run tables, on boards and by ``faithface explain``."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from faithface.api import execute
from faithface.boards.board import Board, make_board
from faithface.boards.clean import clean_auc
from faithface.boards.flags import flag_lines, implausible
from faithface.boards.record import Kept
from faithface.boards.render import clean_text, markdown
from faithface.boards.terminal import board_text
from faithface.cli.preview import unmatched
from faithface.contract import Explainer, FaceModel, Maps, Method, Samples
from faithface.figures import said_of
from faithface.plugins import load_registry
from faithface.run.plan import make_plan
from faithface.run.request import Request
from tests.support.boards import records
from tests.support.runs import Ramp, write_card, write_folder


@dataclass(frozen=True)
class SomeFlat(Explainer):
    """A constant map for dark images, the image itself for others."""

    method = Method(name="some-flat")

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        grey = samples.images.mean(dim=1)
        dark = grey.mean(dim=(1, 2), keepdim=True) < 0.5
        return Maps(relevance=torch.where(dark, torch.ones_like(grey), grey))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Board, int]:
    """A board of eight images, and how many of them are dark."""
    root = tmp_path_factory.mktemp("flags")
    card, folder = write_card(root), f"folder:{write_folder(root)}"
    metrics = ("deletion@1(grid=4,points=5)", "insertion@1(grid=4,points=5)", "entropy@1")
    registry = load_registry()
    plan = make_plan(Request((str(card),), (folder,), (SomeFlat(), Ramp(), Ramp(0.0)), metrics, limit=8), registry)
    _outcome, kept = execute(plan, root / "r")
    (group,) = plan.groups
    items = group.dataset.object.items()
    dark = sum(items[p].face.read().mean() < 0.5 for p in group.positions)  # type: ignore[union-attr]
    assert 0 < dark < 8
    return make_board(kept), dark


def test_a_remark_says_for_how_many_samples_and_once_for_all_protocols(made: tuple[Board, int]) -> None:
    board, dark = made
    (table,) = board.tables
    found = {line for line in flag_lines(table) if "constant map" in line}
    # Both curves make the remark; the first protocol is named.
    where = "in deletion@1(grid=4,points=5)"
    assert found == {
        f"some-flat: constant map, {dark} of 8 samples, {where}",
        f"ramp(slope=0.0): constant map, 8 of 8 samples, {where}",
    }


def test_run_tables_and_boards_print_it(made: tuple[Board, int]) -> None:
    board, dark = made
    text = board_text(board)
    said = " ".join(text.split())
    assert f"! some-flat: constant map, {dark} of 8 samples, in deletion@1(grid=4,points=5)" in said
    assert "! ramp(slope=0.0): constant map, 8 of 8 samples, in deletion@1(grid=4,points=5)" in said
    assert "ramp: constant" not in text
    assert f"some-flat: constant map, {dark} of 8 samples" in markdown(board)


def test_explain_says_it_of_one_image() -> None:
    flat, other = torch.ones(1, 4, 4), torch.arange(16.0).reshape(1, 4, 4)
    assert said_of("x", Maps(relevance=flat)) == "x (constant map: relevance)"
    assert said_of("x", Maps(relevance=other)) == "x"
    pair = Maps(similarity=other[None], dissimilarity=torch.zeros(1, 1, 4, 4))
    assert said_of("x", pair) == "x (constant map: dissimilarity)"


# --- a model that hardly knows the data


def with_accuracy(
    board: Board, accuracy: float | None, n: int = 40, area: float | None = None, **model: object
) -> Board:
    """Return a board whose records have another accuracy."""
    (table,) = board.tables
    rows = []
    for row in table.rows:
        changes = {"clean_accuracy": accuracy, "clean_n": n, **model}
        record = row.record.model_copy(update={"model": row.record.model.model_copy(update=changes)})
        rows.append(dataclasses.replace(row, record=record, clean_auc=area))
    return dataclasses.replace(board, tables=(dataclasses.replace(table, rows=tuple(rows)),))


@pytest.mark.parametrize(
    ("accuracy", "n", "warned"),
    [(0.417, 40, True), (0.59, 40, True), (0.61, 40, False), (0.417, 9, False), (None, 40, False)],
)
def test_a_model_hardly_better_than_chance_is_named_in_the_first_line(
    made: tuple[Board, int], accuracy: float | None, n: int, warned: bool
) -> None:
    board = with_accuracy(made[0], accuracy, n)
    assert bool(implausible(board.tables[0])) is warned
    first = board_text(board).splitlines()[0]
    assert first.startswith("! tiny-pad-0: clean accuracy ") is warned
    assert ("hardly better than chance (50%)" in markdown(board)) is warned


@pytest.mark.parametrize(
    ("accuracy", "area", "text"),
    [
        (0.417, 0.38, "clean accuracy 41.7%, AUC 0.380: hardly better than chance (50%)"),
        (0.417, None, "clean accuracy 41.7%: hardly better than chance (50%)"),
        (0.417, 0.93, "clean accuracy 41.7%, AUC 0.930: hardly better than chance (50%)"),  # a wrong threshold
        (0.9, 0.52, "clean accuracy 90.0%, AUC 0.520: the AUC is that of chance (50%)"),  # nine attacks in ten
        (0.9, 0.61, ""),
        (0.9, None, ""),
    ],
)
def test_the_auc_stands_beside_the_accuracy_and_warns_where_one_class_prevails(
    made: tuple[Board, int], accuracy: float, area: float | None, text: str
) -> None:
    lines = implausible(with_accuracy(made[0], accuracy, area=area).tables[0])
    assert len(lines) == bool(text)
    assert all(line.startswith(f"tiny-pad-0: {text}, so these numbers say little") for line in lines)
    assert all(("which may be turned round" in line) is (area is not None and area <= 0.4) for line in lines)


def kept_of(task: str, classes: tuple[str, ...], labels: list[str], scores: np.ndarray, correct: list[bool]) -> Kept:
    """A record of a model with these clean scores, of which each sample stands twice, for two protocols."""
    (kept, *_) = records(metrics=2, n=len(labels), tasks=(task,))
    model = kept.record.model.model_copy(update={"card": {"output": {"classes": list(classes)}}})
    facts = pl.DataFrame({"sample": sorted(set(kept.values["sample"])), "label": labels, "score": scores})
    facts = facts.with_columns(correct=pl.Series(correct, dtype=pl.Boolean))
    values = kept.values.drop("label", "score", "correct").join(facts, on="sample")
    return Kept(kept.record.model_copy(update={"model": model}), values.select(kept.values.columns))


def test_the_area_is_the_share_of_pairs_in_the_right_order() -> None:
    """Against a count over all pairs of samples, for pairs of faces and for both orders of two classes."""
    rng = np.random.default_rng(3)
    sides, similarity = rng.random(30) < 0.4, rng.random(30).round(1)

    def share(scores: np.ndarray) -> float:
        return float(np.mean([(a > b) + 0.5 * (a == b) for a in scores[sides] for b in scores[~sides]]))

    kinds = ["genuine" if side else "impostor" for side in sides]
    pairs = kept_of("verification", (), kinds, similarity, [True] * 30)
    assert clean_auc(pairs) == pytest.approx(share(similarity))
    attack = rng.random(30)  # the probability of an attack, of which a record keeps that of the predicted class
    correct = list((attack > 0.5) == sides)
    for classes in (("bona-fide", "attack"), ("attack", "bona-fide")):
        for names in (("bona-fide", "attack"), ("live", "spoof"), ("z", "a")):
            labels = [names[int(side)] for side in sides]
            found = kept_of("pad", classes, labels, np.maximum(attack, 1 - attack), correct)
            assert clean_auc(found) == pytest.approx(share(attack))
    assert clean_auc(kept_of("pad", ("a", "b", "c"), labels, np.maximum(attack, 1 - attack), correct)) is None
    few = ["genuine" if i < 4 else "impostor" for i in range(30)]
    assert clean_auc(kept_of("verification", (), few, similarity, [True] * 30)) is None
    unknown = np.where(np.arange(30) < 3, np.nan, similarity)
    kept = kept_of("verification", (), kinds, unknown, [True] * 30)
    sides, left = sides[3:], similarity[3:]
    assert clean_auc(kept) == pytest.approx(share(left))


def test_an_area_of_chance_is_told_of_a_run() -> None:
    """The warning of a made record on a board, from the values alone."""
    labels = ["attack" if i < 18 else "bona-fide" for i in range(24)]
    scores = 0.6 + 0.01 * (np.arange(24) % 6)  # it calls everything an attack, and as surely on either side
    kept = kept_of("pad", ("bona-fide", "attack"), labels, scores, [label == "attack" for label in labels])
    update = {"clean_accuracy": 0.75, "clean_n": 24}
    record = kept.record.model_copy(update={"model": kept.record.model.model_copy(update=update)})
    (line,) = implausible(make_board([dataclasses.replace(kept, record=record)]).tables[0])
    assert "clean accuracy 75.0%, AUC 0.500: the AUC is that of chance" in line


def test_with_more_classes_chance_is_less(made: tuple[Board, int]) -> None:
    card = made[0].tables[0].first.model.card
    card = {**card, "output": {**card["output"], "classes": ["a", "b", "c", "d"]}}
    assert implausible(with_accuracy(made[0], 0.34, card=card).tables[0])
    assert not implausible(with_accuracy(made[0], 0.36, card=card).tables[0])


def test_classes_that_the_card_does_not_name_are_named(tmp_path: Path) -> None:
    """A folder of live and spoof images, and a card with bona-fide and attack and no positive class in the data."""
    card, folder = write_card(tmp_path), write_folder(tmp_path)
    (folder / "bona-fide").rename(folder / "up")
    (folder / "attack").rename(folder / "down")
    plan = make_plan(Request((str(card),), (f"folder:{folder}",), (Ramp(),), ("entropy@1",), limit=4), load_registry())
    (line,) = unmatched(plan)
    assert "classes down, up of the data are not those of the card (bona-fide, attack)" in line
    _outcome, (kept,) = execute(plan, tmp_path / "r")
    assert clean_text(kept.record) == "clean accuracy unknown (down, up: no classes of the card)"
