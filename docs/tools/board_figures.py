"""Figures of published boards for pages: cells, tests against zero, paired differences, tie classes, as Markdown.

Place in the flow: ``board_pages`` makes its blocks from these. Reads records below ``leaderboards/`` and calls
``boards``; runs no network.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from faithface.boards.board import Board, Row, Table, make_board
from faithface.boards.compare import Comparison, compare
from faithface.boards.record import Kept, read_records
from faithface.boards.tiers import tiers_for
from faithface.boards.verdicts import audit_for

ROOT = Path(__file__).resolve().parents[2]
BOARDS = ROOT / "leaderboards"
ALPHA = 0.05
NOTHING = "–"


@dataclass(frozen=True)
class Published:
    """A board as it lies in the repository, with its records' values."""

    path: Path
    board: Board
    kept: tuple[Kept, ...]

    def table(self, model: str, dataset: str) -> Table:
        """Return the table of explainers of a model on a dataset, the latter as the board names it, or its start."""
        return next(
            t
            for t in self.board.tables
            if t.kind == "explainers"
            and t.first.model.name == model
            and (t.first.dataset.spec == dataset or t.first.dataset.spec.startswith(f"{dataset}:"))
        )


@functools.cache
def published(suite: str, version: int = 1) -> Published:
    """Return a published board.

    Raises:
        UsageError: it has no records, or they were altered.
    """
    path = BOARDS / suite / f"v{version}"
    kept = tuple(read_records(path / "records"))
    return Published(path, make_board(kept, audit_for(path), tiers_for(path)), kept)


def row_of(table: Table, explainer: str) -> Row | None:
    return next((row for row in table.rows if row.title == explainer), None)


def text_of(value: float | None, digits: int, signed: bool = False) -> str:
    """Return a number with a true minus sign; a dash for none. What rounds to zero has no sign."""
    if value is None or not math.isfinite(value):
        return NOTHING
    shown = f"{round(value, digits) + 0.0:{'+' if signed else ''}.{digits}f}"
    return shown.replace("+", "" if float(shown) == 0 else "+").replace("-", "−")


def cell(row: Row | None, protocol: str, digits: int = 3, value_name: str = "", rank: bool = False) -> str:
    """Return ``number [low, high]``, and the rank interval if it is asked for and there is one."""
    number = None if row is None else row.number(protocol, value_name)
    if row is None or number is None or number.number is None:
        return NOTHING
    shown = text_of(number.number, digits)
    if number.low is not None and number.high is not None:
        shown += f" [{text_of(number.low, digits)}, {text_of(number.high, digits)}]"
    place = row.rank(protocol) if rank else None
    return shown if place is None else f"{shown} · {place}"


def samples_of(table: Table, protocol: str) -> int:
    """Return the largest number of samples behind a protocol's numbers."""
    return max((n.n for row in table.rows if (n := row.number(protocol)) is not None), default=0)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join([f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}", *(f"| {' | '.join(r)} |" for r in rows)])


# --- tests


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Return p values corrected for their number (Holm 1979); what has none stays NaN."""
    known = sorted((name for name in p if math.isfinite(p[name])), key=lambda name: p[name])
    found = dict.fromkeys(p, math.nan)
    highest = 0.0
    for k, name in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - k) * p[name]))
        found[name] = highest
    return found


def against_zero(table: Table, protocol: str) -> dict[str, Comparison]:
    """Compare each row's values with 0, by the boards' test for paired differences."""
    return {
        row.title: compare(values, dict.fromkeys(values, 0.0), table.units)
        for row in table.rows
        if (values := row.values.get(protocol))
    }


def differences(table: Table, explainers: Sequence[str], other: str, protocol: str) -> dict[str, Comparison]:
    """Compare explainers with another one on the same samples."""
    beside = row_of(table, other)
    theirs = beside.values.get(protocol, {}) if beside else {}
    found = {}
    for name in explainers:
        row = row_of(table, name)
        mine = row.values.get(protocol, {}) if row and name != other else {}
        if mine and theirs:
            found[name] = compare(mine, theirs, table.units)
    return found


def difference(found: Comparison | None, p: float, digits: int = 3) -> str:
    """Return ``+0.012 [0.003, 0.021]``, bold where the corrected p is below 5 %."""
    if found is None:
        return NOTHING
    shown = text_of(found.difference, digits, signed=True)
    if math.isfinite(found.low):
        shown += f" [{text_of(found.low, digits)}, {text_of(found.high, digits)}]"
    return f"**{shown}**" if p < ALPHA else shown


def with_tests(
    columns: Mapping[str, Mapping[str, Comparison]], rows: Sequence[str], digits: int = 3
) -> list[list[str]]:
    """Return a row per explainer with a difference per column; p is corrected over each column's shown rows."""
    corrected = {name: holm({row: found[row].p for row in rows if row in found}) for name, found in columns.items()}
    shown = []
    for row in rows:
        cells = [difference(found.get(row), corrected[name].get(row, 1.0), digits) for name, found in columns.items()]
        shown.append([f"`{row}`", *cells])
    return shown


# --- classes and runs


def first_class(table: Table, protocol: str) -> list[Row]:
    """Return the rows of the first tie class of a protocol, best first; empty where there are too few samples."""
    rows = [row for row in table.rows if (p := row.places.get(protocol)) is not None and p.tie_class == 1]
    return sorted(rows, key=lambda row: (row.places[protocol].best or 0, -_signed(row, protocol)))


def _signed(row: Row, protocol: str) -> float:
    number = row.number(protocol)
    if number is None or number.number is None:
        return -math.inf
    return number.number if number.better == "higher" else -number.number


def ordered(table: Table, protocol: str, keep: Callable[[Row], bool] = lambda _row: True) -> list[Row]:
    """Return the rows by a protocol's number, best first; those without one last."""
    return sorted((row for row in table.rows if keep(row)), key=lambda row: (-_signed(row, protocol), row.title))


def permutation_p(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the exact two-sided p of the difference of means of two groups of training runs, over all divisions.

    With five runs in each group there are 252, so that p is at least 2/252.
    """
    pooled = np.array([*a, *b])
    observed = abs(float(np.mean(a) - np.mean(b)))
    found = []
    for chosen in itertools.combinations(range(len(pooled)), len(a)):
        rest = np.delete(pooled, chosen)
        found.append(abs(float(pooled[list(chosen)].mean() - rest.mean())))
    return float(np.mean([gap >= observed - 1e-12 for gap in found]))
