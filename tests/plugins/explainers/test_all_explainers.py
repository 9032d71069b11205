"""Every explainer on every kind of network: valid maps, the same from the same seed, alone or in a batch; bad input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch

from faithface.contract import Cache, Explainer, Face, Pair, Sample
from faithface.errors import NotApplicable, UsageError
from faithface.loading import load_samples
from faithface_plugins.explainers import (
    ablation_cam,
    black_box,
    cam_head,
    cams,
    controls,
    ensemble,
    gradients,
    score_cam,
    surrogates,
)
from tests.support.networks import KINDS

LIGHT = {"masks": 8, "samples": 8, "segments": 4, "noisy": 2, "steps": 3, "window": 0.4, "stride": 1.0}


def light(explainer: Explainer) -> Explainer:
    """The same explainer with counts that a test can afford."""
    names = {f.name for f in fields(explainer)}  # type: ignore[arg-type]
    return replace(explainer, **{k: v for k, v in LIGHT.items() if k in names})  # type: ignore[type-var]


MODULES = (cams, score_cam, ablation_cam, cam_head, ensemble, gradients, black_box, surrogates)
EXPLAINERS = [light(e) for module in MODULES for e in module.EXPLAINERS]
EXPLAINERS += [controls.RandomMap(), controls.CentrePrior(), controls.Edges()]
EXPLAINERS += [controls.Inverted().with_argument("grad-cam", lambda _: cams.GradCam())]

# What may refuse a kind of network, and why.
REFUSED = {
    "linear": ({"activations"}, "spatial grid|feature maps"),
    "arcface": ({"cam", "guided-backprop"}, "differently|no ReLU"),
    "vit": ({"cam", "guided-backprop"}, "not linear|no ReLU"),
}


def may_refuse(kind: str, explainer: Explainer) -> str:
    names, reason = REFUSED.get(kind, (set(), ""))
    if kind == "linear":
        return reason if explainer.info.needs & names else "no ReLU" if explainer.name == "guided-backprop" else ""
    return reason if explainer.name in names else ""


def check(maps: Any, n: int, size: tuple[int, int], pairs: bool) -> None:
    named = maps.named()
    assert set(named) == ({"similarity", "dissimilarity"} if pairs else {"relevance"})
    for values in named.values():
        assert values.dtype == torch.float32
        assert tuple(values.shape) == ((n, 2, *size) if pairs else (n, *size))
        assert values.isfinite().all()
        assert not values.requires_grad
        assert not pairs or values.min() >= 0


# Every kind of network, and both tasks over the kinds that differ in what a task changes.
CASES = [(kind, "verification" if kind in ("arcface", "depthwise", "grey") else "pad") for kind in KINDS]
CASES += [("cnn", "verification"), ("vit", "verification"), ("linear", "verification")]


@pytest.mark.parametrize(("kind", "task"), CASES)
@pytest.mark.parametrize("explainer", EXPLAINERS, ids=lambda e: e.name)
def test_maps_are_valid_or_refused_with_the_reason(
    opened: Callable[..., Any], explainer: Explainer, kind: str, task: str
) -> None:
    model, samples = opened(kind, task, n=1)
    reason = may_refuse(kind, explainer)
    if reason:
        with pytest.raises(NotApplicable, match=reason):
            explainer.explain(model, samples)
        return
    check(explainer.explain(model, samples), 1, model.size, task == "verification")


@pytest.mark.parametrize(("kind", "task"), [("cnn", "pad"), ("arcface", "verification")])
@pytest.mark.parametrize("explainer", EXPLAINERS, ids=lambda e: e.name)
def test_a_map_is_the_same_alone_in_a_batch_and_in_another_place(
    opened: Callable[..., Any], explainer: Explainer, kind: str, task: str
) -> None:
    model, samples = opened(kind, task, n=3)
    if may_refuse(kind, explainer):
        return
    maps = explainer.explain(model, samples)
    for chosen in ([1], [2, 1]):
        again = explainer.explain(model, samples.take(chosen))
        for key, values in maps.named().items():
            scale = values[1].abs().max().clamp(min=1e-12)
            assert (values[1] - again.named()[key][-1]).abs().max() <= 1e-4 * scale, (key, chosen)


@pytest.mark.parametrize("explainer", [e for e in EXPLAINERS if e.info.seeded], ids=lambda e: e.name)
def test_a_seeded_explainer_repeats_its_map_and_another_seed_gives_another(
    opened: Callable[..., Any], explainer: Explainer
) -> None:
    model, samples = opened("cnn", n=1)
    first = explainer.explain(model, samples).relevance
    assert torch.equal(first, explainer.explain(model, replace(samples, cache=Cache())).relevance)
    assert not torch.equal(first, explainer.explain(model, replace(samples, seed=7, cache=Cache())).relevance)


def test_what_is_not_seeded_does_not_move_with_the_seed(opened: Callable[..., Any]) -> None:
    model, samples = opened("cnn", n=1)
    other = replace(samples, seed=7, cache=Cache())
    for explainer in EXPLAINERS:
        if not explainer.info.seeded:
            first, second = (explainer.explain(model, s).relevance for s in (samples, other))
            assert torch.equal(first, second), explainer.name


def face(name: str, value: float, size: int = 32) -> Face:
    return Face(name, lambda: np.full((size, size, 3), value, dtype=np.float32))


@pytest.mark.parametrize("explainer", EXPLAINERS, ids=lambda e: e.name)
@pytest.mark.parametrize("value", [0.0, 0.6], ids=["black", "constant"])
def test_constant_and_black_images_give_finite_maps(
    opened: Callable[..., Any], explainer: Explainer, value: float
) -> None:
    model, _ = opened("cnn")
    check(explainer.explain(model, load_samples(model, [Sample("s", face("f", value))])), 1, (32, 32), False)
    model, _ = opened("cnn", "verification")
    pair = Pair("p", face("f", value), face("g", value), same=True)
    check(explainer.explain(model, load_samples(model, [pair], threshold=0.5)), 1, (32, 32), True)


@pytest.mark.parametrize("explainer", EXPLAINERS, ids=lambda e: e.name)
def test_an_embedding_of_norm_zero_gives_finite_maps(opened: Callable[..., Any], explainer: Explainer) -> None:
    """On either side: the probe's own embedding, and the reference that it is compared with."""
    model, samples = opened("cnn", "verification", n=1)
    for side in (0, 1):
        outputs = samples.clean.outputs.clone()
        outputs[:, side] = 0
        clean = replace(samples.clean, outputs=outputs, scores=torch.zeros(1))
        check(explainer.explain(model, replace(samples, clean=clean, cache=Cache())), 1, (32, 32), True)


