"""FGGB, feature-guided gradient backpropagation: one gradient map per embedding channel, weighted by agreement.

Place in the flow: registered through ``verification``; calls ``FaceModel.vjp`` and what ``pair_common`` offers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from faithface.contract import Explainer, FaceModel, Maps, Method, Samples
from faithface.lazy import torch
from faithface_plugins.explainers.pair_common import (
    cosine_threshold,
    equal_images,
    pair_maps,
    require_pairs,
    scaled,
    smooth,
    unit,
)

if TYPE_CHECKING:
    from torch import Tensor

# Bytes of gradient maps that are held at a time: all 512 channels at 112×112, a quarter of them at 224×224.
HELD = 128 * 2**20
# Channels that are reduced at a time, so that the temporaries stay in the cache.
REDUCED = 32


@dataclass(frozen=True)
class Fggb(Explainer):
    """FGGB: the normalised gradient of every embedding channel, weighted by the channel's share in the decision.

    Formula, for image A of a pair with embeddings f_A, f_B of N channels::

        w_k  = f_A[k] · f_B[k] / (‖f_A‖ ‖f_B‖)            so that Σ w_k is the cosine
        G_k  = ∂f_A[k] / ∂A,   Ĝ_k = G_k / ‖G_k‖          each channel on its own
        S_A  = Σ_k Ĝ_k · (w_k − threshold / N)            the weights sum to cosine − threshold
        similarity = max(S_A, 0),  dissimilarity = max(−S_A, 0)

    and the same for B with the roles swapped. A channel whose gradient is 0 contributes nothing.

    Parameters:
        reading: how G_k (3×H×W) becomes a map. ``absolute``: the mean of |G_k| over RGB before the norm, so that only
            the weights have a sign. ``signed``: the formula to the letter; the norm runs over all three colours, and S
            is summed over them at the end.
        embedding: what is differentiated: ``normalised``, f / ‖f‖, so that changes of length do not count; or ``raw``.
        smoothing: σ of a Gaussian on the two maps, in pixels at 112×112, scaled with the shorter side; 0: none.
        threshold: the cosine at which the pair is accepted; None: the samples' own.

    Source: Lu, Xu & Ebrahimi, "Explainable face verification via feature-guided gradient backpropagation",
    arXiv:2403.04549. Cost: per pair 2 forward and 2N backward passes; equal images within a batch share theirs (the
    meter counts them all).

    Left open by the paper and decided here: the channel reduction, which embedding, smoothing. The defaults are those
    of the only readable implementation, which FAME's authors publish for comparison: ``absolute``, ``normalised``,
    σ = 5. On real pairs, with removed pixels taken from another face, ``signed`` ranks similar regions better
    (insertion − deletion 0.073 against 0.062 ± 0.004) and ``absolute`` dissimilar ones (0.091 against 0.085 ± 0.006);
    unsmoothed maps rank worse in both. Smoothing the signed S before it is split, instead of its halves after, throws
    the evidence away, since neighbouring pixels of a gradient cancel (0.047 and 0.023).

    With ``absolute`` a clear match can have an empty dissimilarity map, and a clear non-match an empty similarity map:
    that is the formula, not a failure.
    """

    reading: Literal["absolute", "signed"] = "absolute"
    embedding: Literal["normalised", "raw"] = "normalised"
    smoothing: float = 5.0
    threshold: float | None = None

    method = Method(
        name="fggb",
        tasks=frozenset({"verification"}),
        needs=frozenset({"gradients"}),
        source="Lu, Xu & Ebrahimi 2024, arXiv:2403.04549",
    )

    def __post_init__(self) -> None:
        if self.smoothing < 0:
            raise ValueError(f"smoothing is {self.smoothing}; expected σ in pixels, at least 0")

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        require_pairs(self.name, samples)
        threshold = cosine_threshold(self.name, self.threshold, model, samples)
        weights = channel_weights(samples.clean.outputs, threshold).repeat_interleave(2, dim=0)
        embeddings = samples.clean.outputs.flatten(0, 1)
        images = samples.images.flatten(0, 1)
        signed = images.new_zeros((len(images), *model.size))
        for same in equal_images(images):
            at = torch.tensor(same, device=images.device)
            signed[at] = self._weighted_maps(model, images[same[0]], embeddings[same[0]], weights[at])
            again = len(same) - 1
            model.count(forward=again, backward=again * embeddings.shape[1])
        sigma = scaled(self.smoothing, model)
        similarity, dissimilarity = (smooth(part.clamp(min=0), sigma) for part in (signed, -signed))
        return pair_maps(similarity, dissimilarity, threshold=threshold)

    def _weighted_maps(self, model: FaceModel, image: Tensor, embedding: Tensor, weights: Tensor) -> Tensor:
        """Return Σ_k Ĝ_k · weights[p, k] for one image: P×H×W from weights P×N."""
        total = weights.new_zeros((len(weights), image.numel() if self.reading == "signed" else image[0].numel()))
        cotangents = channel_cotangents(embedding, self.embedding)
        held = max(REDUCED, HELD // (4 * image.numel()))
        for start in range(0, len(cotangents), held):
            gradients = model.vjp(image[None], cotangents[None, start : start + held])[0]
            for first in range(0, len(gradients), REDUCED):
                some = gradients[first : first + REDUCED]
                some = some.abs().mean(dim=1) if self.reading == "absolute" else some
                some = some.flatten(1)
                norm = torch.linalg.vector_norm(some, dim=1)
                at = start + first
                # Dividing the weights, not the maps, saves a pass over the maps.
                share = weights[:, at : at + len(some)] / torch.where(norm > 0, norm, 1.0)
                total += share @ some
        if self.reading == "signed":
            total = total.unflatten(1, (3, -1)).sum(dim=1)
        return total.unflatten(1, tuple(image.shape[-2:]))


def channel_weights(embeddings: Tensor, threshold: float) -> Tensor:
    """Return w_k − threshold / N of pairs of embeddings N×2×D: N×D, each row summing to cosine − threshold."""
    units = unit(embeddings)
    return units[:, 0] * units[:, 1] - threshold / embeddings.shape[-1]


def channel_cotangents(embedding: Tensor, which: Literal["normalised", "raw"]) -> Tensor:
    """Return the N vectors whose products with the Jacobian are the channels' gradients.

    ``normalised``: the Jacobian of f / ‖f‖ is (I − e eᵀ) / ‖f‖ times that of f, so the rotation is done on the
    vectors, before the one product with the network.
    """
    identity = torch.eye(len(embedding), dtype=torch.float32, device=embedding.device)
    if which == "raw":
        return identity
    e = unit(embedding)
    norm = torch.linalg.vector_norm(embedding)
    return (identity - torch.outer(e, e)) / torch.where(norm > 0, norm, 1.0)


EXPLAINERS: tuple[Explainer, ...] = (Fggb(),)
