"""The tests that boards could have used and do not, for the comparison in ``simulate_statistics``.

Place in the flow: ``simulate_statistics`` calls :data:`METHODS`. Each takes boards that share their pairs (B×n×K) and
the people of each sample, and returns p values corrected for all pairs of rivals (B×K×K). Written from their
definitions with dense matrices, apart from ``faithface.boards.statistics``.
"""

from __future__ import annotations

import numpy as np
from scipy.special import stdtr

from faithface.boards.statistics.bootstrap import replicate_weights
from faithface.boards.statistics.design import make_units

DRAWS = 400


def membership(names: list[list[str]]) -> np.ndarray:
    """Return float64 n×G: 1 where a person stands in a sample."""
    units = make_units(names)
    found = np.zeros((len(names), units.count + 1))
    found[np.arange(len(names))[:, None], units.index] = 1.0
    return found[:, : units.count][:, found[:, : units.count].any(axis=0)]


def _pairs(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the paired differences of all pairs of rivals, B×n×M, and their means, B×M."""
    i, j = np.triu_indices(values.shape[-1], 1)
    gaps = values[..., i] - values[..., j]
    return gaps, gaps.mean(axis=-2)


def _holm(p: np.ndarray, rivals: int) -> np.ndarray:
    """Return Holm's corrected p values, B×M in and B×K×K out."""
    order = np.argsort(p, axis=1)
    scaled = np.take_along_axis(p, order, 1) * np.arange(p.shape[1], 0, -1)
    corrected = np.empty_like(p)
    np.put_along_axis(corrected, order, np.minimum(1.0, np.maximum.accumulate(scaled, axis=1)), 1)
    return _square(corrected, rivals)


def _square(p: np.ndarray, rivals: int) -> np.ndarray:
    i, j = np.triu_indices(rivals, 1)
    found = np.ones((len(p), rivals, rivals))
    found[:, i, j] = found[:, j, i] = p
    return found


def _t(means: np.ndarray, variances: np.ndarray, df: float, rivals: int) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(variances > 0, np.abs(means) / np.sqrt(variances), 0.0)  # no positive variance: no claim
    return _holm(2 * stdtr(max(df, 1.0), -t), rivals)


def independent(values: np.ndarray, names: list[list[str]]) -> np.ndarray:
    """The paired t test, as if all samples were independent."""
    gaps, means = _pairs(values)
    return _t(means, gaps.var(axis=1, ddof=1) / values.shape[1], values.shape[1] - 1, values.shape[-1])


def pigeonhole(values: np.ndarray, names: list[list[str]]) -> np.ndarray:
    """The pigeonhole bootstrap's standard error (Owen, 2007) and Student's t with G − 1 degrees of freedom."""
    units = make_units(names)
    boards, n, rivals = values.shape
    _, means = _pairs(values)
    weights = np.concatenate(list(replicate_weights(units, 0, DRAWS))).astype(np.float64)
    flat = np.swapaxes(values, 0, 1).reshape(n, boards * rivals)
    total = weights.sum(axis=1, keepdims=True)
    drawn = np.divide(weights @ flat, total, out=np.full((DRAWS, boards * rivals), np.nan), where=total > 0)
    i, j = np.triu_indices(rivals, 1)
    cube = drawn.reshape(DRAWS, boards, rivals)
    return _t(means, np.nanvar(cube[..., i] - cube[..., j], axis=0, ddof=1), units.count - 1, rivals)


def person_jackknife(values: np.ndarray, names: list[list[str]]) -> np.ndarray:
    """Delete one person with all samples; Student's t with G − 1 degrees of freedom."""
    member = membership(names)
    gaps, means = _pairs(values)
    people, n = member.shape[1], len(member)
    left = n - member.sum(axis=0)
    if not left.all():
        return np.ones((len(values), values.shape[-1], values.shape[-1]))
    without = (n * means[:, None, :] - member.T @ gaps) / left[:, None]
    variances = (people - 1) / people * ((without - without.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    return _t(means, variances, people - 1, values.shape[-1])


def dyadic_robust(values: np.ndarray, names: list[list[str]]) -> np.ndarray:
    """The dyadic-robust variance (Aronow, Samii and Assenova, 2015); Student's t with G/2 − 1 degrees of freedom."""
    member = membership(names)
    gaps, means = _pairs(values)
    shares = (member @ member.T > 0).astype(np.float64)
    residuals = gaps - means[:, None, :]
    variances = ((shares @ residuals) * residuals).sum(axis=1) / len(member) ** 2
    df = member.shape[1] / 2 - 1 if (member.sum(axis=1) > 1).any() else len(member) - 1
    return _t(means, variances, df, values.shape[-1])


def multiplier(values: np.ndarray, names: list[list[str]]) -> np.ndarray:
    """The multiplier bootstrap over people with the step-down of the largest |t| (Romano and Wolf, 2005)."""
    member = membership(names)
    boards, n, rivals = values.shape
    i, j = np.triu_indices(rivals, 1)
    residuals = values - values.mean(axis=1, keepdims=True)
    sums = member.T @ residuals / n
    multipliers = np.random.default_rng(0).normal(size=(DRAWS, member.shape[1]))
    found = np.ones((boards, len(i)))
    for b in range(boards):
        gaps = sums[b][:, i] - sums[b][:, j]
        error = np.sqrt((gaps**2).sum(axis=0))
        largest = np.abs(multipliers @ gaps) / error
        observed = np.abs(values[b].mean(axis=0)[i] - values[b].mean(axis=0)[j]) / error
        order = np.argsort(-observed)
        # The step-down by adjusted p: the r-th largest is held against the largest of those not larger.
        reached = np.maximum.accumulate(largest[:, order[::-1]], axis=1)[:, ::-1]
        p = (1 + (reached >= observed[order]).sum(axis=0)) / (1 + DRAWS)
        found[b, order] = np.maximum.accumulate(p)
    return _square(found, rivals)


METHODS = {
    "independent t": independent,
    "pigeonhole bootstrap": pigeonhole,
    "person jackknife": person_jackknife,
    "dyadic-robust, G/2 − 1": dyadic_robust,
    "multiplier, max-t": multiplier,
}
