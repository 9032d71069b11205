"""The optimum against brute force: every order of 3×3 cells, and Shapley values by their definition."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch

from faithface.contract import Maps
from faithface.errors import UsageError
from faithface.model import open_model
from faithface.perturb import area, curves
from faithface.perturb.optimum import greedy, optimum, path_of, scorer, shapley_values, share
from tests.perturb.sets import class_set, load, pair_set
from tests.support.networks import tiny

SIZE = 16


@pytest.fixture(scope="module", params=["pad", "verification"])
def world(request, tmp_path_factory):
    model = open_model(tiny("cnn", request.param, tmp_path_factory.mktemp("optimum"), size=SIZE))
    samples = load(model, class_set(3, SIZE) if request.param == "pad" else pair_set(4, SIZE), threshold=0.0)
    return model, samples


def as_map(order: np.ndarray, grid: int) -> torch.Tensor:
    """A map H×W whose cells rank in this order: row r lies in cell row r * grid // H."""
    height = np.arange(SIZE) * grid // SIZE
    rank = np.empty(len(order))
    rank[order] = np.arange(len(order))[::-1]
    return torch.from_numpy(rank[height[:, None] * grid + height[None, :]].astype(np.float32))


def gap_of(model, samples, maps: torch.Tensor, fill: str, grid: int, points: int) -> np.ndarray:
    """The gap by the curves that boards report."""
    chosen = Maps(relevance=maps)
    if samples.are_pairs:
        both = maps[:, None].expand(-1, 2, -1, -1)
        chosen = Maps(similarity=both, dissimilarity=both)
    found = curves(model, samples, chosen, fill=fill, grid=grid, points=points).scores
    return area(found["insertion"]) - area(found["deletion"])


@pytest.mark.parametrize("points", [10, 4])
def test_over_all_orders_of_nine_cells_none_beats_the_best_and_none_is_below_the_worst(world, points):
    """All 362,880 orders by brute force over the scores of 512 subsets, each looked up."""
    model, samples = world
    score = scorer(model, samples, 0, "blur", 3)
    subsets = (np.arange(512)[:, None] >> np.arange(9)) & 1 == 1
    values = score(subsets)
    orders = np.array(list(permutations(range(9))))
    first = np.concatenate([np.zeros((len(orders), 1), dtype=int), np.cumsum(1 << orders, axis=1)], axis=1)
    fractions = np.linspace(0, 1, points)
    deleted = [values[first[:, int(np.round(f * 9))]] for f in fractions]
    # Insertion has put back what deletion at 1 − f has not removed.
    inserted = [values[511 - first[:, 9 - int(np.round((1 - f) * 9))]] for f in fractions]
    gaps = np.trapezoid(np.array(inserted), fractions, axis=0) - np.trapezoid(np.array(deleted), fractions, axis=0)
    found = optimum(model, samples, 0, "blur", 3, points)
    assert found.best.gap == pytest.approx(gaps.max(), abs=1e-9)
    assert found.worst.gap == pytest.approx(gaps.min(), abs=1e-9)
    assert found.best.gap == pytest.approx(-found.worst.gap, abs=1e-9)
    assert found.best.gap > 0
    for path in (found.best, found.worst):
        place = np.flatnonzero((orders == path.order).all(axis=1))[0]
        assert gaps[place] == pytest.approx(path.gap, abs=1e-9)
        # And it is the number that the curve metrics give to a map with that order.
        maps = as_map(path.order, 3)[None].expand(len(samples), -1, -1)
        assert gap_of(model, samples, maps, "blur", 3, points)[0] == pytest.approx(path.gap, abs=1e-5)


def test_no_map_gets_more_than_the_optimum(world):
    model, samples = world
    maps = torch.from_numpy(np.random.default_rng(0).random((20, len(samples), SIZE, SIZE), dtype=np.float32))
    best = [optimum(model, samples, i, "black", 3) for i in range(2)]
    for one in maps:
        gaps = gap_of(model, samples, one, "black", 3, 10)
        for i in range(2):
            assert -1 - 1e-6 <= share(gaps[i], best[i]) <= 1 + 1e-6
    top = torch.stack([as_map(found.best.order, 3) for found in best])
    gaps = gap_of(model, samples.take([0, 1]), top, "black", 3, 10)
    assert [share(gap, found) for gap, found in zip(gaps, best, strict=True)] == pytest.approx([1, 1], abs=1e-5)


def test_shapley_values_are_the_mean_marginal_over_all_orders():
    """By definition, for four players and a game of random values."""
    values = np.random.default_rng(1).normal(size=16)
    expected = np.zeros(4)
    for order in permutations(range(4)):
        clean = 0
        for player in order:  # players enter one by one; subsets hold those that are still filled
            before, clean = clean, clean | (1 << player)
            expected[player] += (values[15 - clean] - values[15 - before]) / 24
    np.testing.assert_allclose(shapley_values(values, 4), expected, atol=1e-12)


def test_shapley_values_sum_to_the_clean_score_less_the_fill_s(world):
    model, samples = world
    score = scorer(model, samples, 1, "blur", 3)
    clean, filled = score(np.stack([np.zeros(9, bool), np.ones(9, bool)]))
    assert clean == pytest.approx(float(samples.clean.scores[1]), abs=1e-5)
    found = optimum(model, samples, 1, "blur", 3)
    assert found.shapley.sum() == pytest.approx(clean - filled, abs=1e-6)
    assert found.passes == 512


def test_greedy_is_exact_for_an_additive_game_and_a_bound_otherwise(world):
    rng = np.random.default_rng(2)
    for additive in (True, False):
        worth = rng.normal(size=9)
        noise = 0 if additive else rng.normal(size=512)
        subsets = (np.arange(512)[:, None] >> np.arange(9)) & 1 == 1
        values = (~subsets * worth).sum(axis=1) + noise

        def look_up(masks, values=values):
            return values[(masks * (1 << np.arange(9))).sum(axis=1)]

        exact, bound = path_of(values, 9, 10), greedy(look_up, 9)
        assert bound.gap <= exact.gap + 1e-12
        if additive:
            assert bound.gap == pytest.approx(exact.gap)
            np.testing.assert_array_equal(bound.order, np.argsort(-worth))
    model, samples = world
    # The gap of the greedy order is the one that the curves give to it.
    path = greedy(scorer(model, samples, 0, "blur", 3), 9)
    maps = as_map(path.order, 3)[None].expand(len(samples), -1, -1)
    assert gap_of(model, samples, maps, "blur", 3, 10)[0] == pytest.approx(path.gap, abs=1e-5)


def test_too_many_cells_are_refused(world):
    model, samples = world
    with pytest.raises(UsageError, match="expected 1 to 4"):
        optimum(model, samples, 0, "blur", 5)
    with pytest.raises(UsageError, match="expected 1 to 14"):
        scorer(model, samples, 0, "blur", 15)
    with pytest.raises(UsageError, match="no fill image"):
        scorer(model, samples, 0, "linear", 3)
