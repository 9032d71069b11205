"""Names of runs' things as parts of paths.

Place in the flow: used by ``driver``, ``family``, ``export`` and ``boards``, so that all of them look in the same
place. Imports only the standard library.
"""

from __future__ import annotations

import functools
import hashlib
import re
import unicodedata
from pathlib import Path

_SIGNS = "()@=,._+-"
_DIGEST = re.compile(r"-[0-9a-f]{64}")
# Windows keeps these names, with any suffix, for devices.
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")
LONGEST = 120  # bytes as UTF-8


@functools.lru_cache(maxsize=1 << 16)
def safe(text: str) -> str:
    """Return a text as a safe file name: itself where it is one, else a readable part of it and its sha256.

    Letters and digits of every script are kept. Different texts have different names, also where a file system tells
    neither upper from lower case nor composed from decomposed letters: a plain name is kept only if it is in lower
    case, composed (Unicode NFC), and does not itself end in a digest.

    Examples:
        >>> safe("fggb(reading=signed)")
        'fggb(reading=signed)'
        >>> safe("attack--josé_0001")
        'attack--josé_0001'
        >>> safe("pairs:faces/pairs.csv@faces/150")[:26]
        'pairs-pairs.csv@150-790fc1'
        >>> len(safe("IMG_0001"))
        73
    """
    if _is_plain(text) and not _DIGEST.fullmatch(text[-65:]) and not _DEVICES.fullmatch(text):
        return text
    composed = unicodedata.normalize("NFC", short(text).casefold())
    readable = re.sub("\0+", "-", "".join(ch if _is_kept(ch) else "\0" for ch in composed)).strip("-.,+")[:80]
    readable = readable.encode()[:LONGEST].decode(errors="ignore")
    readable = f"x-{readable}" if _DEVICES.fullmatch(readable) else readable
    # A text from a file's name may hold half of a surrogate pair, which plain UTF-8 cannot write.
    return f"{readable or 'x'}-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


def _is_plain(text: str) -> bool:
    """Say whether a text is a file name that no other text shares, on any file system."""
    if not all(map(_is_kept, text)) or text[:1] in ("", *",._+-") or text.endswith("."):
        return False
    # Some letters are no upper case of their own, but become one that others share (dotless i, long s).
    one_case = text == text.casefold() == text.upper().lower()
    return one_case and unicodedata.is_normalized("NFC", text) and len(text.encode()) <= LONGEST


def _is_kept(ch: str) -> bool:
    # Marks (M) are vowels and accents of many scripts.
    if ch.isascii():
        return ch in _SIGNS or ch.isalnum()
    return unicodedata.category(ch)[0] in "LNM"


def short(spec: str) -> str:
    """Return a spec with paths cut to their last part, fit to be published.

    Examples:
        >>> short("pairs:/home/me/faces/pairs.csv@/home/me/faces/150(aligned=false)")
        'pairs:pairs.csv@150(aligned=false)'
    """
    return re.sub(
        r"[^:@(),=]*[/\\]+([^:@(),=/\\]*)", lambda m: m.group(1) or m.group(0).strip("/\\").split("/")[-1], spec
    )


def maps_file(root: Path, model: str, dataset: str, explainer: str, sample: str, folder: str = "maps") -> Path:
    """Return where the kept map of a sample lies: ``maps/<model>/<dataset>/<explainer>/<sample>.npz``.

    ``folder``: ``maps``, or ``native`` for the maps as they were before they were resized.
    """
    return root / folder / safe(model) / safe(dataset) / safe(explainer) / f"{safe(sample)}.npz"


def log_file(root: Path, model: str, dataset: str, explainer: str | None) -> Path:
    """Return where output of plugins is kept: ``logs/<model>/<dataset>/<explainer>.log``.

    ``explainer`` None: what the model and the dataset print, in ``_group.log``, a name that no explainer has.
    """
    name = "_group" if explainer is None else safe(explainer)
    return root / "logs" / safe(model) / safe(dataset) / f"{name}.log"
