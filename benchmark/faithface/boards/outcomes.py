"""Verification results by what the model decides: true accept, false accept, true reject, false reject.

Place in the flow: ``board`` puts what :func:`splits_of` returns into each table of verification; ``render`` and the
site show it. Calls ``columns`` and ``statistics``; a pure function of values.

An explanation of a wrong decision answers another question than one of a right decision: the mean over both hides that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import polars as pl

from faithface.boards.columns import Designs, Matrix
from faithface.boards.statistics.means import MIN_SAMPLES, quantile, variances


class Decision(StrEnum):
    """What a verification model decides of a pair, and whether it is right."""

    TRUE_ACCEPT = "true accept"
    FALSE_REJECT = "false reject"
    TRUE_REJECT = "true reject"
    FALSE_ACCEPT = "false accept"


KINDS = {
    Decision.TRUE_ACCEPT: ("genuine", True),
    Decision.FALSE_REJECT: ("genuine", False),
    Decision.TRUE_REJECT: ("impostor", True),
    Decision.FALSE_ACCEPT: ("impostor", False),
}


@dataclass(frozen=True)
class Split:
    """The mean of a protocol over the pairs of one decision.

    Attributes:
        n: pairs with a value.
        number, low, high: mean and its 95 % interval; None where there are fewer than 10 pairs, or no interval.
    """

    explainer: str
    protocol: str
    better: str
    decision: Decision
    n: int
    number: float | None
    low: float | None
    high: float | None


def splits_of(
    frame: pl.DataFrame, titles: Sequence[str], protocols: Mapping[str, str], designs: Designs
) -> tuple[Split, ...]:
    """Return the numbers of a verification table by decision, in the order of titles, protocols and decisions.

    Only decisions that occur. Where fewer than 10 pairs have a value, ``n`` alone is given.

    Args:
        frame: headline values that are there: ``title, protocol, sample, value, units, label, correct``.
        titles: the explainers, in order.
        protocols: those with a mean, in order, with their direction.
        designs: who stands in which samples (:class:`columns.Designs`), shared between columns.
    """
    found: dict[tuple[str, str], list[Split]] = {}
    by_protocol = frame.filter(pl.col("correct").is_not_null()).partition_by("protocol", as_dict=True)
    for protocol, better in protocols.items():
        rows = by_protocol.get((protocol,))
        if rows is None:
            continue
        matrix = Matrix.of(rows)
        facts = rows.unique(subset="sample").sort("sample")
        labels, correct = facts["label"].to_numpy(), facts["correct"].to_numpy()
        for decision, (label, right) in KINDS.items():
            mine = matrix.take((labels == label) & (correct == right))
            for title, n, number, low, high in _means(mine, designs):
                found.setdefault((title, protocol), []).append(
                    Split(title, protocol, better, decision, n, _kept(number), _kept(low), _kept(high))
                )
    return tuple(split for title in titles for protocol in protocols for split in found.get((title, protocol), ()))


def _means(matrix: Matrix, designs: Designs) -> Iterator[tuple[str, int, float, float, float]]:
    """Yield each explainer's n, mean and interval; columns with values of the same samples are computed together."""
    finite = np.isfinite(matrix.values)
    kinds, kind = np.unique(finite.T, axis=0, return_inverse=True)
    for k, common in enumerate(kinds):
        columns = np.flatnonzero(kind.reshape(-1) == k)
        n = int(common.sum())
        means = low = high = np.full(len(columns), np.nan)
        if n >= MIN_SAMPLES:
            held = matrix.values[np.ix_(common, columns)]
            means = held.mean(axis=0)
            design = designs.of([name for name, here in zip(matrix.samples, common, strict=True) if here])
            if design.df > 0:
                half = quantile(design.df) * np.sqrt(variances(design, held, pairs=False))
                low, high = means - half, means + half
        for column, number, first, last in zip(columns, means, low, high, strict=True):
            if n:
                yield matrix.titles[column], n, float(number), float(first), float(last)


def _kept(value: float) -> float | None:
    return float(f"{value:.9g}") if math.isfinite(value) else None
