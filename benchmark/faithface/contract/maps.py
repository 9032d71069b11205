"""Explanations of a batch, and what they cost.

Place in the flow: made by explainers, checked by ``run``, judged by metrics. May call ``errors`` and ``samples``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import numpy as np

from faithface.contract.cache import Cache
from faithface.contract.samples import Samples
from faithface.errors import UsageError
from faithface.lazy import torch
from faithface.reasons import Reason

if TYPE_CHECKING:
    from torch import Tensor

P = ParamSpec("P")
T = TypeVar("T")
PAIR_MAPS = ("similarity", "dissimilarity")


@dataclass(frozen=True)
class Cost:
    """What the maps of a batch cost: wall seconds, and images passed forward and backward through the network."""

    seconds: float
    forward: int
    backward: int


@dataclass(frozen=True, eq=False)
class Maps:
    """Explanations of a batch: float32 at the model's input size; larger = more.

    Attributes:
        relevance: classifiers: N×H×W; may be signed (negative is evidence against the class).
        similarity, dissimilarity: pairs: N×2×H×W (for ``a``, ``b``), both >= 0.
        native: the map before it was resized, where the method has a coarse one: N×h×w (pairs: N×2×h×w, of
            ``similarity``); for measures that are defined on it.
        cost: filled in by the runner.
        absent: why a sample (by index) has no map; its maps hold NaN, and no metric scores it.
        note: what was chosen during the computation and belongs in the record, such as ``{"layer": "/layer4/Relu"}``.
    """

    relevance: Tensor | None = None
    similarity: Tensor | None = None
    dissimilarity: Tensor | None = None
    native: Tensor | None = None
    cost: Cost | None = None
    absent: Mapping[int, Reason] = field(default_factory=dict)
    note: Mapping[str, Any] = field(default_factory=dict)
    cache: Cache = field(default_factory=Cache, repr=False)

    def __len__(self) -> int:
        return len(self.headline)

    @property
    def are_pairs(self) -> bool:
        return self.relevance is None

    @property
    def headline(self) -> Tensor:
        """The map of a classifier, or the similarity maps of the pairs."""
        first = self.relevance if self.relevance is not None else self.similarity
        if first is None:
            raise UsageError("Maps holds neither relevance nor similarity; give one of them")
        return first

    @staticmethod
    def from_views(signed: Tensor, samples: Samples, native: Tensor | None = None, **note: Any) -> Maps:
        """Build maps from one signed map per view (M×H×W, in the order of :meth:`Samples.views`).

        Classifiers: relevance = the map. Pairs: positive part → similarity, negative part → dissimilarity.
        """
        signed = signed.detach().to(torch.float32)
        if not samples.are_pairs:
            return Maps(relevance=signed, native=native, note=note)
        both = signed.unflatten(0, (len(samples), 2))
        small = None if native is None else native.unflatten(0, (len(samples), 2))
        return Maps(similarity=both.clamp(min=0), dissimilarity=(-both).clamp(min=0), native=small, note=note)

    def named(self) -> dict[str, Tensor]:
        """Return the maps that are there by name: ``relevance``, or ``similarity`` and ``dissimilarity``."""
        return {k: v for k in ("relevance", *PAIR_MAPS) if (v := getattr(self, k)) is not None}

    def cached(self, function: Callable[Concatenate[Maps, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return ``function(self, *args, **kwargs)``, computed once for as long as these maps live."""
        return self.cache.get(self, function, *args, **kwargs)

    def take(self, indices: Sequence[int] | np.ndarray) -> Maps:
        """Return the maps at ``indices``, remembered, so that a repeated call shares its cache."""
        chosen = tuple(int(i) for i in indices)
        return self if chosen == tuple(range(len(self))) else self.cached(_taken, chosen)


def _taken(maps: Maps, chosen: tuple[int, ...]) -> Maps:
    at = torch.as_tensor(chosen, dtype=torch.long, device=maps.headline.device)

    def part(one: Tensor | None) -> Tensor | None:
        return None if one is None else one[at.to(one.device)]

    return Maps(
        part(maps.relevance),
        part(maps.similarity),
        part(maps.dissimilarity),
        native=part(maps.native),
        cost=maps.cost,
        absent={place: maps.absent[i] for place, i in enumerate(chosen) if i in maps.absent},
        note=maps.note,
    )
