"""The players of a shortcut question: things that a set can change, or places of an aligned picture.

Place in the flow: below ``shortcuts``. May call ``contract``, ``regions`` and ``errors``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from faithface.contract import Dataset, Pair, Sample
from faithface.errors import UsageError
from faithface.regions.partition import Regions, regions_of_places

CHANGED = "changed: "
CUE = "cue"
MOST_THINGS = 10
# Replacing anything moves a score a little: by 5 to 10 % for clean networks (docs/explanation/shortcuts.md).
BOUND = 0.15


@dataclass(frozen=True)
class Things:
    """Things that a set can change in every image.

    Attributes:
        names: k things.
        roles: 2^k roles in ``others``, by subset (bit r set: thing r is changed); the first is the image itself.
        evidence: things that are what the network should see.
    """

    names: tuple[str, ...]
    roles: tuple[str, ...]
    evidence: tuple[str, ...] = (CUE,)
    mixed: tuple[str, ...] = ()
    bound: float = BOUND


@dataclass(frozen=True)
class Places:
    """Places of an aligned picture: a partition; ``mixed`` holds evidence and shortcuts alike."""

    regions: Regions
    evidence: tuple[str, ...] = ("face",)
    mixed: tuple[str, ...] = ("eyes",)
    bound: float = BOUND

    @property
    def names(self) -> tuple[str, ...]:
        return self.regions.names


def players_of(
    data: Dataset, items: Sequence[Sample | Pair], size: tuple[int, int], crop: str | None
) -> Things | Places:
    """Return the players of these samples: things where the set has them, else places.

    Raises:
        UsageError: images that are not all there, faces that are not aligned, or an input of no known crop.
    """
    things = things_of(items)
    if things is not None:
        return things
    if not data.aligned:
        raise UsageError(
            f'data set "{data.name}" says that its faces are not aligned, so no template says where face and '
            "background are: align them first, or use a set with things that can be changed (planted-shortcuts)"
        )
    landmarks = None
    if crop is None and data.aligned_landmarks:
        landmarks = np.array(data.aligned_landmarks) * np.array(size)[::-1] - 0.5
    return Places(regions_of_places(size, crop, landmarks))


def things_of(items: Sequence[Sample | Pair]) -> Things | None:
    """Read the things from the roles of the first sample's ``others``; None where it has none.

    Raises:
        UsageError: a sample lacks one of the images, or there are too many things.
    """
    roles = [role for role in items[0].others if role.startswith(CHANGED)]
    if not roles:
        return None
    names = tuple(role.removeprefix(CHANGED) for role in roles if " + " not in role)
    if len(names) > MOST_THINGS:
        raise UsageError(f"{len(names)} things can be changed; expected at most {MOST_THINGS}")
    wanted = [""]
    for subset in range(1, 1 << len(names)):
        wanted.append(CHANGED + " + ".join(name for r, name in enumerate(names) if subset >> r & 1))
    for item in items:
        missing = [role for role in wanted[1:] if role not in item.others]
        if missing:
            raise UsageError(
                f'sample "{item.id}" has no image "{missing[0]}"; expected one for each of the {len(wanted) - 1} '
                f"combinations of {', '.join(names)}"
            )
    return Things(names, tuple(wanted))
