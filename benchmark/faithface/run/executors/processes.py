"""The executor for one machine: worker processes that are watched, so that no plugin ends or holds up a run.

Place in the flow: ``faithface run`` uses it unless told otherwise; the driver hands it a job per group and writes what
comes. May call ``child``; imports no torch.

A worker is warm: it keeps its process and the open model, and is handed shards. When it dies, hangs or takes too much
memory, the step that it was at says whose fault it was. That explainer or metric fails with the reason, and a fresh
worker does the rest of the shard. A death is tried again ``retries`` times before, because a process may be killed from
outside; what exceeds a limit is not.
"""

from __future__ import annotations

import atexit
import itertools
import os
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, TypeVar

from faithface.contract import BatchingPolicy
from faithface.errors import RunError, UsageError
from faithface.reasons import Reason, ReasonCode, Status
from faithface.run.executors import GroupFailed, Job, drop_failures, packed, policy_of, scored_here
from faithface.run.executors.child import Child, prepare
from faithface.run.executors.orders import Failed, Order
from faithface.run.paths import log_file
from faithface.run.results import CellShard, Event, Measured, Opened, Progress, ShardFailure, ShardSamples, Step

T = TypeVar("T")
TELL = 1.0  # seconds between two words on a step that goes on
MEASURE = 20.0  # seconds that the measurement of a step may take
POLL = 0.1  # seconds between two looks at the limits
LONGEST = 3600.0  # seconds for a step where no limit is given, at least
IMAGES = 500_000  # ... and at least as long as so many images take to be scored clean
SLOW_STEPS = 10.0  # opening a model, and finding a threshold, may take so many times the limit
OPENING = 3600.0  # seconds for opening a model where no limit is given
LOG_LIMIT = 1_000_000  # bytes per log


@dataclass
class Todo:
    """A shard that is not finished: the cells that still need it; ``alone``: nothing else is done at the same time."""

    number: int
    left: set[int]
    alone: bool = False


@dataclass(frozen=True)
class Loss:
    """Why a worker is gone: a code, and what it did, as the end of a sentence about its step."""

    code: ReasonCode
    text: str


