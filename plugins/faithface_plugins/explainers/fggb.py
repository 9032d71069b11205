"""FGGB, feature-guided gradient backpropagation: one gradient map per embedding channel, weighted by agreement.

Place in the flow: registered through ``verification``; calls ``fggb_channels`` (exact), ``fggb_adaptive`` and
``fggb_norms`` (its cheaper forms), and ``pair_common``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from faithface.contract import Explainer, FaceModel, Maps, Method, Samples
from faithface.lazy import torch
from faithface.seeds import rng_for
from faithface_plugins.explainers.fggb_adaptive import largest_channels
from faithface_plugins.explainers.fggb_channels import (
    Embedding,
    Facts,
    Reading,
    channel_portions,
    channel_weights,
    facts_of,
)
from faithface_plugins.explainers.fggb_norms import linear_maps, sketched_norms, sketched_variation
from faithface_plugins.explainers.pair_common import (
    cosine_threshold,
    equal_images,
    pair_maps,
    require_pairs,
    scaled,
    smooth,
)

if TYPE_CHECKING:
    from torch import Tensor


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
            the weights have a sign. ``signed``: the formula as written; the norm runs over all three colours, and S
            is summed over them at the end.
        embedding: what is differentiated: ``normalised``, f / ‖f‖, so that changes of length do not count; or ``raw``.
        smoothing: σ of a Gaussian on the two maps, in pixels at 112×112, scaled with the shorter side; 0: none. It is
            cut off at 2.4 σ; the border is torchvision's ``reflect`` (scipy's ``mirror``).
        threshold: the cosine at which the pair is accepted; None: the samples' own.
        norms: ‖G_k‖ of the signed reading. ``exact``. ``shared``: 1 for all channels, so that S_A is one product of the
            Jacobian with the weights, in the scale of a gradient; equal to ``exact`` up to a factor where all norms
            are equal. ``sketch``: estimated from ``probes`` forward-mode passes. The absolute reading computes every
            channel's map, so its norms cost nothing and are always exact.
        probes: random images of a sketch; the norms' relative error is about 1 / √(2 · probes).
        channels: of the absolute reading. ``all``; or ``adaptive``: those of largest |w_k − threshold / N|, the others
            replaced by the mean Ĝ of those computed, until a further backward pass changes neither map by
            more than ``tolerance``. Where the channels computed by then have a ``channel_correlation`` below 0.3, the
            mean says nothing about the others: all are computed.
        tolerance: on 1 − Spearman's correlation of two successive maps; 0: all channels.

    Source: Lu, Xu & Ebrahimi, "Explainable face verification via feature-guided gradient backpropagation",
    arXiv:2403.04549. Cost: per pair 2 forward and 2N backward passes; equal images share theirs (the meter counts them
    all). ``shared``: 2 forward, 2 backward. ``sketch``: 2 + 4 · probes forward (a forward-mode pass counts twice), 2
    backward. ``adaptive``: 2 forward and 2n backward, with n recorded as ``channels``.

    The note of the maps holds means over the faces of the batch, where they are known without further passes:
    ``norm_variation`` (standard deviation of ‖G_k‖ over its mean), ``channel_correlation`` (mean correlation of the
    channels' |G_k|, averaged over 7×7 cells; near 1, the absolute reading shows what the network uses in general,
    whoever is in the images), ``weight_covered`` (share of Σ |w_k − threshold / N| whose channels were computed) and
    ``channels``.

    Not specified by the paper, decided here: the channel reduction, which embedding, smoothing. The defaults are those
    of the only readable implementation, which FAME's authors publish for comparison: ``absolute``, ``normalised``,
    σ = 5. On real pairs, with removed pixels taken from another face, ``signed`` ranks similar regions better
    (insertion − deletion 0.073 against 0.062 ± 0.004) and ``absolute`` dissimilar ones (0.091 against 0.085 ± 0.006);
    unsmoothed maps rank worse in both. Smoothing the signed S before it is split, instead of its halves afterwards,
    loses the evidence, since neighbouring pixels of a gradient cancel (0.047 and 0.023).

    With ``absolute`` a clear match can have an empty dissimilarity map, and a clear non-match an empty similarity map:
    that follows from the formula and is not a failure.
    """

    reading: Reading = "absolute"
    embedding: Embedding = "normalised"
    smoothing: float = 5.0
    threshold: float | None = None
    norms: Literal["exact", "sketch", "shared"] = "exact"
    probes: int = 64
    channels: Literal["all", "adaptive"] = "all"
    tolerance: float = 0.01

    method = Method(
        name="fggb",
        tasks=frozenset({"verification"}),
        needs=frozenset({"gradients"}),
        source="Lu, Xu & Ebrahimi 2024, arXiv:2403.04549",
    )

    def __post_init__(self) -> None:
        if self.smoothing < 0:
            raise ValueError(f"smoothing is {self.smoothing}; expected σ in pixels, at least 0")
        if self.probes < 1:
            raise ValueError(f"probes is {self.probes}; expected at least 1 random image")
        if not 0 <= self.tolerance < 1:
            raise ValueError(f"tolerance is {self.tolerance}; expected at least 0 and below 1")
        if self.norms != "exact" and self.reading == "absolute":
            raise ValueError(
                f"norms={self.norms} is for reading=signed; expected norms=exact: the absolute reading computes every "
                "channel's map and so knows its norm. To make it cheaper, give channels=adaptive"
            )
        if self.channels == "adaptive" and self.reading == "signed":
            raise ValueError(
                "channels=adaptive is for reading=absolute; expected channels=all: to make the signed reading cheaper, "
                "give norms=shared or norms=sketch"
            )

    @property
    def info(self) -> Method:
        return replace(self.method, seeded=True) if self.norms == "sketch" else self.method

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        require_pairs(self.name, samples)
        threshold = cosine_threshold(self.name, self.threshold, model, samples)
        weights = channel_weights(samples.clean.outputs, threshold).repeat_interleave(2, dim=0)
        embeddings = samples.clean.outputs.flatten(0, 1)
        images = samples.images.flatten(0, 1)
        sigma = scaled(self.smoothing, model)
        if self.norms != "exact":
            signed, note = self._linear(model, samples, weights)
        elif self.channels == "adaptive":
            found = [
                largest_channels(model, *face, self.embedding, sigma, self.tolerance)
                for face in zip(images, embeddings, weights, strict=True)
            ]
            signed, note = torch.stack([s for s, _ in found]), mean_facts([facts for _, facts in found])
        else:
            signed, note = self._exact(model, images, embeddings, weights)
        similarity, dissimilarity = (smooth(part.clamp(min=0), sigma) for part in (signed, -signed))
        return pair_maps(similarity, dissimilarity, threshold=threshold, **note)

    def _exact(
        self, model: FaceModel, images: Tensor, embeddings: Tensor, weights: Tensor
    ) -> tuple[Tensor, dict[str, Any]]:
        signed = images.new_zeros((len(images), *model.size))
        facts: list[Facts] = []
        for same in equal_images(images):
            at = torch.tensor(same, device=images.device)
            signed[at], found = self._weighted_maps(model, images[same[0]], embeddings[same[0]], weights[at])
            facts += found
            again = len(same) - 1
            model.count(forward=again, backward=again * embeddings.shape[1])
        return signed, mean_facts(facts)

    def _weighted_maps(
        self, model: FaceModel, image: Tensor, embedding: Tensor, weights: Tensor
    ) -> tuple[Tensor, list[Facts]]:
        """Return Σ_k Ĝ_k · weights[p, k] for one image, P×H×W from weights P×N, and the facts of each row."""
        total = weights.new_zeros((len(weights), image.numel() if self.reading == "signed" else image[0].numel()))
        norms, cells = [], []
        for some in channel_portions(model, image, embedding, self.embedding, self.reading):
            # Dividing the weights, not the maps, saves a pass over the maps.
            share = weights[:, some.start : some.start + len(some.maps)] / torch.where(some.norms > 0, some.norms, 1.0)
            total += share @ some.maps
            norms.append(some.norms)
            cells.append(some.cells)
        facts = facts_of(torch.cat(norms), torch.cat(cells), weights, weights)
        if self.reading == "signed":
            total = total.unflatten(1, (3, -1)).sum(dim=1)
        return total.unflatten(1, tuple(image.shape[-2:])), [facts] * len(weights)

    def _linear(self, model: FaceModel, samples: Samples, weights: Tensor) -> tuple[Tensor, dict[str, Any]]:
        views = samples.views()
        embeddings = samples.clean.outputs.flatten(0, 1)
        note: dict[str, Any] = {}
        if self.norms == "sketch":
            norms = torch.stack(
                [
                    sketched_norms(
                        model, image, one, self.embedding, self.probes, rng_for(samples.seed, seed_id, "fggb")
                    )
                    for image, one, seed_id in zip(views.images, embeddings, views.seed_ids, strict=True)
                ]
            )
            weights = weights / torch.where(norms > 0, norms, 1.0)
            variations = [sketched_variation(one, self.probes) for one in norms]
            note["norm_variation"] = sum(variations) / len(variations)
        return linear_maps(model, views.images, embeddings, weights, self.embedding), note


def mean_facts(facts: Sequence[Facts]) -> dict[str, float]:
    """Return the means over faces, for the note."""
    rows = [asdict(one) for one in facts]
    return {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}


EXPLAINERS: tuple[Explainer, ...] = (Fggb(),)
