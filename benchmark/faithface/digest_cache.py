"""Remember the digests of users' files between runs, so that a large image set is read for them only once.

Place in the flow: below ``files``, whose ``content_digests`` looks here first. Imports the standard library and
platformdirs.

The cache is one SQLite file in the user's cache folder. A digest is reused only while the file's state is
unchanged: device, inode, size, time of modification and time of status change. The last one is set by the system and
cannot be set back, so the replacement of a file by one of the same size and time is detected. The cache may be deleted
at any time; where it cannot be opened, files are read.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

MOST = 1_000_000  # digests that are stored, the latest; 150 bytes each
SETTLED = 2.0  # seconds: two changes within a file system's clock tick give one time
_WAIT = 0.5  # seconds for another process to finish writing


def state_of(found: os.stat_result) -> str:
    """Return what distinguishes one content of a file from a later one."""
    return f"{found.st_dev}:{found.st_ino}:{found.st_size}:{found.st_mtime_ns}:{found.st_ctime_ns}"


def is_settled(found: os.stat_result) -> bool:
    """Say whether a file was last changed so long ago that another change would show in its times."""
    return max(found.st_mtime, found.st_ctime) < time.time() - SETTLED


def cache_file() -> Path:
    """Return the path of the cache: ``digests.sqlite`` in ``FAITHFACE_CACHE``, or in the user's cache folder."""
    from platformdirs import user_cache_path

    return Path(os.environ.get("FAITHFACE_CACHE") or user_cache_path("faithface", False)) / "digests.sqlite"


def recall(states: Mapping[str, str]) -> dict[str, str]:
    """Return the known digests by path, of those paths (absolute) whose state is still the same."""
    found = {}
    with contextlib.suppress(sqlite3.Error, OSError), _opened() as cache:
        for path, state in states.items():
            row = cache.execute("SELECT state, digest FROM digests WHERE path = ?", (os.fsencode(path),)).fetchone()
            if row is not None and row[0] == state:
                found[path] = row[1]
    return found


def remember(digests: Mapping[str, tuple[str, str]]) -> None:
    """Store (state, digest) by absolute path."""
    if not digests:
        return
    rows = [(os.fsencode(path), state, digest) for path, (state, digest) in digests.items()]
    with contextlib.suppress(sqlite3.Error, OSError), _opened() as cache, cache:
        cache.executemany("INSERT OR REPLACE INTO digests (path, state, digest) VALUES (?, ?, ?)", rows)
        cache.execute("DELETE FROM digests WHERE number <= (SELECT max(number) FROM digests) - ?", (MOST,))


@contextlib.contextmanager
def _opened() -> Iterator[sqlite3.Connection]:
    file = cache_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(file, timeout=_WAIT)) as cache:
        cache.execute("PRAGMA synchronous = OFF")  # what a power cut damages is computed again
        cache.execute(
            "CREATE TABLE IF NOT EXISTS digests "
            "(number INTEGER PRIMARY KEY, path BLOB UNIQUE NOT NULL, state TEXT NOT NULL, digest TEXT NOT NULL)"
        )
        yield cache
