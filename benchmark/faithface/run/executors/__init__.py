"""Where the shards of a group are done: in this process, or on Ray.

Place in the flow: ``driver`` makes a :class:`Job` per group and writes what the executor yields. ``local.py`` works in
this process, ``ray.py`` in many; both do the same :class:`Job`. Neither writes anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from faithface.contract import Dataset
from faithface.run.plan import Group
from faithface.run.request import Request
from faithface.run.results import Event


@dataclass(frozen=True)
class Job:
    """The pending shards of a group.

    Attributes:
        dataset: the group's dataset, without images that cannot be read.
        request: device, batch size and seed.
        pending: the numbers of the shards that are still to do, by cell number.
        threshold: the decision threshold, if an earlier attempt has found it.
        opened: whether an earlier attempt has recorded what opening found.
        keep_maps: whether the maps come back with the values.
        shards: by number, where the samples of a shard stand in ``dataset``.
    """

    group: Group
    dataset: Dataset
    request: Request
    pending: Mapping[int, frozenset[int]]
    threshold: float | None = None
    opened: bool = False
    keep_maps: bool = False
    shards: Mapping[int, tuple[int, ...]] = field(default_factory=dict)


class Executor(Protocol):
    """Does a job: yields ``Opened`` first if it is new, then the samples and cells of each shard."""

    def __call__(self, job: Job, /) -> Iterator[Event]: ...