class ProcessExecutor:
    """Call it as ``local.run_group``; :meth:`close` ends its processes.

    Args:
        workers: how many processes.
        timeout: seconds that an explainer or a metric may take for one shard; None: an hour, or more where the network
            is slow.
        memory: bytes that a worker may hold; None: nine tenths of what is free now, shared among the workers.
        retries: how often a step whose worker died is tried again.
        logs: the run directory, in which output of plugins is kept; None: it is not kept.
    """

    def __init__(
        self,
        workers: int = 1,
        timeout: float | None = None,
        memory: int | None = None,
        retries: int = 1,
        logs: Path | None = None,
    ) -> None:
        self.workers, self.timeout, self.retries, self.logs = workers, timeout, retries, logs
        self.memory = memory or free_memory() * 9 // 10 // workers
        self.children: list[Child] = []
        self.seconds_per_image = 0.0
        prepare()
        atexit.register(self.close)

    def close(self) -> None:
        """End all processes."""
        atexit.unregister(self.close)
        children, self.children = self.children, []
        for child in children:
            if child.state in ("new", "ready"):
                child.quit()
            else:
                child.kill()

    def child(self) -> Child:
        """Start a process."""
        threads = None
        if self.workers > 1:
            given = os.environ.get("OMP_NUM_THREADS", "")
            threads = max(1, (int(given) if given.isdecimal() else os.cpu_count() or 1) // self.workers)
        made = Child(threads)
        self.children.append(made)
        return made

    def drop(self, child: Child) -> None:
        child.kill()
        if child in self.children:
            self.children.remove(child)

    def __call__(self, job: Job, /) -> Iterator[Event]:
        group = _GroupRun(self, job)
        try:
            yield from group.events()
        finally:
            for child in tuple(self.children):
                if child.state != "ready":
                    self.drop(child)

    def _free(self) -> Child:
        """Return a worker with nothing to do: what a busy one says belongs to its job, and a call would take it."""
        for child in self.children:
            if child.state in ("new", "ready") and not child.orders:
                return child
        return self.child()

    def apply(
        self,
        function: Callable[..., T],
        *arguments: object,
        about: str = "",
        raised: ReasonCode = ReasonCode.DATASET_UNUSABLE,
    ) -> T:
        """Return ``function(*arguments, beat=…)``, called in a worker; each ``beat()`` begins its time anew.

        Args:
            about: what is at fault if it ends or holds up the process, as the beginning of a sentence.
            raised: the code of its failure if it raises something.

        Raises:
            UsageError: the function's own.
            GroupFailed: it raised something else, or ended or held up the process.
        """
        data = packed((function, arguments))
        for lost in itertools.count():
            try:
                *_, result = self._call("call", data, {"call": about}, raised)
                return result  # type: ignore[no-any-return]
            except GroupFailed as error:
                # A process may be killed from outside; what exceeds a limit is not tried again.
                if error.code is not ReasonCode.WORKER_LOST or lost >= self.retries:
                    raise
        raise AssertionError

    def stream(self, function: Callable[..., Iterator[T]], *arguments: object, about: Mapping[str, str]) -> Iterator[T]:
        """Yield what ``function(*arguments, watch=…)`` yields in a worker, each as it comes.

        Args:
            about: what is at fault, by the kind of step, as the beginning of a sentence.

        Raises:
            UsageError: the function's own.
            GroupFailed: it raised something else, or ended or held up the process.
        """
        yield from self._call("stream", packed((function, arguments)), about, ReasonCode.DATASET_UNUSABLE)

    def _call(self, kind: str, data: bytes, about: Mapping[str, str], raised: ReasonCode) -> Iterator[Any]:
        """Yield the parts, or the one result, of a function that is called in a worker."""
        child = self._free()
        # Its time begins when the worker says so: starting a process is nobody's fault.
        child.send(kind, data)
        child.state = "busy"
        try:
            while child.state == "busy":
                wait([child.connection, child.process.sentinel, child.output], POLL)
                self._drain(child)
                yield from self._answers(child, kind, about, raised)
                if child.soiled:
                    return
                if child.state == "busy" and (loss := self.loss(child)) is not None:
                    if loss.code is ReasonCode.TIME_LIMIT:
                        for _ in child.ask_where():
                            pass
                    yield from self._answers(child, kind, about, raised)  # what it said before its end
                    if child.state == "busy":
                        self._drain(child)
                        subject = about.get(child.step[0].kind, next(iter(about.values())))
                        raise GroupFailed(f"{subject} {loss.text}{said(child.tail)}", loss.code)
        finally:
            if child.state != "ready":
                self.drop(child)

    @staticmethod
    def _drain(child: Child) -> None:
        for _ in child.printed():
            pass

    def _answers(self, child: Child, called: str, about: Mapping[str, str], raised: ReasonCode) -> Iterator[Any]:
        for kind, *rest in child.messages():
            if kind == "part":
                yield rest[0]
            elif kind == "soiled":
                child.soiled = True
            elif kind in ("result", "error"):
                subject = about.get(child.step[0].kind, next(iter(about.values())))
                child.step = (Step("rest"), time.monotonic())
                child.state = "ready"
                if kind == "error" and called == "stream" and type(rest[0].error) is RunError:
                    raise rest[0].error  # the run directory, of which no plugin knows anything
                if kind == "error":
                    self._raise(rest[0], subject, raised)
                if called == "call":
                    yield rest[0]

    @staticmethod
    def _raise(failed: Failed, what: str, code: ReasonCode) -> None:
        if isinstance(failed.error, UsageError):
            raise failed.error
        if failed.error is not None:
            raise GroupFailed(str(failed.error), failed.error.code)
        if failed.code is not None:
            raise GroupFailed(f"{what} {failed.text}", failed.code)
        raise GroupFailed(f"{what} raised {failed.text}", code)

    # --- limits

    def limit(self, step: Step) -> float:
        """Return how many seconds a step may take."""
        if step.kind == "open" and not self.timeout:
            return OPENING
        limit = self.timeout or max(LONGEST, IMAGES * self.seconds_per_image)
        if step.kind == "measure":
            return min(limit, MEASURE)
        return limit * SLOW_STEPS if step.kind in ("open", "threshold") else limit

    def loss(self, child: Child) -> Loss | None:
        """Say why a worker is lost, if it is; one that breaks a limit is ended here."""
        now = time.monotonic()
        held = child.memory()
        if held > self.memory > 0:
            return Loss(
                ReasonCode.MEMORY_LIMIT,
                f"held {held / 1e9:.2g} GB of memory, more than the limit of {self.memory / 1e9:.2g} GB (--memory)",
            )
        for begun in (child.reading, child.step):
            if begun is not None and begun[0].kind != "rest" and now - begun[1] > self.limit(begun[0]):
                text = f"did not end within {self.limit(begun[0]):g} s (--timeout)"
                return Loss(ReasonCode.TIME_LIMIT, text)
        if not child.alive() or child.closed:
            return Loss(ReasonCode.WORKER_LOST, child.how_it_ended)
        return None


def free_memory() -> int:
    """Return the bytes of memory that are free for use now, by the machine and by the control group; 0: not known."""
    found = []
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) * 1024)
    except (OSError, ValueError):
        return 0
    try:
        cap = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        if cap.isdecimal():
            found.append(int(cap) - int(Path("/sys/fs/cgroup/memory.current").read_text()))
    except (OSError, ValueError):
        pass
    return max(0, min(found, default=0))


