"""Submitting a run and checking boards, through the command line as a submitter and a maintainer use it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from faithface.boards.check import Step, boards_below, check_boards
from faithface.boards.frozen import freeze
from faithface.boards.publish import rebuild
from faithface.boards.record import Kept, write_records
from faithface.boards.submit import NotFit, submit_run
from faithface.boards.verify import Outcome, Verified
from faithface.cli.main import main
from faithface.errors import UsageError
from tests.boards.made import made_board
from tests.boards.test_boards import record_of
from tests.boards.test_validate import ramp, rewrite

VALUES = {("a", "gap@1"): np.arange(20.0), ("b", "gap@1"): np.arange(20.0) + 1}


def command(*words: object) -> int:
    return main(["leaderboard", *map(str, words)])


def write_board(folder: Path, kept: list[Kept]) -> Path:
    write_records(kept, folder / "records")
    rebuild(folder)
    return folder


# --- submit


def test_submit_builds_the_board_and_prints_how_to_send_it(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("submit", finished, "-o", tmp_path / "leaderboards") == 0
    board = tmp_path / "leaderboards" / "tiny" / "v3"
    assert (board / "README.md").is_file()
    said = capsys.readouterr().out
    assert f"git add {board} {board.parent / 'README.md'}" in said
    assert "git commit -m 'Board tiny v3: fails, ramp(slope=2.0), ramp'" in said
    assert "Title: Board tiny v3: fails, ramp" in said
    assert "8 records (6 with numbers), faithface" in said
    assert "- [ ] I ran this myself" in said
    assert check_boards([board])[0].passed


def test_a_run_whose_records_do_not_hold_is_not_submitted(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "records", tmp_path / "run" / "records")
    path = record_of(tmp_path / "run", "tiny-pad-0", "ramp")
    rewrite(path, lambda v: v.with_columns(value=v["value"] * 0.9))
    with pytest.raises(NotFit, match=r"run cannot be submitted: .*ramp\.json: mean: mean-relevance@1") as error:
        submit_run(tmp_path / "run", tmp_path / "boards")
    assert len(error.value.findings) >= 2
    assert not (tmp_path / "boards").exists()


def test_a_run_of_no_suite_has_no_board(tmp_path: Path) -> None:
    write_records(made_board(VALUES, suite=("adhoc", 0)), tmp_path / "run" / "records")
    with pytest.raises(UsageError, match="belongs to no suite"):
        submit_run(tmp_path / "run", tmp_path / "boards")


# --- check


def test_check_passes_on_what_was_built_and_writes_results(
    board: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results.json"
    assert command("check", board.parents[1], "--sample", 0, "--output", out) == 0
    said = json.loads(out.read_text())
    assert said["passed"] is True
    assert [(one["step"], one["passed"]) for one in said["results"]] == [("validate", True), ("page", True)]
    assert "ok   " in capsys.readouterr().out


@pytest.mark.parametrize("spoil", ["record", "page", "suite page"])
def test_check_fails_on_what_was_altered(board: Path, tmp_path: Path, spoil: str) -> None:
    path = {"record": ramp(board), "page": board / "README.md", "suite page": board.parent / "README.md"}[spoil]
    path.write_text(path.read_text() + "\n")
    out = tmp_path / "results.json"
    assert command("check", board, "--sample", 0, "--output", out) == 1
    said = json.loads(out.read_text())
    assert said["passed"] is False
    (failed,) = [one for one in said["results"] if not one["passed"]]
    assert failed["step"] == ("page" if spoil == "suite page" else "validate")


def test_check_says_what_changed_since_the_version_before(tmp_path: Path) -> None:
    suite = tmp_path / "made"
    write_board(suite / "v1", made_board(VALUES))
    moved = {**VALUES, ("a", "gap@1"): np.arange(20.0) + 2}
    write_board(suite / "v2", made_board(moved, suite=("made", 2), sha256="1" * 64))
    (diff,) = [one for one in check_boards([tmp_path]) if one.step is Step.DIFF]
    assert diff.board.endswith("v2")
    assert "1 number moved by model: another file of net" in diff.lines
    assert any("v1 is not frozen" in line for line in diff.lines)
    freeze(suite / "v1")
    rebuild(suite / "v2")
    (diff,) = [one for one in check_boards([suite]) if one.step is Step.DIFF]
    assert not any("is not frozen" in line for line in diff.lines)
    assert all(one.passed for one in check_boards([suite]))


def test_check_fails_on_what_differs_and_in_strict_mode_on_what_cannot_be_run(board: Path) -> None:
    def came(outcome: Outcome, reason: str = "so"):  # type: ignore[no-untyped-def]
        return lambda kept: [Verified(one.record, outcome, reason) for one in kept]

    def passed(verify, strict: bool) -> bool:  # type: ignore[no-untyped-def]
        return check_boards([board], verify=verify, strict=strict)[-1].passed

    assert passed(came(Outcome.REPRODUCED), True)
    assert not passed(came(Outcome.DIFFERS), False)
    assert passed(came(Outcome.CANNOT), False)
    assert not passed(came(Outcome.CANNOT), True)


def test_boards_are_found_in_suites_by_number(tmp_path: Path) -> None:
    for name in ("b/v10", "b/v9", "a/v1"):
        (tmp_path / name / "records").mkdir(parents=True)
    assert [path.relative_to(tmp_path).as_posix() for path in boards_below([tmp_path])] == ["a/v1", "b/v9", "b/v10"]
    with pytest.raises(UsageError, match="holds no board"):
        boards_below([tmp_path / "nothing"])


# --- the other commands


def test_validate_has_an_exit_code_and_one_line_per_finding(
    board: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("validate", board) == 0
    assert command("validate", finished) == 0
    assert command("validate", board.parent / "latest") == 0
    assert "8 records: nothing is wrong" in capsys.readouterr().out
    (board / "README.md").write_text("by hand")
    assert command("validate", board) == 1
    assert capsys.readouterr().out.splitlines() == [
        "README.md: tables: differs from what records and audit give; `build` makes it",
        "8 records: 1 findings",
    ]
    assert command("validate", board, "--json") == 1
    assert json.loads(capsys.readouterr().out)[0]["check"] == "tables"


def test_show_prints_every_format(board: Path, capsys: pytest.CaptureFixture[str]) -> None:
    starts = {
        "text": "! kin-1: clean accuracy",  # the untrained network is no better than chance, which comes first
        "markdown": "# tiny v3",
        "latex": "% needs",
        "csv": "suite,suite_version",
        "json": "{",
    }
    for form, start in starts.items():
        assert command("show", board, "--format", form) == 0
        assert capsys.readouterr().out.startswith(start)
    assert command("show", board, "--wide", "--metric", "mean-relevance@1") == 0
    text = capsys.readouterr().out
    assert "median@1" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_diff_freeze_and_export(board: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("diff", board, board) == 0
    assert "numbers are what they were" in capsys.readouterr().out
    assert command("freeze", board) == 0
    assert "frozen: sha256" in (board.parent / "README.md").read_text()
    assert command("export", board, "-o", tmp_path / "data") == 0
    assert (tmp_path / "data" / "croissant.json").is_file()
    assert command("diff", board, tmp_path) == 2


def test_verify_has_exit_codes(board: Path, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Models and explainers of this run are registered nowhere: none of its records can be run here."""
    assert main(["verify", str(board), "--seed", "1"]) == 3
    said = capsys.readouterr().out
    assert 'model "kin-1" is not here; give its card with --model' in said
    assert said.splitlines()[-1] == "0 reproduced, 0 differs, 8 cannot (--sample 20 --seed 1)"
    assert main(["verify", str(board), "--independent"]) == 2
    card, data = finished.parent / "tiny-pad-0.toml", finished.parent / "classes"
    path = next(path for path in (board / "records" / "tiny-pad-0").rglob("random.json"))
    words = ["verify", str(path), "--model", str(card), "--dataset", f"folder:{data}", "--sample", "2"]
    # cost@1 is all that is installed of its protocols, and seconds are not expected to come out the same.
    assert main(words) == 3
    assert "cost@1: it is not expected to come out the same" in capsys.readouterr().out
