"""What the tests of the builtin plugins share: lighter parameters, and what cannot pass, with the reason.

Used by ``test_builtin`` (a sample of the checks, in seconds) and by ``tests.soak.conformance`` (all of them).
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from faithface.plugins import Registry

LIGHT = {
    "masks": 400,
    "samples": 200,
    "segments": 16,
    "noisy": 4,
    "window": 0.25,
    "stride": 0.5,
}
"""Counts that a test can afford on a network of 32×32 pixels."""

EXPLAINERS: dict[str, dict[str, str]] = {
    "corrrise": {
        "beats-random": "its squares, 30 of 112 pixels wide, are wider than the evidence on the tiny faces (7 of 32)"
    },
    "xface": {
        "informative": "variant 1 finds no dissimilarity on the tiny verifier: to it, a face that loses its own "
        "colour is less like the other, because only what both lack is left"
    },
}
"""By explainer and check, why it cannot pass."""

OPENED = {"captum": "captum:InputXGradient", "inverted": "inverted:grad-cam"}
"""Explainers that need another name, and with which they are tried."""

NO_MAPS = {"maps"}
"""Reads maps that were made elsewhere, of which there are none for the tiny faces."""

METRICS: dict[str, dict[str, str]] = {}
"""By metric and check, why it cannot pass."""

MODELS: dict[str, dict[str, str]] = {
    f"exact-tag-{rule}-0": {"sees-images": "it answers to coloured tags at certain places, and to nothing else"}
    for rule in ("and", "one", "or", "xor")
}
"""By model and check, why it cannot pass."""

NEEDS_PATH = {
    "bin",
    "casia-fasd",
    "celeba-spoof",
    "faceforensics",
    "folder",
    "generators",
    "oulu-npu",
    "pairs",
    "replay-attack",
}
"""Datasets that need a path; the tests of their formats open them on written folders."""

DOWNLOADS = {"lfw"}


def explainer_named(registry: Registry, name: str) -> Any:
    """Return a registered explainer as it is tried: opened where it needs an argument, with lighter parameters."""
    return light(registry.explainer(OPENED.get(name, name)).object)


def light(explainer: Any) -> Any:
    """Return an explainer with counts that a test can afford."""
    names = {f.name for f in fields(explainer)}
    return replace(explainer, **{k: v for k, v in LIGHT.items() if k in names})
