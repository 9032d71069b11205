"""What a notebook shows of a result: a short text, a small table with thumbnails, and figures.

Place in the flow: ``api.Result`` calls it. May call ``boards`` (numbers and their order), ``figures`` (overlays) and
matplotlib, which is imported when a figure is drawn.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from faithface.boards.board import Board, Column, Row, Table
from faithface.boards.render import ARROW, figure, heading
from faithface.errors import UsageError, nearest
from faithface.run.executors import Executor, Job
from faithface.run.paths import short
from faithface.run.results import CellShard, Event

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LINES = 15  # of a text
COLUMNS = 3  # protocols of a text or table
KEPT = 4  # samples of which maps are kept
WIDE = 24  # characters of an explainer's name in a text


@dataclass(frozen=True)
class Shown:
    """A sample's image and the maps that an explainer gave for it.

    Attributes:
        image: float32 H×W×3 in [0, 1]; of a pair both, 2×H×W×3.
        maps: by name, H×W; of a pair 2×H×W.
    """

    model: str
    dataset: str
    explainer: str
    sample: str
    image: np.ndarray
    maps: Mapping[str, np.ndarray]


def keeping(executor: Executor, kept: list[Shown]) -> Executor:
    """Return an executor that keeps the maps of a group's first samples in ``kept``, for pictures."""

    def run(job: Job, /) -> Iterator[Event]:
        from faithface.loading import read_faces

        items = {item.id: item for item in job.dataset.items()}
        specs = {cell.number: cell.explainer.spec for cell in job.group.cells}
        card = job.group.model.object
        left = dict.fromkeys(specs, KEPT)
        for event in executor(replace(job, keep_maps=True)):
            if isinstance(event, CellShard) and event.maps is not None:
                for i, sample in enumerate(event.ids[: left[event.cell]]):
                    item = items[sample]
                    pixels = read_faces((item,), card.input.size)
                    faces = [pixels[face.id].permute(1, 2, 0).numpy() for face in item.faces]
                    image = np.stack(faces) if len(faces) > 1 else faces[0]
                    maps = {name: array[i].copy() for name, array in event.maps.items()}
                    kept.append(Shown(card.name, job.group.dataset.spec, specs[event.cell], sample, image, maps))
                    left[event.cell] -= 1
                if not job.keep_maps:
                    event = replace(event, maps=None, native=None)
            yield event

    return run


# --- text


