"""Whether metrics agree on the order of rivals, mean ranks for a critical-difference diagram, and the overall order.

Place in the flow: a board asks for these beside its tables. Calls ``bootstrap``, ``design``, ``means`` and ``ranking``.
Imports numpy only.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from faithface.boards.statistics.bootstrap import replicate_weights
from faithface.boards.statistics.design import make_design, make_units
from faithface.boards.statistics.means import LEVEL, too_few
from faithface.boards.statistics.ranking import Designs, pairwise

REPLICATES = 1000


@dataclass(frozen=True)
class Agreement:
    """How alike two metrics order the same rivals.

    Attributes:
        tau: Kendall's tau-b of the rivals' means, −1 to 1, 1 = the same order; NaN with fewer than two rivals, or
            where all are equal by one of the metrics.
        low, high: its 95 % interval; NaN where samples or units are too few.
        rivals: how many have a number by both metrics.
    """

    tau: float
    low: float
    high: float
    rivals: int


def agreement(
    metrics: Mapping[str, Mapping[str, Mapping[str, float]]],
    names: Mapping[str, Sequence[str]],
    higher_is_better: Mapping[str, bool],
    seed: int = 0,
    replicates: int = REPLICATES,
) -> dict[tuple[str, str], Agreement]:
    """Return the agreement of each two metrics (or of one metric with two fills), the names of a pair in order.

    Units are resampled, the same draws for all metrics, and the order of the means is made anew in each replicate. The
    percentile interval lies towards 0: a replicate has the noise of the samples twice.

    Args:
        metrics: by metric and rival, the values by sample id; NaN is no value.
        names: the units of each sample.
        higher_is_better: the direction of each metric.
        seed: of the draws.
        replicates: how many draws.
    """
    samples = sorted({s for rivals in metrics.values() for column in rivals.values() for s in column})
    rivals = sorted({rival for columns in metrics.values() for rival in columns})
    ordered = sorted(metrics)
    pairs = [(a, b) for i, a in enumerate(ordered) for b in ordered[i + 1 :]]
    if not samples:
        return {pair: Agreement(float("nan"), float("nan"), float("nan"), 0) for pair in pairs}
    values = {m: _table(metrics[m], samples, rivals) * (1 if higher_is_better[m] else -1) for m in ordered}
    once = {m: _signs(_means(np.ones((1, len(samples))), values[m])) for m in ordered}
    units = make_units([names[s] for s in samples])
    drawn: dict[tuple[str, str], list[np.ndarray]] = {pair: [] for pair in pairs}
    for weights in replicate_weights(units, seed, replicates):
        for part in np.array_split(weights, max(1, len(weights) * len(rivals) ** 2 // 4_000_000)):
            signs = {m: _signs(_means(part, values[m])) for m in ordered}
            for a, b in pairs:
                drawn[a, b].append(_tau(signs[a], signs[b]))
    found = {}
    for a, b in pairs:
        both = np.isfinite(values[a]).any(axis=1) | np.isfinite(values[b]).any(axis=1)
        count = int((np.isfinite(values[a]).any(axis=0) & np.isfinite(values[b]).any(axis=0)).sum())
        taus = np.concatenate(drawn[a, b])
        taus = taus[np.isfinite(taus)]
        known = len(taus) and not too_few(make_design(units.take(np.flatnonzero(both))))
        low, high = np.quantile(taus, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if known else (np.nan, np.nan)
        found[a, b] = Agreement(float(_tau(once[a], once[b])[0]), float(low), float(high), count)
    return found


def _table(columns: Mapping[str, Mapping[str, float]], samples: Sequence[str], rivals: Sequence[str]) -> np.ndarray:
    table = np.full((len(samples), len(rivals)), np.nan)
    at = {sample: row for row, sample in enumerate(samples)}
    for k, rival in enumerate(rivals):
        for sample, value in columns.get(rival, {}).items():
            table[at[sample], k] = value
    return table


def _means(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return R×K weighted means of the columns; NaN where a replicate drew no sample of a column."""
    finite = np.isfinite(values)
    shape = (len(weights), values.shape[1])
    total = weights.astype(np.float64) @ finite
    summed = weights.astype(np.float64) @ np.where(finite, values, 0.0)
    return np.divide(summed, total, out=np.full(shape, np.nan), where=total > 0)


def _signs(means: np.ndarray) -> np.ndarray:
    """Return R×P: which of each two rivals is ahead (1, 0, −1; NaN where one has no mean); rounding is no lead."""
    i, j = np.triu_indices(means.shape[1], 1)
    with np.errstate(invalid="ignore"):
        gap = means[:, i] - means[:, j]
        scale = np.maximum(np.abs(means[:, i]), np.abs(means[:, j]))
        return np.where(np.abs(gap) <= 1e-12 * scale, 0.0, np.sign(gap))


