"""Where a map points, against where the evidence is known to lie: areas under curves, shifts, turned maps.

Place in the flow: asked by ``of_explainers``. Works on numpy arrays; imports numpy and scipy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import rankdata

SHIFTS = 3
TURNS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mirrored left to right": lambda m: m[:, ::-1],
    "upside down": lambda m: m[::-1],
    "turned by 180 degrees": lambda m: m[::-1, ::-1],
    "transposed (height and width swapped)": lambda m: m.T,
    "turned by 90 degrees": lambda m: np.rot90(m, 1),
    "turned by 270 degrees": lambda m: np.rot90(m, -1),
    "transposed about the other diagonal": lambda m: np.rot90(m, 2).T,
}


def auc(values: np.ndarray, truth: np.ndarray) -> float:
    """Return the probability that a pixel of the evidence has a larger value than another one; ties count half.

    Args:
        values: H×W.
        truth: bool H×W, neither empty nor full.
    """
    ranks = rankdata(values, method="average")
    inside = truth.reshape(-1)
    m, n = int(inside.sum()), int((~inside).sum())
    return float((ranks[inside].sum() - m * (m + 1) / 2) / (m * n))


def correlation(values: np.ndarray, truth: np.ndarray) -> float:
    """Return Pearson's correlation of two H×W arrays; 0 where one is constant."""
    a, b = values - values.mean(), truth - truth.mean()
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / scale if scale > 1e-20 else 0.0


def turned(maps: Sequence[np.ndarray], truths: Sequence[np.ndarray]) -> tuple[str, float, float]:
    """Return how maps would have to be turned to agree best with the evidence.

    Returns:
        The turn ("" for none), the mean correlation with it, and the mean correlation of the maps as they are.
    """
    own = float(np.mean([correlation(m, t) for m, t in zip(maps, truths, strict=True)]))
    best, which = own, ""
    for name, turn in TURNS.items():
        if maps[0].shape[0] != maps[0].shape[1] and turn(maps[0]).shape != maps[0].shape:
            continue
        found = float(np.mean([correlation(turn(m), t) for m, t in zip(maps, truths, strict=True)]))
        if found > best:
            best, which = found, name
    return which, best, own


def shifted(maps: Sequence[np.ndarray], truths: Sequence[np.ndarray]) -> tuple[tuple[int, int], float, float]:
    """Return by how many rows and columns maps are displaced against the evidence.

    Returns:
        The displacement (rows down, columns right) with the best mean correlation, that correlation, and the one
        without a displacement. Pixels that leave the image are not compared.
    """
    size = SHIFTS
    table: dict[tuple[int, int], float] = {}
    for dy in range(-size, size + 1):
        for dx in range(-size, size + 1):
            found = []
            for m, t in zip(maps, truths, strict=True):
                h, w = m.shape
                cut = m[size + dy : h - size + dy, size + dx : w - size + dx]
                found.append(correlation(cut, t[size : h - size, size : w - size].astype(float)))
            table[dy, dx] = float(np.mean(found))
    best = max(table, key=lambda shift: (table[shift], -abs(shift[0]) - abs(shift[1])))
    return best, table[best], table[0, 0]
