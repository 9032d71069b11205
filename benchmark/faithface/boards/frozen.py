"""Versions of a board: which there are, which is the latest, and which may no longer change.

Place in the flow: ``publish`` asks before it writes, ``validate`` compares; ``faithface leaderboard freeze`` calls
:func:`freeze`. Imports the standard library, ``durable`` and ``errors``.

    leaderboards/<suite>/v<N>/FROZEN        the sha256 of each file, as ``sha256sum -c FROZEN`` reads it

What is frozen are the records and what is made from them. Attestations and the levels in ``trust.csv`` are not, since a
record may be verified later; nor is the site, which is made anew.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from faithface.durable import write_whole
from faithface.errors import UsageError
from faithface.hashing import file_hash

FROZEN = "FROZEN"
LATEST = "latest"
TRUST = "trust.csv"
FROZEN_PARTS = ("records", "tables", "README.md")
VERSION = re.compile(r"v(\d+)")


def versions(suite: Path) -> list[tuple[int, Path]]:
    """Return the versions of a suite's boards, the oldest first."""
    if not suite.is_dir():
        return []
    found = [(int(match[1]), path) for path in suite.iterdir() if (match := VERSION.fullmatch(path.name))]
    return sorted(one for one in found if one[1].is_dir())


def board_at(path: Path) -> Path:
    """Return a board's folder: the path itself, or the highest version for ``<suite>/latest`` or ``<suite>``.

    Raises:
        UsageError: the suite has no version.
    """
    if path.name == LATEST and not path.exists():
        path = path.parent
        if not versions(path):
            raise UsageError(f"{path} holds no version of a board, such as v1")
    found = versions(path)
    return found[-1][1] if found and not (path / "records").is_dir() else path


def freeze(board: Path) -> Path:
    """Write a board's ``FROZEN``: from now on its records and tables are what they are. Return its path.

    Raises:
        UsageError: it is frozen already and was changed since, or it is no board.
    """
    if not (board / "README.md").is_file() or not (board / "records").is_dir():
        raise UsageError(f"{board} is no board that was built; `faithface leaderboard build` makes one")
    changed = changed_since_frozen(board)
    if changed:
        raise UsageError(
            f"{board} is frozen and was changed since: {_some(changed)}; restore it, or make a new version"
        )
    lines = [f"{sha256}  {name}\n" for name, sha256 in digests(board).items()]
    write_whole(board / FROZEN, lambda file: file.write("".join(lines).encode("utf-8")))
    return board / FROZEN


def digests(board: Path) -> dict[str, str]:
    """Return the sha256 of each file of a board that freezing covers, by its relative path."""
    paths = [board / "README.md"]
    for part in ("records", "tables"):
        paths += sorted(path for path in (board / part).rglob("*") if path.is_file())
    return {path.relative_to(board).as_posix(): file_hash(path) for path in paths if path.is_file()}


def frozen_digests(board: Path) -> dict[str, str] | None:
    """Return the sha256 of each file when the board was frozen; None: it is not frozen.

    Raises:
        UsageError: FROZEN is not what ``freeze`` writes.
    """
    path = board / FROZEN
    if not path.is_file():
        return None
    found = {}
    for line in path.read_text("utf-8", errors="replace").splitlines():
        sha256, _, name = line.partition("  ")
        if not re.fullmatch(r"[0-9a-f]{64}", sha256) or not name:
            raise UsageError(f"{path}: {line[:60]!r} is no line of a frozen board; restore the file")
        found[name] = sha256
    return found


def changed_since_frozen(board: Path) -> list[str] | None:
    """Return the files that differ from when the board was frozen, are gone or are new; None: it is not frozen."""
    before = frozen_digests(board)
    if before is None:
        return None
    now = digests(board)
    return sorted(name for name in {**before, **now} if before.get(name) != now.get(name))


def refuse_if_frozen(board: Path, files: Mapping[str, bytes]) -> None:
    """Refuse to write files of a frozen board that would change it.

    Args:
        files: what is to be written, by relative path.

    Raises:
        UsageError: the board is frozen, and a file of those that freezing covers would change.
    """
    if frozen_digests(board) is None:
        return
    changed = [
        name
        for name, content in files.items()
        if name.partition("/")[0] in FROZEN_PARTS
        and not ((board / name).is_file() and (board / name).read_bytes() == content)
    ]
    if changed:
        raise UsageError(
            f"{board} is frozen, and {_some(changed)} would change; raise the version in the suite file, and publish "
            "the new one beside it"
        )


def _some(names: list[str]) -> str:
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")
