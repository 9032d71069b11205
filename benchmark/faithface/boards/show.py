"""A board in the form that was asked for: for a terminal, a page, a paper or a program.

Place in the flow: ``faithface leaderboard show`` prints what :func:`shown` returns. Calls ``terminal``, ``render`` and
``formats``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from faithface.boards.board import Board, Table
from faithface.boards.formats import bibtex, board_json, latex
from faithface.boards.render import markdown
from faithface.boards.spreadsheet import table_csv
from faithface.boards.terminal import board_text
from faithface.errors import UsageError, nearest


def shown(board: Board, form: str, protocols: Sequence[str] = (), wide: bool = False) -> str:
    """Return a board as text that ends in a line break.

    Args:
        form: ``text``, ``markdown``, ``latex``, ``csv``, ``json`` or ``bibtex``.
        protocols: the columns to show; none: all.
        wide: of ``text``, every protocol in full.

    Raises:
        UsageError: no table has a protocol.
    """
    if protocols:
        known = [column.protocol for table in board.tables for column in table.columns]
        for protocol in protocols:
            if protocol not in known:
                raise UsageError(f'no table has the protocol "{protocol}"; {nearest(protocol, known)}')
        tables = (only(table, protocols) for table in board.tables)
        board = dataclasses.replace(board, tables=tuple(table for table in tables if table.columns))
    if form == "latex":
        return "\n".join(latex(table) for table in board.tables)
    if form == "csv":
        parts = [table_csv(table) for table in board.tables]
        return parts[0] + "".join(part.split("\n", 1)[1] for part in parts[1:]) if parts else ""
    if form == "json":
        return board_json(board)
    if form == "bibtex":
        return bibtex(board.records)
    if form == "markdown":
        return markdown(board)
    return board_text(board, wide=wide) + "\n"


def only(table: Table, protocols: Sequence[str]) -> Table:
    """Return a table with some columns only; ranks and order stay as they are."""
    columns = tuple(column for column in table.columns if column.protocol in protocols)
    numbers = {id(row): tuple(n for n in row.record.numbers if n.protocol in protocols) for row in table.rows}
    rows = tuple(
        dataclasses.replace(row, record=row.record.model_copy(update={"numbers": numbers[id(row)]}))
        for row in table.rows
    )
    splits = tuple(split for split in table.splits if split.protocol in protocols)
    return dataclasses.replace(table, columns=columns, rows=tuple(rows), splits=splits)
