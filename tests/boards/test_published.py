"""What is checked inside the records of a board, among them and against its pages holds for all that are published."""

from __future__ import annotations

from pathlib import Path

import pytest

from faithface.boards.validate import validate_board

PUBLISHED = sorted(Path(__file__).parents[2].glob("leaderboards/*/v*"))


def test_there_are_boards() -> None:
    # The audit's folder has no version; a glob that finds nothing would leave nothing to test.
    assert {path.parent.name for path in PUBLISHED} >= {"demo", "models", "pad", "real", "synthetic", "verification"}


@pytest.mark.parametrize("board", PUBLISHED, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_nothing_is_wrong_in_a_published_board(board: Path) -> None:
    assert validate_board(board) == []
