"""Sample ids from file names: safe as file names, readable in every script, unique by construction.

Place in the flow: called by the datasets of files. Imports nothing of the package.

All random numbers of a sample come from its id, so the rule never changes: an ASCII name always gives the same id.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
MAX_ID_BYTES = 110  # beyond it an id with other letters is cut, so that it stays a file name everywhere


def safe_id(text: str) -> str:
    """Turn a relative path without its suffix into a safe file name: letters and digits of any script, ``._-``.

    Every other character becomes ``_``. Other scripts are brought to Unicode's composed form, since systems write one
    name with different characters; two different texts may give one id (see :func:`unique_ids`).

    Examples:
        >>> safe_id("s1/frame 1")
        's1_frame_1'
        >>> safe_id("José/José_0001")
        'José_José_0001'
    """
    if text.isascii():
        return _UNSAFE.sub("_", text)
    composed = unicodedata.normalize("NFC", text)
    made = "".join(ch if _is_letter(ch) or ch in "._-" else "_" for ch in composed)
    return made if len(made.encode()) <= MAX_ID_BYTES else _cut(made, text)


def _is_letter(ch: str) -> bool:
    # Marks (M) are vowels and accents of many scripts.
    return unicodedata.category(ch)[0] in "LNM"


def _cut(made: str, text: str) -> str:
    head = made.encode()[: MAX_ID_BYTES - 9].decode(errors="ignore")
    return f"{head}-{_digest(text, 8)}"


def _digest(text: str, length: int) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:length]


def unique_ids(wanted: Sequence[str], sources: Sequence[str]) -> list[str]:
    """Return the wanted ids; where several samples want the same, each gets a part of its source's digest too.

    Args:
        wanted: an id for each sample.
        sources: what distinguishes the samples, such as the relative path with its suffix; all different.
    """
    counts = Counter(wanted)
    taken = {one for one, count in counts.items() if count == 1}
    made = []
    for one, source in zip(wanted, sources, strict=True):
        if counts[one] > 1:
            length = 8
            while (longer := f"{one}-{_digest(source, length)}") in taken:
                length += 8
            one = longer
            taken.add(one)
        made.append(one)
    return made


def clean_name(name: str) -> str:
    """Return a file name as text that can be stored: bytes that are not UTF-8 are written as ``\\\\xhh``."""
    return name if name.isascii() else os.fsencode(name).decode("utf-8", "backslashreplace")
