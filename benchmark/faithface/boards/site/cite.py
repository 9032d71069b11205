"""How to cite one row of a board: a sentence, and a BibTeX entry. Both name what is needed to find the numbers again.

Place in the flow: ``pages`` puts them on the page of a cell. Calls ``board``, ``record`` and ``render``.
"""

from __future__ import annotations

import re

from faithface.boards.board import Board, Row
from faithface.boards.record import Record
from faithface.boards.render import figure

MOST = 3  # numbers in a citation
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
}


def sentence(board: Board, row: Row, digest: str) -> str:
    """Return the citation as text; ``digest``: the sha256 of the record's file."""
    record = row.record
    shown = _numbers(row)
    return (
        f"faithface leaderboard {board.suite}, version {board.version}: {_flat(record.explainer.spec)} on "
        f"{_flat(record.model.name)}, {_flat(record.dataset.spec)} (revision {_flat(record.dataset.revision)}, "
        f"{record.dataset.samples} samples, seed {record.dataset.seed}){': ' if shown else ''}{'; '.join(shown)}. "
        f"{record.trust}. {_made_by(record)} Record sha256 {digest}."
    )


def bibtex(board: Board, row: Row, digest: str) -> str:
    """Return the citation as a BibTeX entry. No year: records hold no date, and none is made up."""
    record = row.record
    key = re.sub(
        r"[^A-Za-z0-9]+", "-", f"faithface-{board.suite}-v{board.version}-{record.explainer.spec}-{record.model.name}"
    )
    title = (
        f"{_tex(record.explainer.spec)} on {_tex(record.model.name)} and {_tex(record.dataset.spec)}: "
        f"faithface leaderboard {_tex(board.suite)}, version {board.version}"
    )
    note = f"{_tex('; '.join(_numbers(row)))}. {_tex(_made_by(record))} Record sha256 {digest}"
    return (
        f"@misc{{{key.strip('-')[:80]},\n  title = {{{{{title}}}}},\n"
        f"  howpublished = {{faithface leaderboard, {_tex(record.trust)}}},\n  note = {{{note}}},\n}}"
    )


def _numbers(row: Row) -> list[str]:
    shown: list[str] = []
    for number in row.record.numbers:
        if number.value_name or number.number is None or len(shown) == MOST:
            continue
        text = f"{_flat(number.protocol)} {figure(number.number)}"
        if number.low is not None and number.high is not None:
            text += f" [{figure(number.low)}, {figure(number.high)}]"
        shown.append(f"{text}, n = {number.n}")
    return shown


def _made_by(record: Record) -> str:
    commit = record.where.commit.partition("+")[0][:12]
    version = _flat(record.where.versions.get("faithface", "of unknown version"))
    return f"Measured with faithface {version}{f', commit {_flat(commit)}' if commit else ''}."


def _flat(text: str) -> str:
    return " ".join(text.split())


def _tex(text: str) -> str:
    """Return a text that stays inside its braces."""
    return "".join(_SPECIAL.get(letter, letter) for letter in _flat(text))
