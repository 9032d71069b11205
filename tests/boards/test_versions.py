"""Versions of a board: frozen ones stay as they are, and what moved between two is put down to what changed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from faithface.boards.changes import NOTHING, diff_boards
from faithface.boards.findings import Check
from faithface.boards.frozen import FROZEN, board_at, freeze, versions
from faithface.boards.publish import add_runs, rebuild
from faithface.boards.record import Kept, Record, read_records, write_records
from faithface.boards.validate import validate_board
from faithface.errors import UsageError
from tests.boards.made import made_board
from tests.boards.test_boards import tree

VALUES = {("a", "gap@1(grid=14)"): np.arange(20.0), ("b", "gap@1(grid=14)"): np.arange(20.0) + 1}
NEXT = {("a", "gap@1(grid=14)"): np.arange(20.0) + 9, ("b", "gap@1(grid=14)"): np.arange(20.0) + 1}
Change = Callable[[Record], Record]


def next_board(change: Change = lambda r: r, values=None) -> list[Kept]:  # type: ignore[no-untyped-def]
    made = made_board(values or NEXT, suite=("made", 2))
    return [Kept(change(one.record), one.values) for one in made]


# --- frozen


def test_a_frozen_board_is_what_it_was_and_a_build_that_changes_nothing_passes(board: Path) -> None:
    freeze(board)
    before = tree(board)
    rebuild(board)
    assert tree(board) == before
    assert validate_board(board) == []
    lines = (board / FROZEN).read_text().splitlines()
    assert {line.split("  ", 1)[1] for line in lines} == {name for name in before if name not in (FROZEN, "trust.csv")}


def test_a_build_that_would_change_a_frozen_board_is_refused_before_anything_is_written(
    finished: Path, board: Path
) -> None:
    record = next((board / "records").rglob("ramp.json"))
    record.unlink()
    record.with_suffix(".parquet").unlink()
    rebuild(board)
    freeze(board)
    before = tree(board)
    with pytest.raises(UsageError, match=r"v3 is frozen, and records/.*ramp.* would change; raise the version"):
        add_runs([finished], board.parents[1])
    assert tree(board) == before


def test_a_frozen_board_that_was_edited_is_caught_and_not_built(board: Path) -> None:
    freeze(board)
    page = board / "README.md"
    page.write_text(page.read_text() + "more\n")
    (found,) = validate_board(board)
    assert (found.path, found.check) == ("README.md", Check.FROZEN)
    for act in (rebuild, freeze):
        with pytest.raises(UsageError, match="is frozen"):
            act(board)


def test_a_frozen_board_drawn_by_an_older_program_is_still_whole(board: Path) -> None:
    page = board / "README.md"
    page.write_text(page.read_text().replace("Each cell", "Every cell"))
    freeze(board)
    assert validate_board(board) == []


def test_a_spoilt_list_of_what_was_frozen_is_one_line(board: Path) -> None:
    (board / FROZEN).write_text("nonsense\n")
    with pytest.raises(UsageError, match="is no line of a frozen board"):
        validate_board(board)


def test_only_a_board_can_be_frozen(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no board that was built"):
        freeze(tmp_path)


def test_latest_is_the_highest_version_by_number(board: Path) -> None:
    suite = board.parent
    shutil.copytree(board, suite / "v10")
    assert [number for number, _path in versions(suite)] == [3, 10]
    assert board_at(suite / "latest") == board_at(suite) == suite / "v10"
    assert board_at(board) == board
    with pytest.raises(UsageError, match="holds no version"):
        board_at(board / "latest")


# --- what moved


def changed(**parts: object) -> Change:
    def change(record: Record) -> Record:
        return record.model_copy(update={k: getattr(record, k).model_copy(update=v) for k, v in parts.items()})  # type: ignore[arg-type]

    return change


def test_what_moved_is_named_with_what_it_was_and_is() -> None:
    found = diff_boards(made_board(VALUES), next_board(changed(model={"sha256": "1" * 64})))
    (one,) = found.moved
    assert (one.explainer, one.protocol, one.before, one.after) == ("a", "gap@1(grid=14)", 9.5, 18.5)
    assert (one.rank_before, one.rank_after) == ("2", "1")
    assert one.causes == ("model: another file of net",)
    assert found.same == 1
    text = found.text()
    assert "gap@1(grid=14) 9.500 → 18.50, rank 2 → 1 (model)" in text
    assert "1 number moved by model: another file of net" in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (changed(dataset={"revision": "2"}), "dataset: revision of made-faces"),
        (changed(dataset={"samples_sha256": "x", "seed": 4}), "dataset: samples, seed of made-faces"),
        (changed(explainer={"version": "2"}), "plugin: a version 1 → 2"),
        (changed(explainer={"note": {"layer": "/x"}}), "plugin: what a chose (layer – → /x)"),
        (changed(where={"device": "cuda"}), "surroundings: cpu x86_64 → cuda x86_64"),
        (changed(where={"versions": {"faithface": "0.2.0"}}), "surroundings: faithface 0.1.0 → 0.2.0"),
        (lambda record: record, NOTHING),
    ],
)
def test_the_cause_is_what_the_records_say_differently(change: Change, cause: str) -> None:
    (one,) = diff_boards(made_board(VALUES), next_board(change)).moved
    assert one.causes == (cause,)


def test_a_new_version_of_a_protocol_is_compared_with_the_old_one_and_is_the_cause() -> None:
    values = {(name, "gap@2(grid=14)"): v for (name, _p), v in NEXT.items()}
    found = diff_boards(made_board(VALUES), next_board(values=values))
    assert found.moved[0].causes == ("protocol: gap@1(grid=14) → gap@2(grid=14)",)
    assert found.added == ("protocol gap@2(grid=14)",)
    assert found.removed == ("protocol gap@1(grid=14)",)


def test_several_causes_are_all_named_and_counted_together() -> None:
    found = diff_boards(made_board(VALUES), next_board(changed(model={"sha256": "1"}, dataset={"revision": "2"})))
    assert found.counts() == {"model and dataset": 1}
    assert len(found.moved[0].causes) == 2


def test_what_only_one_board_has_is_added_or_removed() -> None:
    found = diff_boards(made_board(VALUES), next_board(values={**VALUES, ("c", "gap@1(grid=14)"): np.arange(20.0)}))
    assert (found.added, found.removed, found.moved) == (("explainer c",), (), ())


# --- the suite's page


def test_the_suites_page_names_the_latest_version_and_what_changed(tmp_path: Path) -> None:
    suite = tmp_path / "made"
    for number, kept in ((1, made_board(VALUES)), (2, next_board(changed(explainer={"version": "2"})))):
        write_records(kept, suite / f"v{number}" / "records")
        rebuild(suite / f"v{number}")
    freeze(suite / "v1")
    (suite / "NOTES.md").write_text("# Notes\n\n## v2\n\nBetter gradients.\n")
    rebuild(suite / "v2")
    page = (suite / "README.md").read_text()
    assert "Latest: [v2](v2/README.md)." in page
    assert "| [v1](v1/README.md) | 2 | frozen: sha256 of `FROZEN` is" in page
    assert "| [v2](v2/README.md) | 2 | open: records may still be added |" in page
    second, first = page.split("## v2")[1].split("## v1")
    assert "Better gradients." in second
    assert "* 1 number moved by plugin: a version 1 → 2" in second
    assert "First version." in first
    assert read_records(suite / "v2" / "records")[0].record.suite.version == 2
