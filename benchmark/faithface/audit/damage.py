"""Explainers with a known fault: another explainer's maps, damaged or exchanged on purpose.

Place in the flow: ``exam`` scores them beside the undamaged explainer. They are explainers, so that metrics that
explain again see the same fault. May call the contract, ``loading``, ``perturb.fills``, ``metrics``.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from faithface.contract import Cache, Dataset, Explainer, FaceModel, Maps, Method, Pair, Sample, Samples
from faithface.loading import load_samples
from faithface.metrics._reexplain import rescored
from faithface.metrics.randomisation import learned_layers, randomised_model
from faithface.perturb.fills import gaussian_blur
from faithface.seeds import rng_for

Damage = Literal["noise", "shift", "blur"]
# What each strength means, weak to strong: the share of noise; the shift and the blur's σ in cells of the map. They
# were chosen by the damaged maps' correlation with the undamaged ones alone, without any metric: of a list of strengths
# those that lie furthest apart on both networks of 16-pixel patches (docs/explanation/audit.md).
STRENGTHS: dict[Damage, tuple[float, float, float]] = {
    "noise": (0.2, 0.7, 0.8),
    "shift": (0.25, 0.4, 0.5),
    "blur": (0.8, 1.0, 1.8),
}
KEPT = 48  # batches of maps that are kept with a model


@dataclass(frozen=True)
class Wrapped(Explainer):
    """Another explainer under a name of its own; subclasses change its maps."""

    inner: Explainer
    label: str = field(default="", metadata={"parameter": False})

    method = Method(name="wrapped")

    @property
    def info(self) -> Method:
        return dataclasses.replace(self.inner.info, name=self.label or self.method.name)

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        return self.own(model, samples)

    def own(self, model: FaceModel, samples: Samples) -> Maps:
        """Return the undamaged maps, made once for all damages of one explainer.

        A dozen candidates differ in what they do to one and the same map. Metrics that explain altered images make
        these anew for each candidate, so that maps are found again by what was explained, not by the batch.
        """
        kept = model.cached(_kept)
        key = (self.inner, _digest(samples))
        if key not in kept:
            kept[key] = self.inner.explain(model, samples)
            if len(kept) > KEPT:
                kept.popitem(last=False)
        kept.move_to_end(key)
        return kept[key]


def _kept(_model: FaceModel) -> OrderedDict[object, Maps]:
    return OrderedDict()


def _digest(samples: Samples) -> bytes:
    """Return a hash of all that a map may depend on, apart from the network and the dataset's other samples."""
    clean = samples.clean
    found = hashlib.blake2b(repr((samples.ids, samples.seed, clean.threshold)).encode())
    for values in (samples.images, clean.outputs, clean.scores, clean.predicted):
        found.update(np.ascontiguousarray(values.detach().cpu().numpy()).tobytes())
    return found.digest()


@dataclass(frozen=True)
class Damaged(Wrapped):
    """Maps with noise, moved, or blurred; the range of each face's map is preserved.

    Attributes:
        damage: ``noise``: (1 − s)·map + s·noise, uniform in the map's range, one number per cell, by the sample's seed.
            ``shift``: rolled down and to the right by s cells. ``blur``: Gaussian with σ = s cells, reflecting border.
        strength: s.
        cells: cells per side of the image.
    """

    damage: Damage = "noise"
    strength: float = 0.5
    cells: int = 4

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        maps = self.own(model, samples)
        ids = samples.views().seed_ids
        changed: dict[str, Any] = {}
        for kind, values in maps.named().items():
            faces = values.flatten(0, 1) if samples.are_pairs else values
            done = self._changed(faces, [f"{one}/{kind}" for one in ids], samples.seed)
            changed[kind] = done.unflatten(0, (len(samples), 2)) if samples.are_pairs else done
        return Maps(**changed, absent=maps.absent)

    def _changed(self, maps: Tensor, ids: list[str], seed: int) -> Tensor:
        height, width = maps.shape[-2:]
        if self.damage == "shift":
            down, right = (round(self.strength * side / self.cells) for side in (height, width))
            return maps.roll((down, right), (-2, -1))
        if self.damage == "blur":
            return gaussian_blur(maps, self.strength * min(height, width) / self.cells)
        drawn = np.stack(
            [rng_for(seed, one, "audit-noise").random((self.cells, self.cells), dtype=np.float32) for one in ids]
        )
        noise = torch.from_numpy(drawn).to(maps)[:, None]
        noise = torch.nn.functional.interpolate(noise, size=(height, width), mode="nearest-exact")[:, 0]
        low, high = maps.amin(dim=(-2, -1), keepdim=True), maps.amax(dim=(-2, -1), keepdim=True)
        return (1 - self.strength) * maps + self.strength * (low + (high - low) * noise)


@dataclass(frozen=True)
class Mirrored(Wrapped):
    """Each map mirrored left to right."""

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        maps = self.own(model, samples)
        turned: dict[str, Any] = {kind: values.flip(-1) for kind, values in maps.named().items()}
        return Maps(**turned, absent=maps.absent)


@dataclass(frozen=True)
class WrongKind(Wrapped):
    """Pairs: similarity and dissimilarity exchanged. Classifiers of two classes: the map of the other class."""

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        if samples.are_pairs:
            maps = self.own(model, samples)
            return Maps(similarity=maps.dissimilarity, dissimilarity=maps.similarity, absent=maps.absent)
        clean = samples.clean
        other = dataclasses.replace(clean, predicted=1 - clean.predicted, scores=1 - clean.scores)
        return self.inner.explain(model, dataclasses.replace(samples, clean=other, cache=Cache()))


@dataclass(frozen=True)
class OfAnother(Wrapped):
    """The map of the next sample of the same kind in the dataset; a sample that is the only one keeps its own."""

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        return self.inner.explain(model, samples.cached(_others, model))


def _others(samples: Samples, model: FaceModel) -> Samples:
    assert samples.dataset is not None  # the exam loads samples from a dataset
    following = model.cached(_following, samples.dataset)
    chosen = [following[item.id] for item in samples]
    return load_samples(model, chosen, samples.seed, samples.threshold, samples.dataset)  # type: ignore[arg-type]


def _following(_model: FaceModel, dataset: Dataset) -> dict[str, Sample | Pair]:
    """Return the next item of the same kind, by id; the last is followed by the first."""
    by_kind: dict[tuple[object, str], list[Sample | Pair]] = {}
    for item in dataset.items():
        kind = (item.same, item.kind) if isinstance(item, Pair) else (item.label, "")
        by_kind.setdefault(kind, []).append(item)
    return {one.id: kind[(i + 1) % len(kind)] for kind in by_kind.values() for i, one in enumerate(kind)}


@dataclass(frozen=True)
class Untrained(Wrapped):
    """The map of the same network with random weights in all its layers, for the same question."""

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        assert model.proto is not None  # see can_forget
        net = randomised_model(model, len(learned_layers(model.proto.graph)), samples.seed)
        return self.inner.explain(net, rescored(net, samples))


def can_forget(model: FaceModel, explainer: Explainer) -> bool:
    """Say whether :class:`Untrained` has a meaning: the network has weights, and the explainer uses its gradients,
    activations or scores."""
    asks = explainer.info.needs & {"scores", "gradients", "activations", "contributions"}
    return bool(asks) and model.proto is not None and bool(learned_layers(model.proto.graph))
