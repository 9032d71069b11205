"""Verification results by what the model decides: true accept, false accept, true reject, false reject.

Place in the flow: ``render`` makes a table of :func:`outcome_rows` per board table; the site may show them. Calls
``record`` and ``statistics``; a pure function of records and values.

An explanation of a wrong decision answers another question than one of a right decision: the mean over both hides that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import polars as pl

from faithface.boards.record import Kept
from faithface.boards.statistics import interval
from faithface.boards.statistics.means import MIN_SAMPLES
from faithface.reasons import Status


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


def outcome_rows(kept: Iterable[Kept]) -> list[Split]:
    """Return the numbers of verification records by decision, in the order of records, protocols and decisions.

    Only headlines with a mean, and only decisions that occur. Where fewer than 10 pairs have a value, ``n`` alone is
    given.
    """
    found = []
    for one in kept:
        if one.record.model.task != "verification" or one.record.status is not Status.OK:
            continue
        scored = one.values.filter(
            (pl.col("value_name") == "") & pl.col("value").is_not_null() & pl.col("correct").is_not_null()
        )
        parts = scored.partition_by("protocol", as_dict=True)
        for number in one.record.numbers:
            rows = parts.get((number.protocol,))
            if number.value_name or number.summary != "mean" or rows is None:
                continue
            for decision, (label, right) in KINDS.items():
                mine = rows.filter((pl.col("label") == label) & (pl.col("correct") == right))
                if len(mine):
                    facts = (one.record.explainer.spec, number.protocol, number.better, decision, len(mine))
                    found.append(Split(*facts, *_mean(mine)))
    return found


def _mean(rows: pl.DataFrame) -> tuple[float | None, float | None, float | None]:
    if len(rows) < MIN_SAMPLES:
        return None, None, None
    values = rows["value"].to_numpy()
    spread = interval(values, rows["units"].to_list())
    ends = (float(values.mean()), spread.low, spread.high)
    number, low, high = (float(f"{v:.9g}") if math.isfinite(v) else None for v in ends)
    return number, low, high
