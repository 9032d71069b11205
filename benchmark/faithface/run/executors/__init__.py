"""Where the shards of a group are done: in worker processes of this machine, in this process, or on Ray.

Place in the flow: ``driver`` makes a :class:`Job` per group and writes what the executor yields. ``processes.py`` keeps
worker processes, in which ``worker.py`` runs; ``local.py`` works in this process; ``ray.py`` on many machines. All do
the same :class:`Job`, and none writes into the run's store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from faithface.contract import Dataset, Metric
from faithface.errors import UsageError
from faithface.plugins import Resolved
from faithface.run.plan import Group
from faithface.run.request import Request
from faithface.run.results import CellShard, Event

T = TypeVar("T")


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
        measure: whether what the steps take is measured first (:class:`~faithface.run.results.Measured`).
    """

    group: Group
    dataset: Dataset
    request: Request
    pending: Mapping[int, frozenset[int]]
    threshold: float | None = None
    opened: bool = False
    keep_maps: bool = False
    shards: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    measure: bool = False


class Executor(Protocol):
    """Does a job: yields ``Opened`` first if it is new, then the samples and cells of each shard."""

    def __call__(self, job: Job, /) -> Iterator[Event]: ...


class GroupFailed(UsageError):
    """The model or the dataset of a group ended or held up its worker, or raised: no cell of the group can be done."""

    exit_code = 1


def apply(executor: Executor, function: Callable[..., T], *arguments: object) -> T:
    """Return ``function(*arguments, beat=…)``, called where the executor runs plugins.

    The function calls ``beat()`` whenever it gets on; its time limit then begins anew.

    Raises:
        UsageError: the function's own.
        GroupFailed: it raised something else, or ended or held up the process.
    """
    own: Callable[..., T] | None = getattr(executor, "apply", None)
    return own(function, *arguments) if own else function(*arguments, beat=lambda: None)


def drop_failures(alive: dict[int, dict[str, Metric]], event: CellShard) -> None:
    """Take what has failed out of the metrics by cell: it is not tried again on the next shard."""
    if event.failure is not None:
        alive.pop(event.cell, None)
    for text in event.metric_failures:
        alive.get(event.cell, {}).pop(text, None)


def scored_here(metrics: Mapping[str, Resolved[Metric]]) -> dict[str, Metric]:
    """Return the metrics that are scored in a shard: all but those that need several models at once."""
    return {text: m.object for text, m in metrics.items() if "family" not in m.object.protocol.needs}