@pytest.mark.parametrize(
    "explainer", [e for e in EXPLAINERS if "layer" in {f.name for f in fields(e)}], ids=lambda e: e.name
)
def test_a_layer_that_does_not_exist_is_refused_with_the_candidates(opened: Callable[..., Any], explainer: Any) -> None:
    with pytest.raises(UsageError, match=r"no layer '/features/features.5/Rely_output_0'; did you mean"):
        replace(explainer, layer="/features/features.5/Rely_output_0").explain(*opened("cnn"))


def test_images_clean_scores_and_the_global_generators_are_left_alone(opened: Callable[..., Any]) -> None:
    model, samples = opened("cnn", "verification", n=1)
    images, outputs = samples.images.clone(), samples.clean.outputs.clone()
    np.random.seed(3)  # noqa: NPY002 - the global generator is the point
    torch.manual_seed(3)
    states = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    for explainer in EXPLAINERS:
        explainer.explain(model, samples)
        assert torch.equal(samples.images, images), explainer.name
        assert torch.equal(samples.clean.outputs, outputs), explainer.name
        assert torch.equal(torch.random.get_rng_state(), states[0]), explainer.name
        assert (np.random.get_state()[1] == states[1]).all(), explainer.name  # noqa: NPY002
        assert not any(p.requires_grad for p in model.twin.parameters()), explainer.name


def test_every_explainer_says_what_it_is() -> None:
    for explainer in EXPLAINERS:
        text = type(explainer).__doc__ or ""
        assert explainer.name
        assert explainer.info.source
        assert "Cost:" in text, explainer.name
        for parameter in fields(explainer):  # type: ignore[arg-type]
            if parameter.metadata.get("parameter", True) and not parameter.name.startswith("_"):
                assert f"{parameter.name}:" in text, (explainer.name, parameter.name)
