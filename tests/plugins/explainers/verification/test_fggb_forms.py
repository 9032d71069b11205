"""FGGB's cheaper forms equal what they say, derived again on the exported network; and what exact FGGB keeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr
from torch import Tensor

from faithface.contract import Cache, Samples
from faithface.errors import NotApplicable
from faithface.loading import load_samples
from faithface.model import open_model
from faithface.model.twin import preprocess
from faithface.plugins import load_registry
from faithface_plugins.explainers import fggb_channels, fggb_norms
from faithface_plugins.explainers.fggb import Fggb
from faithface_plugins.explainers.fggb_channels import mean_correlation
from faithface_plugins.explainers.fggb_norms import sketched_norms, sketched_variation
from tests.support.networks import build

SIZE, DIM, THRESHOLD = 32, 48, 0.5
KINDS = pytest.mark.parametrize("kind", ["cnn", "depthwise", "arcface", "vit", "fixed-batch", "grey"])
EMBEDDINGS = pytest.mark.parametrize("embedding", ["normalised", "raw"])


def channels_of(kind: str, model: Any, image: Tensor, normalised: bool) -> Tensor:
    """Return ∂f_k / ∂image of the exported network, DIM×3×H×W: one backward pass per channel."""
    net = build(kind, DIM, SIZE)
    pixels = image[None].clone().requires_grad_(True)
    f = net(preprocess(pixels, model.card.input))[0]
    f = f / f.norm() if normalised else f
    return torch.stack([torch.autograd.grad(f[k], pixels, retain_graph=True)[0][0] for k in range(DIM)])


def weights_of(samples: Samples, n: int, side: int) -> Tensor:
    a, b = samples.clean.outputs[n, side], samples.clean.outputs[n, 1 - side]
    return a * b / (a.norm() * b.norm()) - THRESHOLD / DIM


def signed(maps: Any, n: int, side: int) -> Tensor:
    return maps.similarity[n, side] - maps.dissimilarity[n, side]


def assert_close(got: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    assert float((got - expected).abs().max()) <= tolerance * float(expected.abs().max())


def pairs(opened: Callable[..., Any], kind: str) -> tuple[Any, Samples]:
    model, samples = opened(kind, "verification", 2, dim=DIM)
    model.cache.clear()
    return model, samples


# --- shared


@KINDS
@EMBEDDINGS
def test_shared_is_the_gradient_of_the_channels_sum_with_the_weights_held(
    opened: Callable[..., Any], kind: str, embedding: Any
) -> None:
    model, samples = pairs(opened, kind)
    before = model.passes.forward, model.passes.backward
    maps = Fggb(reading="signed", norms="shared", embedding=embedding, smoothing=0).explain(model, samples)
    assert (model.passes.forward - before[0], model.passes.backward - before[1]) == (4, 4)
    net = build(kind, DIM, SIZE)
    for n, side in np.ndindex(2, 2):
        pixels = samples.images[n, side][None].clone().requires_grad_(True)
        f = net(preprocess(pixels, model.card.input))[0]
        f = f / f.norm() if embedding == "normalised" else f
        (weights_of(samples, n, side) @ f).backward()
        assert_close(signed(maps, n, side), pixels.grad[0].sum(dim=0))


def test_shared_is_exact_up_to_a_factor_where_all_norms_are_equal(opened: Callable[..., Any]) -> None:
    model, samples = pairs(opened, "cnn")
    exact = Fggb(reading="signed", smoothing=0).explain(model, samples)
    shared = Fggb(reading="signed", norms="shared", smoothing=0).explain(model, samples)
    grown = channels_of("cnn", model, samples.images[0, 0], normalised=True)
    norms = grown.flatten(1).norm(dim=1)
    assert float(norms.std() / norms.mean()) > 0.05  # else this would not tell the two forms apart
    weights = weights_of(samples, 0, 0)
    assert_close(signed(exact, 0, 0), torch.einsum("k,kchw->hw", weights / norms, grown))
    assert_close(signed(shared, 0, 0), torch.einsum("k,kchw->hw", weights, grown))


# --- sketch


@KINDS
@EMBEDDINGS
def test_sketched_norms_converge_to_the_norms_at_the_stated_rate(
    opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, kind: str, embedding: Any
) -> None:
    monkeypatch.setattr(fggb_norms, "PROBES_PER_PASS", 512)
    model, samples = pairs(opened, kind)
    image, f = samples.images[0, 0], samples.clean.outputs[0, 0]
    norms = channels_of(kind, model, image, embedding == "normalised").flatten(1).norm(dim=1)
    for probes in (32, 512):
        found = sketched_norms(model, image, f, embedding, probes, np.random.default_rng(3))
        error = float(((found / norms - 1) ** 2).mean().sqrt())
        # Channels share their probes, so the errors of one sketch are not independent: a factor of two is theirs.
        assert 0.4 < error * (2 * probes) ** 0.5 < 2.2


def test_the_sketched_map_is_the_exact_one_with_estimated_norms(
    opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fggb_norms, "PROBES_PER_PASS", 512)
    model, samples = pairs(opened, "arcface")
    exact = Fggb(reading="signed").explain(model, samples)
    errors = []
    for probes in (16, 1024):
        before = model.passes.forward, model.passes.backward
        got = Fggb(reading="signed", norms="sketch", probes=probes).explain(model, samples)
        assert (model.passes.forward - before[0], model.passes.backward - before[1]) == (4 + 8 * probes, 4)
        errors.append(float((got.similarity - exact.similarity).abs().max() / exact.similarity.max()))
    assert errors[1] < 0.04
    assert errors[1] < errors[0] / 3


def test_a_sketch_is_seeded_by_the_sample_and_says_so(opened: Callable[..., Any]) -> None:
    model, samples = pairs(opened, "cnn")
    sketch = Fggb(reading="signed", norms="sketch", probes=8)
    assert sketch.info.seeded
    assert not Fggb(reading="signed", norms="shared").info.seeded
    together = sketch.explain(model, samples)
    alone = sketch.explain(model, samples.take([1]))
    assert_close(alone.similarity[0], together.similarity[1], 1e-5)
    other = sketch.explain(model, replace(samples, seed=1, cache=Cache()))
    assert float((other.similarity - together.similarity).abs().max()) > 1e-3 * float(together.similarity.max())


def test_the_variation_of_sketched_norms_leaves_the_sketchs_own_scatter_out() -> None:
    rng = np.random.default_rng(0)
    true = 1 + 0.1 * rng.standard_normal(20_000)
    probes = 64
    seen = true * np.sqrt(rng.chisquare(probes, len(true)) / probes)
    assert seen.std() / seen.mean() > 0.13
    # With the scatter left in it would be above 0.13; the estimate's own error for 20,000 norms is 1 %.
    assert sketched_variation(torch.from_numpy(seen), probes) == pytest.approx(0.1, rel=0.04)


def test_a_network_without_forward_mode_is_refused_with_what_to_do(
    opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, samples = pairs(opened, "cnn")

    def lacking(_images: Tensor) -> Tensor:
        raise NotImplementedError("Trying to use forward AD with x that does not support it")

    monkeypatch.setattr(model.twin, "forward", lacking)
    with pytest.raises(NotApplicable, match="norms=shared"):
        Fggb(reading="signed", norms="sketch").explain(model, samples)


# --- adaptive


@KINDS
@EMBEDDINGS
def test_adaptive_with_all_channels_is_exact(opened: Callable[..., Any], kind: str, embedding: Any) -> None:
    model, samples = pairs(opened, kind)
    exact = Fggb(embedding=embedding).explain(model, samples)
    every = Fggb(embedding=embedding, channels="adaptive", tolerance=0).explain(model, samples)
    assert every.note["channels"] == DIM
    assert every.note["weight_covered"] == pytest.approx(1)
    for key in ("similarity", "dissimilarity"):
        assert_close(getattr(every, key), getattr(exact, key))
    for key in ("norm_variation", "channel_correlation"):
        assert every.note[key] == pytest.approx(exact.note[key], rel=1e-4)


def blurred(values: np.ndarray) -> np.ndarray:
    return gaussian_filter(values, 5 * SIZE / 112, truncate=2.4, mode=BORDER)


BORDER = "mirror"


def alike(maps: np.ndarray) -> float:
    """Return the mean correlation over pairs of maps n×H×W, as means over 7×7 cells."""
    cells = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(maps), 7).flatten(1).numpy()
    return float(np.corrcoef(cells)[np.triu_indices(len(cells), 1)].mean())


def slow_adaptive(maps: np.ndarray, weights: np.ndarray, tolerance: float) -> tuple[np.ndarray, int]:
    """Return S and the channels used, from normalised maps N×H×W: the definition, with all maps at hand."""
    order = sorted(range(len(weights)), key=lambda k: -abs(weights[k]))
    before = None
    for used in range(16, len(weights) + 1, 16):
        first, rest = order[:used], order[used:]
        s = sum(weights[k] * maps[k] for k in first)
        s = s + sum(weights[k] for k in rest) * sum(maps[k] for k in first) / used
        now = [blurred(np.maximum(half, 0)).ravel() for half in (s, -s)]
        if before is not None and all(
            not (a.any() or b.any()) or (a.any() and b.any() and 1 - spearmanr(a, b)[0] <= tolerance)
            for a, b in zip(now, before, strict=True)
        ):
            if alike(maps[first]) >= 0.3:
                break
            tolerance = -1.0
        before = now
    return s, used


@pytest.mark.parametrize("kind", ["cnn", "arcface"])
@pytest.mark.parametrize("tolerance", [0.002, 0.3])
def test_adaptive_takes_channels_by_weight_until_the_map_stands(
    opened: Callable[..., Any], kind: str, tolerance: float
) -> None:
    model, samples = pairs(opened, kind)
    maps = Fggb(channels="adaptive", tolerance=tolerance).explain(model, samples)
    used = []
    for n, side in np.ndindex(2, 2):
        g = channels_of(kind, model, samples.images[n, side], normalised=True).abs().mean(dim=1)
        unit = (g / g.flatten(1).norm(dim=1)[:, None, None]).double().numpy()
        s, count = slow_adaptive(unit, weights_of(samples, n, side).double().numpy(), tolerance)
        used.append(count)
        largest = np.abs(s).max()
        for got, half in ((maps.similarity, s), (maps.dissimilarity, -s)):
            assert np.abs(got[n, side].numpy() - blurred(np.maximum(half, 0))).max() <= 2e-5 * largest
    assert maps.note["channels"] == np.mean(used)
    assert tolerance < 0.1 or min(used) < DIM  # some face takes fewer


def test_adaptive_is_exact_where_each_channel_sees_a_place_of_its_own(opened: Callable[..., Any]) -> None:
    """Successive maps agree early on a network of separate patches, and are far from the map of all channels."""
    registry = load_registry(only=[])
    model = open_model(registry.model("exact-verifier-28-0").object)
    data = registry.dataset("planted-verification").object
    samples = load_samples(model, [item for item in data.items() if not item.same][:1], threshold=0.5)
    found = Fggb(channels="adaptive").explain(model, samples)
    exact = Fggb().explain(model, samples)
    assert exact.note["channel_correlation"] < 0.1
    assert found.note["channels"] == exact.note["channels"] == 384
    assert_close(found.dissimilarity, exact.dissimilarity)


def test_adaptive_passes_are_those_of_the_channels_used(opened: Callable[..., Any]) -> None:
    model, samples = pairs(opened, "cnn")
    before = model.passes.forward, model.passes.backward
    maps = Fggb(channels="adaptive", tolerance=0.3).explain(model, samples)
    assert (model.passes.forward - before[0], model.passes.backward - before[1]) == (4, 4 * maps.note["channels"])


# --- the note


def test_the_mean_correlation_is_that_of_all_pairs_of_rows() -> None:
    rows = np.random.default_rng(0).normal(size=(7, 40)) + np.linspace(0, 3, 40)
    matrix = np.corrcoef(rows)
    expected = matrix[np.triu_indices(7, 1)].mean()
    constant = np.full((1, 40), 2.0)
    assert mean_correlation(torch.from_numpy(np.concatenate([rows, constant]))) == pytest.approx(expected, abs=1e-12)
    assert mean_correlation(torch.ones(3, 4)) == 0


@pytest.mark.parametrize("reading", ["absolute", "signed"])
def test_the_note_says_what_the_channels_have_in_common(opened: Callable[..., Any], reading: Any) -> None:
    model, samples = opened("cnn", "verification", 2, dim=DIM, size=SIZE)
    model.cache.clear()
    note = Fggb(reading=reading).explain(model, samples).note
    variation, correlation = [], []
    for n, side in np.ndindex(2, 2):
        g = channels_of("cnn", model, samples.images[n, side], normalised=True)
        size = g.abs().mean(dim=1)
        norms = (size if reading == "absolute" else g).flatten(1).norm(dim=1).numpy()
        variation.append(norms.std() / norms.mean())
        edges = [(i * SIZE // 7, -(-(i + 1) * SIZE // 7)) for i in range(7)]
        cells = [size[:, a:b, c:d].mean(dim=(1, 2)) for a, b in edges for c, d in edges]
        correlation.append(np.corrcoef(torch.stack(cells, dim=1).numpy())[np.triu_indices(DIM, 1)].mean())
    assert note["norm_variation"] == pytest.approx(np.mean(variation), rel=1e-4)
    assert note["channel_correlation"] == pytest.approx(np.mean(correlation), rel=1e-4)
    assert (note["weight_covered"], note["channels"], note["threshold"]) == (1, DIM, THRESHOLD)


# --- what exact FGGB keeps


def counted(model: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list to which every call of ``model.vjp`` adds the images it gets."""
    calls: list[int] = []
    vjp = model.vjp
    monkeypatch.setattr(model, "vjp", lambda images, vectors: calls.append(len(images)) or vjp(images, vectors))
    return calls


