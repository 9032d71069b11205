"""What a metric's values of the candidates show: paired z values, order of the damaged versions, agreement.

Place in the flow: ``audit`` calls it with what ``exam`` scored. May call ``record``; numpy and scipy.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

Column = Mapping[str, np.ndarray]  # values per sample, float64 N, by candidate
MOST = 99.0  # z of differences without spread


def paired_z(first: np.ndarray, second: np.ndarray, sign: int = 1) -> float:
    """Return mean ÷ standard error of first − second, over the samples where both are finite.

    Args:
        sign: −1 where lower values are better.

    Returns:
        0.0 without a difference or with fewer than two samples; ±99 where all differences are equal and not 0, and at
        most that.

    Examples:
        >>> paired_z(np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.0, 3.0]))
        1.7320508075688774
    """
    difference = sign * (first - second)
    difference = difference[np.isfinite(difference)]
    if len(difference) < 2:
        return 0.0
    mean, error = difference.mean(), difference.std(ddof=1) / np.sqrt(len(difference))
    if error == 0:
        return 0.0 if mean == 0 else float(np.sign(mean)) * MOST
    return float(np.clip(mean / error, -MOST, MOST))


def monotone(column: Column, quality: Mapping[str, float], sign: int = 1) -> float | None:
    """Return Spearman's correlation of mean values and true qualities over the versions in ``quality``.

    None where all means are equal, or one is missing.
    """
    from scipy.stats import spearmanr

    means = np.array([sign * finite_mean(column[name]) for name in quality])
    if not np.isfinite(means).all() or np.ptp(means) == 0:
        return None
    return float(spearmanr(means, list(quality.values())).statistic)


def kendall(first: Mapping[str, float], second: Mapping[str, float]) -> float | None:
    """Return Kendall's τ-b of two orders of the same candidates; None where one of them is no order."""
    from scipy.stats import kendalltau

    names = [name for name in first if name in second and np.isfinite([first[name], second[name]]).all()]
    if len(names) < 2:
        return None
    found = kendalltau([first[n] for n in names], [second[n] for n in names]).statistic
    return float(found) if np.isfinite(found) else None


def samples_needed(first: np.ndarray, second: np.ndarray, sign: int = 1, z: float = 3.0) -> int | None:
    """Return the number of samples from which first exceeds second by z standard errors; None if it never does."""
    difference = sign * (first - second)
    difference = difference[np.isfinite(difference)]
    if len(difference) < 2 or difference.mean() <= 0:
        return None
    return max(2, int(np.ceil((z * difference.std(ddof=1) / difference.mean()) ** 2)))


def finite_mean(values: np.ndarray) -> float:
    """Return the mean of the finite values; NaN for none."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")
