"""Remove or keep the top share of the pixels: what ``confidence_drop`` and ``retention`` have in common.

Place in the flow: their base; calls ``_maps``, ``_forward``, ``perturb.ranking``, ``perturb.fills`` and ``loading``.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from faithface.card import ModelCard
from faithface.contract import (
    ClassSide,
    Dataset,
    Explainer,
    Face,
    FaceModel,
    Fill,
    Maps,
    Metric,
    Protocol,
    Samples,
    Scores,
    Value,
    both,
)
from faithface.contract.metric import Better
from faithface.lazy import torch
from faithface.loading import read_face
from faithface.metrics import _maps
from faithface.metrics._forward import NO_THRESHOLD, answers, probes, unaltered_scores
from faithface.perturb import fill_images, rank
from faithface.perturb.fills import check_fill
from faithface.tasks import difference_range

if TYPE_CHECKING:
    from torch import Tensor

TopFill = Literal["black", "mean", "blur", "stranger"]
Reading = Literal["input", "published"]


def top_share(id: str, question: str, better: Better) -> Protocol:
    """Return the protocol of a metric on the top share."""
    return Protocol(
        id=id,
        question=question,
        better=better,
        range=lambda _, card: difference_range(card),
        needs=frozenset({"model"}),
        family="faithful",
        values=(Value(), Value("control"), Value("flips"), Value("control-flips")),
        judged_on=lambda metric: both("genuine", metric.which),
        cost="2",
        source="Ensemble-CAM, 2510.19695",
    )


@dataclass(frozen=True)
class TopShare(Metric):
    """The clean score minus the score with a mask removed (``keep``: all but the mask); the base of both.

    Values
        (headline): the fall.
        ``:control``: the fall for the same mask shifted circularly by rows and columns, drawn from the sample's seed:
        equal area and shape, another place.
        ``:flips``: 1 where the decision changes, else 0; the mean is the share of flipped decisions.
        ``:control-flips``: the same for the control.

    Parameters
        ``share``: share of the cells; default 0.1.
        ``grid``: cells per side (14), ranked by their means in steps of 2⁻²⁰ of the map's largest |value|; pixel row r
        lies in cell row ⌊r·G/H⌋. 0 = pixels: then the tied pixels of a binary map are scattered over its area.
        ``fill``: ``black`` (default, the paper's), ``mean`` (the image's mean colour), ``blur`` (σ = 8 % of the shorter
        side), ``stranger`` (another face; aligned sets only).
        ``reading``: ``input`` (default) works on float pixels at the model's input size. ``published``, which needs
        ``grid=0``, follows the paper's notebook: threshold at the 90th percentile with all ties included, map stretched
        bilinearly over the image at its own size, mask where it exceeds its minimum (about 10.7 %), black, and one
        shift for all images of a size (numpy seed 42).
        ``which``: of classifiers, the samples that are judged: ``positive`` (default), ``negative`` or ``all``. The
        evidence of a bona fide image is what is absent from it.

    Which maps
        Classifiers: the relevance map of samples of the positive class. Pairs: genuine ones only (an impostor pair has
        no confidence to lose), by the probe's similarity map; the probe is altered.

    Special cases
        Ties are broken by a permutation seeded from the sample. A constant map is scored in that order (``published``:
        its mask is empty) and flagged. A map with non-finite values has no value. Without a decision threshold the
        flips of pairs have no value.

    Cost
        2 forward passes per sample.
    """

    keep: ClassVar[bool]

    share: float = 0.10
    fill: TopFill | Fill = "black"
    grid: int = 14
    reading: Reading = "input"
    which: ClassSide = "positive"

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"share is {self.share}; expected a number between 0 and 1, such as 0.1")
        _maps.check_grid(self.grid)
        if self.reading == "published" and self.grid:
            raise ValueError(f"reading=published masks pixels; got grid={self.grid}: write (grid=0,reading=published)")
        if self.reading == "published" and self.fill != "black":
            raise ValueError(f"reading=published fills with black; got fill={self.fill}: remove one of them")

    def check(self, card: ModelCard, dataset: Dataset, explainer: Explainer | None = None) -> None:
        check_fill(self.fill, dataset, card.task == "verification", masks=False)

    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        chosen = _maps.judged(samples, maps)
        reasons = _maps.invalid(chosen)
        chosen = _maps.finite(chosen)
        altered = self._published(model, samples, chosen) if self.reading == "published" else None
        versions = list(altered or self._input(model, samples, chosen))
        found = answers(model, samples, versions, f"the top share replaced with fill {self.fill}")
        clean = unaltered_scores(samples)
        values = {
            "": clean - found.scores[0],
            "control": clean - found.scores[1],
            "flips": found.flipped[0],
            "control-flips": found.flipped[1],
        }
        scores = _maps.result(values, reasons, _maps.constant(chosen))
        if not np.isnan(found.flipped).any():
            return scores
        return dataclasses.replace(scores, reasons=dict.fromkeys(range(len(samples)), NO_THRESHOLD) | reasons)

    def _input(self, model: FaceModel, samples: Samples, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Return the altered probes and the control's, N×3×H×W, from exactly the top share of the cells or pixels."""
        n, height, width = chosen.shape
        ranking = rank(chosen, samples, self.grid)
        count = max(1, math.floor(self.share * ranking.units + 0.5))
        mask = torch.stack([ranking.removed(i, count) for i in range(n)]).reshape(n, height, width).to(chosen.device)
        shifted = torch.stack([mask[i].roll(shift(samples, i, height, width), (0, 1)) for i in range(n)])
        images, fill = probes(samples), fill_images(model, samples, self.fill)[:, 0]

        def altered(where: Tensor) -> Tensor:
            return torch.where((where != self.keep)[:, None], fill, images)

        return altered(mask), altered(shifted)

    def _published(self, model: FaceModel, samples: Samples, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`_input`, the way of Ensemble-CAM's notebook: on the image at its own size, by a stretched mask."""
        masked: list[Tensor] = []
        control: list[Tensor] = []
        for item, one in zip(samples, chosen, strict=True):
            face = item.faces[0]
            pixels = np.asarray(face.read())
            mask = published_mask(one.cpu().numpy(), self.share, pixels.shape[:2])
            for where, out in ((mask, masked), (np.roll(mask, published_shift(*mask.shape), (0, 1)), control)):
                kept = np.where((where != self.keep)[..., None], np.float32(0), pixels)
                out.append(read_face(Face(face.id, lambda kept=kept: kept), model.size))  # type: ignore[misc]
        device = samples.images.device
        return torch.stack(masked).to(device), torch.stack(control).to(device)


def shift(samples: Samples, index: int, height: int, width: int) -> tuple[int, int]:
    """Return the control's circular shift of a sample: any but none, from the sample's seed."""
    if height * width == 1:
        return 0, 0
    return divmod(int(samples.rng(index, "shifted mask").integers(1, height * width)), width)


def published_mask(relevance: np.ndarray, share: float, size: tuple[int, int]) -> np.ndarray:
    """Return bool H×W at the image's own size: where the thresholded map, resized bilinearly, exceeds its minimum.

    The threshold is the (1 − share) percentile with linear interpolation; values equal to it stay.
    """
    kept = np.where(relevance >= np.percentile(relevance, 100 * (1 - share)), relevance, 0)
    large = torch.nn.functional.interpolate(
        torch.from_numpy(kept.astype(np.float32))[None, None], size=size, mode="bilinear", align_corners=False
    )[0, 0].numpy()
    return large > large.min()


def published_shift(height: int, width: int) -> tuple[int, int]:
    """Return the notebook's shift: two draws after seeding numpy with 42, the same for all images of a size."""
    legacy = np.random.RandomState(42)  # the published masks come from this generator
    return int(legacy.randint(-height, height)), int(legacy.randint(-width, width))
