"""How far an explainer's map agrees with the exact region values.

Place in the flow: takes maps (from any explainer) and :class:`~faithface.regions.shapley.RegionValues`. Imports numpy
and scipy.

The map is summed over the same regions and compared by rank (Spearman, Kendall). The reference is itself a mean over a
few fills: an explainer that gave the true values would reach a correlation of about √reliability with it (the
attenuation formula, Spearman, 1904). Agreement above that ceiling has no meaning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from faithface.errors import UsageError

Verdict = Literal["undefined", "unjudged", "full", "agrees", "chance", "contradicts"]


@dataclass(frozen=True)
class Agreement:
    """An explainer's map beside the exact values of the same decision.

    Attributes:
        explainer: the name with its parameters.
        kind: which map: ``relevance``, ``similarity``, ``dissimilarity``.
        reference: the kind of fill of the exact values.
        sums: float64 k: the map summed over the regions.
        spearman, kendall: rank agreement with the exact values; NaN where the sums or the values are all equal.
        ceiling: what a perfect explainer would reach, √reliability of the order of the regions; 1 for a single fill,
            where the reference is exact and has no spread.
    """

    explainer: str
    kind: str
    reference: str
    sums: np.ndarray
    spearman: float
    kendall: float
    ceiling: float

    @property
    def chance(self) -> float:
        """Spearman's coefficient that an unrelated map exceeds once in twenty, for so many regions (Student's t)."""
        n = len(self.sums)
        if n < 4:
            return 1.0
        t = float(stats.t.ppf(0.95, n - 2))
        return t / float(np.sqrt(n - 2 + t * t))

    @property
    def verdict(self) -> Verdict:
        """The verdict on the map for this decision.

        ``undefined``: nothing to rank; ``unjudged``: the reference itself is too uncertain to distinguish a perfect map
        from an unrelated one; ``full``: as close as a perfect map would come; ``agrees``, ``chance``, ``contradicts``.
        """
        if np.isnan(self.spearman):
            return "undefined"
        if self.ceiling <= self.chance:
            return "unjudged"
        if self.spearman >= self.ceiling:
            return "full"
        if self.spearman > self.chance:
            return "agrees"
        return "contradicts" if self.spearman < -self.chance else "chance"


def region_sums(map_: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return a map H×W summed over regions: float64 k."""
    map_ = np.asarray(map_, dtype=np.float64)
    if map_.shape != labels.shape:
        raise UsageError(f"map is {map_.shape}, regions are {labels.shape}; expected the model's input size for both")
    return np.bincount(labels.ravel(), weights=map_.ravel(), minlength=int(labels.max()) + 1)


def agreement(
    explainer: str, kind: str, reference: str, sums: np.ndarray, exact: np.ndarray, reliability: float
) -> Agreement:
    """Compare a map's region sums with exact values (k each).

    Args:
        explainer, kind, reference: see :class:`Agreement`.
        exact: signed as the map is: larger where the map should be larger.
        reliability: of the order of the exact values; NaN for a single fill.
    """
    if np.ptp(sums) == 0 or np.ptp(exact) == 0:
        spearman = kendall = float("nan")
    else:
        spearman = float(stats.spearmanr(sums, exact).statistic)
        kendall = float(stats.kendalltau(sums, exact).statistic)
    ceiling = 1.0 if np.isnan(reliability) else float(np.sqrt(max(reliability, 0.0)))
    return Agreement(explainer, kind, reference, np.asarray(sums, dtype=np.float64), spearman, kendall, ceiling)


def specific_agreement(sums: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Return the rank agreement of what is specific to each pair, over a set of P ≥ 3 pairs.

    Each region's mean over the pairs is first subtracted from both sides, so that a map which is the same for every
    pair (a centre prior) has no agreement left. Sums are scaled to a total magnitude of 1 per pair first:
    explainers are free to scale each map.

    Args:
        sums: float P×k, an explainer's region sums.
        exact: float P×k, the exact values.

    Returns:
        float64 P, Spearman's coefficient per pair; NaN where nothing is left to rank.
    """
    sums, exact = np.asarray(sums, dtype=np.float64), np.asarray(exact, dtype=np.float64)
    if sums.shape != exact.shape or len(sums) < 3:
        raise UsageError(f"sums {sums.shape} and values {exact.shape}; expected equal P×k with at least 3 pairs")
    scale = np.abs(sums).sum(axis=1, keepdims=True)
    sums = np.divide(sums, scale, out=np.zeros_like(sums), where=scale > 0)
    own_sums, own_exact = sums - sums.mean(axis=0), exact - exact.mean(axis=0)
    found = np.full(len(sums), np.nan)
    for i, (a, b) in enumerate(zip(own_sums, own_exact, strict=True)):
        # What remains of a fixed map is rounding; ranking it would be ranking noise.
        if np.abs(a).max() > 1e-9 and np.abs(b).max() > 1e-9:
            found[i] = stats.spearmanr(a, b).statistic
    return found
