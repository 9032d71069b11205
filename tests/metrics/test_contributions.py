"""contribution-correlation@1 and contribution-error@1 on mechanism-exact networks, against a slow version.

The slow version reads the second output of the ONNX file by ONNX Runtime, patch by patch, and ranks and fits with scipy
and numpy.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import onnxruntime
import pytest
import torch
from scipy import stats

from faithface.applicability import explainer_applies, metric_applies
from faithface.contract import Clean, FaceModel, Maps, Samples
from faithface.errors import NotApplicable
from faithface.loading import load_samples
from faithface.metrics.contribution_correlation import ContributionCorrelation
from faithface.metrics.contribution_error import ContributionError
from faithface.model import open_model
from faithface.perturb import area, curves, fill_images
from faithface.reasons import ReasonCode
from faithface_plugins.datasets.planted.datasets import PlantedPad, PlantedVerification
from faithface_plugins.explainers.contributions import ContributionMaps
from faithface_plugins.explainers.controls import CentrePrior
from faithface_plugins.models import EXACT_CARDS, ZOO_CARDS
from tests.metrics.made import codes

CARDS = {card.name: card for card in (*EXACT_CARDS, *ZOO_CARDS)}
DATA = {"exact-pad-28-0": PlantedPad(n=6), "exact-verifier-28-0": PlantedVerification(n=8, people=4)}
BOTH = (ContributionCorrelation(), ContributionError())


@pytest.fixture(scope="module", params=list(DATA))
def world(request) -> tuple[FaceModel, Samples]:
    model, data = open_model(CARDS[request.param]), DATA[request.param]
    return model, load_samples(model, data.items(), 0, 0.5, data)


def noise(samples: Samples, seed: int = 0) -> Maps:
    """Smooth-free random maps: positive for pairs, signed for classifiers."""
    rng = np.random.default_rng(seed)
    shape = (len(samples), 112, 112)
    if not samples.are_pairs:
        return Maps(relevance=torch.from_numpy(rng.normal(size=shape).astype(np.float32)))
    both = rng.random((2, len(samples), 2, 112, 112), dtype=np.float32)
    return Maps(similarity=torch.from_numpy(both[0]), dissimilarity=torch.from_numpy(both[1]))


def second_output(model: FaceModel, image: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(model.card.path), providers=["CPUExecutionProvider"])
    return session.run(["contributions"], {"image": (image[None] - np.float32(0.5)) / np.float32(0.5)})[0][0]


def slow_truth(model: FaceModel, samples: Samples, i: int, plain: bool = False) -> np.ndarray:
    """What each patch contributes to what the judged map shows: the definition, for one sample."""
    item, images = samples.items[i], samples.images[i].numpy()
    if not samples.are_pairs:
        fill = fill_images(model, samples, "blur")[i, 0].numpy()
        sign = 1 if int(samples.clean.predicted[i]) == 1 else -1  # the second class is the attack
        found = second_output(model, images).astype(np.float64)
        return sign * (found if plain else found - second_output(model, fill))
    a, b = (second_output(model, image).astype(np.float64) for image in images)
    fill = fill_images(model, samples, "stranger")[i, 0].numpy() if item.same else images[1]
    value = (a * b).sum(axis=1) - (0 if plain else (second_output(model, fill) * b).sum(axis=1))
    return value if item.same else -value


def slow_sums(values: np.ndarray) -> np.ndarray:
    """Sums over sixteen patches of 28×28, one by one."""
    values = values.astype(np.float64)
    return np.array([values[y : y + 28, x : x + 28].sum() for y in range(0, 112, 28) for x in range(0, 112, 28)])


def probe(samples: Samples, maps: Maps, i: int) -> np.ndarray:
    if not samples.are_pairs:
        return maps.relevance[i].numpy()
    return (maps.similarity if samples.items[i].same else maps.dissimilarity)[i, 0].numpy()


def test_both_equal_the_slow_version(world):
    model, samples = world
    maps = noise(samples)
    correlation, error = (metric.score(model, samples, maps) for metric in BOTH)
    assert not correlation.reasons
    for i in range(len(samples)):
        sums, truth, plain = (
            slow_sums(probe(samples, maps, i)),
            slow_truth(model, samples, i),
            slow_truth(model, samples, i, plain=True),
        )
        signed, toward = sums, plain
        if samples.are_pairs:
            signed = slow_sums((maps.similarity - maps.dissimilarity)[i, 0].numpy())
            toward = plain if samples.items[i].same else -plain
        mass, right = (np.maximum(x, 0) / np.maximum(x, 0).sum() for x in (sums, truth))
        expected = {
            "": stats.spearmanr(sums, truth).statistic,
            "linear": stats.pearsonr(sums, truth).statistic,
            "mass": sum(min(m, c) for m, c in zip(mass, right, strict=True)),
            "plain": stats.spearmanr(sums, plain).statistic,
            "signed": stats.spearmanr(signed, toward).statistic,
        }
        assert {name: float(values[i]) for name, values in correlation.values.items()} == pytest.approx(
            expected, abs=1e-4
        )
        slope, intercept = np.polyfit(sums, truth, 1)
        line = slope * sums + intercept if slope > 0 else truth.mean()
        residual = np.sqrt(((truth - line) ** 2).sum() / ((truth - truth.mean()) ** 2).sum())
        assert error.values[""][i] == pytest.approx(residual, abs=1e-4)
        if slope > 0:
            assert error.values["scale"][i] == pytest.approx(np.log(slope), abs=1e-3)
        else:
            assert np.isnan(error.values["scale"][i])
            assert error.reasons[i].code is ReasonCode.UNDEFINED


def test_the_exact_contributions_are_perfect_and_turned_round_they_are_as_wrong_as_can_be(world):
    model, samples = world
    maps = ContributionMaps().explain(model, samples)
    turned = Maps(**{name: m.amax(dim=(-2, -1), keepdim=True) - m for name, m in maps.named().items()})
    correlation, error = BOTH
    right, wrong = (correlation.score(model, samples, each) for each in (maps, turned))
    np.testing.assert_allclose(right.values[""], 1, atol=1e-6)
    np.testing.assert_allclose(wrong.values[""], -1, atol=1e-6)
    np.testing.assert_allclose(error.score(model, samples, maps).values[""], 0, atol=2e-3)
    np.testing.assert_allclose(error.score(model, samples, turned).values[""], 1, atol=1e-9)
    # Spread over the 784 pixels of a patch, sums are contributions: one and the same scale on every sample.
    scale = error.score(model, samples, maps).values["scale"]
    np.testing.assert_allclose(scale, 0, atol=1e-4)
    assert error.summarise(scale, "scale") == pytest.approx(0, abs=1e-4)
    if not samples.are_pairs:
        positive = np.array([np.maximum(slow_truth(model, samples, i), 0).any() for i in range(len(samples))])
        np.testing.assert_allclose(right.values["mass"][positive], 1, atol=1e-6)


def test_without_a_fill_the_signed_map_is_the_contribution_itself(world):
    model, samples = world
    maps = ContributionMaps(fill="none").explain(model, samples)
    found = ContributionCorrelation(fill="none").score(model, samples, maps)
    np.testing.assert_allclose(found.values["signed"], 1, atol=1e-6)
    plain = ContributionCorrelation().score(model, samples, maps).values["plain"]
    if not samples.are_pairs:  # those of a pair lose the order of one sign
        np.testing.assert_allclose(plain, 1, atol=1e-6)


def test_no_map_has_a_better_curve_than_the_contributions(world):
    """What the oracle is for: with cells that are patches, no other order deletes or inserts better."""
    model, samples = world
    kinds = {"relevance": 1} if not samples.are_pairs else {"similarity": 1, "dissimilarity": -1}
    for kind, sign in kinds.items():
        which = {"similarity": "genuine", "dissimilarity": "impostor"}.get(kind, "all")
        part = samples.take(samples.where(which))
        best = gaps(model, part, ContributionMaps().explain(model, part), kind)
        for seed in range(3):
            assert (sign * best >= sign * gaps(model, part, noise(part, seed), kind) - 1e-5).all()


def gaps(model: FaceModel, samples: Samples, maps: Maps, kind: str) -> np.ndarray:
    found = curves(model, samples, maps, kind, grid=4, points=17)
    return area(found.scores["insertion"]) - area(found.scores["deletion"])


@pytest.mark.parametrize("metric", BOTH, ids=lambda m: m.id)
def test_maps_without_an_order_and_maps_that_are_not_finite(world, metric):
    model, samples = world
    maps = noise(samples)
    probes = maps.relevance if not samples.are_pairs else maps.similarity[:, 0]
    kinds = np.flatnonzero(samples.where("all") if not samples.are_pairs else samples.genuine)[:2]
    first, second = (int(i) for i in kinds)
    whole = metric.score(model, samples, noise(samples))
    probes[first] = 0.3
    probes[second, 5, 5] = torch.inf
    found = metric.score(model, samples, maps)
    assert found.values[""][first] == (0 if metric.id.startswith("contribution-correlation") else 1)
    assert codes(found.flags) == {first: ReasonCode.CONSTANT_MAP}
    assert codes(found.reasons)[second] is ReasonCode.NON_FINITE_MAP
    assert np.isnan(found.values[""][second])
    rest = np.delete(np.arange(len(samples)), [first, second])
    np.testing.assert_allclose(found.values[""][rest], whole.values[""][rest], atol=1e-9)


def test_values_do_not_depend_on_the_batch_and_the_truth_is_read_once(world):
    model, samples = world
    maps = noise(samples)
    fresh = dataclasses.replace(samples, cache=type(samples.cache)())
    before = model.passes.forward
    whole = ContributionCorrelation().score(model, fresh, maps)
    assert model.passes.forward - before == (3 if samples.are_pairs else 2) * len(samples)
    before = model.passes.forward
    ContributionError().score(model, fresh, maps)
    assert model.passes.forward == before
    alone = [ContributionCorrelation().score(model, samples.take([i]), maps.take([i])) for i in range(len(samples))]
    for name, values in whole.values.items():
        np.testing.assert_allclose(values, [one.values[name][0] for one in alone], atol=1e-6)


def test_a_sample_whose_patches_contribute_the_same_has_no_value():
    """Two equal faces, one of them the other's partner: no patch takes anything from the similarity."""
    model, data = open_model(CARDS["exact-verifier-28-0"]), DATA["exact-verifier-28-0"]
    pair = next(item for item in data.items() if not item.same)
    twin = dataclasses.replace(pair, b=dataclasses.replace(pair.b, read=pair.a.read))
    samples = load_samples(model, [twin], 0, 0.5, data)
    for metric in BOTH:
        found = metric.score(model, samples, noise(samples))
        assert np.isnan(found.values[""]).all()
        assert codes(found.reasons) == {0: ReasonCode.UNDEFINED}


