"""The executor for many processes or machines: the same shards, as Ray tasks; results stream back to the driver.

Place in the flow: ``--executor ray``; does the jobs that ``local.run_group`` does. Needs the extra ``cluster``. No
scheduler of our own: Ray places the workers (one processor or one GPU each); each keeps its model open, and takes
the next shard when it is done with one.

On a cluster, start Ray there and set ``RAY_ADDRESS``; datasets' files must be at the same path on every machine.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from typing import Any

from faithface.contract import Dataset, Metric
from faithface.errors import FaithfaceError, RunError, UsageError
from faithface.model.target import execution_target
from faithface.reasons import ReasonCode
from faithface.run.executors import Job, drop_failures, scored_here
from faithface.run.executors.local import group_threshold, model_facts, shards, surroundings_of, warm_up
from faithface.run.guard import Watch
from faithface.run.plan import Group
from faithface.run.request import Request
from faithface.run.results import CellShard, Event, Opened, ShardSamples
from faithface.run.shard import ShardWork, run_shard


class _Worker:
    """What runs in each Ray process: one open model, and shards of it."""

    def __init__(self, group: Group, dataset: Dataset, request: Request) -> None:
        from faithface.model import open_model

        self.dataset, self.request = dataset, request
        self.model = open_model(group.model.object, request.device, request.batch_size)
        warm_up(self.model, group)
        self.watch = Watch(isolated=True, surroundings=surroundings_of(group))

    def opened(self, group: Group) -> Opened:
        """Find the threshold and describe the model, as the local executor does."""
        return Opened(group.number, group_threshold(self.model, self.dataset), model_facts(self.model))

    def run(self, work: ShardWork, threshold: float | None, keep: bool) -> list[ShardSamples | CellShard]:
        return list(run_shard(self.model, work, self.request.seed, threshold, self.dataset, keep, watch=self.watch))


class RayExecutor:
    """Call it as ``local.run_group``; :meth:`close` ends what it started.

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
        threshold = job.threshold
        alive = {cell.number: scored_here(cell.metrics) for cell in job.group.cells}
        todo = shards(job)
        shared = (ray.put(job.group), ray.put(job.dataset))
        actors = [self._worker(job.request).remote(*shared, job.request) for _ in range(self._count(job))]
        try:
            if not job.opened:
                found: Opened = self._get(actors[0].opened.remote(shared[0]))
                threshold = found.threshold
                yield found
            running: dict[Any, Any] = {}
            for actor in actors:
                self._feed(actor, todo, alive, threshold, job.keep_maps, running)
            while running:
                (done,), _ = ray.wait(list(running), num_returns=1)
                actor = running.pop(done)
                events = self._get(done)
                for event in events:
                    if isinstance(event, CellShard):
                        drop_failures(alive, event)
                self._feed(actor, todo, alive, threshold, job.keep_maps, running)
                yield from events
        finally:
            for actor in actors:
                ray.kill(actor)

    def _feed(
        self,
        actor: Any,
        todo: Iterator[ShardWork],
        alive: dict[int, dict[str, Metric]],
        threshold: float | None,
        keep: bool,
        running: dict[Any, Any],
    ) -> None:
        """Give a worker the next shard, without what has failed elsewhere by now."""
        for work in todo:
            cells = tuple(dataclasses.replace(c, metrics=dict(alive[c.cell])) for c in work.cells if c.cell in alive)
            if cells:
                running[actor.run.remote(dataclasses.replace(work, cells=cells), threshold, keep)] = actor
                return

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
        """Fetch a result; an error of ours comes back as itself, a dead worker as a RunError."""
        try:
            return self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            cause = error.cause if isinstance(getattr(error, "cause", None), FaithfaceError) else None
            if cause is not None:
                raise cause from None
            raise RunError(f"a Ray worker failed: {str(error).strip().splitlines()[-1]}") from None
        except self.ray.exceptions.RayError as error:
            raise RunError(
                f"a Ray worker was lost ({type(error).__name__}); give the same command to resume",
                ReasonCode.WORKER_LOST,
            ) from None

    def close(self) -> None:
        """End Ray if this executor started it."""
        if self.started:
            self.ray.shutdown()
            self.started = False