@dataclass
class _GroupRun:
    """One job under way."""

    pool: ProcessExecutor
    job: Job
    threshold: float | None = None
    open: bool = False
    queue: deque[Todo] = field(default_factory=deque)
    alive: dict[int, dict[str, Any]] = field(default_factory=dict)
    ids: dict[int, tuple[str, ...]] = field(default_factory=dict)
    late: dict[tuple[int, int], dict[str, ShardFailure]] = field(default_factory=dict)
    tries: Counter[Any] = field(default_factory=Counter)
    written: dict[Path, int] = field(default_factory=dict)
    children: list[Child] = field(default_factory=list)
    data: bytes = b""
    measure: bool = False
    policy: BatchingPolicy | None = None

    def events(self) -> Iterator[Event]:
        job, pool = self.job, self.pool
        self.threshold = job.threshold
        self.open, self.measure, self.policy = job.opened, job.measure, job.policy
        self.alive = {cell.number: scored_here(cell.metrics) for cell in job.group.cells}
        for number, positions in sorted(job.shards.items()):
            left = {cell for cell, numbers in job.pending.items() if number in numbers}
            if left and positions:
                self.queue.append(Todo(number, left))
        self.data = packed(job)
        count = max(1, min(pool.workers, len(self.queue)))
        while len(pool.children) < count:
            pool.child()
        self.children = pool.children[:count]
        self._start(self.children[0])
        while self.queue or any(child.orders for child in self.children) or not self.open:
            if self.open:
                for child in self.children:
                    if child.state == "new" or (child.state == "ready" and child.job is not self):
                        self._start(child)
                    self._feed(child)
            ends: list[Any] = []
            for child in self.children:
                ends += [child.connection, child.output, child.process.sentinel]
            wait(ends, POLL)
            for child in tuple(self.children):
                yield from self._listen(child)
            for i, child in enumerate(self.children):
                yield from self._progress(i, child)
        for child in self.children:
            # The last shard is done; the worker says that it is ready for another job.
            yield from self._settle(child)

    def _progress(self, process: int, child: Child) -> Iterator[Event]:
        """Tell what a worker is at when that has changed, and once a second."""
        now, state = time.monotonic(), (child.step, child.passes)
        if state != child.told[0] or now - child.told[1] >= TELL:
            child.told = (state, now)
            yield Progress(child.step[0], *child.passes, process)

    def _settle(self, child: Child) -> Iterator[Event]:
        end = time.monotonic() + 10
        while child.state in ("busy", "ending") and time.monotonic() < end and child.alive():
            if child.state == "busy":
                child.send("end")
                child.state = "ending"
            wait([child.connection, child.process.sentinel], POLL)
            for message in child.messages():
                yield from self._handle(child, message)

    def _start(self, child: Child) -> None:
        child.state = "opening"
        child.job = self
        child.step = (Step("rest"), time.monotonic())
        child.send("job", self.data, self.open, self.measure, self.policy)
        self.measure = False  # once, even if it costs the worker its life

    def _feed(self, child: Child) -> None:
        """Order shards: two at a time, so that the faces of one are read while the other is worked on."""
        while child.state in ("ready", "busy") and len(child.orders) < 2:
            while self.queue and not self._wanted(self.queue[0]):
                self.queue.popleft()
            if not self.queue or (child.state == "busy" and self.queue[0].alone):
                if child.state == "busy":
                    child.send("end")
                    child.state = "ending"
                return
            todo = self.queue.popleft()
            cells = self._wanted(todo)
            child.orders.append(todo)
            child.send("shard", Order(todo.number, cells, self.threshold, todo.alone))
            child.state = "busy"
            if todo.alone:
                child.send("end")
                child.state = "ending"

    def _wanted(self, todo: Todo) -> dict[int, tuple[str, ...]]:
        return {cell: tuple(self.alive[cell]) for cell in sorted(todo.left) if cell in self.alive}

    # --- what comes from a worker

    def _listen(self, child: Child) -> Iterator[Event]:
        self._log(child, child.printed())
        for message in child.messages():
            yield from self._handle(child, message)
        loss = None if child.soiled else self.pool.loss(child)
        if loss is None and not child.soiled:
            return
        at = (child.step, child.reading)
        if loss is not None:
            yield from self._last_words(child, loss)
        if loss is not None and loss.code is not ReasonCode.WORKER_LOST:
            child.step, child.reading = at  # being asked may have woken it, but its time was over
        if child.soiled or loss is None:
            self._replace(child)
        else:
            yield from self._lost(child, loss)

    def _last_words(self, child: Child, loss: Loss) -> Iterator[Event]:
        """Hear what a lost worker has said before its end."""
        if loss.code is ReasonCode.TIME_LIMIT:
            self._log(child, child.ask_where())
        if loss.code is ReasonCode.WORKER_LOST:
            for message in child.messages():
                yield from self._handle(child, message)
        self._log(child, child.printed())

    def _handle(self, child: Child, message: tuple[Any, ...]) -> Iterator[Event]:
        kind, *rest = message
        if kind == "event":
            yield from self._event(child, rest[0])
        elif kind == "done":
            if child.orders and child.orders[0].number == rest[0]:
                child.orders.pop(0)
        elif kind == "idle":
            child.state = "ready"
        elif kind in ("soiled", "doubt"):
            child.soiled = True
            for todo in child.orders if kind == "doubt" else ():
                todo.alone = True
        elif kind == "error":
            step = child.step[0]
            code = ReasonCode.MODEL_UNUSABLE if step.kind in ("open", "load") else ReasonCode.DATASET_UNUSABLE
            self.pool._raise(rest[0], self._who(step), code)

    def _event(self, child: Child, event: Event) -> Iterator[Event]:
        if isinstance(event, Opened):
            child.state = "ready"
            if not self.open:
                self.open, self.threshold = True, event.threshold
                self.policy = policy_of(event.facts)
                yield event
        elif isinstance(event, Measured | Progress):
            yield event
        elif isinstance(event, ShardSamples):
            self.ids[event.number] = tuple(fact.sample for fact in event.facts)
            taken = time.monotonic() - child.step[1]
            self.pool.seconds_per_image = max(self.pool.seconds_per_image, taken / max(1, len(event.facts)))
            yield event
        else:
            for todo in child.orders:
                if todo.number == event.number:
                    todo.left.discard(event.cell)
            late = self.late.pop((event.number, event.cell), {})
            if late and event.failure is None:
                event = replace(event, metric_failures={**event.metric_failures, **late})
            if event.cell in self.alive:
                drop_failures(self.alive, event)
                yield event

    # --- what to do about a loss

    def _replace(self, child: Child) -> None:
        """Put what a worker has not done back into the queue, and a fresh worker in its place."""
        self.queue.extendleft(reversed(child.orders))
        child.orders = []
        self.pool.drop(child)
        self.children[self.children.index(child)] = self.pool.child()
        if not self.open:
            self._start(self.children[0])

    def _lost(self, child: Child, loss: Loss) -> Iterator[Event]:
        step, reading, orders = child.step[0], child.reading, tuple(child.orders)
        text = loss.text + said(child.tail)
        self._replace(child)
        if reading is not None and step.kind in ("explain", "again", "score", "load"):
            # Either may be the one. Do the shards again, one thing at a time.
            for todo in orders:
                todo.alone = True
            return
        if step.kind == "measure":
            return  # whose fault it was will show when its turn comes
        if step.kind in ("explain", "again", "score"):
            yield from self._blame(step, Loss(loss.code, text))
            return
        at = reading[0] if reading is not None else step
        self.tries[at] += 1
        if loss.code is not ReasonCode.WORKER_LOST or self.tries[at] > self.pool.retries + (at.kind == "rest") * 10:
            raise GroupFailed(f"{self._who(at)} {text}", loss.code)

    def _blame(self, step: Step, loss: Loss) -> Iterator[Event]:
        assert step.cell is not None
        assert step.shard is not None
        self.tries[step] += 1
        if loss.code is ReasonCode.WORKER_LOST and self.tries[step] <= self.pool.retries:
            return
        again = f" ({self.tries[step]} times)" if self.tries[step] > 1 else ""
        whose = "explainer" if step.metric is None else "metric"
        failure = ShardFailure(Status.FAILED, Reason(loss.code, f"{whose} {loss.text}{again}"))
        if step.metric is not None:
            self.alive[step.cell].pop(step.metric, None)
            self.late.setdefault((step.shard, step.cell), {})[step.metric] = failure
            return
        for todo in self.queue:
            if todo.number == step.shard:
                todo.left.discard(step.cell)
        event = CellShard(step.cell, step.shard, self.ids.get(step.shard, ()), failure=failure)
        drop_failures(self.alive, event)
        yield event

    def _who(self, step: Step) -> str:
        group = self.job.group
        model, data = f'model "{group.model.object.name}"', f'dataset "{group.dataset.spec}"'
        return {
            "list": f"{data}, while its samples were listed,",
            "open": f"{model}, while it was opened,",
            "threshold": f"{model} on {data}, while the decision threshold was determined,",
            "load": f"{model}, while unaltered samples were scored,",
        }.get(step.kind, f"{data}, while its faces were read,")

    # --- output of plugins

    def _log(self, child: Child, pieces: Iterator[tuple[Step, bytes]]) -> None:
        for step, data in pieces:
            if self.pool.logs is None:
                continue
            group = self.job.group
            cell = next((c for c in group.cells if c.number == step.cell), None)
            explainer = cell.explainer.spec if cell is not None else None
            path = log_file(self.pool.logs, group.model.object.name, group.dataset.spec, explainer)
            before = self.written.get(path)
            if before is None:
                path.parent.mkdir(parents=True, exist_ok=True)
                before = path.stat().st_size if path.exists() else 0
            if before < LOG_LIMIT:
                room = LOG_LIMIT - before
                more = data[:room] + (b"\n[further output was dropped]\n" if len(data) > room else b"")
                with path.open("ab") as file:
                    file.write(more)
            self.written[path] = before + len(data)


