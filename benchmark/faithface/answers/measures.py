"""The five measures of Explain To Me for one network, and for the zoo's families beside it.

Place in the flow: a part of ``report``. May call ``plugins``, ``explaining``, ``applicability``, ``loading``,
``model`` and ``metrics`` (as registered). Source: Crum et al., 2303.11969: (a) entropy, (b) resilience to noise and to
other data, (c) geometry, (d) training stability, (e) degradation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from faithface.applicability import explainer_applies, family_of, metric_applies
from faithface.boards.statistics.means import mean_interval
from faithface.card import ModelCard
from faithface.contract import Dataset, Explainer, Maps, Metric, Pair, Sample, Scores
from faithface.errors import FaithfaceError
from faithface.explaining import check_maps, explain, what_happened
from faithface.loading import clean_threshold, load_samples
from faithface.model import open_model
from faithface.plugins import Registry

MEASURES: tuple[tuple[str, str, str], ...] = (
    ("histogram-entropy@1", "a. Entropy", "How scattered the map's grey levels are. Low: few places stand out."),
    ("noise-stability@1", "b. Resilience to noise", "How alike the map stays when the image gets noise. 1: the same."),
    ("out-of-set-shift@1", "b. Resilience to other data", "How much performance and maps change on unseen kinds."),
    ("geometry@1", "c. Geometry", "Does the map move with the face when the image is turned or shifted?"),
    ("training-stability@1", "d. Training stability", "Do runs of the same training look at the same places?"),
    ("degradation@1", "e. Degradation", "What the score loses when the image is blurred where the map says nothing."),
)


@dataclass(frozen=True)
class Measured:
    """One measure of one network: mean and 95 % interval over samples; or why there is none.

    Attributes:
        protocol: such as ``geometry@1``.
        value, low, high: NaN where there is none.
        n: samples behind it.
        why: the reason why there is no value, or "".
    """

    protocol: str
    value: float
    low: float
    high: float
    n: int
    why: str = ""


def absent(protocol: str, why: str) -> Measured:
    """Return a measure that has no value, with the reason."""
    return Measured(protocol, float("nan"), float("nan"), float("nan"), 0, why)


def measure(
    registry: Registry,
    card: ModelCard,
    data: Dataset,
    items: Sequence[Sample | Pair],
    explainer: Explainer,
    seed: int,
    device: str,
) -> tuple[Measured, ...]:
    """Explain some samples, and score the five measures on the maps."""
    reason = explainer_applies(card, data, explainer)
    if reason is not None:
        return tuple(absent(name, reason.detail) for name, _, _ in MEASURES)
    model = open_model(card, device)
    try:
        threshold = clean_threshold(model, data) if card.task == "verification" else None
        samples = load_samples(model, items, seed, threshold, data)  # type: ignore[arg-type]
        maps = explain(model, samples, explainer)
        problems = check_maps(maps, samples)
        kept = [i for i in range(len(items)) if i not in problems]
        if not kept:
            raise FaithfaceError(next(iter(problems.values())).detail)
        samples, maps = samples.take(kept), maps.take(kept)
    except Exception as error:  # a plugin may raise anything; the report says so and continues
        return tuple(absent(name, f"the explainer {_said(error)}") for name, _, _ in MEASURES)
    family = [entry.object for entry in registry.models.values()]
    found = []
    for name, _, _ in MEASURES:
        metric: Metric = registry.metric(name).object
        cannot = metric_applies(card, data, explainer, metric, [card, *(m for m in family if m.name != card.name)])
        if cannot is not None:
            found.append(absent(name, cannot.detail))
            continue
        try:
            if "family" in metric.protocol.needs:
                runs = {card.name: maps, **_other_runs(card, family, items, data, explainer, seed, device)}
                scores, judged = metric.score_family(runs, samples), np.arange(len(samples))
            else:
                judged = samples.where(metric.judged_on)
                scores = metric.score(model, samples.take(judged), maps.take(judged), explainer)
            found.append(_summary(name, scores, [samples.items[int(i)] for i in judged], metric.range_on(card)))
        except Exception as error:  # as above: one measure is one line
            found.append(absent(name, _said(error)))
    return tuple(found)


def _summary(name: str, scores: Scores, items: Sequence[Sample | Pair], limits: tuple[float, float]) -> Measured:
    """Return mean and interval; an interval of few samples is cut where the measure's range ends."""
    values = np.asarray(scores.values[""], dtype=np.float64)
    there = np.isfinite(values)
    if not there.any():
        why = next((str(reason) for reason in scores.reasons.values()), "no sample has a value")
        return absent(name, why)
    people = [
        sorted({face.identity or face.id for face in item.faces}) for item, ok in zip(items, there, strict=True) if ok
    ]
    interval = mean_interval(values[there], people)
    low, high = np.clip([interval.low, interval.high], *limits)
    return Measured(name, float(values[there].mean()), float(low), float(high), int(there.sum()))


def _other_runs(
    card: ModelCard,
    family: Sequence[ModelCard],
    items: Sequence[Sample | Pair],
    data: Dataset,
    explainer: Explainer,
    seed: int,
    device: str,
) -> dict[str, Maps]:
    runs = {}
    for other in family:
        if other.name != card.name and other.task == card.task and family_of(other) == family_of(card):
            model = open_model(other, device)
            threshold = clean_threshold(model, data) if card.task == "verification" else None
            runs[other.name] = explain(model, load_samples(model, items, seed, threshold, data), explainer)  # type: ignore[arg-type]
    return runs


def _said(error: BaseException) -> str:
    return str(error) if isinstance(error, FaithfaceError) else what_happened(error)
