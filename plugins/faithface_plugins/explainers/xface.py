"""xFace: occlude patches of three sizes and measure how far the distance of the pair changes.

Place in the flow: registered through ``verification``; calls ``perturb.blended`` and ``pair_common``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from faithface.contract import Explainer, FaceModel, Maps, Method, Samples
from faithface.lazy import torch
from faithface.perturb import covered_outputs
from faithface_plugins.explainers.pair_common import (
    equal_images,
    pair_maps,
    partners,
    require_cosine,
    require_pairs,
    scaled,
    smooth,
    unit,
)

if TYPE_CHECKING:
    from torch import Tensor

Place = tuple[int, int]


@dataclass(frozen=True)
class XFace(Explainer):
    """xFace: the signed change of the pair's cosine distance under sliding black patches.

    Formula, for image A, patches i of side p, and d₀ the clean distance::

        v_i   = (d_i − d₀) / p²
        S_p   = mean over i of v_i · [pixel in patch i], then smoothed
        S     = mean over the sizes p
        similarity = max(S, 0),  dissimilarity = max(−S, 0)

    A patch that covers what the faces share increases their distance (positive: similar). The distance d_i of the
    occluded image depends on the variant:

    * 1: the mean distance to all occluded versions of the other image (patches of the same size);
    * 2: the distance to the unaltered other image;
    * 3: the distance to the other image occluded at the same place.

    Parameters:
        variant: 1, 2 or 3.
        sizes: sides of the patches in pixels at 112×112.
        stride: step between patches in pixels at 112×112.
        smoothing: σ of a Gaussian kernel five pixels wide, at 112×112; 0: none.

    All lengths scale with the input's shorter side. Source: Knoche, Teepe, Hörmann & Rigoll, "Explainable
    model-agnostic similarity and confidence in face verification", arXiv:2211.13735, and its authors' code. Cost: one
    forward pass per patch and image, 1,130 at the defaults and 112×112; equal images within a batch share theirs (the
    meter counts them all).

    As in the authors' code: variant 1 is the default, a patch of side p covers p + 1 pixels, positions run 0, 5, …
    below side − p, and the mean runs over all patches, so that pixels near the border, which fewer patches cover,
    get smaller values. Omitted: their scaling to [0, 1] and the colour map, which change no ranking, and the
    confidence score.
    """

    variant: int = 1
    sizes: tuple[str, ...] = ("7", "14", "28")
    stride: float = 5.0
    smoothing: float = 5.0

    method = Method(
        name="xface",
        tasks=frozenset({"verification"}),
        source="Knoche et al. 2023, arXiv:2211.13735",
    )

    def __post_init__(self) -> None:
        if self.variant not in (1, 2, 3):
            raise ValueError(f"variant is {self.variant}; expected 1, 2 or 3")
        if not self.sizes or not all(_is_length(size) for size in self.sizes):
            raise ValueError(f"sizes is {'+'.join(self.sizes)}; expected lengths in pixels above 0 and below 112")
        if not self.stride > 0:
            raise ValueError(f"stride is {self.stride}; expected pixels at 112×112, above 0")
        if self.smoothing < 0:
            raise ValueError(f"smoothing is {self.smoothing}; expected σ in pixels, at least 0")

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        require_pairs(self.name, samples)
        require_cosine(self.name, model)
        images = samples.images.flatten(0, 1)
        clean = unit(samples.clean.outputs.flatten(0, 1))
        before = 1 - (clean * partners(clean)).sum(dim=1)
        total = torch.zeros_like(images[:, 0])
        for size in self.sizes:
            side = max(1, round(scaled(float(size), model)))
            step = max(1, round(scaled(self.stride, model)))
            places = patch_places(model.size, side, step)
            embedded = self._occluded(model, images, places, side)
            deviation = (self._distances(embedded, clean) - before[:, None]) / side**2
            painted = torch.zeros_like(total)
            for (y, x), value in zip(places, deviation.T, strict=True):
                painted[:, y : y + side + 1, x : x + side + 1] += value[:, None, None]
            # The authors' kernel is cut off at two pixels for σ = 5.
            total += smooth(painted / len(places), scaled(self.smoothing, model), truncate=0.4)
        total /= len(self.sizes)
        return pair_maps(total.clamp(min=0), (-total).clamp(min=0))

    def _distances(self, embedded: Tensor, clean: Tensor) -> Tensor:
        """Return the cosine distance of each patch, 2N×P, from unit embeddings of the occluded images, 2N×P×D."""
        if self.variant == 1:
            other = partners(embedded).mean(dim=1, keepdim=True)
        elif self.variant == 2:
            other = partners(clean)[:, None]
        else:
            other = partners(embedded)
        return 1 - (embedded * other).sum(dim=2)

    def _occluded(self, model: FaceModel, images: Tensor, places: list[Place], side: int) -> Tensor:
        """Return the unit embeddings 2N×P×D of every image under every patch."""
        groups = equal_images(images)
        result: Tensor | None = None
        for same in groups:
            windows = [(y, x, y + side + 1, x + side + 1) for y, x in places]
            image = images[same[0]]
            embedded = unit(covered_outputs(model, image, image.new_zeros(3, 1, 1), windows))
            result = embedded.new_empty((len(images), *embedded.shape)) if result is None else result
            result[torch.tensor(same, device=result.device)] = embedded
            model.count(forward=len(places) * (len(same) - 1))
        assert result is not None
        return result


def patch_places(size: tuple[int, int], side: int, step: int) -> list[Place]:
    """Return the top left corners of the patches, row by row; at least one."""
    rows, columns = (range(0, max(1, extent - side), step) for extent in size)
    return [(y, x) for y in rows for x in columns]


def _is_length(text: str) -> bool:
    try:
        return 0 < float(text) < 112
    except ValueError:
        return False


EXPLAINERS: tuple[Explainer, ...] = (XFace(),)
