"""Find images that cannot be read before they can spoil a run: name them, and run without them.

Place in the flow: ``driver`` has :func:`find_unreadable` called once per dataset, where plugins run, and then calls
:func:`skipping`. May call ``inputs`` (digests), the contract and ``errors``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from faithface.contract import Dataset, Face, Pair, Sample
from faithface.errors import FaithfaceError, UsageError
from faithface.run.inputs import array_digest
from faithface.run.listed import TRAITS
from faithface.tasks import Task


class Filtered(Dataset):
    """A dataset without some of its samples; everything else is the original's.

    Attributes:
        keep: where the samples that are left stand in the original.
    """

    def __init__(self, whole: Dataset, keep: Sequence[int]) -> None:
        self.whole, self.keep = whole, tuple(keep)
        for key in TRAITS:
            setattr(self, key, getattr(whole, key))

    def items(self) -> Sequence[Sample] | Sequence[Pair]:
        items: Sequence[Any] = self.whole.items()
        return [items[at] for at in self.keep]

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


@dataclass(frozen=True)
class Found:
    """What reading faces has found, by face id: why one cannot be read, else a digest of its pixels."""

    bad: dict[str, str]
    seen: dict[str, str]


def find_unreadable(
    dataset: Dataset, positions: Sequence[int], strict: bool, beat: Callable[[], Any] = lambda: None
) -> Found:
    """Read the faces of the samples that a run needs, once each, and say which cannot be read.

    Of verification sets all faces are read, because the decision threshold needs them and any of them may be drawn as
    somebody's stranger; of classifier sets the chosen ones.

    Args:
        positions: the chosen samples.
        strict: raise instead.
        beat: called before each face.

    Raises:
        UsageError: ``strict`` and a face cannot be read.
    """
    items: Sequence[Any] = dataset.items()
    wanted = items if dataset.task == "verification" else [items[p] for p in positions]
    found = Found({}, {})
    known: set[str] = set()
    for item in wanted:
        for face in item.faces:
            if face.id not in known:
                known.add(face.id)
                beat()
                problem = _problem(face, found.seen)
                if problem and strict:
                    raise UsageError(problem)
                if problem:
                    found.bad[face.id] = problem
    return found


def skipping(dataset: Dataset, positions: Sequence[int], bad: dict[str, str], tell: Callable[[str], Any]) -> Readable:
    """Return a dataset without the samples that hold an unreadable face (see :func:`find_unreadable`).

    Raises:
        UsageError: none of the chosen samples is left.
    """
    for note in dataset.notes():
        tell(f"{dataset.name}: {note}")
    for problem in bad.values():
        tell(f"skipped: {problem}")
    if not bad:
        return Readable(dataset, tuple(positions), bad)
    items: Sequence[Any] = dataset.items()
    keep = [i for i, item in enumerate(items) if not any(face.id in bad for face in item.faces)]
    place = {old: new for new, old in enumerate(keep)}
    left = tuple(place[p] for p in positions if p in place)
    if not left:
        raise UsageError(f'no sample of dataset "{dataset.name}" can be read: {next(iter(bad.values()))}')
    return Readable(Filtered(dataset, keep), left, bad)


def _problem(face: Face, seen: dict[str, str]) -> str:
    """Return why a face cannot be read, in one line; "" if it can, and then note its digest in ``seen``."""
    try:
        pixels = face.read()
        if getattr(face, "digest", None) is None:
            seen[face.id] = array_digest(pixels)
    except FaithfaceError as error:
        return str(error).splitlines()[0]
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # decoders raise whatever they like
        try:
            lines = str(error).strip().splitlines()
        except BaseException:
            lines = []
        return f'image "{face.id}" cannot be read ({type(error).__name__}: {lines[0] if lines else ""})'
    return ""
