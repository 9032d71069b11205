"""Surrogate explainers: lime and kernel-shap, a linear model of the score over superpixels.

Place in the flow: registered by the package; captum's Lime and KernelShap on a function that calls
``FaceModel.outputs``, so that they run wherever ONNX Runtime does, without a twin.

Both cut the image into segments, fill random subsets of them, score what is left, and fit a linear model from "which
segments are seen" to the score. The map paints each segment with its coefficient: signed; for pairs the positive part
is similarity, the negative part dissimilarity.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from faithface.contract import Explainer, FaceModel, Maps, Samples
from faithface.seeds import seed_for
from faithface_plugins.explainers.common import CHUNK, Fill, Score, black_box_scores, fill_color

Segmentation = Literal["slic", "grid"]


def segment(image: Tensor, how: Segmentation, count: int) -> Tensor:
    """Cut an image 3×H×W into about ``count`` segments: int64 H×W, numbered from 0 without gaps.

    ``slic``: superpixels (skimage, compactness 10, sigma 1). ``grid``: ⌊√count⌉² rectangles. An image that slic cannot
    cut (a constant one may come back whole) gets the grid.
    """
    height, width = image.shape[1:]
    if how == "slic":
        from skimage.segmentation import slic

        pixels = image.permute(1, 2, 0).cpu().numpy().astype(np.float64)
        found = slic(pixels, n_segments=count, compactness=10, sigma=1, start_label=0, channel_axis=-1)
        labels, numbered = np.unique(found, return_inverse=True)
        if len(labels) > 1:
            return torch.from_numpy(numbered.reshape(height, width).astype(np.int64)).to(image.device)
    side = max(2, round(count**0.5))
    rows, columns = (torch.arange(n, device=image.device) * min(side, n) // n for n in (height, width))
    return rows[:, None] * min(side, width) + columns[None, :]


def paint_coefficients(
    model: FaceModel,
    samples: Samples,
    purpose: str,
    how: tuple[Segmentation, int, Fill, Score],
    fit: Callable[[Callable[[Tensor], Tensor], Tensor, dict[str, Any]], Tensor],
) -> Maps:
    """Explain a batch view by view: ``fit(forward, image, arguments)`` is a captum call that returns 1×3×H×W."""
    segmentation, count, fill, score = how
    views = samples.views()
    baseline = fill_color(model.card.input, fill).to(views.images).expand(1, 3, *model.size).contiguous()
    maps = []
    for i, seed_id in enumerate(views.seed_ids):

        def forward(images: Tensor, row: int = i) -> Tensor:
            rows = torch.full((len(images),), row, device=images.device)
            return black_box_scores(model, images, views.target.take(rows), score)

        image = views.images[i : i + 1]
        mask = segment(image[0], segmentation, count).expand(1, 3, *model.size)
        arguments = {"baselines": baseline, "feature_mask": mask, "perturbations_per_eval": CHUNK}
        # captum draws its samples from torch's global generator, on the CPU; it is put back as it was.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_for(samples.seed, seed_id, purpose))
            maps.append(fit(forward, image, arguments)[0, 0])
    return Maps.from_views(torch.stack(maps), samples)


@dataclass(frozen=True)
class Lime(Explainer):
    """LIME: a ridge regression of the score on which superpixels are seen, near the whole image.

    Formula: coefficients of argmin_w Σ_i π_i·(y_i − w·z_i − w_0)² + ridge·‖w‖², z_i ∈ {0, 1}^segments with P(1) = ½,
    π_i = exp(−d_i²/(2·width²)), d_i = cosine distance of z_i to the vector of ones.

    Parameters:
        samples: 500, perturbed images per image.
        segments: 50, about how many superpixels.
        segmentation: ``slic``, or ``grid`` (equal rectangles, the same for every image).
        width: 0.25, of the proximity kernel.
        ridge: 1.0, strength of the regularisation.
        fill: ``black`` or ``mean`` (the card's mean colour), for what is not seen.
        score: classifiers: ``probability`` of the predicted class (the paper's) or its ``logit``. Pairs: the cosine.

    Source: Ribeiro et al., KDD 2016, arXiv:1602.04938, and its code for images; captum's Lime. Cost: ``samples``
    forward passes per image, no backward pass. Left open: the segmentation (the authors' code uses quickshift), the
    number of samples, the
    regression: ridge as in the authors' code, because captum's lasso with its fixed penalty gives a map of zeros on
    scores as close together as cosines. The authors' code fills with each superpixel's mean colour, here one colour
    fills all.
    """

    samples: int = 500
    segments: int = 50
    segmentation: Segmentation = "slic"
    width: float = 0.25
    ridge: float = 1.0
    fill: Fill = "black"
    score: Score = "probability"

    name = "lime"
    seeded = True
    source = "Ribeiro et al. 2016, arXiv:1602.04938"

    def __post_init__(self) -> None:
        _check_counts(self.samples, self.segments)
        if not self.width > 0 or not self.ridge > 0:
            raise ValueError(f"width is {self.width} and ridge is {self.ridge}; expected numbers above 0")

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        from captum._utils.models.linear_model import SkLearnRidge
        from captum.attr import Lime as CaptumLime

        def proximity(_original: Tensor, _altered: Tensor, seen: Tensor, **_: Any) -> Tensor:
            cosine = seen.float().mean(dim=1).sqrt()  # of a 0/1 vector to the vector of ones
            return torch.exp(-((1 - cosine) ** 2) / (2 * self.width**2))

        def fit(forward: Callable[[Tensor], Tensor], image: Tensor, arguments: dict[str, Any]) -> Tensor:
            lime = CaptumLime(forward, SkLearnRidge(alpha=self.ridge), proximity)
            return lime.attribute(image, n_samples=self.samples, **arguments)

        how = (self.segmentation, self.segments, self.fill, self.score)
        return paint_coefficients(model, samples, "lime", how, fit)


@dataclass(frozen=True)
class KernelShap(Explainer):
    """Kernel SHAP: Shapley values of superpixels, estimated by a weighted linear regression.

    Formula: as LIME without regularisation; the number of seen segments is drawn in proportion to the Shapley kernel
    (M − 1)/(k·(M − k)), and the empty and the whole image are held to their scores. The coefficients then sum to
    y(image) − y(filled image).

    Parameters:
        samples: 500, perturbed images per image; should be several times the number of segments.
        segments: 50, about how many superpixels.
        segmentation: ``slic``, or ``grid`` (equal rectangles, the same for every image).
        fill: ``black`` or ``mean`` (the card's mean colour), for what is not seen.
        score: classifiers: ``logit`` of the predicted class or its ``probability``. Pairs: the cosine.

    Source: Lundberg & Lee, NeurIPS 2017, arXiv:1705.07874; captum's KernelShap. Cost: ``samples`` forward passes per
    image, no backward pass. Left open: what "absent" means for a superpixel, and the score; the logit because it adds
    up where a probability saturates.
    """

    samples: int = 500
    segments: int = 50
    segmentation: Segmentation = "slic"
    fill: Fill = "black"
    score: Score = "logit"

    name = "kernel-shap"
    seeded = True
    source = "Lundberg & Lee 2017, arXiv:1705.07874"

    def __post_init__(self) -> None:
        _check_counts(self.samples, self.segments)

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        from captum.attr import KernelShap as CaptumKernelShap

        def fit(forward: Callable[[Tensor], Tensor], image: Tensor, arguments: dict[str, Any]) -> Tensor:
            return CaptumKernelShap(forward).attribute(image, n_samples=self.samples, **arguments)

        how = (self.segmentation, self.segments, self.fill, self.score)
        return paint_coefficients(model, samples, "kernel-shap", how, fit)


def _check_counts(samples: int, segments: int) -> None:
    if samples < 2 or segments < 2:
        raise ValueError(f"samples is {samples} and segments is {segments}; expected at least 2 of each")


EXPLAINERS: tuple[Explainer, ...] = (Lime(), KernelShap())
