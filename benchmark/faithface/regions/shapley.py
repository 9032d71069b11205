"""Exact Shapley values of regions from the scores of all subsets, their interval and their reliability over fills.

Place in the flow: takes what ``subsets`` scored. Imports numpy, scipy, ``errors`` and ``reasons``.

Formula: with v(T) the score when the regions in T show the fill, and k regions,

    φ_r = Σ_{T ∌ r} |T|! (k − |T| − 1)! / k! · (v(T) − v(T ∪ {r}))

the average, over all k! orders of replacing the regions one by one, of what the score loses when r is replaced. The
values sum to the score of the image minus the score of the fill.

Sources: Shapley, *A value for n-person games*, 1953; split-half reliability at full length: Spearman, 1910, and Brown,
1910.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import factorial

import numpy as np
from scipy import stats

from faithface.errors import UsageError
from faithface.reasons import Reason, ReasonCode

LEVEL = 0.95
SPLITS_AT_MOST = 500
ENOUGH = 0.8
STILL = 1e-6  # a score that changes less than this under all fills counts as constant


def shapley_values(scores: np.ndarray) -> np.ndarray:
    """Return exact Shapley values …×k from the scores …×2^k of all subsets (bit r set: region r is replaced).

    Examples:
        >>> shapley_values(np.array([1.0, 0.4, 0.9, 0.3])).round(6).tolist()
        [0.6, 0.1]
    """
    scores = np.asarray(scores, dtype=np.float64)
    k = int(scores.shape[-1]).bit_length() - 1
    if k < 1 or scores.shape[-1] != 1 << k:
        raise UsageError(f"{scores.shape[-1]} scores; expected those of all subsets, a power of two")
    subsets = np.arange(1 << k)
    sizes = np.array([int(s).bit_count() for s in subsets])
    weights = np.array([factorial(n) * factorial(k - n - 1) / factorial(k) for n in range(k)])
    values = np.empty((*scores.shape[:-1], k))
    for r in range(k):
        without = subsets[(subsets >> r) & 1 == 0]
        drop = scores[..., without] - scores[..., without | 1 << r]
        values[..., r] = drop @ weights[sizes[without]]
    return values


def interactions(scores: np.ndarray) -> np.ndarray:
    """Return exact pairwise Shapley interaction indices …×k×k (Grabisch and Roubens, 1999); the diagonal is 0.

    Positive: two regions together carry more than each by itself; negative: they carry the same evidence twice.
    """
    scores = np.asarray(scores, dtype=np.float64)
    k = int(scores.shape[-1]).bit_length() - 1
    subsets = np.arange(1 << k)
    sizes = np.array([int(s).bit_count() for s in subsets])
    weights = np.array([factorial(n) * factorial(k - n - 2) / factorial(k - 1) for n in range(k - 1)])
    found = np.zeros((*scores.shape[:-1], k, k))
    for i, j in combinations(range(k), 2):
        a, b = 1 << i, 1 << j
        s = subsets[(subsets & (a | b)) == 0]
        both = scores[..., s] - scores[..., s | a] - scores[..., s | b] + scores[..., s | a | b]
        found[..., i, j] = found[..., j, i] = both @ weights[sizes[s]]
    return found


@dataclass(frozen=True)
class RegionValues:
    """Exact region values of one decision for one kind of fill.

    Attributes:
        fill: the kind of fill.
        values: float64 F×k: the exact values for each fill.
        clean: score of the unaltered image.
        filled: float64 F: score with every region replaced, for each fill.
        passes: forward passes that it cost.
        moved: largest distance of a score from that of the unaltered image, over subsets and fills; NaN where a score
            is not finite.
    """

    fill: str
    values: np.ndarray
    clean: float
    filled: np.ndarray
    passes: int
    moved: float = np.inf

    @property
    def problem(self) -> Reason | None:
        """Why these values explain nothing: scores that are not finite, or a score that does not change."""
        if np.isnan(self.moved):
            return Reason(ReasonCode.NON_FINITE_SCORE, "scores that are not finite when regions are replaced")
        if self.moved < STILL:
            return Reason(
                ReasonCode.UNDEFINED,
                f"the score does not change when regions are replaced (largest change {self.moved:.1e} in "
                f"{self.passes} passes)",
            )
        return None

    @property
    def mean(self) -> np.ndarray:
        """Mean over fills, float64 k."""
        return self.values.mean(axis=0)  # type: ignore[no-any-return]

    @property
    def margin(self) -> np.ndarray:
        """Half width of the 95 % interval of the mean over fills (Student's t), float64 k; NaN with a single fill."""
        n = len(self.values)
        if n < 2:
            return np.full(self.values.shape[1], np.nan)
        t = float(stats.t.ppf((1 + LEVEL) / 2, n - 1))
        return t * self.values.std(axis=0, ddof=1) / np.sqrt(n)  # type: ignore[no-any-return]

    @property
    def reliability(self) -> float:
        """Split-half reliability of the mean over fills (:func:`reliability`)."""
        return reliability(self.values)

    @property
    def rank_reliability(self) -> float:
        """The same, of the order of the regions: the halves are compared by Spearman's coefficient."""
        return reliability(stats.rankdata(self.values, axis=1), ranks=True)

    @property
    def residual(self) -> float:
        """Largest distance, over fills, of the values' sum from score minus fully filled score."""
        return float(np.abs(self.values.sum(axis=1) - (self.clean - self.filled)).max())


def reliability(values: np.ndarray, ranks: bool = False) -> float:
    """Return the split-half reliability of the mean over F fills, corrected to full length (Spearman–Brown).

    The mean profile of one half of the fills is correlated with that of the other half; the mean r over all splits
    (over 500 seeded ones where there are more) becomes 2r / (1 + r). 0 where r is not positive. A half whose profile
    is constant agrees with nothing: that split counts as 0. NaN with fewer than two fills, or where all are such.

    Args:
        values: float F×k.
        ranks: compare the halves by Spearman's coefficient rather than Pearson's.
    """
    values = np.asarray(values, dtype=np.float64)
    if len(values) < 2:
        return float("nan")
    found = []
    with np.errstate(invalid="ignore", divide="ignore"):
        for half in _halves(len(values)):
            a, b = values[half].mean(axis=0), values[~half].mean(axis=0)
            if ranks:
                a, b = stats.rankdata(a), stats.rankdata(b)
            found.append(np.corrcoef(a, b)[0, 1])
    r = float(np.mean(np.nan_to_num(found))) if np.isfinite(found).any() else float("nan")
    return max(0.0, 2 * r / (1 + r)) if r > 0 else (0.0 if np.isfinite(r) else float("nan"))


def _halves(n: int) -> np.ndarray:
    """Return splits of n things into two halves (of n // 2 and the rest) as bool S×n."""
    chosen = [c for c in combinations(range(n), n // 2) if n % 2 or 0 in c] if n <= 12 else []
    if not chosen:
        rng = np.random.default_rng(0)
        chosen = [tuple(rng.permutation(n)[: n // 2]) for _ in range(SPLITS_AT_MOST)]
    halves = np.zeros((len(chosen), n), dtype=bool)
    for row, members in zip(halves, chosen, strict=True):
        row[list(members)] = True
    return halves


def fills_needed(found: float, fills: int, wanted: float = ENOUGH) -> int | None:
    """Return how many fills would reach a reliability, by the Spearman–Brown formula; None if no number would.

    Examples:
        >>> fills_needed(0.5, 8)
        32
    """
    if not 0 < found < 1:
        return fills if found >= 1 else None
    return int(np.ceil(round(fills * wanted * (1 - found) / (found * (1 - wanted)), 9)))
