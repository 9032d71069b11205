"""max-sensitivity@1: the slow version, its bounds, and what must not move it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from faithface.contract import FaceModel, Maps, Samples
from faithface.errors import NotApplicable
from faithface.metrics.max_sensitivity import MaxSensitivity, jittered, unit_norm
from faithface.model import open_model
from faithface.reasons import ReasonCode
from tests.metrics.made import codes
from tests.metrics.toy_explainers import Brightness, Changed, Constant, Gradient, Noise, Precomputed
from tests.reference.stability import slow_max_sensitivity
from tests.support.networks import pair_batch, sample_batch, tiny

METRIC = MaxSensitivity()


@pytest.fixture(scope="module")
def pad(tmp_path_factory: pytest.TempPathFactory) -> tuple[FaceModel, Samples]:
    model = open_model(tiny("cnn", "pad", tmp_path_factory.mktemp("m"), size=12))
    return model, sample_batch(model, 2)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> tuple[FaceModel, Samples]:
    model = open_model(tiny("arcface", "verification", tmp_path_factory.mktemp("m"), size=12))
    return model, pair_batch(model, 2)


@pytest.mark.parametrize("task", ["pad", "faces"])
def test_it_equals_the_slow_version_sample_by_sample(task: str, request: pytest.FixtureRequest) -> None:
    model, samples = request.getfixturevalue(task)
    metric = MaxSensitivity(radius=0.05, draws=3)
    got = metric.score(model, samples, Gradient().explain(model, samples), Gradient())
    for i in range(len(samples)):
        expected = slow_max_sensitivity(model, samples.take([i]), Gradient(), 0.05, 3)
        np.testing.assert_allclose(got.curves["change"][i], expected, atol=1e-4)
        assert got.values[""][i] == pytest.approx(max(expected), abs=1e-4)
        assert got.values["mean"][i] == pytest.approx(np.mean(expected), abs=1e-4)


def test_the_noise_stays_within_its_radius_and_within_the_image(pad: tuple[FaceModel, Samples]) -> None:
    _, samples = pad
    noisy = jittered(samples, 0, 0.1)
    assert float((noisy - samples.images).abs().max()) <= 0.1 + 1e-6
    assert 0 <= float(noisy.min()) <= float(noisy.max()) <= 1
    assert not torch.equal(noisy, jittered(samples, 1, 0.1))


def test_a_map_that_ignores_the_image_scores_0_and_opposite_maps_score_2(pad: tuple[FaceModel, Samples]) -> None:
    model, samples = pad
    for explainer in (Noise(), Constant()):
        got = METRIC.score(model, samples, explainer.explain(model, samples), explainer)
        np.testing.assert_allclose(got.values[""], 0.0, atol=1e-9)
    signed = Maps(relevance=-Brightness().explain(model, samples).relevance)
    got = MaxSensitivity(radius=1e-6).score(model, samples, signed, Brightness())
    np.testing.assert_allclose(got.values[""], 2.0, atol=1e-4)


def test_an_empty_map_beside_another_is_at_distance_1(pad: tuple[FaceModel, Samples]) -> None:
    model, samples = pad
    empty = Maps(relevance=torch.zeros(2, 12, 12))
    got = METRIC.score(model, samples, empty, Brightness())
    np.testing.assert_allclose(got.values[""], 1.0, atol=1e-9)
    assert codes(got.flags) == {0: ReasonCode.CONSTANT_MAP, 1: ReasonCode.CONSTANT_MAP}


@pytest.mark.parametrize("factor", [0.001, 1000.0, 1e-30])
def test_scaling_all_maps_moves_nothing(factor: float, pad: tuple[FaceModel, Samples]) -> None:
    model, samples = pad
    scaled = Changed(Gradient(), lambda m: m * factor)
    a = METRIC.score(model, samples, Gradient().explain(model, samples), Gradient())
    b = METRIC.score(model, samples, scaled.explain(model, samples), scaled)
    np.testing.assert_allclose(a.values[""], b.values[""], atol=1e-5)


def test_more_draws_never_lower_the_value(pad: tuple[FaceModel, Samples]) -> None:
    model, samples = pad
    maps = Gradient().explain(model, samples)
    few, many = (MaxSensitivity(draws=n).score(model, samples, maps, Gradient()).values[""] for n in (2, 5))
    assert (many >= few).all()


def test_unit_norm_keeps_signs_and_makes_norm_1() -> None:
    maps = torch.randn(3, 5, 5) * 1e-25
    unit = unit_norm(maps)
    torch.testing.assert_close(unit.square().sum(dim=(1, 2)), torch.ones(3, dtype=torch.float64))
    assert torch.equal(unit.sign(), maps.double().sign())


def test_one_invalid_noisy_map_is_not_hidden_by_the_others(pad: tuple[FaceModel, Samples]) -> None:
    model, samples = pad
    calls = iter(range(100))
    broken = Changed(Brightness(), lambda m: m * (float("nan") if next(calls) == 1 else 1.0))
    got = MaxSensitivity(draws=3).score(model, samples, Brightness().explain(model, samples), broken)
    assert np.isnan(got.values[""]).all()
    assert set(codes(got.reasons).values()) == {ReasonCode.NON_FINITE_MAP}


def test_bad_parameters_and_precomputed_maps_are_refused(pad: tuple[FaceModel, Samples]) -> None:
    model, samples = pad
    with pytest.raises(ValueError, match="radius is 0"):
        MaxSensitivity(radius=0)
    with pytest.raises(ValueError, match="draws is 0"):
        MaxSensitivity(draws=0)
    with pytest.raises(NotApplicable, match="precomputed maps cannot"):
        METRIC.score(model, samples, Brightness().explain(model, samples), Precomputed())


def test_a_one_pixel_image_has_a_value(tmp_path: Path) -> None:
    model = open_model(tiny("linear", "pad", tmp_path, size=1))
    samples = sample_batch(model, 2)
    got = METRIC.score(model, samples, Brightness().explain(model, samples), Brightness())
    np.testing.assert_allclose(got.values[""], 0.0, atol=1e-12)
