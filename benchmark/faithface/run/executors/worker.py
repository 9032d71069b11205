"""What runs inside a worker process: one open model, and the steps of its shards, each told before it begins.

Place in the flow: ``processes`` starts :func:`main` in a process of its own and talks to it through a pipe. May call
``model``, ``local`` and ``shard``.

Messages to the worker: ``("job", bytes, opened, measure, policy)``, ``("shard", Order)``, ``("end",)``,
``("call", bytes)``, ``("stream", bytes)``, ``("quit",)``. Messages from it: ``("step", Step, number)``,
``("beat", Passes)`` (of the present step, once a second), ``("event", Event)``,
``("done", shard)``, ``("idle",)``, ``("part", value)``, ``("result", value)``, ``("error", Failed)``,
``("soiled", shard)``: a plugin has altered something that all share; whoever gets this starts a fresh worker; and
``("doubt", shard)``: either a plugin of the shard has, or the dataset that was read meanwhile; the shard is to be
repeated alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import faulthandler
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from typing import Any

import torch
from torch import Tensor

from faithface.contract import BatchingPolicy, FaceModel, Passes
from faithface.errors import FaithfaceError
from faithface.explaining import one_line
from faithface.loading import read_faces
from faithface.model import open_model
from faithface.perturb.prefetch import prefetch
from faithface.reasons import ReasonCode
from faithface.run.executors import Job, items_of
from faithface.run.executors.descendants import adopt, end_below
from faithface.run.executors.local import group_threshold, measure_job, model_facts, shard_of, surroundings_of, warm_up
from faithface.run.executors.orders import Failed, Order
from faithface.run.guard import Watch
from faithface.run.results import CellShard, Opened, Step
from faithface.run.shard import ShardWork, run_shard
from faithface.run.surroundings import Surroundings

BEAT = 1.0
MARK = b"\x00step %d\x00"
"""What the worker writes into its output before each step, so that output is told apart by step."""


def main(connection: Connection, output: Connection, variables: Mapping[str, str], threads: int | None) -> None:
    """Serve one driver until it says so, or is gone."""
    _settle(output, variables, threads)
    worker = _Worker(connection, output)
    with contextlib.suppress(EOFError, OSError):
        worker.serve()
    # Not sys.exit: threads, exit functions and finalisers of plugins have no say in how this ends.
    os._exit(0)


def _settle(output: Connection, variables: Mapping[str, str], threads: int | None) -> None:
    """Make this a process that can be stopped and watched from outside."""
    os.setsid()
    adopt()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is the driver's affair
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for target in (1, 2):
        os.dup2(output.fileno(), target)
    sys.stdout = os.fdopen(1, "w", buffering=1, errors="backslashreplace", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    faulthandler.enable(file=2)
    faulthandler.register(signal.SIGUSR1, file=2, all_threads=True)
    os.environ.clear()
    os.environ.update(variables)
    # Where memory runs out before the limit is noticed, the system ends this process rather than the driver.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
        torch.set_num_threads(threads)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), name="driver-watch", daemon=True).start()


def _end_with(sentinel: int) -> None:
    """End this process and all that it started when the driver is gone."""
    wait([sentinel])
    end_below(os.getpid())
    os.killpg(0, signal.SIGKILL)


class _Worker:
    def __init__(self, connection: Connection, output: Connection) -> None:
        self.connection, self.output = connection, output
        self.lock = threading.Lock()
        self.steps = 0
        # Before any plugin is imported here: what importing one alters is put back too.
        self.watch = Watch(self.tell, isolated=True)
        self.clean = Surroundings.read()
        self.job: Job | None = None
        self.model: FaceModel | None = None
        self.items: Sequence[Any] = ()
        self.reading = self.overlapped = False  # whether faces are read beside the steps of the present cell
        self.before = Passes()
        threading.Thread(target=self._beat, name="beat", daemon=True).start()

    def _beat(self) -> None:
        """Say once a second how many passes the present step has made."""
        with contextlib.suppress(OSError):  # the driver is gone, and so is this process in a moment
            while True:
                time.sleep(BEAT)
                model = self.model
                if model is not None:
                    self.send("beat", model.passes - self.before)

    def send(self, *message: Any) -> None:
        data = pickle.dumps(message)
        with self.lock:
            self.connection.send_bytes(data)

    def tell(self, step: Step) -> None:
        """Say what comes next; first hand out what was printed until now, and mark the place."""
        self._flush()
        self.steps += 1
        self.before = self.model.passes if self.model is not None else Passes()
        self.send("step", step, self.steps)
        data = MARK % self.steps
        with contextlib.suppress(OSError):
            os.write(1, data)

    def _flush(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        with contextlib.suppress(Exception):
            ctypes.CDLL(None).fflush(None)
        for target in (1, 2):
            try:
                same = os.path.sameopenfile(target, self.output.fileno())
            except OSError:
                same = False
            if not same:
                os.dup2(self.output.fileno(), target)

    def serve(self) -> None:
        while True:
            kind, *rest = self.connection.recv()
            if kind == "quit":
                return
            try:
                if kind == "call":
                    self.call(*rest)
                elif kind == "stream":
                    self.stream(*rest)
                elif kind == "job":
                    self.start(*rest)
                elif kind == "shard":
                    self.shards(rest[0])
            except (EOFError, BrokenPipeError):
                raise
            except BaseException as error:
                self.send("error", failed(error))

    def call(self, data: bytes) -> None:
        """Call a function, and hold it to leaving the process as it was."""
        self.tell(Step("call"))
        function, arguments = pickle.loads(data)
        self.clean.restore()
        try:
            result = function(*arguments, beat=lambda: self.tell(Step("call")))
        finally:
            changed = self.clean.restore()
        if changed:
            self.send("error", Failed(None, what_changed(changed), ReasonCode.STATE_CHANGED))
        else:
            self.send("result", result)

    def stream(self, data: bytes) -> None:
        """Send what a generator yields, each as it comes."""
        self.tell(Step("call"))
        function, arguments = pickle.loads(data)
        self.clean.restore()
        for part in function(*arguments, watch=self.watch):
            self.send("part", part)
            if self.watch.soiled:
                self.send("soiled", None)
                os._exit(0)
        self.tell(Step("rest"))
        self.send("result", None)

    def start(self, data: bytes, opened: bool, measure: bool, policy: BatchingPolicy | None) -> None:
        """Open the model of a job, and measure its steps where that is asked for."""
        self.job, self.model = None, None
        self.tell(Step("open"))
        job: Job = pickle.loads(data)
        self.clean.restore()
        self.tell(Step("list"))
        self.items = items_of(job)
        self.clean.restore()
        self.tell(Step("open"))
        model = open_model(job.group.model.object, job.request.device, job.request.batch_size)
        threshold = job.threshold
        if not opened:
            self.clean.restore()
            self.model = model  # so that its passes are told about
            self.tell(Step("threshold"))
            threshold = group_threshold(model, job.dataset)
            if changed := self.clean.restore():
                self.send("error", Failed(None, what_changed(changed), ReasonCode.STATE_CHANGED))
                return
            self.tell(Step("open"))
        warm_up(model, job.group, policy)
        self.clean.restore()
        self.watch.surroundings = surroundings_of(job.group)
        self.job, self.model = job, model
        if measure:
            self.send("event", measure_job(model, job, threshold, self.watch))
            if self.watch.soiled:
                self.send("soiled", -1)
                os._exit(0)
        self.send("event", Opened(job.group.number, threshold, model_facts(model)))

    def shards(self, first: Order) -> None:
        """Do the shards that are ordered, reading the faces of the next one meanwhile, until the end is ordered."""
        job, model = self.job, self.model
        assert job is not None
        assert model is not None
        dropped: set[tuple[int, str | None]] = set()
        items = self.items
        work = ((order, shard_of(job, items, order.number, order.cells)) for order in self.orders(first))
        for order, shard, pixels in prefetch(self.read, work, ahead=0 if first.alone else 1):
            cells = []
            for cell in shard.cells:
                if (cell.cell, None) not in dropped:
                    metrics = {t: m for t, m in cell.metrics.items() if (cell.cell, t) not in dropped}
                    cells.append(dataclasses.replace(cell, metrics=metrics))
            if not cells:
                self.send("done", order.number)
                continue
            mine = dataclasses.replace(shard, cells=tuple(cells))
            events = run_shard(
                model, mine, job.request.seed, order.threshold, job.dataset, job.keep_maps, pixels, self.watch
            )
            for event in events:
                if isinstance(event, CellShard):
                    if self.in_doubt(event):
                        self.send("doubt", order.number)
                        os._exit(0)
                    dropped |= {(event.cell, None)} if event.failure else set()
                    dropped |= {(event.cell, text) for text in event.metric_failures}
                self.send("event", event)
                if self.watch.soiled:
                    self.send("soiled", order.number)
                    os._exit(0)
            self.tell(Step("rest"))
            self.send("done", order.number)
        self.send("idle")

    def in_doubt(self, event: CellShard) -> bool:
        """Say whether a cell failed for a change that the dataset may have made, because it was read meanwhile."""
        overlapped, self.overlapped = self.overlapped, self.reading
        failures = (event.failure, *event.metric_failures.values())
        return overlapped and any(one is not None and one.reason.code is ReasonCode.STATE_CHANGED for one in failures)

    def orders(self, first: Order) -> Iterator[Order]:
        yield first
        while (message := self.connection.recv())[0] == "shard":
            yield message[1]

    def read(self, work: tuple[Order, ShardWork]) -> tuple[Order, ShardWork, dict[str, Tensor]]:
        order, shard = work
        assert self.model is not None
        self.send("step", Step("read", shard.number), 0)
        self.reading = self.overlapped = not order.alone
        pixels = read_faces(shard.items, self.model.size)
        self.reading = False
        self.send("step", Step("read"), 0)
        return order, shard, pixels


def what_changed(names: Sequence[str]) -> str:
    return f"changed {', '.join(names[:4])} for the whole process; restore what was there before returning"


def failed(error: BaseException) -> Failed:
    if isinstance(error, FaithfaceError):
        return Failed(error, str(error))
    text = one_line(error)
    return Failed(None, f"{type(error).__name__}: {text}" if text else type(error).__name__)
