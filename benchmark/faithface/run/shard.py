"""Explain and score a few samples: the unit of work, of resume and of distribution.

Place in the flow: the executors call :func:`run_shard` for 16 samples at a time and hand what it yields to the driver.
It is a pure function of its arguments: nothing is written, and running it twice gives the same
values. May call ``guard``, ``loading``, ``explaining`` and the contract.

Inside a shard all explainers see the same batch one after another, so that they share what can be shared (one
forward pass for all CAMs, one set of masks), and all metrics of an explainer see the same maps.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from faithface.card import ModelCard
from faithface.contract import Cost, Dataset, Explainer, FaceModel, Maps, Metric, Pair, Sample, Samples, Scores
from faithface.errors import NotApplicable, UsageError
from faithface.explaining import WrongReturn, check_maps, explain, one_line, what_happened
from faithface.loading import load_samples
from faithface.reasons import Reason, ReasonCode, Status
from faithface.run.blame import place_of, text_of
from faithface.run.guard import Guard, Trespass, Watch, read_only
from faithface.run.results import (
    NOT_DETERMINISTIC,
    CellShard,
    Curve,
    SampleFacts,
    ScoredValue,
    ShardFailure,
    ShardSamples,
    Step,
)


@dataclass(frozen=True)
class CellWork:
    """What a shard needs of a cell: its number in the plan, the explainer, and the metrics by their text.

    Attributes:
        twice: whether a sample is explained once more, to see whether its map is the same.
    """

    cell: int
    explainer: Explainer
    metrics: Mapping[str, Metric]
    twice: bool = False


@dataclass(frozen=True)
class ShardWork:
    """One shard: samples at their positions in the dataset, and the cells that still need them."""

    number: int
    positions: tuple[int, ...]
    items: tuple[Sample, ...] | tuple[Pair, ...]
    cells: tuple[CellWork, ...]


def run_shard(
    model: FaceModel,
    work: ShardWork,
    seed: int,
    threshold: float | None,
    dataset: Dataset,
    keep_maps: bool = False,
    pixels: Mapping[str, Tensor] | None = None,
    watch: Watch | None = None,
) -> Iterator[ShardSamples | CellShard]:
    """Load the samples, then explain and score them for each cell.

    Args:
        pixels: the samples' faces by id, where they were read ahead.
        watch: is told of each step, and knows the surroundings that plugins must leave as they are.

    Yields:
        First the samples' facts, then one :class:`CellShard` per cell, in order. A cell that fails says so in its
        result; the others go on.
    """
    watch = watch or Watch()
    watch.tell(Step("load", work.number))
    items: Any = tuple(read_only(item) for item in work.items)
    samples = load_samples(model, items, seed, threshold, watch.watched(dataset), pixels)
    if watch.surroundings is not None and (changed := watch.surroundings.restore()):
        raise UsageError(
            f'dataset "{dataset.name if dataset is not None else ""}", while its faces were read, changed '
            f"{', '.join(changed[:4])} for the whole process; restore what was there before returning",
            ReasonCode.STATE_CHANGED,
        )
    yield ShardSamples(work.number, sample_facts(model, samples, work.positions))
    guard = Guard(model, samples, watch)
    for cell in work.cells:
        yield run_cell(model, samples, cell, work.number, keep_maps, guard)
    watch.tell(Step("rest", work.number))


def run_cell(
    model: FaceModel,
    samples: Samples,
    work: CellWork,
    number: int,
    keep_maps: bool = False,
    guard: Guard | None = None,
) -> CellShard:
    """Explain and score one batch for one cell; an explainer's exception ends the cell, a metric's that metric."""
    guard = guard or Guard(model, samples, Watch())
    step = Step("explain", number, work.cell)
    try:
        maps = guard.run(step, lambda samples, _: explain(model, samples, work.explainer))
        problems = check_maps(maps, guard.samples) | without_score(guard.samples)
        cost = maps.cost or Cost(0.0, 0, 0)
        result = CellShard(
            work.cell,
            number,
            guard.samples.ids,
            invalid={guard.samples.ids[i]: reason for i, reason in problems.items()},
            seconds=cost.seconds,
            forward=cost.forward,
            backward=cost.backward,
            note=plain(maps.note),
            asked=frozenset(work.metrics),
            maps={name: m.detach().cpu().numpy() for name, m in maps.named().items()} if keep_maps else None,
            native=maps.native.detach().cpu().numpy() if keep_maps and maps.native is not None else None,
        )
    except BaseException as error:  # a plugin may raise anything, and must not end the run
        guard.let_through(error)
        guard.watch.failed(error)
        return CellShard(work.cell, number, guard.samples.ids, failure=explainer_failure(error, work.explainer))
    result.reads[""] = guard.watch.reads.of(("explain", work.cell), guard.read)
    if work.twice and not work.explainer.info.seeded:
        result = replace(result, note={**result.note, **differs(model, guard, work, maps, number)})
    guard.hold(maps)
    valid = np.array([i for i in range(len(guard.samples)) if i not in problems], dtype=int)
    for text, metric in work.metrics.items():
        score_metric(model, guard, work, text, metric, valid, problems, result)
    guard.hold(None)
    return result


SAME = 1e-2
"""How much of its maximum a map may differ from the same sample's explained again: alone, rounding differs a little."""


