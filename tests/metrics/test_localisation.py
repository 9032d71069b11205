"""The four localisation metrics: their slow versions, oracles and their opposites, chance, samples without a truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from faithface.contract import Maps
from faithface.errors import NotApplicable
from faithface.metrics.localisation_auc import LocalisationAuc
from faithface.metrics.pointing_game import PointingGame
from faithface.metrics.relevance_mass import RelevanceMass
from faithface.metrics.relevance_rank import RelevanceRank
from faithface.reasons import ReasonCode
from tests.metrics.made import classifier_samples, codes, pair_samples, relevance, score_map, value_of
from tests.reference import maps as reference
from tests.support.applies import check

METRICS = [PointingGame(), RelevanceMass(), RelevanceRank(), LocalisationAuc()]
RANKING = [PointingGame(), RelevanceRank(), LocalisationAuc()]
SLOW = {
    "pointing-game@1": reference.hit,
    "relevance-mass@1": reference.mass,
    "relevance-rank@1": reference.rank,
    "localisation-auc@1": reference.auc,
}
fast = settings(max_examples=30, deadline=None)


def case(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a map without ties, signed, and a truth with both kinds of pixels."""
    rng = np.random.default_rng(seed)
    truth = rng.random((6, 7)) < rng.uniform(0.1, 0.8)
    truth[0, :2] = True, False
    return rng.normal(size=(6, 7)).astype(np.float32), truth


@given(st.integers(0, 10_000))
@fast
def test_each_equals_its_slow_version(seed: int) -> None:
    values, truth = case(seed)
    for metric in METRICS:
        got = score_map(metric, values, truth).values
        assert got[""][0] == pytest.approx(SLOW[metric.id](values, truth), abs=1e-6)
        if "chance" in got:
            share = sum(t for _, t in reference.inside(values, truth)) / values.size
            assert got["chance"][0] == pytest.approx(share, abs=1e-9)


@given(st.integers(0, 10_000))
@fast
def test_auc_with_ties_equals_scikit_learns(seed: int) -> None:
    values, truth = case(seed)
    values = np.round(values)
    expected = roc_auc_score(truth.ravel(), values.ravel())
    assert value_of(LocalisationAuc(), values, truth) == pytest.approx(expected, abs=1e-9)


@given(st.integers(0, 10_000))
@fast
def test_an_increasing_transform_of_the_map_moves_no_ranking_metric(seed: int) -> None:
    values, truth = case(seed)
    for transformed in (np.exp(values / 2), values * 1e-3, values**3 + values - 5):
        for metric in RANKING:
            assert value_of(metric, transformed, truth) == value_of(metric, values, truth)


@given(st.integers(0, 10_000))
@fast
def test_scaling_a_map_moves_no_mass(seed: int) -> None:
    values, truth = case(seed)
    expected = value_of(RelevanceMass(), values, truth)
    for scale in (1e-3, 1e-30, 1e6):
        assert value_of(RelevanceMass(), values * np.float32(scale), truth) == pytest.approx(expected, abs=1e-5)


@given(st.integers(0, 10_000))
@fast
def test_the_truth_itself_is_best_and_its_opposite_worst(seed: int) -> None:
    _, truth = case(seed)
    for metric in METRICS:
        assert value_of(metric, truth, truth) == metric.best_on()
        assert value_of(metric, 1.0 - truth, truth) == pytest.approx(max(0.0, _overlap(metric, truth)))


def _overlap(metric, truth: np.ndarray) -> float:
    """The opposite of the truth ranks others first, but a truth of over half the image is met all the same."""
    k, n = int(truth.sum()), truth.size
    return max(0, k - (n - k)) / k if metric.id == "relevance-rank@1" else 0.0


@given(st.integers(0, 10_000))
@fast
def test_values_stay_between_zero_and_one(seed: int) -> None:
    values, truth = case(seed)
    for metric in METRICS:
        assert 0 <= value_of(metric, np.round(values), truth) <= 1


