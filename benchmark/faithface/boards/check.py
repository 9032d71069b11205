"""What a maintainer's continuous integration runs on all published boards: validate, rebuild, diff, verify a sample.

Place in the flow: ``faithface leaderboard check`` prints :func:`check_boards` and takes its exit code. Calls
``validate``, ``site.check``, ``history``, ``changes`` and, where asked, ``verify``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from faithface.boards.changes import diff_boards
from faithface.boards.findings import Finding
from faithface.boards.frozen import FROZEN, VERSION, versions
from faithface.boards.history import suite_page
from faithface.boards.inside import MetricOf, no_metric
from faithface.boards.record import RECORDS, Kept, read_records
from faithface.boards.site.links import SITE
from faithface.boards.validate import validate_board
from faithface.boards.verdicts import audit_for
from faithface.boards.verify import NO_VALUES, Outcome, Verified
from faithface.errors import FaithfaceError, UsageError

Verify = Callable[[Sequence[Kept]], Sequence[Verified]]


class Step(StrEnum):
    """What was done to a board."""

    VALIDATE = "validate"
    SITE = "site"
    PAGE = "page"
    DIFF = "diff"
    VERIFY = "verify"


@dataclass(frozen=True)
class Result:
    """What one step came to on one board.

    Attributes:
        passed: whether it is as it should be; a step that only informs passes.
        lines: what was found.
    """

    board: str
    step: Step
    passed: bool
    lines: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return {"board": self.board, "step": self.step.value, "passed": self.passed, "lines": list(self.lines)}


def check_boards(
    folders: Sequence[Path],
    metric_of: MetricOf = no_metric,
    verify: Verify | None = None,
    strict: bool = False,
) -> list[Result]:
    """Check boards.

    Args:
        folders: boards, suites, or a folder of suites such as ``leaderboards/``.
        metric_of: gives the metric of a protocol where it is installed.
        verify: runs a sample of records again; None: that step is not done.
        strict: whether records that cannot be verified here fail the check; those that differ always do.

    Raises:
        UsageError: there is no board.
    """
    boards = boards_below(folders)
    results: list[Result] = []
    suites: list[Path] = []
    for board in boards:
        name = board.as_posix()
        results.append(_validated(board, metric_of))
        whole = results[-1].passed
        if whole and (board / SITE).is_dir():
            results.append(_site(board))
        suite = board.resolve().parent
        if VERSION.fullmatch(board.resolve().name) and suite not in suites:
            suites.append(suite)
            results.append(_page(suite, board.parent.as_posix()))
        if whole and (line := _diff(board)):
            results.append(Result(name, Step.DIFF, True, line))
        if whole and verify is not None:
            results.append(_verified(name, verify(read_records(board / RECORDS)), strict))
    return results


def boards_below(folders: Sequence[Path]) -> list[Path]:
    """Return the boards that some folders are or hold, in the order of suites and versions.

    Raises:
        UsageError: a folder holds none.
    """
    found: list[Path] = []
    for folder in folders:
        if (folder / RECORDS).is_dir():
            here = [folder]
        else:
            suites = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())] if folder.is_dir() else []
            here = [path for suite in suites for _number, path in versions(suite)]
        if not here:
            raise UsageError(f"{folder} holds no board; give leaderboards/, a suite in it, or a version such as v1")
        found += [path for path in here if path not in found]
    return found


def _validated(board: Path, metric_of: MetricOf) -> Result:
    try:
        findings: list[Finding] = validate_board(board, metric_of)
    except UsageError as error:
        return Result(board.as_posix(), Step.VALIDATE, False, (str(error),))
    return Result(board.as_posix(), Step.VALIDATE, not findings, tuple(str(one) for one in findings))


def _site(board: Path) -> Result:
    from faithface.boards.site.check import site_findings

    found = site_findings(board, read_records(board / RECORDS))
    return Result(board.as_posix(), Step.SITE, not found, tuple(str(one) for one in found))


def _page(suite: Path, name: str) -> Result:
    """Compare the suite's page with what its versions give."""
    page = suite / "README.md"
    try:
        expected = suite_page(suite).encode("utf-8")
    except FaithfaceError as error:
        return Result(name, Step.PAGE, False, (str(error),))
    if page.is_file() and page.read_bytes() == expected:
        return Result(name, Step.PAGE, True)
    return Result(name, Step.PAGE, False, ("README.md differs from what the versions give; `build` on one makes it",))


def _diff(board: Path) -> tuple[str, ...]:
    """Return what changed since the version before; () for the first."""
    known = versions(board.resolve().parent)
    at = next((i for i, (_number, path) in enumerate(known) if path == board.resolve()), 0)
    if at == 0:
        return ()
    before = known[at - 1][1]
    changes = diff_boards(read_records(before / RECORDS), read_records(board / RECORDS), audit_for(board))
    frozen = () if (before / FROZEN).is_file() else (f"{before.name} is not frozen, though {board.name} is there",)
    return (f"since {before.name}:", *changes.summary(), *frozen)


def _verified(name: str, found: Sequence[Verified], strict: bool) -> Result:
    wrong = [one for one in found if one.outcome is Outcome.DIFFERS]
    missing = [one for one in found if one.outcome is Outcome.CANNOT and one.reason != NO_VALUES]
    good = sum(one.outcome is Outcome.REPRODUCED for one in found)
    lines = [f"{good} reproduced, {len(wrong)} differ, {len(missing)} cannot be run here"]
    lines += [str(one) for one in (*wrong, *missing)]
    return Result(name, Step.VERIFY, not wrong and not (strict and missing), tuple(lines))