def differs(model: FaceModel, guard: Guard, work: CellWork, maps: Maps, number: int) -> dict[str, str]:
    """Explain the first sample once more, with the global random generators in another state.

    Returns:
        A note under :data:`~faithface.run.results.NOT_DETERMINISTIC` if its map is another one; else nothing.
    """
    try:
        step = Step("again", number, work.cell)
        again = guard.run(step, lambda samples, _: explain(model, samples.take([0]), work.explainer))
        check_maps(again, guard.samples.take([0]))
        most = max(_difference(maps.named()[name][:1], found) for name, found in again.named().items())
    except BaseException as error:  # it did not raise on the batch
        guard.let_through(error)
        return {NOT_DETERMINISTIC: f"explained again, the first sample {what_happened(error)}"}
    if most <= SAME:
        return {}
    text = f"explained again, the first sample's map differs by {most:.0%} of its maximum"
    return {NOT_DETERMINISTIC: f"{text}; random numbers come from samples.rng, and need `seeded` in its Method"}


def _difference(a: Tensor, b: Tensor) -> float:
    """Return max |a − b| / max |a|; 0 where both are not finite, or both are 0."""
    a, b = a.detach().double().cpu(), b.detach().double().cpu()
    both = ~(a.isfinite() | b.isfinite())
    gap = (a - b).abs().masked_fill(both, 0.0).max()
    scale = a[a.isfinite()].abs().max() if bool(a.isfinite().any()) else a.new_tensor(1.0)
    return float(gap / scale) if scale > 0 else float(gap > 0)


def without_score(samples: Samples) -> dict[int, Reason]:
    """Return, by sample index, why a sample cannot be scored: the model gives no number for it as it is."""
    scores = samples.clean.scores.detach().cpu().numpy()
    return {
        int(i): Reason(ReasonCode.NON_FINITE_SCORE, f"the model gives {scores[i]} for the unaltered sample")
        for i in np.flatnonzero(~np.isfinite(scores))
    }


def score_metric(
    model: FaceModel,
    guard: Guard,
    work: CellWork,
    text: str,
    metric: Metric,
    valid: np.ndarray,
    problems: Mapping[int, Reason],
    result: CellShard,
) -> None:
    """Score one metric on the samples it is judged on, and put values, curves and failures into ``result``."""
    ids = guard.samples.ids
    found = CellShard(result.cell, result.number, ids)
    begun = time.perf_counter()
    try:
        judged = guard.samples.where(metric.judged_on)
        for i in judged:
            if int(i) in problems:
                reason = problems[int(i)]
                found.values.extend(
                    ScoredValue(text, name, ids[i], float("nan"), reason) for name in metric.protocol.value_names
                )
        chosen = np.intersect1d(judged, valid)
        if len(chosen):

            def score(samples: Samples, maps: Maps | None) -> Scores:
                assert maps is not None
                return metric.score(model, samples.take(chosen), maps.take(chosen), work.explainer)

            try:
                scores = guard.run(Step("score", result.number, work.cell, text), score)
            finally:
                result.reads[text] = guard.watch.reads.of(("score", text), guard.read)
            values = check_scores(metric, scores, len(chosen), model.card)
            put_scores(found, text, values, scores, [ids[at] for at in chosen])
    except BaseException as error:  # as above: a metric's failure is that metric's alone
        guard.let_through(error)
        guard.watch.failed(error)
        result.metric_failures[text] = metric_failure(error, metric)
        return
    result.scored[text] = time.perf_counter() - begun
    result.values.extend(found.values)
    result.curves.extend(found.curves)


def put_scores(
    result: CellShard, text: str, values: Mapping[str, np.ndarray], scores: Scores, ids: Sequence[str]
) -> None:
    """Put a metric's checked values, and its curves, into ``result``; ``ids`` are those of the samples it scored."""
    for name, column in values.items():
        for i, sample in enumerate(ids):
            value = float(column[i])
            reason = None
            if not np.isfinite(value):
                reason = Reason.of(scores.reasons.get(i) or "no reason given", ReasonCode.UNDEFINED)
            flag = Reason.of(scores.flags.get(i), ReasonCode.REMARK)
            result.values.append(ScoredValue(text, name, sample, value, reason, flag))
    for name, points in scores.curves.items():
        for i, sample in enumerate(ids):
            result.curves.append(Curve(text, name, sample, np.asarray(points[i], dtype=np.float32)))


