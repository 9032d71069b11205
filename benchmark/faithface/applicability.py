"""Which explainers and metrics are not applicable, as far as is known before anything runs, as values.

Place in the flow: ``run.plan`` calls it for each cell; the documentation tools for their examples. May call the
contract, ``errors`` and ``reasons``. A metric's own :meth:`~faithface.contract.Metric.check` decides what its
parameters rule out; everything that follows from a ``Method`` or ``Protocol`` is decided here, and nowhere else.
Details name no model, dataset, explainer or metric: the caller puts the place before a reason, so that equal reasons
are equal texts.
"""

from __future__ import annotations

from collections.abc import Iterable

from faithface.card import ModelCard
from faithface.contract import Dataset, Explainer, Metric
from faithface.errors import NotApplicable
from faithface.reasons import Reason, ReasonCode

NO_CONTRIBUTIONS = Reason(
    ReasonCode.NO_GROUND_TRUTH,
    "needs a model that gives its own contributions; the card has no section [contributions]",
)


def explainer_applies(card: ModelCard, dataset: Dataset, explainer: Explainer) -> Reason | None:
    """Return why an explainer cannot explain this model on this dataset; None if it can, as far as is known now."""
    info = explainer.info
    if card.task not in info.tasks:
        return _other_task(info.tasks, card)
    if "truth" in info.needs and not dataset.truths():
        return Reason(ReasonCode.NO_GROUND_TRUTH, "needs ground truth; the dataset has none")
    if "contributions" in info.needs and card.contributions is None:
        return NO_CONTRIBUTIONS
    return None


def metric_applies(
    card: ModelCard, dataset: Dataset, explainer: Explainer | None, metric: Metric, models: Iterable[ModelCard] = ()
) -> Reason | None:
    """Return why a metric cannot be scored here; None if it can, as far as is known now.

    Args:
        explainer: None: any.
        models: all models of the run, among which a family metric looks for the other training runs.
    """
    protocol = metric.protocol
    if card.task not in protocol.tasks:
        return _other_task(protocol.tasks, card)
    if "truth" in protocol.needs and not (set(metric.ground_truth) & dataset.truths()):
        kinds = " or ".join(metric.ground_truth)
        return Reason(ReasonCode.NO_GROUND_TRUTH, f"needs {kinds} ground truth; the dataset has none")
    if "contributions" in protocol.needs and card.contributions is None:
        return NO_CONTRIBUTIONS
    if "out-of-set" in protocol.needs and dataset.out_of_set() is None:
        return Reason(ReasonCode.NO_OUT_OF_SET, "needs an out-of-set partner; the dataset has none")
    if explainer is not None and "explainer" in protocol.needs and not explainer.info.reexplains:
        return Reason(ReasonCode.CANNOT_REEXPLAIN, "explains altered images again; the explainer cannot")
    try:
        metric.check(card, dataset, explainer)
    except NotApplicable as error:
        return error.reason
    if "family" in protocol.needs:
        runs = [m for m in models if family_of(m) == family_of(card) and m.task == card.task]
        if len(runs) < 2:
            return Reason(
                ReasonCode.SINGLE_RUN, "compares the training runs of a family; only one of this family was given"
            )
    return None


def _other_task(tasks: Iterable[str], card: ModelCard) -> Reason:
    return Reason(ReasonCode.OTHER_TASK, f"for {', '.join(sorted(tasks))} only; the model is for {card.task}")


def family_of(card: ModelCard) -> str:
    """Return the family of a model: the card's, or the model alone."""
    return card.family or card.name
