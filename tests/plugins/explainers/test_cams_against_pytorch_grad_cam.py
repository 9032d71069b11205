"""The gradient CAMs give pytorch-grad-cam's numbers: it sees the torch network, faithface the exported ONNX file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from faithface.model._torchvision import import_onnx2pytorch
from faithface_plugins.explainers.cams import EigenCam, GradCam, GradCamPlusPlus, HiResCam, LayerCam, XGradCam
from tests.support.networks import build

import_onnx2pytorch()  # makes torchvision importable, which pytorch_grad_cam imports
import pytorch_grad_cam as pgc  # noqa: E402
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget  # noqa: E402
from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection_with_sign_correction  # noqa: E402

CAMS = [
    (GradCam(), pgc.GradCAM),
    (GradCamPlusPlus(), pgc.GradCAMPlusPlus),
    (HiResCam(), pgc.HiResCAM),
    (XGradCam(), pgc.XGradCAM),
    (LayerCam(), pgc.LayerCAM),
]


class SignedEigenCam(pgc.EigenCAM):
    """EigenCAM with that library's own sign-corrected helper."""

    def get_cam_image(self, *args: Any, **_: Any) -> np.ndarray:
        return get_2d_projection_with_sign_correction(args[3])


def oracle(
    cam: type, net: nn.Module, layer: nn.Module, images: torch.Tensor, targets: list[Any], **how: Any
) -> np.ndarray:
    """Run pytorch-grad-cam on images as the network wants them (the tiny cards' mean and std are 0.5)."""
    with cam(model=net, target_layers=[layer], **how) as run:
        return run(input_tensor=(images - 0.5) / 0.5, targets=targets)


@pytest.mark.parametrize(
    ("ours", "theirs"), [*CAMS, (EigenCam(), SignedEigenCam)], ids=lambda c: getattr(c, "name", "")
)
@pytest.mark.parametrize("kind", ["cnn", "arcface"])
def test_classifier_maps_equal_pytorch_grad_cam(opened: Callable[..., Any], ours: Any, theirs: Any, kind: str) -> None:
    model, samples = opened(kind)
    net = build(kind, 2, 32)
    layer, name = {
        "cnn": lambda: (net.features[5], "/features/features.5/Relu_output_0"),
        "arcface": lambda: (net.stem[2], "/stem/stem.2/PRelu_output_0"),
    }[kind]()
    maps = type(ours)(layer=name).explain(model, samples)
    targets = [ClassifierOutputTarget(int(c)) for c in samples.clean.predicted]
    expected = oracle(theirs, net, layer, samples.images, targets)
    assert maps.note["layer"] == name
    assert expected.std() > 0.01
    np.testing.assert_allclose(maps.relevance.numpy(), expected, atol=1e-4)


def token_grid(tokens: torch.Tensor) -> torch.Tensor:
    return tokens[:, 1:].transpose(1, 2).unflatten(2, (8, 8))


@pytest.mark.parametrize(("ours", "theirs"), CAMS, ids=lambda c: getattr(c, "name", ""))
def test_token_maps_of_a_vision_transformer_equal_pytorch_grad_cam(
    opened: Callable[..., Any], ours: Any, theirs: Any
) -> None:
    model, samples = opened("vit")
    net = build("vit", 2, 32)
    targets = [ClassifierOutputTarget(int(c)) for c in samples.clean.predicted]
    expected = oracle(theirs, net, net.blocks[1].norm1, samples.images, targets, reshape_transform=token_grid)
    maps = ours.explain(model, samples)
    assert "norm1" in maps.note["layer"]
    np.testing.assert_allclose(maps.relevance.numpy(), expected, atol=1e-4)


@pytest.mark.parametrize(("ours", "theirs"), CAMS, ids=lambda c: getattr(c, "name", ""))
@pytest.mark.parametrize("sign", [1, -1], ids=["similarity", "dissimilarity"])
def test_pair_maps_equal_pytorch_grad_cam_of_the_cosine_up_to_scale(
    opened: Callable[..., Any], ours: Any, theirs: Any, sign: int
) -> None:
    model, samples = opened("cnn", "verification")
    net = build("cnn", 16, 32)
    views = samples.views()

    class Cosine:
        def __init__(self, reference: torch.Tensor) -> None:
            self.reference = reference

        def __call__(self, out: torch.Tensor) -> torch.Tensor:
            return sign * torch.nn.functional.cosine_similarity(out, self.reference, dim=-1)

    targets = [Cosine(r) for r in views.target.reference]
    with theirs(model=net, target_layers=[net.features[5]]) as run:
        # Before that library's scaling, which is per map and would lose the proportion of the two maps.
        run.forward((views.images - 0.5) / 0.5, targets)
        a = run.activations_and_grads.activations[0].numpy()
        g = run.activations_and_grads.gradients[0].numpy()
        raw = np.maximum(run.get_cam_image(views.images, None, targets, a, g, False), 0)
    maps = ours.explain(model, samples)
    found = (maps.similarity if sign == 1 else maps.dissimilarity).flatten(0, 1)
    other = (maps.dissimilarity if sign == 1 else maps.similarity).flatten(0, 1)
    for i in range(len(raw)):
        small = torch.from_numpy(raw[i])[None, None]
        enlarged = torch.nn.functional.interpolate(small, size=(32, 32), mode="bilinear")[0, 0]
        if enlarged.max() == 0:
            assert found[i].max() == 0
            assert other[i].max() > 0
        else:
            np.testing.assert_allclose(found[i] / found[i].max(), enlarged / enlarged.max(), atol=1e-4)
