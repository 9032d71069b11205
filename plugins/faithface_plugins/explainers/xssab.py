"""xSSAB, similarity score argument backpropagation: gradients of the arguments for and against a match.

Place in the flow: registered through ``verification``; calls ``FaceModel.vjp`` and ``pair_common``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from faithface.contract import Explainer, FaceModel, Maps, Method, Samples
from faithface.lazy import torch
from faithface_plugins.explainers.pair_common import cosine_threshold, pair_maps, partners, require_pairs, unit

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Xssab(Explainer):
    """xSSAB: two gradients per image, one of the channels that support a match, one of those that oppose it.

    Formula, for image A of a pair with unit embeddings e_A, e_B of D channels::

        c_k  = e_A[k] · e_B[k]                  a channel's share of the cosine
        w+   = e_B where c_k >= threshold / D, else 0
        w−   = e_B where c_k <  threshold / D, else 0
        P±   = mean over RGB of |∂(w± · f(A)/‖f(A)‖) / ∂A|
        C    = P+ − P−

    and the same for B with the roles swapped.

    Parameters:
        maps: ``arguments``: similarity = P+, dissimilarity = P−. ``difference``: similarity = max(C, 0), dissimilarity
            = max(−C, 0).
        threshold: the cosine at which the pair is accepted; None: the samples' own.

    Source: Huber, Luu, Terhörst & Damer, "Efficient explainable face verification based on similarity score argument
    backpropagation", arXiv:2304.13409 (WACV 2024), and its authors' code. Cost: 1 forward and 2 backward passes per
    image.

    Not specified by the paper, decided here: the authors show P+ and P− and rank by C. One signed ranking cannot serve
    two maps without ties, and a pixel can be evidence on both sides; so the maps are P+ and P−, and C is a parameter.
    No normalisation per channel, no smoothing: none is in the original.
    """

    maps: Literal["arguments", "difference"] = "arguments"
    threshold: float | None = None

    method = Method(
        name="xssab",
        tasks=frozenset({"verification"}),
        needs=frozenset({"gradients"}),
        source="Huber et al. 2024, arXiv:2304.13409",
    )

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        require_pairs(self.name, samples)
        threshold = cosine_threshold(self.name, self.threshold, model, samples)
        embeddings = samples.clean.outputs.flatten(0, 1)
        gradients = model.vjp(samples.images.flatten(0, 1), argument_cotangents(embeddings, threshold))
        size = gradients.abs().mean(dim=2)
        pro, contra = size[:, 0], size[:, 1]
        if self.maps == "difference":
            pro, contra = (pro - contra).clamp(min=0), (contra - pro).clamp(min=0)
        return pair_maps(pro, contra, threshold=threshold)


def argument_cotangents(embeddings: Tensor, threshold: float) -> Tensor:
    """Return the vectors 2N×2×D whose products with the Jacobian are the gradients of w+ and w− (formula above).

    The step through f / ‖f‖ is applied to the vectors: its Jacobian is (I − e eᵀ) / ‖f‖.
    """
    e = unit(embeddings)
    other = partners(e)
    pro = e * other >= threshold / e.shape[1]
    weights = torch.stack([other * pro, other * ~pro], dim=1)
    along = (weights * e[:, None]).sum(dim=2, keepdim=True) * e[:, None]
    norm = torch.linalg.vector_norm(embeddings, dim=1)[:, None, None]
    return (weights - along) / torch.where(norm > 0, norm, 1.0)


EXPLAINERS: tuple[Explainer, ...] = (Xssab(),)
