"""``noise-stability@1``: does the map survive salt-and-pepper noise on the image?

Place in the flow: a metric that explains again; called by ``run``. May call ``_reexplain``, ``similarity``,
``contract``. Lends :func:`noisy_images` and :func:`noise_step` to ``out_of_set_shift``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from faithface.contract import Explainer, FaceModel, Maps, Metric, Protocol, Samples, Scores, Value
from faithface.lazy import torch
from faithface.metrics import _maps
from faithface.metrics._forward import probes, unaltered_scores
from faithface.metrics._reexplain import explain_again, need_explainer, reasons_for
from faithface.metrics.similarity import average_ranks, rank_correlation, ssim
from faithface.reasons import Reason, ReasonCode

if TYPE_CHECKING:
    from torch import Tensor

LEVELS = (0.0, 0.01, 0.05, 0.10, 0.25, 0.50, 0.75, 1.0)
PURPOSE = "salt-and-pepper"
NOT_DETERMINISTIC = Reason(
    ReasonCode.NOT_DETERMINISTIC, "not deterministic: the clean image explained again gives another map"
)


@dataclass(frozen=True)
class NoiseStep:
    """One noise level: SSIM and Spearman of the maps to the clean ones, and the fall of the score; float64 N each."""

    ssim: np.ndarray
    spearman: np.ndarray
    fall: np.ndarray


def noisy_images(samples: Samples, level: float) -> Tensor:
    """Return the probes N×3×H×W with salt and pepper: a share ``level`` of all colour values is set to 0 or to 1.

    One field of uniform numbers is drawn per sample whatever the level, so what is noise at one level is the same
    noise at every higher one.
    """
    images = probes(samples)
    made = []
    for i in range(len(samples)):
        rng = samples.rng(i, PURPOSE)
        shape = tuple(images.shape[1:])
        hit = torch.from_numpy(rng.random(shape) < level)
        salt = torch.from_numpy((rng.random(shape) < 0.5).astype(np.float32))
        made.append(torch.where(hit.to(images.device), salt.to(images.device), images[i]))
    return torch.stack(made)


def noise_step(model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer, level: float) -> NoiseStep:
    """Explain the batch under one noise level and compare; remembered with the maps, for other metrics."""
    return maps.cached(_noise_step, samples, model, explainer, level)


def _noise_step(maps: Maps, samples: Samples, model: FaceModel, explainer: Explainer, level: float) -> NoiseStep:
    clean = _maps.judged(samples, maps)
    again, noisy = explain_again(model, samples, noisy_images(samples, level), explainer)
    fall = unaltered_scores(samples) - unaltered_scores(again)
    ranks = maps.cached(judged_ranks, samples)
    return NoiseStep(ssim(clean, noisy), rank_correlation(ranks, average_ranks(noisy)), fall)


def judged_ranks(maps: Maps, samples: Samples) -> Tensor:
    """Return the average ranks of the judged maps' pixels; asked for through :meth:`Maps.cached`."""
    return average_ranks(_maps.judged(samples, maps))


