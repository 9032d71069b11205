"""Refuse what cannot apply, as a run does before it starts."""

from __future__ import annotations

from faithface.applicability import metric_applies
from faithface.card import ModelCard
from faithface.contract import Dataset, Explainer, Metric
from faithface.errors import NotApplicable


def check(metric: Metric, card: ModelCard, dataset: Dataset, explainer: Explainer | None = None) -> None:
    """Raise NotApplicable with the reason for which a metric cannot be scored; the model counts as one of two runs."""
    reason = metric_applies(card, dataset, explainer, metric, [card, card])
    if reason is not None:
        raise NotApplicable(reason.detail, reason.code)
