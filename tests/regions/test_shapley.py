"""Exact values against the average over all orders, and subset scores against images composed one at a time."""

import itertools
from math import factorial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from faithface.contract import BatchingPolicy, FaceModel
from faithface.errors import UsageError
from faithface.model import open_model
from faithface.regions.agreement import agreement, region_sums, specific_agreement
from faithface.regions.shapley import RegionValues, fills_needed, interactions, reliability, shapley_values
from faithface.regions.subsets import gray_code, score_subsets
from faithface.tasks import cosine
from tests.support.networks import tiny


def by_all_orders(scores: np.ndarray, k: int) -> np.ndarray:
    """The definition: replace the regions one after another, in each of the k! orders, and average what is lost."""
    lost = np.zeros(k)
    for order in itertools.permutations(range(k)):
        replaced = 0
        for r in order:
            lost[r] += scores[replaced] - scores[replaced | 1 << r]
            replaced |= 1 << r
    return lost / factorial(k)


def one_at_a_time(model, image, fills, labels, scalar):
    """Compose every image as a whole, pixel region by pixel region, and score it alone."""
    k = int(labels.max()) + 1
    scores = np.empty((len(fills), 1 << k))
    for f, fill in enumerate(fills):
        for subset in range(1 << k):
            made = image.clone()
            for r in range(k):
                if subset >> r & 1:
                    made[:, labels == r] = fill[:, labels == r]
            scores[f, subset] = float(scalar(model.outputs(made[None])))
    return scores


def some_regions(k: int, size: int, seed: int) -> np.ndarray:
    """Regions of very different sizes, scattered."""
    rng = np.random.default_rng(seed)
    labels = np.minimum(rng.geometric(0.4, (size, size)) - 1, k - 1)
    labels.ravel()[rng.permutation(size * size)[:k]] = np.arange(k)
    return labels


@given(k=st.integers(1, 5), seed=st.integers(0, 999))
@settings(max_examples=30, deadline=None)
def test_values_are_the_average_over_all_orders_and_add_up(k: int, seed: int) -> None:
    scores = np.random.default_rng(seed).normal(size=(2, 1 << k))
    values = shapley_values(scores)
    for one, got in zip(scores, values, strict=True):
        np.testing.assert_allclose(got, by_all_orders(one, k), atol=1e-12)
    np.testing.assert_allclose(values.sum(axis=1), scores[:, 0] - scores[:, -1], atol=1e-12)


@pytest.mark.parametrize("workers", [1, 2])
def test_on_a_network_four_regions_give_the_average_over_all_orders(tiny_folder, workers: int) -> None:
    model = open_model(tiny("arcface", "verification", tiny_folder))
    model.use_batching(BatchingPolicy(5, workers))
    torch.manual_seed(1)
    image, other, fills = torch.rand(3, 32, 32), torch.rand(1, 3, 32, 32), torch.rand(3, 3, 32, 32)
    labels, reference = some_regions(4, 32, 0), model.embeddings(other)

    def scalar(outputs):
        return cosine(outputs, reference)

    before = model.passes.forward
    scores = score_subsets(model, image, fills, labels, scalar)
    assert model.passes.forward - before == 3 * 2**4
    slow = one_at_a_time(model, image, fills, labels, scalar)
    assert np.ptp(slow) > 0.05  # replacing regions matters here
    np.testing.assert_allclose(scores, slow, atol=1e-5)
    values = shapley_values(scores)
    np.testing.assert_allclose(values, [by_all_orders(row, 4) for row in slow], atol=1e-5)
    clean = float(scalar(model.embeddings(image[None])))
    filled = scalar(model.embeddings(fills)).numpy()
    np.testing.assert_allclose(values.sum(axis=1), clean - filled, atol=1e-5)


class Weighted(FaceModel):
    """Σ weights · pixels: every region contributes a known amount, whatever the others show."""

    def __init__(self, size: int, batch: int) -> None:
        self.card = type("Card", (), {"input": type("Input", (), {"size": (size, size)}), "name": "weighted"})
        self.device = "cpu"
        self.use_batching(BatchingPolicy(batch))
        self.weights = torch.from_numpy(np.random.default_rng(5).normal(size=(3, size, size)))

    def outputs(self, images):
        self.count(forward=len(images))
        return (images.double() * self.weights).flatten(1).sum(dim=1, keepdim=True)

    scores = embeddings = gradient = vjp = activations = twin = None


Weighted.__abstractmethods__ = frozenset()


