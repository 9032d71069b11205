"""degradation@1: the slow version, the published widths, known answers, and the AUC of the set."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score

from faithface.contract import Cache, FaceModel, Maps, Samples
from faithface.errors import NotApplicable
from faithface.metrics.degradation import Degradation, blur_width, blurred, marked_scores, tenths
from faithface.metrics.similarity import ssim
from faithface.model import open_model
from faithface.reasons import ReasonCode
from tests.metrics.made import codes
from tests.metrics.toy_explainers import Brightness, Changed, Constant, Gradient, Precomputed
from tests.reference.stability import slow_degradation
from tests.support.networks import pair_batch, sample_batch, tiny

METRIC = Degradation()


@pytest.fixture(scope="module")
def pad(tmp_path_factory: pytest.TempPathFactory) -> tuple[FaceModel, Samples]:
    model = open_model(tiny("cnn", "pad", tmp_path_factory.mktemp("m"), size=24))
    return model, sample_batch(model, 4)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> tuple[FaceModel, Samples]:
    model = open_model(tiny("arcface", "verification", tmp_path_factory.mktemp("m"), size=24))
    return model, pair_batch(model, 4)


@pytest.mark.parametrize("task", ["pad", "faces"])
def test_it_equals_the_slow_version_sample_by_sample(task: str, request: pytest.FixtureRequest) -> None:
    model, samples = request.getfixturevalue(task)
    got = METRIC.score(model, samples, Gradient().explain(model, samples), Gradient())
    for i in range(2):
        one = samples.take([i])
        low, high = (slow_degradation(model, one, Gradient(), side) for side in (False, True))
        # The difference of the two is of the order of 1e-4 on these networks: the bounds must be far below it.
        assert got.values["score-low"][i] == pytest.approx(low[0], abs=2e-6)
        assert got.values["score-high"][i] == pytest.approx(high[0], abs=2e-6)
        assert got.values["ssim-low"][i] == pytest.approx(low[1], abs=1e-4)
        assert got.values["ssim-high"][i] == pytest.approx(high[1], abs=1e-4)
        sign = -1 if samples.are_pairs and not samples.genuine[i] else 1
        assert got.values[""][i] == pytest.approx(sign * (low[0] - high[0]), abs=4e-6)


def test_the_widths_are_the_published_ones_at_224_and_scale_with_the_side() -> None:
    assert [blur_width(v, 224) for v in (0, 20, 50, 100)] == pytest.approx([10.0, 4.096, 0.625, 0.0])
    assert blur_width(0, 112) == pytest.approx(5.0)


@pytest.mark.parametrize("steer", [0, 13, 50, 80])
def test_one_width_for_all_pixels_is_scipys_gaussian_filter(steer: int) -> None:
    images = torch.rand(2, 3, 40, 30)
    got = blurred(images, [np.full((2, 40, 30), steer)])[0]
    sigma = blur_width(steer, 30)
    expected = np.stack([[gaussian_filter(c, sigma) for c in image] for image in images.double().numpy()])
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_full_salience_is_not_blurred_at_all() -> None:
    images = torch.rand(1, 3, 32, 32)
    assert torch.equal(blurred(images, [np.full((1, 32, 32), 100)])[0], images)


def test_low_and_high_blur_opposite_halves_of_the_image() -> None:
    maps = torch.zeros(1, 64, 64)
    maps[:, :, 32:] = 1.0
    images = torch.rand(1, 3, 64, 64)
    low, high = blurred(images, [tenths(maps, False), tenths(maps, True)])
    left, right = slice(0, 20), slice(44, 64)
    assert torch.equal(low[..., right], images[..., right])
    assert torch.equal(high[..., left], images[..., left])
    assert float((low - images)[..., left].abs().mean()) > 0.1
    assert float((high - images)[..., right].abs().mean()) > 0.1


def test_the_inverted_map_changes_the_sign_up_to_8_bit_rounding(pad: tuple[FaceModel, Samples]) -> None:
    model, samples = pad
    maps = Brightness().explain(model, samples)
    inverted = Changed(Brightness(), lambda m: m.amax(dim=(-2, -1), keepdim=True) - m)
    a = METRIC.score(model, samples, maps, Brightness()).values[""]
    b = METRIC.score(model, samples, inverted.explain(model, samples), inverted).values[""]
    # On this network values are of the order of 1e-4, so the bound is relative: rounding a map to 8 bits and its blur
    # to tenths moves them by about a tenth. Directions that did not change places would differ by twice their size.
    np.testing.assert_allclose(a, -b, atol=0.15 * np.abs(a).max())


@pytest.mark.parametrize("task", ["pad", "faces"])
def test_maps_times_a_thousandth_score_the_same(task: str, request: pytest.FixtureRequest) -> None:
    model, samples = request.getfixturevalue(task)
    # A power of two, so that no pixel is cut off to another grey level by rounding.
    small = Changed(Gradient(), lambda m: m / 1024)
    a = METRIC.score(model, samples, Gradient().explain(model, samples), Gradient())
    b = METRIC.score(model, samples, small.explain(model, samples), small)
    for name in METRIC.protocol.value_names:
        np.testing.assert_allclose(a.values[name], b.values[name], atol=1e-5)


def test_the_boards_auc_is_the_auc_of_the_degraded_images_scores(pad: tuple[FaceModel, Samples]) -> None:
    model, samples = pad
    got = METRIC.score(model, samples, Gradient().explain(model, samples), Gradient())
    truth = [item.label == "attack" for item in samples]
    clean = model.scores(samples.images)[:, 1].numpy()
    assert METRIC.summarise(got.values["auc-clean"], "auc-clean") == pytest.approx(roc_auc_score(truth, clean))
    low = blurred(samples.images, [tenths(Gradient().explain(model, samples).relevance, False)])[0]
    expected = roc_auc_score(truth, model.scores(low)[:, 1].numpy())
    assert METRIC.summarise(got.values["auc-low"], "auc-low") == pytest.approx(expected)
    assert METRIC.summarise(got.values[""]) == pytest.approx(got.values[""].mean())


def test_the_auc_of_pairs_separates_genuine_from_impostor(faces: tuple[FaceModel, Samples]) -> None:
    model, samples = faces
    marked = marked_scores(model, samples)
    expected = roc_auc_score(samples.genuine, samples.clean.scores.numpy())
    assert METRIC.summarise(marked, "auc-clean") == pytest.approx(expected)


def test_without_labels_or_with_one_class_there_is_no_auc_and_the_rest_stays(pad: tuple[FaceModel, Samples]) -> None:
    model, samples = pad
    unknown = tuple(dataclasses.replace(item, label=None) for item in samples.items)
    bare = dataclasses.replace(samples, items=unknown, cache=Cache())
    got = METRIC.score(model, bare, Gradient().explain(model, bare), Gradient())
    assert np.isnan(got.values["auc-low"]).all()
    assert np.isfinite(got.values[""]).all()
    assert set(codes(got.reasons).values()) == {ReasonCode.UNDEFINED}
    assert np.isnan(METRIC.summarise(np.array([0.3, 0.9]), "auc-low"))
    assert np.isnan(METRIC.summarise(np.array([]), "auc-low"))


def test_a_constant_map_is_flagged_and_an_invalid_one_has_no_value(pad: tuple[FaceModel, Samples]) -> None:
    model, samples = pad
    flat = METRIC.score(model, samples, Constant().explain(model, samples), Constant())
    assert len(flat.flags) == len(samples)
    np.testing.assert_allclose(flat.values["score-high"], samples.clean.scores, atol=1e-6)
    maps = Brightness().explain(model, samples).relevance.clone()
    maps[0, 0, 0] = float("inf")
    got = METRIC.score(model, samples, Maps(relevance=maps), Brightness())
    assert np.isnan(got.values[""]).tolist() == [True, False, False, False]
    assert codes(got.reasons) == {0: ReasonCode.NON_FINITE_MAP}


def test_a_sharp_area_keeps_its_map(pad: tuple[FaceModel, Samples]) -> None:
    model, samples = pad
    got = METRIC.score(model, samples, Brightness().explain(model, samples), Brightness())
    assert (got.values["ssim-low"] <= 1).all()
    own = Brightness().explain(model, samples).relevance
    low = blurred(samples.images, [tenths(own, False)])[0]
    np.testing.assert_allclose(got.values["ssim-low"], ssim(own, low.sum(dim=1)), atol=1e-9)


def test_of_a_signed_map_the_positive_part_steers(pad: tuple[FaceModel, Samples]) -> None:
    """Min-max of the whole map would put zero at mid-grey, where hardly anything is blurred."""
    signed = torch.randn(2, 24, 24, generator=torch.Generator().manual_seed(0))
    for high in (False, True):
        np.testing.assert_array_equal(tenths(signed, high), tenths(signed.clamp(min=0), high))
    model, samples = pad
    dense = Changed(Brightness(), lambda m: m - m.mean(dim=(-2, -1), keepdim=True))
    cut = Changed(Brightness(), lambda m: (m - m.mean(dim=(-2, -1), keepdim=True)).clamp(min=0))
    a, b = (METRIC.score(model, samples, one.explain(model, samples), one) for one in (dense, cut))
    for name in ("", "score-low", "score-high"):
        np.testing.assert_array_equal(a.values[name], b.values[name])
    assert (
        float((blurred(samples.images, [tenths(signed[[0, 1, 0, 1]], False)])[0] - samples.images).abs().max()) > 0.05
    )


def test_where_nothing_is_blurred_the_value_says_so(pad: tuple[FaceModel, Samples]) -> None:
    """A map of ones but for a pixel: after smoothing, no place is low enough for a blur of more than one pixel."""
    model, samples = pad

    def spot(maps: torch.Tensor) -> torch.Tensor:
        ones = torch.ones_like(maps)
        ones[:, 12, 12] = 0
        return ones

    nearly = Changed(Brightness(), spot)
    maps = nearly.explain(model, samples)
    low = blurred(samples.images, [tenths(maps.relevance, False)])[0]
    found = METRIC.score(model, samples, maps, nearly)
    assert torch.equal(low, samples.images)
    assert set(codes(found.flags)) == set(range(len(samples)))
    assert set(codes(found.flags).values()) == {ReasonCode.REMARK}
    sharp = METRIC.score(model, samples, Brightness().explain(model, samples), Brightness())
    assert not sharp.flags


def test_precomputed_maps_are_refused(pad: tuple[FaceModel, Samples]) -> None:
    model, samples = pad
    with pytest.raises(NotApplicable, match="precomputed maps cannot"):
        METRIC.score(model, samples, Brightness().explain(model, samples), Precomputed())
