"""What each check of a metric does.

Place in the flow: ``of_metrics`` lists the checks and runs them. A metric scores maps whose worth is known (the
evidence
itself, noise, and the evidence turned upside down in value) on the tiny networks of ``subjects``. May call
``findings``, ``subjects``, ``watching`` and the core.
"""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch

from faithface.contract import Cache, Cost, Explainer, FaceModel, Maps, Method, Metric, Samples, Scores
from faithface.errors import NotApplicable
from faithface.loading import load_samples
from faithface.reasons import Reason
from faithface.specs import parameters
from faithface.tasks import Task
from faithface.testing.findings import (
    CheckFailed,
    CheckSkipped,
    mentions,
    require,
)
from faithface.testing.shelf import shared_model
from faithface.testing.subjects import tiny_samples
from faithface.testing.watching import Traces, grown, restored, watched

TOLERANCE = 1e-4
SAMPLES = 8


@dataclass(frozen=True)
class Known(Explainer):
    """The evidence of the tiny images, blurred; or noise. What a metric that explains again is given.

    Parameters:
        kind: ``evidence``, ``noise`` or ``inverted``.
    """

    kind: str = "evidence"

    method = Method("known", seeded=True, control=True)

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        return maps_of(samples, self.kind)


def maps_of(samples: Samples, kind: str) -> Maps:
    """Return maps of one kind: ``evidence``, ``noise``, ``inverted`` (the evidence has the lowest values),
    ``constant``.

    For images that were altered the evidence is found by its colour, so that it moves with them.
    """
    if samples.are_pairs:
        first, second = samples.images[:, 0], samples.images[:, 1]
        a, b = _colours(first), _colours(second)
        shared = torch.stack([a * b.amax(dim=(2, 3), keepdim=True), b * a.amax(dim=(2, 3), keepdim=True)], dim=1)
        own = torch.stack(
            [a * (1 - b.amax(dim=(2, 3), keepdim=True)), b * (1 - a.amax(dim=(2, 3), keepdim=True))], dim=1
        )
        named = {"similarity": shared.sum(dim=2), "dissimilarity": own.sum(dim=2)}
    else:
        named = {"relevance": _colours(samples.images).sum(dim=1)}
    for name, values in named.items():
        if kind == "noise":
            draws = [
                samples.rng(i, f"noise-{name}").random(values.shape[1:], dtype=np.float32) for i in range(len(samples))
            ]
            named[name] = torch.from_numpy(np.stack(draws))
        elif kind == "inverted":
            top = values.flatten(1).amax(dim=1).reshape(-1, *[1] * (values.ndim - 1))
            named[name] = top - values
        elif kind == "constant":
            named[name] = torch.full_like(values, 0.5)
    return made(named, Cost(0.01 * len(samples), len(samples), 0))


def made(named: Mapping[str, torch.Tensor], cost: Cost | None) -> Maps:
    """Return maps by their names."""
    return Maps(named.get("relevance"), named.get("similarity"), named.get("dissimilarity"), cost=cost)


def _colours(images: torch.Tensor) -> torch.Tensor:
    """Return how much green, red and blue stand out from grey, smoothed: N×3×H×W in [0, 1]."""
    red, green, blue = images.unbind(dim=1)
    found = torch.stack([green - (red + blue) / 2, red - (green + blue) / 2, blue - (red + green) / 2], dim=1)
    clear = (found * 4 - 0.6).clamp(0, 1)
    return torch.nn.functional.avg_pool2d(clear, 3, stride=1, padding=1)


@dataclass
class Trial:
    """A metric on the tiny network of a task."""

    metric: Metric
    task: Task
    max_examples: int = 10
    traces: Traces = field(default_factory=Traces)

    @cached_property
    def model(self) -> FaceModel:
        return shared_model(self.task)

    @cached_property
    def samples(self) -> Samples:
        """Those that the metric is judged on, as a run hands them over."""
        whole = tiny_samples(self.model, 2 * SAMPLES)
        return fresh(whole.take(list(whole.where(self.metric.judged_on))[:SAMPLES]))

    @cached_property
    def scores(self) -> Scores:
        return self.score(self.samples, self.maps)

    @cached_property
    def maps(self) -> Maps:
        """Between evidence and noise, so that no value is at an end of its range."""
        good, bad = maps_of(self.samples, "evidence").named(), maps_of(self.samples, "noise").named()
        return made({k: good[k] + 0.5 * bad[k] for k in good}, Cost(0.1, 80, 8))

    def score(self, samples: Samples, maps: Maps, kind: str = "evidence", seed: int = 0) -> Scores:
        def call() -> Scores:
            return self.metric.score(self.model, samples, maps, Known(kind))

        return watched(self.traces, self.model, samples, call, maps, seed)

    def headline(self, kind: str) -> float:
        """Return the board's number of maps of a kind."""
        scores = self.score(fresh(self.samples), maps_of(self.samples, kind), kind)
        values = np.asarray(scores.values[""], dtype=float)
        return self.metric.summarise(values[np.isfinite(values)])


