"""inpainting-game@1: the slow version, perfect, random and inverted maps, and triplets that cannot be played."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from faithface.contract import Cache, Explainer, FaceModel, Maps, Method, Samples
from faithface.errors import NotApplicable
from faithface.loading import load_samples, read_face
from faithface.metrics.inpainting_game import InpaintingGame, against_non_mate
from faithface.model import open_model
from faithface.reasons import ReasonCode
from tests.metrics.made import codes
from tests.metrics.toy_explainers import Changed, Constant, Counting, Gradient, Noise, Precomputed
from tests.metrics.toy_pairs import ToyPairs
from tests.reference.pairs_game import slow_inpainting_game
from tests.support.applies import check
from tests.support.networks import tiny

METRIC = InpaintingGame()


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> tuple[FaceModel, Samples]:
    model = open_model(tiny("linear", "verification", tmp_path_factory.mktemp("m"), size=16))
    dataset = ToyPairs(n=8)
    samples = load_samples(model, dataset.items(), threshold=0.5, dataset=dataset)
    return model, samples.take(samples.where("genuine"))


@dataclass(frozen=True)
class Region(Explainer):
    """The planted region, or everything but it."""

    inverted: bool = False
    method = Method(
        name="toy-region",
    )

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        kind = "inpainted" if "inpainted" in samples.items[0].truth else "dissimilarity"
        maps = samples.truth(kind)
        maps = 1 - maps if self.inverted else maps
        return Maps(similarity=maps, dissimilarity=maps.clone())


@dataclass(frozen=True)
class Strict(Explainer):
    """The gradient's two signs as two positive maps without a single tie."""

    method = Method(
        name="toy-strict",
    )

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        views = samples.views()
        signed = model.gradient(views.images, views.target).sum(dim=1).unflatten(0, (len(samples), 2))
        signed = signed / signed.abs().max()
        return Maps(similarity=signed.exp(), dissimilarity=(-signed).exp())


def told_apart(samples: Samples, model: FaceModel) -> np.ndarray:
    return (samples.clean.scores > against_non_mate(model, samples).clean.scores).numpy()


def test_it_equals_the_slow_version_triplet_by_triplet(faces: tuple[FaceModel, Samples]) -> None:
    model, samples = faces
    metric = InpaintingGame(points=15)
    got = metric.score(model, samples, Strict().explain(model, samples), Strict())
    able = told_apart(samples, model)
    assert able.sum() >= 2
    for i in np.flatnonzero(able):
        one = samples.take([int(i)])
        non_mate = read_face(one.items[0].others["non-mate"], model.size).double().numpy()
        region = samples.dataset.region(2 * int(i))  # type: ignore[union-attr]
        expected = slow_inpainting_game(model, one, Strict(), non_mate, region, 15)
        assert got.values[""][i] == pytest.approx(expected[0], abs=1e-6)
        assert got.values["mate"][i] == pytest.approx(expected[1], abs=1e-6)


def test_the_true_region_scores_1_its_inversion_0_and_noise_between(faces: tuple[FaceModel, Samples]) -> None:
    model, samples = faces
    means = {}
    for explainer in (Region(), Region(inverted=True), Noise()):
        got = METRIC.score(model, samples, explainer.explain(model, samples), explainer)
        values = got.values[""][told_apart(samples, model)]
        means[repr(explainer)] = values.mean()
    best, worst, chance = means.values()
    # One step of the curve may straddle the region's last pixel.
    assert best == pytest.approx(1.0, abs=0.005)
    assert worst == pytest.approx(0.0, abs=1e-9)
    assert 0.2 < chance < 0.8


def test_only_pixels_that_differ_can_turn_the_decision(faces: tuple[FaceModel, Samples]) -> None:
    model, samples = faces
    inverted = Region(inverted=True)
    got = METRIC.score(model, samples, inverted.explain(model, samples), inverted)
    # All pixels outside the region go first: nothing may change before they are through.
    for i in np.flatnonzero(told_apart(samples, model)):
        before = got.curves["outside"][i] < 1
        assert not got.curves["taken"][i][before].any()
        assert not got.curves["mate-taken"][i][before].any()
        assert got.curves["taken"][i][-1] == got.curves["mate-taken"][i][-1] == 1


def test_the_explainer_sees_the_probe_and_the_non_mate_as_an_impostor_pair(faces: tuple[FaceModel, Samples]) -> None:
    model, samples = faces
    counting = Counting(Gradient())
    METRIC.score(model, samples, Gradient().explain(model, samples), counting)
    (strange,) = counting.seen
    assert not strange.genuine.any()
    assert torch.equal(strange.images[:, 0], samples.images[:, 0])
    torch.testing.assert_close(strange.clean.outputs[:, 1], model.embeddings(strange.images[:, 1]))
    for i, item in enumerate(strange.items):
        differs = (strange.images[i, 1] != samples.images[i, 1]).any(dim=0).numpy()
        assert not (differs & ~item.truth["dissimilarity"]()[1]).any()


