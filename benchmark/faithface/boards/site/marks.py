"""Small drawings inside tables and cards, as SVG paths: intervals as dot plots, and the curves of one sample.

Place in the flow: ``block`` and ``pages`` put them into templates. Imports the standard library only. Everything is
computed when the site is built; a browser only paints.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

WIDE, HIGH = 96, 12  # of an interval's drawing, in its own units
EDGE, DOT = 4.0, 2.6


@dataclass(frozen=True)
class Axis:
    """The common axis of a column: from ``low`` to ``high``."""

    low: float
    high: float

    def place(self, value: float) -> float:
        """Return where a value stands, in units of the drawing."""
        span = self.high - self.low
        share = (value - self.low) / span if span > 0 else 0.5
        return EDGE + min(max(share, 0.0), 1.0) * (WIDE - 2 * EDGE)


def axis_of(numbers: Iterable[float | None]) -> Axis:
    """Return the axis that holds all numbers; None and values that are not finite do not count."""
    found = [value for value in numbers if value is not None and math.isfinite(value)]
    return Axis(min(found), max(found)) if found else Axis(0.0, 1.0)


def interval_path(axis: Axis, number: float, low: float | None, high: float | None) -> str:
    """Return the path of a dot with its interval; of a number beyond the axis an arrow at its end.

    Examples:
        >>> interval_path(Axis(0, 1), 0.5, 0.25, 0.75)
        'M26 6H70M45.4 6a2.6 2.6 0 1 0 5.2 0a2.6 2.6 0 1 0-5.2 0'
        >>> interval_path(Axis(0, 1), -2, -3, -1), interval_path(Axis(0, 1), 2, 1, 3)
        ('M0 6l6-4v8z', 'M96 6l-6-4v8z')
    """
    if number < axis.low or number > axis.high:
        return "M0 6l6-4v8z" if number < axis.low else f"M{WIDE} 6l-6-4v8z"
    line = ""
    if low is not None and high is not None:
        line = f"M{_text(axis.place(low))} 6H{_text(axis.place(high))}"
    left = _text(axis.place(number) - DOT)
    return f"{line}M{left} 6a{DOT} {DOT} 0 1 0 {2 * DOT} 0a{DOT} {DOT} 0 1 0-{2 * DOT} 0"


@dataclass(frozen=True)
class Lines:
    """The curves of one sample: a path for each name, and the ends of the vertical axis."""

    paths: tuple[tuple[str, str], ...]
    low: float
    high: float


def curve_lines(curves: Mapping[str, Sequence[float]], wide: float = 200, tall: float = 90) -> Lines | None:
    """Return curves on a common axis, x from 0 to 1; None if there is nothing to draw.

    A point that is not finite breaks the line. Curves of fewer than three points are not drawn.
    """
    curves = {name: curve for name, curve in curves.items() if len(curve) > 2}
    values = [v for curve in curves.values() for v in curve if math.isfinite(v)]
    if not values:
        return None
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    paths = []
    for name, curve in curves.items():
        parts, pen = [], "M"
        for i, value in enumerate(curve):
            if not math.isfinite(value):
                pen = "M"
                continue
            x = wide * i / max(1, len(curve) - 1)
            y = tall * (1 - (value - low) / span)
            parts.append(f"{pen}{_text(x)} {_text(y)}")
            pen = "L"
        paths.append((name, "".join(parts)))
    return Lines(tuple(paths), low, high)


def _text(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
