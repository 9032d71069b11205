"""SSIM and Spearman of maps: against scikit-image, scipy, the definitions, and their own promises."""

from __future__ import annotations

import math

import hypothesis.extra.numpy as npst
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity

from faithface.errors import UsageError
from faithface.metrics.similarity import average_ranks, eight_bit, normalised, rank_correlation, spearman, ssim
from tests.reference.map_similarity import slow_spearman, slow_ssim

# Few distinct values, so that ties are the rule; quarters are exact in float32.
VALUES = st.integers(-8, 8).map(lambda v: v / 4)
SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9))


@st.composite
def two_maps(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(SHAPES)
    return tuple(draw(npst.arrays(np.float32, shape, elements=VALUES)) for _ in range(2))  # type: ignore[return-value]


def batch(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array)[None]


@pytest.mark.parametrize("size", [(7, 7), (8, 11), (33, 20), (64, 64)])
def test_ssim_equals_scikit_image_with_its_default_arguments(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(size[0])
    a = rng.random((3, *size)).astype(np.float32)
    b = (0.6 * a + 0.4 * rng.random(a.shape)).astype(np.float32)
    got = ssim(torch.from_numpy(a), torch.from_numpy(b))
    x, y = normalised(torch.from_numpy(a)).numpy(), normalised(torch.from_numpy(b)).numpy()
    expected = [structural_similarity(x[i], y[i], data_range=1.0) for i in range(3)]
    np.testing.assert_allclose(got, expected, atol=1e-12)


def test_ssim_of_8_bit_maps_equals_scikit_image_on_uint8() -> None:
    rng = np.random.default_rng(3)
    a, b = (rng.integers(0, 256, (2, 7, 7)).astype(np.uint8) for _ in range(2))
    got = ssim(torch.from_numpy(a), torch.from_numpy(b), data_range=255)
    expected = [structural_similarity(a[i], b[i]) for i in range(2)]
    np.testing.assert_allclose(got, expected, atol=1e-12)


def test_ssim_on_7_by_7_is_the_closed_formula_of_one_window() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.integers(0, 256, (7, 7)).astype(np.float64) for _ in range(2))
    c1, c2 = 2.55**2, 7.65**2
    cov = np.cov(a.ravel(), b.ravel())
    expected = (2 * a.mean() * b.mean() + c1) * (2 * cov[0, 1] + c2)
    expected /= (a.mean() ** 2 + b.mean() ** 2 + c1) * (cov[0, 0] + cov[1, 1] + c2)
    assert ssim(batch(a), batch(b), data_range=255)[0] == pytest.approx(expected, abs=1e-13)


@settings(max_examples=60, deadline=None)
@given(two_maps())
def test_ssim_and_spearman_equal_their_definitions_at_every_size_with_ties_and_constants(
    maps: tuple[np.ndarray, np.ndarray],
) -> None:
    a, b = maps
    assert ssim(batch(a), batch(b))[0] == pytest.approx(slow_ssim(a, b), abs=1e-9)
    assert spearman(batch(a), batch(b))[0] == pytest.approx(slow_spearman(a, b), abs=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_spearman_equals_scipy_with_ties_and_signs(dtype: type) -> None:
    rng = np.random.default_rng(1)
    a, b = rng.integers(-2, 3, (2, 4, 12, 9)).astype(dtype)
    a *= -0.5  # zeros of both signs are one value
    expected = [spearmanr(a[i].ravel(), b[i].ravel()).statistic for i in range(4)]
    np.testing.assert_allclose(spearman(torch.from_numpy(a), torch.from_numpy(b)), expected, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(two_maps(), st.floats(1e-3, 1e3), st.floats(-10, 10))
def test_scaling_and_shifting_a_map_moves_neither(
    maps: tuple[np.ndarray, np.ndarray], factor: float, offset: float
) -> None:
    a, b = (batch(m).double() for m in maps)
    for compare in (ssim, spearman):
        assert compare(a * factor + offset, b)[0] == pytest.approx(compare(a, b)[0], abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(two_maps())
def test_both_are_symmetric_bounded_and_1_for_a_map_and_itself(maps: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = (batch(m) for m in maps)
    for compare in (ssim, spearman):
        assert compare(a, b)[0] == pytest.approx(compare(b, a)[0], abs=1e-12)
        assert -1 <= compare(a, b)[0] <= 1
        assert compare(a, a)[0] == pytest.approx(1.0, abs=1e-12)


def test_spearman_of_a_map_and_its_inversion_is_minus_1() -> None:
    a = torch.randperm(81).reshape(1, 9, 9).float()
    assert spearman(a, -a)[0] == pytest.approx(-1.0, abs=1e-12)


def test_two_constant_maps_are_the_same_map_and_a_constant_map_orders_nothing() -> None:
    flat, other, ramp = torch.zeros(1, 8, 8), torch.full((1, 8, 8), 3.0), torch.arange(64.0).reshape(1, 8, 8)
    assert (ssim(flat, other)[0], spearman(flat, other)[0]) == (1.0, 1.0)
    assert spearman(flat, ramp)[0] == 0.0
    assert ssim(flat, ramp)[0] < 0.05


def test_a_map_that_is_not_finite_gives_nan_for_itself_only() -> None:
    a, b = torch.rand(3, 8, 8), torch.rand(3, 8, 8)
    a[1, 2, 3], b[2, 0, 0] = -math.nan, -math.inf
    for compare in (ssim, spearman):
        got = compare(a, b)
        assert np.isnan(got).tolist() == [False, True, True]
        assert got[0] == pytest.approx(compare(a[:1], b[:1])[0])


def test_a_batch_gives_what_its_rows_give_one_by_one() -> None:
    a, b = torch.rand(5, 10, 10), torch.rand(5, 10, 10)
    for compare in (ssim, spearman):
        rows = [compare(a[i : i + 1], b[i : i + 1])[0] for i in range(5)]
        np.testing.assert_allclose(compare(a, b), rows, atol=1e-12)


def test_ranks_can_be_computed_once_and_compared_many_times() -> None:
    a, b = torch.rand(2, 6, 6), torch.rand(2, 6, 6)
    np.testing.assert_array_equal(rank_correlation(average_ranks(a), average_ranks(b)), spearman(a, b))


def test_eight_bit_maps_are_cut_off_not_rounded() -> None:
    a = torch.tensor([[[0.0, 0.5, 0.999, 1.0]]]) * 7 + 2
    assert eight_bit(a).tolist() == [[[0.0, 127.0, 254.0, 255.0]]]


@pytest.mark.parametrize("shapes", [((1, 4, 4), (1, 4, 5)), ((4, 4), (4, 4)), ((0, 4, 4), (0, 4, 4))])
def test_maps_that_cannot_be_compared_are_refused_with_their_shapes(shapes: tuple) -> None:
    for compare in (ssim, spearman):
        with pytest.raises(UsageError, match="cannot be compared; expected N×H×W"):
            compare(torch.zeros(shapes[0]), torch.zeros(shapes[1]))
