"""What each check of an explainer does.

Place in the flow: ``of_explainers`` lists the checks and runs them. An explainer is tried on the tiny networks of
``subjects``, whose evidence is known. May call ``findings``, ``located``, ``subjects``,
``watching``, ``devices`` and the core.
"""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Protocol

import numpy as np
import torch

from faithface.contract import Cache, Explainer, Face, FaceModel, Maps, Pair, Sample, Samples
from faithface.explaining import check_maps, explain
from faithface.loading import load_samples
from faithface.specs import parameters
from faithface.tasks import Task
from faithface.testing.devices import HostTensors, is_on_host, on_device
from faithface.testing.findings import (
    CheckFailed,
    CheckSkipped,
    mentions,
    require,
)
from faithface.testing.located import auc, shifted, turned
from faithface.testing.shelf import shared_model
from faithface.testing.subjects import tiny_model, tiny_samples
from faithface.testing.watching import Traces, grown, restored, watched

TOLERANCE = 1e-4
"""Largest difference between two maps that count as the same, relative to the largest value of the map."""
RANDOM_AUC = 0.6
"""Area under the curve that a map must reach on known evidence; a random map has 0.5."""
DISPLACED, TURNED = 0.05, 0.2
"""By how much a displaced or turned map must agree better with the evidence before it is called displaced or turned."""


class Named(Protocol):
    """Tensors by name, one row per sample: maps, or fill images."""

    def named(self) -> dict[str, torch.Tensor]: ...


@dataclass
class Trial:
    """An explainer on the tiny network of a task.

    Attributes:
        traces: what its calls left behind.
    """

    explainer: Explainer
    task: Task
    max_examples: int = 10
    traces: Traces = field(default_factory=Traces)
    gives: ClassVar[str] = "maps"

    @property
    def thing(self) -> Any:
        return self.explainer

    @property
    def seeded(self) -> bool:
        return self.explainer.info.seeded

    @cached_property
    def model(self) -> FaceModel:
        return shared_model(self.task)

    @cached_property
    def samples(self) -> Samples:
        return tiny_samples(self.model, 8)

    @cached_property
    def maps(self) -> Maps:
        """The maps of :attr:`samples`, as the contract wants them."""
        return self.explain(self.samples)

    def explain(self, samples: Samples, seed: int = 0, model: FaceModel | None = None) -> Maps:
        """Return the maps of a batch of which nothing is cached yet."""
        batch = dataclasses.replace(samples, cache=Cache())
        at = model or self.model
        return watched(self.traces, at, batch, lambda: explain(at, batch, self.explainer), seed=seed)

    def raw(self) -> dict[str, torch.Tensor]:
        return self.maps.named()


def same(first: Named, second: Named, at: Sequence[int] | None = None) -> float:
    """Return the largest difference of two batches, relative to each row's largest value.

    Args:
        at: for each row of ``second``, its place in ``first``; None: the same places.
    """
    worst = 0.0
    for name, values in first.named().items():
        values, other = values.detach(), second.named()[name].detach()
        mine = values if at is None else values[list(at)]
        scale = mine.abs().flatten(1).amax(dim=1).clamp(min=1e-12)
        worst = max(worst, float(((mine - other).abs().flatten(1).amax(dim=1) / scale).max()))
    return worst


# --- what it says of itself


def declares(trial: Trial) -> str | None:
    thing = trial.thing
    words = (type(thing).__dict__.get("__doc__") or "").strip()
    if not words or words.startswith(f"{type(thing).__name__}("):
        raise CheckFailed(f"{type(thing).__name__} has no docstring; the first line is shown in `faithface explainers`")
    if missing := [name for name in parameters(thing) if not mentions(words, name)]:
        raise CheckFailed(f"the docstring does not explain the parameter {', '.join(missing)}; write `name: meaning`")
    return None


def cites(trial: Trial) -> str | None:
    require(trial.explainer.info.source, "method.source is empty")
    return None


def pickles(trial: Trial) -> str | None:
    try:
        again = pickle.loads(pickle.dumps(trial.thing))
    except Exception as error:
        raise CheckFailed(f"cannot be sent to a worker process: {type(error).__name__}: {error}") from None
    require(again == trial.thing, "a copy made by pickle differs from the original")
    return None


# --- what it returns


def returns_maps(trial: Trial) -> str | None:
    with restored(trial.traces):
        maps = trial.explainer.explain(trial.model, dataclasses.replace(trial.samples, cache=Cache()))
    require(isinstance(maps, Maps), f"explain returned {type(maps).__name__}; expected faithface.Maps")
    names = {"similarity", "dissimilarity"} if trial.samples.are_pairs else {"relevance"}
    require(set(maps.named()) == names, f"the maps are {sorted(maps.named())}; expected {sorted(names)}")
    for name, values in maps.named().items():
        require(isinstance(values, torch.Tensor), f"{name} is a {type(values).__name__}; expected a torch tensor")
    return None


