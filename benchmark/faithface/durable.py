"""Writing files so that they exist completely or not at all, also after a crash or a power cut.

Place in the flow: used by ``run`` and ``boards`` for everything that they write to disk beside the store. Imports
``errors`` only. The recipe is the usual one: write beside the target, flush to disk, rename over it, flush the folder.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from faithface.errors import RunError

AGAIN = "make room or correct the permissions, then give the same command again"


def cannot_write(path: Path, error: OSError) -> RunError:
    """Return the one-line error for a file that cannot be written."""
    return RunError(f"{path} cannot be written ({error.strerror or error}); {AGAIN}")


def write_whole(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Write a file through ``fill``: afterwards it holds the new content, or what it held before.

    Raises:
        RunError: it cannot be written; the partial file is removed.
    """
    begun = path.with_name(f"{path.name[:80]}.part")
    # Filled in memory: a library that writes to a full disk itself reports it by an error of its own kind.
    content = BytesIO()
    fill(content)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with begun.open("wb") as file:
                file.write(content.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            os.replace(begun, path)
        except BaseException:
            begun.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from None


def replace_folder(new: Path, target: Path) -> None:
    """Put the folder ``new`` in the place of ``target``: a reader finds the old one, the new one, or none.

    Raises:
        RunError: it cannot be done.
    """
    old = target.with_name(f"{target.name}.old")
    try:
        for folder in (new, *(path for path in new.rglob("*") if path.is_dir())):
            sync_folder(folder)
        if old.exists():
            shutil.rmtree(old)
        if target.exists():
            os.rename(target, old)
        os.rename(new, target)
        sync_folder(target.parent)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise cannot_write(target, error) from None


def sync_folder(folder: Path) -> None:
    """Flush a folder's list of names to disk, where the system can."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
