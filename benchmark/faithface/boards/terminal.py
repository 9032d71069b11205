"""A run's tables for a terminal: 80 columns, one protocol after the other, best first, and what may be claimed.

Place in the flow: ``faithface run`` and ``leaderboard show`` print what :func:`board_text` returns. Calls ``board`` and
``render``; returns text and prints nothing.

For each model and dataset the first protocol is shown in full: rank, number, 95 % interval, and one sentence on which
methods cannot be told apart from the best. The other protocols follow as a compact table of numbers, in which a letter
marks the tie class of each method: ``a`` is the class of the best.
"""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Sequence

from faithface.boards.board import Board, Column, Row, Table, passed
from faithface.boards.claims import claim, with_number
from faithface.boards.controls import controls_text
from faithface.boards.escaping import cell_width, plain
from faithface.boards.flags import flag_lines, implausible
from faithface.boards.legend import marks_text
from faithface.boards.render import ARROW, JUDGED, clean_text, figure, heading, shown_columns
from faithface.boards.verdicts import APART, SIGNS

WIDTH = 80
NAME = 22  # columns for an explainer's name
RANKED = "also (number and tie class; a is the class of the best{}{})"
UNRANKED = "–"  # stands for the letter where there are too few samples to rank
SHOWN = {
    "gate": "gates (passed or failed, not ranked)",
    "description": "descriptions of maps (not ranked)",
    "cost": "cost (not ranked)",
}
NOT_JUDGING = "metrics that the audit does not let judge (not ranked)"
CONTROLS = "  controls, not ranked (explained below)"
CELL = 13  # columns for a number and its class in the compact table


def board_text(board: Board, width: int = WIDTH, wide: bool = False) -> str:
    """Return all tables of a board.

    Args:
        width: columns of the terminal, at least 60.
        wide: show every protocol in full.
    """
    width = max(60, width)
    parts = [table_text(table, width, wide) for table in board.tables]
    if marks := marks_text(column for table in board.tables for column in shown_columns(table)):
        parts.append("\n".join(_hanging(line, width) for line in marks))
    controls = [row.title for table in board.tables if table.kind == "explainers" for row in table.rows if row.control]
    if legend := controls_text(controls):
        parts.append("\n".join(_wrap(legend, width)))
    return "\n\n".join(parts)


def table_text(table: Table, width: int = WIDTH, wide: bool = False) -> str:
    """Return one table: its heading, the first protocol in full, and the others in short."""
    record = table.first
    data = record.dataset
    facts = [f"{data.samples} of {data.size} samples", clean_text(record)]
    if table.kind == "explainers" and record.model.threshold is not None:
        facts.append(f"decision threshold {figure(record.model.threshold)}")
    lines = [*(f"! {line}" for line in implausible(table)), heading(table), " · ".join(facts)]
    lines = [line for one in lines for line in _wrap(one, width)]
    columns = shown_columns(table)
    full = columns if wide else columns[:1]
    for column in full:
        lines += ["", *protocol_lines(table, column, width)]
    rest = [column for column in columns if column not in full]
    judging = [column for column in rest if column.standing.judges]
    if judging:
        few = any(_too_few(row, column) for row in table.rows for column in judging)
        signs = sorted({SIGNS[c.standing.mark] for c in judging if c.standing.mark})
        title = RANKED.format("; –: too few to rank" if few else "", f"; {' '.join(signs)}: below" if signs else "")
        lines += ["", *compact_lines(table, judging, width, title)]
    unfit = [column for column in rest if not column.standing.judges and column.sample.family not in APART]
    groups = [(NOT_JUDGING, unfit)]
    groups += [(title, [c for c in rest if c.sample.family == family]) for family, title in SHOWN.items()]
    for title, part in groups:
        if part:
            lines += ["", *compact_lines(table, part, width, title)]
    flags = [piece for line in flag_lines(table) for piece in _wrap(f"! {line}", width)]
    if flags:
        lines += ["", *flags]
    return "\n".join(lines)


def protocol_lines(table: Table, column: Column, width: int) -> list[str]:
    """Return one protocol in full: methods best first, then controls, then what may be claimed."""
    one = column.sample
    rows = with_number(table, column)
    name = min(_width_of_names(rows), width - 40)
    judged = "" if one.which == "all" else f" · {JUDGED.get(one.which, one.which)}"
    counts = sorted({number.n for row in rows if (number := row.number(column.protocol))})
    n = f" · n = {counts[-1]}" if counts else ""
    mark = column.standing.mark
    marked = f" · {SIGNS[mark]} {mark}" if mark else ""
    lines = _wrap(f"{column.protocol}, {one.better} is better{judged}{n}{marked}", width)
    lines.append(f"  {'rank':>5}  {'':<{name}}  {'number':>8}  95 % interval")
    for row in [row for row in rows if not row.control]:
        lines.append(_full_line(row, column, name, width))
    controls = [row for row in rows if row.control]
    if controls:
        lines.append(CONTROLS)
        lines += [_full_line(row, column, name, width) for row in controls]
    lines += [f"  {line}" for line in _wrap(claim(table, column), width - 2)]
    return lines