def fresh(samples: Samples) -> Samples:
    return dataclasses.replace(samples, cache=Cache())


def difference(first: Scores, second: Scores, at: Sequence[int] | None = None) -> float:
    """Return the largest difference of two batches' values; NaN equals NaN only."""
    worst = 0.0
    for name, values in second.values.items():
        mine = np.asarray(first.values[name], dtype=float)
        mine = mine if at is None else mine[list(at)]
        other = np.asarray(values, dtype=float)
        if (np.isnan(mine) != np.isnan(other)).any():
            return float("inf")
        finite = np.isfinite(mine)
        if finite.any():
            worst = max(worst, float(np.max(np.abs(mine - other)[finite] / np.maximum(1, np.abs(mine[finite])))))
    return worst


# --- what it says of itself


def documented(trial: Trial) -> str | None:
    thing = trial.metric
    words = (type(thing).__dict__.get("__doc__") or "").strip()
    if not words or words.startswith(f"{type(thing).__name__}("):
        raise CheckFailed(f"{type(thing).__name__} has no docstring; it is the text of the protocol")
    if missing := [name for name in parameters(thing) if not mentions(words, name)]:
        raise CheckFailed(f"the docstring does not explain the parameter {', '.join(missing)}; write `name: meaning`")
    require(thing.protocol.question, "protocol.question is empty; say in one sentence what the metric asks")
    return None


def cites(trial: Trial) -> str | None:
    require(trial.metric.protocol.source, "protocol.source is empty")
    return None


def pickles(trial: Trial) -> str | None:
    try:
        again = pickle.loads(pickle.dumps(trial.metric))
    except Exception as error:
        raise CheckFailed(f"cannot be sent to a worker process: {type(error).__name__}: {error}") from None
    require(again == trial.metric, "a copy made by pickle differs from the original")
    return None


def summarises(trial: Trial) -> str | None:
    metric = trial.metric
    for name in metric.protocol.value_names:
        found = metric.summarise(np.array([0.25, 0.5, 0.75]), name)
        require(isinstance(found, float), f"summarise returned {type(found).__name__}; expected float")
        none = metric.summarise(np.array([]), name)
        require(np.isnan(none), f"summarise of no values returned {none}; expected NaN")
    return None


# --- what it returns


def returns_scores(trial: Trial) -> str | None:
    with restored(trial.traces):
        found = trial.metric.score(trial.model, fresh(trial.samples), trial.maps, Known())
    require(isinstance(found, Scores), f"score returned {type(found).__name__}; expected faithface.Scores")
    names, want = set(found.values), set(trial.metric.protocol.value_names)
    require(names == want, f"the values are named {sorted(names)}; protocol.values says {sorted(want)}")
    return None


def one_per_sample(trial: Trial) -> str | None:
    for name, values in trial.scores.values.items():
        require(isinstance(values, np.ndarray), f'"{name}" is a {type(values).__name__}; expected a numpy array')
        require(
            values.shape == (len(trial.samples),),
            f'"{name}" has the shape {values.shape} for {len(trial.samples)} samples',
        )
        require(values.dtype == np.float64, f'"{name}" is {values.dtype}; expected float64')
    for name, curve in trial.scores.curves.items():
        require(
            len(curve) == len(trial.samples), f'curve "{name}" has {len(curve)} rows for {len(trial.samples)} samples'
        )
    return None


def reasons_for_nan(trial: Trial) -> str | None:
    _reasons(trial.scores, "on ordinary maps")
    if all(np.isnan(np.asarray(v, dtype=float)).all() for v in trial.scores.values.values()):
        reason = next(iter(trial.scores.reasons.values()), "")
        raise CheckSkipped(f"no sample has a value here: {reason}")
    return None


def _reasons(scores: Scores, where: str) -> None:
    values = np.asarray(scores.values[""], dtype=float)
    require(not np.isinf(values).any(), f"a value is infinite {where}; expected a number, or NaN with a reason")
    for i in np.flatnonzero(np.isnan(values)):
        reason = Reason.of(scores.reasons.get(int(i)), code=_undefined())
        require(reason, f"sample {i} is NaN {where}, and reasons does not say why")


def _undefined() -> Any:
    from faithface.reasons import ReasonCode

    return ReasonCode.UNDEFINED


