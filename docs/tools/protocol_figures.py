"""The figure of a protocol page: three explainers' maps with their values, and the curves behind them where there are.

Place in the flow: called by ``protocol_pages``; runs the metric in ``protocol_example``. May call the contract and
matplotlib.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from docs.tools.protocol_example import Good, Gradient, Opposite, Random, Signed, Summing, load_example
from faithface.contract import Cost, Dataset, Explainer, FaceModel, Maps, Metric, Samples, Scores
from faithface.metrics._maps import judged

BESIDE = ("", "control", "chance", "random", "forward", "backward")  # values shown in the figure
COLOURS = ("#0072b2", "#767676", "#d55e00")  # told apart by readers who do not tell red from green
Cast = tuple[tuple[str, Explainer], ...]

RIGHT_OR_WRONG: Cast = (("good", Good()), ("random", Random()), ("opposite", Opposite()))
STILL_OR_JUMPY: Cast = (("good", Good()), ("ignores the image", Random()), ("random anew", Random(anew=True)))
ASKS_OR_NOT: Cast = (("gradient", Gradient()), ("ignores the network", Good()), ("random", Random()))
CASTS: Mapping[str, Cast] = {
    "disconnected@1": ASKS_OR_NOT,
    "randomised-network@1": ASKS_OR_NOT,
    "own-class@1": (("signed gradient", Signed()), ("gradient", Gradient()), ("ignores the network", Good())),
    "completeness@1": (("sums to it", Summing()), ("5 % off", Summing(0.95)), ("half of it", Summing(0.5))),
    "noise-stability@1": STILL_OR_JUMPY,
    "geometry@1": STILL_OR_JUMPY,
    "max-sensitivity@1": STILL_OR_JUMPY,
    "randomisation@1": ASKS_OR_NOT,
    "cost@1": (("gradient", Gradient()), ("from pixels", Good()), ("random", Random())),
}


@dataclass(frozen=True)
class Plot:
    """What is drawn of ``Scores.curves``: the curves named, over the curve ``x`` or over equal steps from 0 to 1."""

    curves: tuple[str, ...]
    xlabel: str
    ylabel: str
    x: str = ""


_REMOVED = "fraction of the pixels"
PLOTS: Mapping[str, Plot] = {
    "gap@1": Plot(("deletion", "insertion"), _REMOVED, "probability"),
    "gap-similarity@1": Plot(("deletion", "insertion"), _REMOVED, "right decisions"),
    "gap-similarity-score@1": Plot(("deletion", "insertion"), _REMOVED, "similarity"),
    "gap-dissimilarity@1": Plot(("deletion", "insertion"), _REMOVED, "right decisions"),
    "gap-dissimilarity-score@1": Plot(("deletion", "insertion"), _REMOVED, "similarity"),
    "road@1": Plot(("morf", "lerf"), "fraction removed", "probability"),
    "noise-stability@1": Plot(("ssim",), "share of noise", "SSIM", x="level"),
    "patch-replacement@1": Plot(("error",), "share put back", "wrong decisions", x="share"),
    "inpainting-game@1": Plot(("taken",), "share replaced outside", "taken for the mate", x="outside"),
    "randomisation@1": Plot(("spearman",), "share of random layers", "Spearman", x="layers"),
}
EXAMPLE_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "region-shapley@1": {"grid": 3, "fills": 4},
    "optimum-share@1": {"grid": 3},
}
CURVE_FAMILIES = ("deletion", "insertion", "gap")


@dataclass(frozen=True)
class Scored:
    """One explainer's maps and what the metric says of them."""

    name: str
    maps: Maps
    scores: Scores
    values: Mapping[str, float] = field(default_factory=dict)


def figure_name(metric: Metric) -> str:
    """Return the figure's file name without suffix; deletion, insertion and gap of one kind share one."""
    name = metric.id.partition("@")[0]
    head, _, kind = name.partition("-")
    return f"curves-{kind}".rstrip("-") if head in CURVE_FAMILIES else name


def title(metric: Metric) -> str:
    """Return what the headline is called in the figure: short for curves, which share one figure by kind."""
    name = metric.id.partition("@")[0]
    return name.partition("-")[0] if name.startswith(CURVE_FAMILIES) else name


