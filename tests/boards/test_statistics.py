"""Intervals and variances against slow re-derivations, scipy, and known answers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from faithface.boards.statistics import bootstrap, interval, make_design, make_units
from faithface.boards.statistics.bootstrap import replicate_weights
from faithface.boards.statistics.means import mean_interval, p_values, standard_error, too_few, variances
from faithface.seeds import rng_for


def singles(n: int) -> list[list[str]]:
    return [[f"s{i}"] for i in range(n)]


def all_pairs(people: int, each: int) -> list[list[str]]:
    """Units of all pairs of images of some people."""
    who = [f"p{p}" for p in range(people) for _ in range(each)]
    return [sorted({a, b}) for i, a in enumerate(who) for b in who[i + 1 :]]


def random_pairs(people: int, n: int, seed: int = 0) -> list[list[str]]:
    rng = np.random.default_rng(seed)
    return [[f"p{i}" for i in rng.choice(people, 2, replace=False)] for _ in range(n)]


# --- the variance


def jackknife(values: np.ndarray, groups: list[list[int]]) -> float:
    """(G − 1)/G · Σ (mean without the group − mean)², written out."""
    mean = values.mean()
    total = 0.0
    for group in groups:
        rest = [v for row, v in enumerate(values) if row not in group]
        total += (np.mean(rest) - mean) ** 2
    return float(total * (len(groups) - 1) / len(groups))


def slow_variance(values: np.ndarray, names: list[list[str]]) -> float:
    """The variance of the page on statistics, for samples of at most two units, by loops."""
    sets = [set(one) for one in names]
    kept = []
    for one in sets:
        elsewhere = {name for name in one if sum(name in other for other in sets) > 1}
        kept.append(elsewhere or {min(one)})

    def grouped(keys: list[list[frozenset[str]]]) -> list[list[int]]:
        every = sorted({key for row in keys for key in row}, key=sorted)
        return [[row for row, held in enumerate(keys) if key in held] for key in every]

    people = grouped([[frozenset({name}) for name in one] for one in kept])
    pairs = grouped([[frozenset(one)] if len(one) == 2 else [] for one in kept])
    own = grouped([[frozenset(one)] for one in sets])
    person, pair = jackknife(values, people), jackknife(values, pairs) if pairs else 0.0
    share = 2 * sum(len(g) ** 2 for g in pairs) / sum(len(g) ** 2 for g in people)
    twice = max(0.0, pair - min(0.5, share) * max(0.0, person - 2 * pair))
    return max(person - 0.5 * twice, jackknife(values, own))


DESIGNS = {
    "independent": singles(12),
    "clusters": [[f"p{i % 5}"] for i in range(14)],
    "pairs of 7": random_pairs(7, 20),
    "pairs of 13": random_pairs(13, 12, 1),
    "pairs of 60, few repeat": random_pairs(60, 14, 2),
    "genuine and impostor": all_pairs(5, 2),
}


@pytest.mark.parametrize("names", DESIGNS.values(), ids=DESIGNS.keys())
@pytest.mark.parametrize("effect", [0.0, 2.0])
def test_the_variance_is_the_pages_formula_written_out(names: list[list[str]], effect: float) -> None:
    rng = np.random.default_rng(3)
    person = {name: effect * rng.normal() for one in names for name in sorted(one)}
    values = np.array([rng.normal() + sum(person[name] for name in one) for one in names])
    found = standard_error(make_design(make_units(names)), values) ** 2
    assert found == pytest.approx(slow_variance(values, names), rel=1e-10)


def test_of_three_units_what_the_overlaps_count_follows_inclusion_and_exclusion() -> None:
    rng = np.random.default_rng(4)
    names = [[f"p{i}" for i in rng.choice(6, 3, replace=False)] for _ in range(25)]
    values = rng.normal(size=25) - 0.1
    residuals = values - values.mean()
    design = make_design(make_units(names))

    def groups(size: int) -> dict[tuple[str, ...], list[int]]:
        found: dict[tuple[str, ...], list[int]] = {}
        for row, one in enumerate(names):
            for part in itertools.combinations(sorted(one), size):
                found.setdefault(part, []).append(row)
        return found

    for size, level in ((1, design.person), (2, design.overlaps[0]), (3, design.overlaps[1])):
        assert sorted(level.sizes.tolist()) == sorted(len(g) for g in groups(size).values())
    # Without the jackknife's factors: people − pairs + triples counts each two samples that share anybody once.
    squares = {k: sum(residuals[g].sum() ** 2 for g in groups(k).values()) for k in (1, 2, 3)}
    shares = sum(residuals[a] * residuals[b] for a in range(25) for b in range(25) if set(names[a]) & set(names[b]))
    assert squares[1] - squares[2] + squares[3] == pytest.approx(shares)
    assert [level.sign for level in design.overlaps] == [1, -1]


def test_the_variance_of_a_difference_is_that_of_the_differences() -> None:
    names = random_pairs(9, 30)
    values = np.random.default_rng(5).normal(size=(30, 4)) + np.random.default_rng(6).normal(size=(30, 1)) * 100
    design = make_design(make_units(names))
    matrix = variances(design, values, pairs=True)
    for i, j in itertools.product(range(4), repeat=2):
        assert matrix[i, j] == pytest.approx(
            standard_error(design, values[:, i] - values[:, j]) ** 2, rel=1e-9, abs=1e-20
        )


def test_boards_in_one_array_have_the_variances_of_each_alone() -> None:
    names = random_pairs(9, 30)
    values = np.random.default_rng(7).normal(size=(3, 30, 4))
    design = make_design(make_units(names))
    together = variances(design, values, pairs=True)
    for board in range(3):
        np.testing.assert_allclose(together[board], variances(design, values[board], pairs=True), rtol=1e-12)


def test_independent_samples_have_students_test_and_interval() -> None:
    values = np.random.default_rng(8).normal(0.4, 1.0, size=17)
    design = make_design(make_units(singles(17)))
    expected = stats.ttest_1samp(values, 0.0)
    p = p_values(values.mean(), np.array(standard_error(design, values)), design.df, 1.0)
    assert float(p) == pytest.approx(expected.pvalue)
    found = mean_interval(values, singles(17))
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))


def test_the_degrees_of_freedom_are_those_of_the_effective_number_of_people() -> None:
    names = [["hub", f"p{i}"] for i in range(6)] + [[f"p{i}", f"p{i + 1}"] for i in range(6)]
    times = [sum(name in one for one in names) for name in sorted({n for one in names for n in one})]
    design = make_design(make_units(names))
    assert design.df == pytest.approx(sum(times) ** 2 / sum(t * t for t in times) - 1)
    assert design.units == len(times)


def test_there_are_never_more_degrees_of_freedom_than_distinct_pairs() -> None:
    names = [[f"a{i % 11}", f"b{i % 11}"] for i in range(44)]
    assert make_design(make_units(names)).df == pytest.approx(10)


def test_a_person_in_every_sample_leaves_no_estimate() -> None:
    names = [["hub", f"p{i % 8}"] for i in range(40)]
    design = make_design(make_units(names))
    assert design.df == 0
    assert too_few(design)
    assert np.isnan(mean_interval(np.arange(40.0), names).low)


@pytest.mark.parametrize(
    ("names", "few"),
    [
        (singles(9), True),
        (singles(10), False),
        ([[f"p{i % 9}"] for i in range(90)], True),
        ([[f"p{i % 10}"] for i in range(90)], False),
    ],
)
def test_fewer_than_ten_samples_or_people_are_too_few(names: list[list[str]], few: bool) -> None:
    assert too_few(make_design(make_units(names))) is few


def test_samples_without_a_name_are_units_of_their_own() -> None:
    units = make_units([[], [], ["a"], ["a"]])
    assert units.count == 3
    assert make_design(units).df == pytest.approx(4**2 / (1 + 1 + 4) - 1)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_the_order_of_samples_and_the_names_of_people_do_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = random_pairs(int(rng.integers(4, 30)), int(rng.integers(4, 40)), seed)
    values = rng.normal(size=len(names))
    order = rng.permutation(len(names))
    one = standard_error(make_design(make_units(names)), values)
    other = standard_error(make_design(make_units([[n[::-1] for n in names[i]] for i in order])), values[order])
    assert one == pytest.approx(other, nan_ok=True)


# --- intervals


def test_the_interval_covers_the_truth_when_people_repeat_and_the_naive_one_does_not() -> None:
    rng = np.random.default_rng(1)
    names = all_pairs(12, 2)
    covered, naive = 0, 0
    rounds = 200
    for _ in range(rounds):
        person = dict(zip((f"p{p}" for p in range(12)), rng.normal(size=12), strict=True))
        values = np.array([np.mean([person[n] for n in one]) + 0.1 * rng.normal() for one in names])
        found, plain = interval(values, names), interval(values, singles(len(values)))
        covered += found.low <= 0 <= found.high
        naive += plain.low <= 0 <= plain.high
    assert covered / rounds >= 0.91  # 0.95 less 2.6 standard errors
    assert naive / rounds < 0.6


def test_a_summary_of_its_own_is_resampled_as_itself() -> None:
    values = np.r_[np.zeros(50), np.full(50, 10.0), [1000.0]]
    mean, median = interval(values, singles(101)), interval(values, singles(101), lambda v: float(np.median(v)))
    assert mean.high > 20
    assert median.high <= 10


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize("summarise", [None, lambda v: float(np.median(v))])
def test_there_is_no_interval_of_nothing_or_of_one(n: int, summarise: object) -> None:
    found = interval(np.ones(n), singles(n), summarise)  # type: ignore[arg-type]
    assert np.isnan(found.low)
    assert np.isnan(found.high)


def test_a_constant_has_an_interval_of_no_width() -> None:
    found = interval(np.full(20, 0.25), all_pairs(4, 2)[:20])
    assert (found.low, found.high) == (0.25, 0.25)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=30), st.sampled_from([None, "median"]))
def test_an_interval_is_repeatable_and_moves_with_the_values(values: list[float], kind: str | None) -> None:
    x, summarise = np.array(values), None if kind is None else (lambda v: float(np.median(v)))
    one, two = (interval(x, singles(len(x)), summarise, seed=1, replicates=50) for _ in range(2))
    assert one == two
    assert one.low <= one.high
    moved = interval(x + 1, singles(len(x)), summarise, seed=1, replicates=50)
    assert moved.low == pytest.approx(one.low + 1, abs=1e-9)


# --- the bootstrap


def test_weights_are_products_of_how_often_the_units_were_drawn() -> None:
    names = all_pairs(4, 2)
    units = make_units(names)
    weights = np.concatenate(list(replicate_weights(units, seed=5, replicates=50)))
    order = sorted({name for one in names for name in one})
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


def test_chunks_of_replicates_are_the_same_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    units = make_units(all_pairs(4, 2))
    whole = np.concatenate(list(replicate_weights(units, seed=0, replicates=20)))
    monkeypatch.setattr(bootstrap, "_CHUNK", 3 * len(units.index))
    assert len(list(replicate_weights(units, seed=0, replicates=20))) == 7
    np.testing.assert_array_equal(np.concatenate(list(replicate_weights(units, seed=0, replicates=20))), whole)
