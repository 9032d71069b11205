"""Digests of files.

Place in the flow: below everything but ``errors``.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from faithface.errors import UsageError


def file_hash(path: Path) -> str:
    """Return the sha256 of a file.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}); put the model's weights there") from None