def assert_mean(values: np.ndarray, expected: float) -> None:
    """The mean of independent values lies within four of its own standard errors of what is expected."""
    error = values.std(ddof=1) / np.sqrt(len(values))
    assert 0 < error < 0.03
    assert abs(values.mean() - expected) < 4 * error


def test_random_maps_score_what_chance_says() -> None:
    truth = np.zeros((8, 8), bool)
    truth[:3, :5] = True
    maps = np.random.default_rng(0).random((2000, 8, 8))
    samples = classifier_samples(2000, (8, 8), [{"relevance": truth}] * 2000)
    for metric in METRICS:
        scores = metric.score(None, samples, relevance(maps))
        chance = scores.values["chance"][0] if "chance" in scores.values else 0.5
        assert_mean(scores.values[""], chance)
        if "chance" in scores.values:
            assert chance == pytest.approx(15 / 64)


def test_ties_do_not_follow_the_raster() -> None:
    truth = np.zeros((8, 8), bool)
    truth[:4] = True
    samples = classifier_samples(400, (8, 8), [{"relevance": truth}] * 400)
    for metric in (PointingGame(), RelevanceRank()):
        scores = metric.score(None, samples, relevance(np.zeros((400, 8, 8))))
        assert_mean(scores.values[""], 0.5)
        assert set(codes(scores.flags).values()) == {ReasonCode.CONSTANT_MAP}


def test_ties_fall_alike_for_every_explainer_and_batch() -> None:
    truth = np.zeros((8, 8), bool)
    truth[:, :4] = True
    samples = classifier_samples(6, (8, 8), [{"relevance": truth}] * 6)
    flat = relevance(np.zeros((6, 8, 8)))
    whole = RelevanceRank().score(None, samples, flat).values[""]
    again = RelevanceRank().score(None, samples, relevance(np.ones((6, 8, 8)))).values[""]
    alone = [RelevanceRank().score(None, samples.take([i]), flat.take([i])).values[""][0] for i in range(6)]
    assert whole.tolist() == again.tolist() == alone


def test_a_map_that_says_nothing_has_the_mass_of_a_uniform_one_and_is_flagged() -> None:
    truth = np.zeros((4, 5), bool)
    truth[1, 1:3] = True
    for empty in (np.zeros((4, 5)), np.full((4, 5), 0.2), -np.random.default_rng(0).random((4, 5))):
        scores = score_map(RelevanceMass(), empty, truth)
        assert scores.values[""][0] == pytest.approx(0.1)
        assert codes(scores.flags) == {0: ReasonCode.CONSTANT_MAP}


def test_samples_without_the_truth_have_a_reason_and_the_rest_a_value() -> None:
    truth = np.zeros((6, 6), bool)
    truth[2:4, 2:4] = True
    nothing, everything = np.zeros((6, 6), bool), np.ones((6, 6), bool)
    known = [{"relevance": truth}, {}, {"relevance": nothing}, {"relevance": everything}, {"tag": truth}]
    samples = classifier_samples(5, (6, 6), known)
    for metric in METRICS:
        scores = metric.score(None, samples, relevance(np.random.default_rng(0).random((5, 6, 6))))
        assert np.isfinite(scores.values[""]).tolist() == [True, False, False, False, False]
        assert scores.reasons[1].detail == "no relevance ground truth for this sample (it has: none)"
        assert scores.reasons[2].detail == "the relevance ground truth covers none of the image"
        assert scores.reasons[3].detail == "the relevance ground truth covers all of the image"
        assert scores.reasons[4].detail == "no relevance ground truth for this sample (it has: tag)"


