"""Across the tables of a board: in how many ranked columns each explainer shares the first tie class.

Place in the flow: the Markdown page, the site's first page and the pages of the documentation call
:func:`across_tables`. Imports ``board`` and ``orders``.

A table is of one network. Who wants one explainer for a task asks for one that is good on all of them, and no column
answers that. Means over networks would: but numbers of two networks have no common scale, and one column with a wide
range would decide. So columns are counted: a first tie class holds whoever is not significantly worse than the best.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from faithface.boards.board import Row, Table, passed
from faithface.boards.orders import FAITHFUL

FEW = 4


@dataclass(frozen=True)
class Share:
    """``of`` columns, of which ``count``."""

    count: int = 0
    of: int = 0

    @property
    def part(self) -> float:
        return self.count / self.of if self.of else 0.0

    def __str__(self) -> str:
        return f"{self.count} of {self.of}" if self.of else "–"


@dataclass(frozen=True)
class Line:
    """One explainer.

    Attributes:
        first: by family, in how many of its ranked columns it shares the first tie class.
        gates: how many gates it passes, of those that it has.
        failed: the gates that it fails on some network, by id, and on how many.
    """

    title: str
    first: Mapping[str, Share]
    gates: Share
    failed: Mapping[str, int] = field(default_factory=dict)

    def failures(self) -> str:
        return ", ".join(f"{gate} on {count}" for gate, count in self.failed.items())

    @property
    def columns(self) -> Share:
        """All families together."""
        shares = self.first.values()
        return Share(sum(s.count for s in shares), sum(s.of for s in shares))


@dataclass(frozen=True)
class Across:
    """The explainers of one task, the most often first.

    Attributes:
        tables: how many; each is of one network on one dataset.
        what: ``network``, or ``table`` where a network has several.
        families: those that any explainer is ranked in.
    """

    task: str
    tables: int
    what: str
    families: tuple[str, ...]
    lines: tuple[Line, ...]

    def text(self) -> str:
        """Return who is in front, and who of those that pass all their gates."""
        leading = [line for line in self.lines if line.columns.count]
        if not leading:
            return "No explainer shares a first tie class."
        said = ", ".join(f"{line.title} ({line.columns} columns)" for line in leading[:FEW])
        middle = 100 * statistics.median(line.columns.part for line in self.lines)
        parts = [
            f"Most often in the first tie class: {said}. The median explainer is in {middle:.0f} % of its columns.",
        ]
        failing = [f"{line.title} ({line.failures()})" for line in leading[:FEW] if line.failed]
        passing = [line.title for line in leading if not line.failed]
        if failing:
            parts.append(f"Gates failed, with the number of {self.what}s: {'; '.join(failing)}.")
            parts.append(f"First of those that pass all: {', '.join(passing[:FEW]) or 'none'}.")
        return " ".join(parts)


MEANING = (
    "A column is a ranked protocol in one table. Its first tie class holds whoever is not significantly worse than "
    "the best there, so few samples or a wide interval help. The order is by the share of all columns, then of gates "
    "passed. Only explainers that are ranked in every table are listed."
)


def across_tables(tables: Iterable[Table]) -> tuple[Across, ...]:
    """Return a summary for each task that has several tables of explainers with ranks."""
    by_task: dict[str, list[Table]] = {}
    for table in tables:
        if table.kind == "explainers" and any(row.places for row in table.rows):
            by_task.setdefault(table.first.model.task, []).append(table)
    return tuple(_across(task, mine) for task, mine in sorted(by_task.items()) if len(mine) > 1)


def _across(task: str, tables: list[Table]) -> Across:
    families = {column.protocol: str(column.sample.family) for table in tables for column in table.columns}
    everywhere = set.intersection(*({row.title for row in table.rows if row.places} for table in tables))
    titles = [row.title for row in tables[0].rows if row.title in everywhere]
    lines = [_line(title, [r for t in tables for r in t.rows if r.title == title], families) for title in titles]
    shown = tuple(one for one in FAITHFUL if any(line.first[one].of for line in lines))
    lines.sort(key=lambda line: (-line.columns.part, -line.gates.part, line.title))
    several = len({table.first.model.sha256 for table in tables}) < len(tables)
    return Across(task, len(tables), "table" if several else "network", shown, tuple(lines))


def _line(title: str, rows: list[Row], families: Mapping[str, str]) -> Line:
    places = [(families[protocol], place) for row in rows for protocol, place in row.places.items() if place]
    first = {
        family: Share(
            sum(place.tie_class == 1 for mine, place in places if mine == family),
            sum(mine == family and place.tie_class is not None for mine, place in places),
        )
        for family in FAITHFUL
    }
    results = [
        (number.id, result)
        for row in rows
        for number in row.record.numbers
        if number.family == "gate" and number.value_name == "" and (result := passed(number)) is not None
    ]
    failed = Counter(gate for gate, result in results if not result)
    return Line(title, first, Share(len(results) - failed.total(), len(results)), dict(sorted(failed.items())))
