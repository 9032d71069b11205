"""Tables for papers and programs: LaTeX (booktabs), JSON, and BibTeX of the methods.

Place in the flow: ``faithface leaderboard show --format`` prints them. Calls ``board``, ``render`` and ``escaping``.
The same records give the same text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from faithface.boards import escaping
from faithface.boards.board import Board, Column, Row, Table
from faithface.boards.legend import marked
from faithface.boards.record import Record
from faithface.boards.render import figure, shown_columns
from faithface.boards.verdicts import Mark
from faithface.contract.metric import Better

SIGNS = {
    Mark.NONE: "",
    Mark.CARE: r"$^\dagger$",
    Mark.UNEXAMINED: r"$^\ddagger$",
    Mark.DESCRIBES: r"$^\circ$",
    Mark.FAILS: r"$^\times$",
}
ARROWS: dict[Better, str] = {"higher": r"$\uparrow$", "lower": r"$\downarrow$"}


def latex(table: Table, columns: Sequence[Column] | None = None) -> str:
    """Return a table in LaTeX, for documents that use the package ``booktabs``.

    The best number of a column among methods is bold, the second underlined; equal numbers share the mark, and what has
    no number has a dash. In a column that does not judge (a gate, a description, a cost, or a metric that the audit
    does not let judge) no number is marked. Controls stand below a rule and have no mark. The caption names model,
    dataset, protocols and n, and what the audit says against a protocol.

    Args:
        columns: the protocols to show; None: all that apply to some row.
    """
    columns = shown_columns(table) if columns is None else columns
    marks = {column.protocol: _marks(table, column) for column in columns}
    heads = [f"{escaping.latex(c.protocol)} {ARROWS[c.sample.better]}{SIGNS[c.standing.mark]}" for c in columns]
    first = "explainer" if table.kind == "explainers" else "model"
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_caption(table, columns)}}}",
        rf"\begin{{tabular}}{{l{'r' * len(columns)}}}",
        r"\toprule",
        " & ".join([first, *heads]) + r" \\",
        r"\midrule",
    ]
    rows = [row for row in table.rows if not row.control]
    controls = [row for row in table.rows if row.control]
    lines += [_line(row, columns, marks) for row in rows]
    if controls:
        lines += [r"\midrule", rf"\multicolumn{{{len(columns) + 1}}}{{l}}{{\emph{{controls}}}} \\"]
        lines += [_line(row, columns, {}) for row in controls]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"


def _line(row: Row, columns: Sequence[Column], marks: dict[str, dict[str, str]]) -> str:
    cells = [escaping.latex(row.title)]
    for column in columns:
        number = row.number(column.protocol)
        text = "--" if number is None or number.number is None else figure(number.number).replace("-", "$-$")
        mark = marks.get(column.protocol, {}).get(row.title)
        cells.append(rf"\{mark}{{{text}}}" if mark else text)
    return " & ".join(cells) + r" \\"


def _marks(table: Table, column: Column) -> dict[str, str]:
    """Return ``textbf`` for the methods with the best number, ``underline`` for those with the second; none where the
    column does not judge.
    """
    if not column.standing.judges:
        return {}
    found = _numbers(table, column)
    order = sorted(set(found.values()), reverse=column.sample.better == "higher")
    names = dict(zip(order, ("textbf", "underline"), strict=False))
    return {title: names[value] for title, value in found.items() if value in names}


def _numbers(table: Table, column: Column) -> dict[str, float]:
    """Return the methods' numbers by title."""
    found = {}
    for row in table.rows:
        number = row.number(column.protocol)
        if not row.control and number is not None and number.number is not None:
            found[row.title] = number.number
    return found


def _caption(table: Table, columns: Sequence[Column]) -> str:
    record = table.first
    what = f"{record.model.name} on " if table.kind == "explainers" else f"Models by {record.explainer.spec} on "
    counts = []
    for column in columns:
        found = sorted({n.n for row in table.rows if (n := row.number(column.protocol)) and n.n})
        count = str(found[0]) if len(found) == 1 else f"{found[0]}-{found[-1]}" if found else "0"
        counts.append(f"{column.protocol} (n = {count})")
    text = (
        f"{what}{record.dataset.spec}, board {record.suite.name} v{record.suite.version}. "
        f"Protocols: {', '.join(counts)}. Best in bold, second underlined."
    )
    said = [
        f" {SIGNS[mark]}{escaping.latex(why)} ({escaping.latex(', '.join(names))})."
        for mark, why, names in marked(columns)
    ]
    return escaping.latex(text) + "".join(said)