def _full_line(row: Row, column: Column, name: int, width: int) -> str:
    number = row.number(column.protocol)
    place = row.places.get(column.protocol)
    rank = "" if row.control else "–" if place is None or place.best is None else place.text
    if number is None or number.number is None:
        why = "–" if number is None else (number.reason or str(number.status))
        return f"  {'':>5}  {_name(row.title, name)}  {_cut(why, width - name - 12)}"
    interval = ""
    if number.low is not None and number.high is not None:
        interval = f"[{figure(number.low):>7}, {figure(number.high):>7}]"
    return f"  {rank:>5}  {_name(row.title, name)}  {figure(number.number):>8}  {interval}".rstrip()


def compact_lines(table: Table, columns: Sequence[Column], width: int, title: str) -> list[str]:
    """Return several protocols in short, as many beside each other as fit: a number and the letter of its class."""
    name = _width_of_names(table.rows)
    fit = max(1, (width - name - 2) // (CELL + 1))
    lines = _wrap(title, width)
    for start in range(0, len(columns), fit):
        part = columns[start : start + fit]
        heads = [_heads(column) for column in part]
        deep = max(len(head) for head in heads)
        for level in range(deep):
            texts = [head[level - deep + len(head)] if level >= deep - len(head) else "" for head in heads]
            lines.append((f"  {'':<{name}}" + "".join(f" {text:>{CELL}}" for text in texts)).rstrip())
        for control, rows in itertools.groupby(table.rows, key=lambda row: row.control):
            lines += ["  controls"] if control else []
            for row in rows:
                cells = [_short_cell(row, column) for column in part]
                lines.append((f"  {_name(row.title, name)}" + "".join(f" {cell:>{CELL}}" for cell in cells)).rstrip())
        lines.append("")
    return lines[:-1]


def _short_cell(row: Row, column: Column) -> str:
    number = row.number(column.protocol)
    if number is None or number.number is None:
        return "–" if number is None or number.status != "failed" else "failed"
    gate = passed(number)
    if gate is not None:
        return f"{'passed' if gate else 'failed'}  "
    place = row.places.get(column.protocol)
    if place is None:
        return f"{figure(number.number)}  "
    letter = UNRANKED if place.tie_class is None else _letter(place.tie_class)
    return f"{figure(number.number)} {letter}"


def _too_few(row: Row, column: Column) -> bool:
    place = row.places.get(column.protocol)
    return place is not None and place.tie_class is None


def _letter(tie_class: int) -> str:
    return chr(ord("a") + tie_class - 1) if tie_class <= 26 else "z"


def _heads(column: Column) -> list[str]:
    """Return a protocol's name without its version, its parameters and its direction, in lines of at most ``CELL``."""
    name, _, rest = column.protocol.partition("@")
    parameters = [part for part in rest.partition("(")[2].rstrip(")").split(",") if part]
    lines = [""]
    # textwrap would break at hyphens only where a word is too long for a line; here every hyphen is a place to break.
    signs = f" {ARROW[column.sample.better]}{SIGNS[column.standing.mark]}"
    words = [*re.findall(r"[^-]+-?", name), *(f" {part}" for part in parameters), signs]
    for word in words:
        if len(lines[-1] + word) <= CELL:
            lines[-1] = (lines[-1] + word).lstrip()
        else:
            fitting = word.strip() if len(word.strip()) <= CELL else word.strip().rstrip("-")
            lines.append(_cut(fitting, CELL))
    return [line for line in lines if line]


def _width_of_names(rows: Sequence[Row]) -> int:
    return min(NAME, max((cell_width(plain(row.title)) for row in rows), default=4))


def _cut(text: str, width: int) -> str:
    """Return a text in one line of at most ``width`` columns."""
    text = plain(text)
    if cell_width(text) <= width:
        return text
    while cell_width(text) > width - 1:
        text = text[:-1]
    return f"{text}…"


def _name(text: str, width: int) -> str:
    """Return a text cut or padded to ``width`` columns."""
    cut = _cut(text, width)
    return cut + " " * (width - cell_width(cut))


def _hanging(line: str, width: int) -> str:
    """Return a line of the legend of marks; those that name protocols are set in."""
    first, rest = ("", "  ") if line[:1] in SIGNS.values() else ("  ", "      ")
    return textwrap.fill(
        plain(line), width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False, break_long_words=True
    )


def _wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(plain(text), width, break_on_hyphens=False) or [""]