def draw(metric: Metric, example: tuple[FaceModel, Dataset], out: Path) -> None:
    """Run the metric on the example and draw what came out."""
    samples, scored = run(metric, example)
    plot = PLOTS.get(metric.id)
    extra = len(plot.curves) if plot else 0
    figure = Figure(figsize=(1.75 * 3 + 2.5 * extra + 0.2, 2.35), layout="constrained", dpi=80)
    axes = figure.subplots(1, 3 + extra, squeeze=False, width_ratios=[1.0] * 3 + [1.45] * extra)[0]
    for place, colour, one in zip(axes, COLOURS, scored, strict=False):
        _map(place, samples, one, colour, metric)
    if plot:
        for place, curve in zip(axes[3:], plot.curves, strict=True):
            _curves(place, scored, plot, curve)
    out.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    # 96 colours are enough for the eye here and a third of the bytes.
    Image.open(buffer).convert("RGB").quantize(96, dither=Image.Dither.NONE).save(out, optimize=True)


def on_example(metric: Metric) -> Metric:
    """Return the metric as it is set on the example, whose faces are small and few."""
    return dataclasses.replace(metric, **EXAMPLE_SETTINGS[metric.id]) if metric.id in EXAMPLE_SETTINGS else metric  # type: ignore[type-var]


def run(metric: Metric, example: tuple[FaceModel, Dataset]) -> tuple[Samples, list[Scored]]:
    """Score the example with the three explainers of the metric's figure."""
    model, dataset = example
    metric = on_example(metric)
    samples = load_example(model, dataset, metric.judged_on)
    scored = []
    for name, explainer in CASTS.get(metric.id, RIGHT_OR_WRONG):
        before = model.passes.forward, model.passes.backward
        maps = explainer.explain(model, samples)
        spent = model.passes.forward - before[0], model.passes.backward - before[1]
        # Seconds would make a figure that differs from run to run; the passes do not.
        maps = Maps(maps.relevance, maps.similarity, maps.dissimilarity, cost=Cost(float("nan"), *spent))
        if "family" in metric.protocol.needs:
            scores = metric.score_family(_family(model, samples, explainer), samples)
        else:
            scores = metric.score(model, samples, maps, explainer)
        means = {k: metric.summarise(v[np.isfinite(v)], k) for k, v in scores.values.items()}
        scored.append(Scored(name, maps, scores, means))
    return samples, scored


def _family(model: FaceModel, samples: Samples, explainer: Explainer) -> dict[str, Maps]:
    """Return maps as if from three training runs: of images that differ by a little noise, and of other seeds."""
    runs = {}
    for k in range(3):
        rng = np.random.default_rng(k)
        noise = rng.normal(0, 0.05, tuple(samples.images.shape)).astype(np.float32)
        images = (samples.images + samples.images.new_tensor(noise)).clamp(0, 1)
        runs[f"run-{k}"] = explainer.explain(model, Samples(samples.items, images, samples.clean, seed=k))
    return runs


def _map(axes: Any, samples: Samples, one: Scored, colour: str, metric: Metric) -> None:
    index = len(samples) - 1
    image = samples.images[index, 0] if samples.are_pairs else samples.images[index]
    light = image.cpu().numpy().transpose(1, 2, 0) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    values = judged(samples, one.maps)[index].cpu().numpy()
    low, high = min(0.0, float(values.min())), float(values.max())
    scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    heat = matplotlib.colormaps["magma"](scaled)[..., :3]
    opacity = 0.8 * np.sqrt(scaled)[..., None]
    axes.imshow((1 - opacity) * (0.25 + 0.75 * light[..., None]) + opacity * heat)
    axes.set_axis_off()
    shown = {k: v for k, v in one.values.items() if k in BESIDE}
    shown = {k: v for k, v in shown.items() if np.isfinite(v)}
    # Rounded first, so that no −0.000 is shown; + 0.0 turns −0 into 0.
    lines = [f"{k or title(metric)} {round(v, 3) + 0.0:.3g}" for k, v in shown.items()]
    axes.set_title("\n".join([one.name, *lines]), fontsize=8, color=colour)


def _curves(axes: Any, scored: list[Scored], plot: Plot, curve: str) -> None:
    for colour, one in zip(COLOURS, scored, strict=False):
        y = np.nanmean(one.scores.curves[curve], axis=0)
        x = np.nanmean(one.scores.curves[plot.x], axis=0) if plot.x else np.linspace(0, 1, len(y))
        axes.plot(x, y, color=colour, lw=1.4, marker="o" if len(y) < 20 else "", ms=2.5)
    axes.set_title(curve, fontsize=8)
    axes.set_xlabel(plot.xlabel, fontsize=7)
    axes.set_ylabel(plot.ylabel, fontsize=7)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3, lw=0.5)
