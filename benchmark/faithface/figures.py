"""Pictures of explanations: an overlay on one face, a 2×2 overlay on a pair, a contact sheet of several explainers.

Place in the flow: behind ``faithface explain``; may call ``plugins``, ``explaining`` (to explain and check
maps exactly as a run does) and matplotlib.

Maps are drawn on the image in grey, so that no colour of the face is mistaken for relevance. Opacity follows
strength, colours follow the value; signed maps are red (for) and blue (against), centred at zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from faithface.card import ModelCard
from faithface.contract import Explainer, Maps, Samples
from faithface.errors import FaithfaceError, RunError, UsageError
from faithface.explaining import checked_maps, load_images, what_happened
from faithface.plugins import Registry, Resolved

FORMATS = (".png", ".pdf", ".svg")
TILE = 2.1  # inches
SINGLE, SIGNED = "magma", "seismic"


@dataclass(frozen=True)
class Drawn:
    """What was drawn: a line for the user, and one line per explainer that could not be drawn.

    Attributes:
        failed: whether one of those that were named could not be drawn.
    """

    summary: str
    failures: tuple[str, ...] = ()
    failed: bool = False


def explain_images(
    registry: Registry,
    model_name: str,
    explainers: Sequence[str],
    images: Sequence[Path],
    out: Path,
    device: str = "cpu",
    seed: int = 0,
    threshold: float | None = None,
    allow_outside: bool = False,
) -> Drawn:
    """Explain one image or pair and draw it.

    Args:
        threshold: the similarity at which a pair is accepted; None: the card's, if it has one.
        explainers: names with parameters; ``all`` for every registered one that can explain this model.
        images: one path for classifiers, two for verification.
        allow_outside: the card may name a network outside its own folder.
        out: the picture's path; its suffix decides the format.

    Raises:
        UsageError: an unknown name, the wrong number of images, or an unreadable one.
        RunError: nothing could be explained, or the picture cannot be written.
    """
    card = registry.model(model_name, allow_outside).object
    wanted = 2 if card.task == "verification" else 1
    if len(images) != wanted:
        raise UsageError(
            f'model "{card.name}" is for {card.task} and needs {wanted} image{"s" * (wanted > 1)}; got {len(images)}'
        )
    asked = choose_explainers(registry, explainers, card)
    samples, model = load_images(card, images, device, seed, threshold)
    drawn: list[tuple[str, Maps]] = []
    failures = []
    for one in asked:
        try:
            drawn.append((one.spec, checked_maps(model, samples, one.object)))
        except Exception as error:  # a plugin may raise anything; the others are still drawn
            text = str(error) if isinstance(error, FaithfaceError) else what_happened(error)
            failures.append(f'explainer "{one.spec}" not drawn: {text}')
    if not drawn:
        raise RunError("; ".join(failures) or f"no registered explainer fits {card.task}")
    verdict = describe_score(card, samples)
    if len(drawn) == 1:
        spec, maps = drawn[0]
        figure = (
            draw_pair(samples, maps, spec, verdict) if samples.are_pairs else draw_single(samples, maps, spec, verdict)
        )
    else:
        figure = draw_sheet(samples, drawn, verdict)
    save(figure, out)
    return Drawn(
        f"{', '.join(said_of(spec, maps) for spec, maps in drawn)}; {verdict}",
        tuple(failures),
        bool(failures) and "all" not in explainers,
    )


def said_of(spec: str, maps: Maps) -> str:
    """Return an explainer's text, and whether its maps are constant: such a picture shows nothing."""
    flat = [name for name, one in maps.named().items() if float(one.max()) == float(one.min())]
    return f"{spec} (constant map: {', '.join(flat)})" if flat else spec


def choose_explainers(registry: Registry, names: Sequence[str], card: ModelCard) -> list[Resolved[Explainer]]:
    """Resolve names; ``all``: every explainer of the task that needs neither ground truth nor an argument."""
    if "all" not in names:
        return [registry.explainer(name) for name in names]
    found = []
    for name in sorted(registry.explainers):
        one = registry.explainers[name].object
        takes_argument = type(one).with_argument is not Explainer.with_argument
        if card.task in one.info.tasks and "truth" not in one.info.needs and not takes_argument:
            found.append(registry.explainer(name))
    return found


def describe_score(card: ModelCard, samples: Samples) -> str:
    """Return the model's own answer in one line: the class and its probability, or the similarity and the decision."""
    score = float(samples.clean.scores[0])
    if not samples.are_pairs:
        return f"{card.name}: {card.output.classes[int(samples.clean.predicted[0])]} {score:.3f}"
    name = "cosine" if card.output.similarity == "cosine" else "minus distance"
    if samples.threshold is None:
        return f"{card.name}: {name} {score:.3f}"
    verdict = "same person" if int(samples.clean.predicted[0]) else "different people"
    return f"{card.name}: {name} {score:.3f}, {verdict} (threshold {samples.threshold:.3f})"


# --- drawing


def grey(image: np.ndarray) -> np.ndarray:
    """Return H×W×3 as the grey image H×W×3 that maps are drawn on, a little lighter so that dark maps show."""
    light = image @ np.array([0.299, 0.587, 0.114], dtype=image.dtype)
    return np.repeat((0.25 + 0.75 * light)[..., None], 3, axis=2)


@dataclass(frozen=True)
class Scale:
    """The colour scale of one or more maps: its ends and its colour map."""

    low: float
    high: float
    colours: str


