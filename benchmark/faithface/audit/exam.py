"""Score the subject, its damaged versions, its faults, controls and methods with every metric, batch by batch.

Place in the flow: ``audit`` calls :func:`examine` once per world. May call ``damage``, ``verdict`` (a bar),
``run.choice``, ``loading``, ``perturb`` through the metrics, and the contract.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from faithface.audit import verdict
from faithface.audit.damage import (
    STRENGTHS,
    Damaged,
    Mirrored,
    OfAnother,
    Untrained,
    Wrapped,
    WrongKind,
    can_forget,
)
from faithface.contract import Cost, Dataset, Explainer, FaceModel, Maps, Metric, Samples
from faithface.errors import FaithfaceError
from faithface.loading import clean_threshold, load_samples
from faithface.metrics import _maps
from faithface.run.choice import choose

BATCH = 16
FIRST = 8  # samples of the first batch, which are also scored again with one thing changed
QUALITY = 14  # cells per side over which the quality of a damaged map is measured: those that ranked forms rank
SUBJECT = "subject"
FAULTS: tuple[type[Wrapped], ...] = (OfAnother, Mirrored, WrongKind, Untrained)
FAULT_NAMES = {OfAnother: "another", Mirrored: "mirrored", WrongKind: "wrong kind", Untrained: "untrained"}


@dataclass(frozen=True)
class Setting:
    """A world before it is examined.

    Attributes:
        name: its name in the record.
        subject: the explainer whose maps are damaged.
        exact: its maps are the model's own contributions.
        controls: by name: at least ``random`` and ``inverted`` (the subject's).
        methods: further explainers, by name, for the agreement of metrics.
        cells: cells per side in which maps are damaged.
    """

    name: str
    model: FaceModel
    dataset: Dataset
    subject: Explainer
    exact: bool
    controls: Mapping[str, Explainer]
    methods: Mapping[str, Explainer]
    cells: int


@dataclass
class Answers:
    """What was scored in a world.

    Attributes:
        n: samples loaded.
        quality: true quality of the subject and its damaged versions: per sample, by name, over 14×14 cells.
        by_patch: the same over the setting's cells.
        values: headline values by metric and candidate, float64 N over the samples that the metric judges.
        refused: why a metric could not be scored, by metric; why a candidate could not be made, by candidate.
        costly: metrics of more than ``verdict.MANY`` passes, which were scored on the first batch only.
        passes, seconds: per sample, by metric.
        again: on the first samples, means by metric, kind of change ("first", "seed", "points", "fill") and candidate.
        batch: largest difference between a sample alone and in its batch, by metric.
    """

    n: int = 0
    quality: dict[str, list[float]] = field(default_factory=dict)
    by_patch: dict[str, list[float]] = field(default_factory=dict)
    values: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    costly: set[str] = field(default_factory=set)
    passes: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    again: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    batch: dict[str, float] = field(default_factory=dict)


def candidates(setting: Setting) -> dict[str, Explainer]:
    """Return all explainers that are scored, by name: the subject first, then damaged, faults, controls, methods."""
    # Wrapped like the others, so that its maps are made once for all of them.
    found: dict[str, Explainer] = {SUBJECT: Wrapped(setting.subject, setting.subject.info.name)}
    for damage, strengths in STRENGTHS.items():
        for strength in strengths:
            name = f"{damage} {strength:g}"
            found[name] = Damaged(setting.subject, name, damage, strength, setting.cells)
    for fault in FAULTS:
        if fault is Untrained and not can_forget(setting.model, setting.subject):
            continue
        found[FAULT_NAMES[fault]] = fault(setting.subject, FAULT_NAMES[fault])
    return {**found, **setting.controls, **setting.methods}


def series() -> list[list[str]]:
    """Return, for each damage, the names of the subject and its versions with more and more of it."""
    return [[SUBJECT, *(f"{damage} {s:g}" for s in strengths)] for damage, strengths in STRENGTHS.items()]


def damaged_names() -> list[str]:
    """Return the names of the subject and its nine damaged versions."""
    return list(dict.fromkeys(name for one in series() for name in one))


def examine(
    setting: Setting,
    metrics: Mapping[str, Metric],
    count: int,
    seed: int = 0,
    tell: Callable[[str], None] = lambda _line: None,
) -> Answers:
    """Score all candidates with all metrics.

    Args:
        metrics: by text; each must apply to the world.
        count: samples, chosen as a run's limit chooses them.
        tell: receives a line of progress.
    """
    items = setting.dataset.items()
    # A larger limit contains a smaller one: so the first batch holds every class, whatever the dataset's order.
    first, chosen = (choose(items, number, seed) for number in (min(FIRST, count), count))
    rest = [i for i in chosen if i not in first]
    batches = [list(first), *(rest[i : i + BATCH] for i in range(0, len(rest), BATCH))]
    threshold = clean_threshold(setting.model, setting.dataset) if setting.dataset.task == "verification" else None
    answers = Answers(len(chosen))
    columns: dict[str, dict[str, list[np.ndarray]]] = {text: {} for text in metrics}
    spent = dict.fromkeys(metrics, 0)
    for number, batch in enumerate(batches):
        taken: Any = [items[i] for i in batch]
        samples = load_samples(setting.model, taken, seed, threshold, setting.dataset)
        undamaged: dict[int, np.ndarray] = {}
        for name, explainer in candidates(setting).items():
            if name in answers.refused:
                continue
            try:
                maps = _explained(setting.model, samples, explainer)
            except FaithfaceError as error:
                answers.refused[name] = str(error)
                continue
            if name in damaged_names():
                for kept, grid in ((answers.quality, QUALITY), (answers.by_patch, setting.cells)):
                    cells = _cells(samples, maps, grid)
                    kept.setdefault(name, []).extend(_correlations(cells, undamaged.setdefault(grid, cells)))
            for text, metric in metrics.items():
                if text in answers.refused or text in answers.costly:
                    continue
                before = setting.model.passes.forward
                _score(setting, samples, maps, explainer, name, text, metric, columns, answers)
                spent[text] += setting.model.passes.forward - before
        if number == 0:
            answers.costly |= {text for text, passes in spent.items() if passes > verdict.MANY * len(samples)}
            cheap = {text: metric for text, metric in metrics.items() if text not in answers.costly}
            _again(setting, samples, cheap, answers)
        tell(f"{setting.name}: {sum(map(len, batches[: number + 1]))} of {len(chosen)} samples")
    for text, found in columns.items():
        if text not in answers.refused:
            answers.values[text] = {name: np.concatenate(parts) for name, parts in found.items()}
    return answers


def _explained(model: FaceModel, samples: Samples, explainer: Explainer) -> Maps:
    before, start = model.passes, time.perf_counter()
    forward, backward = before.forward, before.backward
    maps = explainer.explain(model, samples)
    spent = Cost(time.perf_counter() - start, model.passes.forward - forward, model.passes.backward - backward)
    return dataclasses.replace(maps, cost=spent)


def _score(
    setting: Setting,
    samples: Samples,
    maps: Maps,
    explainer: Explainer,
    name: str,
    text: str,
    metric: Metric,
    columns: dict[str, dict[str, list[np.ndarray]]],
    answers: Answers,
) -> None:
    judged = samples.where(metric.judged_on)
    if not len(judged):
        return
    forward, start = setting.model.passes.forward, time.perf_counter()
    try:
        scores = metric.score(setting.model, samples.take(judged), maps.take(judged), explainer)
    except FaithfaceError as error:
        answers.refused[text] = str(error)
        return
    columns[text].setdefault(name, []).append(np.asarray(scores.values[""], dtype=np.float64))
    if name == "random":  # not the first explainer, so that shared work is already done
        answers.passes[text] = (setting.model.passes.forward - forward) / len(judged)
        answers.seconds[text] = (time.perf_counter() - start) / len(judged)


def _again(setting: Setting, samples: Samples, metrics: Mapping[str, Metric], answers: Answers) -> None:
    """Score a few candidates again, with one thing changed at a time."""
    few = {SUBJECT: setting.subject, **setting.controls, **setting.methods}
    few = {name: explainer for name, explainer in few.items() if name not in answers.refused}
    other_seed = dataclasses.replace(samples, seed=samples.seed + 1, cache=type(samples.cache)())
    alone = samples.take([0]), samples.take([len(samples) - 1])
    maps = {name: explainer.explain(setting.model, samples) for name, explainer in few.items()}
    for text, metric in metrics.items():
        if text in answers.refused:
            continue
        changed: dict[str, tuple[Metric, Samples]] = {"first": (metric, samples), "seed": (metric, other_seed)}
        fields = parameter_names(metric)
        if "points" in fields:
            changed["points"] = (dataclasses.replace(metric, points=6), samples)  # type: ignore[type-var]
        if "fill" in fields:
            changed["fill"] = (dataclasses.replace(metric, fill="mean"), samples)  # type: ignore[type-var]
        for kind, (variant, batch) in changed.items():
            means: dict[str, float] = {}
            for name, explainer in few.items():
                values = _headline(setting.model, batch, maps[name], explainer, variant)
                if values is not None and np.isfinite(values).any():
                    means[name] = float(np.nanmean(values))
            answers.again.setdefault(text, {})[kind] = means
        answers.batch[text] = _batch_difference(setting, samples, alone, maps[SUBJECT], metric)


def parameter_names(metric: Metric) -> frozenset[str]:
    """Return the names of a metric's parameters; a class that is no dataclass has none."""
    return frozenset(f.name for f in dataclasses.fields(metric)) if dataclasses.is_dataclass(metric) else frozenset()


def _headline(
    model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer, metric: Metric
) -> np.ndarray | None:
    judged = samples.where(metric.judged_on)
    if not len(judged):
        return None
    try:
        scores = metric.score(model, samples.take(judged), maps.take(judged), explainer)
    except FaithfaceError:
        return None
    return np.asarray(scores.values[""], dtype=np.float64)


def _batch_difference(
    setting: Setting, samples: Samples, alone: Sequence[Samples], maps: Maps, metric: Metric
) -> float:
    """Return the largest difference of the subject's value between a sample alone and in its batch."""
    judged = [int(i) for i in samples.where(metric.judged_on)]
    whole = _headline(setting.model, samples, maps, setting.subject, metric)
    worst = 0.0
    for place, one in zip((0, len(samples) - 1), alone, strict=True):
        if whole is None or place not in judged:
            continue
        found = _headline(setting.model, one, maps.take([place]), setting.subject, metric)
        if found is not None:
            difference = abs(float(found[0]) - float(whole[judged.index(place)]))
            worst = max(worst, difference) if np.isfinite(difference) else worst
    return worst


def _cells(samples: Samples, maps: Maps, cells: int) -> np.ndarray:
    """Return the judged maps' means over the cells, float64 N×cells²."""
    return _maps.on_grid(_maps.finite(_maps.judged(samples, maps)), cells).flatten(1).cpu().numpy()


def _correlations(first: np.ndarray, second: np.ndarray) -> list[float]:
    """Return the correlation of each two rows; 0 where one has no spread."""
    first, second = (rows - rows.mean(axis=1, keepdims=True) for rows in (first, second))
    norm = np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))
    return [float(x) for x in np.divide((first * second).sum(axis=1), norm, out=np.zeros(len(norm)), where=norm > 0)]
