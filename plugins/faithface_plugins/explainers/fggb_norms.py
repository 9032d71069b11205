"""FGGB's signed reading as one vector-Jacobian product: the channels' norms shared, or sketched by a few probes.

Place in the flow: called by ``fggb``; calls ``FaceModel.vjp`` and, for the sketch, the model's twin in forward mode.
Registers nothing.

Σ_k (w_k − threshold / N) · G_k / n_k is linear in the gradients G_k, so with numbers n_k that are known beforehand it
is a single product of the Jacobian with the vector (w_k − threshold / N) / n_k.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from faithface.contract import FaceModel
from faithface.errors import NotApplicable
from faithface.lazy import torch
from faithface_plugins.explainers.common import chunks
from faithface_plugins.explainers.fggb_channels import Embedding, channel_cotangents
from faithface_plugins.explainers.pair_common import unit

if TYPE_CHECKING:
    from torch import Tensor

PROBES_PER_PASS = 16


def linear_maps(model: FaceModel, images: Tensor, embeddings: Tensor, weights: Tensor, which: Embedding) -> Tensor:
    """Return Σ_k weights[m, k] · G_k of each image, summed over colours: M×H×W, by one backward pass per image.

    Args:
        images: M×3×H×W.
        embeddings: M×D.
        weights: M×D.
    """
    if which == "normalised":
        e = unit(embeddings)
        norm = torch.linalg.vector_norm(embeddings, dim=1, keepdim=True)
        weights = (weights - (weights * e).sum(dim=1, keepdim=True) * e) / torch.where(norm > 0, norm, 1.0)
    return model.vjp(images, weights[:, None])[:, 0].sum(dim=1)


def sketched_norms(
    model: FaceModel, image: Tensor, embedding: Tensor, which: Embedding, probes: int, rng: np.random.Generator
) -> Tensor:
    """Estimate ‖G_k‖ of all channels of one face: float32 D.

    For an image v of independent standard normal numbers, the change (J v)_k of channel k along v has mean 0 and
    variance ‖G_k‖². J v is one pass in forward mode for all channels at once, so the root mean square over ``probes``
    such images estimates every norm, to a relative error of about 1 / √(2 · probes). The meter counts two forward
    passes per probe, which is what forward mode costs.

    Raises:
        NotApplicable: an operator of the network has no forward mode in torch.
    """
    from torch.autograd import forward_ad

    noise = torch.from_numpy(rng.standard_normal((probes, *image.shape), dtype="float32")).to(image)
    turn = channel_cotangents(embedding, which)
    squares = torch.zeros_like(embedding, dtype=torch.float32)
    twin = model.twin_for(image[None])
    with torch.no_grad(), forward_ad.dual_level():
        for part in chunks(probes, PROBES_PER_PASS):
            tangents = noise[part]
            try:
                changed = twin(forward_ad.make_dual(image.expand(len(tangents), -1, -1, -1).contiguous(), tangents))
            except NotImplementedError as error:
                raise NotApplicable(
                    f'norms=sketch needs forward mode, which torch lacks for an operator of model "{model.card.name}" '
                    f"({str(error).splitlines()[0][:120]}): use norms=shared or norms=exact"
                ) from error
            along = forward_ad.unpack_dual(changed).tangent
            if along is not None:  # None: the outputs do not depend on the pixels
                squares += (along @ turn.T).square().sum(dim=0)
    model.count(forward=2 * probes)
    return (squares / probes).sqrt()


def sketched_variation(norms: Tensor, probes: int) -> float:
    """Return the variation of the norms (standard deviation over mean), less the sketch's own sampling variance."""
    live = norms[norms > 0].double()
    if not len(live):
        return 0.0
    seen = float(live.var(correction=0) / live.mean().square())
    return float(max(seen - 1 / (2 * probes), 0.0) ** 0.5)
