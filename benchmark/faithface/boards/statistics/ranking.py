"""Who is better than whom, and the ranks, tie classes and sample sizes that follow from it.

Place in the flow: ``board`` asks for the ranking of one protocol's values. Calls ``design``, ``means`` and ``needed``.
Imports numpy.

Everything is computed once, on all rivals. A table that shows some of them only keeps their ranks and classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from faithface.boards.statistics.design import Design, Units, make_design, make_units
from faithface.boards.statistics.means import LEVEL, p_values, too_few, variances
from faithface.boards.statistics.needed import samples_needed


@dataclass(frozen=True)
class Designs:
    """The designs of subsets of samples, each made once. Tables of the same samples can share one."""

    units: Units
    made: dict[bytes, Design] = field(default_factory=dict, compare=False, repr=False)

    def of(self, chosen: np.ndarray) -> Design:
        """Return the design of some samples (bool n)."""
        key = chosen.tobytes()
        if key not in self.made:
            self.made[key] = make_design(self.units.take(np.flatnonzero(chosen)))
        return self.made[key]


@dataclass(frozen=True)
class Comparisons:
    """All paired comparisons of K rivals. Arrays are K×K, first index minus second.

    Attributes:
        means: float64 K, each over the rival's own samples; NaN without any.
        ranked: bool K, whether the rival has samples enough to be ranked.
        n: how many samples both have.
        difference: mean paired difference; NaN where there are no common samples.
        error: its standard error; NaN where there is none.
        df: degrees of freedom; 0 where nothing is claimed.
        p: two-sided, of this comparison alone; 1 where nothing is claimed.
        adjusted: corrected for all comparisons; below 0.05 is a claim.
    """

    means: np.ndarray
    ranked: np.ndarray
    n: np.ndarray
    difference: np.ndarray
    error: np.ndarray
    df: np.ndarray
    p: np.ndarray
    adjusted: np.ndarray

    def only(self, chosen: np.ndarray) -> Comparisons:
        """Return the comparisons of some rivals (their places, int) alone, corrected for these alone."""
        part = np.ix_(chosen, chosen)
        p = self.p[part]
        pairs = (self.n[part], self.difference[part], self.error[part], self.df[part])
        return Comparisons(self.means[chosen], self.ranked[chosen], *pairs, p, adjust(p))

    def better(self, higher_is_better: bool, level: float = 1 - LEVEL) -> np.ndarray:
        """Return bool K×K: whether the first is significantly better than the second."""
        sign = 1 if higher_is_better else -1
        with np.errstate(invalid="ignore"):
            found: np.ndarray = (self.adjusted < level) & (sign * self.difference > 0)
        return found


def pairwise(values: np.ndarray, designs: Designs) -> Comparisons:
    """Compare each two columns on the samples that both have.

    Args:
        values: float64 n×K; NaN where a rival has no value.
        designs: the designs of the n samples.
    """
    values = np.asarray(values, dtype=np.float64)
    rivals = values.shape[1]
    finite = np.isfinite(values)
    shape = (rivals, rivals)
    n, df = np.zeros(shape, dtype=np.int64), np.zeros(shape)
    difference, error, p = np.full(shape, np.nan), np.full(shape, np.nan), np.ones(shape)
    for common, pairs in _common(finite):
        design = designs.of(common)
        columns = np.flatnonzero(np.bincount(pairs.ravel(), minlength=rivals))
        place = np.searchsorted(columns, pairs)
        i, j = pairs.T
        n[i, j] = n[j, i] = design.samples
        if not design.samples:
            continue
        held = values[np.ix_(common, columns)]
        means = held.mean(axis=0)
        gains = means[place[:, 0]] - means[place[:, 1]]
        difference[i, j], difference[j, i] = gains, -gains
        if design.df <= 0:
            continue
        errors = np.sqrt(variances(design, held, pairs=True)[place[:, 0], place[:, 1]])
        error[i, j] = error[j, i] = errors
        if not too_few(design):
            df[i, j] = df[j, i] = design.df
            p[i, j] = p[j, i] = p_values(gains, errors, design.df, np.abs(held).max())
    np.fill_diagonal(difference, 0.0)
    counts = finite.sum(axis=0)
    means = np.divide(np.where(finite, values, 0.0).sum(axis=0), counts, out=np.full(rivals, np.nan), where=counts > 0)
    ranked = np.array([not too_few(designs.of(finite[:, k])) for k in range(rivals)], dtype=bool)
    return Comparisons(means, ranked, n, difference, error, df, p, adjust(p))


def _common(finite: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the sets of common samples (bool n) with the pairs of columns (M×2, first < second) that have them."""
    kinds, kind = np.unique(finite.T, axis=0, return_inverse=True)
    kind = kind.reshape(-1)
    found: dict[bytes, tuple[np.ndarray, list[np.ndarray]]] = {}
    for a in range(len(kinds)):
        for b in range(a, len(kinds)):
            i, j = np.flatnonzero(kind == a), np.flatnonzero(kind == b)
            if a == b:
                pairs = i[np.stack(np.triu_indices(len(i), 1), axis=1)]
            else:
                pairs = np.stack(np.meshgrid(i, j, indexing="ij"), axis=-1).reshape(-1, 2)
                pairs = np.stack([pairs.min(axis=1), pairs.max(axis=1)], axis=1)
            if len(pairs):
                both = kinds[a] & kinds[b]
                found.setdefault(both.tobytes(), (both, []))[1].append(pairs)
    return [(both, np.concatenate(pairs)) for both, pairs in found.values()]


