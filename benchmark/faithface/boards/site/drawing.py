"""Figures drawn by matplotlib, as SVG that takes its colours from the page it stands in, light or dark.

Place in the flow: ``figures`` calls :func:`draw` for what cannot be reused. Imports numpy and, when it draws,
matplotlib; nothing of faithface, so that this file and matplotlib's version are all that decides how a figure looks.
The same plan gives the same bytes: a fixed salt for ids, no date, text as text.

What a figure shows is plain data, one of :class:`Scatter`, :class:`Curves`, :class:`Ranks` and :class:`Matrix`; it is
drawn in stand-in colours, which :func:`_svg` replaces by the page's CSS variables.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, SOFT, LINE, GROUND = "#010203", "#020304", "#030405", "#040506"
SERIES = tuple(f"#0{i}0a0b" for i in range(6))
PAINT = {INK: "var(--ink)", SOFT: "var(--soft)", LINE: "var(--line)", GROUND: "var(--card)"}
PAINT |= {colour: f"var(--s{i})" for i, colour in enumerate(SERIES)}
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.5)), (0, (6, 1.5, 1.5, 1.5)), (0, (3, 3)), (0, (9, 2)))
DOTTED: Any = (0, (1, 1))


# --- what a figure shows


@dataclass(frozen=True)
class Dot:
    """One point of a scatter: its place, its interval or None, its colour (an index of the series)."""

    name: str
    x: float
    y: float
    low: float | None
    high: float | None
    colour: int
    hollow: bool


@dataclass(frozen=True)
class Scatter:
    """Points on a logarithmic horizontal axis; ``key``: names of colours; ``named``: points carry their names."""

    x: str
    y: str
    dots: tuple[Dot, ...]
    key: tuple[tuple[str, int], ...]
    named: bool


@dataclass(frozen=True)
class Band:
    """A mean curve over [0, 1] with its interval; ``series``: the index of its colour and dash; None: dotted, soft."""

    name: str
    series: int | None
    mean: tuple[float, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]


@dataclass(frozen=True)
class Curves:
    """Panels beside each other, each with a title and its curves; ``key``: names and series of all that are shown."""

    x: str
    panels: tuple[tuple[str, tuple[Band, ...]], ...]
    key: tuple[tuple[str, int | None], ...]


@dataclass(frozen=True)
class Ranks:
    """Names on a line of mean ranks, best first; ``bars``: (first, last) positions of those not told apart."""

    x: str
    positions: tuple[tuple[str, float], ...]
    bars: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Matrix:
    """The lower half of a symmetric matrix: row i has its first i values, each with whether it is sure; None: none."""

    names: tuple[str, ...]
    rows: tuple[tuple[tuple[float, bool] | None, ...], ...]


Shows = Scatter | Curves | Ranks | Matrix


def draw(shows: Shows, name: str, label: str) -> str:
    """Return a figure as one SVG element.

    Args:
        name: the figure's name on its site: the salt of its ids, and the attribute by which it is found again.
        label: what it shows in words, for those who do not see it.
    """
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's own settings do not change a published figure
        matplotlib.rcParams.update({"svg.hashsalt": name, "svg.fonttype": "none"})
        if isinstance(shows, Scatter):
            figure = _scatter(shows)
        elif isinstance(shows, Curves):
            figure = _curves(shows)
        elif isinstance(shows, Ranks):
            figure = _ranks(shows)
        else:
            figure = _matrix(shows)
        return _svg(figure, name, label)


def opening(name: str) -> str:
    """Return the text with which the SVG element of a figure begins."""
    return f'<svg data-figure="{name}"'


# --- the kinds of figures


def _scatter(shows: Scatter) -> Figure:
    figure = _figure(6.0, 3.9)
    axes = _axes(figure, shows.x, shows.y)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _place: f"{value:g}")
    axes.xaxis.set_minor_formatter(lambda _value, _place: "")
    for number, hollow in sorted({(dot.colour, dot.hollow) for dot in shows.dots}):
        # Points of one kind at once: one by one, hundreds of them take a second.
        dots = [dot for dot in shows.dots if (dot.colour, dot.hollow) == (number, hollow)]
        colour = SERIES[number]
        bars = [(dot.x, dot.low, dot.high) for dot in dots if dot.low is not None and dot.high is not None]
        axes.vlines([x for x, _, _ in bars], [low for _, low, _ in bars], [high for _, _, high in bars],
                    color=colour, lw=1, alpha=0.45, zorder=1.9)  # fmt: skip
        axes.plot([dot.x for dot in dots], [dot.y for dot in dots], "o", ms=6, mec=colour, mew=1.5,
                  mfc=GROUND if hollow else colour)  # fmt: skip
    axes.margins(x=0.12, y=0.1)
    if shows.named:
        _labels(figure, axes, [(dot.x, dot.y, dot.name) for dot in shows.dots if dot.name])
    _key(axes, [(name, SERIES[colour], "-") for name, colour in shows.key])
    return figure


def _curves(shows: Curves) -> Figure:
    figure = _figure(max(4.2, 3.4 * len(shows.panels)), 3.7)
    for i, (title, bands) in enumerate(shows.panels):
        axes = _axes(figure, shows.x, title, (1, len(shows.panels), i + 1))
        for band in bands:
            x = np.linspace(0, 1, len(band.mean))
            low, high = (np.array([np.nan if v is None else v for v in part]) for part in (band.low, band.high))
            colour, dash = _style(band.series)
            axes.fill_between(x, low, high, color=colour, alpha=0.12, lw=0)
            axes.plot(x, band.mean, color=colour, lw=1.7, ls=dash)
        axes.set_xlim(0, 1)
    _key(figure.axes[-1], [(name, *_style(series)) for name, series in shows.key])
    return figure


def _style(series: int | None) -> tuple[str, Any]:
    return (SOFT, DOTTED) if series is None else (SERIES[series % len(SERIES)], DASHES[series % len(DASHES)])


def _ranks(shows: Ranks) -> Figure:
    count = len(shows.positions)
    top = count + 0.6 * len(shows.bars)
    figure = _figure(6.0, 0.85 + 0.24 * top)
    axes = _axes(figure, shows.x, "")
    axes.grid(visible=False)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xlim(1 - 0.02 * count, count + 0.02 * count)
    for i, (name, mean) in enumerate(shows.positions):
        right = mean > (1 + count) / 2
        y = count - i - 0.5
        axes.plot([mean, mean], [0, y], color=LINE, lw=1)
        axes.plot([mean], [y], "o", color=SERIES[0], ms=5)
        _text(axes, (mean, y), f"{name}  {mean:.2f}", -6 if right else 6, "right" if right else "left", behind=True)
    for k, (first, last) in enumerate(shows.bars):
        y = count + 0.15 + 0.55 * k
        ends = shows.positions[first][1] - 0.03, shows.positions[last][1] + 0.03
        axes.plot(ends, [y, y], color=INK, lw=3.5, solid_capstyle="butt")
    axes.set_ylim(0, top + 0.3)
    return figure


def _matrix(shows: Matrix) -> Figure:
    size = len(shows.names)
    figure = _figure(7.2 if size <= 8 else 9.2, 0.42 * size + 0.5)
    axes = figure.add_axes((0.42, 0.02, 0.57, 0.96))
    axes.set_axis_off()
    axes.set_xlim(-0.5, size - 0.5)
    axes.set_ylim(size - 0.5, -0.5)
    for i, (name, row) in enumerate(zip(shows.names, shows.rows, strict=True)):
        _text(axes, (i, i), str(i + 1), 0, "center", SOFT)
        for k, value in enumerate(row):
            if value is None:
                _text(axes, (k, i), "–", 0, "center", SOFT)
                continue
            number, sure = value
            colour = SERIES[0] if number >= 0 else SERIES[1]
            axes.fill_between([k - 0.47, k + 0.47], i - 0.46, i + 0.46, color=colour, alpha=0.5 * abs(number), lw=0)
            _text(axes, (k, i), _without_zero(number), 0, "center", INK if sure else SOFT)
        most = 46 if size <= 8 else 58
        figure.text(0.405, 0.02 + 0.96 * (1 - (i + 0.5) / size), f"{short(name, most)}  {i + 1}", ha="right",
                    va="center", fontsize=8.5, color=INK, parse_math=False)  # fmt: skip
    return figure


def _without_zero(number: float) -> str:
    """Return a correlation as journals print it, ``−.23``: fourteen columns leave no room for more."""
    return f"{number:.2f}".replace("-", "−").replace("0.", ".")


# --- their parts


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
    axes.set_title(short(y, 60), fontsize=9, color=SOFT, loc="left", parse_math=False)
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
    axes.annotate(short(text), at, (shift, up), textcoords="offset points", fontsize=8.5, ha=align, va="center",
                  color=colour, bbox=box, parse_math=False)  # fmt: skip


def _labels(figure: Figure, axes: Axes, points: Sequence[tuple[float, float, str]]) -> None:
    """Write names beside points; where two would overlap, the later one moves up or down to the nearest free place."""
    axes.autoscale_view()
    dots = 72.0
    where = [(axes.transData.transform((x, y)) / figure.dpi * dots, x, y, name) for x, y, name in points]
    right = axes.bbox.x1 / figure.dpi * dots
    taken = [(place[0] - 5, place[1], 10.0) for place, _x, _y, _name in where]
    for place, x, y, name in sorted(where, key=lambda one: (-one[0][1], one[0][0], one[3])):
        wide = 4.9 * len(short(name))
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
        handles, [short(name, 26) for name, _c, _s in entries], fontsize=8.5, frameon=True, handlelength=2.4
    )
    key.get_frame().set(facecolor=GROUND, edgecolor="none", alpha=0.85)
    for text in key.get_texts():
        text.set(color=INK, parse_math=False)


def short(text: str, most: int = 40) -> str:
    """Return a text in one line of at most ``most`` letters."""
    flat = " ".join(text.split())
    return flat if len(flat) <= most else f"{flat[: most - 1]}…"


def _svg(figure: Figure, name: str, label: str) -> str:
    """Return a figure as one SVG element for a page."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with warnings.catch_warnings():
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
    title = _escaped(short(label, 600))
    head = f'{opening(name)} class="chart" role="img" aria-label="{title}" {box[0]} {style}'
    return f"{head}>{re.sub(chr(10) + ' *', chr(10), body).strip()}"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
