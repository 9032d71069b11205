"""out-of-set-shift@1: its mean is an AUC, counted once per model and explainer, and refused where it cannot apply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import hypothesis.extra.numpy as npst
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from faithface.contract import Dataset, FaceModel, Maps, Sample, Samples
from faithface.errors import NotApplicable
from faithface.loading import load_samples
from faithface.metrics.out_of_set_shift import OutOfSetShift, chosen_items, placement
from faithface.model import open_model
from faithface.reasons import ReasonCode
from tests.metrics.made import codes
from tests.metrics.toy_explainers import Brightness, Changed, Constant, Counting, Gradient, Precomputed
from tests.reference.map_similarity import slow_ssim
from tests.reference.stability import one_map, probe, salt_and_pepper
from tests.support.applies import check
from tests.support.networks import faces, tiny

METRIC = OutOfSetShift()
STEPS = st.integers(0, 5).map(float)


@dataclass(frozen=True)
class Toy(Dataset):
    """Coloured blobs; the out-of-set partner has other ones, or none."""

    n: int = 4
    seed: int = 0
    partner: int = 5
    size: int = 12

    name = "toy"
    task = "pad"
    classes = ("bona-fide", "attack")
    positive = "attack"

    def items(self) -> Sequence[Sample]:
        made = faces(self.n, self.size, self.seed)
        return [Sample(f"{self.seed}--{i}", face, self.classes[i % 2]) for i, face in enumerate(made)]

    def out_of_set(self) -> Dataset | None:
        return Toy(self.partner, self.seed + 1, 0, self.size) if self.partner else None


@pytest.fixture
def model(tmp_path_factory: pytest.TempPathFactory) -> FaceModel:
    return open_model(tiny("cnn", "pad", tmp_path_factory.mktemp("m"), size=12))


def loaded(model: FaceModel, dataset: Dataset) -> Samples:
    return load_samples(model, dataset.items(), dataset=dataset)


@settings(max_examples=80, deadline=None)
@given(
    npst.arrays(np.float64, st.integers(1, 8), elements=STEPS),
    npst.arrays(np.float64, st.integers(1, 8), elements=STEPS),
)
def test_the_mean_placement_is_the_area_under_the_roc_curve_with_ties(own: np.ndarray, others: np.ndarray) -> None:
    truth = np.concatenate([np.zeros(len(own)), np.ones(len(others))])
    expected = roc_auc_score(truth, np.concatenate([own, others]))
    got = placement(own, others)
    assert got.mean() == pytest.approx(expected, abs=1e-12)
    assert ((got >= 0) & (got <= 1)).all()


def test_it_equals_the_slow_version_pair_of_samples_by_pair(model: FaceModel) -> None:
    dataset = Toy()

    def slow(samples: Samples) -> list[tuple[float, float]]:
        found = []
        for i in range(len(samples)):
            one = samples.take([i])
            m = one_map(model, one, Gradient()).astype(np.float64)
            p = np.abs(m).ravel() / np.abs(m).sum()
            entropy = -sum(v * np.log2(v) for v in p if v > 0) / np.log2(len(p))
            noisy = salt_and_pepper(probe(one), 0.05, one.rng(0, "salt-and-pepper"))
            found.append((entropy, 1 - slow_ssim(m, one_map(model, one, Gradient(), noisy))))
        return found

    samples = loaded(model, dataset)
    own, others = slow(samples), slow(loaded(model, dataset.out_of_set()))
    got = METRIC.score(model, samples, Gradient().explain(model, samples), Gradient())
    np.testing.assert_allclose(got.curves["statistics"], own, atol=1e-5)
    for k, name in enumerate(METRIC.protocol.value_names):
        expected = [np.mean([(b[k] > a[k]) + 0.5 * (b[k] == a[k]) for b in others]) for a in own]
        np.testing.assert_allclose(got.values[name], expected, atol=1e-9)


def test_explainers_that_ignore_the_image_tie_at_a_half(model: FaceModel) -> None:
    samples = loaded(model, Toy())
    got = METRIC.score(model, samples, Constant().explain(model, samples), Constant())
    for name in METRIC.protocol.value_names:
        np.testing.assert_array_equal(got.values[name], 0.5)
    assert len(got.flags) == 4


def test_an_explainer_that_spreads_on_out_of_set_images_scores_1_and_the_reverse_0(model: FaceModel) -> None:
    samples = loaded(model, Toy())

    def one_hot(maps: torch.Tensor) -> torch.Tensor:
        return (maps == maps.amax(dim=(1, 2), keepdim=True)).float()

    spread, point = Brightness(), Changed(Brightness(), one_hot)
    # The explainer handed to the metric makes the out-of-set maps, the maps handed to it are the in-set ones.
    assert METRIC.score(model, samples, point.explain(model, samples), spread).values[""].tolist() == [1.0] * 4
    assert METRIC.score(model, samples, spread.explain(model, samples), point).values[""].tolist() == [0.0] * 4


def test_maps_times_a_thousandth_score_the_same(model: FaceModel) -> None:
    samples = loaded(model, Toy())
    small = Changed(Gradient(), lambda m: m * 0.001)
    a = METRIC.score(model, samples, Gradient().explain(model, samples), Gradient())
    b = METRIC.score(model, samples, small.explain(model, samples), small)
    np.testing.assert_allclose(a.curves["statistics"], b.curves["statistics"], atol=1e-5)
    np.testing.assert_array_equal(a.values[""], b.values[""])


def test_the_out_of_set_samples_are_explained_once_for_all_shards(model: FaceModel) -> None:
    dataset = Toy()
    samples = loaded(model, dataset)
    counting = Counting(Gradient())
    maps = Gradient().explain(model, samples)
    whole = METRIC.score(model, samples, maps, Gradient())
    parts = []
    for half in ([0, 1], [2, 3]):
        got = METRIC.score(model, samples.take(half), maps.take(half), Gradient())
        parts.append(got.values[""])
    np.testing.assert_array_equal(np.concatenate(parts), whole.values[""])
    METRIC.score(model, samples.take([0]), maps.take([0]), counting)
    assert len(counting.seen) == 3  # the second dataset, its noisy images, and the one noisy in-set image


def test_n_limits_the_out_of_set_samples_to_a_seeded_choice() -> None:
    dataset = Toy(n=30)
    assert chosen_items(dataset, 30, 0) == list(range(30))
    few = chosen_items(dataset, 10, 0)
    assert few == chosen_items(dataset, 10, 0) == sorted(set(few))
    assert len(few) == 10
    assert few != chosen_items(dataset, 10, 1)


def test_an_invalid_map_has_no_value_and_a_reason(model: FaceModel) -> None:
    samples = loaded(model, Toy())
    maps = Brightness().explain(model, samples).relevance.clone()
    maps[2, 0, 0] = float("nan")
    got = METRIC.score(model, samples, Maps(relevance=maps), Brightness())
    assert np.isnan(got.values[""]).tolist() == [False, False, True, False]
    assert codes(got.reasons) == {2: ReasonCode.NON_FINITE_MAP}


def test_it_is_refused_before_the_run_without_partner_or_with_precomputed_maps(model: FaceModel) -> None:
    check(METRIC, model.card, Toy(), Gradient())
    with pytest.raises(NotApplicable, match="needs an out-of-set partner; the dataset has none"):
        check(METRIC, model.card, Toy(partner=0), Gradient())
    with pytest.raises(NotApplicable, match="explains altered images again"):
        check(METRIC, model.card, Toy(), Precomputed())
    with pytest.raises(ValueError, match="n is 0"):
        OutOfSetShift(n=0)
