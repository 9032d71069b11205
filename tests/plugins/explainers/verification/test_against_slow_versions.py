"""Each verification explainer equals its formula, computed slowly on the network that was exported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from faithface.contract import Samples
from faithface.model.twin import preprocess
from faithface.seeds import rng_for
from faithface_plugins.explainers.corrrise import CorrRise, square_masks
from faithface_plugins.explainers.fame import Fame
from faithface_plugins.explainers.fggb import Fggb
from faithface_plugins.explainers.fggb_channels import channel_cotangents, channel_weights
from faithface_plugins.explainers.minplus import MinPlus, gaussian_windows
from faithface_plugins.explainers.pair_common import smooth
from faithface_plugins.explainers.xface import XFace
from faithface_plugins.explainers.xssab import Xssab
from tests.reference import verification_explainers as slow
from tests.support.networks import build

SIZE, DIM, THRESHOLD = 32, 16, 0.5


def network_of(kind: str, model: Any) -> slow.Network:
    net = build(kind, DIM, SIZE)
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    return lambda pixels: net(preprocess(pixels, model.card.input))


def directions(samples: Samples) -> list[tuple[int, int, Tensor, Tensor]]:
    """Return (pair, side, image, partner) of every face of the batch."""
    return [(n, s, samples.images[n, s], samples.images[n, 1 - s]) for n in range(len(samples)) for s in (0, 1)]


def assert_close(got: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    largest = float(expected.abs().max())
    difference = float((got - expected).abs().max())
    assert difference <= tolerance * largest, (difference, largest)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 64), st.integers(0, 10_000), st.floats(-1, 1))
def test_fggb_weights_sum_to_the_margin_cosine_minus_threshold(dim: int, seed: int, threshold: float) -> None:
    pair = torch.from_numpy(np.random.default_rng(seed).normal(size=(1, 2, dim)))
    a, b = pair[0]
    margin = float(a @ b / (a.norm() * b.norm())) - threshold
    assert float(channel_weights(pair, threshold).sum()) == pytest.approx(margin, abs=1e-12)


def test_rotated_cotangents_give_the_jacobian_of_the_normalised_embedding() -> None:
    f = torch.randn(9, generator=torch.Generator().manual_seed(0))
    jacobian = torch.autograd.functional.jacobian(lambda v: v / v.norm(), f)
    assert torch.allclose(channel_cotangents(f, "normalised"), jacobian, atol=1e-6)


@pytest.mark.parametrize("embedding", ["normalised", "raw"])
@pytest.mark.parametrize("reading", ["absolute", "signed"])
@pytest.mark.parametrize("kind", ["cnn", "depthwise", "arcface", "vit", "fixed-batch", "grey"])
def test_fggb_equals_one_backward_pass_per_channel(
    opened: Callable[..., Any], kind: str, reading: Any, embedding: Any
) -> None:
    model, samples = opened(kind, "verification", 2)
    maps = Fggb(reading=reading, embedding=embedding, smoothing=0).explain(model, samples)
    network = network_of(kind, model)
    for n, side, image, other in directions(samples):
        s = slow.fggb(network, image, other, THRESHOLD, reading == "absolute", embedding == "normalised")
        assert float(s.abs().max()) > 0
        assert_close(maps.similarity[n, side] - maps.dissimilarity[n, side], s)
        assert float((maps.similarity[n, side] * maps.dissimilarity[n, side]).abs().max()) == 0


def test_fggb_smooths_similarity_and_dissimilarity_apart_with_25_taps_at_112(opened: Callable[..., Any]) -> None:
    model, samples = opened("cnn", "verification", 1, size=112)
    sharp, smooth = (Fggb(smoothing=s, reading="signed").explain(model, samples) for s in (0.0, 5.0))
    taps = np.exp(-(np.arange(-12, 13) ** 2) / 50)
    taps /= taps.sum()
    for name in ("similarity", "dissimilarity"):
        padded = np.pad(getattr(sharp, name)[0, 0].double().numpy(), 12, mode="reflect")
        expected = np.zeros((112, 112))
        for i, u in enumerate(taps):
            for j, v in enumerate(taps):
                expected += u * v * padded[i : i + 112, j : j + 112]
        assert_close(getattr(smooth, name)[0, 0].double(), torch.from_numpy(expected))


@pytest.mark.parametrize("size", [32, 112, 150])
def test_smoothing_is_a_convolution_of_the_map_padded_by_torchs_reflect(size: int) -> None:
    maps = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    sigma = 5 * size / 112
    radius = int(2.4 * sigma + 0.5)
    taps = torch.exp(-(torch.arange(-radius, radius + 1, dtype=torch.float64) ** 2) / (2 * sigma**2))
    kernel = torch.outer(taps, taps)[None, None] / taps.sum() ** 2
    padded = torch.nn.functional.pad(maps.flatten(0, 1)[:, None].double(), (radius,) * 4, mode="reflect")
    expected = torch.nn.functional.conv2d(padded, kernel)[:, 0].unflatten(0, (2, 3))
    assert float((smooth(maps, sigma) - expected).abs().max()) <= 1.5e-6


def test_fggb_in_several_portions_of_channels_is_the_same(
    opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from faithface_plugins.explainers import fggb_channels as fggb

    model, samples = opened("arcface", "verification", 2)
    whole = Fggb().explain(model, samples)
    monkeypatch.setattr(fggb, "HELD", 1)
    monkeypatch.setattr(fggb, "REDUCED", 3)
    model.cache.clear()  # else the maps of the first call are used again
    assert_close(Fggb().explain(model, samples).similarity, whole.similarity)


@pytest.mark.parametrize("kind", ["cnn", "depthwise", "arcface", "vit", "fixed-batch", "grey"])
def test_xssab_equals_two_gradients_of_its_arguments(opened: Callable[..., Any], kind: str) -> None:
    model, samples = opened(kind, "verification", 2)
    maps = Xssab().explain(model, samples)
    difference = Xssab(maps="difference").explain(model, samples)
    network = network_of(kind, model)
    for n, side, image, other in directions(samples):
        pro, contra = slow.xssab(network, image, other, THRESHOLD)
        assert float((pro + contra).max()) > 0
        assert_close(maps.similarity[n, side], pro)
        assert_close(maps.dissimilarity[n, side], contra)
        assert_close(difference.similarity[n, side] - difference.dissimilarity[n, side], pro - contra)


@pytest.mark.parametrize("correlation", ["spearman", "pearson"])
def test_corrrise_equals_the_correlation_of_scipy_at_every_pixel(opened: Callable[..., Any], correlation: Any) -> None:
    model, samples = opened("cnn", "verification", 1)
    maps = CorrRise(masks=25, correlation=correlation).explain(model, samples)
    masks = square_masks(rng_for(0, "", "corrrise"), 25, 3, 9, (SIZE, SIZE))  # 30 px at 112 are 8.6 px at 32
    _, _, image, other = directions(samples)[0]
    expected = slow.corrrise(network_of("cnn", model), image, other, masks, correlation == "spearman")
    assert_close(maps.similarity[0, 0] - maps.dissimilarity[0, 0], torch.from_numpy(expected))


@pytest.mark.parametrize("method", [1, 2, 3])
def test_xface_equals_patch_by_patch(opened: Callable[..., Any], method: int) -> None:
    model, samples = opened("cnn", "verification", 1)
    maps = XFace(variant=method, sizes=("14", "28"), stride=14).explain(model, samples)
    network = network_of("cnn", model)
    for n, side, image, other in directions(samples):
        expected = slow.xface(network, image, other, method, [4, 8], 4, 5 * SIZE / 112)
        got = maps.similarity[n, side] - maps.dissimilarity[n, side]
        # A distance is a small difference of numbers near 1, in single precision.
        assert_close(got, torch.from_numpy(expected), 1e-3)


@pytest.mark.parametrize("form", ["s0", "s1", "s-", "s+"])
def test_minplus_equals_window_by_window(opened: Callable[..., Any], form: Any) -> None:
    model, samples = opened("cnn", "verification", 1)
    maps = MinPlus(form=form, step=28, steps=3).explain(model, samples)
    windows = list(gaussian_windows((SIZE, SIZE), 10 * SIZE / 112, 8))
    assert len(windows) == 16
    network = network_of("cnn", model)
    for n, side, image, other in directions(samples):
        expected = slow.minplus(network, image, other, form, windows, 3)
        assert_close(maps.similarity[n, side] - maps.dissimilarity[n, side], expected, 1e-3)


def test_minplus_average_is_the_mean_of_the_four_forms(opened: Callable[..., Any]) -> None:
    model, samples = opened("cnn", "verification", 1)
    parts = []
    for form in ("s0", "s1", "s-", "s+"):
        maps = MinPlus(form=form, step=28, steps=3).explain(model, samples)  # type: ignore[arg-type]
        signed = maps.similarity - maps.dissimilarity
        parts.append(signed / signed.abs().amax(dim=(2, 3), keepdim=True))
    maps = MinPlus(step=28, steps=3).explain(model, samples)
    assert_close(maps.similarity - maps.dissimilarity, torch.stack(parts).mean(dim=0), 1e-4)


@pytest.mark.parametrize("kind", ["cnn", "arcface", "vit"])
def test_fame_equals_one_image_walking_alone(opened: Callable[..., Any], kind: str) -> None:
    model, samples = opened(kind, "verification", 2)
    maps = Fame(steps=4, smoothing=0).explain(model, samples)
    assert float(maps.similarity.max()) == float(maps.dissimilarity.max()) == 1
    network = network_of(kind, model)
    for n, side, image, other in directions(samples):
        assert_close(maps.similarity[n, side], slow.fame(network, image, other, 4, lower=True), 1e-4)
        assert_close(maps.dissimilarity[n, side], slow.fame(network, image, other, 4, lower=False), 1e-4)
