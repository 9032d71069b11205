"""What stands beside the names of columns and rows: marks of the audit with their legend, verdicts, tiers.

Place in the flow: every form of a board takes its words from here. Calls ``board``, ``tiers`` and ``verdicts``.
"""

from __future__ import annotations

from collections.abc import Iterable

from faithface.boards.board import Column, Row
from faithface.boards.tiers import NOT_COMPUTED
from faithface.boards.verdicts import APART, LEGEND, SIGNS, Mark


def apart(column: Column) -> str:
    """Return the remark on a column: its family, where that is not ranked, and the mark of the audit; "" without."""
    mark = column.standing.mark
    said = [str(column.sample.family)] if column.sample.family in APART else []
    said += [str(mark)] if mark in (Mark.DESCRIBES, Mark.FAILS) else []
    return f" {SIGNS[mark]}" if not said and mark else f" ({', '.join(said)})" if said else ""


def marked(columns: Iterable[Column]) -> list[tuple[Mark, str, list[str]]]:
    """Return the marks of some columns with their reasons, and the protocols that have each; the mildest mark first."""
    found: dict[tuple[Mark, str], list[str]] = {}
    for column in columns:
        protocols = found.setdefault((column.standing.mark, column.standing.why), [])
        if column.protocol not in protocols:
            protocols.append(column.protocol)
    order = list(LEGEND)
    shown = sorted((one for one in found if one[0]), key=lambda one: order.index(one[0]))
    return [(mark, why, found[mark, why]) for mark, why in shown]


def marks_text(columns: Iterable[Column]) -> list[str]:
    """Return the legend of the marks that some columns have: what each means, and whom it is given, with the reason."""
    found = marked(columns)
    lines = []
    for mark, text in LEGEND.items():
        mine = [(why, protocols) for one, why, protocols in found if one is mark]
        if mine:
            lines.append(f"{SIGNS[mark]} {text}.")
            reasons = [(why.partition(": ")[2], ", ".join(protocols)) for why, protocols in mine]
            lines += [f"{protocols}: {reason}" if reason else protocols for reason, protocols in reasons]
    return lines


def verdict_text(column: Column) -> str:
    """Return the audit's verdict on a column's metric, with what speaks against it."""
    said = str(column.standing.examined.verdict)
    if column.sample.family == "cost":
        return "states costs: nothing to examine"
    why = column.standing.why.partition(": ")[2]
    if column.standing.fill and not column.standing.examined.against and not column.standing.examined.setting:
        said = f"{said}, but its images are unusual"
    return f"{said}: {why}" if why else said


def tier_text(row: Row) -> str:
    """Return the tier of a row's explainer, or that it was not computed."""
    return NOT_COMPUTED if row.tier is None else str(row.tier)
