"""Controls: explainers that must not win, and one that must. Every board includes the first three.

Place in the flow: registered by the package. They read pixels, seeds or ground truth, never the network.

* ``random``: noise. ``centre-prior``: the middle of the image. ``edges``: contrast. None of them looks at the model.
* ``inverted:<name>``: another explainer's map, inverted; it should lose wherever the other wins.
* ``oracle``: the data set's ground truth; it should win, or the metric is at fault.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from faithface.contract import PAIR_MAPS, Explainer, FaceModel, Maps, Method, Samples
from faithface.errors import NotApplicable, UsageError
from faithface.lazy import torch
from faithface.reasons import Reason, ReasonCode
from faithface.seeds import rng_for
from faithface_plugins.explainers.common import unsigned_maps

if TYPE_CHECKING:
    from torch import Tensor

GREY = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class RandomMap(Explainer):
    """Uniform noise in [0, 1), drawn from the sample's seed; pairs: independent for each face and each of its two maps.

    It depends on the sample's id only, not on its pixels: stability metrics find it perfectly stable, like any
    constant map.

    Parameters:
        grid: 0 = one number per pixel; G = one number per cell of a G×G grid.

    Cost: none.
    """

    grid: int = 0

    method = Method(
        name="random",
        needs=frozenset(),
        seeded=True,
        source="control",
        control=True,
    )

    def __post_init__(self) -> None:
        if self.grid < 0:
            raise ValueError(f"grid is {self.grid}; expected 0 (pixels) or a number of cells per side")

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        ids = samples.views().seed_ids
        if not samples.are_pairs:
            return Maps(relevance=self._draw(samples, ids, "random", model.size))
        both = [self._draw(samples, ids, f"random-{kind}", model.size).unflatten(0, (-1, 2)) for kind in PAIR_MAPS]
        return Maps(similarity=both[0], dissimilarity=both[1])

    def _draw(self, samples: Samples, ids: tuple[str, ...], purpose: str, size: tuple[int, int]) -> Tensor:
        shape = (self.grid, self.grid) if self.grid else size
        drawn = np.stack([rng_for(samples.seed, i, purpose).random(shape, dtype=np.float32) for i in ids])
        maps = torch.from_numpy(drawn)
        if self.grid:
            maps = torch.nn.functional.interpolate(maps[:, None], size=size, mode="nearest-exact")[:, 0]
        return maps.to(samples.images.device)


@dataclass(frozen=True)
class CentrePrior(Explainer):
    """A Gaussian in the middle of the image, the same for every sample: exp(−½·((x−cx)²/(σW)² + (y−cy)²/(σH)²)).

    On aligned faces the middle of the image is the middle of the face, and this map is hard to beat wherever the whole
    face is evidence. Pairs: similarity and dissimilarity are the same map.

    Parameters:
        sigma: 0.25, the standard deviation as a share of the image's width and height.

    Cost: none.
    """

    sigma: float = 0.25

    method = Method(
        name="centre-prior",
        needs=frozenset(),
        source="control",
        control=True,
    )

    def __post_init__(self) -> None:
        if not self.sigma > 0:
            raise ValueError(f"sigma is {self.sigma}; expected a share of the image's side, above 0")

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        device = samples.images.device
        rows, columns = ((torch.arange(n, device=device) + 0.5) / n - 0.5 for n in model.size)
        hill = torch.exp(-(rows[:, None] ** 2 + columns[None, :] ** 2) / (2 * self.sigma**2))
        return unsigned_maps(hill.expand(len(samples.views().images), -1, -1).clone(), samples)


@dataclass(frozen=True)
class Edges(Explainer):
    """The magnitude of the Sobel gradient of the luminance 0.299 R + 0.587 G + 0.114 B, border replicated.

    Formula: sqrt((s_x² + s_y²)/2), the weights of either half of a kernel sum to 1, as in ``skimage.filters.sobel``.
    Pairs: similarity and dissimilarity are the same map. A constant image gives a map of zeros.

    Cost: none.
    """

    method = Method(
        name="edges",
        needs=frozenset(),
        source="control",
        control=True,
    )

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        return unsigned_maps(sobel(samples.views().images), samples)


def sobel(images: Tensor) -> Tensor:
    """Return the Sobel magnitude M×H×W of RGB images M×3×H×W."""
    luminance = (images * images.new_tensor(GREY)[:, None, None]).sum(dim=1, keepdim=True)
    vertical = images.new_tensor([[1, 2, 1], [0, 0, 0], [-1, -2, -1]]) / 4
    kernels = torch.stack([vertical, vertical.T])[:, None]
    padded = torch.nn.functional.pad(luminance, (1, 1, 1, 1), mode="replicate")
    steps = torch.nn.functional.conv2d(padded, kernels)
    # A second normalisation by √2, so that the magnitude of two full steps is one.
    return (steps.square().sum(dim=1) / 2).sqrt()


@dataclass(frozen=True)
class Inverted(Explainer):
    """Another explainer's map, inverted: ``inverted:rise`` is max(m) − m for each face's map m of ``rise``.

    The order of the pixels is reversed and the values stay ≥ 0, so that it is a valid map for pairs too.

    Cost: the other explainer's.
    """

    inner: Explainer | None = field(default=None, metadata={"parameter": False})
    asked: str = field(default="", metadata={"parameter": False})

    needs_argument = True
    method = Method(name="inverted", needs=frozenset(), source="control", control=True)

    @property
    def info(self) -> Method:
        """The inverted explainer's method, under this name."""
        if self.inner is None:
            return self.method
        of = self.inner.info
        version = f"{self.method.version}.{of.version}"
        return dataclasses.replace(
            of,
            name=f"inverted:{self.asked}",
            version=version,
            source=self.method.source,
            control=True,
            promises=of.promises - {"completeness"},
        )

    def with_argument(self, argument: str, resolve: Callable[[str], Explainer]) -> Explainer:
        return dataclasses.replace(self, asked=argument, inner=resolve(argument))

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        if self.inner is None:
            raise UsageError(
                'explainer "inverted" needs the name of another; write inverted:NAME, such as inverted:rise'
            )
        maps = self.inner.explain(model, samples)
        turned: dict[str, Any] = {kind: _turned(m) for kind, m in maps.named().items()}
        native = None if maps.native is None else _turned(maps.native)
        return Maps(**turned, native=native, absent=maps.absent, note={**maps.note, "inverted": self.inner.name})


