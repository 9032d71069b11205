"""The best and the worst curve that any map could get: shortest paths over all subsets of cells.

Place in the flow: behind ``faithface optimum``; users may call :func:`optimum` themselves. May call ``curves``,
``fills``, ``ranking`` and the contract.

A map decides a curve by the order of its cells alone, and an order is a path from the empty set of cells to the full
one. The score of an image depends on which cells are filled, not on when they were. So the area of a curve is a sum of
terms that belong to the subsets on the path, and the best order is a shortest path over 2^k subsets, found by dynamic
programming. With 4×4 cells that is 65,536 forward passes per image. The Shapley values of the cells come from the same
scores. On finer grids a greedy path gives a bound: the optimum is at least as good.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import comb
from typing import TYPE_CHECKING

import numpy as np

from faithface.contract import FaceModel, Fill, Samples
from faithface.errors import UsageError
from faithface.lazy import torch
from faithface.perturb.curves import _scores
from faithface.perturb.fills import altered_images, fill_images
from faithface.perturb.ranking import kept_counts, unit_counts

if TYPE_CHECKING:
    from torch import Tensor

MOST_CELLS = 16  # 2^16 passes per image
GREEDY_MOST = 196  # 14×14 cells: 2 · 19,306 passes per image

Score = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Path:
    """An order of the cells and its gap.

    Attributes:
        order: int64 k, the cells in the order in which a map would rank them.
        gap: area(insertion) − area(deletion) of that order.
    """

    order: np.ndarray
    gap: float


@dataclass(frozen=True)
class Optimum:
    """What is achievable on one sample.

    Attributes:
        best, worst: the orders with the largest and the smallest gap.
        shapley: float64 k: the Shapley value of each cell in the game "this cell, or the fill's"; they sum to the score
            of the clean image minus that of the fill.
        passes: forward passes that it took.
    """

    best: Path
    worst: Path
    shapley: np.ndarray
    passes: int


def optimum(
    model: FaceModel, samples: Samples, index: int, fill: str | Fill, grid: int = 4, points: int = 0, batch: int = 256
) -> Optimum:
    """Return the best and the worst gap that any map can have on one sample, exactly.

    Args:
        index: which sample; of a pair the probe is altered.
        fill: see :mod:`faithface.perturb.fills`; one that depends on the mask is not possible.
        grid: cells per side, at most 4.
        points: points of the curves, both ends included; 0 = every cell is a step (grid² + 1).
        batch: images per forward call.

    Raises:
        UsageError: more than 16 cells, or a fill that is not an image.
    """
    cells = grid * grid
    if not 1 <= cells <= MOST_CELLS:
        raise UsageError(
            f"grid is {grid}: {2}^{cells} subsets; expected 1 to 4, or greedy() for a bound on finer grids"
        )
    values = subset_scores(scorer(model, samples, index, fill, grid, batch), cells)
    best, worst = (path_of(values, cells, points or cells + 1, sign) for sign in (1, -1))
    return Optimum(best, worst, shapley_values(values, cells), len(values))


def subset_scores(score: Score, cells: int) -> np.ndarray:
    """Return the score with each subset of cells filled, float64 2^k: entry s fills the cells whose bits s has."""
    return score((np.arange(1 << cells)[:, None] >> np.arange(cells)) & 1 == 1)


def gap_along(nodes: np.ndarray, order: np.ndarray) -> float:
    """Return the gap of an order of the cells, from the :func:`node_values` of all subsets."""
    prefixes = np.concatenate([[0], np.cumsum(1 << order.astype(np.int64))])
    return float(nodes[prefixes].sum())


def greedy_along(nodes: np.ndarray, cells: int, sign: int = 1) -> float:
    """Return the gap of the order that takes at each step the cell with the best next term (sign −1: the worst).

    The terms are weighted as in :func:`greedy` where every cell is a step; only the last step's differs, and that step
    has no choice.
    """
    at, total = 0, float(nodes[0])
    for _ in range(cells):
        free = [at | (1 << cell) for cell in range(cells) if not at >> cell & 1]
        at = max(free, key=lambda subset: sign * nodes[subset])
        total += float(nodes[at])
    return total


def path_of(values: np.ndarray, cells: int, points: int, sign: int = 1) -> Path:
    """Return the path with the largest gap (sign = −1: the smallest) by dynamic programming.

    Args:
        values: float64 2^k: entry s is the score with the cells of subset s (bit r: cell r) showing the fill.
    """
    nodes = sign * node_values(values, cells, points)
    subsets = np.arange(1 << cells)
    size = _sizes(cells)
    total = np.full(1 << cells, -np.inf)
    total[0] = nodes[0]
    last = np.full(1 << cells, -1)
    for k in range(cells):
        level = subsets[size == k]
        for cell in range(cells):
            free = level[(level >> cell) & 1 == 0]
            bigger = free | (1 << cell)
            found = total[free] + nodes[bigger]
            better = found > total[bigger]  # bigger holds each subset once for a given cell
            total[bigger[better]], last[bigger[better]] = found[better], cell
    order = []
    at = (1 << cells) - 1
    while at:
        order.append(int(last[at]))
        at ^= 1 << order[-1]
    return Path(np.array(order[::-1]), float(sign * total[-1]))


def node_values(values: np.ndarray, cells: int, points: int) -> np.ndarray:
    """Return what each subset adds to the gap of an order that passes through it as its first cells, float64 2^k.

    Deletion fills the subset, insertion everything else. The weight of a subset is how often a point of the curve falls
    on its size, half at either end, over points − 1: the trapezoid rule of :func:`faithface.perturb.curves.area`.
    """
    size = _sizes(cells)
    full = (1 << cells) - 1
    kept = weights(kept_counts(cells, points), cells)[size] * values[full - np.arange(1 << cells)]
    return kept - weights(unit_counts(cells, points), cells)[size] * values


def weights(counts: np.ndarray, cells: int) -> np.ndarray:
    """Return the weight of the score at each number of cells, float64 k + 1, for a curve at these counts."""
    each = np.ones(len(counts))
    each[0] = each[-1] = 0.5
    return np.bincount(counts, weights=each, minlength=cells + 1) / (len(counts) - 1)


def shapley_values(values: np.ndarray, cells: int) -> np.ndarray:
    """Return the Shapley values of the cells, float64 k, from the scores of all subsets filled."""
    size = _sizes(cells)
    share = np.array([1 / (cells * comb(cells - 1, k)) for k in range(cells)])
    subsets = np.arange(1 << cells)
    found = np.empty(cells)
    for cell in range(cells):
        clean = subsets[(subsets >> cell) & 1 == 0]  # this cell is clean, the subset's are filled
        found[cell] = (share[size[clean]] * (values[clean] - values[clean | (1 << cell)])).sum()
    return found


def greedy(score: Score, cells: int, points: int = 0, sign: int = 1) -> Path:
    """Return the order that takes at each step the cell with the best next term of the gap: a bound on the optimum.

    Args:
        score: float64 N of bool N×k masks (True: the cell shows the fill), as :func:`scorer` makes it.
        points: of the curves; 0 = every cell is a step. The order is found with every cell as a step.
        sign: −1 looks for the worst.
    """
    count = points or cells + 1
    kept, gone = weights(kept_counts(cells, count), cells), weights(unit_counts(cells, count), cells)
    first = np.zeros(cells, dtype=bool)
    ends = score(np.stack([first, ~first]))
    total = kept[0] * ends[1] - gone[0] * ends[0]
    order: list[int] = []
    for step in range(1, cells + 1):
        left = np.flatnonzero(~first)
        masks = np.repeat(first[None], len(left), axis=0)
        masks[np.arange(len(left)), left] = True
        scores = score(np.concatenate([masks, ~masks]))
        deleted, inserted = scores[: len(left)], scores[len(left) :]
        at = int(np.argmax(sign * (inserted - deleted)))
        total += kept[step] * inserted[at] - gone[step] * deleted[at]
        first[left[at]] = True
        order.append(int(left[at]))
    return Path(np.array(order), float(total))


def scorer(model: FaceModel, samples: Samples, index: int, fill: str | Fill, grid: int, batch: int = 256) -> Score:
    """Return a function from masks over the cells of a grid (bool N×G²; True: the fill shows) to scores, float64 N.

    Cells are those of :func:`faithface.perturb.ranking.rank`, the score is that of :func:`~faithface.perturb.curves`.

    Raises:
        UsageError: a grid finer than the image, or more than 196 cells.
    """
    height, width = samples.images.shape[-2:]
    if not 1 <= grid <= min(height, width) or grid * grid > GREEDY_MOST:
        raise UsageError(f"grid is {grid}; expected 1 to {min(height, width, 14)}")
    one = samples.take([index])
    image, other = altered_images(one)[0, 0], fill_images(model, one, fill)[0, 0]
    cell = (np.arange(height) * grid // height)[:, None] * grid + (np.arange(width) * grid // width)[None, :]
    where = torch.from_numpy(cell).to(image.device)

    def score(masks: np.ndarray) -> np.ndarray:
        parts = []
        for start in range(0, len(masks), batch):
            filled = torch.from_numpy(masks[start : start + batch]).to(image.device)[:, where]
            parts.append(_outputs(model, filled, image, other))
        outputs = torch.cat(parts)
        return np.asarray(_scores(model, one, outputs[None, None], np.array([0]))[0])

    return score


def _outputs(model: FaceModel, filled: Tensor, image: Tensor, other: Tensor) -> Tensor:
    return model.outputs(torch.where(filled[:, None], other, image)).cpu()


def share(gap: float, found: Optimum) -> float:
    """Return a gap as a share of the best one, −1 to 1; NaN where no order is worth more than another."""
    return gap / found.best.gap if found.best.gap > 0 else float("nan")


def _sizes(cells: int) -> np.ndarray:
    """Return the number of cells of each subset, int64 2^k."""
    return ((np.arange(1 << cells)[:, None] >> np.arange(cells)) & 1).sum(axis=1)
