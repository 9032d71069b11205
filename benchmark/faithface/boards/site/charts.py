"""The figures of a board, by matplotlib, as SVG inside the page: they take their colours from it, light or dark.

Place in the flow: ``pages`` asks for the figures of a table. Calls ``board``, ``extras`` and ``statistics``. The same
board gives the same bytes: a fixed salt for ids, no date, text as text.

Figures are drawn in stand-in colours, which :func:`_svg` replaces by the page's CSS variables.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from faithface.boards.board import Column, Row, Table
from faithface.boards.record import Number
from faithface.boards.render import ARROW, shown_columns
from faithface.boards.render import figure as as_text
from faithface.boards.site.block import access_of, family_of
from faithface.boards.site.extras import Extras
from faithface.boards.statistics.agreement import agreement, critical_difference

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, SOFT, LINE, GROUND = "#010203", "#020304", "#030405", "#040506"
SERIES = tuple(f"#0{i}0a0b" for i in range(6))
PAINT = {INK: "var(--ink)", SOFT: "var(--soft)", LINE: "var(--line)", GROUND: "var(--card)"}
PAINT |= {colour: f"var(--s{i})" for i, colour in enumerate(SERIES)}
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.5)), (0, (6, 1.5, 1.5, 1.5)), (0, (3, 3)), (0, (9, 2)))
LABELLED = 24  # points of a scatter that carry a name
COMPARED = 30  # rivals in a critical-difference diagram
RESAMPLED = 40  # rivals up to which agreement has an interval
REPLICATES = 300
CURVES = 5  # methods whose mean curves are drawn, the best ones
METRICS = 14  # in a picture of agreement


@dataclass(frozen=True)
class Chart:
    """A figure: its title, what it shows in words, and the SVG element."""

    title: str
    caption: str
    svg: str


def charts_of(table: Table, extras: Extras, salt: str) -> list[Chart]:
    """Return the figures of a table of explainers; those for which there is not enough to draw are not there."""
    if table.kind != "explainers":
        return []
    columns = [column for column in shown_columns(table) if column.sample.summary == "mean"]
    headline = next((c for c in columns if family_of(c.sample).key in ("faithful", "specific", "truth", "other")), None)
    made = [_agreement(table, columns, f"{salt}-tau")]
    if headline is not None:
        made = [
            _scatter(table, headline, f"{salt}-cost"),
            _curves(table, columns, extras, f"{salt}-curves"),
            _critical(table, headline, f"{salt}-cd"),
            *made,
        ]
    return [chart for chart in made if chart is not None]


# --- the figures


def _scatter(table: Table, column: Column, salt: str) -> Chart | None:
    rows: list[tuple[Row, float, Number]] = [
        (row, row.record.seconds_per_sample, n)
        for row in table.rows
        if row.record.seconds_per_sample and (n := row.number(column.protocol)) is not None and n.number is not None
    ]
    if len(rows) < 2:
        return None
    figure = _figure(6.0, 3.9)
    arrow = ARROW[column.sample.better]
    axes = _axes(figure, "seconds per explanation", f"{arrow} {column.protocol}")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _place: f"{value:g}")
    axes.xaxis.set_minor_formatter(lambda _value, _place: "")
    colours = {"scores": 0, "activations": 1, "gradients": 2, "answer": 3, "": 4}
    for row, seconds, number in rows:
        colour = SERIES[colours[access_of(row.record)]]
        if number.low is not None and number.high is not None:
            axes.plot([seconds, seconds], [number.low, number.high], color=colour, lw=1, alpha=0.45)
        face = GROUND if row.control else colour
        assert number.number is not None  # rows without one are not among them
        axes.plot([seconds], [number.number], "o", ms=6, mec=colour, mfc=face, mew=1.5)
    axes.margins(x=0.12, y=0.1)
    if len(rows) <= LABELLED:
        _labels(figure, axes, [(float(s), float(n.number or 0.0), row.title) for row, s, n in rows])
    used = [key for key in colours if any(access_of(row.record) == key for row, _s, _n in rows)]
    names = {"scores": "black box", "answer": "knows the answer", "": "not stated"}
    _key(axes, [(names.get(key, key), SERIES[colours[key]], "-") for key in used] if len(used) > 1 else [])
    caption = (
        "What an explanation costs and what it is worth. Hollow: controls. Lines: 95 % intervals. "
        "Seconds are those of the machine that the records name."
    )
    label = "; ".join(f"{row.title}: {s:.3g} s, {as_text(n.number)}" for row, s, n in rows[:LABELLED])
    return Chart(f"Cost against {column.protocol}", caption, _svg(figure, salt, f"Scatter. {label}"))


def _curves(table: Table, columns: Sequence[Column], extras: Extras, salt: str) -> Chart | None:
    """Draw the mean curves of the best methods and of ``random``, a panel per curve."""
    if not extras.of(table.first).cells:
        return None
    for column in columns:
        kept = {row.title: extras.cell(row.record).bands.get(column.protocol) for row in table.rows}
        names = list(dict.fromkeys(name for bands in kept.values() if bands for name in bands))
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
    figure = _figure(max(4.2, 3.4 * len(names)), 3.7)
    for i, name in enumerate(names):
        axes = _axes(figure, "share of pixels", f"{name}: the model's score", (1, len(names), i + 1))
        for k, row in enumerate(shown):
            band = (kept[row.title] or {}).get(name)
            if band is None:
                continue
            x = np.linspace(0, 1, len(band.mean))
            colour = SOFT if row.control else SERIES[k % len(SERIES)]
            low, high = (np.array([np.nan if v is None else v for v in part]) for part in (band.low, band.high))
            axes.fill_between(x, low, high, color=colour, alpha=0.12, lw=0)
            style: Any = (0, (1, 1)) if row.control else DASHES[k % len(DASHES)]
            axes.plot(x, band.mean, color=colour, lw=1.7, ls=style)
        axes.set_xlim(0, 1)
    entries = [
        (r.title, SOFT if r.control else SERIES[k % len(SERIES)], (0, (1, 1)) if r.control else DASHES[k % len(DASHES)])
        for k, r in enumerate(shown)
    ]
    _key(figure.axes[-1], entries)
    caption = (
        f"Mean curves behind {column.protocol}, with 95 % intervals over people or images: the {len(shown)} shown are "
        "the best methods and random."
    )
    label = f"Mean curves of {', '.join(r.title for r in shown)}: {' and '.join(names)}"
    return Chart(f"Mean curves of {column.protocol}", caption, _svg(figure, salt, label))


def _critical(table: Table, column: Column, salt: str) -> Chart | None:
    columns = {row.title: row.values[column.protocol] for row in table.rows if _method_with(row, column.protocol)}
    if not 2 < len(columns) <= COMPARED:
        return None
    found = critical_difference(columns, table.units, column.sample.better == "higher")
    if not found.positions:
        return None
    count = len(found.positions)
    figure = _figure(6.0, 0.85 + 0.24 * (count + 0.6 * len(found.bars)))
    axes = _axes(figure, "mean rank within a sample (1 = best)", "")
    axes.grid(visible=False)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xlim(1 - 0.02 * count, count + 0.02 * count)
    top = count + 0.6 * len(found.bars)
    for i, (name, mean) in enumerate(found.positions):
        right = mean > (1 + count) / 2
        y = count - i - 0.5
        axes.plot([mean, mean], [0, y], color=LINE, lw=1)
        axes.plot([mean], [y], "o", color=SERIES[0], ms=5)
        shift = -6 if right else 6
        _text(axes, (mean, y), f"{name}  {mean:.2f}", shift, "right" if right else "left", behind=True)
    for k, (first, last) in enumerate(found.bars):
        y = count + 0.15 + 0.55 * k
        ends = found.positions[first][1], found.positions[last][1]
        axes.plot([ends[0] - 0.03, ends[1] + 0.03], [y, y], color=INK, lw=3.5, solid_capstyle="butt")
    axes.set_ylim(0, top + 0.3)
    bars = (
        "Bars join those that cannot be told apart." if found.enough else "Too few samples or people to tell any apart."
    )
    caption = (
        f"Critical-difference diagram of {column.protocol} over {found.samples} samples that all methods share. {bars} "
        "The test knows about people who appear in several samples."
    )
    label = "; ".join(f"{name}: mean rank {mean:.2f}" for name, mean in found.positions)
    return Chart("Who is told apart", caption, _svg(figure, salt, f"Critical-difference diagram. {label}. {bars}"))


def _agreement(table: Table, columns: Sequence[Column], salt: str) -> Chart | None:
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
    size = len(order)
    tall = 0.42 * size + 0.2
    figure = _figure(7.2, tall + 0.3)
    axes = figure.add_axes((0.42, 0.02, 0.57, 0.96))
    axes.set_axis_off()
    axes.set_xlim(-0.5, size - 0.5)
    axes.set_ylim(size - 0.5, -0.5)
    for i, row in enumerate(order):
        for k, name in enumerate(order[: i + 1]):
            if i == k:
                _text(axes, (k, i), str(i + 1), 0, "center", SOFT)
                continue
            pair = taus[min(row, name), max(row, name)]
            if not math.isfinite(pair.tau):
                _text(axes, (k, i), "–", 0, "center", SOFT)
                continue
            colour = SERIES[0] if pair.tau >= 0 else SERIES[1]
            sure = not resampled or (math.isfinite(pair.low) and (pair.low > 0 or pair.high < 0))
            axes.fill_between([k - 0.47, k + 0.47], i - 0.46, i + 0.46, color=colour, alpha=0.5 * abs(pair.tau), lw=0)
            _text(axes, (k, i), f"{pair.tau:.2f}".replace("-", "−"), 0, "center", INK if sure else SOFT)
        figure.text(0.405, 0.02 + 0.96 * (1 - (i + 0.5) / size), f"{_short(row, 46)}  {i + 1}", ha="right", va="center",
                    fontsize=8.5, color=INK, parse_math=False)  # fmt: skip
    intervals = "Grey numbers: the 95 % interval holds 0. " if resampled else ""
    caption = (
        f"Kendall's τ between the orders of {rivals} methods by each two metrics: 1 the same order, −1 the reverse. "
        f"{intervals}Metrics that disagree ask different questions."
    )
    said = "; ".join(f"{a} and {b}: {t.tau:.2f}" for (a, b), t in list(taus.items())[:12] if math.isfinite(t.tau))
    return Chart("Do the metrics agree", caption, _svg(figure, salt, f"Kendall's tau. {said}"))


def _method_with(row: Row, protocol: str) -> bool:
    return not row.control and bool(row.values.get(protocol))


# --- drawing


def _figure(wide: float, tall: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(wide, tall))


def _axes(figure: Figure, x: str, y: str, place: tuple[int, int, int] = (1, 1, 1)) -> Axes:
    axes = figure.add_subplot(*place)
    wide, tall = figure.get_size_inches()
    figure.subplots_adjust(left=0.6 / wide, right=1 - 0.12 / wide, bottom=0.5 / tall, top=1 - 0.3 / tall, wspace=0.16)
    axes.patch.set_visible(False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(SOFT)
    axes.tick_params(colors=SOFT, labelsize=8.5)
    axes.tick_params(which="minor", color=LINE)
    axes.grid(color=LINE, lw=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel(x, fontsize=9, color=SOFT)
    axes.set_title(_short(y, 60), fontsize=9, color=SOFT, loc="left", parse_math=False)
    return axes


def _text(
    axes: Axes,
    at: tuple[float, float],
    text: str,
    shift: float,
    align: str,
    colour: str = INK,
    up: float = 0,
    behind: bool = False,
) -> None:
    box = {"facecolor": GROUND, "edgecolor": "none", "pad": 1} if behind else None
    axes.annotate(_short(text), at, (shift, up), textcoords="offset points", fontsize=8.5, ha=align, va="center",
                  color=colour, bbox=box, parse_math=False)  # fmt: skip


def _labels(figure: Figure, axes: Axes, points: Sequence[tuple[float, float, str]]) -> None:
    """Write names beside points; where two would overlap, the later one moves up or down to the nearest free place."""
    axes.autoscale_view()
    dots = 72.0
    where = [(axes.transData.transform((x, y)) / figure.dpi * dots, x, y, name) for x, y, name in points]
    right = axes.bbox.x1 / figure.dpi * dots
    taken = [(place[0] - 5, place[1], 10.0) for place, _x, _y, _name in where]
    for place, x, y, name in sorted(where, key=lambda one: (-one[0][1], one[0][0], one[3])):
        wide = 4.9 * len(_short(name))
        left = place[0] + 7 + wide > right
        start = place[0] - 7 - wide if left else place[0] + 7
        shift = next(
            (
                s
                for k in range(24)
                for s in ((-1) ** k * 5.0 * ((k + 1) // 2),)
                if not _meets(taken, start, place[1] + s, wide)
            ),
            0.0,
        )
        taken.append((start, place[1] + shift, wide))
        _text(axes, (x, y), name, -7 if left else 7, "right" if left else "left", up=shift)


def _meets(taken: Sequence[tuple[float, float, float]], start: float, middle: float, wide: float) -> bool:
    return any(abs(middle - m) < 9.5 and start < s + w and s < start + wide for s, m, w in taken)


def _key(axes: Axes, entries: Sequence[tuple[str, str, Any]]) -> None:
    from matplotlib.lines import Line2D

    if not entries:
        return
    handles = [Line2D([], [], color=colour, ls=style, lw=2) for _name, colour, style in entries]
    key = axes.legend(
        handles, [_short(name, 26) for name, _c, _s in entries], fontsize=8.5, frameon=True, handlelength=2.4
    )
    key.get_frame().set(facecolor=GROUND, edgecolor="none", alpha=0.85)
    for text in key.get_texts():
        text.set(color=INK, parse_math=False)


def _short(text: str, most: int = 40) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= most else f"{flat[: most - 1]}…"


def _svg(figure: Figure, salt: str, label: str) -> str:
    """Return a figure as one SVG element for a page."""
    import matplotlib

    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({"svg.hashsalt": salt, "svg.fonttype": "none"}), warnings.catch_warnings():
        # A name may hold letters that the measuring font lacks; the page's font draws them.
        warnings.simplefilter("ignore")
        figure.savefig(buffer, format="svg", metadata=nothing, transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    for colour, paint in PAINT.items():
        text = text.replace(colour, paint)
    head, _, body = text.partition(">")
    box = re.search(r'viewBox="[^"]*"', head)
    wide = re.search(r'width="([0-9.]+)pt"', head)
    assert box is not None
    assert wide is not None
    style = f'style="max-width:{float(wide[1]) * 1.25:.0f}px"'
    title = _escaped(_short(label, 600))
    head = f'<svg class="chart" role="img" aria-label="{title}" {box[0]} {style}'
    return f"{head}>{re.sub(chr(10) + ' *', chr(10), body).strip()}"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