def test_an_image_met_again_in_another_batch_is_not_computed_again(
    opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, samples = pairs(opened, "cnn")
    calls = counted(model, monkeypatch)
    before = model.passes.forward, model.passes.backward
    first = Fggb().explain(model, samples.take([0]))
    cost = model.passes.forward - before[0], model.passes.backward - before[1]
    assert cost == (2, 2 * DIM)
    assert len(calls) == 2
    again = Fggb(smoothing=5).explain(model, samples.take([0]))
    assert len(calls) == 2
    assert (model.passes.forward - before[0], model.passes.backward - before[1]) == (4, 4 * DIM)
    assert torch.equal(first.similarity, again.similarity)
    altered = replace(samples.take([0]), images=samples.take([0]).images * 0.9, cache=Cache())
    changed = Fggb().explain(model, altered)
    assert len(calls) == 4
    assert not torch.equal(changed.similarity, first.similarity)
    Fggb(embedding="raw").explain(model, samples.take([0]))
    Fggb(reading="signed").explain(model, samples.take([0]))
    assert len(calls) == 8


def test_what_is_kept_is_bounded_and_the_oldest_goes_first(
    opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, samples = pairs(opened, "cnn")
    one = 4 * DIM * SIZE * SIZE
    monkeypatch.setattr(fggb_channels, "KEPT", 3 * one)
    calls = counted(model, monkeypatch)
    Fggb().explain(model, samples)  # four faces
    kept = model.cached(fggb_channels.kept_portions)
    assert len(kept) == 3
    held = sum(4 * portion.maps.numel() for entry, _ in kept._found.values() for portion in entry)
    assert held == 3 * one
    Fggb().explain(model, samples.take([1]))
    assert len(calls) == 4
    Fggb().explain(model, samples.take([0]))
    assert len(calls) == 6  # the first face had gone, and coming back it drove out the second
    monkeypatch.setattr(fggb_channels, "KEPT", one - 1)
    model.cache.clear()
    Fggb().explain(model, samples.take([0]))
    assert len(model.cached(fggb_channels.kept_portions)) == 0
