"""What each check of a fill does.

Place in the flow: ``of_fills`` lists the checks and runs them. A fill replaces pixels of the tiny images of
``subjects``, whose evidence is known. What is asked of explainers too is taken from ``asked_of_explainers``. May call
``findings``, ``shelf``, ``subjects``, ``watching``, ``devices`` and the core.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch

from faithface.contract import Cache, Face, FaceModel, Fill, Removal, Samples
from faithface.loading import load_samples
from faithface.perturb.fills import OUTSIDE, altered_images, fill_images, inpainted
from faithface.tasks import Task, class_probabilities, pair_similarity
from faithface.testing.asked_of_explainers import on_host
from faithface.testing.devices import HostTensors, on_device
from faithface.testing.findings import CheckFailed, CheckSkipped, require
from faithface.testing.shelf import shared_model
from faithface.testing.subjects import tiny_samples
from faithface.testing.watching import Traces, grown, restored, watched

FALL = 0.01
"""By how much the score must fall on average when the evidence is replaced."""


@dataclass(frozen=True)
class Images:
    """What a fill returned for a batch, by the pixels that were removed: float32 N×sides×3×H×W each."""

    by_mask: Mapping[str, torch.Tensor]

    def named(self) -> dict[str, torch.Tensor]:
        return dict(self.by_mask)

    def take(self, at: Sequence[int]) -> Images:
        return Images({name: images[list(at)] for name, images in self.by_mask.items()})


@dataclass
class Trial:
    """A fill on the images of the tiny network of a task.

    Attributes:
        traces: what its calls left behind.
    """

    fill: Fill
    task: Task
    max_examples: int = 10
    traces: Traces = field(default_factory=Traces)
    gives: ClassVar[str] = "images"

    @property
    def thing(self) -> Fill:
        return self.fill

    @property
    def seeded(self) -> bool:
        return self.fill.filling.seeded

    @cached_property
    def model(self) -> FaceModel:
        return shared_model(self.task)

    @cached_property
    def samples(self) -> Samples:
        return tiny_samples(self.model, 8)

    @cached_property
    def maps(self) -> Images:
        """The images of :attr:`samples`, checked as a run checks them."""
        return self.explain(self.samples)

    @cached_property
    def raw(self) -> torch.Tensor:
        """What the fill itself returns for the probes of :attr:`samples`."""
        with restored(self.traces):
            return self.fill.fill(self.model, removal(self.samples))

    def explain(self, samples: Samples, seed: int = 0, model: FaceModel | None = None) -> Images:
        """Return the images of a batch of which nothing is cached yet."""
        batch = dataclasses.replace(samples, cache=Cache())
        at = model or self.model
        return watched(self.traces, at, batch, lambda: images_of(self.fill, at, batch), seed=seed)


def masks(size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Return what is removed, bool H×W each: every pixel, cells like a chequerboard's, a block in the middle."""
    rows, columns = np.indices(size)
    middle = np.zeros(size, bool)
    middle[size[0] // 4 : -(size[0] // 4), size[1] // 4 : -(size[1] // 4)] = True
    return {"all": np.ones(size, bool), "cells": (rows // 4 + columns // 4) % 2 == 0, "middle": middle}


def images_of(fill: Fill, model: FaceModel, samples: Samples) -> Images:
    sides = 2 if samples.are_pairs else 1
    if not fill.filling.sees_mask:
        return Images({"all": fill_images(model, samples, fill, sides)})
    removed = masks(model.size)
    stack = np.stack(list(removed.values()))
    rows = [
        torch.stack([inpainted(model, samples, fill, i, stack, side) for side in range(sides)])
        for i in range(len(samples))
    ]
    made = torch.stack(rows)
    return Images({name: made[:, :, k] for k, name in enumerate(removed)})


def removal(samples: Samples, mask: np.ndarray | None = None) -> Removal:
    """Return the probes of a batch with the same pixels removed of each; None: all pixels."""
    images = altered_images(samples)[:, 0].clone()
    if mask is None:
        removed = torch.ones((len(images), *images.shape[-2:]), dtype=torch.bool, device=images.device)
    else:
        removed = torch.from_numpy(mask).to(images.device).expand(len(images), *mask.shape).contiguous()
    return Removal(images, removed, samples, tuple(range(len(images))))


# --- what it says of itself, and what it returns


def cites(trial: Trial) -> str | None:
    require(trial.fill.filling.source, "filling.source is empty")
    return None


def returns_images(trial: Trial) -> str | None:
    kind = type(trial.raw).__name__
    require(isinstance(trial.raw, torch.Tensor), f"fill returned {kind}; expected a torch tensor")
    return None


def shape(trial: Trial) -> str | None:
    narrow = shared_model(trial.task, (40, 24))
    for model, found in ((trial.model, trial.raw), (narrow, None)):
        asked = removal(trial.samples if found is not None else tiny_samples(narrow, 2))
        with restored(trial.traces):
            got = found if found is not None else trial.fill.fill(model, asked)
        want = tuple(asked.images.shape)
        require(tuple(got.shape) == want, f"the images have the shape {tuple(got.shape)}; expected {want}")
    return None


def dtype(trial: Trial) -> str | None:
    found = trial.raw.dtype
    require(found == torch.float32, f"the images are {str(found).removeprefix('torch.')}; expected float32")
    return None


def finite(trial: Trial) -> str | None:
    bad = int((~torch.isfinite(trial.raw)).flatten(1).any(dim=1).sum())
    require(not bad, f"{bad} of {len(trial.raw)} images hold NaN or infinity")
    return None


def in_range(trial: Trial) -> str | None:
    low, high = float(trial.raw.min()), float(trial.raw.max())
    require(low >= -OUTSIDE and high <= 1 + OUTSIDE, f"values lie from {low:.3g} to {high:.3g}; expected [0, 1]")
    return None


def any_image(trial: Trial) -> str | None:
    """Black, white and constant images, noise, and every pattern of removed pixels."""
    height, width = trial.model.size
    noise = np.random.default_rng(0).random((height, width, 3), dtype=np.float32)
    shown = {f"{v:g} everywhere": np.full((height, width, 3), v, np.float32) for v in (0.0, 0.5, 1.0)}
    given: list[Any] = list(trial.samples.items)
    items = [
        dataclasses.replace(item, **{_face_of(item): Face(f"any-{k}", image.copy)})
        for k, (item, image) in enumerate(zip(given, [*shown.values(), noise], strict=False))
    ]
    samples = load_samples(trial.model, items, threshold=trial.samples.threshold, dataset=trial.samples.dataset)
    with restored(trial.traces):
        images_of(trial.fill, trial.model, samples)  # what is not valid is an error that says so
    return None


def _face_of(item: object) -> str:
    return "a" if hasattr(item, "same") else "face"


# --- what it leaves


def memory_released(trial: Trial) -> str | None:
    batch = trial.samples.take([0, 1])
    size = int(np.prod(batch.images.shape[-3:])) * 4

    def call() -> None:
        trial.fill.fill(trial.model, removal(dataclasses.replace(batch, cache=Cache())))

    times = 3
    with restored(trial.traces):
        more = grown(call, times)
    if more >= times * size:
        raise CheckFailed(f"{more // times} bytes of arrays stay behind after each call (an image has {size})")
    return None


def on_a_device(trial: Trial) -> str | None:
    mode = HostTensors()
    asked = removal(dataclasses.replace(trial.samples.take([0, 1]), cache=Cache()))
    model = on_device(trial.model, mode)
    with restored(trial.traces), mode:
        found = trial.fill.fill(model, asked)
    on_host(mode, {"the image": found})
    return None


# --- whether it is a fill


def ignores_removed(trial: Trial) -> str | None:
    """What is removed cannot show through: a fill that sees the mask must not read what lies under it."""
    if not trial.fill.filling.sees_mask:
        raise CheckSkipped("it does not see the mask, so that it may depend on the whole image")
    for name, mask in masks(trial.model.size).items():
        if name == "all":
            continue  # where nothing is left, a fill may fall back on the image's colours
        asked = removal(trial.samples, mask)
        other = asked.images.clone()
        other[asked.removed[:, None].expand_as(other)] = 0.9
        with restored(trial.traces):
            one = trial.fill.fill(trial.model, asked)
            two = trial.fill.fill(trial.model, dataclasses.replace(asked, images=other))
        gap = float(((one - two).abs() * asked.removed[:, None]).max())
        require(gap <= 1e-4, f"other values under the mask ({name}) change the fill by {gap:.2g}")
    return None


def removes_evidence(trial: Trial) -> str | None:
    """Replacing the evidence, and nothing else, lowers the score on average."""
    samples = trial.samples
    kind = "similarity" if samples.are_pairs else "relevance"
    samples = samples.take(samples.where("genuine")) if samples.are_pairs else samples
    truth = samples.truth(kind)
    where = (truth[:, 0] if samples.are_pairs else truth) > 0.5
    images = altered_images(samples)[:, 0]
    with restored(trial.traces):
        if trial.fill.filling.sees_mask:
            parts = [
                inpainted(trial.model, samples, trial.fill, i, where[i : i + 1].cpu().numpy())
                for i in range(len(samples))
            ]
            shown = torch.cat(parts)
        else:
            shown = torch.where(where[:, None], fill_images(trial.model, samples, trial.fill)[:, 0], images)
    outputs = trial.model.outputs(shown)
    if samples.are_pairs:
        scores = pair_similarity(trial.model.card, outputs, samples.clean.outputs[:, 1])
    else:
        scores = class_probabilities(trial.model.card, outputs).gather(1, samples.clean.predicted[:, None])[:, 0]
    fall = float((samples.clean.scores - scores).mean())
    require(fall >= FALL, f"with the evidence replaced the score falls by {fall:.3f} on average; {FALL} is expected")
    return f"the score falls by {fall:.2f}"
