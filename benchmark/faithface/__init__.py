"""faithface: benchmark explainers (saliency methods) of face models. The public names, and nothing else.

>>> import faithface
>>> result = faithface.evaluate(  # doctest: +SKIP
...     model="card.toml", dataset="pairs:pairs.csv@faces", explainers=["fggb", "random"],
metrics=["gap-similarity-score@1"]
... )
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from faithface.card import ContributionsCard, ExplainCard, InputCard, ModelCard, OutputCard
from faithface.contract import (
    Activations,
    Clean,
    Cost,
    Dataset,
    Explainer,
    Face,
    FaceModel,
    Maps,
    Metric,
    Pair,
    Sample,
    Samples,
    Scores,
    Views,
)
from faithface.errors import FaithfaceError, NotApplicable, RunError, UsageError
from faithface.hookspecs import hookimpl
from faithface.loading import clean_threshold, load_samples
from faithface.model import load_card, open_model
from faithface.plugins import load_registry
from faithface.tasks import ClassTarget, PairTarget

if TYPE_CHECKING:
    from faithface.api import Result, evaluate

__version__ = "0.1.0"

__all__ = [
    "Activations",
    "ClassTarget",
    "Clean",
    "ContributionsCard",
    "Cost",
    "Dataset",
    "ExplainCard",
    "Explainer",
    "Face",
    "FaceModel",
    "FaithfaceError",
    "InputCard",
    "Maps",
    "Metric",
    "ModelCard",
    "NotApplicable",
    "OutputCard",
    "Pair",
    "PairTarget",
    "Result",
    "RunError",
    "Sample",
    "Samples",
    "Scores",
    "UsageError",
    "Views",
    "clean_threshold",
    "evaluate",
    "hookimpl",
    "load_card",
    "load_registry",
    "load_samples",
    "open_model",
]


def __getattr__(name: str) -> Any:
    # The API draws in polars and the whole runner; a plugin that only imports the contract should not pay for them.
    if name in ("evaluate", "Result"):
        from faithface import api

        return getattr(api, name)
    raise AttributeError(f"module 'faithface' has no attribute '{name}'")
