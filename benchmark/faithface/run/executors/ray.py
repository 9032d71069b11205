"""The executor for many processes or machines: the same shards, as Ray tasks; results stream back to the driver.

Place in the flow: ``--executor ray``; does the jobs that ``local.run_group`` does. Needs the extra ``cluster``. No
scheduler of our own: Ray places the workers (one processor or one GPU each); each keeps its model open, and takes
the next shard when it is done with one.

On a cluster, start Ray there and set ``RAY_ADDRESS``; datasets' files must be at the same path on every machine.
"""

from __future__ import annotations

import functools
import os
import pickle
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from faithface.contract import FaceModel, Metric, Passes
from faithface.errors import FaithfaceError, UsageError
from faithface.model.target import execution_target
from faithface.reasons import Reason, ReasonCode, Status
from faithface.run.executors import GroupFailed, Job, drop_failures, items_of, packed, scored_here
from faithface.run.executors.local import group_threshold, model_facts, shard_of, surroundings_of, warm_up
from faithface.run.executors.orders import Order
from faithface.run.executors.processes import ProcessExecutor
from faithface.run.guard import Watch
from faithface.run.request import Request
from faithface.run.results import CellShard, Event, Opened, Progress, ShardFailure, ShardSamples, Step
from faithface.run.shard import run_shard

RETRIES = 3  # how often a shard is given to another worker after its own was lost
BEAT = 1.0  # seconds between two reports of what a worker is at


class _Reports:
    """Where the workers write what they are at, for the driver to read: a small actor beside them.

    A worker's own results cannot carry it: they come when a cell is done with its shard, and a worker does one thing
    at a time.
    """

    def __init__(self) -> None:
        self.latest: dict[int, tuple[Step, Passes]] = {}

    def write(self, process: int, step: Step, passes: Passes) -> None:
        self.latest[process] = step, passes

    def read(self) -> dict[int, tuple[Step, Passes]]:
        """Return what was written since the last reading."""
        found, self.latest = self.latest, {}
        return found


class _Worker:
    """What runs in each Ray process: one open model, and shards of it.

    Args:
        data: a job, by ``packed``: it is opened by the first task, so that an error of it comes back as that task's,
            and not as the loss of a worker.
        reports: the actor that is told once a second what this process is at.
        process: the number by which it is told.
    """

    def __init__(self, data: bytes, reports: Any, process: int) -> None:
        self.data, self.reports, self.process = data, reports, process
        self.step, self.before = Step("open"), Passes()
        threading.Thread(target=self._beat, name="beat", daemon=True).start()

    def _beat(self) -> None:
        while True:
            time.sleep(BEAT)
            model = vars(self).get("model")
            passes = Passes() if model is None else model.passes - self.before
            self.reports.write.remote(self.process, self.step, passes)

    def tell(self, step: Step) -> None:
        """Note the step that begins now, and that its passes are counted from here."""
        self.step, self.before = step, self.model.passes

    @functools.cached_property
    def job(self) -> Job:
        found: Job = pickle.loads(self.data)
        return found

    @functools.cached_property
    def items(self) -> Sequence[Any]:
        return items_of(self.job)

    @functools.cached_property
    def model(self) -> FaceModel:
        """The open model."""
        from faithface.model import open_model

        request = self.job.request
        model = open_model(self.job.group.model.object, request.device, request.batch_size)
        warm_up(model, self.job.group, self.job.policy)
        return model

    @functools.cached_property
    def watch(self) -> Watch:
        """What plugins must leave as it is: the state of this process once the model is open."""
        _ = self.model
        return Watch(self.tell, isolated=True, surroundings=surroundings_of(self.job.group))

    def opened(self) -> Opened:
        """Find the threshold and describe the model, as the local executor does."""
        self.tell(Step("threshold"))
        threshold = group_threshold(self.model, self.job.dataset)
        return Opened(self.job.group.number, threshold, model_facts(self.model))

    def run(self, order: Order) -> Iterator[ShardSamples | CellShard]:
        """Do one shard; only its number and the names of what is wanted travel."""
        job, work = self.job, shard_of(self.job, self.items, order.number, order.cells)
        yield from run_shard(
            self.model, work, job.request.seed, order.threshold, job.dataset, job.keep_maps, watch=self.watch
        )