@dataclass(frozen=True)
class NoiseStability(Metric):
    """Stability of a map under salt-and-pepper noise.

    Formula
        A share p of the image's colour values is replaced by 0 or 1, with probability one half each, for the eight
        published levels p = 0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1. Each noisy image is explained again, for the
        class that was predicted on the clean image;
        value = SSIM(map of the clean image, map of the image at ``level``), each map scaled to [0, 1] by its own
        minimum and maximum, windows of 7×7.

    Parameters
        ``level``: the level of the headline, one of those above 0; default 0.05, the published one. One level and not
        the mean of all, because from 0.25 on there is hardly a face left: a map that does not change there is not
        stable, it does not depend on the image.
        ``levels``: ``all``, or ``headline`` to explain only the headline's level again, for expensive explainers; the
        headline is the same, ``all-levels`` then equals it, and a non-deterministic explainer is not detected.

    Values
        headline: SSIM at ``level``.
        ``spearman``: rank correlation of the two maps at ``level``; tied pixels share ranks.
        ``score-fall``: clean minus noisy score at ``level`` (probability of the class, or similarity of the pair),
        -1 to 1 (cosines: -2 to 2); lower is better. It says how much of the map's change is due to the network.
        ``all-levels``: mean SSIM over the seven levels above 0.
        Curves over the eight levels: ``level``, ``ssim``, ``spearman``, ``score-fall``.

    Range and direction
        -1 to 1. Higher is better (more stable). The best value is 1.0; unrelated maps are near 0.

    Which maps
        Classifiers: the relevance map. Pairs: noise falls on the probe only; its similarity map on genuine pairs, its
        dissimilarity map on impostor pairs.

    Special cases
        Level 0 explains the clean image a second time; where that gives another map, the sample is flagged as not
        deterministic. Constant maps are flagged; two of them count as the same map (1), one beside another map gives
        Spearman 0. Where the clean map or one of the noisy maps is not finite, there is no value. Maps smaller than
        7×7 are compared in one window of their own size.

    Differs from other libraries
        The published code adds the noise (skimage's ``random_noise``, not seeded) to the 8-bit image at its own size,
        before resizing averages part of it away, explains each noisy image for the class predicted on it, and compares
        8-bit maps. Here the noise falls on float pixels at the input size (8-bit pixels would take the same noise,
        since 0 and 1 are 0 and 255), is seeded by the sample and nested (noise at one level is noise at every higher
        one), the class is fixed, and maps stay floats. As in the published code, the three colour values of a pixel
        are hit independently. xplique's AverageStability takes the distance of unscaled maps, so that multiplying maps
        by 0.001 improves it a thousandfold. Quantus has ratios of distances, not SSIM.

    Known weaknesses
        A map that ignores the image is perfectly stable: the controls ``random`` (its seed is the sample's) and
        ``centre-prior`` score 1. SSIM rewards large empty areas. Read it beside a faithfulness metric.

    Cost
        Eight explanations and eight forward passes per sample; one of each with ``levels=headline``.

    Source
        Explain To Me, arXiv:2303.11969, measure (b).
    """

    level: float = 0.05
    levels: Literal["all", "headline"] = "all"

    protocol = Protocol(
        id="noise-stability@1",
        question="Does noise that hides nothing of the face move its explanation?",
        range=(-1.0, 1.0),
        needs=frozenset({"model", "explainer"}),
        family="description",
        values=(Value(), Value("spearman"), Value("score-fall", "lower"), Value("all-levels")),
        cost=lambda metric: "8, and 8 explanations" if metric.levels == "all" else "1, and 1 explanation",
        source="Explain To Me, arXiv:2303.11969",
    )

    def __post_init__(self) -> None:
        if self.level not in LEVELS[1:]:
            raise ValueError(f"level is {self.level}; expected one of {', '.join(map(str, LEVELS[1:]))}")

    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        explainer = need_explainer(self.id, explainer)
        levels = LEVELS if self.levels == "all" else (self.level,)
        steps = [noise_step(model, samples, maps, explainer, level) for level in levels]
        curves = {
            "level": np.tile(np.array(levels), (len(samples), 1)),
            "ssim": np.stack([step.ssim for step in steps], axis=1),
            "spearman": np.stack([step.spearman for step in steps], axis=1),
            "score-fall": np.stack([step.fall for step in steps], axis=1),
        }
        at = levels.index(self.level)
        above = [i for i, level in enumerate(levels) if level > 0]
        values = {
            "": curves["ssim"][:, at],
            "spearman": curves["spearman"][:, at],
            "score-fall": curves["score-fall"][:, at],
            "all-levels": curves["ssim"][:, above].mean(axis=1),
        }
        clean = _maps.judged(samples, maps)
        flags = _maps.constant(clean)
        again = levels.index(0.0) if 0.0 in levels else None
        for i in () if again is None else np.flatnonzero(curves["ssim"][:, again] < 0.9999):
            flags[int(i)] = NOT_DETERMINISTIC
        return _maps.result(values, reasons_for(clean, values["all-levels"]), flags, curves)


METRICS = (NoiseStability(),)
