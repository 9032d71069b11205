"""The answer as one picture: the content of the page without a browser, for slides and papers.

Place in the flow: the last step of ``faithface why --out why.png``. May call ``why``, ``wording``, ``page`` (texts)
and matplotlib.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.colors
import matplotlib.patheffects
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from skimage.measure import find_contours

from faithface.answers.page import VERDICTS, cautions_of, column_of, lead_of, middle_of, order_of, tints, total_of
from faithface.answers.shell import plain, signed
from faithface.answers.why import Answer
from faithface.answers.wording import sentence
from faithface.errors import RunError
from faithface.figures import grey
from faithface.regions.shapley import RegionValues

WIDE, EDGE, GAP, ROW, LABEL = 11.0, 0.45, 0.12, 0.28, 1.75  # inches; LABEL: the names beside bars
CAPTION = 13  # letters of a caption to an inch
FOR, AGAINST, SOFT, INK = "#c2410c", "#1d5fa8", "#5d636c", "#1d1f23"
SETTINGS: Any = {"font.family": "sans-serif", "font.size": 10, "axes.edgecolor": "#b9b5ac", "svg.fonttype": "none"}


def write_picture(answer: Answer, out: Path) -> None:
    """Write the picture; its suffix decides the format.

    Raises:
        RunError: the path cannot be written.
    """
    with matplotlib.rc_context(SETTINGS):
        figure = draw(answer)
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(out, dpi=150)
        except OSError as error:
            raise RunError(f"{out} cannot be written ({error.strerror or error})") from None


class Sheet:
    """A figure that is filled from the top: places are given in inches, so that nothing overlaps."""

    def __init__(self, height: float) -> None:
        self.figure = Figure(figsize=(WIDE, height), facecolor="white")
        self.height, self.y = height, 0.35

    def axes(self, x: float, below: float, wide: float, tall: float) -> Axes:
        """Return axes whose upper left corner lies ``below`` the present place; the place stays."""
        bottom = self.height - self.y - below - tall
        return self.figure.add_axes((x / WIDE, bottom / self.height, wide / WIDE, tall / self.height))

    def text(self, lines: Sequence[str], line: float, **style: Any) -> None:
        """Write lines of text, ``line`` inches each, and move on."""
        at = 1 - self.y / self.height
        self.figure.text(EDGE / WIDE, at, "\n".join(lines), va="top", linespacing=1.35, **style)
        self.y += line * len(lines)


def draw(answer: Answer) -> Figure:
    """Draw the answer: text, faces with regions, bars with intervals, the set's scores, explainers, cautions."""
    title = textwrap.wrap(sentence(answer), 70)
    lead = textwrap.wrap(lead_of(answer), 128)
    cautions = [
        line for text in cautions_of(answer) for line in textwrap.wrap(f"• {text}", 150, subsequent_indent="  ")
    ]
    explained = [one for one in answer.agreements if one.reference == answer.values[0].fill]
    explained.sort(key=lambda one: -float(np.nan_to_num(one.spearman, nan=-2)))
    columns = max(3, len(answer.images) + 1)
    side = (WIDE - 2 * EDGE - GAP * (columns - 1)) / columns
    bars = ROW * len(answer.regions.names)
    height = 0.35 + 0.36 * len(title) + 0.2 * len(lead) + 0.2 + side + 0.5 + bars + 1.15
    height += 1.75 if answer.population is not None else 0
    height += 0.2 * len(explained) + 0.6 if explained else 0
    sheet = Sheet(height + 0.18 * len(cautions) + 0.55)
    sheet.text(title, 0.36, fontsize=18, fontweight="bold", color=INK)
    sheet.text(lead, 0.2, color=SOFT)
    sheet.y += 0.2
    for i, (name, image) in enumerate(zip(answer.names, answer.images, strict=True)):
        axes = sheet.axes(EDGE + i * (side + GAP), 0, side, side)
        axes.imshow(image)
        axes.axis("off")
        _caption(axes, name)
    _regions(sheet.axes(EDGE + len(answer.images) * (side + GAP), 0, side, side), answer)
    sheet.y += side + 0.5
    if answer.population is not None:
        _scores(sheet.axes(EDGE, 0.3, WIDE - 2 * EDGE, 1.0), answer)
        sheet.y += 1.75
    order = order_of(answer)[::-1]  # bars are drawn upwards
    wide = (WIDE - 2 * EDGE) / len(answer.values)
    for i, values in enumerate(answer.values):
        _bars(sheet.axes(EDGE + i * wide + LABEL, 0.5, wide - LABEL - 0.15, bars), answer, values, order)
    sheet.y += bars + 1.15
    if explained:
        sheet.text(
            ["Which explainers say the same: rank agreement with the exact values, 1 = the same order"],
            0.25,
            fontweight="bold",
            color=INK,
        )
        lines = []
        for one in explained:
            number = "–" if np.isnan(one.spearman) else signed(one.spearman, 2)
            lines.append(f"{number:>6}   {one.explainer}: {VERDICTS[one.verdict]} (ceiling {one.ceiling:.2f})")
        sheet.text(lines, 0.2, family="DejaVu Sans Mono", fontsize=8.5)
        sheet.y += 0.35
    sheet.text(["Before you rely on this picture"], 0.25, fontweight="bold", color=INK)
    sheet.text(cautions, 0.18, fontsize=8.5, color=SOFT)
    return sheet.figure


