"""What a check of records and boards finds, as values.

Place in the flow: below ``validate``, ``inside`` and ``check``. Imports the standard library.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Check(StrEnum):
    """What was checked. ``docs/reference/record.md`` describes each."""

    UNREADABLE = "unreadable"
    FORM = "form"
    DIGEST = "digest"
    PLACE = "place"
    SAME_CELL = "same cell"
    STRAY = "stray file"
    SUITE = "suite"
    NAMES = "names"
    STATUS = "status"
    BOUNDS = "protocol bounds"
    RANGE = "range"
    MEAN = "mean"
    INTERVAL = "interval"
    COUNT = "count"
    ROWS = "rows"
    SAMPLES = "samples"
    RELATION = "relation"
    CURVE = "curve"
    TABLES = "tables"
    SITE = "site"
    FROZEN = "frozen"
    ATTESTATION = "attestation"


@dataclass(frozen=True)
class Finding:
    """Something that does not hold.

    Attributes:
        path: of the file, relative to the folder that was checked.
        check: what was checked.
        detail: one line: what was found, and what was expected.
    """

    path: str
    check: Check
    detail: str

    def __str__(self) -> str:
        return " ".join(f"{self.path}: {self.check}: {self.detail}".split())
