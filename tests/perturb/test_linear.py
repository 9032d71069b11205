"""impute_linear against the paper's equation, and the properties that follow from it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faithface.errors import UsageError
from faithface.perturb.linear import impute_linear
from tests.reference import linear as reference


def case(seed, share, height=7, width=6):
    rng = np.random.default_rng(seed)
    return rng.random((3, height, width)).astype(np.float32), rng.random((height, width)) < share


@given(seed=st.integers(0, 10_000), share=st.sampled_from([0.1, 0.5, 0.9]))
@settings(max_examples=25, deadline=None)
def test_without_noise_it_solves_the_equation_of_the_paper(seed, share):
    image, removed = case(seed, share)
    removed[0, 0] = False
    filled = impute_linear(image, removed, np.random.default_rng(0), noise=0.0)
    np.testing.assert_allclose(filled, reference.impute(image, removed), atol=1e-6)


def test_kept_pixels_are_unchanged_and_the_image_is_not_written_to():
    image, removed = case(1, 0.5)
    before = image.copy()
    filled = impute_linear(image, removed, np.random.default_rng(0))
    np.testing.assert_array_equal(filled[:, ~removed], image[:, ~removed])
    np.testing.assert_array_equal(image, before)
    assert np.abs(filled[:, removed] - image[:, removed]).max() > 0.05


def test_imputed_pixels_stay_between_the_extremes_of_the_kept_ones_without_noise():
    image, removed = case(2, 0.8, 12, 12)
    filled = impute_linear(image, removed, np.random.default_rng(0), noise=0.0)
    kept = image[:, ~removed]
    assert (filled >= kept.min(axis=1)[:, None, None] - 1e-6).all()
    assert (filled <= kept.max(axis=1)[:, None, None] + 1e-6).all()


def test_the_noise_has_the_stated_deviation_and_is_shared_by_nested_masks():
    image = np.full((3, 60, 60), 0.5, np.float32)
    small = np.zeros((60, 60), bool)
    small[10:50, 10:50] = True
    large = small.copy()
    large[5:55, 5:55] = True
    first = impute_linear(image, small, np.random.default_rng(7), noise=0.02) - 0.5
    second = impute_linear(image, large, np.random.default_rng(7), noise=0.02) - 0.5
    # 4,800 numbers: a standard error of 1 %; four of them.
    assert first[:, small].std() == pytest.approx(0.02, rel=0.04)
    np.testing.assert_allclose(first[:, small], second[:, small], atol=1e-6)


def test_the_result_is_clipped_to_the_range_of_pixels():
    image = np.ones((3, 20, 20), np.float32)
    removed = np.zeros((20, 20), bool)
    removed[5:15, 5:15] = True
    filled = impute_linear(image, removed, np.random.default_rng(0), noise=0.1)
    assert filled.max() == 1.0
    assert filled.min() > 0.0
    assert filled[:, removed].min() < 1.0


def test_with_nothing_left_every_channel_takes_its_mean():
    image, _ = case(3, 0.5)
    filled = impute_linear(image, np.ones((7, 6), bool), np.random.default_rng(0), noise=0.0)
    np.testing.assert_allclose(filled, np.broadcast_to(image.mean((1, 2))[:, None, None], image.shape), atol=1e-6)


def test_with_nothing_removed_the_image_comes_back():
    image, _ = case(4, 0.5)
    np.testing.assert_array_equal(impute_linear(image, np.zeros((7, 6), bool), np.random.default_rng(0)), image)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 5), (4, 1)])
def test_images_one_pixel_wide_are_imputed(height, width):
    image, _ = case(5, 0.5, height, width)
    removed = np.zeros((height, width), bool)
    removed[0, 0] = True
    filled = impute_linear(image, removed, np.random.default_rng(0), noise=0.0)
    assert np.isfinite(filled).all()
    if height * width > 1:
        nearest = image[:, 0, 1] if width > 1 else image[:, 1, 0]
        np.testing.assert_allclose(filled[:, 0, 0], nearest, atol=1e-6)


def test_channels_last_is_an_error_that_says_so():
    with pytest.raises(UsageError, match="put the channels first"):
        impute_linear(np.zeros((5, 5, 3)), np.zeros((5, 5), bool), np.random.default_rng(0))
