"""The Ray executor: two workers give the numbers of none."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from faithface.contract import Explainer, FaceModel, Maps, Method, Samples
from faithface.plugins import Registry, load_registry
from faithface.reasons import ReasonCode
from faithface.run.driver import execute_plan
from faithface.run.export import run_values
from faithface.run.plan import make_plan
from faithface.run.request import Request
from faithface.run.store import open_run
from tests.support.runs import MeanRelevance, Ramp, Slow, Told

pytest.importorskip("ray", reason="Ray is the extra 'cluster'")


@pytest.mark.slow
def test_two_workers_give_the_numbers_of_the_local_executor(tmp_path: Path, pair_card: str, pairs: str) -> None:
    from faithface.run.executors.ray import RayExecutor

    # Only what is installed: what a worker needs must be importable there, as on another machine.
    request = Request((pair_card,), (pairs,), ("grad-cam", "rise(masks=20)"), ("entropy@1", "gap-similarity-score@1"))
    plan = make_plan(request, load_registry())
    execute_plan(plan, tmp_path / "here")
    executor = RayExecutor(workers=2)
    try:
        assert execute_plan(plan, tmp_path / "there", executor=executor).exit_code == 0
    finally:
        executor.close()
    frames = []
    for name in ("here", "there"):
        with open_run(tmp_path / name) as store:
            frames.append(run_values(store))
    here, there = frames
    assert here.drop("value").equals(there.drop("value"))
    np.testing.assert_allclose(here["value"].to_numpy(), there["value"].to_numpy(), atol=1e-6)


@dataclass(frozen=True)
class KillsItsWorker(Explainer):
    """An explainer whose process is killed (as by the system, for want of memory) the first ``times`` times."""

    folder: str = ""
    times: int = 3

    method = Method(name="kills-its-worker")

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        died = len(list(Path(self.folder).iterdir()))
        if died < self.times:
            (Path(self.folder) / f"{died}-{os.getpid()}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return Ramp().explain(model, samples)


@pytest.mark.slow
@pytest.mark.parametrize(("times", "failed"), [(3, 0), (10**6, 1)])
def test_lost_workers_are_replaced_and_a_shard_that_kills_them_all_fails_its_cell_alone(
    tmp_path: Path, pad_card: str, folder: str, registry: Registry, times: int, failed: int
) -> None:
    from faithface.run.executors.ray import RayExecutor

    (tmp_path / "died").mkdir()
    killer = KillsItsWorker(str(tmp_path / "died"), times)
    plan = make_plan(Request((pad_card,), (folder,), (Ramp(2.0), killer), (MeanRelevance(),)), registry)
    executor = RayExecutor(workers=1)
    try:
        outcome = execute_plan(plan, tmp_path / "r", executor=executor)
    finally:
        executor.close()
    with open_run(tmp_path / "r") as store:
        values = run_values(store)
        assert values["explainer"].n_unique() == 2 - failed
        assert len(values) == 40 * (2 - failed)
        cell = store.cells()[1]
    assert len(outcome.failures) == failed
    if failed:
        assert cell["reason"].code is ReasonCode.WORKER_LOST
        assert "4 workers were lost on shard 0" in cell["reason"].detail


@pytest.mark.slow
def test_a_worker_tells_what_it_is_at_within_a_batch(
    tmp_path: Path, pad_card: str, folder: str, registry: Registry
) -> None:
    from faithface.run.executors.ray import RayExecutor

    plan = make_plan(Request((pad_card,), (folder,), (Slow(), Ramp()), (MeanRelevance(),), limit=4), registry)
    told, executor = Told(), RayExecutor(workers=1)
    try:
        assert execute_plan(plan, tmp_path / "r", told, executor).exit_code == 0
    finally:
        executor.close()
    assert {event.process for event in told.events} == {0}
    (slow,) = (work.cell for work in told.work if work.explainer == "slow")
    during = [event.forward for event in told.events if event.step.kind == "explain" and event.step.cell == slow]
    assert any(0 < passes < 25 for passes in during)
    assert during == sorted(during)  # counted from the beginning of the step, not of the run
