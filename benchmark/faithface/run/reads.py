"""What plugins read of a dataset beyond the samples that they are given: a number that rests on it depends on it.

Place in the flow: ``guard`` opens a note before each step and closes it after; ``shard`` hands out the dataset as
:class:`Watched`; what was noted goes to the store with the shard, so that a changed neighbour is no stale value. May
call the contract and ``listed``.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from faithface.contract import Dataset, Pair, Sample
from faithface.run.listed import TRAITS
from faithface.tasks import Task

WHOLE, PARTNER = "whole", "partner"


class Reads:
    """Notes, one within another: what is noted in an inner one counts for the outer ones as well."""

    def __init__(self) -> None:
        self._open: list[set[str]] = []
        self._of: dict[Hashable, frozenset[str]] = {}

    def add(self, what: Iterable[str]) -> None:
        for one in self._open:
            one.update(what)

    def begin(self) -> None:
        self._open.append(set())

    def end(self) -> frozenset[str]:
        return frozenset(self._open.pop())

    def of(self, plugin: Hashable, now: frozenset[str]) -> frozenset[str]:
        """Return what a plugin has read now or at an earlier step: it may keep what it has read."""
        self._of[plugin] = found = self._of.get(plugin, frozenset()) | now
        return found


class Watched(Dataset):
    """A dataset that notes when somebody asks for its samples or its partner; else it is the dataset itself."""

    def __init__(self, whole: Dataset, reads: Reads) -> None:
        self._whole, self._reads = whole, reads
        for name in TRAITS:
            setattr(self, name, getattr(whole, name))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("_whole", "_reads"):
            raise AttributeError(name)
        return getattr(self._whole, name)

    # A plugin that asks for a class of its own (``isinstance``) finds it.
    __class__ = property(lambda self: type(self._whole))  # type: ignore[assignment]

    def items(self) -> Sequence[Sample] | Sequence[Pair]:
        self._reads.add([WHOLE])
        return self._whole.items()

    def fits(self, task: Task) -> bool:
        return self._whole.fits(task)

    def out_of_set(self) -> Dataset | None:
        self._reads.add([PARTNER])
        return self._whole.out_of_set()

    def truths(self) -> frozenset[str]:
        return self._whole.truths()

    def notes(self) -> tuple[str, ...]:
        return self._whole.notes()

    def absent(self) -> tuple[str, ...]:
        return self._whole.absent()
