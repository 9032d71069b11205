"""The gradient explainers equal captum's on the torch network, in pixel space, and a linear model's closed form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from captum import attr
from torch import Tensor, nn

from faithface.errors import NotApplicable
from faithface_plugins.explainers.gradients import (
    GuidedBackprop,
    InputXGradient,
    IntegratedGradients,
    Saliency,
    SmoothGrad,
)
from tests.support.networks import build


class OnPixels(nn.Module):
    """The torch network behind a tiny card: images in [0, 1] in, the card's normalisation (0.5, 0.5) inside."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        return self.net((images - 0.5) / 0.5)


@pytest.fixture(scope="module")
def reference(opened: Callable[..., Any]) -> Any:
    model, samples = opened("cnn", n=2)
    return model, samples, OnPixels(build("cnn", 2, 32)).eval()


def test_saliency_is_the_largest_absolute_gradient_of_captum(reference: Any) -> None:
    model, samples, net = reference
    expected = attr.Saliency(net).attribute(samples.images, target=samples.clean.predicted).amax(dim=1)
    torch.testing.assert_close(Saliency().explain(model, samples).relevance, expected, atol=1e-6, rtol=1e-4)


def test_input_x_gradient_is_captums_summed_over_channels(reference: Any) -> None:
    model, samples, net = reference
    expected = attr.InputXGradient(net).attribute(samples.images, target=samples.clean.predicted).sum(dim=1)
    torch.testing.assert_close(
        InputXGradient().explain(model, samples).relevance, expected.detach(), atol=1e-6, rtol=1e-4
    )


def test_integrated_gradients_are_captums_and_complete(reference: Any) -> None:
    model, samples, net = reference
    explainer = IntegratedGradients(steps=40)
    maps = explainer.explain(model, samples).relevance
    expected = attr.IntegratedGradients(net).attribute(samples.images, target=samples.clean.predicted, n_steps=40)
    torch.testing.assert_close(maps, expected.sum(dim=1).float().detach(), atol=1e-6, rtol=1e-4)
    with torch.no_grad():
        rise = net(samples.images) - net(torch.zeros_like(samples.images[:1]))
    total = rise.gather(1, samples.clean.predicted[:, None]).squeeze(1)
    # Completeness holds up to the error of 40 points on a path with kinks; the comparison above is the strict one.
    torch.testing.assert_close(maps.sum((1, 2)), total, atol=5e-3, rtol=0.02)


def test_guided_backprop_is_captums(reference: Any) -> None:
    model, samples, net = reference
    expected = attr.GuidedBackprop(net).attribute(samples.images, target=samples.clean.predicted).abs().amax(dim=1)
    assert not torch.allclose(expected, Saliency().explain(model, samples).relevance)
    torch.testing.assert_close(
        GuidedBackprop().explain(model, samples).relevance, expected.detach(), atol=1e-6, rtol=1e-4
    )


def test_smoothgrad_is_captums_noise_tunnel_on_the_same_noise(reference: Any) -> None:
    model, samples, net = reference
    explainer = SmoothGrad(noisy=6)
    maps = explainer.explain(model, samples).relevance
    for i, image in enumerate(samples.images):
        noise = explainer.noise(samples, samples.ids[i], (3, 32, 32))
        scaled = noise * (image.max() - image.min())
        with mock.patch("torch.normal", return_value=scaled):  # what captum would draw
            expected = attr.NoiseTunnel(attr.Saliency(net)).attribute(
                image[None],
                nt_type="smoothgrad",
                nt_samples=6,
                target=int(samples.clean.predicted[i]),
                abs=False,
            )
        torch.testing.assert_close(maps[i], expected[0].abs().sum(dim=0), atol=1e-6, rtol=1e-4)