def shape(trial: Trial) -> str | None:
    narrow = shared_model(trial.task, (40, 24))
    for model, samples in ((trial.model, trial.samples), (narrow, tiny_samples(narrow, 2))):
        maps = trial.maps if model is trial.model else trial.explain(samples, model=model)
        n, size = len(samples), tuple(samples.images.shape[-2:])
        want = (n, 2, *size) if samples.are_pairs else (n, *size)
        for name, values in maps.named().items():
            got = tuple(values.shape)
            require(got == want, f"{name} has the shape {got} for an input of {size[0]}×{size[1]}; expected {want}")
    return None


def dtype(trial: Trial) -> str | None:
    for name, values in trial.raw().items():
        require(
            values.dtype == torch.float32, f"{name} is {str(values.dtype).removeprefix('torch.')}; expected float32"
        )
    return None


def detached(trial: Trial) -> str | None:
    for name, values in trial.raw().items():
        require(not values.requires_grad, f"{name} still hangs on the graph of its gradients")
    return None


def finite(trial: Trial) -> str | None:
    for name, values in trial.raw().items():
        bad = int((~torch.isfinite(values)).flatten(1).any(dim=1).sum())
        require(not bad, f"{name} holds NaN or infinity for {bad} of {len(values)} samples")
    return None


def not_negative(trial: Trial) -> str | None:
    if not trial.samples.are_pairs:
        raise CheckSkipped("relevance may be signed")
    for name, values in trial.raw().items():
        require(not (values < 0).any(), f"{name} is negative somewhere ({float(values.min()):.3g}); expected >= 0")
    return None