def in_range(trial: Trial) -> str | None:
    low, high = trial.metric.range_on(trial.model.card)
    for kind in ("evidence", "noise", "inverted"):
        values = np.asarray(
            trial.score(fresh(trial.samples), maps_of(trial.samples, kind), kind).values[""], dtype=float
        )
        seen = values[np.isfinite(values)]
        outside = seen[(seen < low - 1e-6) | (seen > high + 1e-6)]
        require(
            not len(outside),
            f"a value is {outside[0]:.4g} on {kind} maps; the range is [{low:g}, {high:g}]" if len(outside) else "",
        )
    return None


def any_map(trial: Trial) -> str | None:
    """Constant and zero maps, tiny and huge values, then whatever Hypothesis thinks of."""
    samples = trial.samples.take([0, 1])
    base = maps_of(samples, "evidence").named()
    tried: dict[str, dict[str, torch.Tensor]] = {
        "constant maps": {k: torch.full_like(v, 0.5) for k, v in base.items()},
        "maps of zeros": {k: torch.zeros_like(v) for k, v in base.items()},
        "maps with values of 1e-30": {k: v * 1e-30 for k, v in base.items()},
        "maps with values of 1e30": {k: v * 1e30 for k, v in base.items()},
    }
    for what, named in tried.items():
        _scored(trial, samples, named, what)
    if not trial.max_examples:
        return None
    try:
        from hypothesis import HealthCheck, Phase, given, settings
        from hypothesis import strategies as st
    except ImportError:
        return "hypothesis is not installed: only special maps were tried"

    @settings(
        max_examples=trial.max_examples, deadline=None, database=None, derandomize=True,
        phases=(Phase.generate, Phase.shrink), suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.integers(0, 2**16), st.integers(-20, 20), st.sampled_from([0.0, 0.5, 0.99]), st.booleans())
    def any_values(seed: int, exponent: int, zeros: float, steps: bool) -> None:
        rng = np.random.default_rng(seed)
        named = {}
        for key, value in base.items():
            drawn = rng.standard_normal(tuple(value.shape)) * 10.0**exponent
            drawn = np.sign(drawn) * 10.0**exponent if steps else drawn
            drawn = np.where(rng.random(drawn.shape) < zeros, 0, drawn)
            named[key] = torch.from_numpy((drawn if key == "relevance" else np.abs(drawn)).astype(np.float32))
        _scored(trial, samples, named, f"random maps (seed {seed}, 1e{exponent}, {zeros:.0%} zeros, steps={steps})")

    any_values()
    return None


def _scored(trial: Trial, samples: Samples, named: Mapping[str, torch.Tensor], what: str) -> None:
    maps = made(named, Cost(0.01, len(samples), 0))
    try:
        # Not watched: Hypothesis changes settings of the process itself while it runs.
        with restored(trial.traces):
            scores = trial.metric.score(trial.model, fresh(samples), maps, Known())
    except NotApplicable:
        return
    except Exception as error:
        raise CheckFailed(f"raised {type(error).__name__} on {what}: {error}") from error
    _reasons(scores, f"on {what}")
    low, high = trial.metric.range_on(trial.model.card)
    values = np.asarray(scores.values[""], dtype=float)
    seen = values[np.isfinite(values)]
    require(
        ((seen >= low - 1e-6) & (seen <= high + 1e-6)).all(),
        f"the value {seen} on {what} is outside [{low:g}, {high:g}]",
    )


# --- repeatable and independent


def deterministic(trial: Trial) -> str | None:
    found = difference(trial.scores, trial.score(fresh(trial.samples), trial.maps))
    require(found <= TOLERANCE, f"two calls on the same maps differ by {found:.2g}")
    return None


def global_random(trial: Trial) -> str | None:
    require(not trial.traces.random, f"{trial.traces.random}: numbers were drawn from it, or it was seeded")
    found = difference(trial.scores, trial.score(fresh(trial.samples), trial.maps, seed=1))
    require(found <= TOLERANCE, "the values depend on the state of a global random generator")
    return None


def batch_independent(trial: Trial) -> str | None:
    _alone(trial)
    for i in (1, 4):
        found = difference(trial.scores, trial.score(fresh(trial.samples.take([i])), trial.maps.take([i])), [i])
        require(found <= TOLERANCE, f"a sample alone and in a batch gets values that differ by {found:.2g}")
    return None


def order_independent(trial: Trial) -> str | None:
    _alone(trial)
    order = [5, 2, 7, 0, 3, 6, 1, 4][: len(trial.samples)]
    found = difference(trial.scores, trial.score(fresh(trial.samples.take(order)), trial.maps.take(order)), order)
    require(found <= TOLERANCE, f"the same batch in another order gets values that differ by {found:.2g}")
    return None


