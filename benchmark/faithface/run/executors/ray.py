"""The executor for many processes or machines: the same shards, as Ray tasks; results stream back to the driver.

Place in the flow: ``--executor ray``; does the jobs that ``local.run_group`` does. Needs the extra ``cluster``. No
scheduler of our own: Ray places the workers (one processor or one GPU each); each keeps its model open, and takes
the next shard when it is done with one.

On a cluster, start Ray there and set ``RAY_ADDRESS``; datasets' files must be at the same path on every machine.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from faithface.contract import Dataset, FaceModel, Metric
from faithface.errors import FaithfaceError, RunError, UsageError
from faithface.model.target import execution_target
from faithface.reasons import Reason, ReasonCode, Status
from faithface.run.executors import Job, drop_failures, scored_here
from faithface.run.executors.local import group_threshold, model_facts, shards, surroundings_of, warm_up
from faithface.run.guard import Watch
from faithface.run.plan import Group
from faithface.run.request import Request
from faithface.run.results import CellShard, Event, Opened, ShardFailure, ShardSamples
from faithface.run.shard import ShardWork, run_shard

RETRIES = 3  # how often a shard is given to another worker after its own was lost


class _Worker:
    """What runs in each Ray process: one open model, and shards of it."""

    def __init__(self, group: Group, dataset: Dataset, request: Request) -> None:
        self.group, self.dataset, self.request = group, dataset, request

    @functools.cached_property
    def model(self) -> FaceModel:
        """The open model; opened by the first task, so that an error of it comes back as that task's."""
        from faithface.model import open_model

        model = open_model(self.group.model.object, self.request.device, self.request.batch_size)
        warm_up(model, self.group)
        return model

    @functools.cached_property
    def watch(self) -> Watch:
        """What plugins must leave as it is: the state of this process once the model is open."""
        _ = self.model
        return Watch(isolated=True, surroundings=surroundings_of(self.group))

    def opened(self) -> Opened:
        """Find the threshold and describe the model, as the local executor does."""
        threshold = group_threshold(self.model, self.dataset)
        return Opened(self.group.number, threshold, model_facts(self.model))

    def run(self, work: ShardWork, threshold: float | None, keep: bool) -> Iterator[ShardSamples | CellShard]:
        yield from run_shard(self.model, work, self.request.seed, threshold, self.dataset, keep, watch=self.watch)


class _Lost(Exception):
    """A worker has died, or its machine has gone."""


@dataclass
class _Task:
    """A shard that a worker has: what is left of it, and how many workers were lost on it."""

    work: ShardWork
    actor: Any = None
    lost: int = 0


