"""Open users' files without surprises: regular files only, up to a stated size, inside the folder they belong to.

Place in the flow: below every reader (``images``, ``npz``, ``tables``, ``toml_files``, ``model``). Imports
``digest_cache``, ``limits`` and ``errors``.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from faithface import digest_cache
from faithface.errors import UsageError
from faithface.limits import readable_size

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def read_file(path: Path, limit: int, what: str = "file") -> bytes:
    """Return the content of a regular file.

    Args:
        path: the file; links are followed.
        limit: the largest size in bytes.
        what: what it should be, for messages, such as "image".

    Raises:
        UsageError: it is missing, is not a regular file (the call never blocks), is larger than
            ``limit``, or cannot be read. One line, with the path.
    """
    try:
        descriptor = _open(path)
        try:
            refuse_unless_regular(os.fstat(descriptor), path, limit, what)
            with open(descriptor, "rb", closefd=False) as file:
                content = file.read(limit + 1)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        raise unreadable(path, error, what) from None
    if len(content) > limit:
        raise UsageError(f"{path} grew beyond {readable_size(limit)} while it was read")
    return content


def _open(path: Path | str) -> int:
    """Return a descriptor for reading."""
    # Without these flags, opening a pipe waits for its writer, and a terminal may become the process's own.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
    return os.open(path, flags)


def content_digest(path: Path | str) -> str:
    """Return the sha256 of a file's content, 64 hex digits. An unchanged file is not read again.

    Digests are stored between runs (see ``digest_cache``). Equal digests mean equal content, wherever the files are and
    whatever their names.

    Raises:
        UsageError: it is not there, is not a regular file, or cannot be read.
    """
    found = content_digests([path])[os.path.abspath(path)]
    if isinstance(found, UsageError):
        raise found
    return found


def content_digests(paths: Iterable[Path | str]) -> dict[str, str | UsageError]:
    """As :func:`content_digest`, of many files at once; by absolute path, with an error for a file that has none."""
    made: dict[str, str | UsageError] = {}
    states: dict[str, str] = {}
    for path in {os.path.abspath(path) for path in paths}:
        try:
            found = os.stat(path)
            _refuse_irregular(found, Path(path), "file")
            states[path] = digest_cache.state_of(found)
        except (OSError, ValueError) as error:
            made[path] = unreadable(Path(path), error, "file")
        except UsageError as error:
            made[path] = error
    known = digest_cache.recall(states)
    fresh = [path for path in states if path not in known]
    lasting: dict[str, tuple[str, str]] = {}
    with ThreadPoolExecutor(max_workers=4) as pool:  # reading and hashing both release Python's lock
        for path, (digest, state) in zip(fresh, pool.map(_digest, fresh), strict=True):
            made[path] = digest
            if state and isinstance(digest, str):
                lasting[path] = (state, digest)
    digest_cache.remember(lasting)
    return {**made, **known}


def _digest(path: str) -> tuple[str | UsageError, str]:
    """Return a file's sha256, and the state that it belongs to; "" where the file may still be changing."""
    try:
        descriptor = _open(path)
        try:
            before = os.fstat(descriptor)
            _refuse_irregular(before, Path(path), "file")
            with open(descriptor, "rb", closefd=False) as file:
                made = hashlib.file_digest(file, "sha256").hexdigest()
            after = os.fstat(descriptor)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        return unreadable(Path(path), error, "file"), ""
    except UsageError as error:
        return error, ""
    state = digest_cache.state_of(after)
    return made, state if state == digest_cache.state_of(before) and digest_cache.is_settled(after) else ""


def check_file(path: Path, limit: int, what: str = "file") -> int:
    """Return the size of a regular file within a limit, without reading it; raises as :func:`read_file`."""
    try:
        found = path.stat()
        refuse_unless_regular(found, path, limit, what)
        if not os.access(path, os.R_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except (OSError, ValueError) as error:
        raise unreadable(path, error, what) from None
    return found.st_size


def refuse_unless_regular(found: os.stat_result, path: Path, limit: int, what: str) -> None:
    """Raise UsageError unless a path's status is that of a regular file of at most ``limit`` bytes."""
    _refuse_irregular(found, path, what)
    if found.st_size > limit:
        raise UsageError(
            f"{path} has {readable_size(found.st_size)}; {_a(what)} may have {readable_size(limit)} at most"
        )


def _refuse_irregular(found: os.stat_result, path: Path, what: str) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for test, name in _KINDS if test(found.st_mode)), "no regular file")
        raise UsageError(f"{path} is {kind}; expected a file with {_a(what)}")


def unreadable(path: Path, error: OSError | ValueError, what: str) -> UsageError:
    """Return the error for a path that the system does not open."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return UsageError(f"{path}: no such {what}")
    if isinstance(error, OSError) and error.errno == errno.ENXIO:  # a socket
        return UsageError(f"{path} is a socket or a device; expected a file with {_a(what)}")
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return UsageError(f"{path!s:.500} cannot be read ({why})".replace("\0", "\\0"))


def _a(what: str) -> str:
    return f"{'an' if what[:1].lower() in 'aeio' else 'a'} {what}"


def is_inside(path: Path, root: Path) -> bool:
    """Say whether a path, with all links followed, lies in a folder."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))


def shorten(value: object, limit: int = 80) -> str:
    """Return a value as Python writes it, cut to fit into one line of a message.

    Examples:
        >>> shorten("x" * 200, 10)
        "'xxxxxx...'"
    """
    text = value if isinstance(value, str) else str(value)
    text = text if len(text) <= limit - 2 else text[: limit - 4] + "..."
    return repr(text) if isinstance(value, str) else text


def user_path(text: str | Path) -> Path:
    """Return a path as a user typed it: ``~`` is the home folder, and double quotes around it are removed."""
    text = str(text).strip()
    text = text[1:-1] if len(text) > 2 and text[0] == text[-1] == '"' else text
    return Path(os.path.expanduser(text))
