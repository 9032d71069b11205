"""What holds for all gradient CAMs besides their formula: one shared pass, the proportion of pair maps, layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from faithface.contract import Cache
from faithface.errors import NotApplicable, UsageError
from faithface_plugins.explainers import cam_math
from faithface_plugins.explainers.cams import EXPLAINERS, EigenCam, GradCam, HiResCam

PAIRED = [e for e in EXPLAINERS if e.name != "eigen-cam"]


@pytest.mark.parametrize("task", ["pad", "verification"])
def test_six_cams_run_the_network_once(opened: Callable[..., Any], task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, samples = opened("cnn", task)
    model.twin.layers()  # its own probe pass, once per model
    model._last = {}
    calls = []
    run = type(model.twin)._run
    monkeypatch.setattr(type(model.twin), "_run", lambda self, x: calls.append(len(x)) or run(self, x))
    for explainer in EXPLAINERS:
        explainer.explain(model, samples)
    assert sum(calls) == len(samples.views().images)


def test_every_cam_reports_its_own_cost(opened: Callable[..., Any]) -> None:
    model, samples = opened("cnn")
    for explainer in EXPLAINERS:
        before = model.passes.forward, model.passes.backward
        explainer.explain(model, samples)
        assert (model.passes.forward - before[0], model.passes.backward - before[1]) == (3, 3)


@pytest.mark.parametrize("explainer", PAIRED, ids=lambda e: e.name)
def test_the_larger_of_a_faces_two_coarse_maps_has_maximum_one(opened: Callable[..., Any], explainer: Any) -> None:
    model, samples = opened("cnn", "verification")
    views = samples.views()
    seen = model.activations(views.images, views.target)
    formula = {
        "grad-cam": cam_math.grad_cam,
        "grad-cam++": cam_math.grad_cam_plus_plus,
        "hirescam": cam_math.hires_cam,
        "xgrad-cam": cam_math.xgrad_cam,
        "layer-cam": cam_math.layer_cam,
    }[explainer.name]
    for_it = formula(seen.values, seen.gradients).clamp(min=0)
    against = formula(seen.values, -seen.gradients).clamp(min=0)
    maps = explainer.explain(model, samples)
    top = torch.maximum(for_it.amax((1, 2)), against.amax((1, 2)))
    torch.testing.assert_close(maps.native.flatten(0, 1), for_it / top[:, None, None])
    # The proportion of the two maps of a face is that of the evidence, before and after.
    big = [cam_math.resize(m, model.size).amax((1, 2)) for m in (for_it, against)]
    torch.testing.assert_close(
        maps.similarity.flatten(0, 1).amax((1, 2)) * big[1], maps.dissimilarity.flatten(0, 1).amax((1, 2)) * big[0]
    )


def test_swapping_the_two_faces_swaps_their_maps(opened: Callable[..., Any]) -> None:
    model, samples = opened("cnn", "verification")
    clean = replace(samples.clean, outputs=samples.clean.outputs.flip(1))
    swapped = replace(samples, images=samples.images.flip(1), clean=clean, cache=Cache())
    for explainer in EXPLAINERS:
        one, other = explainer.explain(model, samples), explainer.explain(model, swapped)
        for kind in ("similarity", "dissimilarity"):
            torch.testing.assert_close(one.named()[kind], other.named()[kind].flip(1), atol=1e-5, rtol=1e-4)


def test_hirescam_at_a_pooled_linear_head_sums_to_the_logit(opened: Callable[..., Any]) -> None:
    """The property HiResCAM is built for, on the signed map and up to the bias."""
    model, samples = opened("cnn")
    views = samples.views()
    seen = model.activations(views.images, views.target)
    from tests.support.networks import build

    bias = build("cnn", 2, 32).head.bias.detach()[samples.clean.predicted]
    total = cam_math.hires_cam(seen.values, seen.gradients).sum((1, 2)) + bias
    torch.testing.assert_close(total, views.target.score(model.card, samples.clean.outputs), atol=1e-4, rtol=1e-4)


def test_an_unknown_layer_is_refused_with_the_candidates(opened: Callable[..., Any]) -> None:
    model, samples = opened("cnn")
    with pytest.raises(UsageError, match=r"no layer '/features/features.5/Rel'.*Relu_output_0"):
        GradCam(layer="/features/features.5/Rel").explain(model, samples)


def test_a_network_without_a_grid_is_not_applicable(opened: Callable[..., Any]) -> None:
    model, samples = opened("linear")
    with pytest.raises(NotApplicable, match="no layer with a spatial grid"):
        GradCam().explain(model, samples)


def test_the_layer_is_a_parameter_and_in_the_note(opened: Callable[..., Any]) -> None:
    model, samples = opened("cnn")
    maps = HiResCam(layer="/features/features.1/Relu_output_0").explain(model, samples)
    assert maps.note["layer"] == "/features/features.1/Relu_output_0"
    assert tuple(maps.native.shape) == (3, 16, 16)


seeds = st.integers(0, 2**31)
activations = seeds.map(lambda seed: torch.from_numpy(np.random.default_rng(seed).normal(size=(2, 5, 4, 3))))


@settings(max_examples=25, deadline=None)
@given(a=activations, flip=st.booleans(), factor=st.floats(0.1, 10))
def test_eigen_cam_does_not_depend_on_the_sign_or_scale_found(a: torch.Tensor, flip: bool, factor: float) -> None:
    """Negating or scaling all activations leaves the axis, and the largest magnitude stays positive."""
    cam = cam_math.eigen_cam(a)
    other = cam_math.eigen_cam(-factor * a if flip else factor * a)
    torch.testing.assert_close(cam_math.min_max(cam), cam_math.min_max(other), atol=1e-6, rtol=1e-5)
    assert (cam.amax((1, 2)) >= cam.amin((1, 2)).abs() - 1e-9).all()


def test_eigen_cam_says_the_same_for_both_maps_of_a_pair(opened: Callable[..., Any]) -> None:
    model, samples = opened("cnn", "verification")
    maps = EigenCam().explain(model, samples)
    assert torch.equal(maps.similarity, maps.dissimilarity)


@settings(max_examples=25, deadline=None)
@given(a=activations, g=activations)
def test_undefined_quotients_become_zero_not_nan(a: torch.Tensor, g: torch.Tensor) -> None:
    a, g = a.clone(), g.clone() * 1e20
    a[0] = 0
    for cam in (cam_math.grad_cam_plus_plus, cam_math.xgrad_cam):
        full, small = cam_math.classifier_maps(cam(a.float(), g.float()), (9, 7))
        assert full.isfinite().all()
        assert small.isfinite().all()