def any_image(trial: Trial) -> str | None:
    """Black, white, constant and noisy images, then whatever Hypothesis thinks of."""
    for value in (0.0, 1.0, 0.5):
        _valid(trial, np.full((*trial.model.size, 3), value, np.float32), f"an image that is {value:g} everywhere")
    if not trial.max_examples:
        return None
    try:
        from hypothesis import HealthCheck, Phase, given, settings
        from hypothesis import strategies as st
    except ImportError:
        return "hypothesis is not installed: only constant images were tried"

    @settings(
        max_examples=trial.max_examples, deadline=None, database=None, derandomize=True,
        phases=(Phase.generate, Phase.shrink), suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.integers(0, 2**16), st.floats(0, 1, width=32), st.floats(0, 1, width=32), st.sampled_from([1, 2, 8]))
    def tried(seed: int, level: float, contrast: float, cell: int) -> None:
        height, width = trial.model.size
        noise = np.random.default_rng(seed).random((-(-height // cell), -(-width // cell), 3), dtype=np.float32)
        noise = np.kron(noise, np.ones((cell, cell, 1), np.float32))[:height, :width]
        image = np.clip(level + contrast * (noise - 0.5), 0, 1).astype(np.float32)
        _valid(trial, image, f"noise (seed {seed}, level {level:.2g}, contrast {contrast:.2g}, cells of {cell})")

    tried()
    return None


def _valid(trial: Trial, image: np.ndarray, what: str) -> None:
    face = Face("any", image.copy)
    other = trial.samples.items[0].faces[0]
    item: Any = (
        Pair("any--other", face, other, same=False)
        if trial.task == "verification"
        else Sample("any", face, trial.model.card.output.classes[0])
    )
    samples = load_samples(trial.model, [item], threshold=trial.samples.threshold)
    # Not watched: Hypothesis changes settings of the process itself while it runs.
    with restored(trial.traces):
        maps = explain(trial.model, samples, trial.explainer)
    problems = check_maps(maps, samples)
    if problems and not maps.absent:
        raise CheckFailed(f"on {what}: {next(iter(problems.values())).detail}")


# --- repeatable and independent


def deterministic(trial: Trial) -> str | None:
    found = same(trial.maps, trial.explain(trial.samples))
    require(found <= TOLERANCE, f"two calls on the same batch differ by {found:.2g} of the largest value")
    return None


def seeded(trial: Trial) -> str | None:
    """What is seeded follows the seed, and anything else does not."""
    other = dataclasses.replace(trial.samples, seed=trial.samples.seed + 1)
    moved = same(trial.maps, trial.explain(other)) > TOLERANCE
    declared, where = trial.seeded, f"{trial.thing.declared_in}.seeded"
    require(moved or not declared, f"{where} is True, but another seed gives the same {trial.gives}")
    require(declared or not moved, f"another seed gives other {trial.gives}, but {where} is False")
    return None


def global_random(trial: Trial) -> str | None:
    require(not trial.traces.random, f"{trial.traces.random}: numbers were drawn from it, or it was seeded")
    found = same(trial.maps, trial.explain(trial.samples, seed=1))
    require(found <= TOLERANCE, f"the {trial.gives} depend on the state of a global random generator")
    return None


def batch_independent(trial: Trial) -> str | None:
    for i in (1, 4):
        found = same(trial.maps, trial.explain(trial.samples.take([i])), [i])
        require(found <= TOLERANCE, f"alone and in a batch of 8 a sample gets {trial.gives} that differ by {found:.2g}")
    return None


def order_independent(trial: Trial) -> str | None:
    order = [5, 2, 7, 0, 3, 6, 1, 4]
    found = same(trial.maps, trial.explain(trial.samples.take(order)), order)
    require(found <= TOLERANCE, f"the same batch in another order gets {trial.gives} that differ by {found:.2g}")
    return None


def company_independent(trial: Trial) -> str | None:
    """The same samples beside others; the same number, at the same places, as in the batch they are compared with."""
    others = tiny_samples(trial.model, 8, seed=5)
    items: Any = (*trial.samples.items[:2], *others.items[2:])
    mixed = load_samples(trial.model, items, trial.samples.seed, trial.samples.threshold, trial.samples.dataset)
    found = same(trial.explain(mixed).take([0, 1]), trial.maps.take([0, 1]))
    require(found <= TOLERANCE, f"the same sample beside other samples gets {trial.gives} that differ by {found:.2g}")
    return None


# --- what it leaves


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
    size = int(np.prod(batch.images.shape[-2:])) * 4

    def call() -> None:
        trial.explainer.explain(trial.model, dataclasses.replace(batch, cache=Cache(), images=batch.images.clone()))

    times = 3
    with restored(trial.traces):
        more = grown(call, times)
    if more >= times * size:
        raise CheckFailed(f"{more // times} bytes of arrays stay behind after each call (a map has {size})")
    return None


def on_a_device(trial: Trial) -> str | None:
    mode = HostTensors()
    batch = dataclasses.replace(trial.samples.take([0, 1]), cache=Cache())
    model = on_device(trial.model, mode)
    with restored(trial.traces), mode:
        maps = trial.explainer.explain(model, batch)
    on_host(mode, maps.named())
    if torch.cuda.is_available():
        there = tiny_model(trial.task, device="cuda")
        samples = tiny_samples(there, 2)
        for name, values in explain(there, samples, trial.explainer).named().items():
            require(values.device.type == "cuda", f"{name} is on {values.device}; the images are on cuda")
    return None


def on_host(mode: HostTensors, returned: Mapping[str, torch.Tensor]) -> None:
    """Fail with what would go wrong on a device, tensors that are returned on the host among it."""
    mode.problems += [f"{name} is returned on the host" for name, values in returned.items() if is_on_host(values)]
    require(not mode.problems, f"{mode.problems[0]}; {len(mode.problems)} in all" if mode.problems else "")


# --- whether it is right


def evidence(trial: Trial) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return maps and where the evidence lies, one of each per face that the map is judged on."""
    maps, truths = [], []
    if not trial.samples.are_pairs:
        truth = trial.samples.truth("relevance").numpy() > 0.5
        found = trial.raw()["relevance"].detach().double().numpy()
        return list(found), list(truth)
    for kind, which in (("similarity", "genuine"), ("dissimilarity", "impostor")):
        truth = trial.samples.truth(kind).numpy() > 0.5
        found = trial.raw()[kind].detach().double().numpy()
        for i in trial.samples.where(which):  # type: ignore[arg-type]
            maps += list(found[i])
            truths += list(truth[i])
    return maps, truths


def informative(trial: Trial) -> str | None:
    flat = [m for m in evidence(trial)[0] if np.ptp(m) <= 1e-12 * max(1.0, np.abs(m).max())]
    require(not flat, f"{len(flat)} of {len(evidence(trial)[0])} maps are constant on images with clear evidence")
    return None


def _method_only(trial: Trial) -> None:
    if trial.explainer.info.control:
        raise CheckSkipped("a control, which says of itself that it is no method")


def right_sign(trial: Trial) -> str | None:
    _method_only(trial)
    found = mean_auc(trial)
    require(
        found > 1 - RANDOM_AUC,
        f"the evidence has the lowest values (area under the curve {found:.2f}): the sign is the wrong way round",
    )
    return None


def right_way_round(trial: Trial) -> str | None:
    _method_only(trial)
    name, best, own = turned(*evidence(trial))
    require(
        best - own <= TURNED,
        f"the map is {name}: turned back it agrees with the evidence ({best:.2f} against {own:.2f})",
    )
    return None


def in_place(trial: Trial) -> str | None:
    _method_only(trial)
    (down, right), best, own = shifted(*evidence(trial))
    require(
        best - own <= DISPLACED or (down, right) == (0, 0),
        f"the map is displaced by {down} rows and {right} columns ({best:.2f} against {own:.2f} without)",
    )
    return None


def mean_auc(trial: Trial) -> float:
    maps, truths = evidence(trial)
    return float(np.mean([auc(m, t) for m, t in zip(maps, truths, strict=True)]))


def beats_random(trial: Trial) -> str | None:
    _method_only(trial)
    found = mean_auc(trial)
    require(
        found >= RANDOM_AUC,
        f"area under the curve {found:.2f} on networks whose evidence is known; random maps have 0.50, "
        f"{RANDOM_AUC} is expected",
    )
    return f"area under the curve {found:.2f}"


def each_its_own(trial: Trial) -> str | None:
    """Two images with evidence at different places get different maps."""
    _method_only(trial)
    maps, truths = evidence(trial)
    own = float(np.mean([auc(m, t) for m, t in zip(maps, truths, strict=True)]))
    other = float(np.mean([auc(m, t) for m, t in zip(maps, truths[1:] + truths[:1], strict=True)]))
    different = any(not np.allclose(maps[0], m) for m in maps[1:])
    require(different, "all samples get the same map")
    return f"own evidence {own:.2f}, another sample's {other:.2f}"


def flip(trial: Trial) -> str | None:
    """Reported: whether the map of a mirrored image is the mirrored map."""
    images = trial.samples.images.flip(-1)
    outputs = trial.model.outputs(images.flatten(0, -4)) if not trial.samples.are_pairs else None
    clean = trial.samples.clean
    if outputs is None:
        both = trial.model.embeddings(images.flatten(0, 1)).unflatten(0, (len(images), 2))
        clean = dataclasses.replace(clean, outputs=both)
    else:
        clean = dataclasses.replace(clean, outputs=outputs)
    mirrored = dataclasses.replace(trial.samples, images=images, clean=clean)
    back = trial.explain(mirrored)
    pieces = {name: values.flip(-1) for name, values in back.named().items()}
    flipped = Maps(pieces.get("relevance"), pieces.get("similarity"), pieces.get("dissimilarity"))
    found = same(trial.maps, flipped)
    require(
        found <= 0.01, f"the map of a mirrored image and the mirrored map differ by {found:.2g} of the largest value"
    )
    return f"differs by {found:.2g}"


def completeness(trial: Trial) -> str | None:
    """Sums of two maps differ as the explained scalars do: the baseline's score, whatever it is, cancels out."""
    if "completeness" not in trial.explainer.info.promises:
        raise CheckSkipped("not promised")
    if trial.samples.are_pairs:
        raise CheckSkipped("pairs have a target of their own each, so that sums cannot be compared")
    views = trial.samples.views()
    score = views.target.score(trial.model.card, trial.samples.clean.outputs).double()
    total = trial.raw()["relevance"].double().flatten(1).sum(dim=1)
    predicted = trial.samples.clean.predicted
    for label in predicted.unique():
        at = predicted == label
        gap = (total[at] - total[at][0]) - (score[at] - score[at][0])
        worst = float(gap.abs().max() / score[at].abs().max())
        require(worst <= 0.02, f"sums of maps differ from the scores by {worst:.2g} of the largest score")
    return None


def translation(trial: Trial) -> str | None:
    if "translation" not in trial.explainer.info.promises:
        raise CheckSkipped("not promised")
    move, edge = 2, 3

    def moved(values: torch.Tensor) -> torch.Tensor:
        return values.roll((move, -move), dims=(-2, -1))

    back = trial.explain(dataclasses.replace(trial.samples, images=moved(trial.samples.images)))
    worst = 0.0
    for name, values in trial.raw().items():
        want, got = moved(values), back.named()[name]
        cut = (..., slice(edge + move, -edge - move), slice(edge + move, -edge - move))
        scale = want[cut].abs().max().clamp(min=1e-12)
        worst = max(worst, float((want[cut] - got[cut]).abs().max() / scale))
    require(worst <= 0.01, f"the map of a moved image and the moved map differ by {worst:.2g} of the largest value")
    return None
