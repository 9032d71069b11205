"""How many samples separate two rivals, if the difference is what it seems.

Place in the flow: ``ranking`` asks for neighbours, ``boards.compare`` for one pair. Imports numpy and, inside
functions, scipy.special.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from faithface.boards.statistics.means import LEVEL

POWER = 0.8
MOST_SAMPLES = 1_000_000
CERTAIN = 30  # standard errors beyond the critical value: nctdtr is 0 there and slow, or NaN


def n_needed(difference: float, error: float, n: int, df: float, level: float = 1 - LEVEL) -> int | None:
    """Return how many samples separate two rivals at 80 % power: :func:`samples_needed` of one pair.

    Returns:
        The number; None if there is no difference, no error estimate, or it takes more than a million.
    """
    found = samples_needed(np.array([difference]), np.array([error]), np.array([n]), np.array([df]), level)
    return int(found[0]) or None


def samples_needed(
    difference: np.ndarray, error: np.ndarray, n: np.ndarray, df: np.ndarray, level: float = 1 - LEVEL
) -> np.ndarray:
    """Return how many samples separate the rivals of each pair at 80 % power, if the difference is what it seems.

    The variance of the mean falls as 1/n and the degrees of freedom grow as n, that is, new samples bring new people
    as the present ones do. Power is that of the two-sided t test (noncentral t distribution).

    Args:
        difference: the mean paired differences, float64 P.
        error: their standard errors with n samples.
        n: the samples now.
        df: the degrees of freedom now.
        level: the p value that is called significant.

    Returns:
        int64 P; 0 if there is no difference, no error estimate, or it takes more than a million.
    """
    from scipy.special import ndtri

    found = np.zeros(len(difference), dtype=np.int64)
    known = np.isfinite(difference) & np.isfinite(error) & (difference != 0) & (df > 0) & (n >= 1)
    constant = known & (error == 0)
    found[constant] = n[constant]
    signal = np.abs(difference) / np.where(error == 0, 1.0, error)
    # The normal distribution's answer is a little less than Student's, so the search starts there.
    with np.errstate(divide="ignore", invalid="ignore"):
        about = n * ((ndtri(1 - level / 2) + ndtri(POWER)) / signal) ** 2
    at = np.flatnonzero(known & ~constant & (about <= MOST_SAMPLES))
    if len(at):
        least = _first(_Power(signal[at], n[at], df[at], level), np.maximum(1, about[at].astype(np.int64)))
        found[at] = np.where(least <= MOST_SAMPLES, least, 0)
    return found


class _Power:
    """Says of pairs (their places) and numbers of samples whether these give 80 % power."""

    def __init__(self, signal: np.ndarray, n: np.ndarray, df: np.ndarray, level: float) -> None:
        self.signal, self.n, self.df, self.level = signal, n.astype(np.float64), df, level

    def __call__(self, at: np.ndarray, samples: np.ndarray) -> np.ndarray:
        from scipy.special import nctdtr, stdtrit

        freedom = (self.df[at] + 1) * samples / self.n[at] - 1
        shift = self.signal[at] * np.sqrt(samples / self.n[at])
        enough = np.zeros(len(at), dtype=bool)
        some = freedom > 0
        critical = stdtrit(freedom[some], 1 - self.level / 2)
        certain = shift[some] - critical > CERTAIN
        enough[some] = certain
        asked = np.flatnonzero(some)[~certain]
        enough[asked] = 1 - nctdtr(freedom[asked], shift[asked], critical[~certain]) >= POWER
        return enough


def _first(enough: Callable[[np.ndarray, np.ndarray], np.ndarray], start: np.ndarray) -> np.ndarray:
    """Return the first number, int64 P, that is enough for each pair, searched from a guess. One never is."""
    low, step = start.copy(), np.ones_like(start)
    at = np.flatnonzero(low > 1)
    while len(at := at[enough(at, low[at])]):
        low[at] = np.maximum(1, low[at] - step[at])
        step[at] *= 2
        at = at[low[at] > 1]
    high, step = low + 1, np.ones_like(start)
    at = np.arange(len(start))
    while len(at := at[~enough(at, high[at])]):
        low[at] = high[at]
        high[at] += step[at]
        step[at] *= 2
    while len(at := np.flatnonzero(high - low > 1)):
        middle = (low[at] + high[at]) // 2
        reached = enough(at, middle)
        high[at] = np.where(reached, middle, high[at])
        low[at] = np.where(reached, low[at], middle)
    return high
