"""Names of runs' things as parts of paths.

Place in the flow: used by ``driver``, ``family``, ``export`` and ``boards``, so that all of them look in the same
place.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

_SAFE = re.compile(r"^[\w(@=][\w()@=,.+-]*$")  # \w: letters and digits of every script


def safe(text: str) -> str:
    """Return a text as a safe file name: itself where it is one, else a readable part of it and a hash of the whole.

    Examples:
        >>> safe("fggb(reading=signed)")
        'fggb(reading=signed)'
        >>> safe("pairs:faces/pairs.csv@faces/150")
        'pairs-pairs.csv@150-48e7'
    """
    if _SAFE.match(text) and len(text.encode()) <= 120:
        return text
    readable = re.sub(r"[^A-Za-z0-9()@=,._+-]+", "-", short(text)).strip("-.,+")[:80]
    return f"{readable or 'x'}-{hashlib.sha256(text.encode()).hexdigest()[:4]}"


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
