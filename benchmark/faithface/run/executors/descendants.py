"""The processes that a process has started, and those that these have started: found and ended, wherever they went.

Place in the flow: ``child`` ends what a worker leaves, ``worker`` what it has itself when its driver is gone. Linux
only; elsewhere nothing is found. Imports the standard library alone.

A process may leave its session and its process group, but not its ancestors, as long as one of them asks to become the
parent of orphans (:func:`adopt`). The server from which workers are forked does, and each worker does.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


def adopt() -> None:
    """Become the parent of processes below this one whose own parent ends."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children(process: int) -> list[int]:
    """Return the live processes that a process is the parent of."""
    found: list[int] = []
    for task in _tasks(process):
        with contextlib.suppress(OSError):
            found += map(int, (task / "children").read_text().split())
    return [one for one in found if not _has_ended(one)]


def _tasks(process: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{process}/task").iterdir())
    except OSError:
        return []


def _has_ended(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (OSError, IndexError):
        return True


def descendants(process: int) -> list[int]:
    """Return the live processes below a process, parents first."""
    found: list[int] = []
    todo = children(process)
    while todo:
        found += todo
        todo = [below for one in todo for below in children(one)]
    return found


def end_below(process: int) -> None:
    """End all processes below a process that starts none itself meanwhile."""
    for _round in range(20):  # some may have started others between being found and being ended
        found = descendants(process)
        if not found:
            return
        for one in found:
            with contextlib.suppress(OSError):
                os.kill(one, signal.SIGKILL)