class _Lost(Exception):
    """A worker has died, or its machine has gone; the text is what Ray says of it, in one line."""


@dataclass
class _Task:
    """A shard that a worker has: what is left of it, by cell the metrics, and how many workers were lost on it."""

    number: int
    cells: dict[int, tuple[str, ...]]
    actor: Any = None
    lost: int = 0


class _Reading:
    """Reads the reports about once a second, and waits for nothing: a run does not depend on what is told of it."""

    def __init__(self, ray: Any, reports: Any) -> None:
        self.ray, self.reports = ray, reports
        self.asked, self.last = reports.read.remote(), time.monotonic()

    def progress(self) -> Iterator[Progress]:
        if time.monotonic() - self.last < BEAT or not self.ray.wait([self.asked], timeout=0)[0]:
            return
        try:
            found = self.ray.get(self.asked)
        except self.ray.exceptions.RayError:  # its machine has gone
            found = {}
        self.asked, self.last = self.reports.read.remote(), time.monotonic()
        for process, (step, passes) in sorted(found.items()):
            yield Progress(step, passes.forward, passes.backward, process)


class RayExecutor:
    """Call it as ``local.run_group``; :meth:`close` ends what it started.

    A worker that is lost is replaced, and what was left of its shard is given to the next one. A shard on which
    ``RETRIES + 1`` workers were lost fails its unfinished cells, and the run goes on.

    Args:
        workers: how many processes; None for one per processor (or GPU) that Ray has.
        beside: lists datasets and scores family metrics, in a worker process of the driver's machine.

    Raises:
        UsageError: Ray is not installed.
    """

    def __init__(self, workers: int | None = None, beside: ProcessExecutor | None = None) -> None:
        # Ray would otherwise send every worker's line of log to our terminal, and usage figures to its makers.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        # Its workers would have the lowest priority, and count as dead if they had not started within a minute: on a
        # busy machine the run would lose one after another.
        os.environ.setdefault("RAY_worker_niceness", "0")
        os.environ.setdefault("RAY_worker_register_timeout_seconds", "600")
        try:
            import ray
        except ImportError:
            raise UsageError("--executor ray needs Ray: pip install 'faithface[cluster]'") from None
        self.ray: Any = ray
        self.workers = workers
        self.beside = beside or ProcessExecutor()
        self.retries = self.beside.retries
        self.started = False

    def __call__(self, job: Job, /) -> Iterator[Event]:
        self._start()
        ray = self.ray
        shared = ray.put(packed(job))
        actors: dict[Any, int] = {}
        reports = ray.remote(num_cpus=0)(_Reports).remote()
        reading = _Reading(ray, reports)

        def hire() -> Any:
            process = min(set(range(len(actors) + 1)) - set(actors.values()))
            actor = self._worker(job.request).remote(shared, reports, process)
            actors[actor] = process
            return actor

        def dismiss(actor: Any) -> None:
            actors.pop(actor, None)
            ray.kill(actor)

        try:
            threshold = job.threshold
            if not job.opened:
                found = yield from self._opened(hire, dismiss, reading)
                threshold = found.threshold
                yield found
            yield from self._shards(job, threshold, hire, dismiss, actors, reading)
        finally:
            for actor in [*actors, reports]:
                ray.kill(actor)

    def _opened(
        self, hire: Callable[[], Any], dismiss: Callable[[Any], None], reading: _Reading
    ) -> Generator[Event, None, Opened]:
        """Open the model in a worker, and in another one if that is lost."""
        said = ""
        for _attempt in range(RETRIES + 1):
            actor = hire()
            try:
                reference = actor.opened.remote()
                while not self.ray.wait([reference], timeout=BEAT)[0]:
                    yield from reading.progress()
                found: Opened = self._get(reference)
                return found
            except _Lost as lost:
                said = str(lost)
                dismiss(actor)
        raise GroupFailed(
            f"{RETRIES + 1} workers were lost while they opened the model; of the last one Ray says: {said}",
            ReasonCode.WORKER_LOST,
        )

    def _shards(
        self,
        job: Job,
        threshold: float | None,
        hire: Callable[[], Any],
        dismiss: Callable[[Any], None],
        actors: Mapping[Any, int],
        reading: _Reading,
    ) -> Iterator[Event]:
        """Give the shards to workers, and yield what comes, cell by cell."""
        alive = {cell.number: scored_here(cell.metrics) for cell in job.group.cells}
        todo = (_Task(number, cells) for number, cells in pending(job))
        again: deque[_Task] = deque()
        running: dict[Any, _Task] = {}

        def feed(actor: Any) -> None:
            """Give a worker the next shard, without what has failed elsewhere by now."""
            for task in chain(iter(lambda: again.popleft() if again else None, None), todo):
                task.cells = still_wanted(task.cells, alive)
                if task.cells:
                    task.actor = actor
                    order = Order(task.number, task.cells, threshold)
                    stream = actor.run.options(num_returns="streaming").remote(order)
                    running[stream] = task
                    return

        for actor in [*actors, *(hire() for _ in range(self._count(job) - len(actors)))]:
            feed(actor)
        while running:
            ready, _ = self.ray.wait(list(running), num_returns=1, timeout=BEAT)
            yield from reading.progress()
            if not ready:
                continue
            (stream,) = ready
            task = running[stream]
            try:
                event = self._get(next(stream))
            except StopIteration:
                del running[stream]
                feed(task.actor)
                continue
            except _Lost as lost:
                del running[stream]
                dismiss(task.actor)
                task.lost += 1
                if task.lost <= RETRIES:
                    again.append(task)
                else:
                    for failed in given_up(job, task, str(lost)):
                        drop_failures(alive, failed)
                        yield failed
                feed(hire())
                continue
            if isinstance(event, CellShard):
                drop_failures(alive, event)
                task.cells.pop(event.cell, None)
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
            raise GroupFailed(f"a Ray worker failed: {last_line(error)}", ReasonCode.MODEL_UNUSABLE) from None
        except self.ray.exceptions.RayError as error:
            raise _Lost(f"{type(error).__name__}: {last_line(error)}") from None

    def apply(self, function: Callable[..., Any], *arguments: object, **options: Any) -> Any:
        """Call a function in a worker process of this machine; see :func:`~faithface.run.executors.apply`."""
        return self.beside.apply(function, *arguments, **options)

    def stream(self, function: Callable[..., Any], *arguments: object, about: Mapping[str, str]) -> Iterator[Any]:
        """As :meth:`apply`, of a generator; see :func:`~faithface.run.executors.stream`."""
        return self.beside.stream(function, *arguments, about=about)

    def close(self) -> None:
        """End Ray if this executor started it, and the worker process beside it."""
        self.beside.close()
        if self.started:
            self.ray.shutdown()
            self.started = False