def text_of(board: Board, failures: Sequence[str], not_applicable: Sequence[str]) -> str:
    """Return at most 15 lines: of each model and dataset the best rows and their first protocols."""
    tail = [f"failed: {len(failures)}, first {failures[0]}"[:100]] if failures else []
    if not_applicable:
        tail.append(f"not applicable: {len(not_applicable)}")
    tail.append("methods: table(), plot(), curves(), overlays(), to_pandas(); values, records")
    room = LINES - len(tail)
    lines: list[str] = []
    for at, table in enumerate(board.tables):
        if room - len(lines) < 3:
            lines.append(f"… and {len(board.tables) - at} more tables: .table()")
            break
        share = max(3, (room - len(lines)) // (len(board.tables) - at))
        lines += _table_lines(table, min(share, room - len(lines) - (at + 1 < len(board.tables))))
    return "\n".join([*lines[:room], *tail])


def _table_lines(table: Table, room: int) -> list[str]:
    columns = table.columns[:COLUMNS]
    more = f" (+{len(table.columns) - len(columns)} protocols)" if len(table.columns) > len(columns) else ""
    names = [f"{_cut(column.protocol, 22)} {ARROW[column.sample.better]}" for column in columns]
    wide = [max(24, len(name)) for name in names]
    lines = [f"{heading(table)}{more}"]
    lines.append(f"{'':<{WIDE}}" + "".join(f" {name:>{w}}" for name, w in zip(names, wide, strict=True)))
    fit = max(1, room - 2)
    rows = table.rows if len(table.rows) <= fit else table.rows[: fit - 1]
    for row in rows:
        cells = "".join(f" {interval_text(row, column):>{w}}" for column, w in zip(columns, wide, strict=True))
        lines.append(f"{_cut(row.title, WIDE):<{WIDE}}{cells}")
    if len(rows) < len(table.rows):
        lines.append(f"… and {len(table.rows) - len(rows)} more")
    return lines


def interval_text(row: Row, column: Column) -> str:
    """Return ``0.1234 [0.1000, 0.1500]``, or the status where there is no number."""
    number = row.number(column.protocol)
    if number is None:
        return "–"
    if number.number is None:
        return str(number.status) if number.status != "ok" else "–"
    if number.low is None or number.high is None:
        return figure(number.number)
    return f"{figure(number.number)} [{figure(number.low)}, {figure(number.high)}]"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


# --- HTML


def html_of(board: Board, shown: Sequence[Shown], failures: Sequence[str]) -> str:
    """Return a small table for each model and dataset: number, 95 % interval, and a thumbnail of the first sample."""
    parts = []
    for table in board.tables:
        columns = table.columns[:COLUMNS]
        first = {one.explainer: one for one in reversed(shown) if _is_of(one, table)}
        heads = "".join(f"<th>{html.escape(c.protocol)} {ARROW[c.sample.better]}</th>" for c in columns)
        rows = []
        for row in table.rows:
            cells = "".join(f"<td>{html.escape(interval_text(row, column))}</td>" for column in columns)
            picture = thumbnail(first[row.title]) if row.title in first else ""
            title = html.escape(row.title) + (" <i>(control)</i>" if row.control else "")
            rows.append(f"<tr><td>{picture}</td><td>{title}</td>{cells}</tr>")
        parts.append(
            f"<table><caption>{html.escape(heading(table))}</caption>"
            f"<thead><tr><th></th><th>explainer</th>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        )
    parts += [f"<p>failed: {html.escape(line)}</p>" for line in failures]
    return "".join(parts)


def _is_of(one: Shown, table: Table) -> bool:
    return table.kind == "explainers" and one.model == table.first.model.name


def thumbnail(one: Shown, height: int = 48) -> str:
    """Return an ``<img>`` of a sample's overlay; of a pair, the probe's similarity."""
    from PIL import Image

    from faithface.figures import overlay, scale_of

    image, map_ = _probe(one)
    pixels = np.rint(np.clip(overlay(image, map_, scale_of(map_)), 0, 1) * 255).astype(np.uint8)
    picture = Image.fromarray(pixels)
    picture = picture.resize((max(1, round(height * picture.width / picture.height)), height))
    data = io.BytesIO()
    picture.save(data, "PNG")
    code = base64.b64encode(data.getvalue()).decode()
    return f'<img alt="map of {html.escape(one.sample)}" src="data:image/png;base64,{code}">'


def _probe(one: Shown) -> tuple[np.ndarray, np.ndarray]:
    map_ = next(iter(one.maps.values()))
    return (one.image[0], map_[0]) if one.image.ndim == 4 else (one.image, map_)


# --- figures


def intervals_figure(board: Board, metrics: Sequence[str] | None = None) -> Figure:
    """Draw numbers with their 95 % intervals: a panel for each table and protocol, controls hollow.

    Raises:
        UsageError: an unknown metric, or no number at all.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    panels = []
    for table in board.tables:
        for column in chosen(table.columns, metrics):
            rows = [row for row in table.rows if (n := row.number(column.protocol)) and n.number is not None]
            if rows:
                panels.append((table, column, rows))
    if not panels:
        raise UsageError("there is no number to draw; see `failures` and `not_applicable`")
    wide = min(3, len(panels))
    deep = -(-len(panels) // wide)
    most = max(len(rows) for _table, _column, rows in panels)
    made = Figure(figsize=(4.2 * wide, (0.9 + 0.26 * most) * deep), layout="constrained")
    grid = list(made.subplots(deep, wide, squeeze=False).flat)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    for axes, (table, column, rows) in zip(grid, panels, strict=False):
        for place, row in enumerate(reversed(rows)):
            number = row.number(column.protocol)
            assert number is not None
            assert number.number is not None
            low, high = (number.number if end is None else end for end in (number.low, number.high))
            axes.plot([low, high], [place, place], color="0.6" if row.control else "C0", lw=2, solid_capstyle="butt")
            face = "white" if row.control else "C0"
            axes.plot([number.number], [place], "o", ms=5, mfc=face, mec="0.4" if row.control else "C0")
        axes.set_yticks(range(len(rows)), [row.title for row in reversed(rows)], fontsize=8)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_title(f"{column.protocol} {ARROW[column.sample.better]}\n{heading(table)}", fontsize=8)
        axes.tick_params(axis="x", labelsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.grid(axis="x", color="0.9")
        axes.set_axisbelow(True)
    return made


def chosen(columns: Sequence[Column], metrics: Sequence[str] | None) -> list[Column]:
    """Return the columns that are asked for, all for None."""
    if metrics is None:
        return list(columns)
    found = [column for column in columns if column.protocol in metrics or column.sample.id in metrics]
    if not found:
        known = [column.protocol for column in columns]
        raise UsageError(f'no metric "{", ".join(metrics)}" in this result; {nearest(metrics[0], known)}')
    return found


def curves_figure(curves: pl.DataFrame, metric: str | None = None, explainers: Sequence[str] | None = None) -> Figure:
    """Draw mean curves with a band of 95 % of the mean (normal, over samples), a panel for each model and metric.

    Raises:
        UsageError: nothing to draw.
    """
    from matplotlib.figure import Figure

    frame = curves if explainers is None else curves.filter(pl.col("explainer").is_in(list(explainers)))
    if metric is not None:
        frame = frame.filter(pl.col("metric").str.starts_with(metric))
    if not len(frame):
        known = sorted(set(curves["metric"].to_list()))
        raise UsageError(
            f"no curve of {metric or 'any metric'} is kept; curves are there of: {', '.join(known) or 'none'}"
        )
    panels = frame.select("model", "dataset", "metric", "curve").unique(maintain_order=True).rows()
    wide = min(3, len(panels))
    deep = -(-len(panels) // wide)
    made = Figure(figsize=(4.2 * wide, 3.1 * deep), layout="constrained")
    grid = list(made.subplots(deep, wide, squeeze=False).flat)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    for axes, (model, dataset, name, curve) in zip(grid, panels, strict=False):
        mine = frame.filter(
            (pl.col("model") == model)
            & (pl.col("dataset") == dataset)
            & (pl.col("metric") == name)
            & (pl.col("curve") == curve)
        )
        for explainer in mine["explainer"].unique(maintain_order=True):
            own = (
                mine.filter(pl.col("explainer") == explainer)
                .group_by("fraction")
                .agg(pl.col("value").mean().alias("mean"), pl.col("value").std().alias("std"), pl.len().alias("n"))
                .sort("fraction")
            )
            x, mean = own["fraction"].to_numpy(), own["mean"].to_numpy()
            half = 1.96 * np.nan_to_num(own["std"].to_numpy()) / np.sqrt(own["n"].to_numpy())
            (line,) = axes.plot(x, mean, label=explainer, lw=1.5)
            axes.fill_between(x, mean - half, mean + half, color=line.get_color(), alpha=0.15, lw=0)
        axes.set_title(f"{name}{f' · {curve}' if curve else ''}\n{model} on {short(dataset)}", fontsize=8)
        axes.set_xlabel("share of the steps", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.legend(fontsize=7)
    return made


def overlays_figure(shown: Sequence[Shown], explainers: Sequence[str] | None = None, samples: int = KEPT) -> Figure:
    """Draw the maps of the first samples: a row for each explainer, a column for each sample, each on its own scale.

    Raises:
        UsageError: no map is kept.
    """
    from matplotlib.figure import Figure

    from faithface.figures import put, scale_of

    mine = [one for one in shown if explainers is None or one.explainer in explainers]
    if not mine:
        known = sorted({one.explainer for one in shown})
        asked = f" of {', '.join(explainers)}" if explainers else ""
        raise UsageError(
            f"no map is kept{asked}; maps are there of: {', '.join(known) or 'none'} "
            "(a run that was there already keeps none: evaluate without `out`, or into another)"
        )
    rows: dict[tuple[str, str, str], list[Shown]] = {}
    for one in mine:
        rows.setdefault((one.model, one.dataset, one.explainer), []).append(one)
    wide = min(samples, max(len(each) for each in rows.values()))
    made = Figure(figsize=(2.0 * wide + 1.2, 2.2 * len(rows) + 0.2), layout="constrained")
    grid = made.subplots(len(rows), wide, squeeze=False)
    several = len({key[:2] for key in rows}) > 1
    for line, ((model, _dataset, explainer), each) in zip(grid, rows.items(), strict=True):
        for axes in line:
            axes.set_axis_off()
        for axes, one in zip(line, each, strict=False):
            image, map_ = _probe(one)
            put(axes, image, map_, scale_of(map_), _cut(one.sample, 24))
            axes.title.set_fontsize(7)
        title = f"{explainer}\n{model}" if several else explainer
        line[0].text(-0.06, 0.5, title, rotation=90, va="center", ha="right", fontsize=8, transform=line[0].transAxes)
    return made
