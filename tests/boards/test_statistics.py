"""Intervals, ties and ranks against slow re-derivations and known answers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faithface.boards.statistics import holm, interval, make_units, ranks, replicate_weights


def singles(n: int) -> list[list[str]]:
    return [[f"s{i}"] for i in range(n)]


def all_pairs(people: int, each: int) -> list[list[str]]:
    """Units of all pairs of images of some people."""
    who = [f"p{p}" for p in range(people) for _ in range(each)]
    return [sorted({a, b}) for i, a in enumerate(who) for b in who[i + 1 :]]


def test_weights_are_products_of_how_often_the_units_were_drawn() -> None:
    names = all_pairs(4, 2)
    units = make_units(names)
    weights = np.concatenate(list(replicate_weights(units, seed=5, replicates=50)))
    order = sorted({name for one in names for name in one})
    from faithface.seeds import rng_for

    drawn = rng_for(5, str(len(order)), "bootstrap").integers(0, len(order), size=(50, len(order)))
    for r in range(50):
        times = {name: int((drawn[r] == i).sum()) for i, name in enumerate(order)}
        slow = [int(np.prod([times[name] for name in one])) for one in names]
        assert weights[r].tolist() == slow


def test_samples_without_a_repeated_face_are_drawn_as_ordinary_samples() -> None:
    units = make_units([[f"a{i}", f"b{i}"] for i in range(6)])
    assert units.count == 6
    assert units.index.shape == (6, 1)
    weights = next(replicate_weights(units, seed=0, replicates=40))
    assert (weights.sum(axis=1) == 6).all()


def test_the_interval_of_independent_values_is_that_of_the_normal_theory() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, size=400)
    found = interval(values, singles(400))
    error = values.std(ddof=1) / np.sqrt(400)
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.25 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.25 * error)


def test_the_interval_covers_the_truth_when_people_repeat_and_the_naive_one_does_not() -> None:
    rng = np.random.default_rng(1)
    names = all_pairs(10, 3)
    covered, naive = 0, 0
    rounds = 60
    for _ in range(rounds):
        person = dict(zip((f"p{p}" for p in range(10)), rng.normal(size=10), strict=True))
        values = np.array([np.mean([person[n] for n in one]) + 0.1 * rng.normal() for one in names])
        found = interval(values, names, replicates=300)
        covered += found.low <= 0 <= found.high
        plain = interval(values, singles(len(values)), replicates=300)
        naive += plain.low <= 0 <= plain.high
    assert covered / rounds >= 0.85
    assert naive / rounds < 0.6


def test_a_summary_of_its_own_is_resampled_as_itself() -> None:
    values = np.r_[np.zeros(50), np.full(50, 10.0), [1000.0]]
    mean, median = interval(values, singles(101)), interval(values, singles(101), lambda v: float(np.median(v)))
    assert mean.high > 20
    assert median.high <= 10


@pytest.mark.parametrize("n", [0, 1])
def test_there_is_no_interval_of_nothing_or_of_one(n: int) -> None:
    found = interval(np.ones(n), singles(n))
    assert np.isnan(found.low)
    assert np.isnan(found.high)


def test_a_constant_has_an_interval_of_no_width() -> None:
    found = interval(np.full(20, 0.25), all_pairs(4, 2)[:20])
    assert (found.low, found.high) == (0.25, 0.25)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=30), st.integers(0, 3))
def test_an_interval_is_repeatable_and_moves_with_the_values(values: list[float], seed: int) -> None:
    x = np.array(values)
    one, two = (interval(x, singles(len(x)), seed=seed, replicates=50) for _ in range(2))
    assert one == two
    assert one.low <= one.high
    moved = interval(x + 1, singles(len(x)), seed=seed, replicates=50)
    assert moved.low == pytest.approx(one.low + 1, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_the_step_down_rule_written_out(p: list[float]) -> None:
    adjusted = holm(p)
    order = sorted(range(len(p)), key=lambda i: p[i])
    for level in (0.01, 0.05, 0.2):
        rejected: set[int] = set()
        for step, i in enumerate(order):
            if p[i] * (len(p) - step) >= level:
                break
            rejected.add(i)
        assert {i for i in range(len(p)) if adjusted[i] < level} == rejected


def test_ranks_tell_apart_what_differs_and_tie_what_does_not() -> None:
    rng = np.random.default_rng(2)
    base = rng.normal(size=60)
    names = {f"s{i}": [f"s{i}"] for i in range(60)}

    def column(values: np.ndarray) -> dict[str, float]:
        return {f"s{i}": float(v) for i, v in enumerate(values)}

    columns = {
        "best": column(base + 1),
        "good": column(base + 1 + 0.01 * rng.normal(size=60)),  # the same but for noise
        "poor": column(base + rng.normal(scale=0.1, size=60)),
    }
    assert ranks(columns, names, higher_is_better=True) == {"best": 1, "good": 1, "poor": 3}
    assert ranks(columns, names, higher_is_better=False) == {"best": 2, "good": 2, "poor": 1}


def test_ranks_pair_the_samples_so_that_a_small_steady_gain_counts() -> None:
    rng = np.random.default_rng(3)
    base = rng.normal(scale=10, size=40)
    names = {f"s{i}": [f"s{i}"] for i in range(40)}
    gain = 0.2 + 0.05 * rng.normal(size=40)
    columns = {
        "a": {f"s{i}": float(v) for i, v in enumerate(base)},
        "b": {f"s{i}": float(v) for i, v in enumerate(base + gain)},
    }
    assert ranks(columns, names, higher_is_better=True) == {"a": 2, "b": 1}


def test_missing_and_undefined_values_are_left_out_pair_by_pair() -> None:
    names = {f"s{i}": [f"s{i}"] for i in range(20)}
    a = {f"s{i}": float(i) for i in range(20)}
    b = {f"s{i}": float(i) - 1 + 0.01 * (i % 3) for i in range(20)}
    b["s0"] = float("nan")
    del b["s1"]
    assert ranks({"a": a, "b": b}, names, higher_is_better=True) == {"a": 1, "b": 2}
    assert ranks({"a": a, "b": {}}, names, higher_is_better=True) == {"a": 1, "b": 1}


def test_four_samples_prove_nothing() -> None:
    names = {f"s{i}": [f"s{i}"] for i in range(4)}
    columns = {"a": {f"s{i}": 1.0 for i in range(4)}, "b": {f"s{i}": 0.0 for i in range(4)}}
    assert ranks(columns, names, higher_is_better=True) == {"a": 1, "b": 1}


def test_ranks_do_not_depend_on_the_order_of_the_rivals() -> None:
    rng = np.random.default_rng(4)
    names = {f"s{i}": [f"p{i % 7}"] for i in range(50)}
    columns = {
        k: {f"s{i}": float(v) for i, v in enumerate(rng.normal(loc=m, size=50))}
        for k, m in zip("abcd", (0, 0, 1, 2), strict=True)
    }
    backwards = {k: columns[k] for k in reversed(columns)}
    assert ranks(columns, names, True) == ranks(backwards, names, True)
