"""What the figures of a board show: plain data, a pure function of a table and its curves.

Place in the flow: ``pages`` asks for the figures of a table, ``figures`` turns them into SVG. Calls ``board``,
``extras`` and ``statistics``; of ``drawing`` only the forms of data. Draws nothing. Numbers are rounded to nine digits,
so that the last bits of another processor do not make another figure.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from faithface.boards.board import Column, Row, Table
from faithface.boards.record import Number
from faithface.boards.render import ARROW, shown_columns
from faithface.boards.render import figure as as_text
from faithface.boards.site import drawing
from faithface.boards.site.block import ACCESS, access_of
from faithface.boards.site.extras import Band, Extras
from faithface.boards.statistics.agreement import agreement, critical_difference
from faithface.boards.verdicts import SIGNS

COLOURS = {"scores": 0, "activations": 1, "gradients": 2, "answer": 3, "": 4}
LABELLED = 24  # points of a scatter that are told in words
CROWD = 14  # points of a scatter from which on only some carry a name
COMPARED = 30  # rivals in a critical-difference diagram
RESAMPLED = 40  # rivals up to which agreement has an interval
REPLICATES = 300
CURVES = 5  # methods whose mean curves are drawn, the best ones
METRICS = 14  # in a picture of agreement


@dataclass(frozen=True)
class Chart:
    """A figure before it is drawn.

    Attributes:
        name: unique on a site; letters, digits and hyphens.
        label: what it shows in words, for those who do not see it.
        shows: the data.
    """

    name: str
    title: str
    caption: str
    label: str
    shows: drawing.Shows

    @property
    def digest(self) -> str:
        """The sha256 of all that the drawing depends on."""
        text = json.dumps([type(self.shows).__name__, asdict(self.shows), self.name, self.label], sort_keys=True)
        return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


def charts_of(table: Table, extras: Extras, name: str) -> list[Chart]:
    """Return the figures of a table of explainers; those for which there is not enough to draw are not there.

    Args:
        name: with which the names of the figures begin.
    """
    if table.kind != "explainers":
        return []
    columns = [column for column in shown_columns(table) if column.sample.summary == "mean"]
    # What decides between methods has to be able to judge them.
    headline = next((c for c in columns if c.ranked), None)
    made = [_agreement(table, columns, f"{name}-tau")]
    if headline is not None:
        made = [
            _scatter(table, headline, f"{name}-cost"),
            _curves(table, [c for c in columns if c.ranked], extras, f"{name}-curves"),
            _critical(table, headline, f"{name}-cd"),
            *made,
        ]
    return [chart for chart in made if chart is not None]


def _scatter(table: Table, column: Column, name: str) -> Chart | None:
    rows: list[tuple[Row, float, Number]] = [
        (row, row.record.seconds_per_sample, n)
        for row in table.rows
        if row.record.seconds_per_sample and (n := row.number(column.protocol)) is not None and n.number is not None
    ]
    if len(rows) < 2:
        return None
    sign = 1 if column.sample.better == "higher" else -1
    front = _front([(row.title, seconds, sign * (n.number or 0.0)) for row, seconds, n in rows if not row.control])
    every = len(rows) < CROWD
    dots = tuple(
        drawing.Dot(
            row.title if every or row.control or row.title in front else "",
            _rounded(seconds),
            _rounded(n.number or 0.0),
            None if n.low is None else _rounded(n.low),
            None if n.high is None else _rounded(n.high),
            COLOURS[access_of(row.record)],
            row.control,
        )
        for row, seconds, n in rows
    )
    used = [key for key in COLOURS if any(access_of(row.record) == key for row, _s, _n in rows)]
    key = tuple((ACCESS[one], COLOURS[one]) for one in used) if len(used) > 1 else ()
    caption = (
        "What an explanation costs and what it is worth. Hollow: controls. Lines: 95 % intervals. "
        "Seconds are those of the machine that the records name."
    )
    if not every:
        caption += " Named are controls, and the methods that no other is cheaper and better than."
    label = "; ".join(f"{row.title}: {s:.3g} s, {as_text(n.number)}" for row, s, n in rows[:LABELLED])
    arrow = ARROW[column.sample.better]
    shows = drawing.Scatter("seconds per explanation", f"{arrow} {column.protocol}", dots, key, True)
    return Chart(name, f"Cost against {column.protocol}", caption, f"Scatter. {label}", shows)


def _front(points: Sequence[tuple[str, float, float]]) -> set[str]:
    """Return the names of the points (name, cost, worth) that no other point beats in both."""
    return {
        name
        for name, cost, worth in points
        if not any(c <= cost and w >= worth and (c, w) != (cost, worth) for _name, c, w in points)
    }


def _curves(table: Table, columns: Sequence[Column], extras: Extras, name: str) -> Chart | None:
    """Show the mean curves of the best methods and of ``random``, a panel per curve."""
    if not extras.of(table.first).cells:
        return None
    for column in columns:
        kept = {row.title: extras.cell(row.record).bands.get(column.protocol) or {} for row in table.rows}
        names = list(dict.fromkeys(one for bands in kept.values() for one in bands))
        if names:
            break
    else:
        return None
    sign = -1 if column.sample.better == "higher" else 1

    def value(row: Row) -> float:
        number = row.number(column.protocol)
        return math.inf if number is None or number.number is None else sign * number.number

    methods = sorted((r for r in table.rows if not r.control and kept[r.title]), key=lambda r: (value(r), r.title))
    shown = [*methods[:CURVES], *(r for r in table.rows if r.title == "random" and kept[r.title])]
    key = tuple((r.title, None if r.control else k) for k, r in enumerate(shown))
    panels = tuple(
        (
            f"{one}: the model's score",
            tuple(_band(title, series, kept[title][one]) for title, series in key if one in kept[title]),
        )
        for one in names
    )
    caption = (
        f"Mean curves behind {column.protocol}, with 95 % intervals over people or images: the {len(shown)} shown are "
        "the best methods and random."
    )
    label = f"Mean curves of {', '.join(r.title for r in shown)}: {' and '.join(names)}"
    shows = drawing.Curves("share of pixels", panels, key)
    return Chart(name, f"Mean curves of {column.protocol}", caption, label, shows)


def _band(title: str, series: int | None, band: Band) -> drawing.Band:
    low, high = (tuple(None if v is None else _rounded(v) for v in part) for part in (band.low, band.high))
    return drawing.Band(title, series, tuple(_rounded(v) for v in band.mean), low, high)


def _critical(table: Table, column: Column, name: str) -> Chart | None:
    columns = {row.title: row.values[column.protocol] for row in table.rows if _method_with(row, column.protocol)}
    if not 2 < len(columns) <= COMPARED:
        return None
    found = critical_difference(columns, table.units, column.sample.better == "higher")
    if not found.positions:
        return None
    bars = (
        "Bars join those that cannot be told apart." if found.enough else "Too few samples or people to tell any apart."
    )
    caption = (
        f"Critical-difference diagram of {column.protocol} over {found.samples} samples that all methods share. {bars} "
        "The test knows about people who appear in several samples. It compares ranks within each sample, the table "
        "means over samples: they may disagree where a method is a little better on most samples, much worse on some."
    )
    said = "; ".join(f"{rival}: mean rank {mean:.2f}" for rival, mean in found.positions)
    positions = tuple((rival, _rounded(mean)) for rival, mean in found.positions)
    shows = drawing.Ranks("mean rank within a sample (1 = best)", positions, found.bars)
    return Chart(name, "Who is told apart", caption, f"Critical-difference diagram. {said}. {bars}", shows)


def _agreement(table: Table, columns: Sequence[Column], name: str) -> Chart | None:
    metrics: dict[str, dict[str, Mapping[str, float]]] = {}
    for column in columns:
        found = {row.title: row.values[column.protocol] for row in table.rows if _method_with(row, column.protocol)}
        if len(found) > 2:
            metrics[column.protocol] = found
    order = [column.protocol for column in columns if column.protocol in metrics][:METRICS]
    if len(order) < 2:
        return None
    rivals = max(len(found) for found in metrics.values())
    resampled = rivals <= RESAMPLED
    better = {c.protocol: c.sample.better == "higher" for c in columns}
    taus = agreement({m: metrics[m] for m in order}, table.units, better, 0, REPLICATES if resampled else 1)

    def cell(a: str, b: str) -> tuple[float, bool] | None:
        pair = taus[min(a, b), max(a, b)]
        sure = not resampled or (math.isfinite(pair.low) and (pair.low > 0 or pair.high < 0))
        return (_rounded(pair.tau), sure) if math.isfinite(pair.tau) else None

    rows = tuple(tuple(cell(one, other) for other in order[:i]) for i, one in enumerate(order))
    intervals = "Grey numbers: the 95 % interval holds 0. " if resampled else ""
    caption = (
        f"Kendall's τ between the orders of {rivals} methods by each two metrics: 1 the same order, −1 the reverse. "
        f"{intervals}Metrics that disagree ask different questions."
    )
    said = "; ".join(f"{a} and {b}: {t.tau:.2f}" for (a, b), t in list(taus.items())[:12] if math.isfinite(t.tau))
    marks = {c.protocol: c.standing.mark for c in columns}
    used = [mark for mark in SIGNS if mark and mark in (marks[one] for one in order)]
    if used:
        caption += f" {'; '.join(f'{SIGNS[mark]} {mark}' for mark in used)}."
    shows = drawing.Matrix(tuple(f"{SIGNS[marks[one]]} {one}".strip() for one in order), rows)
    return Chart(name, "Do the metrics agree", caption, f"Kendall's tau. {said}", shows)


def _method_with(row: Row, protocol: str) -> bool:
    return not row.control and bool(row.values.get(protocol))


def _rounded(value: float) -> float:
    return float(f"{value:.9g}")
