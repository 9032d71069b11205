"""The executor without processes: one open model at a time, shards one after another, in this process.

Place in the flow: for the Python API, for debugging (``--workers 0``) and for tests; ``driver`` hands :func:`run_group`
a job and writes what comes. A plugin that ends or holds up the process ends or holds up the run. ``worker`` uses the
parts of it. May call ``model``, ``loading``, ``shard``, and ``prefetch``: the next shard's faces are read while the
network works on this one.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from faithface.contract import BatchingPolicy, Dataset, FaceModel
from faithface.contract.running import ONNX_RUNTIME
from faithface.errors import FaithfaceError, NotApplicable
from faithface.loading import clean_threshold, read_faces
from faithface.model import open_model
from faithface.perturb.prefetch import prefetch
from faithface.run.executors import Job, drop_failures, items_of, scored_here
from faithface.run.guard import Watch
from faithface.run.measure import measure
from faithface.run.plan import Group
from faithface.run.results import CellShard, Event, Measured, Opened
from faithface.run.shard import CellWork, ShardWork, run_shard
from faithface.run.surroundings import Surroundings


def run_group(job: Job, failed: Callable[[BaseException], None] | None = None) -> Iterator[Event]:
    """Do the pending shards of a group in this process; see :class:`~faithface.run.executors.Executor`.

    Args:
        failed: is called with what an explainer or a metric raised, for instance to look at it in a debugger.
    """
    group, dataset, request, threshold = job.group, job.dataset, job.request, job.threshold
    model = open_model(group.model.object, request.device, request.batch_size)
    if not job.opened and threshold is None:
        threshold = group_threshold(model, dataset)
    warm_up(model, group, job.policy)
    watch = Watch(surroundings=surroundings_of(group))
    if failed is not None:
        watch.failed = failed
    if job.measure:
        yield measure_job(model, job, threshold, watch)
    if not job.opened:
        yield Opened(group.number, threshold, model_facts(model))
    # A cell or metric that has failed is not tried again on the next shard.
    alive = {cell.number: scored_here(cell.metrics) for cell in group.cells}
    read = functools.partial(read_ahead, size=model.size)
    for work, pixels in prefetch(read, shards(job)):
        cells = tuple(dataclasses.replace(c, metrics=dict(alive[c.cell])) for c in work.cells if c.cell in alive)
        if not cells:
            continue
        for event in run_shard(
            model,
            dataclasses.replace(work, cells=cells),
            request.seed,
            threshold,
            dataset,
            job.keep_maps,
            pixels,
            watch,
        ):
            if isinstance(event, CellShard):
                drop_failures(alive, event)
            yield event


def read_ahead(work: ShardWork, size: tuple[int, int]) -> tuple[ShardWork, dict[str, Tensor]]:
    """Read a shard's faces; runs in the thread of :func:`prefetch`, so it asks nothing of the model."""
    return work, read_faces(work.items, size)


def shards(job: Job) -> Iterator[ShardWork]:
    """Yield the group's shards that some cell still needs, in order."""
    items = items_of(job)
    for number, positions in sorted(job.shards.items()):
        wanted = {
            cell.number: tuple(scored_here(cell.metrics))
            for cell in job.group.cells
            if number in job.pending.get(cell.number, ())
        }
        if wanted and positions:
            yield shard_of(job, items, number, wanted)


def shard_of(job: Job, items: Sequence[Any], number: int, wanted: Mapping[int, Collection[str]]) -> ShardWork:
    """Return one shard of a dataset's items, with the metrics (by their text) that some of its cells still need."""
    positions = job.shards[number]
    cells = []
    for cell in job.group.cells:
        if cell.number in wanted:
            metrics = {t: m for t, m in scored_here(cell.metrics).items() if t in wanted[cell.number]}
            first = number == min(job.pending.get(cell.number, ()), default=None)
            cells.append(CellWork(cell.number, cell.explainer.object, metrics, first))
    return ShardWork(number, positions, tuple(items[p] for p in positions), tuple(cells))


def group_threshold(model: FaceModel, dataset: Dataset) -> float | None:
    """Return the decision threshold of a verification model on a whole dataset; None for classifiers."""
    if model.card.task != "verification":
        return None
    return clean_threshold(model, dataset)


def surroundings_of(group: Group) -> Surroundings:
    """Read the state of this process, in which the plugins of a group will run."""
    kinds: set[type] = {type(cell.explainer.object) for cell in group.cells}
    kinds |= {type(metric.object) for cell in group.cells for metric in cell.metrics.values()}
    return Surroundings.read(*sorted(kinds, key=repr))


def measure_job(model: FaceModel, job: Job, threshold: float | None, watch: Watch) -> Measured:
    """Measure what the steps of a job take; whatever is wrong with its samples is found when they are scored."""
    cells = {cell.number: (cell.explainer.object, scored_here(cell.metrics)) for cell in job.group.cells}
    positions = [position for places in job.shards.values() for position in places]
    try:
        return measure(model, job.group.number, cells, job.dataset, positions, job.request.seed, threshold, watch)
    except FaithfaceError:
        return Measured(job.group.number, {}, {})


def warm_up(model: FaceModel, group: Group, policy: BatchingPolicy | None = None) -> None:
    """Before the clock of the first explainer runs: choose the batching policy, and build the twin if it is needed.

    Args:
        policy: what was measured already; None: it is measured.
    """
    if policy is not None and policy.batch == (model.fixed_batch or policy.batch):
        model.use_batching(policy)
    _ = model.batching
    if any({"gradients", "activations"} & set(cell.explainer.object.info.needs) for cell in group.cells):
        try:
            _ = model.twin
        except NotApplicable:
            return  # each explainer that needs it will say so in its own cell


def model_facts(model: FaceModel) -> dict[str, Any]:
    """Describe the open model for the record: provider, batching policy, notes, parity of the twin."""
    policy = model.batching
    facts: dict[str, Any] = {"sha256": model.sha256, "batch": policy.batch, "side_by_side": policy.workers}
    facts["engine"] = policy.engine
    provider = model.provider if policy.engine == ONNX_RUNTIME else policy.engine
    facts |= {"classes": list(model.card.output.classes), "provider": provider, "notes": list(model.notes)}
    if model.parity is not None:
        facts["twin_parity"] = model.parity
    return facts
