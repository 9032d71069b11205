"""What worker processes report to the driver while they work: measured costs, and passes within a batch."""

from __future__ import annotations

from pathlib import Path

from faithface.contract import Explainer
from faithface.plugins import Registry
from faithface.run.driver import execute_plan
from faithface.run.executors.processes import ProcessExecutor
from faithface.run.outcome import Outcome
from faithface.run.plan import make_plan
from faithface.run.request import Request
from tests.support.runs import DiesAlone, MeanRelevance, Ramp, Slow, Told


def run(registry: Registry, out: Path, card: str, folder: str, *explainers: Explainer) -> tuple[Told, Outcome]:
    plan = make_plan(Request((card,), (folder,), explainers, (MeanRelevance(),), limit=4), registry)
    told, pool = Told(), ProcessExecutor()
    try:
        return told, execute_plan(plan, out, told, pool)
    finally:
        pool.close()


def test_passes_are_told_while_a_batch_is_explained(
    registry: Registry, tmp_path: Path, pad_card: str, folder: str
) -> None:
    told, outcome = run(registry, tmp_path / "r", pad_card, folder, Slow(), Ramp())
    assert outcome.failures == []
    assert [(work.explainer, work.samples, work.metrics) for work in told.work] == [
        ("slow", 4, {"mean-relevance@1": 4}),
        ("ramp", 4, {"mean-relevance@1": 4}),
    ]
    (measured,) = told.found
    slow, fast = (next(work.cell for work in told.work if work.explainer == name) for name in ("slow", "ramp"))
    assert measured.explain[slow].forward == 25
    assert measured.explain[fast].forward == 0
    assert measured.explain[slow].seconds > measured.explain[fast].seconds
    during = [e.forward for e in told.events if e.step.kind == "explain" and e.step.cell == slow]
    assert any(0 < passes < 25 for passes in during)
    assert during == sorted(during)
    by_cell = {shard.cell: shard for shard in told.shards}
    assert by_cell[slow].scored.keys() == {"mean-relevance@1"}
    assert by_cell[slow].seconds > by_cell[fast].seconds


def test_what_dies_in_the_measurement_has_failed_nothing(
    registry: Registry, tmp_path: Path, pad_card: str, folder: str
) -> None:
    told, outcome = run(registry, tmp_path / "r", pad_card, folder, DiesAlone(), Ramp())
    assert outcome.failures == []
    assert {shard.cell for shard in told.shards} == {work.cell for work in told.work}
