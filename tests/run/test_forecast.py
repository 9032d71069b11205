"""How long a run will take: from a measurement, from what is done, and from what is alike; and how far a batch is."""

from __future__ import annotations

from typing import Any

import pytest

from faithface.run import forecast as forecast_module
from faithface.run.forecast import Forecast, Work
from faithface.run.results import CellShard, Measured, Progress, Step, StepCost


def done(cell: int, count: int, seconds: float, **scored: float) -> CellShard:
    return CellShard(cell, 0, tuple(f"s{i}" for i in range(count)), seconds=seconds, scored=dict(scored))


def two_cells() -> Forecast:
    return Forecast([Work(0, 0, "slow", 40, {"m": 20}), Work(0, 1, "fast", 40, {"m": 20})])


def test_nothing_is_known_before_the_measurement() -> None:
    assert two_cells().left is None


def test_the_measurement_gives_seconds_of_steps_times_samples() -> None:
    forecast = two_cells()
    forecast.measured(Measured(0, {0: StepCost(2.0), 1: StepCost(0.5)}, {"m": StepCost(0.1)}))
    assert forecast.left == pytest.approx(40 * 2.0 + 40 * 0.5 + 2 * 20 * 0.1)
    assert forecast.of_cell(1) == pytest.approx(40 * 0.5 + 20 * 0.1)


def test_a_metric_that_explains_again_costs_the_explainers_time() -> None:
    forecast = two_cells()
    forecast.measured(Measured(0, {0: StepCost(2.0), 1: StepCost(0.5)}, {"m": StepCost(0.1, explained=3)}))
    assert forecast.seconds_per_sample(0, "m") == pytest.approx(0.1 + 3 * 2.0)
    assert forecast.seconds_per_sample(1, "m") == pytest.approx(0.1 + 3 * 0.5)


def test_what_is_done_counts_more_than_what_was_measured_and_is_left_no_more() -> None:
    forecast = two_cells()
    forecast.measured(Measured(0, {0: StepCost(2.0), 1: StepCost(0.5)}, {"m": StepCost(0.1)}))
    forecast.timed(done(0, 10, 10 * 4.0, m=10 * 0.3))
    assert forecast.of_cell(0) == pytest.approx(30 * 4.0 + 10 * 0.3)
    assert forecast.of_cell(1) == pytest.approx(40 * 0.5 + 20 * 0.1)
    assert (forecast.done, forecast.maps) == (10, 80)
    forecast.ended(0)
    assert forecast.of_cell(0) == 0


def test_another_group_is_judged_by_the_same_explainer_then_by_the_median_of_all() -> None:
    works = [Work(0, 0, "slow", 10), Work(0, 1, "fast", 10), Work(0, 2, "middling", 10)]
    forecast = Forecast([*works, Work(1, 3, "slow", 10), Work(1, 4, "unknown", 10)])
    forecast.measured(Measured(0, {0: StepCost(100.0), 1: StepCost(1.0), 2: StepCost(2.0)}, {}))
    assert forecast.seconds_per_sample(3, "") == 100.0
    assert forecast.seconds_per_sample(4, "") == 2.0  # among 1, 2 and 100


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(forecast_module.time, "monotonic", lambda: now[0])
    return now


def test_time_left_falls_within_a_step_and_no_further_than_the_step(clock: list[float]) -> None:
    forecast = two_cells()
    forecast.measured(Measured(0, {0: StepCost(2.0), 1: StepCost(0.5)}, {"m": StepCost(0.1)}))
    whole = forecast.left
    assert whole is not None
    explaining = Step("explain", 0, 0)
    forecast.progress(Progress(explaining))
    clock[0] = 5.0
    forecast.progress(Progress(explaining))
    assert forecast.left == pytest.approx(whole - 5.0)
    clock[0] = 500.0  # 16 samples should have taken 32 s
    assert forecast.left == pytest.approx((whole - 32.0) * forecast._correction())


@pytest.mark.parametrize(("elapsed", "factor"), [(20.0, 2.0), (5.0, 0.5)])
def test_steps_are_corrected_by_what_the_whole_took(clock: list[float], elapsed: float, factor: float) -> None:
    """Ten seconds of steps that took twice as long, or, on several workers, half as long."""
    forecast = Forecast([Work(0, 0, "e", 40)])
    forecast.timed(done(0, 10, 10.0))
    forecast.begun = 0.0
    clock[0] = elapsed
    assert forecast.left == pytest.approx(30 * 1.0 * factor)


def test_a_cell_moves_within_its_batch_by_passes_and_by_steps() -> None:
    forecast = Forecast([Work(0, 0, "e", 16, {"m": 16})])
    forecast.measured(Measured(0, {0: StepCost(3.0, forward=100, backward=100)}, {"m": StepCost(1.0, forward=10)}))
    explain, score = Step("explain", 0, 0), Step("score", 0, 0, "m")

    def within(**event: Any) -> float:
        return forecast.within(Progress(**event))

    assert within(step=explain, forward=0, backward=0) == 0
    assert within(step=explain, forward=16 * 50, backward=16 * 50) == pytest.approx(0.5 * 3 / 4)
    assert within(step=score, forward=0) == pytest.approx(3 / 4)
    assert within(step=score, forward=16 * 5) == pytest.approx(3 / 4 + 0.5 / 4)
    assert within(step=score, forward=10**6) == 1
