"""faithface: benchmark explainers (saliency methods) of face models. The public names, and nothing else.

>>> import faithface
>>> result = faithface.evaluate(  # doctest: +SKIP
...     model="card.toml",
...     dataset="pairs:pairs.csv@faces",
...     explainers=["fggb", "random"],
...     metrics=["gap-similarity-score@1"],
... )

Each name is imported from its module when it is first used, so that ``import faithface`` costs next to nothing and
a plugin that only declares explainers loads neither torch nor the runner. ``dir(faithface)`` shows them all.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from faithface.api import Explanation, Result, evaluate, explain
    from faithface.card import ContributionsCard, ExplainCard, InputCard, ModelCard, OutputCard, load_card
    from faithface.contract import (
        Activations,
        Clean,
        Cost,
        Dataset,
        Explainer,
        Face,
        FaceModel,
        Fill,
        Filling,
        Maps,
        Method,
        Metric,
        Pair,
        Protocol,
        Removal,
        Sample,
        Samples,
        Scores,
        Value,
        Views,
    )
    from faithface.errors import FaithfaceError, NotApplicable, RunError, UsageError
    from faithface.hookspecs import hookimpl
    from faithface.loading import clean_threshold, load_samples
    from faithface.model import open_model
    from faithface.plugins import load_registry
    from faithface.reasons import Reason, ReasonCode, Status
    from faithface.scoring import score
    from faithface.tasks import ClassTarget, PairTarget

__version__ = "0.1.0"

_HOMES = {
    "faithface.api": (
        "Explanation",
        "Result",
        "evaluate",
        "explain",
    ),
    "faithface.card": (
        "ContributionsCard",
        "ExplainCard",
        "InputCard",
        "ModelCard",
        "OutputCard",
        "load_card",
    ),
    "faithface.contract": (
        "Activations",
        "Clean",
        "Cost",
        "Dataset",
        "Explainer",
        "Face",
        "FaceModel",
        "Fill",
        "Filling",
        "Maps",
        "Method",
        "Metric",
        "Pair",
        "Protocol",
        "Removal",
        "Sample",
        "Samples",
        "Scores",
        "Value",
        "Views",
    ),
    "faithface.errors": (
        "FaithfaceError",
        "NotApplicable",
        "RunError",
        "UsageError",
    ),
    "faithface.hookspecs": ("hookimpl",),
    "faithface.loading": (
        "clean_threshold",
        "load_samples",
    ),
    "faithface.model": ("open_model",),
    "faithface.plugins": ("load_registry",),
    "faithface.reasons": (
        "Reason",
        "ReasonCode",
        "Status",
    ),
    "faithface.scoring": ("score",),
    "faithface.tasks": (
        "ClassTarget",
        "PairTarget",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Activations",
    "ClassTarget",
    "Clean",
    "ContributionsCard",
    "Cost",
    "Dataset",
    "ExplainCard",
    "Explainer",
    "Explanation",
    "Face",
    "FaceModel",
    "FaithfaceError",
    "Fill",
    "Filling",
    "InputCard",
    "Maps",
    "Method",
    "Metric",
    "ModelCard",
    "NotApplicable",
    "OutputCard",
    "Pair",
    "PairTarget",
    "Protocol",
    "Reason",
    "ReasonCode",
    "Removal",
    "Result",
    "RunError",
    "Sample",
    "Samples",
    "Scores",
    "Status",
    "UsageError",
    "Value",
    "Views",
    "clean_threshold",
    "evaluate",
    "explain",
    "hookimpl",
    "load_card",
    "load_registry",
    "load_samples",
    "open_model",
    "score",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'faithface' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