def test_a_model_without_contributions_is_not_applicable():
    card = CARDS["planted-mobile-0"]
    data = DATA["exact-verifier-28-0"]
    for metric in BOTH:
        assert metric_applies(card, data, CentrePrior(), metric).code is ReasonCode.NO_GROUND_TRUTH
        assert metric_applies(CARDS["exact-verifier-28-0"], data, CentrePrior(), metric) is None
    assert explainer_applies(card, data, ContributionMaps()).code is ReasonCode.NO_GROUND_TRUTH
    assert explainer_applies(CARDS["exact-verifier-28-0"], data, ContributionMaps()) is None
    samples = Samples((), torch.zeros(1, 2, 3, 112, 112), Clean(*[torch.zeros(1)] * 3))
    model = open_model(card)
    with pytest.raises(NotApplicable) as refused:
        ContributionMaps(fill="none").explain(model, samples)
    assert refused.value.code is ReasonCode.NO_GROUND_TRUTH


def test_a_fill_that_does_not_fit_is_refused_before_the_run():
    with pytest.raises(NotApplicable, match="partner"):
        ContributionCorrelation(fill="partner").check(CARDS["exact-pad-28-0"], DATA["exact-pad-28-0"])
    ContributionCorrelation().check(CARDS["exact-pad-28-0"], DATA["exact-pad-28-0"])
