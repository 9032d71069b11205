"""Comparisons, rank intervals, tie classes and sample sizes against brute force and known answers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from faithface.boards.compare import compare
from faithface.boards.statistics import make_units, rank
from faithface.boards.statistics.needed import n_needed, samples_needed
from faithface.boards.statistics.ranking import (
    Designs,
    adjust,
    pairwise,
    places,
    rank_intervals,
    tie_classes,
)

Columns = dict[str, dict[str, float]]


def names(n: int, people: int = 0, seed: int = 0) -> dict[str, list[str]]:
    """Units of n samples: of their own, or pairs of some people."""
    rng = np.random.default_rng(seed)
    if not people:
        return {f"s{i:03d}": [f"u{i}"] for i in range(n)}
    return {f"s{i:03d}": [f"p{k}" for k in rng.choice(people, 2, replace=False)] for i in range(n)}


def columns(values: np.ndarray, rivals: str = "abcdefgh") -> Columns:
    return {
        r: {f"s{i:03d}": float(v) for i, v in enumerate(column)} for r, column in zip(rivals, values.T, strict=False)
    }


def graded(n: int, gains: list[float], seed: int = 0, noise: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 1)) * 3 + noise * rng.normal(size=(n, len(gains))) + np.array(gains)


def test_places_follow_the_numbers_and_intervals_what_is_proven() -> None:
    found = rank(columns(graded(60, [2.0, 1.98, 0.0], noise=0.3)), names(60), higher_is_better=True)
    assert [p.name for p in found][2] == "c"
    assert {p.name: p.text for p in found} == {"a": "1-2", "b": "1-2", "c": "3"}
    assert [p.tie_class for p in found] == [1, 1, 2]
    turned = rank(columns(graded(60, [2.0, 1.98, 0.0], noise=0.3)), names(60), higher_is_better=False)
    assert {p.name: p.text for p in turned} == {"a": "2-3", "b": "2-3", "c": "1"}


def test_pairing_makes_a_small_steady_gain_count() -> None:
    rng = np.random.default_rng(3)
    base = rng.normal(scale=10, size=40)
    values = np.stack([base, base + 0.2 + 0.05 * rng.normal(size=40)], axis=1)
    assert [(p.name, p.text) for p in rank(columns(values), names(40), True)] == [("b", "1"), ("a", "2")]


def test_comparisons_are_those_of_compare_and_of_scipy() -> None:
    values = graded(30, [0.5, 0.0, 0.2])
    found = pairwise(values, Designs(make_units(list(names(30).values()))))
    cols = columns(values)
    for i, j in itertools.combinations(range(3), 2):
        two = compare(cols["abc"[i]], cols["abc"[j]], names(30))
        assert found.p[i, j] == pytest.approx(two.p, rel=1e-9)
        assert found.p[i, j] == pytest.approx(stats.ttest_rel(values[:, i], values[:, j]).pvalue, rel=1e-9)
        assert found.difference[i, j] == pytest.approx(two.difference)


def test_comparisons_are_antisymmetric() -> None:
    values = graded(40, [0.5, 0.0, 0.2, 0.1])
    values[3:9, 2] = np.nan
    found = pairwise(values, Designs(make_units(list(names(40, people=15).values()))))
    np.testing.assert_array_equal(found.difference, -found.difference.T)
    for matrix in (found.p, found.adjusted, found.error, found.n, found.df):
        np.testing.assert_array_equal(matrix, matrix.T)
    better = found.better(True)
    assert not (better & better.T).any()
    np.testing.assert_array_equal(better, found.better(False).T)


def test_missing_and_undefined_values_leave_the_pairs_they_belong_to() -> None:
    values = graded(40, [0.5, 0.0, 0.2])
    values[[0, 5], 1] = np.nan
    values[7, 2] = np.inf
    units = names(40, people=20)
    found = pairwise(values, Designs(make_units(list(units.values()))))
    cols = columns(values)
    for i, j in itertools.combinations(range(3), 2):
        two = compare(cols["abc"[i]], cols["abc"[j]], units)
        assert found.n[i, j] == two.n == 40 - 2 * (1 in (i, j)) - (2 in (i, j))
        assert found.p[i, j] == pytest.approx(two.p, rel=1e-9)
    assert found.means[1] == pytest.approx(np.nanmean(values[:, 1]))


def test_a_rival_without_enough_samples_is_not_ranked_and_moves_nobody() -> None:
    values = graded(40, [2.0, 0.0, 1.0], noise=0.2)
    values[9:, 2] = np.nan
    found = {p.name: p for p in rank(columns(values), names(40), True)}
    assert found["c"].text == "too few to rank"
    assert (found["c"].best, found["c"].tie_class, found["c"].needed) == (None, None, None)
    assert {k: found[k].text for k in "ab"} == {"a": "1", "b": "2"}
    assert [p.text for p in rank({"a": {}, "b": {}}, {}, True)] == ["too few to rank"] * 2


def test_rivals_with_hardly_a_common_sample_are_not_compared() -> None:
    values = graded(40, [5.0, 0.0], noise=0.2)
    values[:18, 0] = np.nan
    values[25:, 1] = np.nan
    assert {p.text for p in rank(columns(values), names(40), True)} == {"1-2"}


@pytest.mark.parametrize(("n", "text"), [(1, "too few to rank"), (9, "too few to rank"), (10, "1")])
def test_a_board_of_few_samples_claims_nothing(n: int, text: str) -> None:
    values = np.stack([np.ones(n), np.zeros(n)], axis=1)
    assert rank(columns(values), names(n), True)[0].text == text


def test_a_lone_rival_is_first_and_nobody_is_an_empty_answer() -> None:
    assert [p.text for p in rank(columns(graded(20, [0.0])), names(20), True)] == ["1"]
    assert rank({}, {}, True) == ()


def test_equal_columns_tie_whatever_their_rounding() -> None:
    base = np.random.default_rng(0).normal(size=30)
    values = np.stack([base, base, base + 1e-15, (base + 0.3) - 0.3], axis=1)
    found = rank(columns(values), names(30), True)
    assert {p.text for p in found} == {"1-4"}
    assert {p.tie_class for p in found} == {1}


def test_a_constant_gain_is_a_difference() -> None:
    base = np.random.default_rng(0).normal(size=30)
    found = rank(columns(np.stack([base, base + 0.5], axis=1)), names(30), True)
    assert [(p.name, p.text) for p in found] == [("b", "1"), ("a", "2")]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_the_order_of_rivals_and_samples_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = graded(30, rng.normal(scale=0.5, size=5).tolist(), seed)
    values[rng.random(values.shape) < 0.03] = np.nan
    cols, units = columns(values), names(30, people=20, seed=seed)
    shuffled = {r: {s: cols[r][s] for s in rng.permutation(list(cols[r]))} for r in rng.permutation(list(cols))}
    one, other = rank(cols, units, True), rank(shuffled, units, True)
    assert [(p.name, p.text, p.tie_class, p.needed) for p in one] == [
        (p.name, p.text, p.tie_class, p.needed) for p in other
    ]


# --- the correction


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 5), st.data())
def test_the_correction_is_the_step_down_over_one_sided_claims_written_out(rivals: int, data: st.DataObject) -> None:
    pairs = list(itertools.combinations(range(rivals), 2))
    given_p = data.draw(st.lists(st.floats(0.0001, 1), min_size=len(pairs), max_size=len(pairs)))
    p = np.ones((rivals, rivals))
    for (i, j), value in zip(pairs, given_p, strict=True):
        p[i, j] = p[j, i] = value
    adjusted = adjust(p)
    for level in (0.013, 0.051, 0.21):
        # Each pair has a claim in the seen direction with p / 2, and one in the other with 1 − p / 2.
        family = {(i, j): p[i, j] / 2 for i, j in pairs} | {(j, i): 1 - p[i, j] / 2 for i, j in pairs}
        made = set()
        while family and min(family.values()) < level / len(family):
            claim = min(family, key=lambda c: family[c])
            made.add(claim)
            del family[claim]
        assert {(i, j) for i, j in pairs if adjusted[i, j] < level} == made


def test_the_correction_counts_wrong_directions_which_holms_does_not() -> None:
    p = np.array([[1, 0.01, 0.02], [0.01, 1, 0.03], [0.02, 0.03, 1]])
    assert adjust(p)[[0, 0, 1], [1, 2, 2]] == pytest.approx([0.03, 0.05, 0.06])


# --- rank intervals and classes


def relations(rivals: int) -> st.SearchStrategy[np.ndarray]:
    """Any relation in which no two are better than each other."""
    pairs = list(itertools.combinations(range(rivals), 2))

    def make(signs: list[int]) -> np.ndarray:
        better = np.zeros((rivals, rivals), dtype=bool)
        for (i, j), sign in zip(pairs, signs, strict=True):
            better[(i, j) if sign > 0 else (j, i)] = sign != 0
        return better

    return st.lists(st.sampled_from([-1, 0, 0, 1]), min_size=len(pairs), max_size=len(pairs)).map(make)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5).flatmap(relations))
def test_rank_intervals_hold_every_order_that_the_claims_allow(better: np.ndarray) -> None:
    rivals = len(better)
    low, high = rank_intervals(better)
    allowed = [
        order
        for order in itertools.permutations(range(rivals))
        if all(order.index(i) < order.index(j) for i, j in zip(*np.nonzero(better), strict=True))
    ]
    for order in allowed:
        for position, rival in enumerate(order, 1):
            assert low[rival] <= position <= high[rival]
    # For claims that are transitive, no interval is wider than the orders need.
    transitive = not (((better.astype(int) @ better.astype(int)) > 0) & ~better).any()
    if transitive:
        for rival in range(rivals):
            seen = [order.index(rival) + 1 for order in allowed]
            assert (min(seen), max(seen)) == (low[rival], high[rival])


def test_a_chain_of_neighbours_does_not_make_all_equal() -> None:
    # Each is tied with the next one only.
    chain = np.array([[j > i + 1 for j in range(5)] for i in range(5)])
    assert tie_classes(chain).tolist() == [1, 1, 2, 2, 3]


def test_the_anchor_does_not_move_to_the_last_of_its_class() -> None:
    better = np.zeros((3, 3), dtype=bool)
    better[1, 2] = True  # the second is better than the third, the anchor is not
    assert tie_classes(better).tolist() == [1, 1, 1]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6).flatmap(relations))
def test_classes_are_the_rule_written_out(better: np.ndarray) -> None:
    left, classes, number = list(range(len(better))), {}, 0
    while left:
        number += 1
        anchor = left[0]
        members = [k for k in left if not better[anchor][k]]
        classes.update(dict.fromkeys(members, number))
        left = [k for k in left if k not in members]
    assert tie_classes(better).tolist() == [classes[k] for k in range(len(better))]


def test_places_hold_the_classes_in_the_order_of_the_means() -> None:
    values = graded(50, [0.0, 1.5, 3.0, 1.6], noise=0.4)
    found = rank(columns(values), names(50), True)
    assert [p.name for p in found] == sorted("abcd", key=lambda r: -values[:, "abcd".index(r)].mean())
    assert [p.tie_class for p in found] == [1, 2, 2, 3]


# --- samples needed


def power(effect: float, n: int, level: float = 0.05) -> float:
    critical = stats.t.ppf(1 - level / 2, n - 1)
    return float(stats.nct.sf(critical, n - 1, effect * math.sqrt(n)))


@pytest.mark.parametrize("effect", [0.2, 0.5, 1.1])
@pytest.mark.parametrize("level", [0.05, 0.05 / 28])
def test_n_needed_is_the_first_number_with_four_fifths_power(effect: float, level: float) -> None:
    found = n_needed(effect, 1 / math.sqrt(20), 20, 19.0, level)
    assert found is not None
    assert power(effect, found, level) >= 0.8 > power(effect, found - 1, level)


def test_n_needed_finds_what_it_promises() -> None:
    found = n_needed(0.5, 1 / math.sqrt(20), 20, 19.0)
    assert found is not None
    drawn = np.random.default_rng(0).normal(0.5, 1.0, size=(4000, found))
    # Four standard errors of a share of 0.8 among 4,000; the test above has the number itself, to one sample.
    assert (stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.05).mean() == pytest.approx(power(0.5, found), abs=0.025)


@pytest.mark.parametrize(
    ("difference", "error", "df"),
    [(0.0, 1.0, 9.0), (math.nan, 1.0, 9.0), (1.0, math.nan, 9.0), (1.0, 1.0, 0.0), (1e-9, 1.0, 9.0)],
)
def test_there_is_no_n_needed_without_a_difference_or_an_error(difference: float, error: float, df: float) -> None:
    assert n_needed(difference, error, 10, df) is None


def test_n_needed_of_a_huge_and_of_a_constant_difference() -> None:
    assert n_needed(1e6, 1.0, 40, 39.0) == 2
    assert n_needed(0.5, 0.0, 40, 39.0) == 40
    assert n_needed(0.5, 0.1, 40, 39.0) == n_needed(-0.5, 0.1, 40, 39.0)


def test_samples_needed_of_many_pairs_are_those_of_each_by_search() -> None:
    rng = np.random.default_rng(3)
    difference, error = rng.normal(0, 1, 60), rng.uniform(0.05, 1.5, 60)
    n = rng.integers(10, 80, 60)
    df = (n - 1) * rng.uniform(0.3, 1, 60)  # people who occur in several samples
    difference[:3], error[3], df[4] = (0.0, math.nan, 1e-9), 0.0, 0.0
    found = samples_needed(difference, error, n, df, 0.01)
    assert found[[0, 1, 2, 3, 4]].tolist() == [0, 0, 0, n[3], 0]

    def reached(k: int, samples: int) -> bool:
        freedom = (df[k] + 1) * samples / n[k] - 1
        shift = abs(difference[k]) / error[k] * math.sqrt(samples / n[k])
        return bool(freedom > 0 and stats.nct.sf(stats.t.ppf(1 - 0.01 / 2, freedom), freedom, shift) >= 0.8)

    for k in range(5, 60):
        if found[k] == 0:  # more than a million
            assert not reached(k, 1_000_000)
        else:
            assert reached(k, int(found[k]))
            assert not reached(k, int(found[k]) - 1)


def test_a_place_says_how_many_samples_would_separate_it_from_the_next() -> None:
    values = graded(30, [0.3, 0.0])
    first, last = rank(columns(values), names(30), higher_is_better=values[:, 0].mean() > values[:, 1].mean())
    gap = values[:, 0] - values[:, 1]
    assert last.needed is None
    assert first.needed == n_needed(gap.mean(), gap.std(ddof=1) / math.sqrt(30), 30, 29.0)


def test_places_of_some_rows_are_those_of_the_whole() -> None:
    """Rows are filtered after placing; placing a subset would answer another question, which this shows."""
    values = graded(25, [1.0, 0.55, 0.1, 0.0, -0.1], noise=0.5)
    designs = Designs(make_units(list(names(25).values())))
    whole = {p.name: p for p in places("abcde", pairwise(values, designs), True)}
    few = {p.name: p for p in places("abe", pairwise(values[:, [0, 1, 4]], designs), True)}
    shown = [p for p in whole.values() if p.name in "abe"]
    assert [p.name for p in shown] == ["a", "b", "e"]
    assert any(whole[k].text != few[k].text for k in "abe")


def test_comparisons_of_some_rivals_are_those_that_they_alone_would_have() -> None:
    rng = np.random.default_rng(9)
    values = rng.normal(size=(30, 6)) + np.arange(6) * 0.3
    values[:5, 2] = np.nan
    names = [[f"p{a}", f"p{b}"] for a, b in rng.integers(0, 15, size=(30, 2))]
    whole = pairwise(values, Designs(make_units(names)))
    part, alone = whole.only(np.array([0, 2, 5])), pairwise(values[:, [0, 2, 5]], Designs(make_units(names)))
    for field in ("means", "n", "difference", "error", "df", "p", "adjusted"):
        np.testing.assert_allclose(getattr(part, field), getattr(alone, field), rtol=1e-9, err_msg=field)
    assert (part.adjusted < whole.adjusted[np.ix_([0, 2, 5], [0, 2, 5])]).any()  # fewer comparisons are corrected for