def test_the_truth_can_be_a_human_mask_or_a_tag_and_the_first_kind_found_wins() -> None:
    left, right = np.zeros((4, 4), np.float32), np.zeros((4, 4), bool)
    left[:, 0], right[:, 3] = 0.9, True
    samples = classifier_samples(1, (4, 4), [{"human": left, "tag": right}])
    maps = relevance(left[None])
    assert RelevanceMass(truth=("human",)).score(None, samples, maps).values[""][0] == 1
    assert RelevanceMass(truth=("tag",)).score(None, samples, maps).values[""][0] == 0
    assert RelevanceMass(truth=("relevance", "human", "tag")).score(None, samples, maps).values[""][0] == 1


def test_an_unknown_kind_of_truth_is_an_error_with_the_nearest_name() -> None:
    with pytest.raises(ValueError, match='did you mean "human"'):
        RelevanceMass(truth=("humans",))
    with pytest.raises(ValueError, match="truth is empty"):
        PointingGame(truth=())


def test_pairs_hold_each_probes_map_against_the_truth_of_its_kind() -> None:
    rng = np.random.default_rng(0)
    part = np.zeros((2, 6, 6), bool)
    part[0, :2], part[1, 4:] = True, True
    both = {"dissimilarity": part, "similarity": ~part}
    samples = pair_samples([True, False, False, True], (6, 6), [both, both, {"similarity": part}, {}])
    maps = rng.random((2, 4, 2, 6, 6)).astype(np.float32)
    given_maps = Maps(similarity=torch.as_tensor(maps[0]), dissimilarity=torch.as_tensor(maps[1]))
    for metric in METRICS:
        expected = [
            value_of(metric, maps[0, 0, 0], ~part[0]),  # genuine: similarity
            value_of(metric, maps[1, 1, 0], part[0]),  # impostor: dissimilarity
            value_of(metric, maps[0, 2, 0], part[0]),  # impostor with only a similarity truth: that one
        ]
        if metric.id in ("pointing-game@1", "relevance-rank@1", "localisation-auc@1"):
            expected = [round(v, 9) for v in expected]
        scores = metric.score(None, samples, given_maps)
        np.testing.assert_allclose(scores.values[""][:3], expected, atol=1e-6)
        assert np.isnan(scores.values[""][3])
        assert scores.reasons[3].detail == "no similarity or dissimilarity ground truth for this sample (it has: none)"


def test_a_truth_of_another_size_counts_a_pixel_that_it_covers_by_half() -> None:
    truth = np.zeros((8, 8), bool)
    truth[:4, :3] = True  # on 4×4 pixels: columns 0 (whole) and 1 (half)
    values = np.zeros((4, 4), np.float32)
    values[0, 1] = 1
    samples = classifier_samples(1, (4, 4), [{"relevance": truth}])
    assert PointingGame().score(None, samples, relevance(values[None])).values[""][0] == 1
    assert PointingGame().score(None, samples, relevance(values[None])).values["chance"][0] == 4 / 16


def test_a_map_that_is_not_finite_has_no_value() -> None:
    values, truth = case(0)
    values[0, 0] = np.nan
    for metric in METRICS:
        scores = score_map(metric, values, truth)
        assert np.isnan(scores.values[""][0])
        assert codes(scores.reasons) == {0: ReasonCode.NON_FINITE_MAP}


def test_a_map_of_one_pixel_has_no_outside_and_no_value() -> None:
    for metric in METRICS:
        scores = score_map(metric, np.ones((1, 1)), np.ones((1, 1), bool))
        assert scores.reasons[0].detail == "the relevance ground truth covers all of the image"


def test_a_dataset_without_the_truth_is_refused_before_the_run(classifier) -> None:
    from faithface.contract import Dataset

    class Plain(Dataset):
        name = "plain"
        task = "pad"

        def items(self):
            return []

        def truths(self):
            return frozenset({"tag"})

    model, _ = classifier
    with pytest.raises(NotApplicable, match="relevance or similarity or dissimilarity ground truth"):
        check(RelevanceMass(), model.card, Plain())
    check(RelevanceMass(truth=("tag",)), model.card, Plain())