def test_smoothgrad_noise_has_the_stated_deviation_and_is_the_samples_own(opened: Callable[..., Any]) -> None:
    _, samples = opened("cnn", n=2)
    explainer = SmoothGrad(noisy=50, sigma=0.15)
    first, second = (explainer.noise(samples, i, (3, 32, 32)) for i in samples.ids)
    assert first.std().item() == pytest.approx(0.15, rel=0.01)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.02


def test_on_a_linear_model_every_signed_method_gives_weight_times_pixel(opened: Callable[..., Any]) -> None:
    model, samples = opened("linear")
    net = build("linear", 2, 32)
    weights = net.fc.weight.detach()[samples.clean.predicted].reshape(-1, 3, 32, 32) / 0.5
    expected = (weights * samples.images).sum(dim=1)
    for explainer in (InputXGradient(), IntegratedGradients(steps=3)):
        torch.testing.assert_close(explainer.explain(model, samples).relevance, expected, atol=1e-5, rtol=1e-4)
    smooth = SmoothGrad(noisy=2).explain(model, samples).relevance
    torch.testing.assert_close(smooth, weights.abs().sum(dim=1), atol=1e-5, rtol=1e-4)


def test_the_mean_baseline_is_the_zero_of_the_normalised_tensor(opened: Callable[..., Any]) -> None:
    model, samples = opened("linear")
    net = build("linear", 2, 32)
    weights = net.fc.weight.detach()[samples.clean.predicted].reshape(-1, 3, 32, 32)
    expected = (weights * (samples.images - 0.5) / 0.5).sum(dim=1)
    found = IntegratedGradients(steps=3, baseline="mean").explain(model, samples).relevance
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("channels", ["sum", "abs-of-sum", "sum-of-abs", "max-of-abs"])
def test_channels_are_reduced_as_named(opened: Callable[..., Any], channels: Any) -> None:
    model, samples = opened("linear")
    net = build("linear", 2, 32)
    gradient = net.fc.weight.detach()[samples.clean.predicted].reshape(-1, 3, 32, 32).numpy() / 0.5
    found = Saliency(channels=channels).explain(model, samples).relevance.numpy()
    for n, y, x in [(0, 0, 0), (1, 5, 30), (2, 31, 2)]:
        r, g, b = (float(v) for v in gradient[n, :, y, x])
        expected = {
            "sum": r + g + b,
            "abs-of-sum": abs(r + g + b),
            "sum-of-abs": abs(r) + abs(g) + abs(b),
            "max-of-abs": max(abs(r), abs(g), abs(b)),
        }
        assert found[n, y, x] == pytest.approx(expected[channels], rel=1e-4, abs=1e-6)


def test_a_signed_pair_map_is_split_and_an_unsigned_one_is_said_twice(opened: Callable[..., Any]) -> None:
    model, samples = opened("cnn", "verification")
    signed = InputXGradient().explain(model, samples)
    assert (signed.similarity * signed.dissimilarity).abs().max() == 0
    assert signed.similarity.max() > 0
    assert signed.dissimilarity.max() > 0
    unsigned = Saliency().explain(model, samples)
    assert torch.equal(unsigned.similarity, unsigned.dissimilarity)


def test_guided_backprop_needs_a_relu_and_says_so(opened: Callable[..., Any]) -> None:
    model, samples = opened("arcface")
    with pytest.raises(NotApplicable, match="has no ReLU"):
        GuidedBackprop().explain(model, samples)


def test_guided_backprop_leaves_the_twin_as_it_was(opened: Callable[..., Any]) -> None:
    model, samples = opened("cnn")
    before = Saliency().explain(model, samples).relevance
    GuidedBackprop().explain(model, samples)
    assert torch.equal(before, Saliency().explain(model, samples).relevance)


@pytest.mark.parametrize(
    ("explainer", "forward", "backward"),
    [(Saliency(), 3, 3), (SmoothGrad(noisy=4), 12, 12), (IntegratedGradients(steps=7), 21, 21)],
)
def test_the_stated_cost_is_what_is_counted(
    opened: Callable[..., Any], explainer: Any, forward: int, backward: int
) -> None:
    model, samples = opened("cnn")
    before = model.passes.forward, model.passes.backward
    explainer.explain(model, samples)
    assert (model.passes.forward - before[0], model.passes.backward - before[1]) == (forward, backward)