def pending(job: Job) -> Iterator[tuple[int, dict[int, tuple[str, ...]]]]:
    """Yield the shards that some cell still needs, in order, with the metrics by cell."""
    metrics = {cell.number: tuple(scored_here(cell.metrics)) for cell in job.group.cells}
    for number, positions in sorted(job.shards.items()):
        cells = {cell: metrics[cell] for cell, numbers in job.pending.items() if number in numbers and cell in metrics}
        if cells and positions:
            yield number, cells


def still_wanted(
    cells: Mapping[int, tuple[str, ...]], alive: Mapping[int, Mapping[str, Metric]]
) -> dict[int, tuple[str, ...]]:
    """Return cells and metrics without what has failed by now."""
    return {cell: tuple(m for m in metrics if m in alive[cell]) for cell, metrics in cells.items() if cell in alive}


def given_up(job: Job, task: _Task, said: str) -> Iterator[CellShard]:
    """Yield the failures of the cells of a shard on which too many workers were lost."""
    items = job.dataset.items()
    ids = tuple(items[at].id for at in job.shards[task.number])
    detail = f"{task.lost} workers were lost on shard {task.number}; of the last one Ray says: {said}"
    for cell in task.cells:
        failure = ShardFailure(Status.FAILED, Reason(ReasonCode.WORKER_LOST, detail))
        yield CellShard(cell, task.number, ids, failure=failure)


def last_line(error: BaseException, longest: int = 300) -> str:
    """Return what an error says, in one line: the last one of a traceback, all of another text."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[-1:] if any(line.startswith("Traceback") for line in lines) else lines
    return " ".join(text)[:longest] or type(error).__name__
