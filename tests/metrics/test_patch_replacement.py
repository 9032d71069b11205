"""patch-replacement@1: the slow version, where the patches come from, perfect and worst maps, and refusals."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from faithface.contract import Cache, Explainer, FaceModel, Maps, Method, Samples
from faithface.errors import NotApplicable
from faithface.loading import load_samples
from faithface.metrics.patch_replacement import SHARES, PatchReplacement, patch_mask, patched_pairs
from faithface.model import open_model
from faithface.perturb import fill_images
from faithface.reasons import ReasonCode
from tests.metrics.toy_explainers import Brightness, Changed, Constant, Gradient, Precomputed
from tests.metrics.toy_pairs import ToyPairs
from tests.reference.pairs_game import slow_patch_replacement
from tests.support.applies import check
from tests.support.networks import tiny

METRIC = PatchReplacement()


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> tuple[FaceModel, Samples]:
    model = open_model(tiny("arcface", "verification", tmp_path_factory.mktemp("m"), size=16))
    dataset = ToyPairs(n=6)
    clean = load_samples(model, dataset.items(), threshold=0.0, dataset=dataset).clean.scores
    return model, load_samples(model, dataset.items(), threshold=float(clean.median()), dataset=dataset)


@dataclass(frozen=True)
class Known(Explainer):
    """The ground truth that patched pairs carry, or the opposite of it."""

    sign: float = 1.0
    method = Method(
        name="toy-known",
    )

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        kinds = ["dissimilarity" if item.same else "similarity" for item in samples.items]
        masks = torch.cat([samples.take([i]).truth(kind) for i, kind in enumerate(kinds)])
        # Strange patches make genuine pairs less alike and, as pieces of the partner, impostor pairs more alike.
        signed = torch.where(torch.from_numpy(samples.genuine)[:, None, None, None], -masks, masks) * self.sign
        return Maps(similarity=signed.clamp(min=0), dissimilarity=(-signed).clamp(min=0))


def test_it_equals_the_slow_version_pair_by_pair(faces: tuple[FaceModel, Samples]) -> None:
    model, samples = faces
    got = METRIC.score(model, samples, Gradient().explain(model, samples), Gradient())
    for i in range(len(samples)):
        one = samples.take([i])
        stranger = fill_images(model, one, "stranger")[0, 0].double().numpy()
        error, chance = slow_patch_replacement(model, one, Gradient(), stranger)
        assert got.curves["error"][i].tolist() == error
        assert got.curves["error-random"][i].tolist() == chance
        assert got.values[""][i] == pytest.approx(np.trapezoid(error, dx=1 / 19))
        assert got.values["random"][i] == pytest.approx(np.trapezoid(chance, dx=1 / 19))


def test_the_comparison_with_the_slow_version_sees_right_and_wrong_decisions(faces: tuple[FaceModel, Samples]) -> None:
    model, samples = faces
    got = METRIC.score(model, samples, Gradient().explain(model, samples), Gradient())
    assert 0 < got.curves["error"].mean() < 1


def test_there_are_27_patches_of_a_seventh_of_the_side() -> None:
    one = patch_mask(np.random.default_rng(0), (112, 112))
    assert 16 * 16 < one.sum() <= 27 * 256
    single = [patch_mask(np.random.default_rng(s), (16, 16)) for s in range(3)]
    assert all(mask.sum() >= 4 for mask in single)


def test_patches_come_from_the_reference_on_impostor_pairs_and_from_a_stranger_on_genuine_ones(
    faces: tuple[FaceModel, Samples],
) -> None:
    model, samples = faces
    patched = patched_pairs(model, samples)
    for i in range(len(samples)):
        here = (patched.images[i, 0] != samples.images[i, 0]).any(dim=0)
        assert 0.2 < float(here.float().mean()) < 0.8
        if not samples.genuine[i]:
            assert torch.equal(patched.images[i, 0][:, here], samples.images[i, 1][:, here])
        else:
            stranger = fill_images(model, samples.take([i]), "stranger")[0, 0]
            assert torch.equal(patched.images[i, 0][:, here], stranger[:, here])
        truth = patched.items[i].truth["dissimilarity" if samples.genuine[i] else "similarity"]()
        assert not (here.numpy() & ~truth[0]).any()
        assert not truth[1].any()
    assert torch.equal(patched.images[:, 1], samples.images[:, 1])


def test_a_map_that_knows_the_patches_beats_chance_and_its_inversion_loses_to_it(
    faces: tuple[FaceModel, Samples],
) -> None:
    model, samples = faces
    means = []
    for sign in (1.0, -1.0):
        known = Known(sign)
        got = METRIC.score(model, samples, Constant().explain(model, samples), known)
        means.append(got.values[""].mean())
        chance = got.values["random"].mean()
    assert means[0] < chance < means[1]


def test_fmr_and_fnmr_are_the_value_on_their_own_kind_of_pairs(faces: tuple[FaceModel, Samples]) -> None:
    model, samples = faces
    got = METRIC.score(model, samples, Gradient().explain(model, samples), Gradient())
    genuine = samples.genuine
    np.testing.assert_array_equal(got.values["fnmr"][genuine], got.values[""][genuine])
    np.testing.assert_array_equal(got.values["fmr"][~genuine], got.values[""][~genuine])
    assert np.isnan(got.values["fnmr"][~genuine]).all()
    assert all((got.reasons[i].detail == "fmr: of the other kind of pairs") == same for i, same in enumerate(genuine))


def test_maps_times_a_thousandth_score_the_same(faces: tuple[FaceModel, Samples]) -> None:
    model, samples = faces
    small = Changed(Gradient(), lambda m: m / 1024)
    a = METRIC.score(model, samples, Gradient().explain(model, samples), Gradient())
    b = METRIC.score(model, samples, Gradient().explain(model, samples), small)
    np.testing.assert_array_equal(a.curves["error"], b.curves["error"])


def test_a_constant_map_is_scored_and_flagged_and_an_invalid_one_has_no_value(
    faces: tuple[FaceModel, Samples],
) -> None:
    model, samples = faces
    flat = METRIC.score(model, samples, Constant().explain(model, samples), Constant())
    assert len(flat.flags) == len(samples)
    assert np.isfinite(flat.values[""]).all()

    def break_first(maps: Tensor) -> Tensor:
        maps = maps.clone()
        maps[0, 0, 0, 0] = float("nan")
        return maps

    broken = Changed(Brightness(), break_first)
    got = METRIC.score(model, samples, Constant().explain(model, samples), broken)
    assert np.isnan(got.values[""]).tolist() == [True] + [False] * 5
    assert got.reasons[0].code is ReasonCode.NON_FINITE_MAP


def test_without_a_threshold_there_is_no_value(faces: tuple[FaceModel, Samples]) -> None:
    model, samples = faces
    bare = replace(samples, clean=replace(samples.clean, threshold=None), cache=Cache())
    got = METRIC.score(model, bare, Constant().explain(model, bare), Constant())
    assert np.isnan(got.values[""]).all()
    assert len(got.reasons) == len(samples)


def test_it_is_refused_beforehand_for_faces_that_are_not_aligned_for_classifiers_and_for_precomputed_maps(
    faces: tuple[FaceModel, Samples], tmp_path: object
) -> None:
    model, _ = faces
    check(METRIC, model.card, ToyPairs(), Gradient())
    with pytest.raises(NotApplicable, match="needs aligned faces"):
        check(METRIC, model.card, ToyPairs(faces_aligned=False), Gradient())
    with pytest.raises(NotApplicable, match="explains altered images again"):
        check(METRIC, model.card, ToyPairs(), Precomputed())
    with pytest.raises(NotApplicable, match="for verification only; the model is for pad"):
        check(METRIC, tiny("cnn", "pad", tmp_path, size=16), ToyPairs(), Gradient())  # type: ignore[arg-type]


def test_an_image_of_few_pixels_repeats_its_points(tmp_path: object) -> None:
    dataset = ToyPairs(n=2, size=3, triplets=False)
    model = open_model(tiny("linear", "verification", tmp_path, size=3))  # type: ignore[arg-type]
    samples = load_samples(model, dataset.items(), threshold=0.5, dataset=dataset)
    got = METRIC.score(model, samples, Brightness().explain(model, samples), Brightness())
    assert got.curves["error"].shape == (2, len(SHARES))
    assert np.isfinite(got.values[""]).all()
