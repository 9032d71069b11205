"""The paired comparison of two columns: the test, the interval, and what it names."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from faithface.boards.compare import Verdict, compare


def column(values: np.ndarray) -> dict[str, float]:
    return {f"s{i:03d}": float(v) for i, v in enumerate(values)}


def own(n: int) -> dict[str, list[str]]:
    return {f"s{i:03d}": [f"u{i}"] for i in range(n)}


def pairs(n: int, people: int, seed: int = 0) -> dict[str, list[str]]:
    rng = np.random.default_rng(seed)
    return {f"s{i:03d}": [f"p{k}" for k in rng.choice(people, 2, replace=False)] for i in range(n)}


def test_independent_samples_are_compared_by_the_paired_t_test() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.6, 1, size=25), rng.normal(size=25)
    found, expected = compare(column(a), column(b), own(25)), stats.ttest_rel(a, b)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))
    assert found.difference == pytest.approx(a.mean() - b.mean())
    assert (found.mean_a, found.mean_b, found.n, found.units) == pytest.approx((a.mean(), b.mean(), 25, 25))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0, 20, 40]))
def test_turning_the_two_round_turns_the_signs_and_p_agrees_with_the_interval(seed: int, people: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(0.4, 1, size=40), rng.normal(size=40)
    units = pairs(40, people, seed) if people else own(40)
    one, other = compare(column(a), column(b), units), compare(column(b), column(a), units)
    assert (one.difference, one.low, one.high) == pytest.approx((-other.difference, -other.high, -other.low))
    assert one.p == pytest.approx(other.p)
    assert one.n_needed == other.n_needed
    assert {one.verdict, other.verdict} in ({Verdict.HIGHER, Verdict.LOWER}, {Verdict.NOT_SEPARATED})
    assert (one.p < 0.05) == (not one.low <= 0 <= one.high) == (one.verdict is not Verdict.NOT_SEPARATED)
    assert [d.sample for d in one.most] == [d.sample for d in other.most]


def test_people_widen_the_interval_where_they_matter() -> None:
    rng = np.random.default_rng(1)
    units = pairs(200, 13)
    person = {f"p{k}": rng.normal() for k in range(13)}
    gaps = np.array([sum(person[p] for p in one) + 0.5 * rng.normal() for one in units.values()])
    known, unknown = compare(column(gaps), column(0 * gaps), units), compare(column(gaps), column(0 * gaps), own(200))
    assert known.high - known.low > 2.5 * (unknown.high - unknown.low)
    assert (known.units, unknown.units) == (13, 200)


def test_the_samples_that_differ_most_come_first_and_equal_ones_by_id() -> None:
    a = np.zeros(20)
    a[[3, 7, 11]] = [-2.0, 1.0, -1.0]
    found = compare(column(a), column(np.zeros(20)), own(20))
    assert [(d.sample, d.value) for d in found.most] == [("s003", -2.0), ("s007", 1.0), ("s011", -1.0)]
    assert len(compare(column(np.arange(20.0)), column(np.zeros(20)), own(20), shown=2).most) == 2


def test_samples_of_one_side_only_do_not_count() -> None:
    a, b = column(np.arange(20.0)), column(np.arange(20.0) / 2)
    del b["s000"]
    a["s001"], b["s002"], b["s003"] = math.nan, math.inf, math.nan
    found = compare(a, b, own(20))
    assert (found.n, found.only_a, found.only_b) == (16, 3, 1)
    assert found.mean_a == pytest.approx(np.mean(range(4, 20)))


@pytest.mark.parametrize(
    "units",
    [own(9), {f"s{i:03d}": [f"p{i % 9}"] for i in range(40)}, {f"s{i:03d}": ["hub", f"p{i}"] for i in range(40)}],
)
def test_too_few_samples_or_people_claim_nothing(units: dict[str, list[str]]) -> None:
    n = len(units)
    found = compare(column(np.ones(n)), column(np.zeros(n)), units)
    assert found.verdict is Verdict.TOO_FEW
    assert (found.difference, found.n, found.n_needed) == (1.0, n, None)
    assert all(math.isnan(x) for x in (found.low, found.high, found.p))


def test_nothing_in_common_is_an_answer() -> None:
    found = compare({"x": 1.0}, {"y": 1.0}, {"x": ["x"], "y": ["y"]})
    assert (found.n, found.only_a, found.only_b, found.verdict, found.most) == (0, 1, 1, Verdict.TOO_FEW, ())
    assert math.isnan(found.difference)


def test_equal_columns_are_not_separated_whatever_their_rounding() -> None:
    a = np.random.default_rng(0).normal(size=20) * 1e6
    for b in (a, (a + 0.1) - 0.1):
        found = compare(column(a), column(b), own(20))
        assert (found.p, found.verdict, found.n_needed) == (1.0, Verdict.NOT_SEPARATED, None)
        assert found.low <= 0 <= found.high


def test_a_constant_difference_is_certain() -> None:
    found = compare(column(np.full(20, 0.75)), column(np.full(20, 0.5)), own(20))
    assert (found.difference, found.low, found.high, found.p) == (0.25, 0.25, 0.25, 0.0)
    assert (found.verdict, found.n_needed) == (Verdict.HIGHER, 20)


def test_a_sample_without_units_is_an_error() -> None:
    with pytest.raises(KeyError, match="s001"):
        compare(column(np.ones(12)), column(np.zeros(12)), {"s000": ["a"]})
