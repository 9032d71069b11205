"""What the tests of the builtin plugins share: lighter parameters, and what cannot pass, with the reason.

Used by ``test_builtin`` (a sample of the checks, in seconds) and by ``tests.soak.conformance`` (all of them).
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

LIGHT = {
    "masks": 800,
    "samples": 200,
    "segments": 16,
    "noisy": 4,
    "steps": 8,
    "window": 0.25,
    "stride": 0.5,
}
"""Counts that a test can afford on a network of 32×32 pixels."""

EXPLAINERS: dict[str, dict[str, str]] = {}
"""By explainer and check, why it cannot pass."""

METRICS: dict[str, dict[str, str]] = {}
"""By metric and check, why it cannot pass."""

MODELS: dict[str, dict[str, str]] = {}
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


def light(explainer: Any) -> Any:
    """Return an explainer with counts that a test can afford."""
    names = {f.name for f in fields(explainer)}
    return replace(explainer, **{k: v for k, v in LIGHT.items() if k in names})
