"""Tables as CSV, for programs: one line per cell, protocol and named value.

Place in the flow: ``render`` and ``show`` call it. Calls ``board``, ``escaping`` and ``legend``. The same records give
the same bytes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping

from faithface.boards import escaping
from faithface.boards.board import Row, Table
from faithface.boards.legend import tier_text

HEADINGS = (
    "suite", "suite_version", "model", "dataset", "explainer", "protocol", "value_name", "better", "status", "number",
    "low", "high", "n", "invalid", "flagged", "rank", "tie_class", "control", "device", "reason", "audit",
    "audit_reason", "tier",
)  # fmt: skip


def table_csv(table: Table) -> str:
    """Return a table as CSV, one line per cell, protocol and named value."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(HEADINGS)
    known: dict[str, str] = {"": ""}  # a table repeats its protocols in every row
    audit = {c.protocol: [str(c.standing.examined.verdict), escaping.csv_cell(c.standing.why)] for c in table.columns}
    for row in table.rows:
        writer.writerows(_lines(row, known, audit))
    return out.getvalue()


def _lines(row: Row, known: dict[str, str], audit: Mapping[str, list[str]]) -> Iterator[list[str]]:
    def cell(text: str) -> str:
        if text not in known:
            known[text] = escaping.csv_cell(text)
        return known[text]

    record = row.record
    suite = (record.suite.name, str(record.suite.version))
    before = [cell(text) for text in (*suite, record.model.name, record.dataset.spec, record.explainer.spec)]
    after = ["yes" if row.control else "no", cell(record.where.device)]
    for one in record.numbers:
        place = row.places.get(one.protocol) if one.value_name == "" else None
        yield [
            *before,
            cell(one.protocol),
            cell(one.value_name),
            one.better,
            one.status.value,
            "" if one.number is None else f"{one.number:.9g}",
            "" if one.low is None else f"{one.low:.9g}",
            "" if one.high is None else f"{one.high:.9g}",
            str(one.n),
            str(one.invalid),
            str(one.flagged),
            "" if place is None else place.text,
            "" if place is None or place.tie_class is None else str(place.tie_class),
            *after,
            cell(one.reason),
            *(audit.get(one.protocol) or ["", ""]),
            tier_text(row),
        ]


def splits_csv(table: Table) -> str:
    """Return a table's numbers by the model's decision as CSV."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("explainer", "protocol", "better", "decision", "n", "number", "low", "high"))
    for s in table.splits:
        names = [escaping.csv_cell(text) for text in (s.explainer, s.protocol)]
        numbers = ["" if v is None else f"{v:.9g}" for v in (s.number, s.low, s.high)]
        writer.writerow([*names, s.better, s.decision.value, str(s.n), *numbers])
    return out.getvalue()
