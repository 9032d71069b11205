"""Where the shards of a group are done: in worker processes of this machine, in this process, or on Ray.

Place in the flow: ``driver`` makes a :class:`Job` per group and writes what the executor yields. ``processes.py`` keeps
worker processes, in which ``worker.py`` runs; ``local.py`` works in this process; ``ray.py`` on many machines. All do
the same :class:`Job`, and none writes into the run's store.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import cloudpickle

from faithface.contract import BatchingPolicy, Dataset, Metric, Pair, Sample
from faithface.contract.running import ONNX_RUNTIME
from faithface.errors import UsageError
from faithface.plugins import Resolved
from faithface.reasons import ReasonCode
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
        policy: rows per pass and passes side by side, as an earlier attempt has measured them: with others, the last
            bit of a value may differ.
        listed: a digest of the samples' names in their order, by :func:`names_digest`.
    """

    group: Group
    dataset: Dataset
    request: Request
    pending: Mapping[int, frozenset[int]]
    threshold: float | None = None
    opened: bool = False
    keep_maps: bool = False
    shards: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    listed: str = ""
    policy: BatchingPolicy | None = None
    measure: bool = False


class Executor(Protocol):
    """Does a job: yields ``Opened`` first if it is new, then the samples and cells of each shard."""

    def __call__(self, job: Job, /) -> Iterator[Event]: ...


class GroupFailed(UsageError):
    """The model or the dataset of a group ended or held up its worker, or raised: no cell of the group can be done."""

    exit_code = 1


def can_apply(executor: Executor) -> bool:
    """Say whether the executor calls functions elsewhere than in this process."""
    return getattr(executor, "apply", None) is not None


def apply(
    executor: Executor,
    function: Callable[..., T],
    *arguments: object,
    about: str = "",
    raised: ReasonCode = ReasonCode.DATASET_UNUSABLE,
) -> T:
    """Return ``function(*arguments, beat=…)``, called where the executor runs plugins.

    The function calls ``beat()`` whenever it gets on; its time limit then begins anew.

    Args:
        about: what is at fault if the function ends or holds up the process, as the beginning of a sentence.
        raised: the code of its failure if it raises something.

    Raises:
        UsageError: the function's own.
        GroupFailed: it raised something else, or ended or held up the process.
    """
    own: Callable[..., T] | None = getattr(executor, "apply", None)
    return own(function, *arguments, about=about, raised=raised) if own else function(*arguments, beat=lambda: None)


def stream(
    executor: Executor, function: Callable[..., Iterator[T]], *arguments: object, about: Mapping[str, str]
) -> Iterator[T]:
    """Yield what ``function(*arguments, watch=…)`` yields, called where the executor runs plugins; see :func:`apply`.

    The function tells its :class:`~faithface.run.guard.Watch` of each step.
    """
    own: Callable[..., Iterator[T]] | None = getattr(executor, "stream", None)
    if own is not None:
        yield from own(function, *arguments, about=about)
        return
    from faithface.run.guard import Watch

    yield from function(*arguments, watch=Watch())


def packed(value: object) -> bytes:
    """Return a value as bytes for another process; classes of the main module and of functions go along.

    Raises:
        UsageError: it cannot be sent to another process.
    """
    try:
        data: bytes = cloudpickle.dumps(value)
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        raise UsageError(
            f"a plugin object cannot be sent to a worker process ({type(error).__name__}: {first}); use --workers 0"
        ) from None
    return data


def names_digest(items: Sequence[Sample] | Sequence[Pair]) -> str:
    """Return a digest of the samples' names in their order."""
    found = hashlib.blake2b(digest_size=16)
    for item in items:
        found.update(item.id.encode("utf-8", "surrogatepass") + b"\0")
    return found.hexdigest()


def items_of(job: Job) -> Sequence[Sample] | Sequence[Pair]:
    """Return the items of a job's dataset.

    Raises:
        UsageError: they are not those from which the job was made.
    """
    items = job.dataset.items()
    if job.listed and names_digest(items) != job.listed:
        raise UsageError(
            f'dataset "{job.group.dataset.spec}" lists other samples than it did when the run began; give the same '
            "command again, and if this happens once more, correct its items()",
            ReasonCode.DATASET_UNUSABLE,
        )
    return items


def drop_failures(alive: dict[int, dict[str, Metric]], event: CellShard) -> None:
    """Take what has failed out of the metrics by cell: it is not tried again on the next shard."""
    if event.failure is not None:
        alive.pop(event.cell, None)
    for text in event.metric_failures:
        alive.get(event.cell, {}).pop(text, None)


def scored_here(metrics: Mapping[str, Resolved[Metric]]) -> dict[str, Metric]:
    """Return the metrics that are scored in a shard: all but those that need several models at once."""
    return {text: m.object for text, m in metrics.items() if "family" not in m.object.protocol.needs}


def policy_of(facts: Mapping[str, Any]) -> BatchingPolicy:
    """Return the batching policy that an earlier attempt has measured: with another engine, last bits would differ.

    Args:
        facts: of the open model, as ``local.model_facts`` describes it.
    """
    return BatchingPolicy(facts["batch"], facts.get("side_by_side", 1), facts.get("engine", ONNX_RUNTIME))
