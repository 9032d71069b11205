"""randomisation@1: against torch's own network, randomised by hand; the graph surgery; and known answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from faithface.contract import Explainer, FaceModel, Maps, Method, Samples
from faithface.errors import NotApplicable
from faithface.metrics.randomisation import Randomisation, learned_layers, levels, randomised_model, randomised_proto
from faithface.model import open_model
from faithface.reasons import ReasonCode
from tests.metrics.made import codes
from tests.metrics.toy_explainers import Brightness, Changed, Constant, Gradient, Noise, Precomputed
from tests.reference.map_similarity import slow_spearman, slow_ssim
from tests.reference.randomisation import class_gradient, cosine_gradient, randomise_top
from tests.support.networks import build, pair_batch, sample_batch, tiny

METRIC = Randomisation()


@pytest.fixture(scope="module")
def pad(tmp_path_factory: pytest.TempPathFactory) -> tuple[FaceModel, Samples]:
    model = open_model(tiny("cnn", "pad", tmp_path_factory.mktemp("m"), size=12))
    return model, sample_batch(model, 2)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> tuple[FaceModel, Samples]:
    model = open_model(tiny("cnn", "verification", tmp_path_factory.mktemp("m"), size=12))
    return model, pair_batch(model, 2)


def test_on_a_classifier_it_equals_torchs_network_randomised_by_hand(pad: tuple[FaceModel, Samples]) -> None:
    model, samples = pad
    got = METRIC.score(model, samples, Gradient().explain(model, samples), Gradient())
    assert got.curves["layers"].tolist() == [[0.25, 0.5, 0.75, 1.0]] * 2
    for i in range(2):
        image, chosen = samples.images[i].numpy(), int(samples.clean.predicted[i])
        clean = class_gradient(build("cnn", 2, 12), image, chosen)
        again = [class_gradient(randomise_top(build("cnn", 2, 12), k, 0), image, chosen) for k in (1, 2, 3, 4)]
        spearman = [slow_spearman(clean, m) for m in again]
        # Float gradients of two frameworks rank nearly equal pixels differently.
        np.testing.assert_allclose(got.curves["spearman"][i], spearman, atol=1e-4)
        np.testing.assert_allclose(got.curves["ssim"][i], [slow_ssim(clean, m) for m in again], atol=1e-4)
        assert got.values[""][i] == pytest.approx(np.mean(np.abs(spearman)), abs=1e-4)
        assert got.values["all-layers"][i] == pytest.approx(abs(spearman[-1]), abs=1e-4)


def test_on_pairs_both_faces_are_embedded_by_the_randomised_network(faces: tuple[FaceModel, Samples]) -> None:
    model, samples = faces
    got = METRIC.score(model, samples, Gradient().explain(model, samples), Gradient())
    a, b = samples.images[0].numpy()
    clean = cosine_gradient(build("cnn", 16, 12), a, b).clip(min=0)
    again = [cosine_gradient(randomise_top(build("cnn", 16, 12), k, 0), a, b).clip(min=0) for k in (1, 2, 3, 4)]
    np.testing.assert_allclose(got.curves["spearman"][0], [slow_spearman(clean, m) for m in again], atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "layers"), [("cnn", 4), ("depthwise", 6), ("arcface", 5), ("vit", 10), ("linear", 1), ("fixed-batch", 4)]
)
def test_every_learned_layer_of_every_kind_of_network_is_found(kind: str, layers: int, tmp_path: Path) -> None:
    proto = onnx.load(tiny(kind, "pad", tmp_path, size=16).path)
    assert len(learned_layers(proto.graph)) == layers


def test_only_the_chosen_layers_change_and_keep_shape_type_mean_and_deviation(pad: tuple[FaceModel, Samples]) -> None:
    proto = pad[0].proto  # type: ignore[attr-defined]
    before = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    copy = randomised_proto(proto, 2, 0)
    after = {t.name: numpy_helper.to_array(t) for t in copy.graph.initializer}
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {"head.weight", "head.bias", "features.4.weight", "features.4.bias"}
    weight = "features.4.weight"
    assert (after[weight].shape, after[weight].dtype) == (before[weight].shape, before[weight].dtype)
    # Drawn anew from a normal distribution of the same mean and deviation: within four standard errors of each.
    n, deviation = before[weight].size, before[weight].std()
    assert after[weight].std() == pytest.approx(deviation, rel=4 / np.sqrt(2 * n))
    assert after[weight].mean() == pytest.approx(before[weight].mean(), abs=4 * deviation / np.sqrt(n))
    unchanged = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    assert all(np.array_equal(before[name], unchanged[name]) for name in before)


def test_a_deeper_level_keeps_the_weights_of_the_shallower_one_and_a_seed_decides_them(
    pad: tuple[FaceModel, Samples],
) -> None:
    proto = pad[0].proto  # type: ignore[attr-defined]

    def head(layers: int, seed: int) -> np.ndarray:
        copy = randomised_proto(proto, layers, seed)
        return next(numpy_helper.to_array(t) for t in copy.graph.initializer if t.name == "head.weight")

    np.testing.assert_array_equal(head(1, 0), head(4, 0))
    assert not np.array_equal(head(1, 0), head(1, 1))


def test_the_intact_network_stays_intact_and_the_twin_follows_the_randomised_one(
    pad: tuple[FaceModel, Samples],
) -> None:
    model, samples = pad
    before = model.outputs(samples.images)
    net = randomised_model(model, 4, 0)
    assert torch.equal(model.outputs(samples.images), before)
    assert not torch.allclose(net.outputs(samples.images), before, atol=1e-2)
    with torch.no_grad():
        torch.testing.assert_close(net.twin(samples.images), net.outputs(samples.images), atol=1e-4, rtol=1e-4)
    assert randomised_model(model, 4, 0) is net


def test_an_explainer_that_never_asks_the_network_fails_the_check(pad: tuple[FaceModel, Samples]) -> None:
    model, samples = pad
    for explainer in (Noise(), Brightness(), Constant()):
        got = METRIC.score(model, samples, explainer.explain(model, samples), explainer)
        np.testing.assert_allclose(got.values[""], 1.0, atol=1e-9)
        np.testing.assert_allclose(got.values["ssim"], 1.0, atol=1e-9)
    assert codes(got.flags) == {0: ReasonCode.CONSTANT_MAP, 1: ReasonCode.CONSTANT_MAP}


def test_an_explainer_that_depends_on_the_weights_alone_passes_it(pad: tuple[FaceModel, Samples]) -> None:
    @dataclass(frozen=True)
    class Weights(Explainer):
        method = Method(
            name="toy-weights",
        )

        def explain(self, model: FaceModel, samples: Samples) -> Maps:
            seed = int(1e6 * float(model.outputs(samples.images[:1]).abs().sum()))
            rng = np.random.default_rng(seed)
            return Maps(relevance=torch.from_numpy(rng.random((len(samples), 12, 12), dtype=np.float32)))

    model, samples = pad
    got = METRIC.score(model, samples, Weights().explain(model, samples), Weights())
    assert (got.values[""] < 0.25).all()


def test_maps_times_a_thousandth_score_the_same(pad: tuple[FaceModel, Samples]) -> None:
    model, samples = pad
    small = Changed(Gradient(), lambda m: m * 0.001)
    a = METRIC.score(model, samples, Gradient().explain(model, samples), Gradient())
    b = METRIC.score(model, samples, small.explain(model, samples), small)
    for name in METRIC.protocol.value_names:
        np.testing.assert_allclose(a.values[name], b.values[name], atol=1e-5)


def test_the_passes_of_the_randomised_networks_are_counted(pad: tuple[FaceModel, Samples]) -> None:
    model, samples = pad
    maps = Gradient().explain(model, samples)
    before = (model.passes.forward, model.passes.backward)
    METRIC.score(model, samples, maps, Gradient())
    # Four levels, each with one pass for the score and one forward and backward pass for the gradient.
    assert model.passes.forward - before[0] == 4 * 2 * 2
    assert model.passes.backward - before[1] == 4 * 2


def test_levels_run_from_the_last_layer_alone_to_all_layers() -> None:
    assert levels(54, 5) == [1, 14, 28, 41, 54]
    assert levels(3, 5) == [1, 2, 3]
    assert levels(1, 5) == [1]
    assert levels(9, 1) == [9]


def test_it_is_refused_without_weights_explainer_or_steps(
    pad: tuple[FaceModel, Samples], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, samples = pad
    maps = Brightness().explain(model, samples)
    with pytest.raises(NotApplicable, match="precomputed maps cannot"):
        METRIC.score(model, samples, maps, Precomputed())
    with pytest.raises(ValueError, match="steps is 0"):
        Randomisation(steps=0)
    empty = onnx.ModelProto()
    monkeypatch.setattr(type(model), "proto", empty)
    with pytest.raises(NotApplicable, match="has none that are stored as such"):
        METRIC.score(model, samples, maps, Brightness())


def test_an_invalid_map_has_no_value(pad: tuple[FaceModel, Samples]) -> None:
    model, samples = pad
    maps = Brightness().explain(model, samples).relevance.clone()
    maps[1, 0, 0] = float("nan")
    got = METRIC.score(model, samples, Maps(relevance=maps), Brightness())
    assert np.isnan(got.values[""]).tolist() == [False, True]
    assert codes(got.reasons) == {1: ReasonCode.NON_FINITE_MAP}
