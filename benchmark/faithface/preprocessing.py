"""Try the usual preprocessings on labelled images, and report which one fits the network best.

Place in the flow: called by the command line (``faithface inspect CARD --dataset D``). May call ``onnx_model``,
``card``, ``contract``, ``loading``, ``tasks``, ``errors``.

A wrong mean, scale or colour order gives no error, only a worse network. Each candidate is the card with another
``[input]``; the file is the same. What is compared is the area under the ROC curve: of similarity between genuine and
impostor pairs, of the positive class's probability between the two sides of a classifier. It needs no threshold.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from faithface.card import InputCard, ModelCard
from faithface.contract import Dataset, Pair, Sample
from faithface.errors import NotApplicable, UsageError
from faithface.loading import read_face
from faithface.model.draft import POSITIVE_WORDS
from faithface.model.onnx_model import open_model
from faithface.tasks import auc, class_probabilities, pair_similarity

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# On pixels in 0..1; 0..255 is std = 1/255.
SCALES: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "0..1": ((0.0,), (1.0,)),
    "-1..1": ((0.5,), (0.5,)),
    "0..255": ((0.0,), (1 / 255,)),
    "-127.5..127.5": ((0.5,), (1 / 255,)),
    "ImageNet": IMAGENET,
}
CLEAR = 0.02  # of AUC: a smaller lead means nothing on the few hundred samples that are tried


@dataclass(frozen=True)
class Fit:
    """How well one preprocessing fits.

    Attributes:
        name: such as ``"BGR 0..255"``, or ``"the card's"``.
        input: the ``[input]`` part of a card.
        auc: area under the ROC curve, in [0, 1]; 0.5 is chance. Below 0.5 the classes are swapped.
        error: share of errors at the best threshold on these samples, balanced over the two sides, in [0, 0.5].
        spread: median distance of the two sides' scores over their standard deviation (which of two AUCs of 1 is
            further from chance).
    """

    name: str
    input: InputCard
    auc: float
    error: float
    spread: float


def candidates(card: ModelCard) -> list[tuple[str, InputCard]]:
    """Return the card's own preprocessing and the usual ones that differ from it, with names."""
    own = card.input
    found = [("the card's", own)]
    for color in ("GRAY",) if own.color == "GRAY" else ("RGB", "BGR"):
        for name, (mean, std) in SCALES.items():
            if color == "GRAY":
                mean, std = (float(np.mean(mean)),), (float(np.mean(std)),)
            elif color == "BGR":
                mean, std = mean[::-1], std[::-1]
            made = own.model_copy(update={"color": color, "mean": mean, "std": std})
            if not _same(made, own):
                found.append((f"{color} {name}", made))
    return found


def _same(a: InputCard, b: InputCard) -> bool:
    def full(values: tuple[float, ...]) -> np.ndarray:
        return np.broadcast_to(np.asarray(values), (a.channels,))

    return (
        a.color == b.color
        and np.allclose(full(a.mean), full(b.mean), atol=2e-3)
        and np.allclose(full(a.std), full(b.std), rtol=2e-2)
    )


def try_preprocessings(card: ModelCard, dataset: Dataset, device: str = "cpu", limit: int = 200) -> list[Fit]:
    """Return how well each preprocessing fits, the best first.

    Args:
        limit: samples that are tried, half of either side, in the dataset's order.

    Raises:
        UsageError: the dataset has another task, or its labels do not separate the two sides.
    """
    if not dataset.fits(card.task):
        raise UsageError(f'dataset "{dataset.name}" is for {dataset.task}, model "{card.name}" for {card.task}')
    items, sides = _both_sides(card, dataset, limit)
    faces = list({face.id: face for item in items for face in item.faces}.values())
    images = torch.stack([read_face(face, card.input.size) for face in faces])
    columns = [] if card.task == "verification" else positive_columns(card, dataset)
    fits = []
    for name, made in candidates(card):
        changed = card.model_copy(update={"input": made})
        model = open_model(changed, device)
        outputs = model.outputs(images.to(model.device)).cpu()
        by_face = dict(zip([face.id for face in faces], outputs, strict=True))
        scores = _scores(changed, columns, items, by_face)
        if np.isfinite(scores).all():
            fits.append(Fit(name, made, auc(scores, sides), balanced_error(scores, sides), _spread(scores, sides)))
    if not fits:
        raise NotApplicable(f'model "{card.name}" gives no finite outputs on dataset "{dataset.name}"')
    return sorted(fits, key=lambda fit: (-round(fit.auc, 4), -fit.spread))