def company_independent(trial: Trial) -> str | None:
    _alone(trial)
    whole = tiny_samples(trial.model, 2 * SAMPLES, seed=5)
    others = whole.take(list(whole.where(trial.metric.judged_on))[:SAMPLES])
    items: Any = (*trial.samples.items[:2], *others.items[2:])
    mixed = load_samples(trial.model, items, trial.samples.seed, trial.samples.threshold, trial.samples.dataset)
    theirs = maps_of(others, "noise").named()
    maps = made({k: torch.cat([v[:2], theirs[k][2:]]) for k, v in trial.maps.named().items()}, trial.maps.cost)
    found = difference(trial.scores, _first(trial.score(mixed, maps), 2), [0, 1])
    require(found <= TOLERANCE, f"the same sample beside others gets values that differ by {found:.2g}")
    return None


def _first(scores: Scores, n: int) -> Scores:
    return Scores({k: np.asarray(v)[:n] for k, v in scores.values.items()})


def _alone(trial: Trial) -> None:
    if trial.metric.protocol.family == "cost":
        raise CheckSkipped("a cost is measured for the batch")


def inputs_untouched(trial: Trial) -> str | None:
    require(not trial.traces.inputs, trial.traces.inputs)
    return None


def model_untouched(trial: Trial) -> str | None:
    require(not trial.traces.model, trial.traces.model)
    return None


def process_untouched(trial: Trial) -> str | None:
    require(not trial.traces.process, trial.traces.process)
    return None


def memory_released(trial: Trial) -> str | None:
    batch = trial.samples.take([0, 1])
    maps = trial.maps.take([0, 1]).named()
    size = int(np.prod(batch.images.shape[-2:])) * 4

    def call() -> None:
        copied = made({k: v.clone() for k, v in maps.items()}, trial.maps.cost)
        trial.metric.score(trial.model, dataclasses.replace(fresh(batch), images=batch.images.clone()), copied, Known())

    with restored(trial.traces):
        more = grown(call, 3)
    if more >= 3 * size:
        raise CheckFailed(f"{more // 3} bytes of arrays stay behind after each call (a map has {size})")
    return None


# --- whether it is right


def reads_maps(trial: Trial) -> str | None:
    """The value moves with the map; a cost and a question to the explainer alone need not."""
    if trial.metric.protocol.family == "cost":
        raise CheckSkipped("a cost does not look at maps")
    if "explainer" in trial.metric.protocol.needs:
        raise CheckSkipped("it asks how the explainer reacts, and those used here react alike")
    first = trial.score(fresh(trial.samples), maps_of(trial.samples, "evidence"), "evidence")
    second = trial.score(fresh(trial.samples), maps_of(trial.samples, "noise"), "noise")
    require(difference(first, second) > 1e-9, "the evidence itself and noise get the same values")
    return None


def right_direction(trial: Trial) -> str | None:
    """The evidence beats its inverse, and noise is not better than the evidence, by the metric's own direction."""
    protocol = trial.metric.protocol
    if protocol.family in ("description", "cost", "gate"):
        raise CheckSkipped(f"a {protocol.family} says nothing of which map is right")
    sign = 1 if protocol.better == "higher" else -1
    found = {kind: trial.headline(kind) for kind in ("evidence", "noise", "inverted")}
    if not all(np.isfinite(list(found.values()))):
        raise CheckSkipped(f"not all kinds of maps have a number here: {found}")
    told = ", ".join(f"{kind} {value:.3g}" for kind, value in found.items())
    require(
        sign * found["evidence"] >= sign * found["inverted"] - 1e-9,
        f"the inverted evidence is better than the evidence ({told}; better is {protocol.better})",
    )
    require(
        sign * found["evidence"] >= sign * found["noise"] - 1e-9,
        f"noise is better than the evidence ({told}; better is {protocol.better})",
    )
    return told


def in_place(trial: Trial) -> str | None:
    """Maps with the evidence at its place are better than the same maps mirrored."""
    if trial.metric.protocol.family != "truth":
        raise CheckSkipped("the metric is not held against a known answer")
    sign = 1 if trial.metric.protocol.better == "higher" else -1
    good = maps_of(trial.samples, "evidence")
    wrong = made({k: v.flip(-1) for k, v in good.named().items()}, good.cost)
    value = {}
    for name, maps in (("evidence", good), ("mirrored", wrong)):
        values = np.asarray(trial.score(fresh(trial.samples), maps).values[""], dtype=float)
        value[name] = trial.metric.summarise(values[np.isfinite(values)])
    require(
        sign * value["evidence"] > sign * value["mirrored"],
        f"mirrored maps get {value['mirrored']:.3g}, the maps as they are {value['evidence']:.3g}",
    )
    return None
