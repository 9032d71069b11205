"""What a board keeps beside its records for people to look at: curves, and pictures of some samples.

Place in the flow: ``faithface.gallery`` writes the folder ``gallery/`` of a board or run, ``pages`` reads it through
:func:`read_extras`. Imports ``boards.record`` and pydantic. No path is ever read from a file: names of pictures follow
from the names of samples and explainers, so that a board from elsewhere cannot point outside its own folder.

    gallery/<model>/<dataset>/gallery.json                         curves, facts of samples, which pictures there are
    gallery/<model>/<dataset>/<sample>/face-a.webp                 the faces, where they may be shown
    gallery/<model>/<dataset>/<sample>/<explainer>.<kind>.webp     overlays and maps
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from faithface.boards.record import RECORDS, Record, record_text
from faithface.errors import UsageError
from faithface.hashing import file_hash
from faithface.run.paths import safe

GALLERY = "gallery"
FILE = "gallery.json"
Kind = Literal["relevance", "similarity", "dissimilarity"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Band(_Strict):
    """A cell's mean curve: at each point the mean over ``n`` samples and its 95 % interval; None: not known."""

    n: int
    mean: tuple[float, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]


class Shown(_Strict):
    """One sample of the gallery.

    Attributes:
        facts: what is known of it, as text by name, for people to read.
        faces: how many face pictures there are: 0, 1, or 2 for a pair.
        aspect: width ÷ height of a face.
    """

    sample: str
    facts: dict[str, str] = {}
    faces: int = Field(default=0, ge=0, le=2)
    aspect: float = Field(default=1.0, gt=0, allow_inf_nan=False)


class CellExtras(_Strict):
    """What is kept of one explainer.

    Attributes:
        values_sha256: of the record's per-sample values that this belongs to; with other values it is not shown.
        bands: mean curves by protocol and curve name.
        curves: by protocol, curve name and sample.
        pictures: by sample, the kinds of maps there are pictures of.
    """

    values_sha256: str
    bands: dict[str, dict[str, Band]] = {}
    curves: dict[str, dict[str, dict[str, tuple[float, ...]]]] = {}
    pictures: dict[str, tuple[Kind, ...]] = {}


class Gallery(_Strict):
    """The gallery of one model on one dataset. ``hidden``: why faces are not shown; "" where they are."""

    gallery_schema: Literal[1] = 1
    samples: tuple[Shown, ...] = ()
    hidden: str = ""
    cells: dict[str, CellExtras] = {}


@dataclass(frozen=True)
class Extras:
    """What lies in a board's folder besides the records' content.

    Attributes:
        galleries: by (model, dataset) as parts of paths; see :func:`place_of`.
        digests: the sha256 of each record's file, by its path below ``records/`` without suffix.
    """

    galleries: Mapping[tuple[str, str], Gallery] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)

    def digest(self, record: Record) -> str:
        """Return the sha256 of a record's file; of one that is not on disk, of the text that it would have."""
        known = self.digests.get(record.stem.as_posix())
        return known or hashlib.sha256(record_text(record).encode("utf-8")).hexdigest()

    def of(self, record: Record) -> Gallery:
        """Return the gallery of a record's model and dataset; an empty one where there is none."""
        return self.galleries.get(place_of(record), Gallery())

    def cell(self, record: Record) -> CellExtras:
        """Return what is kept of a record's cell; nothing if it belongs to other values."""
        found = self.of(record).cells.get(record.stem.name)
        if found is None or found.values_sha256 != record.values_sha256 or not record.values_sha256:
            return CellExtras(values_sha256="")
        return found


def place_of(record: Record) -> tuple[str, str]:
    """Return a record's model and dataset as parts of paths."""
    model, dataset, _explainer = record.stem.parts
    return model, dataset


def face_file(sample: str, side: int) -> str:
    """Return where a face lies, relative to ``gallery/<model>/<dataset>``; ``side``: 0, or 1 for a pair's reference."""
    return f"{safe(sample)}/face-{'ab'[side]}.webp"


def picture_file(sample: str, explainer: str, kind: Kind) -> str:
    """Return where the pictures of a map lie; ``explainer``: its name as a part of paths."""
    return f"{safe(sample)}/{explainer}.{kind}.webp"


def read_extras(folder: Path) -> Extras:
    """Read the galleries of a board or run, and the digests of its records; none is no error.

    Raises:
        UsageError: one is not a gallery of this schema.
    """
    found = {}
    root = folder / GALLERY
    for path in sorted(root.glob(f"*/*/{FILE}")):
        try:
            gallery = Gallery.model_validate_json(path.read_bytes())
        except (ValidationError, OSError) as error:
            first = str(error).splitlines()[0]
            raise UsageError(f"{path} is not a gallery ({first}); remove it, or build the board from its run") from None
        found[path.parent.parent.name, path.parent.name] = gallery
    records = folder / RECORDS
    digests = {p.relative_to(records).with_suffix("").as_posix(): file_hash(p) for p in sorted(records.rglob("*.json"))}
    return Extras(found, digests)
