"""Ratios of times that survive a busy machine.

Place in the flow: used by all measurements of ``bench``. Imports torch only.

Two things are timed in turns (A B A, A B A, …) and each B is compared with the mean of the As around it, so that a slow
spell of the machine meets both. The median of the ratios is reported, with the quartiles.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Ratio:
    """time(A) / time(B) over repeats: its median and quartiles, and the median seconds of both."""

    median: float
    low: float
    high: float
    seconds_a: float
    seconds_b: float

    def as_dict(self) -> dict[str, float]:
        return {
            "ratio": round(self.median, 4),
            "quartiles": [round(self.low, 4), round(self.high, 4)],  # type: ignore[dict-item]
        }


def seconds(run: Callable[[], object]) -> float:
    """Return the wall seconds of one call, on CUDA until the device has done all of it."""
    _settle()
    start = time.perf_counter()
    run()
    _settle()
    return time.perf_counter() - start


def _settle() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def paired(a: Callable[[], object], b: Callable[[], object], repeats: int, warm: bool = True) -> Ratio:
    """Time two calls in turns and return the ratio of their times, A over B."""
    if warm:
        a(), b()
    ratios, of_a, of_b = [], [], []
    before = seconds(a)
    for _ in range(repeats):
        middle = seconds(b)
        after = seconds(a)
        ratios.append((before + after) / 2 / middle)
        of_a.append((before + after) / 2)
        of_b.append(middle)
        before = after
    low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else (ratios[0],) * 3
    return Ratio(statistics.median(ratios), low, high, statistics.median(of_a), statistics.median(of_b))
