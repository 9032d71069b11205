"""geometry@1: the slow version, maps that move with the image, maps that do not, and images that are not square."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from faithface.card import InputCard
from faithface.contract import FaceModel, Maps, Samples
from faithface.errors import NotApplicable
from faithface.metrics.geometry import Geometry, transforms
from faithface.model import open_model
from faithface.reasons import ReasonCode
from tests.metrics.made import codes
from tests.metrics.toy_explainers import Brightness, Changed, Constant, Counting, Gradient, Noise, Precomputed
from tests.reference.stability import slow_geometry
from tests.support.networks import export, pair_batch, sample_batch, tiny

METRIC = Geometry()


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
    got = METRIC.score(model, samples, Gradient().explain(model, samples), Gradient())
    for i in range(len(samples)):
        expected = np.array(slow_geometry(model, samples.take([i]), Gradient()))
        np.testing.assert_allclose(got.curves["ssim"][i], expected[:, 0], atol=1e-4)
        np.testing.assert_allclose(got.curves["spearman"][i], expected[:, 1], atol=1e-4)
        assert got.values[""][i] == pytest.approx(expected[:, 0].mean(), abs=1e-4)
        assert got.values["flip"][i] == pytest.approx(expected[:2, 0].mean(), abs=1e-4)
        assert got.values["shift"][i] == pytest.approx(expected[2:10, 0].mean(), abs=1e-4)
        assert got.values["rotation"][i] == pytest.approx(expected[10:, 0].mean(), abs=1e-4)


def test_there_are_two_flips_eight_shifts_of_a_fourteenth_and_two_turns() -> None:
    chosen = transforms((224, 224))
    assert [t.group for t in chosen] == ["flip"] * 2 + ["shift"] * 8 + ["rotation"] * 2
    image = torch.arange(224.0 * 224).reshape(1, 224, 224)
    overlaps = {t.align(image, t.forward(image))[0].shape[1:] for t in chosen[2:10]}
    assert overlaps == {(208, 208), (208, 224), (224, 208)}


@pytest.mark.parametrize("size", [(224, 224), (15, 15), (3, 5), (1, 1)])
def test_bringing_a_transformed_map_back_gives_the_map_itself(size: tuple[int, int]) -> None:
    image = torch.rand(2, *size)
    for transform in transforms(size):
        here, there = transform.align(image, transform.forward(image))
        assert torch.equal(here, there)


def test_a_map_that_moves_with_the_image_scores_1_exactly(
    pad: tuple[FaceModel, Samples], faces: tuple[FaceModel, Samples]
) -> None:
    for model, samples in (pad, faces):
        got = METRIC.score(model, samples, Brightness().explain(model, samples), Brightness())
        for name in METRIC.protocol.value_names:
            np.testing.assert_allclose(got.values[name], 1.0, atol=1e-9)


def test_random_maps_that_ignore_the_image_score_near_0_and_a_flat_one_is_flagged(
    pad: tuple[FaceModel, Samples],
) -> None:
    model, samples = pad
    got = METRIC.score(model, samples, Noise().explain(model, samples), Noise())
    assert (np.abs(got.values[""]) < 0.2).all()
    flat = METRIC.score(model, samples, Constant().explain(model, samples), Constant())
    assert codes(flat.flags) == {0: ReasonCode.CONSTANT_MAP, 1: ReasonCode.CONSTANT_MAP}


def test_maps_times_a_thousandth_score_the_same(pad: tuple[FaceModel, Samples]) -> None:
    model, samples = pad
    small = Changed(Gradient(), lambda m: m * 0.001)
    a = METRIC.score(model, samples, Gradient().explain(model, samples), Gradient())
    b = METRIC.score(model, samples, small.explain(model, samples), small)
    for name in METRIC.protocol.value_names:
        np.testing.assert_allclose(a.values[name], b.values[name], atol=1e-5)


def test_of_a_pair_only_the_probe_moves(faces: tuple[FaceModel, Samples]) -> None:
    model, samples = faces
    counting = Counting(Gradient())
    METRIC.score(model, samples, Gradient().explain(model, samples), counting)
    assert len(counting.seen) == 12
    assert all(torch.equal(again.images[:, 1], samples.images[:, 1]) for again in counting.seen)


def test_an_image_that_is_not_square_is_not_turned_and_says_so(tmp_path: Path) -> None:
    card = tiny("cnn", "pad", tmp_path, size=16)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    export(net.eval(), (3, 14, 10), tmp_path / "tall.onnx")
    model = open_model(card.model_copy(update={"file": "tall.onnx", "input": InputCard(size=(14, 10))}))
    samples = sample_batch(model, 2)
    got = METRIC.score(model, samples, Brightness().explain(model, samples), Brightness())
    assert got.curves["ssim"].shape == (2, 10)
    np.testing.assert_allclose(got.values[""], 1.0, atol=1e-9)
    assert np.isnan(got.values["rotation"]).all()
    assert codes(got.reasons) == dict.fromkeys((0, 1), ReasonCode.UNDEFINED)


def test_invalid_maps_and_precomputed_ones_have_no_value(pad: tuple[FaceModel, Samples]) -> None:
    model, samples = pad
    broken = Brightness().explain(model, samples).relevance.clone()
    broken[0, 3, 3] = float("nan")
    got = METRIC.score(model, samples, Maps(relevance=broken), Brightness())
    assert np.isnan(got.values[""]).tolist() == [True, False]
    assert list(got.reasons) == [0]
    with pytest.raises(NotApplicable, match="precomputed maps cannot"):
        METRIC.score(model, samples, Brightness().explain(model, samples), Precomputed())
    assert dataclasses.is_dataclass(METRIC)
