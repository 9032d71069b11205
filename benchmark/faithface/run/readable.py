"""Find images that cannot be read before they can spoil a run: name them, and run without them.

Place in the flow: ``driver`` calls :func:`without_unreadable` once per dataset. May call the contract and ``errors``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from faithface.contract import Dataset, Face, Pair, Sample
from faithface.errors import FaithfaceError, UsageError
from faithface.tasks import Task


class Filtered(Dataset):
    """A dataset without some of its samples; everything else is the original's."""

    def __init__(self, whole: Dataset, kept: Sequence[Sample] | Sequence[Pair]) -> None:
        self.whole, self.kept = whole, kept
        for key in ("name", "task", "revision", "classes", "positive", "aligned", "licence", "source"):
            setattr(self, key, getattr(whole, key))

    def items(self) -> Sequence[Sample] | Sequence[Pair]:
        return self.kept

    def fits(self, task: Task) -> bool:
        return self.whole.fits(task)

    def out_of_set(self) -> Dataset | None:
        return self.whole.out_of_set()

    def truths(self) -> frozenset[str]:
        return self.whole.truths()


@dataclass(frozen=True)
class Readable:
    """A dataset that can be read, where the chosen samples stand in it, and what was skipped (by face id, why)."""

    dataset: Dataset
    positions: tuple[int, ...]
    skipped: dict[str, str]


def without_unreadable(
    dataset: Dataset,
    positions: Sequence[int],
    strict: bool,
    tell: Callable[[str], Any],
    saw: Callable[[Face, np.ndarray], Any] | None = None,
) -> Readable:
    """Read the faces that a run needs once, and skip samples with one that cannot be read.

    Of verification sets all faces are read, because the decision threshold needs them and any of them may be drawn as
    somebody's stranger; of classifier sets the chosen ones.

    Args:
        positions: the chosen samples.
        strict: raise instead of skipping.
        tell: gets one line for each unreadable face, and those that the dataset itself has to tell.
        saw: gets each face that was read, with its pixels.

    Raises:
        UsageError: ``strict`` and a face cannot be read, or none of the chosen samples is left.
    """
    items: Sequence[Any] = dataset.items()
    wanted = items if dataset.task == "verification" else [items[p] for p in positions]
    for note in dataset.notes():
        tell(f"{dataset.name}: {note}")
    bad: dict[str, str] = {}
    seen: set[str] = set()
    for item in wanted:
        for face in item.faces:
            if face.id not in seen:
                seen.add(face.id)
                problem = _problem(face, saw)
                if problem and strict:
                    raise UsageError(problem)
                if problem:
                    bad[face.id] = problem
                    tell(f"skipped: {problem}")
    if not bad:
        return Readable(dataset, tuple(positions), bad)
    keep = [i for i, item in enumerate(items) if not any(face.id in bad for face in item.faces)]
    place = {old: new for new, old in enumerate(keep)}
    left = tuple(place[p] for p in positions if p in place)
    if not left:
        raise UsageError(f'no sample of dataset "{dataset.name}" can be read: {next(iter(bad.values()))}')
    return Readable(Filtered(dataset, [items[i] for i in keep]), left, bad)  # type: ignore[arg-type]


def _problem(face: Face, saw: Callable[[Face, np.ndarray], Any] | None) -> str:
    """Return why a face cannot be read, in one line; "" if it can."""
    try:
        pixels = face.read()
        if saw is not None:
            saw(face, pixels)
    except FaithfaceError as error:
        return str(error).splitlines()[0]
    except Exception as error:  # decoders raise whatever they like
        lines = str(error).strip().splitlines()
        return f'image "{face.id}" cannot be read ({type(error).__name__}: {lines[0] if lines else ""})'
    return ""