@pytest.mark.parametrize("wrong", [SmoothGrad, IntegratedGradients])
def test_counts_below_one_are_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        wrong(**{"noisy" if wrong is SmoothGrad else "steps": 0})


@pytest.mark.filterwarnings("error:.*:UserWarning:captum")
def test_captums_announcements_do_not_reach_the_user(opened: Callable[..., Any]) -> None:
    model, samples = opened("cnn", n=1)
    for explainer in (
        Saliency(),
        InputXGradient(),
        SmoothGrad(noisy=2),
        IntegratedGradients(steps=2),
        GuidedBackprop(),
    ):
        explainer.explain(model, samples)


def completeness_gaps(net: nn.Module, samples: Any, steps: int) -> list[float]:
    """Return |Σ attributions − (y(x) − y(b))| / |y(x) − y(b)| of each image, by numpy's Gauss-Legendre points."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    gaps = []
    for image, cls in zip(samples.images, samples.clean.predicted, strict=True):
        total = 0.0
        for at, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
            pixels = (image[None] * float(at)).requires_grad_(True)
            (gradient,) = torch.autograd.grad(net(pixels)[0, cls], pixels)
            total += weight * float((gradient[0] * image).double().sum())
        with torch.no_grad():
            rise = float(net(image[None])[0, cls] - net(0 * image[None])[0, cls])
        gaps.append(abs(total - rise) / abs(rise))
    return gaps


def test_integrated_gradients_record_their_completeness_gap(reference: Any) -> None:
    model, samples, net = reference
    before = model.passes.forward
    note = IntegratedGradients(steps=4).explain(model, samples).note
    assert model.passes.forward - before == 2 * 4
    expected = completeness_gaps(net, samples, 4)
    assert max(expected) > 1e-3
    assert note == {"completeness_gap": pytest.approx(np.mean(expected), rel=1e-2, abs=1e-5)}


def test_integrated_gradients_double_their_steps_until_the_gap_is_small_enough(reference: Any) -> None:
    model, samples, net = reference
    by_steps = {steps: completeness_gaps(net, samples, steps) for steps in (2, 4, 8, 16, 32)}
    tolerance = (min(by_steps[2]) + min(by_steps[8])) / 2
    used = [next((s for s in by_steps if by_steps[s][i] <= tolerance), 32) for i in range(len(samples))]
    maps = IntegratedGradients(steps=2, tolerance=tolerance).explain(model, samples)
    assert maps.note["steps"] == np.mean(used)
    assert max(used) > 2
    for i, steps in enumerate(used):
        alone = IntegratedGradients(steps=steps).explain(model, samples.take([i])).relevance[0]
        torch.testing.assert_close(maps.relevance[i], alone, atol=1e-6, rtol=1e-4)


def test_integrated_gradients_stop_doubling_at_sixteen_times(reference: Any) -> None:
    model, samples, _ = reference
    before = model.passes.backward
    note = IntegratedGradients(steps=2, tolerance=1e-12).explain(model, samples.take([0])).note
    assert note["steps"] == 32
    assert model.passes.backward - before == 2 + 4 + 8 + 16 + 32


@pytest.mark.parametrize("kind", ["cnn", "depthwise"])
def test_guided_backprop_says_which_activations_it_leaves_alone(opened: Callable[..., Any], kind: str) -> None:
    model, samples = opened(kind)
    note = GuidedBackprop().explain(model, samples).note
    if kind == "cnn":
        assert note == {}
    else:  # hard-swish, and a hard sigmoid in the squeeze-and-excitation; its ReLU is guided
        assert set(note["not_guided"].split(", ")) == {"HardSigmoid", "HardSwish"}
