"""RISE against the reference code's loop, occlusion against captum and the closed form of a linear model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from captum import attr
from skimage.transform import resize

from faithface.seeds import rng_for
from faithface_plugins.explainers.black_box import Occlusion, Rise, RiseMasks
from tests.support.networks import build


@pytest.mark.parametrize(("cells", "size"), [(8, (32, 32)), (5, (33, 21)), (1, (9, 9)), (7, (112, 112))])
def test_rise_masks_are_those_of_skimages_resize_and_crop(cells: int, size: tuple[int, int]) -> None:
    """One mask after another, enlarged whole and cropped: the official code's way."""
    masks = RiseMasks.draw(np.random.default_rng(0), 6, cells, 0.5, size)
    found = masks.render(slice(0, 6)).numpy()
    step = [int(np.ceil(side / cells)) for side in size]
    for i in range(6):
        large = [(cells + 1) * s for s in step]
        enlarged = resize(masks.grids[i], large, order=1, mode="reflect", anti_aliasing=False)
        y, x = masks.offsets[i]
        assert 0 <= y < step[0]
        assert 0 <= x < step[1]
        np.testing.assert_allclose(found[i], enlarged[y : y + size[0], x : x + size[1]], atol=1e-6)


def test_rise_equals_its_formula_summed_mask_by_mask(opened: Callable[..., Any]) -> None:
    model, samples = opened("cnn", n=2)
    explainer = Rise(masks=70, p1=0.3, cells=4)
    found = explainer.explain(model, samples).relevance.numpy()
    net = build("cnn", 2, 32)
    for i in range(2):
        masks = RiseMasks.draw(rng_for(samples.seed, samples.ids[i], "rise"), 70, 4, 0.3, (32, 32)).render(slice(0, 70))
        total = np.zeros((32, 32))
        for mask in masks:
            with torch.no_grad():
                probability = net((samples.images[i] * mask - 0.5)[None] / 0.5).softmax(dim=1)[0]
            total += float(probability[samples.clean.predicted[i]]) * mask.numpy()
        np.testing.assert_allclose(found[i], total / (70 * 0.3), rtol=1e-4)


def test_rise_with_the_mean_as_fill_masks_the_normalised_tensor(opened: Callable[..., Any]) -> None:
    model, samples = opened("cnn", n=2)
    found = Rise(masks=10, fill="mean", score="logit").explain(model, samples).relevance.numpy()
    net = build("cnn", 2, 32)
    masks = RiseMasks.draw(rng_for(samples.seed, samples.ids[0], "rise"), 10, 8, 0.5, (32, 32)).render(slice(0, 10))
    with torch.no_grad():
        logits = net((samples.images[0] - 0.5) / 0.5 * masks[:, None])[:, samples.clean.predicted[0]]
    expected = torch.einsum("n,nhw->hw", logits, masks) / 5
    np.testing.assert_allclose(found[0], expected.numpy(), atol=1e-5, rtol=1e-4)


def test_rise_of_a_pair_is_the_covariance_of_mask_and_cosine(opened: Callable[..., Any]) -> None:
    model, samples = opened("cnn", "verification", n=2)
    maps = Rise(masks=40).explain(model, samples)
    views = samples.views()
    net = build("cnn", 16, 32)
    for row, (n, side) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        rng = rng_for(samples.seed, views.seed_ids[row], "rise")
        masks = RiseMasks.draw(rng, 40, 8, 0.5, (32, 32)).render(slice(0, 40))
        with torch.no_grad():
            embedded = net((samples.images[n, side] * masks[:, None] - 0.5) / 0.5)
        cosines = torch.cosine_similarity(embedded, samples.clean.outputs[n, 1 - side][None], dim=1)
        covariance = np.cov(cosines.numpy(), masks.flatten(1).T.numpy(), bias=True)[0, 1:].reshape(32, 32) / 0.5
        signed = (maps.similarity - maps.dissimilarity)[n, side].numpy()
        np.testing.assert_allclose(signed, covariance, atol=2e-6)
        assert (maps.similarity[n, side].numpy() * maps.dissimilarity[n, side].numpy()).max() == 0