FRAME = re.compile(r'\s*File "(.*)", line (\d+) in (.*)')


def said(tail: bytes, lines: int = 3, longest: int = 300) -> str:
    """Return where a step was and the last lines that it printed, for the end of its reason; "" where neither is known.

    Args:
        tail: the end of its output; Python's fault handler has written there which lines its threads were at.
    """
    text = [line for line in tail.decode("utf-8", "replace").splitlines() if line.strip()]
    places: list[tuple[bool, list[Any]]] = []
    at = len(text)
    for i, line in enumerate(text):
        if "(most recent call first)" in line or line.startswith("Fatal Python error"):
            at = min(at, i)
        if "(most recent call first)" in line:
            # The thread that failed is named first or holds the lock; else the main thread is the last of all.
            current = line.startswith("Current")
            frames = list(itertools.takewhile(bool, map(FRAME.match, text[i + 1 :])))
            places = [(current, frames)] if current or not any(c for c, _ in places) else places
    frames = places[-1][1][:2] if places else []
    where = ", called from ".join(f"{Path(f[1]).name}:{f[2]} ({f[3]})" for f in frames if f)
    shown = " | ".join(line.strip() for line in text[:at][-lines:])
    clean = "".join(c if c.isprintable() else " " for c in shown)[-longest:]
    return (f"; it was at {where}" if where else "") + (f"; it last printed: {clean}" if clean else "")
