"""The order of pixels and cells against the slow reference, and what ties and grids must keep."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from faithface.contract import Clean, Face, Sample, Samples
from faithface.errors import UsageError
from faithface.perturb.ranking import kept_counts, rank, stable_descending, tie_breaks, unit_counts
from tests.reference import curves as reference


def samples_of(n, size, seed=0):
    items = tuple(Sample(f"s{i}", Face(f"f{i}", lambda: None)) for i in range(n))
    clean = Clean(torch.zeros(n, 2), torch.zeros(n), torch.zeros(n, dtype=torch.long))
    return Samples(items, torch.zeros(n, 3, *size), clean, seed)


@given(
    seed=st.integers(0, 10_000),
    size=st.sampled_from([(1, 1), (3, 3), (5, 4), (7, 9)]),
    levels=st.sampled_from([1, 2, 5, 1000]),
)
@settings(max_examples=40, deadline=None)
def test_pixels_stand_in_the_order_of_the_slow_reference_with_and_without_ties(seed, size, levels):
    rng = np.random.default_rng(seed)
    maps = torch.from_numpy((rng.integers(0, levels, (2, *size)) - levels // 2).astype(np.float32))
    samples = samples_of(2, size, seed)
    order = rank(maps, samples).order.numpy()
    ties = tie_breaks(samples, size[0] * size[1])
    for i in range(2):
        assert order[i].tolist() == reference.ranked(maps[i].numpy().ravel(), ties[i])


@given(seed=st.integers(0, 10_000), grid=st.sampled_from([1, 2, 3, 5]), levels=st.sampled_from([1, 3, 1000]))
@settings(max_examples=30, deadline=None)
def test_cells_stand_in_the_order_of_the_slow_reference_also_where_the_grid_does_not_divide(seed, grid, levels):
    size = (7, 6)
    maps = torch.from_numpy(np.random.default_rng(seed).integers(0, levels, (2, *size)).astype(np.float32))
    samples = samples_of(2, size, seed)
    ranking, ties = rank(maps, samples, grid), tie_breaks(samples, grid * grid)
    units = reference.cells(*size, grid)
    for i in range(2):
        means = np.array([np.mean([float(maps[i][p]) for p in unit]) for unit in units])
        first = reference.ranked(reference.steps(means, maps[i].numpy()), ties[i])
        for k in range(grid * grid + 1):
            expected = {r * size[1] + c for unit in first[:k] for r, c in units[unit]}
            assert set(np.flatnonzero(ranking.removed(i, k).numpy())) == expected


@given(seed=st.integers(0, 10_000), noise=st.sampled_from([1e-9, 3e-8]))
@settings(max_examples=30, deadline=None)
def test_rounding_errors_on_a_plateau_move_no_cell(seed, noise):
    """The plateaus lie half-way between steps' edges; in a real map a rare one may lie on an edge."""
    rng = np.random.default_rng(seed)
    levels = torch.from_numpy(rng.integers(-3, 4, (2, 4, 4)) / 4).repeat_interleave(2, 1).repeat_interleave(2, 2)
    levels[:, 0, 0] = 1.0
    noisy = levels + torch.from_numpy(rng.uniform(-noise, noise, levels.shape))
    samples = samples_of(2, (8, 8))
    clean = rank(levels.float(), samples, 4)
    assert torch.equal(rank(noisy.float(), samples, 4).order, clean.order)
    assert torch.equal(rank(noisy.float() * 1e-3, samples, 4).order, clean.order)


def test_cells_that_differ_by_more_than_a_step_are_no_tie():
    maps = torch.ones(1, 4, 4)
    maps[0, 2:, 2:] = 1 - 2**-19
    samples = samples_of(1, (4, 4))
    assert set(rank(maps, samples, 2).order[0, -4:].tolist()) == {10, 11, 14, 15}
    assert set(rank(-maps, samples, 2).order[0, :4].tolist()) == {10, 11, 14, 15}


def test_any_float_sorts_as_a_comparison_sort_does():
    values = torch.tensor([[0.0, -0.0, 1e-38, -1e-45, float("inf"), -float("inf"), 3.5, -3.5, 0.0]])
    expected = torch.sort(values, dim=1, descending=True, stable=True).indices
    assert torch.equal(stable_descending(values), expected)


def test_ties_break_alike_for_two_explainers_and_apart_for_two_samples():
    samples = samples_of(2, (8, 8))
    first, second = rank(torch.zeros(2, 8, 8), samples), rank(torch.full((2, 8, 8), 7.0), samples)
    assert torch.equal(first.order, second.order)
    assert not torch.equal(first.order[0], first.order[1])


def test_ties_do_not_depend_on_the_batch_that_a_sample_is_in():
    samples = samples_of(3, (8, 8))
    whole = rank(torch.zeros(3, 8, 8), samples).order
    alone = rank(torch.zeros(1, 8, 8), samples.take([2])).order
    assert torch.equal(whole[2], alone[0])


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_a_strictly_increasing_transform_moves_no_pixel(seed):
    maps = torch.from_numpy(np.random.default_rng(seed).integers(-4, 5, (1, 6, 6)).astype(np.float32))
    samples = samples_of(1, (6, 6))
    assert torch.equal(rank(maps, samples).order, rank(torch.exp(maps) * 3, samples).order)


@given(units=st.integers(1, 400), points=st.integers(2, 60))
@settings(max_examples=60, deadline=None)
def test_counts_are_the_rounded_fractions_and_insertion_complements_deletion(units, points):
    removed = unit_counts(units, points)
    assert removed.tolist() == [reference.half_even(i * units, points - 1) for i in range(points)]
    kept = kept_counts(units, points)
    assert (kept + removed[::-1] == units).all()
    exact = np.arange(points) * units / (points - 1)
    assert (np.abs(kept - exact) <= 0.5 + 1e-9).all()


@pytest.mark.parametrize("side", [112, 150, 224])
def test_deletion_and_insertion_count_alike_at_the_usual_sizes(side):
    assert (unit_counts(side * side, 51) == kept_counts(side * side, 51)).all()
    assert unit_counts(side * side, 51).tolist() == [round(i / 50 * side * side) for i in range(51)]


def test_a_grid_finer_than_the_image_is_refused_with_the_allowed_range():
    with pytest.raises(UsageError, match="1 to 6"):
        rank(torch.zeros(1, 6, 9), samples_of(1, (6, 9)), grid=7)
