"""Score-CAM, Ablation-CAM and CAM against pytorch-grad-cam and against what their definitions imply."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from faithface.card import OutputCard
from faithface.errors import NotApplicable, UsageError
from faithface.model import OnnxModel
from faithface.model._torchvision import import_onnx2pytorch
from faithface_plugins.explainers import cam_math
from faithface_plugins.explainers.ablation_cam import AblationCam
from faithface_plugins.explainers.cam_head import Cam
from faithface_plugins.explainers.score_cam import ScoreCam
from tests.support.networks import build

import_onnx2pytorch()  # makes torchvision importable, which pytorch_grad_cam imports
import pytorch_grad_cam as pgc  # noqa: E402
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget  # noqa: E402

RELU = "/features/features.5/Relu_output_0"


@pytest.mark.parametrize("kind", ["cnn", "arcface"])
def test_score_cam_equals_pytorch_grad_cam(opened: Callable[..., Any], kind: str) -> None:
    model, samples = opened(kind, n=2)
    net = build(kind, 2, 32)
    layer, name = (net.features[5], RELU) if kind == "cnn" else (net.norm, "/down/Conv_output_0")
    targets = [ClassifierOutputTarget(int(c)) for c in samples.clean.predicted]
    with pgc.ScoreCAM(model=net, target_layers=[layer]) as run:
        expected = run(input_tensor=(samples.images - 0.5) / 0.5, targets=targets)
    found = ScoreCam(layer=name, fill="mean").explain(model, samples).relevance
    assert expected.std() > 0.01
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_score_cam_of_a_pair_weighs_dissimilarity_by_the_negated_cosine(opened: Callable[..., Any]) -> None:
    model, samples = opened("cnn", "verification", n=1)
    views = samples.views()
    values = model.activations(views.images, None).values
    large = torch.nn.functional.interpolate(values, size=(32, 32), mode="bilinear", align_corners=True)
    net = build("cnn", 16, 32)
    maps = ScoreCam().explain(model, samples)
    for i in (0, 1):
        y = []
        for channel in large[i]:
            mask = (channel - channel.min()) / (channel.max() - channel.min() + 1e-8)
            with torch.no_grad():
                out = net((views.images[i] * mask - 0.5)[None] / 0.5)
            y.append(torch.cosine_similarity(out, views.target.reference[i][None])[0])
        both = [(torch.softmax(s * torch.stack(y), 0)[:, None, None] * values[i]).sum(0) for s in (1, -1)]
        top = max(m.max() for m in both)
        for kind, m in zip(("similarity", "dissimilarity"), both, strict=True):
            expected = cam_math.resize(m.clamp(min=0) / top, (32, 32))
            np.testing.assert_allclose(maps.named()[kind][0, i], expected, atol=1e-4)


def test_ablation_cam_equals_pytorch_grad_cam_where_the_score_is_positive(opened: Callable[..., Any]) -> None:
    """A constant added to the score makes it positive and leaves every fall of it as it is."""
    model, samples = opened("cnn", n=3)
    net = build("cnn", 2, 32)
    found = AblationCam().explain(model, samples).relevance
    for i, c in enumerate(samples.clean.predicted.tolist()):
        assert model.activations(samples.images[i : i + 1], None).values.min() == 0
        with pgc.AblationCAM(model=net, target_layers=[net.features[5]], batch_size=5) as run:
            image = (samples.images[i : i + 1] - 0.5) / 0.5
            expected = run(input_tensor=image, targets=[lambda out, c=c: out[c] + 0.5])
        assert samples.clean.outputs[i, c] > -0.5
        np.testing.assert_allclose(found[i], expected[0], atol=1e-4)


@pytest.mark.parametrize("kind", ["cnn", "vit", "fixed-batch"])
def test_ablation_weights_are_the_falls_of_the_score_channel_by_channel(opened: Callable[..., Any], kind: str) -> None:
    """Each channel of the layer is set to 0 in its own forward pass of the torch network."""
    model, samples = opened(kind, n=1)
    net = build(kind, 2, 32)
    layer = net.blocks[1].norm1 if kind == "vit" else net.features[5]
    predicted = int(samples.clean.predicted[0])
    image = (samples.images - 0.5) / 0.5
    caught: list[torch.Tensor] = []

    def run_without(channel: int | None) -> torch.Tensor:
        def hook(_m: Any, _i: Any, out: torch.Tensor) -> torch.Tensor:
            caught.append(out)
            out = out.clone()
            if channel is not None:
                out[(..., channel) if kind == "vit" else (slice(None), channel)] = 0
            return out

        handle = layer.register_forward_hook(hook)
        with torch.no_grad():
            y = net(image)[0, predicted]
        handle.remove()
        return y

    y = run_without(None)
    grid = caught[0][:, 1:].transpose(1, 2).unflatten(2, (8, 8)) if kind == "vit" else caught[0]
    weights = torch.stack([y - run_without(k) for k in range(16)])
    expected, _ = cam_math.classifier_maps((weights[None, :, None, None] * grid).sum(1), (32, 32))
    assert expected.std() > 0.01
    np.testing.assert_allclose(AblationCam().explain(model, samples).relevance, expected, atol=1e-3)


def test_ablation_cam_of_a_pair_mirrors_its_weights(opened: Callable[..., Any]) -> None:
    model, samples = opened("cnn", "verification")
    maps = AblationCam().explain(model, samples)
    coarse = maps.native.flatten(0, 1)
    # Where similarity is positive on the coarse grid, dissimilarity is 0 there: one signed map, split.
    signed = cam_math.resize(coarse, (32, 32))
    np.testing.assert_allclose(maps.similarity.flatten(0, 1), signed, atol=1e-6)
    assert maps.dissimilarity.max() > 0


@pytest.mark.parametrize(("explainer", "extra"), [(ScoreCam(), 16), (AblationCam(), 16)], ids=["score", "ablation"])
def test_the_stated_cost_is_what_is_counted(opened: Callable[..., Any], explainer: Any, extra: int) -> None:
    model, samples = opened("cnn", n=2)
    before = model.passes.forward, model.passes.backward
    explainer.explain(model, samples)
    assert (model.passes.forward - before[0], model.passes.backward - before[1]) == (2 * (1 + extra), 0)


@pytest.mark.parametrize("kind", ["cnn", "depthwise", "grey", "one-unit"])
def test_the_mean_of_the_cam_plus_the_bias_is_the_logit(opened: Callable[..., Any], kind: str) -> None:
    model, samples = opened(kind)
    bias = build(kind, 2, 32).head.bias.detach()
    predicted = samples.clean.predicted
    shift = bias[predicted] if kind != "one-unit" else bias * (predicted * 2 - 1)
    logit = samples.views().target.score(model.card, samples.clean.outputs)
    native = Cam().explain(model, samples).native
    torch.testing.assert_close(native.mean((1, 2)) + shift, logit, atol=1e-5, rtol=1e-4)


def test_the_mean_of_a_pairs_cam_plus_the_biass_part_is_the_cosine(opened: Callable[..., Any]) -> None:
    model, samples = opened("cnn", "verification")
    bias = build("cnn", 16, 32).head.bias.detach()
    maps = Cam().explain(model, samples)
    values = model.activations(samples.views().images, None).values.unflatten(0, (len(samples), 2))
    weight = build("cnn", 16, 32).head.weight.detach()
    for n in range(len(samples)):
        for side in (0, 1):
            f, r = samples.clean.outputs[n, side], samples.clean.outputs[n, 1 - side]
            signed = torch.einsum("d,dk,khw->hw", r / r.norm(), weight, values[n, side]) / f.norm()
            torch.testing.assert_close(maps.native[n, side], signed.clamp(min=0), atol=1e-5, rtol=1e-4)
            part = (bias @ r) / (r.norm() * f.norm())
            torch.testing.assert_close(signed.mean() + part, samples.clean.scores[n], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("kind", "reason"), [("arcface", "differently"), ("vit", "not linear"), ("linear", "no feature")]
)
def test_cam_says_why_a_head_is_not_its_own(opened: Callable[..., Any], kind: str, reason: str) -> None:
    with pytest.raises(NotApplicable, match=reason):
        Cam().explain(*opened(kind))


@pytest.mark.parametrize("made", [ScoreCam, AblationCam])
def test_an_unknown_layer_is_refused_with_candidates(opened: Callable[..., Any], made: Any) -> None:
    with pytest.raises(UsageError, match="no layer 'nope'"):
        made(layer="nope").explain(*opened("cnn"))


def test_cam_needs_a_cosine(opened: Callable[..., Any]) -> None:
    model, samples = opened("cnn", "verification")
    euclidean = OutputCard(kind="embedding", similarity="euclidean")
    other = OnnxModel(model.card.model_copy(update={"output": euclidean}), "cpu", 4)
    with pytest.raises(NotApplicable, match="euclidean distance is not a sum"):
        Cam().explain(other, samples)
