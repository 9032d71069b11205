"""Which people stand in which samples, and what that means for the variance of a mean.

Place in the flow: ``means`` asks for a :class:`Design`; below everything else here. Imports numpy only.

A *unit* is whatever makes two samples dependent: a person where identities are known, otherwise an image. A
verification pair has two units, a classifier's image has one.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Units:
    """Which units each of n samples has: ``index`` int n×U (−1 = none), ``count`` units in all."""

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
    not two. A sample without names is a unit of its own too.
    """
    names = [one or (f"\x00{row}",) for row, one in enumerate(names)]
    flat = [name for one in names for name in set(one)]
    if len(set(flat)) == len(flat):
        return Units(np.arange(len(names))[:, None], len(names))
    order = {name: i for i, name in enumerate(sorted(set(flat)))}
    width = max(len(set(one)) for one in names)
    index = np.full((len(names), width), -1)
    for row, one in enumerate(names):
        distinct = sorted(set(one))
        index[row, : len(distinct)] = [order[name] for name in distinct]
    return Units(index, len(order))


@dataclass(frozen=True)
class Level:
    """One way to group samples: by person, by pair of people, …; a sample may be in several groups of a level.

    Attributes:
        rows: int M, samples, group after group.
        starts: int G, where each group starts in ``rows``.
        sizes: int G, samples per group.
        sign: whether the level adds to what is counted twice (1), or takes away (−1).
    """

    rows: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray
    sign: int


@dataclass(frozen=True)
class Design:
    """The dependence of n samples.

    Attributes:
        samples: n.
        units: distinct units (people) in the samples.
        person: samples by unit.
        overlaps: samples by pair of units, by three, …: their signed sum is what ``person`` counts more than once.
        floor: samples by their whole set of units; its jackknife is the least variance that is believed.
        shared: the share of the units' own variance that is in the overlaps too, at most ½.
        df: degrees of freedom of the variance; 0 where there is none (one person stands in every sample).
    """

    samples: int
    units: int
    person: Level
    overlaps: tuple[Level, ...]
    floor: Level
    shared: float
    df: float

    @property
    def effective(self) -> float:
        """The effective number of units, df + 1: fewer than ``units`` where some stand in many more samples.

        It is also at most the number of distinct sets of units.
        """
        return self.df + 1


def make_design(units: Units) -> Design:
    """Return the design of samples from their units.

    A person who stands in one sample only says no more than this sample does, and is dropped from it if another
    remains there. The degrees of freedom are (Σ n_g)² / Σ n_g² − 1 for people who stand in n_g samples each (the
    effective number of clusters: Carter, Schnepel and Steigerwald, Asymptotic behavior of a t-test robust to cluster
    heterogeneity, Review of Economics and Statistics 99, 2017), and at most the number of distinct sets of people − 1.
    """
    n = len(units.index)
    sets = _shared(units)
    floor = _level([(row, tuple(one)) for row, one in enumerate(units.index.tolist())], 1)
    person = _level([(row, (unit,)) for row, one in enumerate(sets) for unit in one], 1)
    overlaps = []
    for size in range(2, max((len(one) for one in sets), default=1) + 1):
        members = [(row, part) for row, one in enumerate(sets) for part in itertools.combinations(one, size)]
        overlaps.append(_level(members, (-1) ** size))
    squares = float((person.sizes**2).sum())
    possible = n > 1 and all((level.sizes < n).all() for level in (person, *overlaps, floor))
    times = np.bincount(units.index[units.index >= 0], minlength=units.count).astype(np.float64)
    effective = min(float(times.sum() ** 2 / (times**2).sum()), float(len(floor.sizes))) if n else 0.0
    shared = min(0.5, 2 * float((overlaps[0].sizes ** 2).sum()) / squares) if overlaps else 0.0
    return Design(n, units.count, person, tuple(overlaps), floor, shared, effective - 1 if possible else 0.0)


def _shared(units: Units) -> list[tuple[int, ...]]:
    """Return each sample's units, without those of no other sample where one of several samples remains."""
    index = units.index
    times = np.bincount(index[index >= 0], minlength=units.count)
    sets = []
    for row in index.tolist():
        mine = sorted(unit for unit in row if unit >= 0)
        sets.append(tuple(unit for unit in mine if times[unit] > 1) or tuple(mine[:1]))
    return sets


def _level(members: list[tuple[int, tuple[int, ...]]], sign: int) -> Level:
    numbers: dict[tuple[int, ...], int] = {}
    group = np.array([numbers.setdefault(key, len(numbers)) for _, key in members], dtype=np.int64)
    rows = np.array([row for row, _ in members], dtype=np.int64)
    order = np.argsort(group, kind="stable")
    sizes = np.bincount(group, minlength=len(numbers))
    return Level(rows[order], np.cumsum(sizes) - sizes, sizes, sign)
