"""What the numbers of a protocol allow to say, in one sentence.

Place in the flow: ``terminal`` and ``render`` print it under a table. Calls ``board`` and ``controls``.
"""

from __future__ import annotations

from faithface.boards.board import Column, Row, Table, passed
from faithface.boards.controls import listed
from faithface.boards.statistics.means import MIN_SAMPLES, MIN_UNITS
from faithface.boards.verdicts import APART, Mark
from faithface.reasons import Status


def claim(table: Table, column: Column) -> str:
    """Return one sentence on what the numbers of a protocol allow to say."""
    methods = [row for row in with_number(table, column) if not row.control]
    placed = [row for row in methods if (p := row.places.get(column.protocol)) and p.tie_class is not None]
    if not methods:
        return "No method has a number here."
    if column.sample.family == "gate":
        through = [row.title for row in methods if (n := row.number(column.protocol)) is not None and passed(n)]
        failed = f" The metric {column.standing.why}." if column.standing.mark is Mark.FAILS else ""
        return f"A gate, not ranked: {len(through)} of {len(methods)} methods pass.{failed}"
    if column.sample.family in APART:
        return f"A {column.sample.family}, not ranked." if column.sample.family != "cost" else "Costs are not ranked."
    if not column.standing.judges:
        return f"Not ranked: the metric {column.standing.why}."
    if column.sample.summary != "mean":
        return "This protocol has a summary of its own and is not ranked."
    if not placed:
        return (
            f"Too few samples or people to rank, which takes {MIN_SAMPLES} samples that count as {MIN_UNITS:g} "
            "independent people: no difference between these numbers is claimed."
        )
    best, *others = placed
    tied = [row.title for row in others if row.places[column.protocol].tie_class == 1]
    if tied:
        said = f"Of the methods, {best.title} has the best number, but is not told apart from {listed(tied)}."
        # The next may be told apart already, while a later one, whose values scatter more, is not.
        if others[0].title in tied and (needed := needed_text(best, column)):
            said += f" To tell it from the next in the column would take {needed}."
    elif others:
        said = f"Of the methods, {best.title} is significantly better than every other."
    else:
        said = f"{best.title} is the only method."
    beaten = best.beats.get(column.protocol)
    unbeaten = [row.title for row in table.rows if row.control and beaten is not None and row.title not in beaten]
    unbeaten = [title for title in unbeaten if title != "oracle"]
    if unbeaten:
        said += f" Of the controls, it is not significantly better than {listed(unbeaten)}."
    if others or unbeaten:
        said += " Tests are paired by sample and corrected for the number of comparisons; intervals of rows are not."
    if column.standing.mark is Mark.UNEXAMINED:
        said += " The audit has not examined this metric."
    elif column.standing.mark is Mark.CARE:
        said += f" The metric judges {column.standing.why}."
    return said


def needed_text(row: Row, column: Column) -> str:
    """Return how many samples would tell a method from the next one, and whether the dataset has them; "": not known.

    The number is of samples that the protocol judges, which may be a part of the dataset (genuine pairs, one class).
    """
    place, number, data = row.places.get(column.protocol), row.number(column.protocol), row.record.dataset
    if place is None or place.needed is None or number is None:
        return ""
    said = f"about {place.needed:,} samples like these {number.n:,}"
    there = data.size * number.n // data.samples if data.samples else 0
    return f"{said}; the dataset has about {there:,}" if there < place.needed else said


def with_number(table: Table, column: Column) -> list[Row]:
    """Return the rows that have a number or a reason in a column, methods best first, then controls."""
    found = [(row, row.number(column.protocol)) for row in table.rows]
    rows = [row for row, number in found if number is not None and number.status != Status.NOT_APPLICABLE]
    sign = -1 if column.sample.better == "higher" else 1

    def key(row: Row) -> tuple[bool, bool, float, str]:
        number = row.number(column.protocol)
        value = None if number is None else number.number
        return row.control, value is None, sign * (value or 0.0), row.title

    return sorted(rows, key=key)
