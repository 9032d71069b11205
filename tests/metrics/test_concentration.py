"""entropy@1, histogram-entropy@1 and sparseness@1: their slow versions, their ends, and what must not move them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import shannon_entropy

from faithface.contract import Maps
from faithface.errors import UsageError
from faithface.metrics.entropy import Entropy
from faithface.metrics.histogram_entropy import HistogramEntropy, eight_bit
from faithface.metrics.sparseness import Sparseness
from faithface.reasons import ReasonCode
from tests.metrics.made import classifier_samples, codes, pair_samples, relevance, score_map, value_of
from tests.reference import maps as reference

METRICS = [Entropy(), HistogramEntropy(), Sparseness()]
maps_7x7 = arrays(np.float32, (7, 7), elements=st.floats(-4, 4, width=32))
fast = settings(max_examples=40, deadline=None)

# The Grad-CAM that Explain To Me stores for its FFHQ example, and whose entropy its repository prints.
PUBLISHED = np.array(
    [
        [4, 1, 0, 0, 0, 0, 8],
        [4, 4, 0, 0, 0, 0, 0],
        [0, 16, 52, 32, 0, 0, 0],
        [0, 65, 192, 255, 147, 5, 0],
        [0, 42, 121, 112, 69, 1, 0],
        [0, 20, 90, 89, 53, 0, 0],
        [2, 4, 0, 0, 0, 0, 0],
    ],
    dtype=np.uint8,
)


@given(maps_7x7)
@fast
def test_entropy_equals_its_slow_version(values: np.ndarray) -> None:
    assert value_of(Entropy(), values) == pytest.approx(reference.spatial_entropy(values), abs=1e-6)


@given(maps_7x7)
@fast
def test_sparseness_equals_the_gini_index_over_all_pairs_of_pixels(values: np.ndarray) -> None:
    assert value_of(Sparseness(), values) == pytest.approx(reference.gini(values), abs=1e-6)


@given(arrays(np.uint8, (7, 7)))
@fast
def test_histogram_entropy_equals_its_slow_version_on_eight_bit_maps(levels: np.ndarray) -> None:
    levels[0, :2] = 0, 255  # so that min-max leaves the levels as they are
    expected = reference.histogram_entropy(list(levels.ravel()))
    assert value_of(HistogramEntropy(), levels / np.float32(255)) == pytest.approx(expected, abs=1e-6)


@given(maps_7x7)
@fast
def test_eight_bits_are_the_truncated_ones_of_the_paper(values: np.ndarray) -> None:
    levels = eight_bit(torch.as_tensor(values)[None])[0].ravel().astype(int)
    slow = np.array(reference.grey_levels(values))
    # The guard lifts values within 1e-4 of the next level; nothing else may differ.
    positive = np.maximum(values.astype(np.float64).ravel(), 0)
    if positive.max() > positive.min():
        scaled = 255 * (positive - positive.min()) / (positive.max() - positive.min())
        sure = np.abs(scaled - np.round(scaled)) > 2e-4
        np.testing.assert_array_equal(levels[sure], slow[sure])
    assert np.abs(levels - slow).max() <= 1


def test_histogram_entropy_gives_the_published_value_on_the_papers_own_map() -> None:
    value = value_of(HistogramEntropy(), PUBLISHED.astype(np.float32))
    assert round(value, 3) == 0.542
    assert value == pytest.approx(shannon_entropy(PUBLISHED) / 5.614, abs=1e-4)


def test_the_published_map_survives_a_second_round_of_eight_bits_at_every_scale() -> None:
    for scale in (1, 1 / 255, 1e-3, 7.3):
        np.testing.assert_array_equal(eight_bit(torch.as_tensor(PUBLISHED * np.float32(scale))[None])[0], PUBLISHED)


@given(maps_7x7)
@fast
def test_histogram_entropy_equals_skimage_on_the_same_levels(values: np.ndarray) -> None:
    expected = shannon_entropy(eight_bit(torch.as_tensor(values)[None])[0]) / np.log2(49)
    assert value_of(HistogramEntropy(), values) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("shape", "levels"), [((3, 4), 12), ((16, 16), 256), ((32, 40), 256)])
def test_histogram_entropy_is_one_where_all_possible_levels_are_used_equally(shape, levels) -> None:
    ramp = np.arange(np.prod(shape)) % levels
    assert value_of(HistogramEntropy(), (ramp * (255 / (levels - 1))).reshape(shape)) == pytest.approx(1.0, abs=1e-9)


def test_histogram_entropy_reads_the_native_map_and_not_the_upsampled_one() -> None:
    native = torch.as_tensor(PUBLISHED.astype(np.float32))[None]
    large = torch.nn.functional.interpolate(native[None], size=(56, 56), mode="bilinear")[0]
    samples = classifier_samples(1, (56, 56))
    assert HistogramEntropy().score(None, samples, Maps(relevance=large, native=native)).values[""][0] == pytest.approx(
        0.542, abs=5e-4
    )
    assert HistogramEntropy().score(None, samples, Maps(relevance=large)).values[""][0] > 0.6


@given(maps_7x7, st.randoms(use_true_random=False))
@fast
def test_moving_pixels_about_changes_neither_entropy_nor_sparseness(values: np.ndarray, random) -> None:
    moved = values.ravel().tolist()
    random.shuffle(moved)
    for metric in METRICS:
        assert value_of(metric, np.reshape(moved, (7, 7))) == pytest.approx(value_of(metric, values), abs=1e-9)


@given(maps_7x7, st.sampled_from([1e-3, 1e-30, 1e4]))
@fast
def test_the_scale_of_a_map_changes_nothing(values: np.ndarray, scale: float) -> None:
    values = np.round(values, 2).astype(np.float32)
    scaled = values * np.float32(scale)
    assume(bool((scaled != 0).sum() == (values != 0).sum()))
    for metric in (Entropy(), Sparseness()):
        assert value_of(metric, scaled) == pytest.approx(value_of(metric, values), abs=1e-6)


@given(maps_7x7)
@fast
def test_values_stay_in_the_stated_range(values: np.ndarray) -> None:
    for metric in METRICS:
        assert metric.range_on()[0] <= value_of(metric, values) <= metric.range_on()[1]


def test_one_hot_maps_are_best_and_even_maps_worst() -> None:
    hot = np.zeros((7, 7))
    hot[2, 3] = 5
    assert value_of(Entropy(), hot) == Entropy().best_on()
    assert value_of(Sparseness(), hot) == pytest.approx(1 - 1 / 49)
    assert value_of(HistogramEntropy(), hot) == pytest.approx(0.0256, abs=5e-5)
    assert value_of(Entropy(), np.ones((7, 7))) == 1.0
    assert value_of(Sparseness(), np.ones((7, 7))) == 0.0


@pytest.mark.parametrize("level", [0.0, 0.3, -2.0])
def test_constant_maps_are_scored_and_flagged(level: float) -> None:
    expected = {"entropy@1": 1.0, "histogram-entropy@1": 0.0, "sparseness@1": 0.0}
    for metric in METRICS:
        scores = score_map(metric, np.full((5, 5), level))
        assert scores.values[""][0] == expected[metric.id]
        assert codes(scores.flags) == {0: ReasonCode.CONSTANT_MAP}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_map_that_is_not_finite_has_no_value_and_spoils_no_other(bad: float) -> None:
    values = np.random.default_rng(0).random((3, 6, 6))
    whole = [value_of(metric, values[2]) for metric in METRICS]
    values[1, 0, 0] = bad
    for metric, expected in zip(METRICS, whole, strict=True):
        scores = metric.score(None, classifier_samples(3, (6, 6)), relevance(values))
        assert np.isnan(scores.values[""]).tolist() == [False, True, False]
        assert codes(scores.reasons) == {1: ReasonCode.NON_FINITE_MAP}
        assert scores.values[""][2] == pytest.approx(expected)


def test_maps_of_one_pixel_end_in_a_reason_or_a_number() -> None:
    for metric in (Entropy(), HistogramEntropy()):
        scores = score_map(metric, np.ones((1, 1)))
        assert np.isnan(scores.values[""][0])
        assert "one cell" in scores.reasons[0].detail
    assert value_of(Sparseness(), np.ones((1, 1))) == 0.0


def test_pairs_are_judged_by_the_probes_map_similarity_if_genuine_dissimilarity_if_not() -> None:
    maps = np.random.default_rng(1).random((2, 2, 2, 6, 6)).astype(np.float32)  # kind, pair, face
    samples = pair_samples([True, False], (6, 6))
    given_maps = Maps(similarity=torch.as_tensor(maps[0]), dissimilarity=torch.as_tensor(maps[1]))
    for metric in (Entropy(), Sparseness()):
        expected = [value_of(metric, maps[0, 0, 0]), value_of(metric, maps[1, 1, 0])]
        np.testing.assert_allclose(metric.score(None, samples, given_maps).values[""], expected)
    expected = [value_of(HistogramEntropy(), maps[0, i, 0]) for i in range(2)]
    np.testing.assert_allclose(HistogramEntropy().score(None, samples, given_maps).values[""], expected)


def test_a_grid_asks_an_upsampled_map_and_its_source_the_same_question() -> None:
    small = np.random.default_rng(2).random((7, 7)).astype(np.float32)
    large = np.kron(small, np.ones((4, 4), np.float32))
    for one, other in ((Entropy(), Entropy(grid=7)), (Sparseness(), Sparseness(grid=7))):
        assert value_of(other, large) == pytest.approx(value_of(one, small), abs=1e-6)


def test_grid_cells_are_those_that_perturbation_removes() -> None:
    values = np.random.default_rng(3).random((5, 8))
    means = [
        values[np.ix_([r for r in range(5) if r * 3 // 5 == i], [c for c in range(8) if c * 3 // 8 == j])].mean()
        for i in range(3)
        for j in range(3)
    ]
    expected = reference.spatial_entropy(np.reshape(means, (3, 3)))
    assert value_of(Entropy(grid=3), values) == pytest.approx(expected, abs=1e-6)


def test_a_grid_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(ValueError, match="grid is -1"):
        Entropy(grid=-1)
    with pytest.raises(UsageError, match="grid is 9"):
        value_of(Sparseness(grid=9), np.ones((5, 5)))
