"""noise-stability@1: the slow version, the known answers, and what must not move it."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.util import random_noise

from faithface.contract import FaceModel, Maps, Samples
from faithface.errors import NotApplicable
from faithface.metrics.noise_stability import LEVELS, NoiseStability, noisy_images
from faithface.model import open_model
from faithface.reasons import ReasonCode
from tests.metrics.made import codes
from tests.metrics.toy_explainers import Brightness, Changed, Constant, Counting, Gradient, Noise, Precomputed
from tests.reference.stability import slow_noise_stability
from tests.support.networks import pair_batch, sample_batch, tiny

METRIC = NoiseStability()


@pytest.fixture(scope="module")
def pad(tmp_path_factory: pytest.TempPathFactory) -> tuple[FaceModel, Samples]:
    model = open_model(tiny("cnn", "pad", tmp_path_factory.mktemp("m"), size=12))
    return model, sample_batch(model, 3)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> tuple[FaceModel, Samples]:
    model = open_model(tiny("arcface", "verification", tmp_path_factory.mktemp("m"), size=12))
    return model, pair_batch(model, 2)


@pytest.mark.parametrize("task", ["pad", "faces"])
def test_it_equals_the_slow_version_sample_by_sample(task: str, request: pytest.FixtureRequest) -> None:
    model, samples = request.getfixturevalue(task)
    explainer = Gradient()
    got = METRIC.score(model, samples, explainer.explain(model, samples), explainer)
    for i in range(len(samples)):
        expected = slow_noise_stability(model, samples.take([i]), explainer)
        for name, curve in expected.items():
            np.testing.assert_allclose(got.curves[name][i], curve, atol=1e-4)
        assert got.values[""][i] == got.curves["ssim"][i, 2]
        assert got.values["all-levels"][i] == pytest.approx(np.mean(expected["ssim"][1:]), abs=1e-4)


def test_the_noise_is_scikit_images_for_the_same_generator(pad: tuple[FaceModel, Samples]) -> None:
    _, samples = pad
    for level in LEVELS[1:-1]:  # at 0 and 1 scikit-image draws no field for "whether"
        rng = samples.rng(1, "salt-and-pepper")
        expected = random_noise(samples.images[1].numpy().astype(np.float64), "s&p", rng=rng, amount=level)
        np.testing.assert_allclose(noisy_images(samples, level)[1], expected, atol=1e-7)


def test_the_noise_hits_its_share_is_nested_and_leaves_level_0_alone(pad: tuple[FaceModel, Samples]) -> None:
    _, samples = pad
    assert torch.equal(noisy_images(samples, 0.0), samples.images)
    hit = [noisy_images(samples, level) != samples.images for level in LEVELS]
    for low, high in itertools.pairwise(hit):
        assert bool((high | ~low).all())
    share = hit[5].float().mean()
    assert float(share) == pytest.approx(0.5, abs=4 * 0.5 / hit[5].numel() ** 0.5)  # four standard errors
    assert set(noisy_images(samples, 1.0).unique().tolist()) == {0.0, 1.0}


def test_a_map_that_ignores_the_image_scores_1_and_one_that_follows_every_pixel_less(
    pad: tuple[FaceModel, Samples],
) -> None:
    model, samples = pad
    scores = {}
    for explainer in (Noise(), Constant(), Brightness()):
        scores[explainer.name] = METRIC.score(model, samples, explainer.explain(model, samples), explainer)
    np.testing.assert_allclose(scores["toy-noise"].values[""], 1.0, atol=1e-12)
    np.testing.assert_allclose(scores["toy-constant"].values[""], 1.0, atol=1e-12)
    assert set(codes(scores["toy-constant"].flags).values()) == {ReasonCode.CONSTANT_MAP}
    assert (scores["toy-brightness"].values[""] < 0.9).all()
    assert (np.diff(scores["toy-brightness"].curves["ssim"], axis=1) < 0.05).all()


@pytest.mark.parametrize("task", ["pad", "faces"])
def test_maps_times_a_thousandth_score_the_same(task: str, request: pytest.FixtureRequest) -> None:
    model, samples = request.getfixturevalue(task)
    small = Changed(Gradient(), lambda m: m * 0.001)
    a = METRIC.score(model, samples, Gradient().explain(model, samples), Gradient())
    b = METRIC.score(model, samples, small.explain(model, samples), small)
    for name in a.values:
        np.testing.assert_allclose(a.values[name], b.values[name], atol=1e-5)


def test_the_class_and_the_seeds_stay_those_of_the_clean_image(pad: tuple[FaceModel, Samples]) -> None:
    model, samples = pad
    counting = Counting(Gradient())
    METRIC.score(model, samples, Gradient().explain(model, samples), counting)
    assert len(counting.seen) == 8
    for again in counting.seen:
        assert torch.equal(again.clean.predicted, samples.clean.predicted)
        assert again.ids == samples.ids
        assert again.seed == samples.seed
        assert again.cache is not samples.cache
        torch.testing.assert_close(again.clean.outputs, model.outputs(again.images))


def test_of_a_pair_only_the_probe_is_altered(faces: tuple[FaceModel, Samples]) -> None:
    model, samples = faces
    counting = Counting(Gradient())
    METRIC.score(model, samples, Gradient().explain(model, samples), counting)
    for again in counting.seen:
        assert torch.equal(again.images[:, 1], samples.images[:, 1])
        assert torch.equal(again.clean.outputs[:, 1], samples.clean.outputs[:, 1])
    assert not torch.equal(counting.seen[-1].images[:, 0], samples.images[:, 0])


def test_an_explainer_that_is_not_a_function_of_its_input_is_flagged(pad: tuple[FaceModel, Samples]) -> None:
    model, samples = pad
    generator = torch.Generator().manual_seed(0)
    fickle = Changed(Constant(), lambda m: torch.rand(m.shape, generator=generator))
    got = METRIC.score(model, samples, fickle.explain(model, samples), fickle)
    assert all(flag.code is ReasonCode.NOT_DETERMINISTIC for flag in got.flags.values())
    assert len(got.flags) == 3


def test_maps_that_are_not_finite_have_no_value_and_a_reason(pad: tuple[FaceModel, Samples]) -> None:
    model, samples = pad
    first = Brightness().explain(model, samples).relevance.clone()
    first[1, 0, 0] = float("nan")
    got = METRIC.score(model, samples, Maps(relevance=first), Brightness())
    assert np.isnan(got.values[""]).tolist() == [False, True, False]
    assert codes(got.reasons) == {1: ReasonCode.NON_FINITE_MAP}
    broken = Changed(Brightness(), lambda m: torch.full_like(m, float("inf")))
    got = METRIC.score(model, samples, Brightness().explain(model, samples), broken)
    assert set(codes(got.reasons).values()) == {ReasonCode.NON_FINITE_MAP}
    assert len(got.reasons) == 3


def test_precomputed_maps_and_unknown_levels_are_refused(pad: tuple[FaceModel, Samples]) -> None:
    model, samples = pad
    with pytest.raises(NotApplicable, match="precomputed maps cannot"):
        METRIC.score(model, samples, Brightness().explain(model, samples), Precomputed())
    with pytest.raises(ValueError, match=r"expected one of 0\.01, 0\.05"):
        NoiseStability(level=0.3)


def test_a_one_pixel_image_has_a_value(tmp_path: Path) -> None:
    model = open_model(tiny("linear", "pad", tmp_path, size=1))
    samples = sample_batch(model, 2)
    got = METRIC.score(model, samples, Brightness().explain(model, samples), Brightness())
    np.testing.assert_array_equal(got.values[""], [1.0, 1.0])


def test_the_headline_alone_is_the_headline_of_all_levels(pad: tuple[FaceModel, Samples]) -> None:
    model, samples = pad
    explainer = Gradient()
    maps = explainer.explain(model, samples)
    every = NoiseStability().score(model, samples, maps, explainer)
    alone = NoiseStability(levels="headline").score(model, samples, explainer.explain(model, samples), explainer)
    for name in ("", "spearman", "score-fall"):
        assert np.array_equal(every.values[name], alone.values[name])
    assert np.array_equal(alone.values["all-levels"], alone.values[""])
    assert alone.curves["ssim"].shape == (len(samples), 1)