def _turned(maps: Tensor) -> Tensor:
    return maps.amax(dim=(-2, -1), keepdim=True) - maps


@dataclass(frozen=True)
class Oracle(Explainer):
    """The ground truth itself, where the data set has it: the map of a perfect explainer.

    Classifiers: the share of each pixel that carries the evidence. Pairs: the similarity and dissimilarity masks; a
    pair that has only one of the two gets zeros for the other. It does not depend on the model.

    A sample whose truth is empty has no oracle: its map would be constant, and a constant map is scored as noise. These
    are bona fide images, images without a tag, and pairs whose own kind of truth (genuine: similarity, impostor:
    dissimilarity) marks nothing. They have no map (``Maps.absent``), and so no value.

    Parameters:
        kind: for classifiers, the ground truth to show: ``relevance``, ``human`` or ``tag``.

    Cost: none.

    Raises:
        NotApplicable: a sample has no such ground truth.
    """

    kind: Literal["relevance", "human", "tag"] = "relevance"

    method = Method(
        name="oracle",
        needs=frozenset({"truth"}),
        source="ground truth of the data set",
        control=True,
    )

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        if not samples.are_pairs:
            relevance = samples.truth(self.kind).to(torch.float32)
            absent = _empty(relevance, self.kind)
            return Maps(relevance=_blank(relevance, absent), absent=absent)
        both = [torch.stack([self._of_pair(samples, i, kind) for i in range(len(samples))]) for kind in PAIR_MAPS]
        absent = {}
        for kind, maps, own in zip(PAIR_MAPS, both, (samples.genuine, ~samples.genuine), strict=True):
            absent |= {i: reason for i, reason in _empty(maps[:, 0], kind).items() if own[i]}
        return Maps(similarity=_blank(both[0], absent), dissimilarity=_blank(both[1], absent), absent=absent)

    @staticmethod
    def _of_pair(samples: Samples, index: int, kind: str) -> Tensor:
        item = samples.items[index]
        if kind in item.truth:
            return samples.take([index]).truth(kind)[0].to(torch.float32)
        if not any(other in item.truth for other in PAIR_MAPS):
            have = ", ".join(sorted(item.truth)) or "none"
            raise NotApplicable(f'pair "{item.id}" has no similarity or dissimilarity ground truth (it has: {have})')
        return samples.images.new_zeros((2, *samples.images.shape[-2:]))


def _empty(maps: Tensor, kind: str) -> dict[int, Reason]:
    """Return the reason, by index, for every truth N×H×W that marks nothing."""
    nothing = Reason(ReasonCode.NO_GROUND_TRUTH, f"the {kind} ground truth marks nothing on this sample")
    return {int(i): nothing for i in torch.nonzero(maps.flatten(1).amax(dim=1) <= 0).flatten()}


def _blank(maps: Tensor, absent: Mapping[int, Reason]) -> Tensor:
    """Return maps with NaN in place of the missing ones."""
    maps = maps.clone()
    maps[list(absent)] = torch.nan
    return maps


EXPLAINERS: tuple[Explainer, ...] = (RandomMap(), CentrePrior(), Edges(), Inverted(), Oracle())
