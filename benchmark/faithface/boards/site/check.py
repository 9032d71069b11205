"""Whether the pages of a board on disk are those that its records, gallery and audit give, byte for byte.

Place in the flow: ``boards.check`` asks :func:`site_findings`. Calls ``pages``, which draws every figure anew:
nothing of the site that lies there is reused.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from faithface.boards.board import make_board
from faithface.boards.findings import Check, Finding
from faithface.boards.record import Kept
from faithface.boards.site.extras import read_extras
from faithface.boards.site.figures import MANIFEST, drawn_by
from faithface.boards.site.links import SITE
from faithface.boards.site.pages import site_files
from faithface.boards.tiers import tiers_for
from faithface.boards.verdicts import audit_for


def site_findings(board: Path, kept: Sequence[Kept]) -> list[Finding]:
    """Return the files of a board's site that differ, are missing, or are made from nothing.

    Args:
        board: the board's folder.
        kept: its records.

    Raises:
        UsageError: a gallery cannot be read.
    """
    folder = board / SITE
    found = []
    wanted = set()
    for name, content in site_files(make_board(kept, audit_for(board), tiers_for(board)), read_extras(board)):
        path = folder / name
        wanted.add(path)
        if not path.is_file():
            found.append(_finding(name, "is missing; `build` makes it"))
        elif path.read_bytes() != content:
            found.append(
                _finding(
                    name, f"differs from what records and gallery give; `build --redraw` makes it{_why(name, path)}"
                )
            )
    found += [
        _finding(path.relative_to(folder).as_posix(), "is made from nothing; `build` removes it")
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path not in wanted
    ]
    return found


def _finding(name: str, detail: str) -> Finding:
    return Finding(f"{SITE}/{name}", Check.SITE, detail)


def _why(name: str, path: Path) -> str:
    """Say so where figures were drawn by another matplotlib than the one here."""
    if name != MANIFEST:
        return ""
    here = drawn_by()["matplotlib"]
    try:
        there = json.loads(path.read_bytes())["drawn_by"]["matplotlib"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return "" if there == here else f" (figures drawn by matplotlib {there}; here is {here})"
