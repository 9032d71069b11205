"""What cannot apply to what, as far as is known before anything runs, and when that is an error.

Place in the flow: ``plan`` asks for each cell, and at the end for the whole. May call the contract and ``errors``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from faithface.applicability import explainer_applies, metric_applies
from faithface.errors import UsageError
from faithface.plugins import Resolved

if TYPE_CHECKING:
    from faithface.run.plan import Group


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
            why = [explainer_applies(g.model.object, g.dataset.object, explainer.object) for g in groups]
            if why and (first := why[0]) and all(why):
                raise UsageError(first.detail, first.code)
    cells = [(group, cell) for group in groups for cell in group.cells]
    if "metrics" not in inherited:
        for metric in metrics:
            if not any(metric.spec in cell.metrics for _group, cell in cells):
                # The metric's own reason; it has none if no explainer is left that it could score.
                found = (
                    metric_applies(
                        g.model.object,
                        g.dataset.object,
                        cell.explainer.object,
                        metric.object,
                        [m.object for m in models],
                    )
                    for g, cell in cells
                )
                if found_reason := next(filter(None, found), None):
                    raise UsageError(found_reason.detail, found_reason.code)
    if all(cell.reason for _group, cell in cells):
        missing = " and ".join(f"--{what.removesuffix('s')}" for what in sorted(inherited))
        raise UsageError(f"nothing of the suite is left to run: {cells[0][1].reason}; give {missing} too")
