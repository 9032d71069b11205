"""Open users' files without surprises: regular files only, up to a stated size, inside the folder they belong to.

Place in the flow: below every reader (``images``, ``npz``, ``tables``, ``toml_files``, ``model``). Imports ``limits``
and ``errors``.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

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
        UsageError: it is not there, is not a regular file (nothing that could block is waited for), is larger than
            ``limit``, or cannot be read. One line, with the path.
    """
    try:
        # Opening a pipe waits for its writer, and a terminal may become the process's own, unless told not to.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
        descriptor = os.open(path, flags)
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
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for test, name in _KINDS if test(found.st_mode)), "no regular file")
        raise UsageError(f"{path} is {kind}; expected a file with {_a(what)}")
    if found.st_size > limit:
        raise UsageError(
            f"{path} has {readable_size(found.st_size)}; {_a(what)} may have {readable_size(limit)} at most"
        )


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
    """Return a path as a user typed it: ``~`` is the home folder, and double quotes around it are taken off."""
    text = str(text).strip()
    text = text[1:-1] if len(text) > 2 and text[0] == text[-1] == '"' else text
    return Path(os.path.expanduser(text))