def adjust(p: np.ndarray) -> np.ndarray:
    """Return p values corrected for all comparisons: symmetric K×K like the given two-sided ones.

    Holm's step-down over the K(K − 1) one-sided claims "i is better than j", as confidence sets of ranks need it
    (Mogstad, Romano, Shaikh and Wilhelm, Inference for ranks, Review of Economic Studies 91, 2024): a claim that was
    made leaves the family, the opposite claim stays. So the r-th smallest of m two-sided p values is multiplied by
    m − (r − 1)/2, where Holm's two-sided procedure multiplies by m − (r − 1) and leaves wrong directions uncounted.
    """
    i, j = np.triu_indices(len(p), 1)
    given = p[i, j]
    order = np.argsort(given, kind="stable")
    scaled = given[order] * (len(given) - np.arange(len(given)) / 2)
    corrected = np.empty_like(given)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(scaled))
    found = np.ones_like(p)
    found[i, j] = found[j, i] = corrected
    return found


@dataclass(frozen=True)
class Place:
    """One rival's place.

    Attributes:
        name: the rival.
        mean: the mean of its own values; NaN without any.
        best, worst: the ends of the rank interval, 1 = best; None: too few samples to rank.
        tie_class: 1 for the class of the best, and so on; None: too few samples to rank.
        needed: samples needed to separate it from the next in the order at 80 % power; None: it is the last, nothing
            separates the two now, or more than a million are needed.
    """

    name: str
    mean: float
    best: int | None
    worst: int | None
    tie_class: int | None
    needed: int | None

    @property
    def text(self) -> str:
        """The rank as boards print it: ``1``, ``1-3``, or ``too few to rank``."""
        if self.best is None:
            return "too few to rank"
        return str(self.best) if self.best == self.worst else f"{self.best}-{self.worst}"


def rank(
    columns: Mapping[str, Mapping[str, float]], names: Mapping[str, Sequence[str]], higher_is_better: bool
) -> tuple[Place, ...]:
    """Return the places of rivals in the order of their means, best first; those too few to rank come last.

    Args:
        columns: per-sample values by sample id, for each rival; a missing or NaN value takes the sample out of this
            rival's comparisons.
        names: the units of each sample.
        higher_is_better: the direction of the protocol.
    """
    rivals, found = _compared(columns, names)
    return places(rivals, found, higher_is_better)


def better_than(
    columns: Mapping[str, Mapping[str, float]], names: Mapping[str, Sequence[str]], higher_is_better: bool
) -> dict[str, set[str]]:
    """Return, for each rival, those that it is significantly better than; arguments as for :func:`rank`."""
    rivals, found = _compared(columns, names)
    better = found.better(higher_is_better)
    return {name: {rivals[int(j)] for j in np.flatnonzero(better[i])} for i, name in enumerate(rivals)}


def _compared(
    columns: Mapping[str, Mapping[str, float]], names: Mapping[str, Sequence[str]]
) -> tuple[list[str], Comparisons]:
    rivals = sorted(columns)
    samples = sorted({sample for column in columns.values() for sample in column})
    values = np.full((len(samples), len(rivals)), np.nan)
    at = {sample: row for row, sample in enumerate(samples)}
    for k, rival in enumerate(rivals):
        for sample, value in columns[rival].items():
            values[at[sample], k] = value
    designs = Designs(make_units([names[s] for s in samples]))
    return rivals, pairwise(values, designs)


def places(rivals: Sequence[str], found: Comparisons, higher_is_better: bool) -> tuple[Place, ...]:
    """Return the places of compared rivals, as :func:`rank` does; equal means are ordered by name."""
    signed = -found.means if higher_is_better else found.means
    last = np.isnan(signed).tolist()
    by_mean = np.nan_to_num(signed).tolist()
    order = sorted(range(len(rivals)), key=lambda k: (not found.ranked[k], last[k], by_mean[k], rivals[k]))
    ranked = [k for k in order if found.ranked[k]]
    better = found.better(higher_is_better)[np.ix_(ranked, ranked)]
    low, high = rank_intervals(better)
    classes = tie_classes(better)
    # As boards claim it: at the level that the first step of the correction asks for.
    level = (1 - LEVEL) / max(1, len(rivals) * (len(rivals) - 1) // 2)
    first, second = np.array(ranked[:-1], dtype=np.int64), np.array(ranked[1:], dtype=np.int64)
    gaps, errors = found.difference[first, second], found.error[first, second]
    counts = samples_needed(gaps, errors, found.n[first, second], found.df[first, second], level)
    needed = [count or None for count in counts.tolist()]
    made = []
    for position, k in enumerate(order):
        mean = float(found.means[k])
        if not found.ranked[k]:
            made.append(Place(rivals[k], mean, None, None, None, None))
            continue
        place = (int(low[position]), int(high[position]), int(classes[position]))
        made.append(Place(rivals[k], mean, *place, needed[position] if position < len(needed) else None))
    return tuple(made)


def rank_intervals(better: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and last rank, int K each, that each rival may have: all true ranks lie inside with 95 %.

    1 + the rivals that are significantly better, and K − those that are significantly worse (Mogstad, Romano, Shaikh
    and Wilhelm, 2024).

    Args:
        better: bool K×K, whether the first is significantly better than the second.
    """
    return 1 + better.sum(axis=0), len(better) - better.sum(axis=1)


def tie_classes(better: np.ndarray) -> np.ndarray:
    """Return the tie class of each rival, int K, 1 = best.

    The anchor of a class is the best that has no class yet, and the class is everybody without a class who is not
    significantly worse than the anchor. The anchor does not move, so a chain of neighbours never makes all equal.

    Args:
        better: bool K×K, in the order of the means, best first.
    """
    classes = np.zeros(len(better), dtype=np.int64)
    number = 0
    for anchor in range(len(better)):
        if classes[anchor] == 0:
            number += 1
            classes[(classes == 0) & ~better[anchor]] = number
    return classes
