"""Lines for a person: wrapped on a terminal, as they are elsewhere.

Place in the flow: used by the commands beside it. Imports only the standard library.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from typing import TextIO


def say(text: str, stream: TextIO | None = None) -> None:
    """Print a line (default: on stderr); on a terminal it is broken at words, and continued with an indent."""
    out = stream or sys.stderr
    print("\n".join(wrapped(text, shutil.get_terminal_size().columns)) if out.isatty() else text, file=out, flush=True)


def wrapped(text: str, width: int) -> list[str]:
    """Return a line in pieces of at most ``width``; one without a space (a path) is cut where it must be.

    Examples:
        >>> wrapped("run: a folder", 9)
        ['run: a', '  folder']
    """
    indent = text[: len(text) - len(text.lstrip())]
    more = f"{indent}  "
    return textwrap.wrap(
        text.strip(), width, initial_indent=indent, subsequent_indent=more, break_on_hyphens=False
    ) or [""]