@given(k=st.integers(2, 7), batch=st.integers(1, 9), fills=st.integers(1, 4), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_each_region_of_an_additive_model_gets_its_own_part(k: int, batch: int, fills: int, seed: int) -> None:
    model = Weighted(9, batch)
    rng = np.random.default_rng(seed)
    image = torch.from_numpy(rng.random((3, 9, 9), dtype=np.float32))
    other = torch.from_numpy(rng.random((fills, 3, 9, 9), dtype=np.float32))
    labels = some_regions(k, 9, seed)
    values = shapley_values(score_subsets(model, image, other, labels, lambda outputs: outputs[:, 0]))
    part = ((image[None] - other).double() * model.weights).sum(dim=1).numpy()
    want = np.stack([part[:, labels == r].sum(axis=1) for r in range(k)], axis=1)
    np.testing.assert_allclose(values, want, atol=1e-9)
    assert model.passes.forward == fills << k
    assert np.abs(interactions(np.zeros((1, 1 << k)))).max() == 0


def test_gray_code_visits_every_subset_and_changes_one_region_a_step() -> None:
    code = gray_code(6)
    assert sorted(code) == list(range(64))
    assert {int(a ^ b).bit_count() for a, b in itertools.pairwise(code)} == {1}


def test_two_regions_that_carry_the_same_evidence_interact_negatively() -> None:
    # Region 0 or 1 is enough for a score of 1; region 2 adds 0.5 by itself. Bits say what is replaced.
    scores = np.array([float((s & 3) != 3) + 0.5 * float(not s & 4) for s in range(8)])
    np.testing.assert_allclose(shapley_values(scores), [0.5, 0.5, 0.5])
    np.testing.assert_allclose(interactions(scores), [[0, -1, 0], [-1, 0, 0], [0, 0, 0]], atol=1e-12)


@pytest.mark.parametrize("fills", [torch.rand(2, 3, 9, 9) * 255, torch.full((1, 3, 9, 9), torch.nan)])
def test_fills_out_of_range_are_refused(fills) -> None:
    with pytest.raises(UsageError, match=r"expected pixels in \[0, 1\]"):
        score_subsets(Weighted(9, 4), torch.rand(3, 9, 9), fills, some_regions(3, 9, 0), lambda o: o[:, 0])


def test_reliability_is_that_of_the_classical_model() -> None:
    """Profiles = truth + noise: the reliability of a mean of F is Var(truth) / (Var(truth) + Var(noise) / F)."""
    rng = np.random.default_rng(0)
    k, fills, noise = 4000, 6, 1.5
    values = rng.normal(size=k) + noise * rng.normal(size=(fills, k))
    # Without the correction to full length it would be 0.57 instead of 0.73; the standard error for 4,000 is 0.006.
    assert reliability(values) == pytest.approx(1 / (1 + noise**2 / fills), abs=0.02)
    wanted = fills_needed(1 / (1 + noise**2 / fills), fills, 0.9)
    assert 1 / (1 + noise**2 / wanted) >= 0.9 > 1 / (1 + noise**2 / (wanted - 1))


def test_reliability_of_two_opposed_fills_is_zero_and_of_one_fill_unknown() -> None:
    profile = np.arange(5.0)
    assert reliability(np.stack([profile, -profile])) == 0
    assert reliability(np.stack([profile, profile])) == pytest.approx(1)
    assert np.isnan(reliability(profile[None]))
    assert np.isnan(reliability(np.ones((4, 5))))
    assert fills_needed(0.0, 8) is None


def test_the_interval_is_students() -> None:
    values = RegionValues("blur", np.array([[1.0, 0.0], [2.0, 0.0], [4.0, 0.0]]), 1.0, np.zeros(3), 12)
    sd = np.sqrt(((1 - 7 / 3) ** 2 + (2 - 7 / 3) ** 2 + (4 - 7 / 3) ** 2) / 2)
    assert values.margin[0] == pytest.approx(4.302653 * sd / np.sqrt(3), rel=1e-6)  # t(0.975, 2 degrees of freedom)
    assert values.margin[1] == 0


def test_a_half_without_an_order_counts_as_no_agreement() -> None:
    """Six fills of three regions: in 4 of 10 splits a half's mean ranks are equal, in 6 the halves agree at 0.5."""
    turns = [[1.0, 2, 3], [2, 3, 1], [3, 1, 2]]
    assert reliability(np.array(turns + [[1.0, 2, 3]] * 3), ranks=True) == pytest.approx(2 * 0.3 / 1.3)


# --- agreement


def test_a_map_is_summed_over_regions_and_ranked() -> None:
    labels = np.array([[0, 0, 1], [2, 2, 1]])
    sums = region_sums(np.array([[1.0, 2.0, 5.0], [0.0, 1.0, -1.0]]), labels)
    assert sums.tolist() == [3.0, 4.0, 1.0]
    found = agreement("e", "relevance", "blur", sums, np.array([0.1, 0.3, 0.2]), 0.81)
    # Ranks 2 3 1 against 1 3 2: 1 − 6 · 2 / (3 · 8); pairs in order: two of three.
    assert found.spearman == pytest.approx(0.5)
    assert found.kendall == pytest.approx(1 / 3)
    assert found.ceiling == pytest.approx(0.9)


def test_no_map_is_judged_beyond_the_reliability_of_the_reference() -> None:
    exact = np.arange(10.0)
    perfect = agreement("e", "relevance", "stranger", exact, exact, 0.9)
    assert perfect.verdict == "full"
    assert agreement("e", "relevance", "stranger", exact, exact, 0.2).verdict == "unjudged"
    assert agreement("e", "relevance", "stranger", -exact, exact, 0.9).verdict == "contradicts"
    assert agreement("e", "relevance", "stranger", np.ones(10), exact, 0.9).verdict == "undefined"
    # t(0.95, 8 degrees of freedom) = 1.859548, and r = t / √(8 + t²). The exact tables (Zar 1984) have 0.564.
    assert perfect.chance == pytest.approx(1.859548 / np.sqrt(8 + 1.859548**2), rel=1e-6)


def test_a_fixed_map_agrees_with_nothing_that_is_specific_to_a_pair() -> None:
    rng = np.random.default_rng(2)
    common, own = rng.random(10), 0.1 * rng.normal(size=(30, 10))
    exact = common + own
    assert np.isnan(specific_agreement(np.tile(common, (30, 1)), exact)).all()
    assert np.mean(specific_agreement(exact / exact.sum(axis=1, keepdims=True), exact)) > 0.9
    other = rng.random((30, 10))
    assert abs(np.mean(specific_agreement(common + other, exact))) < 0.2
