"""``geometry@1``: does the map move with the face when the image is flipped, shifted or turned?

Place in the flow: a metric that explains again; called by ``run``. May call ``_reexplain``, ``similarity``,
``contract``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from faithface.contract import Explainer, FaceModel, Maps, Metric, Protocol, Samples, Scores, Value
from faithface.lazy import torch
from faithface.metrics import _maps
from faithface.metrics._forward import probes
from faithface.metrics._reexplain import explain_again, need_explainer, reasons_for
from faithface.metrics.similarity import spearman, ssim
from faithface.reasons import Reason, ReasonCode

if TYPE_CHECKING:
    from torch import Tensor

SHIFT = 16 / 224  # the published 16 pixels, as a share of the side
NOT_SQUARE = Reason(ReasonCode.UNDEFINED, "rotation: the image is not square")


@dataclass(frozen=True)
class Transform:
    """One geometric transformation of an image.

    Attributes:
        group: ``flip``, ``shift`` or ``rotation``.
        forward: images …×H×W → images of the same size.
        align: (map of the original, map of the transformed image), N×H×W each → both on the pixels that they share.
    """

    group: str
    forward: Callable[[Tensor], Tensor]
    align: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def flip(axis: int) -> Transform:
    """Mirror along an axis (-1: left and right, -2: up and down)."""
    return Transform("flip", lambda x: x.flip(axis), lambda m, t: (m, t.flip(axis)))


def rotation(quarter: int) -> Transform:
    """Turn by 90° (1: counter-clockwise, -1: clockwise)."""
    return Transform(
        "rotation", lambda x: x.rot90(quarter, (-2, -1)), lambda m, t: (m, t.rot90(-quarter, (-2, -1)).contiguous())
    )


def shift(dy: int, dx: int) -> Transform:
    """Move the image by whole pixels (down, right); the border is repeated into the strip that is left free."""

    def forward(x: Tensor) -> Tensor:
        rows = (torch.arange(x.shape[-2], device=x.device) - dy).clamp(0, x.shape[-2] - 1)
        columns = (torch.arange(x.shape[-1], device=x.device) - dx).clamp(0, x.shape[-1] - 1)
        return x[..., rows, :][..., columns]

    def align(m: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        (rows, rows_t), (columns, columns_t) = _overlap(m.shape[-2], dy), _overlap(m.shape[-1], dx)
        return m[..., rows, columns], t[..., rows_t, columns_t]

    return Transform("shift", forward, align)


def _overlap(side: int, by: int) -> tuple[slice, slice]:
    """Where the pixels that stay in the frame lie, before and after a move by ``by``."""
    return slice(max(0, -by), side - max(0, by)), slice(max(0, by), side + min(0, by))


def transforms(size: tuple[int, int]) -> list[Transform]:
    """Return the transformations for an image size: 2 flips, 8 shifts and, for square images, 2 quarter turns."""
    dy, dx = (min(max(1, round(SHIFT * side)), side - 1) for side in size)
    steps = [(a, b) for a in (-dy, 0, dy) for b in (-dx, 0, dx)]
    steps.pop(4)  # the middle one is no shift
    turns = [rotation(-1), rotation(1)] if size[0] == size[1] else []
    return [flip(-1), flip(-2), *(shift(a, b) for a, b in steps), *turns]


@dataclass(frozen=True)
class Geometry(Metric):
    """Does the map follow the face through flips, shifts and quarter turns?

    Formula
        Twelve transformed images T(x): mirrored left-right and up-down; moved by ±s rows and ±s columns in the eight
        directions, the border repeated; turned by 90° both ways. s is 16/224 of the side (rounded, at least one
        pixel). Each is explained again, for the class that was predicted on the original;
        value = mean over T of SSIM(map(x), T⁻¹ map(T(x))) on the pixels that both share. For a shift that is the
        overlap, cut out before the maps are scaled to [0, 1].

    Values
        headline: the mean over all transformations, each counting once.
        ``flip``, ``shift``, ``rotation``: the mean SSIM within the group.
        ``spearman``: the mean rank correlation over all transformations.
        Curves over the transformations, in the order above: ``ssim``, ``spearman``.

    Range and direction
        -1 to 1. Higher is better. The best value is 1.0, reached by a map that moves exactly as the image does.

    Which maps
        Classifiers: the relevance map. Pairs: the probe alone is transformed; its similarity map on genuine pairs, its
        dissimilarity map on impostor pairs.

    Special cases
        An image that is not square cannot be turned into its own frame: the two turns are not part of the mean and
        ``rotation`` has no value. Constant maps are flagged. Where one of the maps is not finite, there is no value.

    Differs from other libraries
        The published notebook makes the 13 images for 224×224 inputs and does not define how maps are transformed back
        and compared; the inverse transformation at the input size, the crop to the overlap and SSIM are this
        protocol's reading, and the shift scales with the input. The notebook explains each transformed image for the
        class that is predicted on it.

    Known weaknesses
        It judges model and explainer together: a network that was never trained on upside-down faces has good reason to
        use other pixels. A coarse map cannot follow a shift by half a cell (16 of 224 pixels, at 7×7), so not even a
        perfect network reaches 1 there. A symmetric map that ignores the image does well on flips and turns: compare
        with ``centre-prior``.

    Cost
        Twelve explanations and twelve forward passes per sample (ten for images that are not square).

    Source
        Explain To Me, arXiv:2303.11969, measure (c).
    """

    protocol = Protocol(
        id="geometry@1",
        question="When the image is mirrored, moved or turned, is its map mirrored, moved or turned with it?",
        range=(-1.0, 1.0),
        needs=frozenset({"model", "explainer"}),
        family="description",
        values=(Value(), Value("flip"), Value("shift"), Value("rotation"), Value("spearman")),
        cost="12, and 12 explanations",
        source="Explain To Me, arXiv:2303.11969",
    )

    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        explainer = need_explainer(self.id, explainer)
        own, images = _maps.judged(samples, maps), probes(samples)
        chosen = transforms(model.size)
        alike, ordered = [], []
        for transform in chosen:
            _, moved = explain_again(model, samples, transform.forward(images).contiguous(), explainer)
            here, there = transform.align(own, moved)
            alike.append(ssim(here, there))
            ordered.append(spearman(here, there))
        curves = {"ssim": np.stack(alike, axis=1), "spearman": np.stack(ordered, axis=1)}
        values = {"": curves["ssim"].mean(axis=1), "spearman": curves["spearman"].mean(axis=1)}
        for group in ("flip", "shift", "rotation"):
            members = [i for i, transform in enumerate(chosen) if transform.group == group]
            missing = np.full(len(samples), np.nan)
            values[group] = curves["ssim"][:, members].mean(axis=1) if members else missing
        reasons = reasons_for(own, values[""])
        scores = _maps.result(values, reasons, _maps.constant(own), curves)
        if model.size[0] == model.size[1]:
            return scores
        unturned = dict.fromkeys(range(len(samples)), NOT_SQUARE)
        return Scores(scores.values, {**unturned, **reasons}, scores.curves, scores.flags)


METRICS = (Geometry(),)