def _column(name: str, column: Any) -> np.ndarray:
    """Return a metric's values as float64.

    Raises:
        WrongReturn: they are no plain numbers.
    """
    if isinstance(column, Tensor):
        if column.requires_grad:
            raise WrongReturn(f"returned value '{name}' with its gradient attached; expected numpy: .detach().numpy()")
        column = column.cpu()
    try:
        return np.asarray(column, dtype=np.float64)
    except (TypeError, ValueError):
        raise WrongReturn(
            f"returned value '{name}' as {type(column).__name__} that is no array of numbers; expected one float per "
            "sample"
        ) from None


ROUNDING = 1e-4
"""How far a value may lie outside its metric's range, as a share of the range: rounding in float32, summed up."""


def check_scores(metric: Metric, scores: Scores, count: int, card: ModelCard | None = None) -> dict[str, np.ndarray]:
    """Hold a metric's answer against its own declaration: the named values, one float per sample, the range.

    Args:
        card: of the model, on which the range may depend.

    Raises:
        WrongReturn: the values differ from the declaration; the range is the headline's.
    """
    if not isinstance(scores, Scores):
        raise WrongReturn(f"returned {type(scores).__name__}; expected Scores")
    if not isinstance(scores.values, Mapping):
        raise WrongReturn(f'returned values as {type(scores.values).__name__}; expected Scores({{"": values}})')
    values = {name: _column(name, column) for name, column in scores.values.items()}
    if set(values) != set(metric.protocol.value_names):
        raise WrongReturn(f"returned values {sorted(values)}; expected {sorted(metric.protocol.value_names)}")
    for name, column in values.items():
        if column.shape != (count,):
            raise WrongReturn(f"returned shape {column.shape} for value '{name}'; expected ({count},)")
    low, high = metric.range_on(card)
    ends = [abs(end) for end in (low, high) if np.isfinite(end)]
    slack = ROUNDING * max(1.0, *ends) if ends else 0.0
    outside = (values[""] < low - slack) | (values[""] > high + slack)
    if outside.any():
        raise WrongReturn(f"returned {values[''][outside][0]:g}, but it declares the range [{low:g}, {high:g}]")
    return {name: values[name] for name in metric.protocol.value_names}


def sample_facts(model: FaceModel, samples: Samples, positions: Sequence[int]) -> tuple[SampleFacts, ...]:
    """Describe the samples: identities (else faces) that repeat, the clean score, and whether the model is right."""
    rows = []
    item: Any  # a Sample or a Pair
    for i, item in enumerate(samples.items):
        predicted = int(samples.clean.predicted[i])
        facts: dict[str, Any] = {"score": float(samples.clean.scores[i]), "predicted": predicted}
        if isinstance(item, Pair):
            facts["same"], facts["kind"] = item.same, item.kind
            facts["correct"] = None if samples.threshold is None else bool(predicted) == item.same
        else:
            facts["label"] = item.label
            facts["correct"] = is_right(model, samples.dataset, item.label, predicted)
        facts["units"] = sorted({face.identity or f"face:{face.id}" for face in item.faces})
        rows.append(SampleFacts(positions[i], item.id, facts))
    return tuple(rows)


def is_right(model: FaceModel, dataset: Dataset | None, label: str | None, predicted: int) -> bool | None:
    """Say whether a classifier is right: by the class's name, else by which class is positive; None: unknown."""
    out = model.card.output
    if label is None:
        return None
    if label in out.classes:
        return out.classes[predicted] == label
    positive = dataset.positive if dataset is not None else ""
    if positive and out.positive and len(out.classes) == 2:
        return (out.classes[predicted] == out.positive) == (label == positive)
    return None


def explainer_failure(error: BaseException, explainer: Explainer) -> ShardFailure:
    """Say what an exception of an explainer makes of its cell."""
    return _failure(error, "explainer", explainer, ReasonCode.EXPLAINER_RAISED, ReasonCode.EXPLAINER_RETURNED)


def metric_failure(error: BaseException, metric: Metric) -> ShardFailure:
    """Say what an exception of a metric makes of it."""
    return _failure(error, "metric", metric, ReasonCode.METRIC_RAISED, ReasonCode.METRIC_RETURNED)


def _failure(
    error: BaseException, whose: str, plugin: object, raised: ReasonCode, returned: ReasonCode
) -> ShardFailure:
    if isinstance(error, NotApplicable):
        return ShardFailure(Status.NOT_APPLICABLE, Reason(error.code, one_line(error)))
    if isinstance(error, Trespass):
        return ShardFailure(Status.FAILED, Reason(error.code, f"{whose} {error}"))
    if isinstance(error, WrongReturn):
        return ShardFailure(Status.FAILED, Reason(returned, f"{whose} {what_happened(error)}"))
    place = place_of(error, plugin)
    text = f"{whose} {what_happened(error)}{f' ({place})' if place else ''}"
    return ShardFailure(Status.FAILED, Reason(raised, text), text_of(error))


def plain(note: Mapping[str, Any]) -> dict[str, Any]:
    """Return a note as JSON values."""
    return {str(k): v if isinstance(v, str | int | float | bool | None) else str(v) for k, v in note.items()}
