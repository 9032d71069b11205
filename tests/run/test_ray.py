"""The Ray executor: two workers give the numbers of none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from faithface.plugins import load_registry
from faithface.run.driver import execute_plan
from faithface.run.export import run_values
from faithface.run.plan import make_plan
from faithface.run.request import Request
from faithface.run.store import open_run

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
