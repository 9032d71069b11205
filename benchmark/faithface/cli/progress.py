"""Progress of a run: two bars on a terminal, a line every half minute elsewhere. Always on stderr, so that stdout stays
clean.

Place in the flow: handed to ``run.driver`` by ``cli.run``. Keeps a :class:`~faithface.run.forecast.Forecast`, which
knows how long things take; knows nothing of what is computed.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from faithface.cli.preview import takes
from faithface.reasons import Reason, Status
from faithface.run.driver import Reporter, Silent
from faithface.run.forecast import Forecast, Work
from faithface.run.plan import Cell, Group
from faithface.run.results import CellShard, Measured, Step
from faithface.run.results import Progress as Now
from faithface.run.status import span


class Quiet(Silent):
    """No progress; what makes the numbers those of fewer samples, such as a file that was skipped, is still said."""

    def note(self, text: str) -> None:
        print(text, file=sys.stderr)


def make_reporter(quiet: bool) -> Reporter:
    """Return the reporter that fits: remarks only, bars on a terminal, or plain lines."""
    if quiet:
        return Quiet()
    return Bars() if sys.stderr.isatty() else Lines()


def group_line(group: Group, threshold: float | None) -> str:
    decision = "" if threshold is None else f", decision threshold {threshold:.4f}"
    return f"{group.title}: {len(group.positions)} samples{decision}"


def failure_line(group: Group, cell: Cell, metric: str, reason: Reason) -> str:
    """Return a failure as the run's outcome says it."""
    names = (group.model.object.name, group.dataset.spec, cell.explainer.spec, metric)
    return f"{' / '.join(filter(None, names))}: {reason}"


class Telling:
    """What bars and lines have in common: the forecast, the cells, and what has been said of failures."""

    def __init__(self) -> None:
        self.forecast = Forecast(())
        self.cells: dict[int, tuple[Group, Cell, int]] = {}
        self.done: dict[int, int] = {}
        self.told: set[str] = set()
        self.nothing = False

    def note(self, text: str) -> None:
        raise NotImplementedError

    def begin(self, work: Sequence[Work]) -> bool:
        self.forecast = Forecast(work)
        self.nothing = not work
        return bool(work)

    def measured(self, found: Measured) -> None:
        self.forecast.measured(found)
        self.note(f"  the run takes {takes(self.forecast)}")

    def progress(self, event: Now) -> None:
        self.forecast.progress(event)

    def start(self, group: Group, cell: Cell, done: int, total: int) -> None:
        self.cells[cell.number] = (group, cell, total)
        self.done[cell.number] = done

    def advance(self, cell: Cell, samples: int) -> None:
        self.done[cell.number] += samples

    def timed(self, shard: CellShard) -> None:
        self.forecast.timed(shard)
        group, cell, _total = self.cells[shard.cell]
        for metric, failure in shard.metric_failures.items():
            if failure.status is Status.FAILED:
                self.failed(failure_line(group, cell, metric, failure.reason))

    def end(self, cell: Cell, status: Status, reason: Reason | None) -> None:
        self.forecast.ended(cell.number)
        if status is Status.FAILED and reason is not None and cell.number in self.cells:
            self.failed(failure_line(self.cells[cell.number][0], cell, "", reason))
        elif status is not Status.OK:
            self.note(f"  {cell.explainer.spec}: {status}: {reason}")

    def failed(self, line: str) -> None:
        """Say a failure, once."""
        if line not in self.told:
            self.told.add(line)
            self.note(f"faithface: failed: {line}")

    # --- words

    def doing(self, event: Now) -> tuple[str, str]:
        """Return what a process is at: whose turn it is, and what is done for it."""
        step = event.step
        if step.cell in self.cells:
            assert step.cell is not None
            name = self.cells[step.cell][1].explainer.spec
            return name, {"score": f"scoring {step.metric}", "again": "explaining a sample again"}.get(
                step.kind, "explaining"
            )
        count = f", {event.forward} images" if event.forward else ""
        return "", {
            "open": "opening the model",
            "threshold": f"scoring all pairs for the threshold{count}",
            "measure": "measuring how long things take",
            "load": "scoring unaltered samples",
            "call": "reading the data",
        }.get(step.kind, "")

    def time_left(self) -> str:
        left = self.forecast.left
        return "time left not known yet" if left is None else f"{span(left)} left"

    def share(self, elapsed: float) -> float:
        """Return which part of the run's time is over."""
        left = self.forecast.left
        return 0.0 if left is None or elapsed + left <= 0 else elapsed / (elapsed + left)


