"""What the verification explainers share: the threshold, unit embeddings, partners, smoothing, equal images.

Place in the flow: imported by ``fggb``, ``xssab``, ``corrrise``, ``xface``, ``minplus`` and ``fame`` beside it; may
call ``faithface.contract`` and ``errors``. Registers nothing.

Pairs are seen as 2N single faces in the order a0, b0, a1, b1, …; the partner of face i is face i ^ 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from faithface.contract import FaceModel, Maps, Samples
from faithface.errors import NotApplicable
from faithface.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

REFERENCE_SIZE = 112  # the input size at which the papers give lengths in pixels

# A kernel of 25 taps at σ = 5, as in the published code.
TRUNCATE = 2.4


def require_pairs(name: str, samples: Samples) -> None:
    """Raise NotApplicable unless the batch holds pairs."""
    if not samples.are_pairs:
        raise NotApplicable(f'explainer "{name}" explains pairs of faces; got single images: use a verification model')


def require_cosine(name: str, model: FaceModel) -> None:
    """Raise NotApplicable unless the model compares embeddings by their cosine."""
    if model.card.output.similarity != "cosine":
        raise NotApplicable(
            f'explainer "{name}" is defined on the cosine; model "{model.card.name}" compares by '
            f"{model.card.output.similarity} distance: use corrrise or minplus, which take any similarity"
        )


def cosine_threshold(name: str, given: float | None, model: FaceModel, samples: Samples) -> float:
    """Return the decision threshold on the cosine: the explainer's own parameter, else that of the samples.

    Raises:
        NotApplicable: there is none, or the samples' threshold is a distance.
    """
    if given is not None:
        return float(given)
    if model.card.output.similarity != "cosine":
        raise NotApplicable(
            f'explainer "{name}" needs a threshold on the cosine; model "{model.card.name}" decides by '
            f"{model.card.output.similarity} distance: write {name}(threshold=0.3) with the cosine to decide at"
        )
    if samples.threshold is None:
        raise NotApplicable(
            f'explainer "{name}" needs the decision threshold of model "{model.card.name}" and has none: give the card '
            f"[output] threshold, run on genuine and impostor pairs, give explain a --threshold, or write "
            f"{name}(threshold=0.3)"
        )
    return float(samples.threshold)


def unit(embeddings: Tensor) -> Tensor:
    """Return embeddings divided by their norms (last axis); zero where the norm is 0."""
    norm = torch.linalg.vector_norm(embeddings, dim=-1, keepdim=True)
    return embeddings / torch.where(norm > 0, norm, 1.0)


def partners(faces: Tensor) -> Tensor:
    """Return, for each of 2N faces in view order, what belongs to its partner."""
    return faces.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)


def scaled(pixels_at_112: float, model: FaceModel) -> float:
    """Return a length given in pixels at 112×112, for the model's shorter side."""
    return pixels_at_112 * min(model.size) / REFERENCE_SIZE


def smooth(maps: Tensor, sigma: float, truncate: float = TRUNCATE) -> Tensor:
    """Return maps (…×H×W) blurred by a Gaussian of ``sigma`` pixels, cut off at ``truncate`` · σ; σ = 0: unchanged.

    Beyond the border the map is mirrored without repeating its last pixel (c b | a b c | b a), as in the authors' code:
    ``reflect`` of torchvision and numpy, ``BORDER_REFLECT_101`` of OpenCV, ``mirror`` of scipy, whose ``reflect``
    repeats the last pixel.
    """
    if sigma <= 0:
        return maps
    sigmas = (0.0,) * (maps.ndim - 2) + (sigma, sigma)
    from scipy.ndimage import gaussian_filter

    return torch.from_numpy(gaussian_filter(maps.cpu().numpy(), sigmas, mode="mirror", truncate=truncate)).to(maps)


def pair_maps(similarity: Tensor, dissimilarity: Tensor, **note: object) -> Maps:
    """Build maps from 2N×H×W each, in view order."""
    both = (m.detach().to(torch.float32).unflatten(0, (-1, 2)).contiguous() for m in (similarity, dissimilarity))
    return Maps(similarity=next(both), dissimilarity=next(both), note=note)


def equal_images(images: Tensor) -> list[list[int]]:
    """Group the indices of equal images (M×3×H×W), in order of first appearance.

    Compared are the pixels, not ids: metrics explain altered images under the same id.
    """
    groups: dict[bytes, list[int]] = {}
    for index, image in enumerate(images.detach().cpu().numpy()):
        groups.setdefault(np.ascontiguousarray(image).tobytes(), []).append(index)
    return list(groups.values())
