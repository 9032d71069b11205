"""One writer per run: an advisory lock on a file of the run directory, which says who holds it.

Place in the flow: ``store`` takes it before it opens a run for writing. Imports ``errors`` only. The system drops the
lock when the process ends, however it ends; the file that stays behind is then nobody's.
"""

from __future__ import annotations

import json
import os
import platform
import time
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from faithface.errors import RunError

LOCK = "run.lock"


class RunLock:
    """The lock of a run directory, held from construction to :meth:`release`.

    Raises:
        RunError: another process holds it; the text says which, where and since when.
        OSError: the file cannot be written.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / LOCK
        self._file: IO[str] | None = self.path.open("a+", encoding="utf-8")
        if not _lock_soon(self._file):
            self._file.close()
            raise RunError(f"{directory} is being written by {held_by(directory)}; wait for it to end")
        self._file.seek(0)
        self._file.truncate()
        json.dump({"pid": os.getpid(), "host": platform.node(), "since": time.time()}, self._file)
        self._file.flush()

    def release(self) -> None:
        """Give the lock back; the file is emptied, so that no name stays in a finished run."""
        if self._file is not None:
            try:
                self._file.seek(0)
                self._file.truncate()
            finally:
                self._file.close()  # which drops the lock
                self._file = None


def holder(directory: Path) -> dict[str, Any] | None:
    """Return who holds a run directory (``pid``, ``host``, ``since`` in seconds of the epoch); None: nobody."""
    path = directory / LOCK
    try:
        with path.open("r+", encoding="utf-8") as file:
            try:
                _lock(file)
            except OSError:
                try:
                    return dict(json.loads(path.read_text(encoding="utf-8")))
                except ValueError:
                    return {}
    except OSError:
        pass
    return None


def held_by(directory: Path) -> str:
    """Return who holds a run directory, in words."""
    found = holder(directory) or {}
    if "pid" not in found:
        return "another process"
    since = datetime.fromtimestamp(found["since"]).strftime("%Y-%m-%d %H:%M:%S")
    return f"process {found['pid']} on {found['host']} since {since}"


def _lock_soon(file: IO[str]) -> bool:
    """Lock a file, trying again for a moment: :func:`holder` looks by taking the lock for an instant."""
    for attempt in range(5):
        try:
            _lock(file)
            return True
        except OSError:
            if attempt < 4:
                time.sleep(0.05)
    return False


def _lock(file: IO[str]) -> None:
    """Lock an open file without waiting; OSError if somebody else has."""
    if os.name == "nt":
        import msvcrt

        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        import fcntl

        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
