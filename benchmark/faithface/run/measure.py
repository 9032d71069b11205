"""What explaining and scoring take on a model, found by a short measurement on one sample.

Place in the flow: an executor calls :func:`measure` with the open model, before the shards, where the driver asks for
it. May call ``guard``, ``loading``, ``fast_forward`` and the contract.

An explainer with thousands of passes per sample is not run to its end: after a moment the network stands still, and its
last answers are given again (``fast_forward.py``). So its passes are counted in full, and their time is that of the
passes that ran. Nothing that is measured is kept: shards are computed afresh.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from faithface.contract import Dataset, Explainer, FaceModel, Maps, Method, Metric, Pair, Sample, Samples
from faithface.loading import load_samples
from faithface.run.fast_forward import FastForward
from faithface.run.guard import Guard, Watch, read_only
from faithface.run.results import Measured, Step, StepCost

TRUE_SECONDS = 0.3
"""For so long the network runs in the measurement of one step; then its passes are counted only."""
MATTERS = 0.02
"""A call that takes less is not timed again."""
AGAIN = 2.0
"""A call that took longer by the clock is not timed again either."""
ALL_SECONDS = 10.0
"""After so long nothing further is measured."""


def measure(
    model: FaceModel,
    group: int,
    cells: Mapping[int, tuple[Explainer, Mapping[str, Metric]]],
    dataset: Dataset,
    positions: Sequence[int],
    seed: int,
    threshold: float | None,
    watch: Watch,
    seconds: float = ALL_SECONDS,
) -> Measured:
    """Return what the steps of a group's cells take for one sample.

    Args:
        cells: explainer and metrics by cell number.
        positions: of the samples that will be scored.
        seconds: after which nothing further is measured; the explainers may take half of it.
    """
    begun = time.monotonic()
    half, end = begun + seconds / 2, begun + seconds
    explain: dict[int, StepCost] = {}
    score: dict[str, StepCost] = {}
    watch.tell(Step("load"))
    samples = load_samples(model, two_kinds(dataset, positions), seed, threshold, watch.watched(dataset))
    guard = Guard(model, samples, watch)
    for number, (explainer, _metrics) in cells.items():
        if time.monotonic() < half and not watch.soiled:
            cost = _cost(
                guard, Step("measure", cell=number), model, lambda m, s, _maps, e=explainer: e.explain(m, s.take([0]))
            )
            # What a plugin reads of the dataset now, it may keep for later.
            watch.reads.of(("explain", number), guard.read)
            if cost is not None:
                explain[number] = cost
    metrics = {text: metric for _explainer, metrics in cells.values() for text, metric in metrics.items()}
    # As in a shard, all metrics score the same maps: what one of them has computed, the next one finds.
    guard.hold(some_maps(guard.samples))
    for text, metric in metrics.items():
        if time.monotonic() < end and not watch.soiled:
            tally = _Tally()
            first = next(iter(cells))

            def call(
                m: FaceModel, s: Samples, maps: Maps | None, metric: Metric = metric, tally: _Tally = tally
            ) -> object:
                assert maps is not None
                chosen = s.where(metric.judged_on)[:1]
                return metric.score(m, s.take(chosen), maps.take(chosen), tally) if len(chosen) else None

            cost = _cost(guard, Step("measure", cell=first, metric=text), model, call, tally)
            watch.reads.of(("score", text), guard.read)
            if cost is not None:
                score[text] = cost
    guard.hold(None)
    watch.tell(Step("rest"))
    return Measured(group, explain, score)


def _cost(guard: Guard, step: Step, model: FaceModel, call: Any, tally: _Tally | None = None) -> StepCost | None:
    """Return what a call takes; None if it fails, which its own cell reports later.

    A first call also pays for what is made once (kernels, buffers, imports), which would be multiplied by the number of
    samples. So a call that takes long enough to matter is timed again.
    """
    begun = time.monotonic()
    first = _once(guard, step, model, call, tally)
    spent = time.monotonic() - begun
    if first is None or first.seconds < MATTERS or spent > AGAIN or guard.watch.soiled:
        return first
    if tally:  # of a metric, a second call would find what is cached
        return first
    second = _once(guard, step, model, call, tally)
    if second is None:
        return first
    return dataclasses.replace(first, seconds=min(first.seconds, second.seconds))


def _once(guard: Guard, step: Step, model: FaceModel, call: Any, tally: _Tally | None) -> StepCost | None:
    if tally:
        tally.rows = 0
    fast = FastForward(model, TRUE_SECONDS)
    begun = time.monotonic()
    try:
        guard.run(step, lambda samples, maps: call(fast, samples, maps))
    except BaseException as error:  # as in a shard: a plugin may raise anything
        guard.let_through(error)
        return None
    taken = max(0.0, time.monotonic() - begun + fast.correction)
    passes = fast.passes
    return StepCost(taken, passes.forward, passes.backward, tally.rows if tally else 0.0, fast.ran_all)


class _Tally(Explainer):
    """An explainer that explains at once, and counts for how many samples."""

    method = Method(name="tally")

    def __init__(self) -> None:
        self.rows = 0

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        self.rows += len(samples)
        return some_maps(samples)


def some_maps(samples: Samples) -> Maps:
    """Return maps of uniform noise."""
    rng = np.random.default_rng(0)
    size = samples.images.shape[-2:]
    shape = (len(samples), 2, *size) if samples.are_pairs else (len(samples), *size)
    maps = [torch.from_numpy(rng.random(shape, dtype=np.float32)).to(samples.images.device) for _ in range(2)]
    return Maps(similarity=maps[0], dissimilarity=maps[1]) if samples.are_pairs else Maps(relevance=maps[0])


def two_kinds(dataset: Dataset, positions: Sequence[int]) -> Any:
    """Return the first sample, and the first of another kind (genuine or impostor, another class) if there is one."""
    items: Sequence[Sample | Pair] = dataset.items()
    first = items[positions[0]]
    other = next((items[p] for p in positions if kind_of(items[p]) != kind_of(first)), None)
    return tuple(read_only(item) for item in (first, other) if item is not None)


def kind_of(item: Sample | Pair) -> object:
    return item.same if isinstance(item, Pair) else item.label
