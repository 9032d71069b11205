"""Progress of a run: a bar per cell on a terminal, plain lines elsewhere. Always on stderr, so that stdout stays clean.

Place in the flow: handed to ``run.driver`` by ``cli.run``; knows nothing of what is computed.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from faithface.reasons import Reason, Status
from faithface.run.driver import Reporter, Silent
from faithface.run.plan import Cell, Group


def make_reporter(quiet: bool) -> Reporter:
    """Return the reporter that fits: none, bars on a terminal, or plain lines."""
    if quiet:
        return Silent()
    return Bars() if sys.stderr.isatty() else Lines()


def group_line(group: Group, threshold: float | None) -> str:
    decision = "" if threshold is None else f", decision threshold {threshold:.4f}"
    return f"{group.title}: {len(group.positions)} samples{decision}"


class RateColumn(ProgressColumn):
    """Samples per second."""

    def render(self, task: Task) -> Text:
        return Text("" if not task.speed else f"{task.speed:.1f}/s")


class Bars:
    """One bar per cell, with rate and time left; the bars of a finished group stay on the screen."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.progress: Progress | None = None
        self.tasks: dict[int, TaskID] = {}

    def note(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False)

    def group(self, group: Group, threshold: float | None) -> None:
        self.close()
        self.note(group_line(group, threshold))
        self.progress = Progress(
            TextColumn("  {task.description}", markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            RateColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[state]}", markup=False),
            console=self.console,
        )
        self.progress.start()

    def start(self, group: Group, cell: Cell, done: int, total: int) -> None:
        if self.progress is not None:
            self.tasks[cell.number] = self.progress.add_task(cell.explainer.spec, total=total, completed=done, state="")

    def advance(self, cell: Cell, samples: int) -> None:
        if self.progress is not None:
            self.progress.advance(self.tasks[cell.number], samples)

    def end(self, cell: Cell, status: Status, reason: Reason | None) -> None:
        if self.progress is not None and cell.number in self.tasks:
            state = status.value if status is Status.OK else f"{status}: {reason}"
            self.progress.update(self.tasks[cell.number], state=state)
            self.progress.stop_task(self.tasks[cell.number])
        else:
            self.note(f"  {cell.explainer.spec} {status}: {reason}")

    def close(self) -> None:
        if self.progress is not None:
            self.progress.stop()
            self.progress = None
            self.tasks.clear()


@dataclass
class _State:
    label: str
    total: int
    done: int
    fresh: int = 0
    started: float = field(default_factory=lambda: time.monotonic())
    told: float = field(default_factory=lambda: time.monotonic())


class Lines:
    """One line per group, per ended cell, and per cell every ten seconds."""

    EVERY = 10.0

    def __init__(self) -> None:
        self.cells: dict[int, _State] = {}

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def group(self, group: Group, threshold: float | None) -> None:
        self.note(group_line(group, threshold))

    def start(self, group: Group, cell: Cell, done: int, total: int) -> None:
        self.cells[cell.number] = _State(cell.explainer.spec, total, done)

    def advance(self, cell: Cell, samples: int) -> None:
        state = self.cells[cell.number]
        state.done += samples
        state.fresh += samples
        now = time.monotonic()
        if now - state.told >= self.EVERY and state.done < state.total:
            rate = state.fresh / (now - state.started)
            left = (state.total - state.done) / rate
            self.note(f"  {state.label}: {state.done}/{state.total}, {rate:.1f}/s, {left:.0f} s left")
            state.told = now

    def end(self, cell: Cell, status: Status, reason: Reason | None) -> None:
        state = self.cells.get(cell.number)
        if status is not Status.OK or state is None:
            self.note(f"  {cell.explainer.spec}: {status}{f': {reason}' if reason else ''}")
            return
        seconds = max(time.monotonic() - state.started, 1e-9)
        rate = f", {state.fresh / seconds:.1f}/s" if state.fresh else ""
        self.note(f"  {state.label}: {state.done}/{state.total}{rate}, ok")

    def close(self) -> None:
        """Nothing to put away."""
