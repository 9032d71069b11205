"""The tables of the studies' pages are what their records say, and their agreements are Kendall's."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.stats import kendalltau

from training import audit_page, masked_twins, measure_optimum, measure_orders, measure_specific
from training.evaluate_zoo import with_table

PAGES: dict[str, tuple[Any, Any]] = {
    "ten maps": (audit_page, audit_page.tables),
    "optimum": (measure_optimum, measure_optimum.table),
    "twins": (masked_twins, masked_twins.table),
    "faults": (measure_specific, measure_specific.faults_table),
    "orders": (measure_orders, measure_orders.tables),
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_shows_what_is_recorded(name: str) -> None:
    study, table = PAGES[name]
    record = json.loads(study.RECORD.read_text(encoding="utf-8"))
    page = study.PAGE.read_text(encoding="utf-8")
    begin, end = study.MARKS
    assert begin in page
    assert with_table(page, table(record), begin, end) == page, f"run {study.__name__} again without measuring"


def test_agreements_of_many_orders_at_once_are_those_of_scipy() -> None:
    first, second = np.random.default_rng(0).integers(0, 6, (2, 9, 40)).astype(float)
    expected = [kendalltau(a, b).statistic for a, b in zip(first.T, second.T, strict=True)]
    np.testing.assert_allclose(measure_orders.taus(first, second), expected, atol=1e-12)
    assert np.isnan(measure_orders.taus(np.ones(5), np.arange(5.0)))


def test_an_interval_of_an_agreement_holds_it_and_shrinks_with_more_samples() -> None:
    rng = np.random.default_rng(1)
    worth = np.linspace(0, 1, 8)[:, None]
    few, many = ([worth + rng.normal(0, 2, (8, n)) for _ in range(2)] for n in (20, 2000))
    widths = []
    for first, second in (few, many):
        tau, low, high = measure_orders.agreement(first, second)
        assert tau == pytest.approx(kendalltau(first.mean(axis=1), second.mean(axis=1)).statistic)
        assert low <= tau <= high
        widths.append(high - low)
    assert widths[1] < widths[0]


def test_the_specific_part_of_a_truth_that_all_samples_share_is_nothing() -> None:
    """Of maps and truths with a common part, plain correlation rewards the common part and the specific readings do
    not."""
    rng = np.random.default_rng(2)
    common = 10 * rng.normal(size=16)
    truth = {i: common + rng.normal(size=16) for i in range(12)}

    world: Any = SimpleNamespace(
        positions=list(range(10)),
        others=[[(i + 1) % 10, (i + 2) % 10] for i in range(10)],
        alike=[[j for j in range(10) if j != i] for i in range(10)],
        truth=truth,
    )
    fixed = measure_orders.readings(world, dict.fromkeys(range(12), common))
    own = measure_orders.readings(world, truth)
    assert fixed["plain"].mean() > 0.9
    for name in ("own − others", "parts", "weighted"):
        np.testing.assert_allclose(fixed[name], 0, atol=1e-12)
        assert own[name].mean() > 0
    assert own["parts"].mean() > 0.5


def test_no_share_of_the_best_gap_exceeds_one_and_greedy_is_within_two_per_cent() -> None:
    record = json.loads(measure_optimum.RECORD.read_text(encoding="utf-8"))
    for rows in record.values():
        for row in rows:
            shares = [value for name, value in row.items() if name not in measure_optimum.OTHER and value is not None]
            assert len(shares) >= len(measure_optimum.EXPLAINERS) - 1
            assert max(shares) <= 1
            assert 0.98 <= row["greedy"] <= 1