class Bars(Telling):
    """A bar for the run and one for the cell that is worked on; what has ended is a line above them."""

    def __init__(self) -> None:
        super().__init__()
        self.console = Console(stderr=True)
        self.bars: Progress | None = None
        self.tasks: list[TaskID] = []
        self.begun = time.monotonic()

    def note(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False)

    def begin(self, work: Sequence[Work]) -> bool:
        wanted = super().begin(work)
        if wanted:
            self.begun = time.monotonic()
            wide = max(10, min(30, self.console.width - 52))
            self.bars = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=wide),
                TextColumn("{task.fields[state]}", markup=False),
                console=self.console,
            )
            self.tasks = [
                self.bars.add_task("run", total=1.0, state="starting"),
                self.bars.add_task("", total=1.0, state=""),
            ]
            self.bars.start()
        return wanted

    def group(self, group: Group, threshold: float | None) -> None:
        self.note(group_line(group, threshold))

    def measured(self, found: Measured) -> None:
        super().measured(found)
        self._draw()

    def progress(self, event: Now) -> None:
        super().progress(event)
        self._draw(event)

    def advance(self, cell: Cell, samples: int) -> None:
        super().advance(cell, samples)
        self._draw(Now(Step("explain", None, cell.number)), fresh=True)

    def _draw(self, event: Now | None = None, fresh: bool = False) -> None:
        if self.bars is None:
            return
        run, cell = self.tasks
        elapsed = time.monotonic() - self.begun
        maps = f"{self.forecast.done}/{self.forecast.maps} maps" if self.forecast.done else "starting"
        self.bars.update(run, completed=self.share(elapsed), state=f"{maps}, {self.time_left()}")
        if event is None:
            return
        name, what = self.doing(event)
        if event.step.cell in self.cells and event.step.cell is not None:
            _group, _cell, total = self.cells[event.step.cell]
            done = self.done[event.step.cell]
            within = 0.0 if fresh else self.forecast.within(event)
            batch = min(16, total - done)
            self.bars.update(
                cell,
                description=short(name, 20),
                completed=(done + batch * within) / max(total, 1),
                state=f"{done}/{total} {short(what, max(10, self.console.width - 70))}"
                if not fresh
                else f"{done}/{total}",
            )
        elif what:
            self.bars.update(cell, description="", completed=0.0, state=what)

    def end(self, cell: Cell, status: Status, reason: Reason | None) -> None:
        super().end(cell, status, reason)
        if status is Status.OK:
            self.note(ended_line(self, cell))

    def close(self) -> None:
        if self.bars is not None:
            for task in self.tasks:
                self.bars.update(task, visible=False)
            self.bars.stop()
            self.bars = None


class Lines(Telling):
    """One line per group and per ended cell, and one every half minute."""

    EVERY = 30.0

    def __init__(self) -> None:
        super().__init__()
        self.last = time.monotonic()

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def group(self, group: Group, threshold: float | None) -> None:
        self.note(group_line(group, threshold))

    def progress(self, event: Now) -> None:
        super().progress(event)
        self._tell(event)

    def advance(self, cell: Cell, samples: int) -> None:
        super().advance(cell, samples)
        self._tell(Now(Step("explain", None, cell.number)))

    def _tell(self, event: Now) -> None:
        now = time.monotonic()
        name, what = self.doing(event)
        if now - self.last < self.EVERY or not (name or what):
            return
        self.last = now
        at = f"{name}: " if name else ""
        if event.step.cell in self.cells and event.step.cell is not None:
            at += f"{self.done[event.step.cell]}/{self.cells[event.step.cell][2]}, "
        self.note(f"  {at}{what}; {self.forecast.done}/{self.forecast.maps} maps, {self.time_left()}")

    def end(self, cell: Cell, status: Status, reason: Reason | None) -> None:
        super().end(cell, status, reason)
        if status is Status.OK:
            self.note(ended_line(self, cell))

    def close(self) -> None:
        """Nothing to put away."""


def ended_line(telling: Telling, cell: Cell) -> str:
    """Return the line of a cell that has ended well: samples, and the seconds that explaining and scoring took."""
    _group, _cell, total = telling.cells[cell.number]
    taken = {step: s for (number, step), (s, _n) in telling.forecast.taken.items() if number == cell.number}
    explained, scored = taken.get("", 0.0), sum(s for step, s in taken.items() if step)
    spent = f", explained in {span(explained)}, scored in {span(scored)}" if taken else ""
    return f"  {cell.explainer.spec}: {telling.done[cell.number]}/{total}{spent}, ok"


def short(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def terminal_width() -> int:
    return min(shutil.get_terminal_size().columns, 100)
