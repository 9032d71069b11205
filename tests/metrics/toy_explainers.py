"""Explainers whose behaviour is known, for testing metrics that explain again. Used by tests only."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from faithface.contract import Explainer, FaceModel, Maps, Method, Samples


def from_faces(samples: Samples, one: Callable[[Tensor], Tensor]) -> Maps:
    """Return maps made face by face from the pixels (3×H×W) alone; pairs get the same map twice."""
    faces = samples.images.flatten(0, 1) if samples.are_pairs else samples.images
    maps = torch.stack([one(face) for face in faces])
    if not samples.are_pairs:
        return Maps(relevance=maps)
    both = maps.unflatten(0, (len(samples), 2))
    return Maps(similarity=both, dissimilarity=both.clone())


@dataclass(frozen=True)
class Brightness(Explainer):
    """The sum of the colours: moves exactly as the image moves."""

    method = Method(
        name="toy-brightness",
    )

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        return from_faces(samples, lambda face: face.sum(dim=0))


@dataclass(frozen=True)
class Constant(Explainer):
    """The same value everywhere."""

    method = Method(
        name="toy-constant",
    )

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        return from_faces(samples, lambda face: torch.full(face.shape[1:], 0.5))


@dataclass(frozen=True)
class Noise(Explainer):
    """Random pixels, seeded by the sample: never looks at the image."""

    method = Method(
        name="toy-noise",
        seeded=True,
    )

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        shape = samples.images.shape[-2:]
        maps = torch.stack(
            [torch.from_numpy(samples.rng(i, "toy").random(shape, dtype=np.float32)) for i in range(len(samples))]
        )
        if not samples.are_pairs:
            return Maps(relevance=maps)
        both = torch.stack([maps, maps], dim=1)
        return Maps(similarity=both, dissimilarity=both.clone())


@dataclass(frozen=True)
class Gradient(Explainer):
    """The gradient of the explained score, summed over colours: signed; pairs get its two signs."""

    method = Method(
        name="toy-gradient",
        needs=frozenset({"gradients"}),
    )

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        views = samples.views()
        return Maps.from_views(model.gradient(views.images, views.target).sum(dim=1), samples)


@dataclass(frozen=True)
class Changed(Explainer):
    """Another explainer's maps, passed through ``change`` (a function of N×…×H×W), on every call."""

    inner: Explainer
    change: Callable[[Tensor], Tensor] = field(metadata={"parameter": False})
    method = Method(
        name="toy-changed",
    )

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        maps = self.inner.explain(model, samples)
        return Maps(**{name: self.change(value) for name, value in maps.named().items()})


@dataclass(eq=False)
class Counting(Explainer):
    """Another explainer, keeping the batches that it was asked to explain."""

    inner: Explainer
    seen: list[Samples] = dataclasses.field(default_factory=list, metadata={"parameter": False})
    method = Method(
        name="toy-counting",
    )

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        self.seen.append(samples)
        return self.inner.explain(model, samples)


@dataclass(frozen=True)
class Precomputed(Explainer):
    """Maps from elsewhere: cannot explain an altered image."""

    method = Method(
        name="toy-precomputed",
        reexplains=False,
    )

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        raise AssertionError("a metric asked precomputed maps to explain again")
