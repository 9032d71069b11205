"""Deletion and insertion, slowly: one pixel, one image, one pass at a time, from the protocol rules alone.

Shares no code with ``faithface.perturb``: own ranking, own fills, own masks, own area.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise

import numpy as np


def ranked(values: np.ndarray, ties: np.ndarray) -> list[int]:
    """Return the numbers of the units, largest value first; equal values in the order of ``ties``."""
    place = {int(unit): i for i, unit in enumerate(ties)}
    return sorted(range(len(values)), key=lambda unit: (-float(values[unit]), place[unit]))


def steps(means: np.ndarray, relevance: np.ndarray) -> np.ndarray:
    """Return the means of cells as whole numbers of 2⁻²⁰ of the map's largest absolute value, in exact arithmetic."""
    largest = max(abs(Fraction(float(v))) for v in relevance.ravel()) or Fraction(1)
    return np.array([round(Fraction(float(mean)) / largest * 2**20) for mean in means])


def cells(height: int, width: int, grid: int) -> list[list[tuple[int, int]]]:
    """Return the pixels of each cell; without a grid each pixel is a cell."""
    if not grid:
        return [[(r, c)] for r in range(height) for c in range(width)]
    made: list[list[tuple[int, int]]] = [[] for _ in range(grid * grid)]
    for r in range(height):
        for c in range(width):
            made[math.floor(r * grid / height) * grid + math.floor(c * grid / width)].append((r, c))
    return made


def half_even(numerator: int, denominator: int) -> int:
    """Round a fraction to the nearest whole number, halves to even."""
    low, rest = divmod(numerator, denominator)
    if 2 * rest == denominator:
        return low + low % 2
    return low + (2 * rest > denominator)


def curve(
    direction: str,
    relevance: np.ndarray,
    image: np.ndarray,
    fill: np.ndarray,
    score: Callable[[np.ndarray], float],
    ties: np.ndarray,
    grid: int = 0,
    points: int = 51,
) -> np.ndarray:
    """Return one curve; image and fill are 3×H×W in [0, 1], ``score`` takes one such image."""
    height, width = relevance.shape
    units = cells(height, width, grid)
    means = np.array([np.mean([float(relevance[p]) for p in unit]) for unit in units])
    order = ranked(steps(means, relevance) if grid else means, ties)
    scores = []
    for step in range(points):
        altered = image.copy() if direction == "deletion" else fill.copy()
        source = fill if direction == "deletion" else image
        if direction == "deletion":
            count = half_even(step * len(units), points - 1)
        else:
            count = len(units) - half_even((points - 1 - step) * len(units), points - 1)
        for unit in order[:count]:
            for r, c in units[unit]:
                altered[:, r, c] = source[:, r, c]
        scores.append(score(altered))
    return np.array(scores)


def trapezoid(scores: np.ndarray) -> float:
    """Return the area over equally spaced points of [0, 1], trapezoid by trapezoid."""
    width = 1 / (len(scores) - 1)
    return sum((float(a) + float(b)) / 2 * width for a, b in pairwise(scores))


def rise_auc(scores: np.ndarray) -> float:
    """Return RISE's area: the sum without half of both ends, over n − 1."""
    return float((scores.sum() - scores[0] / 2 - scores[-1] / 2) / (len(scores) - 1))
