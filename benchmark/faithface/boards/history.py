"""A suite's versions and its changelog: one page beside the boards, made from them.

Place in the flow: ``publish.rebuild`` writes :func:`suite_page`. Calls ``changes``, ``frozen`` and ``record``.

    leaderboards/<suite>/README.md      the latest version, all versions, and what changed between them
    leaderboards/<suite>/NOTES.md       by hand, optional: headings ``## v2`` with what the records do not say
"""

from __future__ import annotations

import re
from pathlib import Path

from faithface.boards.changes import diff_boards
from faithface.boards.escaping import markdown
from faithface.boards.frozen import FROZEN, versions
from faithface.boards.record import RECORDS, Kept, read_records
from faithface.hashing import file_hash

NOTES = "NOTES.md"


def suite_page(suite: Path) -> str:
    """Return the page of a suite's versions.

    Args:
        suite: such as ``leaderboards/demo``.

    Raises:
        UsageError: a version's records cannot be read.
    """
    found = [(number, path, read_records(path / RECORDS)) for number, path in versions(suite) if _has_records(path)]
    lines = [f"# {markdown(suite.resolve().name)}"]
    if not found:
        return "\n\n".join([*lines, "No version is published."]) + "\n"
    lines.append(f"Latest: [v{found[-1][0]}](v{found[-1][0]}/README.md).")
    rows = ["| version | records | state |", "| --- | --- | --- |"]
    for number, path, kept in reversed(found):
        rows.append(f"| [v{number}](v{number}/README.md) | {len(kept)} | {_state(path)} |")
    lines.append("\n".join(rows))
    notes = _notes(suite)
    before: list[Kept] | None = None
    parts: list[str] = []
    for number, _path, kept in found:
        body = [notes[number]] if number in notes else []
        if before is None:
            body.append("First version.")
        else:
            body.append("\n".join(f"* {markdown(line)}" for line in diff_boards(before, kept).summary()))
        parts.insert(0, "\n\n".join([f"## v{number}", *body]))
        before = kept
    return "\n\n".join([*lines, *parts]) + "\n"


def _has_records(path: Path) -> bool:
    return next((path / RECORDS).rglob("*.json"), None) is not None


def _state(path: Path) -> str:
    if not (path / FROZEN).is_file():
        return "open: records may still be added"
    return f"frozen: sha256 of `FROZEN` is `{file_hash(path / FROZEN)[:16]}…`"


def _notes(suite: Path) -> dict[int, str]:
    """Return what was written by hand about each version."""
    path = suite / NOTES
    if not path.is_file():
        return {}
    parts = re.split(r"^## v(\d+)\s*$", path.read_text("utf-8"), flags=re.MULTILINE)
    return {int(number): text.strip() for number, text in zip(parts[1::2], parts[2::2], strict=True) if text.strip()}
