"""A suite's versions and its changelog: one page beside the boards, made from them.

Place in the flow: ``publish.rebuild`` writes :func:`suite_page`. Calls ``changes``, ``frozen``, ``record`` and
``verdicts``.

    leaderboards/<suite>/README.md      the latest version, all versions, and what changed between them
    leaderboards/<suite>/NOTES.md       by hand, optional: headings ``## v2`` with what the records do not say
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from pathlib import Path

from faithface.boards.changes import diff_boards
from faithface.boards.escaping import markdown
from faithface.boards.frozen import FROZEN, versions
from faithface.boards.record import RECORDS, Kept, read_records
from faithface.boards.verdicts import Audit, audit_for, standing
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
    audit = audit_for(found[-1][1])
    before: list[Kept] | None = None
    parts: list[str] = []
    for number, path, kept in found:
        body = [notes[number]] if number in notes else []
        if before is None:
            body.append("First version.")
        else:
            body.append("\n".join(f"* {markdown(line)}" for line in diff_boards(before, kept, audit).summary()))
        body += _unfit(path, kept, audit)
        parts.insert(0, "\n\n".join([f"## v{number}", *body]))
        before = kept
    return "\n\n".join([*lines, *parts]) + "\n"


def _unfit(path: Path, kept: Iterable[Kept], audit: Audit) -> list[str]:
    """Return a paragraph on the metrics by which the tables of a frozen version rank, and may not by today's audit."""
    ranked = _ranked(path / "tables") if (path / FROZEN).is_file() else set()
    families = {number.protocol: number.family for one in kept for number in one.record.numbers}
    known = {protocol: standing(protocol, families.get(protocol, ""), audit) for protocol in sorted(ranked)}
    lines = [f"* `{protocol}` {markdown(one.why)}" for protocol, one in known.items() if not one.judges]
    if not lines:
        return []
    said = "Frozen before the audit of the metrics found what it finds today. Ranks in its tables do not count for:"
    return ["\n".join([said, "", *lines])]


def _ranked(tables: Path) -> set[str]:
    """Return the protocols by which the tables on disk rank."""
    found = set()
    for path in tables.glob("*.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            found |= {line["protocol"] for line in csv.DictReader(file) if line.get("rank")}
    return found


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
