"""Slow re-derivations of the ways in which two maps are compared, loop by loop, from the definitions. numpy only.

SSIM: Wang, Bovik, Sheikh and Simoncelli, 2004, with uniform windows and sample covariances. Spearman: Pearson's
correlation of average ranks.
"""

from __future__ import annotations

import math

import numpy as np


def unit_range(values: np.ndarray) -> np.ndarray:
    """Return a map in [0, 1], a constant one as zeros; float64."""
    low, high = float(values.min()), float(values.max())
    out = np.zeros(values.shape)
    if high > low:
        for index in np.ndindex(values.shape):
            out[index] = (float(values[index]) - low) / (high - low)
    return out


def slow_ssim(a: np.ndarray, b: np.ndarray, data_range: float | None = None) -> float:
    """Return the mean of the similarity of all windows of 7×7 (or the map's own side, where it is shorter)."""
    if data_range is None:
        a, b, data_range = unit_range(a), unit_range(b), 1.0
    height, width = min(7, a.shape[0]), min(7, a.shape[1])
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    found = []
    for top in range(a.shape[0] - height + 1):
        for left in range(a.shape[1] - width + 1):
            x = [float(v) for v in a[top : top + height, left : left + width].ravel()]
            y = [float(v) for v in b[top : top + height, left : left + width].ravel()]
            n = len(x)
            mx, my = math.fsum(x) / n, math.fsum(y) / n
            d = max(n - 1, 1)
            vx = math.fsum((v - mx) ** 2 for v in x) / d
            vy = math.fsum((v - my) ** 2 for v in y) / d
            vxy = math.fsum((v - mx) * (w - my) for v, w in zip(x, y, strict=True)) / d
            luminance = (2 * mx * my + c1) / (mx**2 + my**2 + c1)
            found.append(luminance * (2 * vxy + c2) / (vx + vy + c2))
    return math.fsum(found) / len(found)


def slow_spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Return Pearson's correlation of average ranks; 1 where both maps are constant, 0 where one is."""
    ranks = []
    for values in (a.ravel().tolist(), b.ravel().tolist()):
        ranks.append([sum(w < v for w in values) + (sum(w == v for w in values) - 1) / 2 for v in values])
    n = len(ranks[0])
    da, db = ([r - math.fsum(side) / n for r in side] for side in ranks)
    na, nb = math.sqrt(math.fsum(d * d for d in da)), math.sqrt(math.fsum(d * d for d in db))
    if na == 0 or nb == 0:
        return 1.0 if na == nb else 0.0
    return math.fsum(p * q for p, q in zip(da, db, strict=True)) / (na * nb)
