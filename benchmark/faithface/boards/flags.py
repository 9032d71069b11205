"""What is to be said of numbers that are there: constant maps, and explainers that give another map a second time.

Place in the flow: ``terminal`` and ``render`` print these lines under a table. Calls ``board`` only.
"""

from __future__ import annotations

from faithface.boards.board import Row, Table
from faithface.run.results import NOT_DETERMINISTIC


def flag_lines(table: Table) -> list[str]:
    """Return one line per explainer and kind of remark.

    Several protocols that look at the same maps make the same remark; the largest number of samples is given.
    """
    lines = []
    for row in table.rows:
        found = row.record.explainer.note.get(NOT_DETERMINISTIC)
        if found:
            lines.append(f"{row.title}: not deterministic: {found}")
        lines += [f"{row.title}: {text}, {count} of {n} samples" for text, (count, n) in counted(row).items()]
    return lines


def counted(row: Row) -> dict[str, tuple[int, int]]:
    """Return by remark for how many samples it was made, and of how many."""
    most: dict[str, tuple[int, int]] = {}
    for number in row.record.numbers:
        for text, count in number.flags.items():
            most[text] = max(most.get(text, (0, 0)), (count, number.n + number.invalid))
    return most