def _caption(axes: Axes, text: str) -> None:
    lines = textwrap.wrap(text, int(CAPTION * WIDE * axes.get_position().width))
    axes.text(0.5, -0.03, "\n".join(lines), fontsize=9, color=SOFT, ha="center", va="top", transform=axes.transAxes)


def _regions(axes: Axes, answer: Answer) -> None:
    axes.imshow(grey(answer.images[0]))
    values = answer.values[0].mean
    top = float(np.abs(values).max()) or 1.0
    tint = np.zeros((*answer.regions.labels.shape, 4))
    for number, name in enumerate(answer.regions.names):
        mask = answer.regions.labels == number
        colour = matplotlib.colors.to_rgb("#e8590c" if values[number] >= 0 else "#1864ab")
        tint[mask] = (*colour, 0.08 + 0.72 * abs(float(values[number])) / top)
        for contour in find_contours(np.pad(mask, 1).astype(float), 0.5):
            axes.plot(contour[:, 1] - 1, contour[:, 0] - 1, color="white", lw=0.7, alpha=0.8)
        y, x = middle_of(mask)
        label = axes.text(x, y, name, color="white", fontsize=7, ha="center", va="center")
        label.set_path_effects([matplotlib.patheffects.withStroke(linewidth=1.6, foreground="#000000aa")])
    axes.imshow(tint)
    axes.set_xlim(-0.5, mask.shape[1] - 0.5)
    axes.set_ylim(mask.shape[0] - 0.5, -0.5)
    axes.axis("off")
    _caption(axes, "orange {}, blue {}".format(*tints(answer)))


def _scores(axes: Axes, answer: Answer) -> None:
    assert answer.population is not None
    groups = {name: scores for name, scores in answer.population.groups.items() if len(scores)}
    marks = [answer.score] if answer.are_pairs else []
    every = np.concatenate([*groups.values(), marks])
    edges = np.linspace(every.min(), every.max() + 1e-9, 41)
    for (name, scores), colour in zip(groups.items(), ("#4d7c0f", "#7e22ce", AGAINST, FOR) * 4, strict=False):
        axes.hist(scores, edges.tolist(), density=True, alpha=0.5, color=colour, label=f"{name} ({len(scores)})")
    if answer.are_pairs:
        axes.axvline(answer.score, color=INK, lw=2.5, label=f"this pair {plain(answer.score)}")
    if answer.threshold is not None:
        axes.axvline(answer.threshold, color=SOFT, ls="--", label=f"threshold {plain(answer.threshold)}")
    axes.set_yticks([])
    axes.tick_params(labelsize=8, colors=SOFT)
    axes.spines[["left", "top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False, ncols=4, loc="lower left", bbox_to_anchor=(0, 1.0))


def _bars(axes: Axes, answer: Answer, values: RegionValues, order: np.ndarray) -> None:
    mean, several = values.mean[order], len(values.values) > 1
    names = [answer.regions.names[r] for r in order]
    at = np.arange(len(names))
    axes.barh(at, mean, color=[FOR if value >= 0 else AGAINST for value in mean], alpha=0.8, height=0.62)
    if several:
        axes.errorbar(mean, at, xerr=values.margin[order], fmt="none", ecolor=INK, elinewidth=1.2, capsize=2)
    axes.axvline(0, color=SOFT, lw=0.8)
    margin = values.margin[order] if several else np.zeros(len(mean))
    labels = [
        f"{name}  {signed(float(value))}" + (f" ± {half:.4f}" if several else "")
        for name, value, half in zip(names, mean, margin, strict=True)
    ]
    axes.set_yticks(at, labels, fontsize=8.5)
    axes.tick_params(axis="x", labelsize=8, colors=SOFT)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.spines[["top", "right", "left"]].set_visible(False)
    said = column_of(answer, values)
    text = f"{said['head']}, {said['reliability']}\n{total_of(values)}"
    left = -LABEL / (WIDE * axes.get_position().width)
    axes.set_title(text, fontsize=9, color=SOFT, loc="left", x=left)
