"""Attestations: that somebody ran a sample of a record again and got its values. From them follows a record's level.

Place in the flow: ``faithface verify --attest`` writes them with :func:`attestation_of`; ``publish`` and ``validate``
read them. Calls ``record`` only.

    leaderboards/<suite>/v<N>/attestations/<model>/<dataset>/<explainer>/<who>.json

A record never says anything but ``self-reported`` of itself. Its level is that of the best attestation that is about
this very record, by digest: if the record changes, its attestations no longer count.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from faithface.boards.record import Kept, Record, canonical_json
from faithface.durable import write_whole
from faithface.errors import UsageError
from faithface.run.paths import safe

ATTESTATIONS = "attestations"


class Level(StrEnum):
    """How far a record's numbers have been seen by others."""

    SELF_REPORTED = "self-reported"
    RE_RUN = "re-run"
    INDEPENDENT = "independent"


LEVELS = tuple(Level)  # from the lowest to the highest


class Attestation(BaseModel):
    """That a sample of a record was run again, and that its values came out the same.

    Attributes:
        cell: the record's place, ``<model>/<dataset>/<explainer>``.
        record_digest: of the record that was compared.
        level: ``re-run``, or ``independent``: whoever attests made neither the record nor its method.
        by: who attests; needed for ``independent``.
        seed, samples: which samples were run again.
        protocols: what was compared.
        values: how many values were compared.
        largest: the largest difference, in units of the protocol's tolerance: at most 1.
        device, system, versions: where.
        digest: of everything else here.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    attestation_schema: Literal[1] = 1
    cell: str
    record_digest: str
    level: Literal["re-run", "independent"]
    by: str = Field(default="", max_length=200)
    seed: int
    samples: tuple[str, ...] = Field(min_length=1)
    protocols: tuple[str, ...] = Field(min_length=1)
    values: int = Field(ge=1)
    largest: float = Field(ge=0, le=1)
    device: str
    system: str
    versions: dict[str, str]
    digest: str = ""

    @model_validator(mode="after")
    def _named(self) -> Attestation:
        if self.level == Level.INDEPENDENT and not self.by.strip():
            raise ValueError("an independent attestation names who attests (by)")
        return self


def attestation_digest(attestation: Attestation) -> str:
    """Return the sha256 of what an attestation says, without its ``digest``."""
    return hashlib.sha256(canonical_json(attestation.model_dump(mode="json", exclude={"digest"}))).hexdigest()


def attestation_of(
    record: Record, independent: bool, by: str, where: Mapping[str, Any], **compared: Any
) -> Attestation:
    """Return the attestation of a record that was reproduced.

    Args:
        independent: whether who attests made neither the record nor its method.
        by: who attests.
        where: ``device``, ``system`` and ``versions`` of ``run.environment``.
        compared: ``seed``, ``samples``, ``protocols``, ``values`` and ``largest``.

    Raises:
        UsageError: it is independent and nobody's.
    """
    if independent and not by.strip():
        raise UsageError("--independent needs --by: the name or the organisation that attests")
    facts = {key: where[key] for key in ("device", "system", "versions")}
    made = Attestation(
        cell=record.stem.as_posix(),
        record_digest=record.digest,
        level="independent" if independent else "re-run",
        by=by,
        **facts,
        **compared,
    )
    return made.model_copy(update={"digest": attestation_digest(made)})


def write_attestation(board: Path, attestation: Attestation) -> Path:
    """Write an attestation beside a board's records; one of the same person and record is replaced. Return its path."""
    path = board / ATTESTATIONS / attestation.cell / f"{safe(attestation.by or 'unnamed')}.json"
    text = json.dumps(attestation.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"
    write_whole(path, lambda file: file.write(text.encode("utf-8")))
    return path


@dataclass(frozen=True)
class Attested:
    """The attestations of a board.

    Attributes:
        by_cell: by record (``<model>/<dataset>/<explainer>``), those that are about it as it is now.
        refused: (path, why) of those that do not count.
    """

    by_cell: Mapping[str, tuple[Attestation, ...]]
    refused: tuple[tuple[str, str], ...]

    def level(self, record: Record) -> Level:
        """Return the level of a record."""
        found = [Level(one.level) for one in self.by_cell.get(record.stem.as_posix(), ())]
        return max(found, key=LEVELS.index, default=Level.SELF_REPORTED)


def read_attestations(board: Path, kept: Sequence[Kept]) -> Attested:
    """Read a board's attestations. What is unreadable, altered, or of another record is refused, with the reason."""
    digests = {one.record.stem.as_posix(): one.record.digest for one in kept}
    found: dict[str, list[Attestation]] = {}
    refused: list[tuple[str, str]] = []
    folder = board / ATTESTATIONS
    for path in sorted(folder.rglob("*.json"), key=lambda p: p.relative_to(folder).as_posix()):
        name = path.relative_to(folder)
        try:
            one = Attestation.model_validate_json(path.read_bytes())
        except (ValidationError, OSError) as error:
            refused.append((name.as_posix(), f"is no attestation: {_first(error)}"))
            continue
        if one.digest != attestation_digest(one):
            refused.append((name.as_posix(), "says something else than when its digest was taken"))
        elif name.parent.as_posix() != one.cell or one.cell not in digests:
            refused.append((name.as_posix(), f"is of {one.cell}, which is not the record of this place"))
        elif one.record_digest != digests[one.cell]:
            refused.append((name.as_posix(), "is of another version of the record; verify the record again"))
        else:
            found.setdefault(one.cell, []).append(one)
    return Attested({cell: tuple(ones) for cell, ones in found.items()}, tuple(refused))


def _first(error: Exception) -> str:
    if isinstance(error, ValidationError):
        one = error.errors()[0]
        return f"{'.'.join(str(part) for part in one['loc']) or 'file'}: {one['msg']}"
    return str(error)
