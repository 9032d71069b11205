"""Remarks on numbers that are there: constant maps are said in run tables, on boards and by ``faithface explain``."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from faithface.api import execute
from faithface.boards.board import Board, make_board
from faithface.boards.flags import flag_lines
from faithface.boards.render import markdown
from faithface.boards.terminal import board_text
from faithface.contract import Explainer, FaceModel, Maps, Method, Samples
from faithface.figures import said_of
from faithface.plugins import load_registry
from faithface.run.plan import make_plan
from faithface.run.request import Request
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
    assert found == {f"some-flat: constant map, {dark} of 8 samples", "ramp(slope=0.0): constant map, 8 of 8 samples"}


def test_run_tables_and_boards_print_it(made: tuple[Board, int]) -> None:
    board, dark = made
    text = board_text(board)
    assert f"! some-flat: constant map, {dark} of 8 samples" in text.splitlines()
    assert "! ramp(slope=0.0): constant map, 8 of 8 samples" in text.splitlines()
    assert "ramp: constant" not in text
    assert f"some-flat: constant map, {dark} of 8 samples" in markdown(board)


def test_explain_says_it_of_one_image() -> None:
    flat, other = torch.ones(1, 4, 4), torch.arange(16.0).reshape(1, 4, 4)
    assert said_of("x", Maps(relevance=flat)) == "x (constant map: relevance)"
    assert said_of("x", Maps(relevance=other)) == "x"
    pair = Maps(similarity=other[None], dissimilarity=torch.zeros(1, 1, 4, 4))
    assert said_of("x", pair) == "x (constant map: dissimilarity)"
