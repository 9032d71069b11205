"""Make the mechanism-exact networks: ``python -m training.train_exact [--only PATTERN] [--jobs 2] [--out FOLDER]``.

Place in the flow: as ``train_zoo.py``, whose command this is with other recipes and another folder. The verifiers and
the bags of patches are trained, minutes each on one CPU core; the detectors of tags are written in a second.

Afterwards: ``python -m training.evaluate_exact`` measures what came out.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from training import train_zoo
from training.recipes import EXACT_RECIPES

FOLDER = train_zoo.ZOO.parent / "exact"


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and write; the options are those of ``train_zoo``."""
    return train_zoo.main(arguments, EXACT_RECIPES, FOLDER, "python -m training.train_exact")


if __name__ == "__main__":
    sys.exit(main())
