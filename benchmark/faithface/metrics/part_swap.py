"""``part-swap@1``: one part of a real face is exchanged; does the map go where the exchanged part is?

Place in the flow: a metric that explains altered pairs; called by ``run``. May call ``_reexplain``, ``regions``,
``perturb``, ``contract``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from faithface.card import ModelCard
from faithface.contract import (
    PAIR_MAPS,
    Dataset,
    Explainer,
    FaceModel,
    Maps,
    Metric,
    Protocol,
    Samples,
    Scores,
    Value,
    Which,
)
from faithface.errors import NotApplicable, UsageError, nearest
from faithface.lazy import torch
from faithface.metrics import _maps
from faithface.metrics._others import mean_difference
from faithface.metrics._reexplain import AGAIN, altered, need_explainer
from faithface.reasons import Reason, ReasonCode
from faithface.tasks import Task

if TYPE_CHECKING:
    from torch import Tensor

PARTS: Mapping[str, tuple[str, ...]] = {
    "forehead": ("forehead",),
    "brows": ("brows",),
    "eyes": ("left eye", "right eye"),
    "left-eye": ("left eye",),
    "right-eye": ("right eye",),
    "nose": ("nose",),
    "cheeks": ("left cheek", "right cheek"),
    "left-cheek": ("left cheek",),
    "right-cheek": ("right cheek",),
    "mouth": ("mouth",),
    "chin": ("chin",),
    "jaw": ("jaw",),
}
SOFT = 0.02  # σ of a part's edge as a share of the shorter side
VERIFICATION: frozenset[Task] = frozenset({"verification"})
NO_EFFECT = {
    True: Reason(ReasonCode.UNDEFINED, "no stranger's part lowers the similarity"),
    False: Reason(ReasonCode.UNDEFINED, "no part of the reference raises the similarity"),
}


def part_masks(
    size: tuple[int, int], parts: tuple[str, ...], landmarks: tuple[tuple[float, float], ...] = ()
) -> np.ndarray:
    """Return the parts of an aligned face as bool P×H×W.

    Args:
        landmarks: five (x, y) as shares of width and height; empty: by the size (see ``Dataset.aligned_landmarks``).

    Raises:
        UsageError: a size without a template, landmarks of no face, or a part that the crop does not show.
    """
    from faithface.regions import regions_of

    # A share of the width is a place between the image's edges; pixel centres are at whole numbers.
    points = np.array(landmarks) * size[::-1] - 0.5 if landmarks else None
    found = regions_of(size, landmarks=points, partition="sided")
    masks = np.stack(
        [np.isin(found.labels, [found.names.index(n) for n in PARTS[part] if n in found.names]) for part in parts]
    )
    for part, mask in zip(parts, masks, strict=True):
        if not mask.any():
            raise UsageError(f'the crop shows nothing of the part "{part}"; leave it out of parts')
    return masks


def soft_edges(masks: np.ndarray) -> Tensor:
    """Return masks P×H×W with a soft edge, float32 in [0, 1]: smoothed by a Gaussian of σ = 2 % of the shorter side."""
    from faithface.perturb.fills import gaussian_blur

    sigma = SOFT * min(masks.shape[-2:])
    return gaussian_blur(torch.from_numpy(masks).to(torch.float32), sigma).clamp(0, 1)


@dataclass(frozen=True, eq=False)
class Swapped:
    """N pairs with each of P parts of the probe exchanged.

    Attributes:
        weights: float32 P×H×W: the parts with their soft edges.
        pairs: for each part, the N pairs with that part exchanged.
        effect: float64 P×N: how far the similarity moved the way that the exchange should move it (down by a stranger's
            part on a genuine pair, up by the reference's on an impostor pair); below 0 where it moved the other way.
    """

    weights: Tensor
    pairs: tuple[Samples, ...]
    effect: np.ndarray


def swapped_pairs(model: FaceModel, samples: Samples, parts: tuple[str, ...]) -> Swapped:
    """Exchange each part of each probe and score the pairs: one forward pass each, once for all explainers."""
    return samples.cached(_swapped_pairs, model, parts)


def _swapped_pairs(samples: Samples, model: FaceModel, parts: tuple[str, ...]) -> Swapped:
    from faithface.perturb import fill_images

    landmarks = samples.dataset.aligned_landmarks if samples.dataset else ()
    masks = part_masks(model.size, parts, landmarks)
    weights = soft_edges(masks).to(samples.images.device)
    probes, source = samples.images[:, 0], samples.images[:, 1].clone()
    genuine = samples.where("genuine")
    if len(genuine):
        source[genuine] = fill_images(model, samples.take(genuine), "stranger")[:, 0]
    pairs = []
    for weight, mask in zip(weights, masks, strict=True):
        exchanged = altered(model, samples, torch.lerp(probes, source, weight), question="own")
        items = tuple(_with_truth(item, mask) for item in samples.items)
        pairs.append(dataclasses.replace(exchanged, items=items))
    after = np.stack([_maps.to_numpy(one.clean.scores) for one in pairs])
    down = np.where(samples.genuine, 1.0, -1.0)
    return Swapped(weights, tuple(pairs), down * (_maps.to_numpy(samples.clean.scores) - after))


def _with_truth(item: Any, mask: np.ndarray) -> Any:
    """Return the pair with the exchanged part as its ground truth, of either kind, so that an oracle can play."""

    def exchanged() -> np.ndarray:
        return np.stack([mask, np.zeros_like(mask)])

    return dataclasses.replace(item, truth=dict.fromkeys(PAIR_MAPS, exchanged))


def shares(maps: Tensor, weights: Tensor) -> np.ndarray:
    """Return the share of each map's mass in each part, float64 P×N, of maps N×H×W and weights P×H×W.

    A map without mass has the shares of a constant map.
    """
    mass = _maps.finite(maps).to(torch.float64).abs()
    # By the largest value first, so that sums of very small and very large values keep their digits.
    mass = mass / mass.amax(dim=(1, 2), keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    empty = mass.sum(dim=(1, 2)) == 0
    mass[empty] = 1
    inside = torch.einsum("phw,nhw->pn", weights.to(mass), mass)
    return _maps.to_numpy(inside / mass.sum(dim=(1, 2)))


@dataclass(frozen=True)
class PartSwap(Metric):
    """One part of the probe is exchanged at a time: the map's mass there, minus its mass there when another part is.

    Formula
        Each of P parts of the probe (image A) is exchanged for the same place of another face s: a_k = a + w_k·(s − a),
        pixel by pixel, with w_k the part's soft mask. Genuine pairs: s is a stranger's face, so that the pair (a_k, b)
        differs in part k; its dissimilarity map D_k is asked for. Impostor pairs: s is the reference b itself, so that
        the pair agrees in part k; its similarity map is asked for. Each altered pair is explained as a pair in its own
        right. With M(j, k) = Σ w_k·D_j / Σ D_j, the share of the map's mass in part k when part j is exchanged,
        d_k = mean over the parts j ≠ k of [M(k, k) − M(j, k)];
        e_k = max(0, s(a, b) − s(a_k, b)) on genuine pairs, max(0, s(a_k, b) − s(a, b)) on impostor pairs: what the
        exchange does to the similarity;
        value = Σ_k e_k·d_k / Σ_k e_k.

    The parts
        Outlines are drawn in the coordinates of ArcFace's 112×112 crop (``faithface/regions.py``) and carried to others
        by five landmarks, which are the dataset's (``landmarks``), else those of the usual crop of this size: 112×112
        ArcFace, 150×150 dlib with 25 % padding. w_k is the outline's mask (a pixel whose centre is inside is 1)
        smoothed by ``scipy.ndimage.gaussian_filter`` with σ = 2 % of the shorter side, reflecting border, cut off at
        4 σ.

    Parameters
        ``parts``: the parts, joined by ``+``, at least two; of ``forehead``, ``brows``, ``eyes``, ``left-eye``,
        ``right-eye``, ``nose``, ``cheeks``, ``left-cheek``, ``right-cheek``, ``mouth``, ``chin``, ``jaw``. Left and
        right are the viewer's.
        ``pairs``: the pairs that are judged: ``all`` (default), ``genuine`` or ``impostor``. Two questions: rank them
        apart.

    Values
        headline: the weighted difference.
        ``inside``: Σ e_k·M(k, k) / Σ e_k, the mass in the exchanged part.
        ``elsewhere``: the same of the mean of M(j, k) over j ≠ k. The headline is the difference of the two.
        Curves over the parts: ``effect`` (s moved, with its sign), ``difference`` (d_k).

    Range and direction
        −1 to 1. Higher is better. The best value is 1.0. 0 = the map does not notice which part was exchanged. It is
        exactly 0 for a map that is the same whatever the pixels, such as the controls ``centre-prior`` and ``random``.

    Which maps
        Genuine pairs: the probe's dissimilarity map; impostor pairs: its similarity map, both of the altered pairs. The
        maps of the unaltered pair are not used.

    Special cases
        The stranger is the one of the fill ``stranger``: another person of the same dataset, by the pair's seed, the
        same for all parts and explainers. A map without mass counts as a constant one. A pair on which no exchange
        moves the similarity the right way has no value; neither has one with a map that is not finite. The altered
        pairs carry the part as ground truth, so that an oracle can play.

    Differs from other libraries
        Patch replacement (Patch-LFW) puts 27 squares anywhere at once, and scores decisions. The inpainting game has
        one region per triplet, made by a generative model, and compares a map with that region alone, so that a map
        that is large there on every pair wins. Here the map's mass at the same place without the exchange is
        subtracted.

    Known weaknesses
        The pasted part brings the stranger's light and skin with it, and a soft seam; a map that shows contrast moves a
        little (read the control ``edges``). A coarse or smoothed map spills over the part's edge and cannot reach 1.
        Where left and right are exchanged together (``eyes``), a mirrored map is not noticed. It is the place that is
        judged: the map of another pair on which the same part was exchanged scores as well, and only a map of another
        pair as it is scores 0. A network sees a part in its surroundings too, so that a map that shows truly what the
        network uses is below 1.

    Cost
        One explanation per part. The altered images are scored once for all explainers: one forward pass each.

    Source
        faithface; after Huber et al., arXiv:2304.13409 (patches), and Williford, May and Byrne, ECCV 2020 (regions).
    """

    parts: str = "left-eye+right-eye+nose+mouth"
    pairs: Which = "all"

    protocol = Protocol(
        id="part-swap@1",
        question="One part of the face is exchanged. Does the map move there?",
        better="higher",
        range=(-1.0, 1.0),
        best=1.0,
        needs=frozenset({"model", "explainer"}),
        family="specific",
        values=(Value(), Value("inside"), Value("elsewhere")),
        judged_on=lambda metric: metric.pairs,
        cost=lambda metric: (
            f"{len(metric.chosen)} (shared: 0 for each further explainer), and {len(metric.chosen)} explanations"
        ),
        source="faithface; after Huber et al., arXiv:2304.13409, and Williford, May and Byrne, ECCV 2020",
        tasks=VERIFICATION,
    )

    def __post_init__(self) -> None:
        for part in self.chosen:
            if part not in PARTS:
                raise ValueError(f'parts holds "{part}"; {nearest(part, PARTS)}')
        if len(set(self.chosen)) < 2 or len(set(self.chosen)) < len(self.chosen):
            raise ValueError(f"parts is {self.parts!r}; expected at least two different parts, joined by +")

    @property
    def chosen(self) -> tuple[str, ...]:
        """The names of the parts."""
        return tuple(self.parts.split("+"))

    def check(self, card: ModelCard, dataset: Dataset, explainer: Explainer | None = None) -> None:
        if not dataset.aligned:
            raise NotApplicable(
                f'metric "{self.id}" pastes parts of one face into another and needs aligned faces; '
                f'dataset "{dataset.name}" says that its faces are not',
                ReasonCode.NOT_ALIGNED,
            )
        try:
            part_masks(card.input.size, self.chosen, dataset.aligned_landmarks)
        except UsageError as error:
            raise NotApplicable(f'metric "{self.id}" cannot place the parts: {error}') from error

    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        explainer = need_explainer(self.id, explainer)
        swapped = swapped_pairs(model, samples, self.chosen)
        kinds = tuple("dissimilarity" if same else "similarity" for same in samples.genuine)
        found = [_maps.pick(explainer.explain(model, pairs), kinds) for pairs in swapped.pairs]
        # By exchanged part, then by the part that is looked at: P×P×N.
        mass = np.stack([shares(one, swapped.weights) for one in found])
        count = len(self.chosen)
        rest = [[j for j in range(count) if j != k] for k in range(count)]
        difference = np.stack([mean_difference(mass[k, k], mass[rest[k], k]) for k in range(count)])
        elsewhere = np.stack([mass[rest[k], k].mean(axis=0) for k in range(count)])
        weight = np.maximum(swapped.effect, 0)
        total = weight.sum(axis=0)
        weight = weight / np.where(total > 0, total, 1)
        values = {
            "": (weight * difference).sum(axis=0),
            "inside": (weight * np.stack([mass[k, k] for k in range(count)])).sum(axis=0),
            "elsewhere": (weight * elsewhere).sum(axis=0),
        }
        reasons: dict[int, Reason | str] = {
            int(i): NO_EFFECT[bool(samples.genuine[i])] for i in np.flatnonzero(~(total > 0))
        }
        reasons |= {i: AGAIN for one in found for i in _maps.invalid(one)}
        flags = {i: flag for one in found for i, flag in _maps.constant(one).items()}
        return _maps.result(values, reasons, flags, {"effect": swapped.effect.T, "difference": difference.T})


METRICS = (PartSwap(),)