def _both_sides(card: ModelCard, dataset: Dataset, limit: int) -> tuple[Sequence[Sample | Pair], np.ndarray]:
    items: list[Sample | Pair] = list(dataset.items())
    sides: list[bool | None] = []
    positive = card.output.positive
    for item in items:
        if isinstance(item, Pair):
            sides.append(item.same)
        elif item.label in card.output.classes and positive:
            sides.append(item.label == positive)
        elif dataset.positive and item.label is not None:
            sides.append(item.label == dataset.positive)
        else:
            sides.append(None)
    chosen = [[i for i, side in enumerate(sides) if side is wanted][: limit // 2] for wanted in (True, False)]
    if not all(chosen):
        if card.task == "verification":
            raise UsageError(f'dataset "{dataset.name}" needs genuine and impostor pairs; it has one kind of pair')
        labels = sorted({str(getattr(item, "label", "")) for item in items})
        raise UsageError(
            f'dataset "{dataset.name}" does not separate the two sides: its labels are {", ".join(labels)}; the '
            f"card's classes are {list(card.output.classes)} with positive '{positive}'{_how_to_name(card, labels)}"
        )
    at = [*chosen[0], *chosen[1]]
    return [items[i] for i in at], np.array([True] * len(chosen[0]) + [False] * len(chosen[1]))


def _how_to_name(card: ModelCard, labels: Sequence[str]) -> str:
    """Say which lines of a card name the classes as the data do; "" where there is no simple answer."""
    if len(labels) != 2 or len(card.output.classes) != 2:
        return ""
    found = [label for label in labels if any(word in label.lower() for word in POSITIVE_WORDS)]
    bad = found[0] if len(found) == 1 else labels[1]
    other = next(label for label in labels if label != bad)
    turned = card.output.positive == card.output.classes[0]
    classes = ", ".join(f'"{name}"' for name in ((bad, other) if turned else (other, bad)))
    return (
        f'. Name the card\'s classes as the data do: classes = [{classes}], positive = "{bad}" (an AUC far below 0.5 '
        "then says that they are turned round)"
    )


def positive_columns(card: ModelCard, dataset: Dataset) -> list[int]:
    """Return which of a classifier's outputs together are the positive side on a dataset.

    The card's positive class; else the dataset's, where the card knows it; else every class that is no label of the
    dataset, where the dataset says which label is positive (a card with two kinds of attack, a set with one); else the
    last class.
    """
    classes = card.output.classes
    for name in (card.output.positive, dataset.positive):
        if name in classes:
            return [classes.index(name)]
    if dataset.positive:
        labels = {getattr(item, "label", None) for item in dataset.items()}
        others = [i for i, name in enumerate(classes) if name not in labels]
        if 0 < len(others) < len(classes):
            return others
    return [len(classes) - 1]


def _scores(
    card: ModelCard, columns: Sequence[int], items: Iterable[Sample | Pair], outputs: dict[str, torch.Tensor]
) -> np.ndarray:
    if card.task == "verification":
        pairs = [(outputs[item.faces[0].id], outputs[item.faces[1].id]) for item in items]
        a, b = (torch.stack(side) for side in zip(*pairs, strict=True))
        return pair_similarity(card, a, b).double().numpy()
    raw = torch.stack([outputs[item.faces[0].id] for item in items])
    if card.output.kind == "logits":
        # The log-odds: a probability of 1 − 1e-9 and one of 1 are equal in float32 and would tie.
        others = [i for i in range(len(card.output.classes)) if i not in columns]
        return (raw[:, list(columns)].logsumexp(dim=1) - raw[:, others].logsumexp(dim=1)).double().numpy()
    if card.output.kind == "logit":
        one = raw.reshape(-1).double()
        return (one if list(columns) == [1] else -one).numpy()
    return class_probabilities(card, raw)[:, list(columns)].sum(dim=1).double().numpy()


def balanced_error(scores: np.ndarray, positive: np.ndarray) -> float:
    """Return the smallest mean of the two error rates over all thresholds (a score on it counts as positive)."""
    high, low = np.sort(scores[positive]), np.sort(scores[~positive])
    thresholds = np.append(np.unique(scores), np.inf)
    missed = np.searchsorted(high, thresholds, side="left") / len(high)
    false = 1 - np.searchsorted(low, thresholds, side="left") / len(low)
    return float(((missed + false) / 2).min())


def _spread(scores: np.ndarray, positive: np.ndarray) -> float:
    deviation = float(np.sqrt((scores[positive].var() + scores[~positive].var()) / 2)) + 1e-12
    return float((np.median(scores[positive]) - np.median(scores[~positive])) / deviation)


def fits_text(fits: Sequence[Fit], samples: str) -> str:
    """Return a table and a verdict, for a terminal."""
    lines = [f"preprocessings on {samples}, the best first", f"{'':24}   AUC  error"]
    lines += [f"{fit.name:24} {fit.auc:.3f}  {fit.error:5.1%}" for fit in fits]
    own = next((fit for fit in fits if fit.name == "the card's"), None)
    best = fits[0]
    if max(fit.auc for fit in fits) < 0.5 + CLEAR:
        lines.append("none is better than chance: the classes, the crops or the network are probably wrong")
    elif own is None:
        lines.append(f"the card's preprocessing gives no finite outputs; {best.name} fits best")
    elif best.auc - own.auc >= CLEAR:
        lines.append(f"{best.name} fits better than the card's by {best.auc - own.auc:.3f} of AUC; for the card:")
        lines += [f'    color = "{best.input.color}"', f"    mean = {_numbers(best.input.mean)}"]
        lines.append(f"    std = {_numbers(best.input.std)}")
    else:
        near = [fit.name for fit in fits if fit is not own and fit.auc > own.auc - CLEAR]
        lead = own.auc - max((fit.auc for fit in fits if fit is not own), default=0.0)
        if near:
            text = f"no other fits better than the card's; within {CLEAR} of AUC of it: {', '.join(near)}"
            lines += textwrap.wrap(text, 80)
            lines.append("these images do not tell them apart: take more, or ask who trained the network")
        else:
            lines.append(f"the card's fits best, by {lead:.3f} of AUC")
    turned = [fit for fit in fits if fit.auc <= 0.5 - 5 * CLEAR]
    if turned and own in turned:
        lines.append("the card's AUC is below chance: its classes are probably swapped")
    return "\n".join(lines)


def _numbers(values: tuple[float, ...]) -> str:
    return "[" + ", ".join(f"{v:.6g}" for v in values) + "]"
