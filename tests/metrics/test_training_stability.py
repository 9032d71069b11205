"""training-stability@1: the slow version, the published 8-bit rule, and its refusals before a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from faithface.contract import Dataset, Maps, Samples
from faithface.errors import NotApplicable, UsageError
from faithface.metrics.training_stability import TrainingStability
from faithface.model import open_model
from faithface.reasons import Reason, ReasonCode
from tests.reference.map_similarity import slow_spearman, slow_ssim
from tests.reference.stability import slow_training_stability
from tests.support.networks import pair_batch, sample_batch, tiny

METRIC = TrainingStability()


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    return sample_batch(open_model(tiny("cnn", "pad", tmp_path_factory.mktemp("m"), size=16)), 3)


def random_runs(n: int, count: int = 3, native: int = 7, size: int = 16) -> dict[str, Maps]:
    torch.manual_seed(0)
    base = torch.rand(count, native, native)
    runs = {}
    for i in range(n):
        small = base + 0.5 * torch.rand(count, native, native)
        large = torch.nn.functional.interpolate(small[:, None], size=(size, size), mode="bilinear")[:, 0]
        runs[f"run-{i}"] = Maps(relevance=large, native=small)
    return runs


def test_it_equals_the_slow_version_over_all_pairs_of_runs(samples: Samples) -> None:
    runs = random_runs(4)
    got = METRIC.score_family(runs, samples)
    for i in range(3):
        small = [maps.native[i].numpy() for maps in runs.values()]
        large = [maps.relevance[i].numpy() for maps in runs.values()]
        pairs = [(a, b) for a in range(4) for b in range(a + 1, 4)]
        np.testing.assert_allclose(got.curves["ssim"][i], slow_training_stability(small), atol=1e-9)
        np.testing.assert_allclose(
            got.curves["spearman"][i], [slow_spearman(small[a], small[b]) for a, b in pairs], atol=1e-9
        )
        np.testing.assert_allclose(
            got.curves["input-size"][i], [slow_ssim(large[a], large[b]) for a, b in pairs], atol=1e-9
        )
        np.testing.assert_allclose(
            got.curves["input-size-spearman"][i], [slow_spearman(large[a], large[b]) for a, b in pairs], atol=1e-9
        )
        assert got.values[""][i] == pytest.approx(np.mean(slow_training_stability(small)))


def test_the_headline_is_scikit_images_on_the_stored_8_bit_maps(samples: Samples) -> None:
    runs = random_runs(2)
    stored = []
    for maps in runs.values():
        m = maps.native.double().numpy()
        low, high = m.min(axis=(1, 2), keepdims=True), m.max(axis=(1, 2), keepdims=True)
        stored.append(((m - low) / (high - low) * 255).astype(np.uint8))
    expected = [structural_similarity(stored[0][i], stored[1][i]) for i in range(3)]
    np.testing.assert_allclose(METRIC.score_family(runs, samples).values[""], expected, atol=1e-9)


def test_ten_runs_make_45_pairs_in_an_order_that_does_not_depend_on_the_mapping(samples: Samples) -> None:
    runs = random_runs(10)
    got = METRIC.score_family(runs, samples)
    assert got.curves["ssim"].shape == (3, 45)
    backwards = METRIC.score_family(dict(reversed(runs.items())), samples)
    np.testing.assert_array_equal(got.curves["ssim"], backwards.curves["ssim"])


def test_equal_runs_score_1_and_inverted_ones_below_0(samples: Samples) -> None:
    one = random_runs(1)["run-0"]
    same = METRIC.score_family({"a": one, "b": one}, samples)
    for name in METRIC.protocol.value_names:
        np.testing.assert_allclose(same.values[name], 1.0, atol=1e-9)
    inverted = METRIC.score_family({"a": one, "b": Maps(relevance=-one.relevance, native=-one.native)}, samples)
    assert (inverted.values[""] < 0).all()
    np.testing.assert_allclose(inverted.values["spearman"], -1.0, atol=1e-9)


def test_one_run_with_maps_times_a_power_of_two_scores_the_same(samples: Samples) -> None:
    runs = random_runs(3)
    first = runs["run-0"]
    scaled = {**runs, "run-0": Maps(relevance=first.relevance / 1024, native=first.native / 1024)}
    a, b = METRIC.score_family(runs, samples), METRIC.score_family(scaled, samples)
    for name in METRIC.protocol.value_names:
        # The division is exact, so that not one of the 255 grey levels may move.
        np.testing.assert_allclose(a.values[name], b.values[name], rtol=0, atol=1e-12)


def test_maps_below_7_by_7_and_maps_without_a_native_size_are_scored(samples: Samples) -> None:
    tiny_native = METRIC.score_family(random_runs(2, native=2), samples)
    assert np.isfinite(tiny_native.values[""]).all()
    bare = {name: Maps(relevance=maps.relevance) for name, maps in random_runs(2).items()}
    got = METRIC.score_family(bare, samples)
    np.testing.assert_allclose(got.values["spearman"], got.values["input-size-spearman"], atol=1e-12)


def test_pairs_are_judged_by_the_probes_similarity_map_and_on_genuine_pairs_only(tmp_path: Path) -> None:
    model = open_model(tiny("cnn", "verification", tmp_path, size=16))
    pairs = pair_batch(model, 4)
    genuine = pairs.take(pairs.where(METRIC.judged_on))
    assert genuine.genuine.all()
    both = {name: torch.rand(2, 2, 16, 16) for name in ("a", "b")}
    runs = {name: Maps(similarity=m, dissimilarity=torch.rand(2, 2, 16, 16)) for name, m in both.items()}
    got = METRIC.score_family(runs, genuine)
    expected = [slow_ssim(both["a"][i, 0].numpy(), both["b"][i, 0].numpy()) for i in range(2)]
    np.testing.assert_allclose(got.values["input-size"], expected, atol=1e-9)


def test_constant_maps_are_flagged_and_invalid_ones_have_no_value(samples: Samples) -> None:
    runs = random_runs(3)
    runs["run-1"].relevance[0] = 1.0
    runs["run-2"].native[1, 0, 0] = float("nan")
    got = METRIC.score_family(runs, samples)
    assert got.flags == {0: Reason(ReasonCode.CONSTANT_MAP, "run-1: constant map")}
    assert got.reasons == {1: Reason(ReasonCode.NON_FINITE_MAP, "run-2: the map is not finite")}
    assert np.isnan(got.values[""]).tolist() == [False, True, False]


def test_it_says_beforehand_or_at_once_why_it_cannot_apply(tmp_path: Path, samples: Samples) -> None:
    class Empty(Dataset):
        def items(self) -> list:  # type: ignore[override]
            return []

    lone = tiny("cnn", "pad", tmp_path, size=16)
    with pytest.raises(NotApplicable, match="names none: give its card"):
        METRIC.check(lone, Empty())
    METRIC.check(lone.model_copy(update={"family": "f"}), Empty())
    with pytest.raises(NotApplicable, match=r"at least two runs of a family, got 1 \(run-0\)"):
        METRIC.score_family(random_runs(1), samples)
    with pytest.raises(NotApplicable, match="use score_family"):
        METRIC.score(open_model(lone), samples, random_runs(1)["run-0"])
    mixed = {"a": random_runs(1)["run-0"], "b": random_runs(1, native=5)["run-0"]}
    with pytest.raises(UsageError, match="differ in size"):
        METRIC.score_family(mixed, samples)
