"""The bridges give the libraries' own numbers; what they cannot do is refused with the reason."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import faithface
from faithface.contract import FaceModel, Samples
from faithface.errors import UsageError
from faithface.plugins import load_registry
from faithface_plugins.quantus_bridge import import_quantus

CLOSE = 1e-6


@pytest.fixture(scope="module")
def registry():
    return load_registry(only=[])


def explained(registry, text: str, model: FaceModel, samples: Samples) -> torch.Tensor:
    return registry.explainer(text).object.explain(model, samples).headline


@pytest.mark.parametrize(
    ("text", "call"),
    [
        ("captum:InputXGradient", lambda attr, f, x, c: attr.InputXGradient(f).attribute(x, target=c)),
        ("captum:Saliency(abs=False)", lambda attr, f, x, c: attr.Saliency(f).attribute(x, target=c, abs=False)),
        (
            "captum:IntegratedGradients(n_steps=7)",
            lambda attr, f, x, c: attr.IntegratedGradients(f).attribute(x, target=c, n_steps=7),
        ),
        (
            "captum:IntegratedGradients(multiply_by_inputs=False,n_steps=7)",
            lambda attr, f, x, c: attr.IntegratedGradients(f, False).attribute(x, target=c, n_steps=7),
        ),
    ],
)
def test_captum_s_own_numbers(registry, text: str, call, tiny_model: FaceModel, tiny_samples: Samples) -> None:
    import captum.attr

    got = explained(registry, text, tiny_model, tiny_samples)
    want = call(captum.attr, tiny_model.twin, tiny_samples.images.clone(), tiny_samples.clean.predicted).sum(dim=1)
    assert (got - want.detach()).abs().max() <= CLOSE * want.abs().max()
    assert registry.explainer(text).spec == text


@pytest.mark.parametrize("name", ["GradCAM", "EigenGradCAM", "LayerCAM", "GradCAMElementWise"])
def test_pytorch_grad_cam_s_own_numbers(registry, name: str, tiny_model, tiny_samples: Samples) -> None:
    got = explained(registry, f"grad-cam:{name}", tiny_model, tiny_samples)
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    twin = tiny_model.twin
    layer = getattr(twin.network, twin.network.mapping[twin.find_layer("").name])
    targets = [ClassifierOutputTarget(int(c)) for c in tiny_samples.clean.predicted]
    with getattr(pytorch_grad_cam, name)(model=twin, target_layers=[layer]) as cam:
        want = cam(input_tensor=tiny_samples.images.clone().requires_grad_(True), targets=targets)
    assert np.abs(got.numpy() - want).max() <= CLOSE


@pytest.mark.parametrize("text", ["captum:InputXGradient", "grad-cam:GradCAM"])
def test_pairs_get_both_maps(registry, text: str, tiny_verifier: FaceModel, tiny_pairs: Samples) -> None:
    maps = registry.explainer(text).object.explain(tiny_verifier, tiny_pairs)
    assert maps.similarity.shape == maps.dissimilarity.shape == (8, 2, 32, 32)
    assert maps.similarity.min() >= 0
    assert maps.dissimilarity.min() >= 0


@pytest.mark.parametrize(
    ("text", "arguments"),
    [("Sparseness", {}), ("Complexity", {}), ("PixelFlipping(features_in_step=128)", {"features_in_step": 128})],
)
def test_quantus_s_own_numbers(registry, text: str, arguments, tiny_model: FaceModel, tiny_samples: Samples) -> None:
    maps = registry.explainer("saliency").object.explain(tiny_model, tiny_samples)
    metric = registry.metric(f"quantus:{text}")
    got = metric.object.score(tiny_model, tiny_samples, maps).values[""]
    quantus = import_quantus()
    kind = getattr(quantus, text.partition("(")[0])
    want = []
    for i in range(8):
        found = kind(**arguments, disable_warnings=True)(
            model=tiny_model.twin,
            x_batch=tiny_samples.images[i : i + 1].numpy(),
            y_batch=tiny_samples.clean.predicted[i : i + 1].numpy(),
            a_batch=maps.relevance[i : i + 1, None].numpy(),
            device="cpu",
        )
        want.append(np.asarray(found, dtype=float))
    if want[0].size == 1:
        np.testing.assert_allclose(got, np.ravel(want), rtol=CLOSE, atol=CLOSE)
    else:
        assert np.isnan(got).all()
    assert metric.object.protocol.family == "description"


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        ("explainer", "captum:IntegratdGradients", 'did you mean "IntegratedGradients"'),
        ("explainer", "captum:IntegratedGradients(steps=7)", 'no argument "steps"; did you mean "n_steps"'),
        ("explainer", "captum:LayerGradCam", "to a layer or neuron"),
        ("explainer", "grad-cam:GradCm", 'did you mean "GradCAM"'),
        ("metric", "quantus:Sparsness", 'did you mean "Sparseness"'),
        ("metric", "quantus:Sparseness(nothing=1)", "nothing"),
        ("metric", "entropy@1:x", "takes no argument"),
    ],
)
def test_what_the_libraries_do_not_have_is_refused(registry, kind: str, text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        getattr(registry, kind)(text)


def test_bridges_run_as_any_other_explainer_and_metric() -> None:
    result = faithface.evaluate(
        "planted-pad-guided-0",
        "planted-pad",
        ["captum:InputXGradient", "grad-cam:GradCAM"],
        ["entropy@1", "quantus:Sparseness"],
        limit=2,
    )
    assert not result.failures
    assert set(result.values["metric"]) == {"entropy@1", "quantus:Sparseness"}
    assert len(result.values) == 8


def test_all_explainers_means_those_that_need_no_argument(registry, tiny_model: FaceModel) -> None:
    from faithface.figures import choose_explainers

    names = {one.spec for one in choose_explainers(registry, ["all"], tiny_model.card)}
    assert {"grad-cam", "saliency", "rise"} <= names
    assert not {"inverted", "maps", "captum", "oracle"} & names