def test_maps_times_a_thousandth_score_the_same(faces: tuple[FaceModel, Samples]) -> None:
    model, samples = faces
    small = Changed(Gradient(), lambda m: m / 1024)
    a = METRIC.score(model, samples, Gradient().explain(model, samples), Gradient())
    b = METRIC.score(model, samples, small.explain(model, samples), small)
    for name in METRIC.protocol.value_names:
        np.testing.assert_array_equal(a.values[name], b.values[name])


def test_triplets_that_the_network_does_not_tell_apart_have_no_value(faces: tuple[FaceModel, Samples]) -> None:
    model, samples = faces
    twins = tuple(replace(item, others={"non-mate": item.b}) for item in samples.items)
    same = replace(samples, items=twins, cache=Cache())
    got = METRIC.score(model, same, Gradient().explain(model, same), Gradient())
    assert np.isnan(got.values[""]).all()
    assert set(codes(got.reasons).values()) == {ReasonCode.UNDEFINED}


def test_by_threshold_only_triplets_on_both_sides_of_it_count(faces: tuple[FaceModel, Samples]) -> None:
    model, samples = faces
    mate, other = samples.clean.scores, against_non_mate(model, samples).clean.scores
    middle = float((mate + other)[told_apart(samples, model)].median() / 2)
    at = replace(samples, clean=replace(samples.clean, threshold=middle), cache=Cache())
    got = InpaintingGame(decision="threshold").score(model, at, Gradient().explain(model, at), Gradient())
    expected = ((mate >= middle) & (other < middle)).numpy()
    assert expected.any()
    np.testing.assert_array_equal(np.isfinite(got.values[""]), expected)
    bare = replace(samples, clean=replace(samples.clean, threshold=None), cache=Cache())
    none = InpaintingGame(decision="threshold").score(model, bare, Gradient().explain(model, bare), Gradient())
    assert set(codes(none.reasons).values()) == {ReasonCode.NO_THRESHOLD}


def test_a_pair_without_a_triplet_has_no_value_and_does_not_disturb_the_others(
    faces: tuple[FaceModel, Samples],
) -> None:
    model, samples = faces
    maps = Gradient().explain(model, samples)
    whole = METRIC.score(model, samples, maps, Gradient())
    first = replace(samples.items[0], others={})
    mixed = replace(samples, items=(first, *samples.items[1:]), cache=Cache())
    got = METRIC.score(model, mixed, maps, Gradient())
    assert got.reasons[0].detail == 'the pair has no "non-mate" face, or no "inpainted" region'
    np.testing.assert_array_equal(got.values[""][1:], whole.values[""][1:])
    assert np.isnan(got.values[""][0])


def test_constant_maps_are_flagged_and_invalid_ones_have_no_value(faces: tuple[FaceModel, Samples]) -> None:
    model, samples = faces
    able = np.flatnonzero(told_apart(samples, model))
    flat = METRIC.score(model, samples, Constant().explain(model, samples), Constant())
    assert sorted(flat.flags) == able.tolist()
    broken = Changed(Constant(), lambda m: torch.full_like(m, float("nan")))
    got = METRIC.score(model, samples, Constant().explain(model, samples), broken)
    assert np.isnan(got.values[""]).all()
    assert all(got.reasons[int(i)].code is ReasonCode.NON_FINITE_MAP for i in able)


def test_it_is_refused_beforehand_without_triplets_or_with_precomputed_maps(faces: tuple[FaceModel, Samples]) -> None:
    model, _ = faces
    check(METRIC, model.card, ToyPairs(), Gradient())
    with pytest.raises(NotApplicable, match="needs inpainted ground truth; the dataset has none"):
        check(METRIC, model.card, ToyPairs(triplets=False), Gradient())
    with pytest.raises(NotApplicable, match="explains altered images again"):
        check(METRIC, model.card, ToyPairs(), Precomputed())
    with pytest.raises(ValueError, match="points is 1"):
        InpaintingGame(points=1)
    with pytest.raises(ValueError, match="expected nearest or threshold"):
        InpaintingGame(decision="other")  # type: ignore[arg-type]


def test_two_points_are_the_two_pictures_and_cost_no_steps(faces: tuple[FaceModel, Samples]) -> None:
    model, samples = faces
    maps = Constant().explain(model, samples)
    before = model.passes.forward
    got = InpaintingGame(points=2).score(model, samples, maps, Constant())
    assert model.passes.forward - before == len(samples)  # the non-mates
    np.testing.assert_allclose(got.values[""][told_apart(samples, model)], 0.5)
