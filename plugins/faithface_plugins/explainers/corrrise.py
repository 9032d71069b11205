"""CorrRISE: per pixel, the correlation between its visibility and the similarity of the pair.

Place in the flow: registered through ``verification``; calls ``perturb.blended`` and ``pair_common``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from faithface.contract import Explainer, FaceModel, Maps, Method, Samples
from faithface.lazy import torch
from faithface.perturb import blended_outputs
from faithface.seeds import rng_for
from faithface.tasks import pair_similarity
from faithface_plugins.explainers.common import Fill, fill_color
from faithface_plugins.explainers.pair_common import equal_images, pair_maps, partners, require_pairs, scaled

if TYPE_CHECKING:
    from torch import Tensor

# Scores that differ by less than rounding noise are equal; ranking would turn the noise into a map.
EQUAL_SCORES = 1e-6


@dataclass(frozen=True)
class CorrRise(Explainer):
    """CorrRISE: correlate random masks with the similarity under them.

    Formula, for image A of a pair and masks M_1 … M_n (1 = visible, 0 = covered)::

        s_i       = similarity(f(A under M_i), f(B))
        S_A(x, y) = corr_i(M_i(x, y), s_i)
        similarity = max(S_A, 0),  dissimilarity = max(−S_A, 0)

    and the same for B with the roles swapped. Where a pixel is never or always covered, or the similarity never
    changes, the correlation is undefined and the map is 0.

    Parameters:
        masks: how many. One set serves all images of a run; it depends on the suite's seed only.
        squares: covered squares per mask; they may overlap.
        side: their side in pixels at 112×112, scaled with the shorter side.
        correlation: ``spearman`` ranks the similarities first (ranks of 0 and 1 are as good as the values), which
            reduces the weight of the few masks that destroy the face; ``pearson`` does not.
        fill: ``black`` (0 in pixel space) or ``mean`` (the card's mean colour).

    Source: Lu, Xu & Ebrahimi, "Towards visual saliency explanations of face verification", arXiv:2305.08546 (WACV
    2024). Cost: ``masks`` forward passes per image, no backward pass; equal images within a batch share theirs (the
    meter counts them all).

    Not specified by the paper, decided here: number, shape and fill of the masks, and which correlation. The defaults
    are those of the implementation published beside FAME (500 masks of three black 30×30 squares, ranks); others use
    the smooth masks of RISE and Pearson's correlation. The squares lie entirely inside the image, so that a corner is
    covered far less often than the centre, and its correlation is noisier. The paper's regularisation of dissimilarity
    maps is not known and not applied.
    """

    masks: int = 500
    squares: int = 3
    side: float = 30.0
    correlation: Literal["spearman", "pearson"] = "spearman"
    fill: Fill = "black"

    method = Method(
        name="corrrise",
        tasks=frozenset({"verification"}),
        seeded=True,
        source="Lu, Xu & Ebrahimi 2024, arXiv:2305.08546",
    )

    def __post_init__(self) -> None:
        if self.masks < 2:
            raise ValueError(f"masks is {self.masks}; expected at least 2, or there is nothing to correlate")
        if self.squares < 1:
            raise ValueError(f"squares is {self.squares}; expected at least 1")
        if not 0 < self.side <= 112:
            raise ValueError(f"side is {self.side}; expected pixels at 112×112, above 0 and at most 112")

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        require_pairs(self.name, samples)
        side = max(1, round(scaled(self.side, model)))
        rng = rng_for(samples.seed, "", self.name)
        masks = torch.from_numpy(square_masks(rng, self.masks, self.squares, side, model.size)).to(samples.images)
        images = samples.images.flatten(0, 1)
        reference = partners(samples.clean.outputs.flatten(0, 1))
        scores = images.new_zeros((len(images), self.masks))
        for same in equal_images(images):
            embedded = self._masked_embeddings(model, images[same[0]], masks)
            for index in same:
                scores[index] = pair_similarity(model.card, embedded, reference[index].expand_as(embedded))
            model.count(forward=self.masks * (len(same) - 1))
        signed = pixel_correlation(masks, scores, ranks=self.correlation == "spearman")
        return pair_maps(signed.clamp(min=0), (-signed).clamp(min=0))

    def _masked_embeddings(self, model: FaceModel, image: Tensor, masks: Tensor) -> Tensor:
        color = fill_color(model.card.input, self.fill).to(image)
        return blended_outputs(model, image, color, len(masks), masks.__getitem__)


def square_masks(rng: np.random.Generator, n: int, squares: int, side: int, size: tuple[int, int]) -> np.ndarray:
    """Return n masks, float32 n×H×W: 1, but 0 within ``squares`` squares whose corners are uniform inside the image."""
    masks = np.ones((n, *size), dtype=np.float32)
    tops = rng.integers(0, size[0] - side + 1, (n, squares))
    lefts = rng.integers(0, size[1] - side + 1, (n, squares))
    for mask, ys, xs in zip(masks, tops, lefts, strict=True):
        for y, x in zip(ys, xs, strict=True):
            mask[y : y + side, x : x + side] = 0
    return masks


def pixel_correlation(masks: Tensor, scores: Tensor, ranks: bool) -> Tensor:
    """Return the correlation over the masks (n×H×W) of each pixel with each row of scores (M×n): M×H×W.

    ``ranks`` replaces scores by their ranks (ties share their mean rank). Undefined correlations are 0.
    """
    s = scores.detach().cpu().numpy().astype(np.float64)
    constant = np.ptp(s, axis=1) <= EQUAL_SCORES
    if ranks:
        from scipy.stats import rankdata

        s = rankdata(s, axis=1)
    s -= s.mean(axis=1, keepdims=True)
    length = np.linalg.norm(s, axis=1, keepdims=True)
    s = np.where(constant[:, None], 0.0, s / np.where(length > 0, length, 1.0))
    centred = (masks - masks.mean(dim=0)).flatten(1).double()
    spread = torch.linalg.vector_norm(centred, dim=0)
    correlation = torch.from_numpy(s).to(centred) @ centred / torch.where(spread > 0, spread, 1.0)
    return correlation.to(torch.float32).unflatten(1, tuple(masks.shape[1:]))


EXPLAINERS: tuple[Explainer, ...] = (CorrRise(),)
