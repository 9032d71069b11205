"""What a metric's values of the candidates show: paired z values, order of the damaged versions, agreement.

Place in the flow: ``audit`` calls it with what ``exam`` scored. May call ``record``; numpy and scipy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

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


def monotone(means: Mapping[str, float], series: Sequence[Sequence[str]], sign: int = 1) -> float | None:
    """Return the mean over the series of Spearman's correlation between mean values and known order.

    Args:
        means: mean values by candidate.
        series: each from the best candidate to the worst: a map and its versions with more and more of one damage.

    Returns:
        1.0 only if every series is in order; a series of equal values counts 0. None where a mean is missing, or all
        are equal.
    """
    from scipy.stats import spearmanr

    names = [name for one in series for name in one]
    if any(name not in means for name in names) or len({means[name] for name in names}) < 2:
        return None
    found = []
    for one in series:
        values = [sign * means[name] for name in one]
        found.append(0.0 if np.ptp(values) == 0 else float(spearmanr(values, range(len(one), 0, -1)).statistic))
    return float(np.mean(found))


def rank_agreement(means: Mapping[str, float], quality: Mapping[str, float], sign: int = 1) -> float | None:
    """Return Spearman's correlation of mean values with another measure of the same candidates; None as above."""
    from scipy.stats import spearmanr

    if any(name not in means for name in quality) or len({means[name] for name in quality}) < 2:
        return None
    return float(spearmanr([sign * means[name] for name in quality], list(quality.values())).statistic)


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
