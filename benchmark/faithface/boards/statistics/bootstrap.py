"""Intervals of a protocol's own summary (a median, an area under a curve) by resampling people.

Place in the flow: ``agreement`` resamples with it; :func:`interval` is what ``collect`` calls for every number. Calls
``design`` and, for means, ``means``. Imports numpy only.

What is resampled are *units*: identities where they are known, else images. A sample's weight in a replicate is the
product of how often its units were drawn (Owen, The pigeonhole bootstrap, Annals of Applied Statistics 1, 2007, for
crossed units); with one unit per sample this is the ordinary cluster bootstrap. It errs on the wide side, for pairs of
people by far; means have a sharper interval (``means``), and only they are ranked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from faithface.boards.statistics.design import Units, make_units
from faithface.boards.statistics.means import LEVEL, Interval, mean_interval
from faithface.seeds import rng_for

REPLICATES = 2000
_CHUNK = 4_000_000  # weights in memory at once


def replicate_weights(units: Units, seed: int, replicates: int = REPLICATES) -> Iterator[np.ndarray]:
    """Yield the weights of the samples, int64 R'×n, in chunks of replicates.

    The draws depend on the seed, the number of units and the replicate's number alone, so that tables are repeatable.
    """
    rng = rng_for(seed, str(units.count), "bootstrap")
    n = len(units.index)
    step = max(1, min(replicates, _CHUNK // max(1, n)))
    for start in range(0, replicates, step):
        size = min(step, replicates - start)
        drawn = rng.integers(0, units.count, size=(size, units.count))
        offset = np.arange(size)[:, None] * units.count
        times = np.bincount((drawn + offset).ravel(), minlength=size * units.count).reshape(size, units.count)
        times = np.concatenate([times, np.ones((size, 1), dtype=times.dtype)], axis=1)  # for −1: no unit, weight 1
        yield times[:, units.index].prod(axis=2)


def interval(
    values: np.ndarray,
    names: Sequence[Sequence[str]],
    summarise: Callable[[np.ndarray], float] | None = None,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> Interval:
    """Return the interval of a summary of per-sample values.

    Args:
        values: float64 n, finite.
        names: the units of each sample.
        summarise: the summary; None for the mean, whose interval is that of :func:`means.mean_interval`. Others have
            the percentile interval of the bootstrap.
        seed: of the draws.
        replicates: how many draws.
    """
    values = np.asarray(values, dtype=np.float64)
    if summarise is None:
        return mean_interval(values, names)
    if not len(values):
        return Interval(float("nan"), float("nan"))
    units = make_units(names)
    if units.count < 2:
        return Interval(float("nan"), float("nan"))
    found: list[np.ndarray] = []
    for weights in replicate_weights(units, seed, replicates):
        found.append(np.array([_summary(summarise, values, w) for w in weights]))
    drawn = np.concatenate(found)
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return Interval(float("nan"), float("nan"))
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def _summary(summarise: Callable[[np.ndarray], float], values: np.ndarray, weights: np.ndarray) -> float:
    repeated = np.repeat(values, weights)
    return summarise(repeated) if len(repeated) else float("nan")
