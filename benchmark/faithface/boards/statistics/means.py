"""The mean of samples that share people: its variance, its interval, and the test of a paired difference.

Place in the flow: ``record`` and ``collect`` ask for an interval, ``ranking`` and ``boards.compare`` for tests. Calls
``design``. Imports numpy and, inside functions, scipy.special.

**The variance.** Let the mean without the samples of person g be θ(−g). The delete-one-person jackknife, V_person =
(G − 1)/G · Σ (θ(−g) − θ)², is right for what people bring in, but counts what is a pair's own twice, once for either
person. The dyadic-robust variance subtracts what is counted twice: V_dyadic = V_person − V_pair, with V_pair the
jackknife that deletes one pair of people (Aronow, Samii and Assenova, Cluster-robust variance estimation for dyadic
data, Political Analysis 23, 2015; as a difference of jackknives: MacKinnon, Nielsen and Webb, Jackknife inference with
two-way clustering, 2024). It is noisy: a t test on it is too bold with G − 1 degrees of freedom, and weak with fewer.
The variance used is halfway between the two, and at least V_pair (the rule of the largest standard error, MacKinnon,
Nielsen and Webb):

    V = max(V_pair, V_person − ½ · (V_pair − r · max(0, V_person − 2 · V_pair)))

where r is the share of people's variance that V_pair holds too (known from who stands in which pair), so that it is not
subtracted. With one person per sample this is the ordinary cluster jackknife, and with independent samples exactly the
t test. ``docs/explanation/statistics.md`` has the simulation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from faithface.boards.statistics.design import Design, Level, make_design, make_units

LEVEL = 0.95
MIN_SAMPLES = 10
MIN_UNITS = 10.0
ROUNDING = 1e-12  # relative to the largest value: what is smaller is no difference but rounding


@dataclass(frozen=True)
class Interval:
    """A 95 % interval; NaN, NaN where there is none (no values, a single unit)."""

    low: float
    high: float


def too_few(design: Design) -> bool:
    """Return whether nothing is claimed: fewer than 10 samples, or fewer than 10 effective units."""
    return design.samples < MIN_SAMPLES or design.effective < MIN_UNITS


def variances(design: Design, values: np.ndarray, pairs: bool) -> np.ndarray:
    """Return the variance of columns' means, or of the mean differences of each two columns.

    Args:
        design: the dependence of the n samples.
        values: float64 …×n×K, finite.
        pairs: whether differences are asked for.

    Returns:
        float64 …×K, or …×K×K: symmetric, 0 on the diagonal. NaN where the design has no degrees of freedom.
    """
    if design.df <= 0:
        columns = (values.shape[-1],) * (2 if pairs else 1)
        return np.full((*values.shape[:-2], *columns), np.nan)
    # What all columns share cancels in differences; removing it first keeps the cancellation out of the rounding.
    held = values - values.mean(axis=-1, keepdims=True) if pairs else values
    residuals = held - held.mean(axis=-2, keepdims=True)
    person = _jackknife(design.person, residuals, pairs)
    twice = np.zeros_like(person)
    for level in design.overlaps:
        twice += level.sign * _jackknife(level, residuals, pairs)
    own = np.maximum(twice - design.shared * np.maximum(person - 2 * twice, 0.0), 0.0)
    found: np.ndarray = np.maximum(person - 0.5 * own, _jackknife(design.floor, residuals, pairs))
    return found


def _jackknife(level: Level, residuals: np.ndarray, pairs: bool) -> np.ndarray:
    """Return (G − 1)/G · Σ (change of the mean when one group is deleted)², of columns or of differences of two."""
    n, groups = residuals.shape[-2], len(level.sizes)
    sums = np.add.reduceat(residuals[..., level.rows, :], level.starts, axis=-2)
    change = -sums / (n - level.sizes)[:, None]
    if not pairs:
        found: np.ndarray = (groups - 1) / groups * (change**2).sum(axis=-2)
        return found
    products = (groups - 1) / groups * (np.swapaxes(change, -1, -2) @ change)
    diagonal = np.einsum("...ii->...i", products)
    both = products + np.swapaxes(products, -1, -2)
    return np.maximum(diagonal[..., :, None] + diagonal[..., None, :] - both, 0.0)


def p_values(differences: np.ndarray, errors: np.ndarray, df: float, scale: float | np.ndarray) -> np.ndarray:
    """Return two-sided p values of "the mean difference is 0" by Student's t.

    Args:
        differences: float64, any shape.
        errors: their standard errors, of the same shape.
        df: degrees of freedom; 0: every p is 1.
        scale: the largest |value| behind the means; differences within rounding of it are none (p = 1).
    """
    from scipy.special import stdtr

    small = np.abs(differences) <= ROUNDING * scale
    if df <= 0:
        return np.ones_like(differences)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.abs(differences) / errors
    return np.where(small | ~np.isfinite(differences), 1.0, 2 * stdtr(df, -np.nan_to_num(t, nan=0.0, posinf=np.inf)))


def quantile(df: float, level: float = LEVEL) -> float:
    """Return Student's t that a two-sided interval of a level reaches to."""
    from scipy.special import stdtrit

    return float(stdtrit(df, (1 + level) / 2))


def mean_interval(values: np.ndarray, names: Sequence[Sequence[str]], level: float = LEVEL) -> Interval:
    """Return the interval of a mean: it excludes a number exactly if the test of that number has p < 1 − level.

    Args:
        values: float64 n, finite.
        names: the units of each sample.
        level: the coverage.
    """
    values = np.asarray(values, dtype=np.float64)
    if not len(values):
        return Interval(float("nan"), float("nan"))
    design = make_design(make_units(names))
    if design.df <= 0:
        return Interval(float("nan"), float("nan"))
    mean = float(values.mean())
    half = quantile(design.df, level) * standard_error(design, values)
    return Interval(mean - half, mean + half)


def standard_error(design: Design, values: np.ndarray) -> float:
    """Return the standard error of the mean of n values (of two columns' differences, for a paired test)."""
    return float(np.sqrt(variances(design, np.asarray(values, dtype=np.float64)[:, None], pairs=False)[0]))
