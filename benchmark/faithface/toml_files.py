"""Read TOML files (cards and suites), which may come from anyone.

Place in the flow: called by ``card`` and ``run/suite``; imports ``files``, ``limits`` and ``errors``.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from faithface.errors import UsageError
from faithface.files import read_file
from faithface.limits import MAX_TOML_BYTES


def read_toml(path: Path, what: str, expected: str) -> dict[str, Any]:
    """Return a TOML file's content.

    Args:
        path: the file.
        what: what it is, such as "model card".
        expected: what it should contain, for messages.

    Raises:
        UsageError: it cannot be read, is too large, is not UTF-8 or not TOML, or holds what cannot be a value here
            (numbers of thousands of digits, brackets nested thousands deep, control characters).
    """
    data = read_file(path, MAX_TOML_BYTES, what)
    try:
        content = tomllib.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not a TOML file (byte {error.start} is not UTF-8); expected {expected}") from None
    except RecursionError:
        raise UsageError(f"{path}: not a {what}: brackets are nested too deep; expected {expected}") from None
    except (ValueError, TypeError, OverflowError) as error:  # TOMLDecodeError, and int() of too many digits
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"{path}: not a TOML file ({reason[:200]}); expected {expected}") from None
    _check(content, path)
    return content


def _check(value: Any, path: Path) -> None:
    """Refuse numbers beyond 64 bits and control characters, wherever they stand."""
    stack = [("", value)]
    while stack:
        where, one = stack.pop()
        if isinstance(one, dict):
            stack += [(f"{where}.{key}".lstrip("."), inner) for key, inner in one.items()]
            stack += [(f"a key in [{where}]", key) for key in one]
        elif isinstance(one, list):
            stack += [(where, inner) for inner in one]
        elif isinstance(one, int) and not -(2**63) <= one < 2**63:
            raise UsageError(f"{path}: {where[:100]} is a number of {len(str(one))} digits; expected at most 64 bits")
        elif isinstance(one, str) and any(ord(ch) < 32 and ch not in "\t\n\r" for ch in one):
            raise UsageError(f"{path}: {where[:100]!a} holds a control character; expected text")
