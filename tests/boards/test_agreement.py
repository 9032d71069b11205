"""Kendall's tau between metrics, critical-difference diagrams and the overall order, against scipy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from faithface.boards.statistics.agreement import agreement, borda, critical_difference

Columns = dict[str, dict[str, float]]


def columns(values: np.ndarray, prefix: str = "s") -> Columns:
    return {f"r{k}": {f"{prefix}{i:03d}": float(v) for i, v in enumerate(c)} for k, c in enumerate(values.T)}


def own(n: int, prefix: str = "s") -> dict[str, list[str]]:
    return {f"{prefix}{i:03d}": [f"{prefix}u{i}"] for i in range(n)}


# --- Kendall's tau


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.booleans(), st.booleans())
def test_tau_is_scipys_of_the_means(seed: int, up: bool, down: bool) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 3, size=(2, 12, 6)).astype(float)  # ties among the means occur
    got = agreement({"m": columns(a), "n": columns(b)}, own(12), {"m": up, "n": down}, replicates=2)["m", "n"]
    expected = stats.kendalltau(a.sum(axis=0), b.sum(axis=0)).statistic * (1 if up == down else -1)
    assert got.tau == pytest.approx(expected, nan_ok=True)
    assert got.rivals == 6


def test_the_interval_is_that_of_the_tau_of_resampled_people() -> None:
    rng = np.random.default_rng(1)
    names = {f"s{i:03d}": [f"p{k}" for k in rng.choice(15, 2, replace=False)] for i in range(60)}
    a = rng.normal(size=(60, 20)) + np.arange(20) * 0.3
    b = a + rng.normal(size=(60, 20))
    got = agreement({"m": columns(a), "n": columns(b)}, names, {"m": True, "n": True}, seed=3, replicates=1500)[
        "m", "n"
    ]
    slow = []
    people = [f"p{k}" for k in range(15)]
    for _ in range(600):
        times = dict.fromkeys(people, 0)
        for p in rng.choice(people, size=15):
            times[p] += 1
        weights = np.array([np.prod([times[p] for p in one]) for one in names.values()])
        if weights.sum():
            means = [(weights @ x) / weights.sum() for x in (a, b)]
            slow.append(stats.kendalltau(*means).statistic)
    low, high = np.quantile(slow, [0.025, 0.975])
    # Three steps of tau with 20 rivals (2/190 each). Resampling samples instead of people would give 0.05 more at the
    # lower end.
    assert (got.low, got.high) == pytest.approx((low, high), abs=0.032)
    assert got.low <= got.tau <= got.high


def test_metrics_of_the_same_values_agree_and_opposite_ones_do_not() -> None:
    a = np.random.default_rng(2).normal(size=(40, 6)) + np.arange(6)
    both = {"m": columns(a), "n": columns(a), "o": columns(-a)}
    got = agreement(both, own(40), dict.fromkeys(both, True))
    assert (got["m", "n"].tau, got["m", "n"].low, got["m", "n"].high) == (1.0, 1.0, 1.0)
    assert got["m", "o"].tau == got["n", "o"].tau == -1.0
    turned = agreement(both, own(40), {"m": True, "n": True, "o": False})
    assert turned["m", "o"].tau == 1.0


def test_metrics_on_different_samples_are_compared_by_their_own_means() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(30, 5)) + np.arange(5), rng.normal(size=(40, 5)) - np.arange(5)
    names = own(30, "g") | own(40, "i")
    got = agreement({"m": columns(a, "g"), "n": columns(b, "i")}, names, {"m": True, "n": True})["m", "n"]
    assert got.tau == -1.0
    assert -1.0 <= got.low <= got.high < -0.4


def test_a_rival_that_one_metric_lacks_is_left_aside() -> None:
    a = np.random.default_rng(4).normal(size=(30, 5)) + np.arange(5)
    less = columns(a)
    del less["r4"]
    less["r3"] = dict.fromkeys(less["r3"], float("nan"))
    got = agreement({"m": columns(a), "n": less}, own(30), {"m": True, "n": True})["m", "n"]
    assert (got.rivals, got.tau) == (3, 1.0)


def test_few_samples_have_a_tau_and_no_interval_and_none_have_neither() -> None:
    a = np.arange(15.0).reshape(5, 3)
    got = agreement({"m": columns(a), "n": columns(a)}, own(5), {"m": True, "n": True})["m", "n"]
    assert got.tau == 1.0
    assert np.isnan([got.low, got.high]).all()
    nothing = agreement({"m": {}, "n": {}}, {}, {"m": True, "n": True})["m", "n"]
    assert np.isnan(nothing.tau)
    assert nothing.rivals == 0
    flat = agreement({"m": columns(a), "n": columns(a * 0)}, own(5), {"m": True, "n": True})["m", "n"]
    assert np.isnan(flat.tau)


# --- critical-difference diagrams


def test_positions_are_mean_ranks_within_a_sample() -> None:
    values = np.random.default_rng(5).integers(0, 4, size=(25, 5)).astype(float)
    got = critical_difference(columns(values), own(25), higher_is_better=True)
    expected = stats.rankdata(-values, axis=1).mean(axis=0)
    assert dict(got.positions) == pytest.approx({f"r{k}": r for k, r in enumerate(expected)})
    assert [p for _, p in got.positions] == sorted(expected)
    other = critical_difference(columns(-values), own(25), higher_is_better=False)
    assert other == got


def test_bars_join_what_is_not_separated() -> None:
    rng = np.random.default_rng(6)
    values = rng.normal(size=(60, 4)) + np.array([0.0, 0.05, 3.0, 3.05])
    got = critical_difference(columns(values), own(60), higher_is_better=True)
    assert {name for name, _ in got.positions[:2]} == {"r2", "r3"}
    assert got.bars == ((0, 1), (2, 3))


def test_bars_may_overlap_and_none_lies_in_another() -> None:
    rng = np.random.default_rng(7)
    values = rng.normal(size=(40, 6)) + np.arange(6) * 0.45
    got = critical_difference(columns(values), own(40), higher_is_better=True)
    assert len(got.bars) >= 2
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in zip(got.bars, got.bars[1:], strict=False))
    assert any(b[0] <= a[1] for a, b in zip(got.bars, got.bars[1:], strict=False))


def test_only_complete_samples_count_and_too_few_draw_no_bar() -> None:
    values = np.random.default_rng(8).normal(size=(15, 3))
    values[:6, 1] = np.nan
    got = critical_difference(columns(values), own(15), higher_is_better=True)
    assert (got.samples, got.enough, got.bars) == (9, False, ())
    values[:, 1] = np.nan
    assert critical_difference(columns(values), own(15), True).positions == ()


# --- the overall order

FAMILIES = {
    "curves": {"gap": {"a": 0.9, "b": 0.5, "c": 0.1}, "deletion": {"a": 0.1, "b": 0.2, "c": 0.3}},
    "truth": {"mass": {"a": 0.2, "b": 0.6, "c": 0.6}},
    "looks": {"entropy": {"a": 1.0, "b": 2.0, "c": 3.0}},
}
BETTER = {"gap": True, "deletion": False, "mass": True, "entropy": True}


def test_the_overall_order_is_the_mean_rank_over_families() -> None:
    got = borda(FAMILIES, BETTER, fit={"gap", "deletion", "mass"})
    # curves: a 1, b 2, c 3 by both. truth: b and c share 1.5, a 3.
    assert [(r, m) for r, m, _ in got.rows] == [("b", 1.75), ("a", 2.0), ("c", 2.25)]
    assert got.rows[0][2] == {"curves": 2.0, "truth": 1.5}
    assert got.metrics == {"curves": ("deletion", "gap"), "truth": ("mass",)}
    assert got.unfit == ("entropy",)


def test_many_variants_of_one_question_have_one_voice() -> None:
    many = {**FAMILIES["curves"], **{f"gap{i}": FAMILIES["curves"]["gap"] for i in range(9)}}
    better = BETTER | {f"gap{i}": True for i in range(9)}
    one = borda(FAMILIES, BETTER, fit=set(BETTER))
    other = borda(FAMILIES | {"curves": many}, better, fit=set(better))
    assert one.rows == other.rows


def test_a_rival_without_a_number_has_no_place_and_does_not_move_the_others() -> None:
    more = {f: {m: dict(n) for m, n in ms.items()} for f, ms in FAMILIES.items()}
    more["curves"]["gap"]["d"] = 99.0
    more["truth"]["mass"]["d"] = float("nan")
    one, other = borda(FAMILIES, BETTER, fit=set(BETTER)), borda(more, BETTER, fit=set(BETTER))
    assert other.rows == one.rows
    assert other.incomplete == ("d",)


def test_without_a_fit_metric_there_is_no_order() -> None:
    got = borda(FAMILIES, BETTER, fit=set())
    assert (got.rows, dict(got.metrics)) == ((), {})
    assert got.unfit == ("deletion", "entropy", "gap", "mass")