class RayExecutor:
    """Call it as ``local.run_group``; :meth:`close` ends what it started.

    A worker that is lost is replaced, and what was left of its shard is given to the next one. A shard on which
    ``RETRIES + 1`` workers were lost fails its unfinished cells, and the run goes on.

    Args:
        workers: how many processes; None for one per processor (or GPU) that Ray has.

    Raises:
        UsageError: Ray is not installed.
    """

    def __init__(self, workers: int | None = None) -> None:
        # Ray would otherwise send every worker's line of log to our terminal, and usage figures to its makers.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            import ray
        except ImportError:
            raise UsageError("--executor ray needs Ray: pip install 'faithface[cluster]'") from None
        self.ray: Any = ray
        self.workers = workers
        self.started = False

    def __call__(self, job: Job, /) -> Iterator[Event]:
        self._start()
        ray = self.ray
        shared = (ray.put(job.group), ray.put(job.dataset))
        actors: set[Any] = set()

        def hire() -> Any:
            actor = self._worker(job.request).remote(*shared, job.request)
            actors.add(actor)
            return actor

        def dismiss(actor: Any) -> None:
            actors.discard(actor)
            ray.kill(actor)

        try:
            threshold = job.threshold
            if not job.opened:
                found = self._opened(hire, dismiss)
                threshold = found.threshold
                yield found
            yield from self._shards(job, threshold, hire, dismiss, actors)
        finally:
            for actor in list(actors):
                ray.kill(actor)

    def _opened(self, hire: Callable[[], Any], dismiss: Callable[[Any], None]) -> Opened:
        """Open the model in a worker, and in another one if that is lost."""
        for _attempt in range(RETRIES + 1):
            actor = hire()
            try:
                found: Opened = self._get(actor.opened.remote())
                return found
            except _Lost:
                dismiss(actor)
        raise UsageError(f"{RETRIES + 1} workers were lost while they opened the model", ReasonCode.WORKER_LOST)

    def _shards(
        self,
        job: Job,
        threshold: float | None,
        hire: Callable[[], Any],
        dismiss: Callable[[Any], None],
        actors: set[Any],
    ) -> Iterator[Event]:
        """Give the shards to workers, and yield what comes, cell by cell."""
        alive = {cell.number: scored_here(cell.metrics) for cell in job.group.cells}
        todo = (_Task(work) for work in shards(job))
        again: deque[_Task] = deque()
        running: dict[Any, _Task] = {}

        def feed(actor: Any) -> None:
            """Give a worker the next shard, without what has failed elsewhere by now."""
            for task in chain(iter(lambda: again.popleft() if again else None, None), todo):
                task.work = without(task.work, alive)
                if task.work.cells:
                    task.actor = actor
                    stream = actor.run.options(num_returns="streaming").remote(task.work, threshold, job.keep_maps)
                    running[stream] = task
                    return

        for actor in [*actors, *(hire() for _ in range(self._count(job) - len(actors)))]:
            feed(actor)
        while running:
            (stream,), _ = self.ray.wait(list(running), num_returns=1)
            task = running[stream]
            try:
                event = self._get(next(stream))
            except StopIteration:
                del running[stream]
                feed(task.actor)
                continue
            except _Lost:
                del running[stream]
                dismiss(task.actor)
                task.lost += 1
                if task.lost <= RETRIES:
                    again.append(task)
                else:
                    for failed in given_up(task):
                        drop_failures(alive, failed)
                        yield failed
                feed(hire())
                continue
            if isinstance(event, CellShard):
                drop_failures(alive, event)
                task.work = without(
                    task.work, {c.cell: {} for c in task.work.cells if c.cell != event.cell}, all_of=True
                )
            yield event

    def _start(self) -> None:
        if not self.ray.is_initialized():
            local = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": self.workers, "include_dashboard": False}
            self.ray.init(log_to_driver=False, logging_level="error", configure_logging=True, **local)
            self.started = True

    def _worker(self, request: Request) -> Any:
        needs = {"num_gpus": 1} if execution_target(request.device).torch == "cuda" else {"num_cpus": 1}
        return self.ray.remote(**needs)(_Worker)

    def _count(self, job: Job) -> int:
        kind = "GPU" if execution_target(job.request.device).torch == "cuda" else "CPU"
        have = self.ray.cluster_resources().get(kind, 0)
        if have < 1:
            # Ray would silently wait for one.
            raise UsageError(f"Ray has no {kind} (device {job.request.device}); start Ray where there is one")
        wanted = self.workers or int(have)
        shards_left = len({n for numbers in job.pending.values() for n in numbers})
        return max(1, min(wanted, shards_left, int(have)))

    def _get(self, reference: Any) -> Any:
        """Fetch a result; an error of ours comes back as itself, a dead worker as :class:`_Lost`."""
        try:
            return self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            cause = error.cause if isinstance(getattr(error, "cause", None), FaithfaceError) else None
            if cause is not None:
                raise cause from None
            raise RunError(f"a Ray worker failed: {str(error).strip().splitlines()[-1]}") from None
        except self.ray.exceptions.RayError:
            raise _Lost from None

    def close(self) -> None:
        """End Ray if this executor started it."""
        if self.started:
            self.ray.shutdown()
            self.started = False


def without(work: ShardWork, alive: Mapping[int, Mapping[str, Metric]], all_of: bool = False) -> ShardWork:
    """Return a shard with the cells and metrics that are still wanted.

    Args:
        all_of: keep all metrics of the cells in ``alive``.
    """
    cells = tuple(
        cell
        if all_of
        else dataclasses.replace(cell, metrics={k: m for k, m in cell.metrics.items() if k in alive[cell.cell]})
        for cell in work.cells
        if cell.cell in alive
    )
    return dataclasses.replace(work, cells=cells)


def given_up(task: _Task) -> Iterator[CellShard]:
    """Yield the failures of the cells of a shard on which too many workers were lost."""
    ids = tuple(item.id for item in task.work.items)
    for cell in task.work.cells:
        reason = Reason(ReasonCode.WORKER_LOST, f"{task.lost} workers were lost on shard {task.work.number}")
        yield CellShard(cell.cell, task.work.number, ids, failure=ShardFailure(Status.FAILED, reason))