def test_rise_finds_the_only_pixels_that_a_model_looks_at(opened: Callable[..., Any]) -> None:
    """On a linear model the expected map is the covariance with the mask, largest where the weights are."""
    model, samples = opened("linear", n=2)
    maps = Rise(masks=600, score="logit").explain(model, samples).relevance
    net = build("linear", 2, 32)
    weights = net.fc.weight.detach()[samples.clean.predicted].reshape(-1, 3, 32, 32) / 0.5
    truth = (weights * samples.images).sum(dim=1)
    smooth = torch.nn.functional.avg_pool2d(truth[:, None], 9, 1, 4)[:, 0]
    centred = [m - m.mean() for m in (maps[0], smooth[0])]
    assert torch.nn.functional.cosine_similarity(centred[0].flatten(), centred[1].flatten(), dim=0) > 0.4


def test_occlusion_equals_captums_on_the_torch_network(opened: Callable[..., Any]) -> None:
    model, samples = opened("cnn", n=2)
    found = Occlusion(window=0.25, stride=0.5).explain(model, samples).relevance
    net = build("cnn", 2, 32)
    expected = attr.Occlusion(lambda images: net((images - 0.5) / 0.5)).attribute(
        samples.images, (3, 8, 8), strides=(3, 4, 4), target=samples.clean.predicted, baselines=0
    )
    torch.testing.assert_close(found, expected[:, 0].detach().float(), atol=1e-5, rtol=1e-4)


def test_occlusion_of_a_linear_model_is_the_mean_of_its_windows_sums(opened: Callable[..., Any]) -> None:
    """y(x) − y(x without the window) is exactly the window's sum of weight times pixel."""
    model, samples = opened("linear", n=2)
    found = Occlusion(window=0.25, stride=0.75).explain(model, samples).relevance.numpy()
    net = build("linear", 2, 32)
    weights = net.fc.weight.detach()[samples.clean.predicted].reshape(-1, 3, 32, 32) / 0.5
    share = (weights * samples.images).sum(dim=1).numpy()
    # Windows of 8 every 6 pixels, the last one cut to start at 24 = 4 · 6.
    total, count = np.zeros_like(share), np.zeros((32, 32))
    for y in range(0, 25, 6):
        for x in range(0, 25, 6):
            total[:, y : y + 8, x : x + 8] += share[:, y : y + 8, x : x + 8].sum(axis=(1, 2))[:, None, None]
            count[y : y + 8, x : x + 8] += 1
    np.testing.assert_allclose(found, total / count, atol=1e-4)


@pytest.mark.parametrize(("explainer", "passes"), [(Rise(masks=9), 27), (Occlusion(window=0.5, stride=1.0), 3 * 4)])
def test_the_stated_cost_is_what_is_counted(opened: Callable[..., Any], explainer: Any, passes: int) -> None:
    model, samples = opened("cnn")
    before = model.passes.forward
    explainer.explain(model, samples)
    assert model.passes.forward - before == passes


@pytest.mark.parametrize(
    ("made", "wrong"),
    [
        (Rise, {"masks": 0}),
        (Rise, {"cells": 0}),
        (Rise, {"p1": 0.0}),
        (Rise, {"p1": 1.0}),
        (Occlusion, {"window": 0.0}),
        (Occlusion, {"stride": 1.5}),
    ],
)
def test_parameters_out_of_range_are_refused(made: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        made(**wrong)


def test_where_windows_do_not_fit_the_last_one_is_moved_up_and_captums_hangs_over(opened: Callable[..., Any]) -> None:
    model, samples = opened("cnn", n=1)
    net = build("cnn", 2, 32)
    side, step = 7, 4  # starts 0, 4, …, 24, and then 25 here, 28 in captum
    got = Occlusion(window=side / 32, stride=step / side).explain(model, samples).relevance[0]
    theirs = attr.Occlusion(lambda x: net((x - 0.5) / 0.5)).attribute(
        samples.images, (3, side, side), strides=(3, step, step), target=samples.clean.predicted
    )[0, 0]
    largest = float(theirs.abs().max())
    assert float((got - theirs)[:25, :25].abs().max()) <= 1e-4 * largest
    assert float((got - theirs)[28:].abs().max()) > 1e-2 * largest
