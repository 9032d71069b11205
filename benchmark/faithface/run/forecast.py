"""How long the rest of a run will take, and how far a cell is within a batch.

Place in the flow: the command line's reporters and its dry run keep a :class:`Forecast`; the driver tells them what was
measured and what has been done. Imports only ``results``.

Each step (an explainer, or a metric on an explainer's maps) has a time per sample: at first that of the short
measurement, later that of the shards that are done. Where neither is known, the same explainer's time of the same step
elsewhere stands for it, then the median of all cells, then that of all metrics. Their sum over what is missing is
corrected by how much longer (or, with several worker processes, shorter) the steps so far took in all.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median

from faithface.run.results import SHARD_SIZE, CellShard, Measured, Progress, StepCost

EXPLAIN = ""
ENOUGH = 3.0  # seconds of work after which the whole is compared with the sum of its steps
CORRECTION = (0.1, 10.0)


@dataclass(frozen=True)
class Work:
    """What is missing of a cell.

    Attributes:
        explainer: its text.
        samples: how many are to be explained.
        metrics: how many are to be scored, by metric.
    """

    group: int
    cell: int
    explainer: str
    samples: int
    metrics: Mapping[str, int] = field(default_factory=dict)

    def steps(self) -> dict[str, int]:
        """Return how many samples each step is to be done for."""
        return {EXPLAIN: self.samples, **self.metrics}


class Forecast:
    """See the module.

    Args:
        work: all cells of which something is missing.
    """

    def __init__(self, work: Iterable[Work]) -> None:
        self.work = {one.cell: one for one in work}
        self.left_of = {one.cell: one.steps() for one in self.work.values()}
        self.costs: dict[tuple[int, str], StepCost] = {}
        self.taken: dict[tuple[int, str], tuple[float, int]] = {}
        self.done = 0
        self.now: dict[int, tuple[Progress, float]] = {}
        self.begun: float | None = None
        self.spent = 0.0

    # --- what it is told

    def measured(self, found: Measured) -> None:
        for cell, work in self.work.items():
            if work.group != found.group:
                continue
            if cell in found.explain:
                self.costs[cell, EXPLAIN] = found.explain[cell]
            for metric in work.metrics:
                if metric in found.score:
                    self.costs[cell, metric] = found.score[metric]

    def progress(self, event: Progress) -> None:
        before, now = self.now.get(event.process), time.monotonic()
        if before is None or before[0].step != event.step:
            if before is not None and before[0].step.kind in ("explain", "score"):
                self.spent += now - before[1]
            since = now
        else:
            since = before[1]
        self.now[event.process] = (event, since)
        if self.begun is None and event.step.kind in ("load", "explain", "score") and event.step.shard is not None:
            self.begun = now

    def timed(self, shard: CellShard) -> None:
        """Take note of a shard of a cell that is done."""
        left = self.left_of.get(shard.cell)
        if left is None:
            return
        count = len(shard.ids)
        self.done += count
        for step, seconds in {EXPLAIN: shard.seconds, **shard.scored}.items():
            if step in left:
                before = self.taken.get((shard.cell, step), (0.0, 0))
                self.taken[shard.cell, step] = (before[0] + seconds, before[1] + count)
                self.spent += 0.0 if self.now else seconds
                left[step] = max(0, left[step] - count)
        for metric in shard.metric_failures:
            left[metric] = 0

    def ended(self, cell: int) -> None:
        self.left_of.pop(cell, None)

    # --- what it says

    @property
    def maps(self) -> int:
        """How many maps there are to make."""
        return sum(one.samples for one in self.work.values())

    def seconds_per_sample(self, cell: int, step: str) -> float | None:
        """Return how long a step takes for one sample; None where nothing is known yet."""
        own = self._known(cell, step)
        if own is not None:
            return own
        mine = self.work[cell].explainer
        same = [one.cell for one in self.work.values() if one.explainer == mine]
        steps = [step] if step == EXPLAIN else [step, *self.work[cell].metrics]
        for cells, others in ((same, [step]), (list(self.work), [step]), (list(self.work), steps)):
            known = [v for one in cells for other in others if (v := self._known(one, other)) is not None]
            if known:
                return median(known)
        return None

    def _known(self, cell: int, step: str) -> float | None:
        seconds, samples = self.taken.get((cell, step), (0.0, 0))
        if samples:
            return seconds / samples
        cost = self.costs.get((cell, step))
        if cost is None:
            return None
        again = self._known(cell, EXPLAIN) if cost.explained else 0.0
        return cost.seconds + cost.explained * (again or 0.0)

    def of_cell(self, cell: int) -> float | None:
        """Return how many seconds of work are left in a cell; None where nothing is known yet."""
        total = 0.0
        for step, count in self.left_of.get(cell, {}).items():
            each = self.seconds_per_sample(cell, step) if count else 0.0
            if each is None:
                return None
            total += each * count
        return total

    @property
    def left(self) -> float | None:
        """How many seconds the run will still take; None where nothing is known yet."""
        parts = [self.of_cell(cell) for cell in self.left_of]
        if any(part is None for part in parts):
            return None
        total = sum(part for part in parts if part is not None)
        for event, since in self.now.values():
            expected = self._of_batch(event)
            if expected is not None:
                total -= min(time.monotonic() - since, expected)
        return max(0.0, total * self._correction())

    def _correction(self) -> float:
        if self.begun is None or self.spent < ENOUGH:
            return 1.0
        # The step that is under way is part of the time, and not yet of what was spent.
        now = sum(time.monotonic() - since for event, since in self.now.values() if self._of_batch(event) is not None)
        ratio = (time.monotonic() - self.begun) / (self.spent + now)
        return min(max(ratio, CORRECTION[0]), CORRECTION[1])

    def _of_batch(self, event: Progress) -> float | None:
        """Return how long the step of an event takes for a whole shard."""
        step = event.step
        if step.kind not in ("explain", "score") or step.cell not in self.left_of or step.cell is None:
            return None
        each = self.seconds_per_sample(step.cell, step.metric or EXPLAIN)
        return None if each is None else each * min(SHARD_SIZE, self.work[step.cell].samples)

    def within(self, event: Progress) -> float:
        """Return how far a cell is within its batch, from 0 to 1: the steps that are done, and passes of this one."""
        step = event.step
        if step.cell not in self.work or step.cell is None:
            return 0.0
        work = self.work[step.cell]
        order = list(work.steps())
        weights = [self.seconds_per_sample(work.cell, one) or 0.0 for one in order]
        whole = sum(weights)
        name = step.metric or EXPLAIN
        if not whole or name not in order:
            return 0.0
        at = order.index(name)
        return min(1.0, (sum(weights[:at]) + weights[at] * self._of_step(event, work)) / whole)

    def _of_step(self, event: Progress, work: Work) -> float:
        cost = self.costs.get((work.cell, event.step.metric or EXPLAIN))
        samples = min(SHARD_SIZE, work.samples)
        if cost is not None and cost.forward + cost.backward:
            return min(1.0, (event.forward + event.backward) / ((cost.forward + cost.backward) * samples))
        expected = self._of_batch(event)
        since = self.now.get(event.process, (event, time.monotonic()))[1]
        return min(1.0, (time.monotonic() - since) / expected) if expected else 0.0
