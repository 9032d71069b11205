"""What cannot apply to what, as far as is known before anything runs, and when that is an error.

Place in the flow: ``plan`` asks for each cell, and at the end for the whole. May call the contract and ``errors``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from faithface.card import ModelCard
from faithface.contract import Dataset, Explainer, Metric
from faithface.errors import NotApplicable, UsageError
from faithface.plugins import Resolved

if TYPE_CHECKING:
    from faithface.run.plan import Group


def explainer_misfit(card: ModelCard, dataset: Dataset, explainer: Explainer) -> str:
    """Say why an explainer cannot explain this model on this dataset; "" if it can, as far as is known now."""
    if card.task not in explainer.tasks:
        return f'explainer "{explainer.name}" is for {", ".join(sorted(explainer.tasks))}; {card.name} is {card.task}'
    if "truth" in explainer.needs and not dataset.truths():
        return f'explainer "{explainer.name}" needs ground truth; dataset "{dataset.name}" has none'
    return ""


def metric_misfit(
    card: ModelCard, dataset: Dataset, explainer: Explainer, metric: Metric, models: Sequence[Resolved]
) -> str:
    """Say why a metric cannot be scored here; "" if it can, as far as is known now."""
    try:
        metric.check(card, dataset, explainer)
    except NotApplicable as error:
        return str(error)
    if "family" in metric.needs:
        runs = [m for m in models if family_of(m.object) == family_of(card) and m.object.task == card.task]
        if len(runs) < 2:
            return f'metric "{metric.id}" compares training runs; family "{family_of(card)}" has only one in this run'
    return ""


def family_of(card: ModelCard) -> str:
    return card.family or card.name


def refuse_misfits(
    groups: Sequence[Group],
    models: Sequence[Resolved],
    datasets: Sequence[Resolved],
    explainers: Sequence[Resolved],
    metrics: Sequence[Resolved],
    inherited: Collection[str],
) -> None:
    """Refuse what fits nowhere.

    Args:
        inherited: see ``Request``; of these lists only so much is asked that something is left to run.

    Raises:
        UsageError: a model, dataset, explainer or metric fits nowhere, or nothing is left.
    """
    for model in models:
        if not any(group.model is model for group in groups):
            have = ", ".join(f"{d.spec} ({d.object.task})" for d in datasets)
            raise UsageError(
                f'model "{model.object.name}" is for {model.object.task}; no such dataset was given: {have}'
            )
    for dataset in datasets:
        if not any(group.dataset is dataset for group in groups):
            have = ", ".join(f"{m.object.name} ({m.object.task})" for m in models)
            raise UsageError(f'dataset "{dataset.spec}" is for {dataset.object.task}; no such model was given: {have}')
    if "explainers" not in inherited:
        for explainer in explainers:
            misfits = [explainer_misfit(g.model.object, g.dataset.object, explainer.object) for g in groups]
            if all(misfits):
                raise UsageError(misfits[0])
    cells = [(group, cell) for group in groups for cell in group.cells]
    if "metrics" not in inherited:
        for metric in metrics:
            if not any(metric.spec in cell.metrics for _group, cell in cells):
                # The metric's own reason; it has none if no explainer is left that it could score.
                found = (
                    metric_misfit(g.model.object, g.dataset.object, cell.explainer.object, metric.object, models)
                    for g, cell in cells
                )
                if why := next(filter(None, found), ""):
                    raise UsageError(why)
    if all(cell.reason for _group, cell in cells):
        missing = " and ".join(f"--{what.removesuffix('s')}" for what in sorted(inherited))
        raise UsageError(f"nothing of the suite is left to run: {cells[0][1].reason}; give {missing} too")