def scale_of(map_: np.ndarray) -> Scale:
    """Return the scale of maps: symmetric about zero if signed, else from the smallest value.

    The far end is the 99.5th percentile of the magnitude, so that one hot pixel does not blacken the rest. A map
    without negative values may be far above zero (RISE's is); starting at its smallest value shows what differs.
    """
    magnitude = np.abs(map_)
    high = float(np.percentile(magnitude, 99.5)) or float(magnitude.max())
    if float(map_.min()) < 0:
        return Scale(-high, high, SIGNED)
    low = float(map_.min())
    # A constant map still needs a scale with two different ends.
    return Scale(low, high, SINGLE) if high > low else Scale(0.0, high or 1.0, SINGLE)


def overlay(image: np.ndarray, map_: np.ndarray, scale: Scale) -> np.ndarray:
    """Return the image H×W×3 with a map H×W drawn over it."""
    place = np.clip((map_ - scale.low) / (scale.high - scale.low), 0, 1)
    colours = matplotlib.colormaps[scale.colours](place)[..., :3]
    strength = np.abs(2 * place - 1) if scale.colours == SIGNED else place
    opacity = (0.85 * strength**0.6)[..., None]
    return (1 - opacity) * grey(image) + opacity * colours


def pixels(samples: Samples, side: int = 0) -> np.ndarray:
    """Return the sample's image, or a pair's ``side``, as H×W×3."""
    image = samples.images[0, side] if samples.are_pairs else samples.images[0]
    return image.detach().cpu().numpy().transpose(1, 2, 0)


def put(axes: Any, image: np.ndarray, map_: np.ndarray, scale: Scale, title: str = "") -> Any:
    """Draw an overlay into axes and return what a colour bar needs."""
    axes.imshow(np.clip(overlay(image, map_, scale), 0, 1))
    axes.set_axis_off()
    axes.set_title(title, fontsize=9)
    return matplotlib.cm.ScalarMappable(matplotlib.colors.Normalize(scale.low, scale.high), scale.colours)


def draw_single(samples: Samples, maps: Maps, spec: str, verdict: str) -> Figure:
    """Draw a classifier's image beside its relevance."""
    map_ = maps.headline[0].detach().cpu().numpy()
    figure = Figure(figsize=(2 * 2.7 + 0.9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.imshow(pixels(samples))
    left.set_axis_off()
    left.set_title("image", fontsize=9)
    bar = put(right, pixels(samples), map_, scale_of(map_), "relevance")
    figure.colorbar(bar, ax=right, shrink=0.8, label="relevance")
    figure.suptitle(f"{spec}\n{verdict}", fontsize=10)
    return figure


def draw_pair(samples: Samples, maps: Maps, spec: str, verdict: str) -> Figure:
    """Draw a pair 2×2: similarity above, dissimilarity below, over the probe and the reference; one scale per row."""
    figure = Figure(figsize=(2 * 2.7 + 1.1, 2 * 2.7 + 0.9), layout="constrained")
    grid = figure.subplots(2, 2)
    for row, name in zip(grid, ("similarity", "dissimilarity"), strict=True):
        both = getattr(maps, name)[0].detach().cpu().numpy()
        scale = scale_of(both)
        for side, axes in enumerate(row):
            title = f"{'A, probe' if side == 0 else 'B, reference'}: {name}"
            bar = put(axes, pixels(samples, side), both[side], scale, title)
        figure.colorbar(bar, ax=row, shrink=0.85, label=name)
    figure.suptitle(f"{spec}\n{verdict}", fontsize=10)
    return figure


def draw_sheet(samples: Samples, drawn: Sequence[tuple[str, Maps]], verdict: str) -> Figure:
    """Draw a contact sheet: the images first, then the explainers' overlays, each map on its own scale.

    A pair has four tiles per explainer (similarity of both faces, dissimilarity of both) and two explainers a row.
    """
    tiles = [tile for spec, maps in drawn for tile in tiles_of(samples, spec, maps)]
    images = [(pixels(samples, side), title) for side, title in enumerate(("A, probe", "B, reference"))]
    if not samples.are_pairs:
        images = [(pixels(samples), "image")]
    columns = (8 if len(drawn) > 3 else 4) if samples.are_pairs else min(6, len(tiles) + 1)
    # Of a pair the images have the first row to themselves, so that the tiles of an explainer stay together.
    first = columns if samples.are_pairs else 1
    rows = -(-(first + len(tiles)) // columns)
    figure = Figure(figsize=(TILE * columns + 0.2, (TILE + 0.33) * rows + 0.6))
    top = 0.6 / (0.6 + (TILE + 0.33) * rows)
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.005, top=1 - top * 1.3, wspace=0.03, hspace=0.2)
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in grid:
        axes.set_axis_off()
    for axes, (image, title) in zip(grid, images, strict=False):
        axes.imshow(image)
        axes.set_title(title, fontsize=8)
    for axes, (title, image, map_) in zip(grid[first:], tiles, strict=False):
        put(axes, image, map_, scale_of(map_), title)
        axes.title.set_fontsize(8)
    figure.suptitle(f"{verdict}   (each map on its own scale)", fontsize=11, y=1 - top * 0.3)
    return figure


def tiles_of(samples: Samples, spec: str, maps: Maps) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Return an explainer's tiles: title, image, map."""
    if not samples.are_pairs:
        return [(spec, pixels(samples), maps.headline[0].detach().cpu().numpy())]
    return [
        (f"{spec}\n{name} {letter}", pixels(samples, side), getattr(maps, name)[0, side].detach().cpu().numpy())
        for name in ("similarity", "dissimilarity")
        for side, letter in enumerate("AB")
    ]


def save(figure: Figure, out: Path) -> None:
    """Write a figure; no date inside, so that the same explanation gives the same file.

    Raises:
        RunError: the path cannot be written.
    """
    dates = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}.get(out.suffix.lower(), {})
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, dpi=150, metadata=dates)
    except OSError as error:
        raise RunError(f"{out} cannot be written ({error.strerror or error})") from None