def _tau(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return Kendall's tau-b of R replicates from the signs of all pairs (Kendall, Biometrika 33, 1945)."""
    known = np.isfinite(a) & np.isfinite(b)
    a, b = np.where(known, a, 0.0), np.where(known, b, 0.0)
    size = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    return np.divide((a * b).sum(axis=1), size, out=np.full(len(a), np.nan), where=size > 0)


@dataclass(frozen=True)
class Diagram:
    """What a critical-difference diagram shows (Demšar, JMLR 7, 2006), with a test that knows about shared people.

    Attributes:
        positions: (rival, mean rank within a sample), best first; ranks from 1, ties averaged.
        bars: (first, last) positions of the groups within which no two are significantly different; groups of one and
            groups inside larger ones are not listed. Empty where samples are too few.
        samples: those on which all rivals have values.
        enough: whether they are enough to compare.
    """

    positions: tuple[tuple[str, float], ...]
    bars: tuple[tuple[int, int], ...]
    samples: int
    enough: bool


def critical_difference(
    columns: Mapping[str, Mapping[str, float]], names: Mapping[str, Sequence[str]], higher_is_better: bool
) -> Diagram:
    """Return the diagram of rivals by their ranks within each sample.

    Nemenyi's critical difference supposes independent samples. Here each two mean ranks are compared like means
    (:func:`ranking.pairwise`), which bars are drawn from.

    Args:
        columns: per-sample values by sample id, for each rival.
        names: the units of each sample.
        higher_is_better: the direction of the protocol.
    """
    rivals = sorted(columns)
    samples = sorted({sample for column in columns.values() for sample in column})
    values = _table(columns, samples, rivals)
    complete = np.isfinite(values).all(axis=1)
    values = values[complete] * (-1 if higher_is_better else 1)
    if not len(values):
        return Diagram((), (), 0, False)
    ranks = np.stack(
        [1 + (row < row[:, None]).sum(axis=1) + ((row == row[:, None]).sum(axis=1) - 1) / 2 for row in values]
    )
    designs = Designs(make_units([names[s] for s, kept in zip(samples, complete, strict=True) if kept]))
    found = pairwise(ranks, designs)
    mean = ranks.mean(axis=0)
    order = sorted(range(len(rivals)), key=lambda k: (mean[k], rivals[k]))
    enough = bool(found.ranked.all())
    apart = (found.adjusted < 1 - LEVEL)[np.ix_(order, order)]
    positions = tuple((rivals[k], float(mean[k])) for k in order)
    return Diagram(positions, _bars(apart) if enough else (), len(values), enough)


def _bars(apart: np.ndarray) -> tuple[tuple[int, int], ...]:
    bars: list[tuple[int, int]] = []
    for first in range(len(apart)):
        last = first
        while last + 1 < len(apart) and not apart[first : last + 1, last + 1].any():
            last += 1
        if last > first and (not bars or last > bars[-1][1]):
            bars.append((first, last))
    return tuple(bars)


@dataclass(frozen=True)
class Overall:
    """The overall order.

    Attributes:
        rows: (rival, mean rank over families, mean rank by family), best first; equal ones by name.
        metrics: the metrics that count, by family; a family none of whose metrics is fit is not here.
        unfit: metrics that were given but may not rank.
        incomplete: rivals without a number by some metric that counts. They have no place: a mean over fewer metrics
            is not comparable.
    """

    rows: tuple[tuple[str, float, Mapping[str, float]], ...]
    metrics: Mapping[str, tuple[str, ...]]
    unfit: tuple[str, ...]
    incomplete: tuple[str, ...]


def borda(
    families: Mapping[str, Mapping[str, Mapping[str, float]]],
    higher_is_better: Mapping[str, bool],
    fit: Collection[str],
) -> Overall:
    """Return the order by mean rank over metric families (Borda's count).

    A metric's ranks are those of its numbers, 1 = best, equal numbers averaged. A family's rank is the mean over its
    metrics, so that ten variants of one question do not outvote another question.

    Args:
        families: by family, metric and rival, the rival's number; NaN is none.
        higher_is_better: the direction of each metric.
        fit: the metrics that may rank; others are named in the result and do not count.
    """
    used = {f: tuple(m for m in sorted(metrics) if m in fit) for f, metrics in sorted(families.items())}
    used = {f: metrics for f, metrics in used.items() if metrics}
    everyone = sorted({rival for metrics in families.values() for numbers in metrics.values() for rival in numbers})
    counted = [families[f][m] for f, metrics in used.items() for m in metrics]
    whole = [r for r in everyone if all(np.isfinite(numbers.get(r, np.nan)) for numbers in counted)]
    by_family: dict[str, np.ndarray] = {}
    for family, metrics in used.items():
        ranks = []
        for metric in metrics:
            row = np.array([families[family][metric][r] for r in whole]) * (-1 if higher_is_better[metric] else 1)
            ranks.append(1 + (row < row[:, None]).sum(axis=1) + ((row == row[:, None]).sum(axis=1) - 1) / 2)
        by_family[family] = np.mean(ranks, axis=0)
    rows = []
    if by_family:
        overall = np.mean(list(by_family.values()), axis=0)
        for k in sorted(range(len(whole)), key=lambda k: (round(float(overall[k]), 9), whole[k])):
            rows.append((whole[k], float(overall[k]), {f: float(ranks[k]) for f, ranks in by_family.items()}))
    unfit = tuple(sorted(m for metrics in families.values() for m in metrics if m not in fit))
    return Overall(tuple(rows), used, unfit, tuple(r for r in everyone if r not in whole))
