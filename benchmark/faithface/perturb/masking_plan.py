"""What to mask and when, apart from how it is run.

Place in the flow: ``curves`` (and any other perturbation metric) builds a :class:`MaskingPlan`;
``engine.run_masking_plan`` executes it. May call ``errors`` and ``lazy`` only; holds tensors, runs nothing.

A *track* is one canvas that changes step by step into another: deletion goes from the image to its fill, insertion from
the fill to the image, both along the same order. The network looks at a track at some pixel counts, its *stops*. One
plan may hold tracks of many samples, maps, explainers, directions and fills; the engine fills its batches across all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from faithface.errors import UsageError
from faithface.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class MaskingPlan:
    """T tracks over M canvases and R orders.

    Attributes:
        canvases: float32 M×3×H×W in [0, 1]: images and fills, each once.
        orders: int64 R×(H·W): pixel numbers in raster order, first to be replaced first.
        base, other, order: int64 T: the track starts as ``canvases[base]``; the pixels ``orders[order]`` take the
            values of ``canvases[other]``, in that order.
        stops: int64 T×S, strictly increasing, from 1 to H·W: how many pixels are replaced when the network looks.
    """

    canvases: Tensor
    orders: Tensor
    base: np.ndarray
    other: np.ndarray
    order: np.ndarray
    stops: np.ndarray

    def __post_init__(self) -> None:
        tracks, pixels = len(self.stops), self.orders.shape[1]
        if not len(self.base) == len(self.other) == len(self.order) == tracks:
            raise UsageError("a plan needs one base, other, order and row of stops per track")
        if self.stops.size and (self.stops.min() < 1 or self.stops.max() > pixels):
            raise UsageError(f"stops run from {self.stops.min()} to {self.stops.max()}; expected 1 to {pixels} pixels")
        if (np.diff(self.stops, axis=1) < 1).any():
            raise UsageError("the stops of a track must be strictly increasing; omit those that change nothing")

    @property
    def passes(self) -> int:
        """Forward passes that the plan costs."""
        return int(self.stops.size)


@dataclass(frozen=True)
class Track:
    """One track of a plan, for :func:`plan_tracks`: canvases and order by number, and its S stops."""

    base: int
    other: int
    order: int
    stops: np.ndarray


def plan_tracks(canvases: Tensor, orders: Tensor, tracks: Sequence[Track]) -> MaskingPlan:
    """Build a plan from tracks with equally many stops."""
    size = tuple(canvases.shape[-2:])
    if orders.shape[1] != size[0] * size[1]:
        raise UsageError(f"orders rank {orders.shape[1]} pixels; expected {size[0]}×{size[1]} as the canvases have")
    stops = [np.asarray(t.stops, dtype=np.int64) for t in tracks]
    return MaskingPlan(
        canvases,
        orders.to(torch.int64),
        np.array([t.base for t in tracks], dtype=np.int64),
        np.array([t.other for t in tracks], dtype=np.int64),
        np.array([t.order for t in tracks], dtype=np.int64),
        np.stack(stops) if stops else np.zeros((0, 0), dtype=np.int64),
    )


@dataclass(frozen=True)
class Lane:
    """A stretch of one track that occupies one row of the batch: stops ``first`` to ``last`` (exclusive)."""

    track: int
    first: int
    last: int


def lay_out(tracks: int, stops: int, batch: int) -> Iterator[list[Lane]]:
    """Cut tracks into lanes so that every batch is full; yield rounds of at most ``batch`` lanes, longest lanes first.

    With at least ``batch`` tracks left, each is one lane of the round. With fewer, each is cut into as many stretches
    as fit, so that a single sample fills the batch across its steps; never into more than save a step, because a lane
    that is a step shorter than the others leaves a hole in the last batch.
    """
    start = 0
    while start < tracks and stops:
        chosen = range(start, min(start + batch, tracks))
        pieces = max(1, min(batch // len(chosen), stops))
        pieces = -(-stops // -(-stops // pieces))
        edges = np.linspace(0, stops, pieces + 1).round().astype(int)
        lanes = [Lane(t, int(a), int(b)) for t in chosen for a, b in pairwise(edges)]
        yield sorted(lanes, key=lambda lane: lane.first - lane.last)
        start += len(chosen)
