"""Intervals, ties and ranks of per-sample values.

Place in the flow: ``record`` asks for a number's interval, ``build`` for the ranks of a table. Imports numpy and
scipy only.

Faces repeat: a person stands in many pairs, so pairs are not independent, and resampling them as if they were makes
intervals too narrow. What is resampled are *units*: identities where they are known, else images. A sample's weight
in a replicate is the product of how often its units were drawn (Owen, The pigeonhole bootstrap, Annals of Applied
Statistics 1, 2007, for crossed units); with one unit per sample this is the ordinary cluster bootstrap. It errs on
the wide side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from faithface.seeds import rng_for

REPLICATES = 2000
LEVEL = 0.95
_CHUNK = 4_000_000  # weights in memory at once


@dataclass(frozen=True)
class Interval:
    """A 95 % bootstrap interval; NaN, NaN where it cannot be had (no values, or a single unit)."""

    low: float
    high: float


@dataclass(frozen=True)
class Units:
    """Which units each of n samples holds: ``index`` n×U (−1 = none), ``count`` units in all."""

    index: np.ndarray
    count: int

    def take(self, chosen: np.ndarray) -> Units:
        """Return the units of some samples, counted anew."""
        index = self.index[chosen]
        used = np.unique(index[index >= 0])
        place = np.full(self.count + 1, -1)
        place[used] = np.arange(len(used))
        return Units(np.where(index >= 0, place[index], -1), len(used))


def make_units(names: Sequence[Sequence[str]]) -> Units:
    """Return the units of samples from their names (identities or images of each sample).

    Where no name occurs twice, each sample is a unit of its own: two images that are met only once are one draw,
    not two.
    """
    flat = [name for one in names for name in one]
    if len(set(flat)) == len(flat):
        return Units(np.arange(len(names))[:, None], len(names))
    order = {name: i for i, name in enumerate(sorted(set(flat)))}
    width = max(len(one) for one in names)
    index = np.full((len(names), width), -1)
    for row, one in enumerate(names):
        distinct = sorted(set(one))
        index[row, : len(distinct)] = [order[name] for name in distinct]
    return Units(index, len(order))


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
    """Return the percentile interval of a summary of per-sample values.

    Args:
        values: float64 n, finite.
        names: the units of each sample.
        summarise: the summary; None for the mean (which is fast).
    """
    values = np.asarray(values, dtype=np.float64)
    if not len(values):
        return Interval(float("nan"), float("nan"))
    units = make_units(names)
    if units.count < 2:
        return Interval(float("nan"), float("nan"))
    found: list[np.ndarray] = []
    for weights in replicate_weights(units, seed, replicates):
        if summarise is None:
            found.append(_weighted_means(weights, values[:, None])[:, 0])
        else:
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


def _weighted_means(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return R×E means of the columns of ``values`` (n×E); NaN where a replicate drew no sample."""
    total = weights.sum(axis=1, keepdims=True).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (weights.astype(np.float64) @ values) / total


def holm(p: Sequence[float]) -> np.ndarray:
    """Return Holm's step-down adjusted p values.

    Source: Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6, 1979.

    Examples:
        >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
        [0.03, 0.06, 0.06]
    """
    given = np.asarray(p, dtype=np.float64)
    order = np.argsort(given, kind="stable")
    scaled = given[order] * np.arange(len(given), 0, -1)
    adjusted = np.empty_like(given)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(scaled))
    return adjusted


def replicate_means(values: np.ndarray, units: Units, seed: int = 0, replicates: int = REPLICATES) -> np.ndarray:
    """Return R×E means of the columns of ``values`` (float64 n×E), all from the same draws."""
    return np.concatenate([_weighted_means(w, values) for w in replicate_weights(units, seed, replicates)])


def paired_p(difference: float, drawn: np.ndarray, units: int) -> float:
    """Return the two-sided p value of "the means are equal", for two columns of values of the same samples.

    The mean difference is divided by its bootstrap standard error and held against Student's t with (units − 1)
    degrees of
    freedom: unlike the share of replicates beyond zero, it is not limited by their number, which Holm's correction
    over many pairs would need to be huge. With fewer than 5 units nothing is claimed (p = 1).

    Args:
        difference: the mean difference.
        drawn: its replicates, of the same draws for both columns.
        units: how many units were drawn from.
    """
    if units < 5 or difference == 0.0:
        return 1.0
    error = float(np.nanstd(drawn, ddof=1))
    if error <= 1e-12 * abs(difference):
        return 0.0
    return float(2 * student.sf(abs(difference) / error, df=units - 1))


def ranks(
    columns: Mapping[str, Mapping[str, float]],
    names: Mapping[str, Sequence[str]],
    higher_is_better: bool,
    seed: int = 0,
    level: float = 1 - LEVEL,
) -> dict[str, int]:
    """Return ranks with ties: 1 + the number of rivals that are significantly better.

    Two that cannot be told apart may share a rank; being tied is not transitive, and no more is claimed than the
    test says.

    Args:
        columns: per-sample values by sample id, for each rival; missing and NaN values are left out pair by pair.
        names: the units of each sample.
        higher_is_better: the direction of the protocol.
    """
    rivals = sorted(columns)
    pairs = [(a, b) for i, a in enumerate(rivals) for b in rivals[i + 1 :]]
    shared: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for a, b in pairs:
        common = tuple(s for s in sorted(columns[a]) if _finite(columns[a], s) and _finite(columns[b], s))
        shared.setdefault(common, []).append((a, b))
    p: dict[tuple[str, str], float] = {}
    gains: dict[tuple[str, str], float] = {}
    # Usually all rivals have all samples, and one set of draws serves every pair.
    for common, members in shared.items():
        if not common:
            p.update(dict.fromkeys(members, 1.0))
            gains.update(dict.fromkeys(members, 0.0))
            continue
        present = sorted({name for pair in members for name in pair})
        values = np.array([[columns[name][s] for name in present] for s in common])
        units = make_units([names[s] for s in common])
        drawn, means = replicate_means(values, units, seed), values.mean(axis=0)
        at = {name: i for i, name in enumerate(present)}
        for a, b in members:
            gains[a, b] = float(means[at[a]] - means[at[b]])
            p[a, b] = paired_p(gains[a, b], drawn[:, at[a]] - drawn[:, at[b]], units.count)
    place = dict.fromkeys(rivals, 1)
    for (a, b), adjusted in zip(pairs, holm([p[pair] for pair in pairs]) if pairs else [], strict=True):
        if adjusted < level:
            winner = a if (gains[a, b] > 0) == higher_is_better else b
            place[b if winner == a else a] += 1
    return place


def _finite(column: Mapping[str, float], sample: str) -> bool:
    return sample in column and bool(np.isfinite(column[sample]))
