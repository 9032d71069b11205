"""Two columns of values of the same samples: which is better, how sure that is, and where they differ most.

Place in the flow: ``faithface compare`` calls :func:`compare` with the values of two explainers, runs, models or
versions. Calls ``statistics``. A pure function: no file is read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from faithface.boards.statistics.design import make_design, make_units
from faithface.boards.statistics.means import LEVEL, ROUNDING, p_values, quantile, standard_error, too_few
from faithface.boards.statistics.needed import n_needed

SHOWN = 5


class Verdict(Enum):
    """What may be claimed of a paired difference."""

    HIGHER = "higher"
    """The mean of A is significantly higher."""
    LOWER = "lower"
    """The mean of A is significantly lower."""
    NOT_SEPARATED = "not separated"
    """The difference may be chance."""
    TOO_FEW = "too few"
    """Too few common samples or people to claim anything."""


@dataclass(frozen=True)
class Difference:
    """One sample on which two columns differ."""

    sample: str
    a: float
    b: float

    @property
    def value(self) -> float:
        return self.a - self.b


@dataclass(frozen=True)
class Comparison:
    """A paired comparison of A and B on the samples that both have.

    Attributes:
        n: common samples.
        only_a, only_b: samples with a value on one side only; they do not count.
        units: distinct people (or images) in the common samples.
        mean_a, mean_b: means over the common samples; NaN without any.
        difference: mean_a − mean_b.
        low, high: its 95 % interval; NaN where nothing is claimed.
        p: two-sided p value of "no difference"; NaN where nothing is claimed.
        verdict: what may be claimed, at the level of 5 %.
        n_needed: samples needed to separate A and B at 80 % power if the difference is what it seems; None: there is
            no difference, no estimate of its error, or more than a million are needed.
        most: the samples on which A and B differ most, the largest |difference| first, equal ones by id.
    """

    n: int
    only_a: int
    only_b: int
    units: int
    mean_a: float
    mean_b: float
    difference: float
    low: float
    high: float
    p: float
    verdict: Verdict
    n_needed: int | None
    most: tuple[Difference, ...]


def compare(
    values_a: Mapping[str, float],
    values_b: Mapping[str, float],
    units: Mapping[str, Sequence[str]],
    shown: int = SHOWN,
) -> Comparison:
    """Compare two columns of per-sample values.

    The test is that of the boards (``docs/explanation/statistics.md``) for one comparison, without a correction for
    many. ``p < 0.05`` exactly if the interval excludes 0.

    Args:
        values_a, values_b: values by sample id; NaN and infinities are no values.
        units: the people (or images) in each sample.
        shown: how many samples to name in ``most``.

    Raises:
        KeyError: a common sample has no units.
    """
    a, b = _finite(values_a), _finite(values_b)
    common = sorted(a.keys() & b.keys())
    of_a, of_b = np.array([a[s] for s in common]), np.array([b[s] for s in common])
    gaps = of_a - of_b
    names = [units[s] for s in common]
    order = sorted(range(len(common)), key=lambda i: (-abs(gaps[i]), common[i]))[:shown]
    most = tuple(Difference(common[i], a[common[i]], b[common[i]]) for i in order if gaps[i] != 0)
    low = high = p = mean_a = mean_b = gap = math.nan
    verdict, needed = Verdict.TOO_FEW, None
    if common:
        mean_a, mean_b, gap = float(of_a.mean()), float(of_b.mean()), float(gaps.mean())
        design = make_design(make_units(names))
        if not too_few(design):
            scale = max(float(np.abs(of_a).max()), float(np.abs(of_b).max()))
            gap = 0.0 if abs(gap) <= ROUNDING * scale else gap
            error = standard_error(design, gaps)
            half = quantile(design.df) * error
            low, high = gap - half, gap + half
            p = float(p_values(np.array(gap), np.array(error), design.df, scale))
            verdict = Verdict.NOT_SEPARATED
            if p < 1 - LEVEL:
                verdict = Verdict.HIGHER if gap > 0 else Verdict.LOWER
            needed = n_needed(gap, error, len(common), design.df)
    people = len({name for one in names for name in one})
    return Comparison(
        n=len(common),
        only_a=len(a) - len(common),
        only_b=len(b) - len(common),
        units=people,
        mean_a=mean_a,
        mean_b=mean_b,
        difference=gap,
        low=low,
        high=high,
        p=p,
        verdict=verdict,
        n_needed=needed,
        most=most,
    )


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {sample: float(value) for sample, value in values.items() if math.isfinite(value)}
