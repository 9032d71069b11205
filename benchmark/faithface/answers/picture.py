"""The answer as one picture: the content of the page without a browser, for slides and papers.

Place in the flow: the last step of ``faithface why --out why.png``. May call ``why``, ``wording``, ``page`` (texts)
and matplotlib.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

import matplotlib
import matplotlib.colors
import matplotlib.patheffects
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from skimage.measure import find_contours

from faithface.answers.page import VERDICTS, cautions_of, column_of, lead_of, order_of, total_of
from faithface.answers.shell import signed
from faithface.answers.why import Answer
from faithface.answers.wording import sentence
from faithface.errors import RunError
from faithface.figures import grey
from faithface.regions.shapley import RegionValues

WIDE = 11.0  # inches
FOR, AGAINST, SOFT, INK = "#c2410c", "#1d5fa8", "#5d636c", "#1d1f23"
SETTINGS = {"font.family": "sans-serif", "font.size": 10, "axes.edgecolor": "#b9b5ac", "svg.fonttype": "none"}


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


def draw(answer: Answer) -> Figure:
    """Draw the answer: text, faces with regions, bars with intervals, the set's scores, explainers, cautions."""
    title = textwrap.wrap(sentence(answer), 78)
    lead = textwrap.wrap(lead_of(answer), 138)
    cautions = [
        line for text in cautions_of(answer) for line in textwrap.wrap(f"• {text}", 138, subsequent_indent="  ")
    ]
    explained = [one for one in answer.agreements if one.reference == answer.values[0].fill]
    explained.sort(key=lambda one: -float(np.nan_to_num(one.spearman, nan=-2)))
    heights = {
        "text": 0.36 * len(title) + 0.2 * len(lead) + 0.1,
        "faces": WIDE / (len(answer.images) + 1) * 0.92 + 0.25 if len(answer.images) > 1 else 4.2,
        "scores": 1.5 if answer.population is not None else 0.0,
        "bars": 0.29 * len(answer.regions.names) + 1.15,
        "explainers": 0.26 * len(explained) + 0.55 if explained else 0.0,
        "cautions": 0.19 * len(cautions) + 0.55,
    }
    used = {name: height for name, height in heights.items() if height}
    figure = Figure(figsize=(WIDE, sum(used.values()) + 0.5), facecolor="white")
    parts = figure.add_gridspec(
        len(used), 1, height_ratios=list(used.values()), left=0.04, right=0.97, top=0.985, bottom=0.015, hspace=0.12
    )
    places = dict(zip(used, parts, strict=True))
    text = figure.add_subplot(places["text"])
    text.axis("off")
    text.text(0, 1, "\n".join(title), fontsize=17, fontweight="bold", va="top", color=INK, transform=text.transAxes)
    text.text(0, 0, "\n".join(lead), va="bottom", color=SOFT, transform=text.transAxes)
    faces = places["faces"].subgridspec(1, max(3, len(answer.images) + 1), wspace=0.05)
    for i, (name, image) in enumerate(zip(answer.names, answer.images, strict=True)):
        axes = figure.add_subplot(faces[i])
        axes.imshow(image)
        axes.axis("off")
        axes.set_title(name, fontsize=9, color=SOFT, y=-0.1)
    _regions(figure.add_subplot(faces[len(answer.images)]), answer)
    if "scores" in places:
        _scores(figure.add_subplot(places["scores"].subgridspec(1, 1)[0]), answer)
    columns = places["bars"].subgridspec(1, len(answer.values), wspace=0.35)
    order = order_of(answer)[::-1]  # bars are drawn upwards
    for i, values in enumerate(answer.values):
        _bars(figure.add_subplot(columns[i]), answer, values, order)
    if explained:
        axes = figure.add_subplot(places["explainers"])
        axes.axis("off")
        lines = ["Which explainers say the same (Spearman's rank agreement over the regions; 1 = the same order)"]
        for one in explained:
            number = "–" if np.isnan(one.spearman) else signed(one.spearman, 2)
            lines.append(f"{number:>6}   {one.explainer}: {VERDICTS[one.verdict]} (ceiling {one.ceiling:.2f})")
        axes.text(0, 1, "\n".join(lines), va="top", family="DejaVu Sans Mono", fontsize=8.5, linespacing=1.5)
    below = figure.add_subplot(places["cautions"])
    below.axis("off")
    below.text(0, 1, "Before you believe this picture\n" + "\n".join(cautions), va="top", fontsize=8.5, color=SOFT)
    return figure


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
        rows, columns = np.nonzero(mask)
        middle = np.argmin((rows - np.median(rows)) ** 2 + (columns - np.median(columns)) ** 2)
        label = axes.text(columns[middle], rows[middle], name, color="white", fontsize=7, ha="center", va="center")
        label.set_path_effects([matplotlib.patheffects.withStroke(linewidth=1.6, foreground="#000000aa")])
    axes.imshow(tint)
    axes.set_xlim(-0.5, mask.shape[1] - 0.5)
    axes.set_ylim(mask.shape[0] - 0.5, -0.5)
    axes.axis("off")
    axes.set_title("orange raises, blue lowers the score", fontsize=9, color=SOFT, y=-0.1)


def _scores(axes: Axes, answer: Answer) -> None:
    assert answer.population is not None
    groups = {name: scores for name, scores in answer.population.groups.items() if len(scores)}
    marks = [answer.score] if answer.are_pairs else []
    every = np.concatenate([*groups.values(), marks])
    edges = np.linspace(every.min(), every.max() + 1e-9, 41)
    for (name, scores), colour in zip(groups.items(), ("#4d7c0f", "#7e22ce", AGAINST, FOR) * 4, strict=False):
        axes.hist(scores, edges, density=True, alpha=0.5, color=colour, label=f"{name} ({len(scores)})")
    if answer.are_pairs:
        axes.axvline(answer.score, color=INK, lw=2.5, label=f"this pair {answer.score:.3f}")
    if answer.threshold is not None:
        axes.axvline(answer.threshold, color=SOFT, ls="--", label=f"threshold {answer.threshold:.3f}")
    axes.set_yticks([])
    axes.tick_params(labelsize=8, colors=SOFT)
    axes.spines[["left", "top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False, ncols=4, loc="lower left", bbox_to_anchor=(0, 0.98))


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
    axes.spines[["top", "right", "left"]].set_visible(False)
    said = column_of(answer, values)
    axes.set_title(f"{said['head']}, {said['reliability']}\n{total_of(values)}", fontsize=9, color=SOFT, loc="left")
