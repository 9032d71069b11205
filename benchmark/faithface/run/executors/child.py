"""A worker process as its driver sees it: started, spoken to, listened to, watched, ended.

Place in the flow: ``processes`` keeps these; what runs inside is ``worker.main``. Imports no torch: the driver needs
none.

Processes are forked from a server (``multiprocessing``'s forkserver) that has imported torch and ONNX Runtime and has
run nothing, so that a fresh worker is there in some milliseconds. Where there is no forkserver, they are spawned.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import re
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

from faithface.run.executors.descendants import children, end_below
from faithface.run.results import Step

PRELOADED = ("faithface.run.executors.preloaded",)
MARK = re.compile(rb"\x00step (\d+)\x00")
LAST = 1 << 15  # bytes of output that are kept of a step for its reason
CHUNK = 1 << 16


def context() -> Any:
    """Return the way processes are started here."""
    kind = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    made = multiprocessing.get_context(kind)
    if kind == "forkserver":
        made.set_forkserver_preload(list(PRELOADED))
    return made


def prepare() -> None:
    """Start the server from which workers are forked; it imports what they need while the caller goes on."""
    if context().get_start_method() == "forkserver":
        from multiprocessing.forkserver import ensure_running

        ensure_running()


def end_orphans() -> None:
    """End what workers have started and left behind: it belongs to the server now, and is no worker."""
    if context().get_start_method() != "forkserver":
        return
    from multiprocessing.forkserver import _forkserver  # type: ignore[attr-defined]

    server = getattr(_forkserver, "_forkserver_pid", None)
    if server is None:
        return
    workers = {process.pid for process in multiprocessing.active_children()}
    for one in children(server):
        if one not in workers:
            end_below(one)
            with contextlib.suppress(OSError):
                os.kill(one, signal.SIGKILL)


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Hide the main module while a process is started.

    ``multiprocessing`` would import it again in every worker: a script without a guard would start its run again there,
    and a console script would import the command line. What is sent to a worker brings the main module's classes along.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _serve(connection: Connection, output: Connection, variables: Mapping[str, str], threads: int | None) -> None:
    from faithface.run.executors.worker import main

    main(connection, output, variables, threads)


class Child:
    """One worker process.

    Attributes:
        step: what it is at, and since when; ``reading``: which shard's faces it reads beside that, and since when.
        state: ``new``, ``opening``, ``ready``, ``busy`` (more shards may be ordered), ``ending`` (no more may be).
        orders, job: what it has to do, by the caller's own notes.
        tail: the end of what its present step has printed.
        passes: how many the present step has made, forward and backward; ``told``: of what the run was told last.
        soiled: it has said that a plugin has altered it, and ends; ``closed``: nothing more will come from it.
    """

    def __init__(self, threads: int | None) -> None:
        made = context()
        self.connection, theirs = made.Pipe()
        self.output, output = made.Pipe(duplex=False)
        os.set_blocking(self.output.fileno(), False)
        self.process = made.Process(target=_serve, args=(theirs, output, dict(os.environ), threads))
        with _without_main():
            self.process.start()
        theirs.close()
        output.close()
        self.step: tuple[Step, float] = (Step("rest"), time.monotonic())
        self.reading: tuple[Step, float] | None = None
        self.passes = (0, 0)
        self.told: tuple[object, float] = (None, 0.0)
        self.state = "new"
        self.orders: list[Any] = []
        self.job: object = None
        self.soiled = self.closed = False
        self.steps: dict[int, Step] = {}
        self.tail = b""
        self._printing = Step("rest")
        self._pending = b""
        self._waiting: deque[tuple[Any, ...]] = deque()

    def send(self, *message: Any) -> None:
        with contextlib.suppress(OSError):  # it has died: that is noticed by whoever waits for it
            self.connection.send(message)

    def messages(self) -> Iterator[tuple[Any, ...]]:
        """Yield what has come; ends where there is no more for now, or the other side is gone."""
        self._receive()
        while self._waiting:
            yield self._waiting.popleft()

    def _receive(self) -> None:
        try:
            while self.connection.poll():
                message = pickle.loads(self.connection.recv_bytes())
                if message[0] == "step":
                    self._note(*message[1:])
                elif message[0] == "beat":
                    self.passes = (message[1].forward, message[1].backward)
                else:
                    self._waiting.append(message)
        except (EOFError, OSError, pickle.UnpicklingError):
            self.closed = True

    def _note(self, step: Step, number: int) -> None:
        if step.kind == "read":
            self.reading = None if step.shard is None else (step, time.monotonic())
        else:
            self.step = (step, time.monotonic())
            self.passes = (0, 0)
            self.steps[number] = step

    def printed(self) -> Iterator[tuple[Step, bytes]]:
        """Yield what was printed since the last call, by step."""
        while True:
            try:
                data = os.read(self.output.fileno(), CHUNK)
            except OSError:
                return
            if not data:
                return
            *whole, self._pending = self._split(self._pending + data)
            for piece in whole:
                yield from self._piece(piece)
            # The beginning of a mark may still be on its way.
            at = self._pending.rfind(b"\x00")
            ready = self._pending if at < 0 or len(self._pending) - at > 40 else self._pending[:at]
            self._pending = self._pending[len(ready) :]
            yield from self._piece(ready)

    @staticmethod
    def _split(data: bytes) -> list[bytes]:
        parts, start = [], 0
        for found in MARK.finditer(data):
            parts += [data[start : found.start()], found.group(0)]
            start = found.end()
        return [*parts, data[start:]]

    def _piece(self, piece: bytes) -> Iterator[tuple[Step, bytes]]:
        if found := MARK.fullmatch(piece):
            number = int(found.group(1))
            if number not in self.steps:
                self._receive()  # a step is told before its mark is printed
            self._printing = self.steps.get(number, Step("rest"))
            self.steps = {n: s for n, s in self.steps.items() if n >= number}
            self.tail = b""
        elif piece:
            self.tail = (self.tail + piece)[-LAST:]
            yield self._printing, piece

    def alive(self) -> bool:
        return bool(self.process.is_alive())

    def memory(self) -> int:
        """Return the bytes of memory that the process holds; 0 where that cannot be read."""
        try:
            pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        except (OSError, ValueError, IndexError):
            return 0
        return pages * os.sysconf("SC_PAGE_SIZE")

    def ask_where(self, patience: float = 0.5) -> Iterator[tuple[Step, bytes]]:
        """Have the process print where its threads are, and yield what it prints."""
        if hasattr(signal, "SIGUSR1") and self.alive():
            with contextlib.suppress(OSError):
                os.kill(self.process.pid or 0, signal.SIGUSR1)
            end = time.monotonic() + patience
            while time.monotonic() < end:
                time.sleep(0.05)
                yield from self.printed()

    def quit(self, patience: float = 2.0) -> None:
        """Let the process end by itself, then end what is left of it."""
        self.send("quit")
        self.process.join(patience)
        self.kill()

    def kill(self) -> None:
        """End the process and all that it has started, in whatever session; returns when it is gone."""
        pid = self.process.pid or 0
        if self.alive():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGSTOP)  # so that it starts nothing meanwhile
            end_below(pid)
        for _again in range(2):  # once more for what it started between the two
            with contextlib.suppress(OSError):
                os.killpg(pid, signal.SIGKILL)
            self.process.kill()
            self.process.join(10)
        end_orphans()
        for end in (self.connection, self.output):
            end.close()

    @property
    def how_it_ended(self) -> str:
        """Say how the process ended, as the end of a sentence about what it was at."""
        self.process.join(5)
        code = self.process.exitcode
        if code is None:
            return "closed the pipe of its worker process"
        if code < 0:
            try:
                name = signal.Signals(-code).name
                name += f" ({signal.strsignal(-code)})"
            except ValueError:
                name = str(-code)
            return f"ended its worker process by signal {name}"
        return f"ended its worker process with exit code {code}"
