"""What worker processes report to the driver while they work: measured costs, and passes within a batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from faithface.contract import Explainer
from faithface.plugins import Registry
from faithface.run.driver import Silent, execute_plan
from faithface.run.executors.processes import ProcessExecutor
from faithface.run.forecast import Work
from faithface.run.outcome import Outcome
from faithface.run.plan import make_plan
from faithface.run.request import Request
from faithface.run.results import CellShard, Measured, Progress
from tests.support.runs import DiesAlone, MeanRelevance, Ramp, Slow


class Hears(Silent):
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.work: Sequence[Work] = ()
        self.found: list[Measured] = []
        self.events: list[Progress] = []
        self.shards: list[CellShard] = []

    def begin(self, work: Sequence[Work]) -> bool:
        self.work = work
        return True

    def measured(self, found: Measured) -> None:
        self.found.append(found)

    def progress(self, event: Progress) -> None:
        self.events.append(event)

    def timed(self, shard: CellShard) -> None:
        self.shards.append(shard)


def run(registry: Registry, out: Path, card: str, folder: str, *explainers: Explainer) -> tuple[Hears, Outcome]:
    plan = make_plan(Request((card,), (folder,), explainers, (MeanRelevance(),), limit=4), registry)
    hears, pool = Hears(), ProcessExecutor()
    try:
        return hears, execute_plan(plan, out, hears, pool)
    finally:
        pool.close()


def test_passes_are_told_while_a_batch_is_explained(
    registry: Registry, tmp_path: Path, pad_card: str, folder: str
) -> None:
    hears, outcome = run(registry, tmp_path / "r", pad_card, folder, Slow(), Ramp())
    assert outcome.failures == []
    assert [(work.explainer, work.samples, work.metrics) for work in hears.work] == [
        ("slow", 4, {"mean-relevance@1": 4}),
        ("ramp", 4, {"mean-relevance@1": 4}),
    ]
    (measured,) = hears.found
    slow, fast = (next(work.cell for work in hears.work if work.explainer == name) for name in ("slow", "ramp"))
    assert measured.explain[slow].forward == 25
    assert measured.explain[fast].forward == 0
    assert measured.explain[slow].seconds > measured.explain[fast].seconds
    during = [e.forward for e in hears.events if e.step.kind == "explain" and e.step.cell == slow]
    assert any(0 < passes < 25 for passes in during)
    assert during == sorted(during)
    by_cell = {shard.cell: shard for shard in hears.shards}
    assert by_cell[slow].scored.keys() == {"mean-relevance@1"}
    assert by_cell[slow].seconds > by_cell[fast].seconds


def test_what_dies_in_the_measurement_has_failed_nothing(
    registry: Registry, tmp_path: Path, pad_card: str, folder: str
) -> None:
    hears, outcome = run(registry, tmp_path / "r", pad_card, folder, DiesAlone(), Ramp())
    assert outcome.failures == []
    assert {shard.cell for shard in hears.shards} == {work.cell for work in hears.work}
