"""What the numbers of a protocol allow to say, in one sentence.

Place in the flow: ``terminal`` and ``render`` print it under a table. Calls ``board`` only.
"""

from __future__ import annotations

from collections.abc import Sequence

from faithface.boards.board import APART, Column, Row, Table, passed
from faithface.reasons import Status


def claim(table: Table, column: Column) -> str:
    """Return one sentence on what the numbers of a protocol allow to say."""
    methods = [row for row in with_number(table, column) if not row.control]
    placed = [row for row in methods if (p := row.places.get(column.protocol)) and p.tie_class is not None]
    if not methods:
        return "No method has a number here."
    if column.sample.family == "gate":
        through = [row.title for row in methods if (n := row.number(column.protocol)) is not None and passed(n)]
        return f"A gate, not ranked: {len(through)} of {len(methods)} methods pass."
    if column.sample.family in APART:
        return f"A {column.sample.family}, not ranked." if column.sample.family != "cost" else "Costs are not ranked."
    if column.sample.summary != "mean":
        return "This protocol has a summary of its own and is not ranked."
    if not placed:
        return "Too few samples or people to rank: no difference between these numbers is claimed."
    best, *others = placed
    tied = [row.title for row in others if row.places[column.protocol].tie_class == 1]
    if tied:
        said = f"{best.title} has the best number, but is not told apart from {_listed(tied)}."
        needed = best.places[column.protocol].needed
        if needed is not None:
            said += f" To separate the first two takes about {needed} samples."
    elif others:
        said = f"{best.title} is significantly better than every other method."
    else:
        said = f"{best.title} is the only method."
    beaten = best.beats.get(column.protocol)
    unbeaten = [row.title for row in table.rows if row.control and beaten is not None and row.title not in beaten]
    unbeaten = [title for title in unbeaten if title != "oracle"]
    if unbeaten:
        controls = "controls" if len(unbeaten) > 1 else "control"
        said += f" It is not significantly better than the {controls} {_listed(unbeaten)}."
    return said


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


def _listed(names: Sequence[str], most: int = 6) -> str:
    shown = list(names[:most])
    more = f" and {len(names) - most} more" if len(names) > most else ""
    if more or len(shown) == 1:
        return ", ".join(shown) + more
    return f"{', '.join(shown[:-1])} and {shown[-1]}"
