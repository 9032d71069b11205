"""How far up the ladder the explainers of a board stand: read from files that ``faithface check --tiers`` writes.

Place in the flow: ``testing.ladder`` computes tiers and writes them with :func:`write_tiers`; ``board`` gives each row
its own. Imports the standard library, pydantic and ``durable``.

    leaderboards/tiers/<distribution>.json

No record says anything of a tier, and neither does a plugin. A tier belongs to code, by its fingerprint: a record of
other code has none, and the board says "not computed".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from faithface.boards.record import Origin
from faithface.durable import write_whole
from faithface.errors import UsageError
from faithface.run.paths import safe

FOLDER = "tiers"
NOT_COMPUTED = "not computed"


class Tier(StrEnum):
    """How far up the ladder a plugin stands; ``fails`` is below it."""

    FAILS = "fails"
    RUNS = "runs"
    CONFORMS = "conforms"
    DOCUMENTED = "documented"
    VALIDATED = "validated"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Reached(_Strict):
    """The tier of one registered object.

    Attributes:
        kind: ``explainer``, ``model``, ``dataset``, ``metric``, ``fill`` or ``suite``.
        fingerprint: of its code, as records state it.
    """

    kind: str
    name: str
    fingerprint: str
    tier: Tier


class Tiers(_Strict):
    """What one check of a distribution found, by the version of faithface whose rules were asked."""

    tiers_schema: Literal[1] = 1
    distribution: str
    version: str
    faithface: str
    objects: tuple[Reached, ...]


Known = Mapping[tuple[str, str], Tier]
"""Tiers of explainers, by name and fingerprint."""


def tier_of(name: str, origin: Origin, known: Known) -> Tier | None:
    """Return the tier of an explainer's code; None: not computed."""
    return known.get((name, origin.fingerprint)) if origin.fingerprint else None


def tiers_for(board: Path | None = None) -> Known:
    """Return the tiers that are known where a board lies: those beside it, such as ``leaderboards/tiers/*.json``.

    Args:
        board: the folder of a board, such as ``leaderboards/demo/v0``; None: nothing is known.

    Raises:
        UsageError: a file is not one that ``faithface check --tiers`` writes.
    """
    found: dict[tuple[str, str], Tier] = {}
    if board is not None:
        for path in sorted((board.resolve().parent.parent / FOLDER).glob("*.json")):
            found |= _explainers(read_tiers(path))
    return found


def _explainers(tiers: Tiers) -> dict[tuple[str, str], Tier]:
    return {(one.name, one.fingerprint): one.tier for one in tiers.objects if one.kind == "explainer"}


def read_tiers(path: Path) -> Tiers:
    """Read a file of tiers.

    Raises:
        UsageError: no such file, or not one that ``faithface check --tiers`` writes.
    """
    try:
        return Tiers.model_validate_json(path.read_bytes())
    except (ValidationError, OSError) as error:
        first = str(error).splitlines()[0]
        raise UsageError(
            f"{path} does not hold tiers ({first}); `faithface check DISTRIBUTION --tiers` writes it"
        ) from None


def write_tiers(folder: Path, distribution: str, version: str, faithface: str, objects: Iterable[Reached]) -> Path:
    """Write the tiers of a distribution into ``folder/tiers/``, and return the file.

    Args:
        folder: of all boards, such as ``leaderboards/``.
    """
    ordered = tuple(sorted(objects, key=lambda one: (one.kind, one.name)))
    made = Tiers(distribution=distribution, version=version, faithface=faithface, objects=ordered)
    path = folder / FOLDER / f"{safe(distribution)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = made.model_dump_json(indent=1) + "\n"
    write_whole(path, lambda file: file.write(text.encode("utf-8")))
    return path
