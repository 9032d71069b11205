"""Which pixels go first: one descending order per map, with seeded ties (protocol rules 2 and 8).

Place in the flow: the first step of every perturbation metric; ``plan`` and ``curves`` read the order. May call
``contract`` and ``errors``; knows nothing of networks or fills.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from faithface.contract import Samples
from faithface.errors import UsageError
from faithface.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

STEP = 2.0**-20  # cells are ranked by their means in steps of this share of the map's largest |value| (rule 2)


@dataclass(frozen=True)
class Ranking:
    """The order in which the units (pixels, or cells of a grid) of N maps are altered.

    Attributes:
        order: int64 N×(H·W), pixel numbers in raster order, most salient first; whole cells follow each other.
        units: how many units there are: H·W, or G² for ``grid=G``.
        ends: int64 N×(units + 1): ``ends[n, k]`` pixels belong to the first k units of map n; None where a unit is a
            pixel.
    """

    order: Tensor
    units: int
    ends: np.ndarray | None = None

    def pixels(self, units: np.ndarray) -> np.ndarray:
        """Return how many pixels belong to the first ``units`` units (S numbers) of each map: int64 N×S."""
        if self.ends is None:
            return np.broadcast_to(np.asarray(units, dtype=np.int64), (len(self.order), len(units)))
        return self.ends[:, np.asarray(units)]

    def removed(self, index: int, units: int) -> Tensor:
        """Return bool H·W: the pixels of the first ``units`` units of one map."""
        mask = torch.zeros(self.order.shape[1], dtype=torch.bool, device=self.order.device)
        mask[self.order[index, : int(self.pixels(np.array([units]))[index, 0])]] = True
        return mask


def unit_counts(units: int, points: int) -> np.ndarray:
    """Return k = round(fraction · units) at ``points`` equally spaced fractions from 0 to 1, halves to even.

    Computed on whole numbers, so that no fraction falls on the wrong side of a half.

    Examples:
        >>> unit_counts(10, 5)
        array([ 0,  2,  5,  8, 10])
    """
    twice, last = 2 * units * np.arange(points, dtype=np.int64), points - 1
    low, rest = np.divmod(twice, 2 * last)
    return low + ((rest > last) | ((rest == last) & (low % 2 == 1)))


def kept_counts(units: int, points: int) -> np.ndarray:
    """Return how many units insertion has put back: the units that deletion at 1 − fraction has not removed.

    This is round(fraction · units) too, but where that is halfway between two numbers (only possible for an odd number
    of units) insertion takes the complement of deletion: otherwise the gap would not change its sign exactly when a
    map is inverted.
    """
    return units - unit_counts(units, points)[::-1]


def tie_breaks(samples: Samples, units: int, side: str = "") -> np.ndarray:
    """Return one permutation of the units per sample, seeded from the sample id: the same for every explainer."""
    return samples.cached(_tie_breaks, units, side)


def _tie_breaks(samples: Samples, units: int, side: str) -> np.ndarray:
    return np.stack([samples.rng(i, f"ties{side}").permutation(units) for i in range(len(samples))])


def rank(maps: Tensor, samples: Samples, grid: int = 0, side: str = "") -> Ranking:
    """Rank the pixels of each map, descending; equal values in the order of the sample's seeded permutation.

    Args:
        maps: float32 N×H×W; rows with non-finite values get an arbitrary order (the caller reports them).
        samples: the N samples that the maps belong to.
        grid: 0 = pixels; G = the mean of the map over each cell of a G×G grid is ranked, in whole steps of
            :data:`STEP` of the map's largest |value|, and cells move as a whole.
            Pixel row r belongs to cell row ⌊r·G/H⌋ (columns alike), so cells differ by at most one row or column where
            G does not divide H.
        side: which face of a pair, so that both can be altered with ties of their own.

    Raises:
        UsageError: a grid finer than the image.
    """
    n, height, width = maps.shape
    if grid:
        if not 0 < grid <= min(height, width):
            raise UsageError(
                f"grid is {grid}; expected 0 (pixels) or 1 to {min(height, width)} for {height}×{width} maps"
            )
        return _rank_cells(maps, samples, grid, side)
    ties = torch.from_numpy(tie_breaks(samples, height * width, side)).to(maps.device)
    # Permute first, sort stably, undo: equal values are then in the order of the permutation.
    shuffled = maps.reshape(n, -1).gather(1, ties)
    return Ranking(ties.gather(1, stable_descending(shuffled)), height * width)


def _rank_cells(maps: Tensor, samples: Samples, grid: int, side: str) -> Ranking:
    n, height, width = maps.shape
    cell = (np.arange(height) * grid // height)[:, None] * grid + (np.arange(width) * grid // width)[None, :]
    cell = cell.ravel()
    sizes = np.bincount(cell, minlength=grid * grid)
    values = maps.reshape(n, -1).double().cpu().numpy()
    # In float64 the sum of equal float32 numbers is exact, so cells of one value tie whatever their size.
    means = np.stack([np.bincount(cell, weights=row, minlength=grid * grid) for row in values]) / sizes
    # Half of the cells of an enlarged coarse map lie on plateaus. Rounding errors, a tenth of this step, would order
    # them, differently on each device, and one cell moves a curve's point by up to a tenth. Symmetric about 0, so that
    # a map and its negation get opposite orders; relative to the map, so that its scale does not matter.
    largest = np.abs(values).max(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):  # maps that are not finite are the caller's to report
        means = np.rint(means / np.where(largest > 0, largest, 1) / STEP)
    ties = tie_breaks(samples, grid * grid, side)
    first = np.stack([t[np.argsort(-row[t], kind="stable")] for row, t in zip(means, ties, strict=True)])
    place = np.empty_like(first)
    np.put_along_axis(place, first, np.arange(grid * grid)[None, :], axis=1)
    order = np.argsort(place[:, cell].astype(np.uint16 if grid < 256 else np.int64), axis=1, kind="stable")
    ends = np.concatenate([np.zeros((n, 1), dtype=np.int64), np.cumsum(sizes[first], axis=1)], axis=1)
    return Ranking(torch.from_numpy(order).to(maps.device), grid * grid, ends)


def stable_descending(values: Tensor) -> Tensor:
    """Return the stable descending order (int64) of each row of a float32 tensor; −0 equals 0."""
    if values.device.type != "cpu":
        return torch.sort(values + 0.0, dim=1, descending=True, stable=True).indices
    # On the host a two-pass radix sort of the float's bits takes a fifth of the time of a stable comparison sort.
    bits = (values.detach().contiguous() + 0.0).numpy().view(np.uint32)
    ascending = np.where(bits >> 31, ~bits, bits | np.uint32(0x80000000))
    key = ~ascending
    low = np.argsort((key & 0xFFFF).astype(np.uint16), axis=1, kind="stable")
    high = np.take_along_axis((key >> 16).astype(np.uint16), low, axis=1)
    return torch.from_numpy(np.take_along_axis(low, np.argsort(high, axis=1, kind="stable"), axis=1))