def board_json(board: Board) -> str:
    """Return a board as JSON: its tables with numbers, intervals, ranks and tie classes, best first, and what the
    audit says of each protocol.
    """
    made: dict[str, Any] = {
        "suite": board.suite,
        "version": board.version,
        "description": board.description,
        "tables": [_table_json(table) for table in board.tables],
    }
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def _table_json(table: Table) -> dict[str, Any]:
    record = table.first
    return {
        "kind": table.kind,
        "model": record.model.name if table.kind == "explainers" else None,
        "explainer": record.explainer.spec if table.kind == "models" else None,
        "task": record.model.task,
        "dataset": record.dataset.spec,
        "revision": record.dataset.revision,
        "samples": record.dataset.samples,
        "protocols": [_protocol_json(column) for column in table.columns],
        "rows": [_row_json(row) for row in table.rows],
    }


def _protocol_json(column: Column) -> dict[str, Any]:
    standing = column.standing
    return {
        "protocol": column.protocol,
        "family": column.sample.family,
        "better": column.sample.better,
        "ranked": column.ranked,
        "audit": {
            "verdict": standing.examined.verdict.value,
            "examined_as": standing.examined.setting or None,
            "mark": standing.mark.value,
            "against": [one.value for one in standing.examined.against],
        },
    }


def _row_json(row: Row) -> dict[str, Any]:
    cells = []
    for number in row.record.numbers:
        place = row.places.get(number.protocol) if number.value_name == "" else None
        cells.append(
            {
                "protocol": number.protocol,
                "value": number.value_name,
                "status": number.status.value,
                "number": number.number,
                "low": number.low,
                "high": number.high,
                "n": number.n,
                "better": number.better,
                "rank": [place.best, place.worst] if place is not None and place.best is not None else None,
                "tie_class": None if place is None else place.tie_class,
            }
        )
    tier = None if row.tier is None else row.tier.value
    return {
        "title": row.title,
        "control": row.control,
        "tier": tier,
        "record_digest": row.record.digest,
        "numbers": cells,
    }


def bibtex(records: Sequence[Record]) -> str:
    """Return one BibTeX entry for each source that the explainers and protocols of some records name.

    Sources are texts such as ``Petsiuk et al. 2018, arXiv:1806.07421``: the entry has what can be read of them (year,
    arXiv number, DOI), and the whole text as its note. What names no year, number or DOI is no publication.
    """
    users: dict[str, list[str]] = {}
    for record in records:
        named = [(record.explainer.source, record.explainer.name)]
        named += [(number.source, number.id) for number in record.numbers]
        for source, user in named:
            if source and _facts(source) and user not in users.setdefault(source, []):
                users[source].append(user)
    entries: dict[str, str] = {}
    for source, names in sorted(users.items()):
        key = _key(source, entries)
        fields = {
            "note": escaping.latex(source),
            "keywords": escaping.latex(", ".join(sorted(names))),
            **_facts(source),
        }
        body = ",\n".join(f"  {name} = {{{value}}}" for name, value in sorted(fields.items()))
        entries[key] = f"@misc{{{key},\n{body}\n}}\n"
    return "\n".join(entries.values())


def _facts(source: str) -> dict[str, str]:
    """Return what can be read of a source: authors, year, arXiv number, DOI."""
    found: dict[str, str] = {}
    if match := re.search(r"arXiv:\s*(\d{4}\.\d{4,5})", source):
        found |= {"eprint": match[1], "archiveprefix": "arXiv"}
    if match := re.search(r"\bdoi:\s*(10\.[^\s,;]+)", source):
        found["doi"] = escaping.latex(match[1].rstrip("."))
    if match := re.search(r"\b(19[89]\d|20\d\d)\b", re.sub(r"(arXiv|doi):\s*\S+", "", source)):
        found["year"] = match[1]
    if found and (match := re.match(r"([^,\d]+?(?:,[^,\d]+?)*?) (?:19[89]\d|20\d\d)", source)):
        people = match[1].replace(" et al.", " and others").replace(" & ", " and ").replace(", ", " and ")
        found["author"] = escaping.latex(people)
    return found


def _key(source: str, taken: dict[str, str]) -> str:
    """Return a key that no other entry has: the first word and the year."""
    word = re.sub(r"[^a-z]", "", next(iter(source.split()), "").lower()) or "source"
    key = word + _facts(source).get("year", "")
    number = 1
    while key in taken:
        number += 1
        key = f"{word}{_facts(source).get('year', '')}-{number}"
    return key
