"""Surrogate explainers: lime and kernel-shap, a linear model of the score over superpixels.

Place in the flow: registered by the package; call ``perturb.blended``, so that they
run wherever ONNX Runtime does, without a twin, and perturbed images are made while others are scored.

Both cut the image into segments, fill random subsets of them, score the result, and fit a linear model from "which
segments are visible" to the score. The map paints each segment with its coefficient: signed; for pairs the positive
part is similarity, the negative part dissimilarity.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from faithface.contract import Explainer, FaceModel, Maps, Method, Samples
from faithface.lazy import torch
from faithface.perturb import blended_outputs_of_several
from faithface.seeds import seed_for
from faithface.threads import one_thread, thread_count
from faithface_plugins.explainers.common import Fill, Score, fill_color, scores_of

if TYPE_CHECKING:
    from torch import Tensor

Segmentation = Literal["slic", "grid"]
HELD = 1e6  # weight of the whole and of the empty image, against 1 of the others


def segment(image: Tensor, how: Segmentation, count: int) -> Tensor:
    """Cut an image 3×H×W into about ``count`` segments: int64 H×W, numbered from 0 without gaps.

    ``slic``: superpixels (skimage, compactness 10, sigma 1). ``grid``: ⌊√count⌉² rectangles. An image that slic cannot
    cut (a constant one may stay whole) gets the grid.
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


def segments(samples: Samples, segmentation: Segmentation, count: int) -> list[Tensor]:
    """Return the segments of every view of a batch; called through :meth:`Samples.cached`."""
    images = samples.views().images
    if segmentation == "grid" or images.device.type != "cpu":
        return [segment(image, segmentation, count) for image in images]
    with one_thread(), ThreadPoolExecutor(thread_count()) as pool:  # slic gives the interpreter's lock back
        found = list(pool.map(lambda image: segment(image, segmentation, count), images))
    return [labels.to(images.device) for labels in found]


def paint_coefficients(
    model: FaceModel,
    samples: Samples,
    purpose: str,
    how: tuple[Segmentation, int, Fill, Score],
    draw: Callable[[int, torch.Generator], Tensor],
    fit: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> Maps:
    """Explain a batch: draw for each view, score the views side by side, fit each.

    Args:
        how: segmentation, about how many segments, fill and score.
        draw: ``draw(M, generator)`` returns which of the M segments are seen in each of the perturbed images: bool S×M.
        fit: gets these as float64 S×M and the scores float64 S, and returns the M coefficients.
    """
    segmentation, count, fill, score = how
    views = samples.views()
    color = fill_color(model.card.input, fill).to(views.images)
    # Both explainers of this file cut the same images, and cutting takes a tenth of their time.
    cut = samples.cached(segments, segmentation, count)

    def drawn(i: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed_for(samples.seed, views.seed_ids[i], purpose))
        return draw(int(cut[i].max()) + 1, generator)

    with ThreadPoolExecutor(1) as drawing:  # the next view is drawn while this one is scored
        seen = [drawing.submit(drawn, i) for i in range(len(cut))]

        def visible(view: int, part: slice) -> Tensor:
            shown = seen[view].result()[part].to(views.images)
            return shown.index_select(1, cut[view].flatten()).unflatten(1, model.size)

        outputs = blended_outputs_of_several(model, views.images, color, len(seen[0].result()), visible)
    maps = []
    for i, labels in enumerate(cut):
        y = scores_of(model.card, outputs[i], views.target.take(slice(i, i + 1)), score)
        found = fit(seen[i].result().double().cpu().numpy(), y.double().cpu().numpy())
        maps.append(torch.from_numpy(found).to(labels.device)[labels])
    return Maps.from_views(torch.stack(maps), samples)


def weighted_fit(seen: np.ndarray, y: np.ndarray, weights: np.ndarray, ridge: float = 0.0) -> np.ndarray:
    """Return the coefficients of a weighted linear regression with a free intercept.

    Args:
        seen: S×M.
        y, weights: S.
        ridge: penalty on the squared coefficients, not on the intercept. With 0 and fewer samples than segments, the
            shortest of all solutions.
    """
    root = np.sqrt(weights)
    x = (seen - np.average(seen, axis=0, weights=weights)) * root[:, None]
    target = (y - np.average(y, weights=weights)) * root
    a, b = torch.from_numpy(x), torch.from_numpy(target[:, None])
    with one_thread():  # numpy's threads would wait for cores on which ONNX Runtime's still spin
        if ridge:
            found = torch.linalg.solve(a.T @ a + ridge * torch.eye(a.shape[1], dtype=a.dtype), a.T @ b)
        else:
            found = torch.linalg.lstsq(a, b, driver="gelsd").solution
    return found[:, 0].numpy()


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

    Source: Ribeiro et al., KDD 2016, arXiv:1602.04938, and its code for images. Cost: ``samples``
    forward passes per image, no backward pass. Not specified: the segmentation (the authors' code uses quickshift), the
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

    method = Method(
        name="lime",
        seeded=True,
        source="Ribeiro et al. 2016, arXiv:1602.04938",
    )

    def __post_init__(self) -> None:
        _check_counts(self.samples, self.segments)
        if not self.width > 0 or not self.ridge > 0:
            raise ValueError(f"width is {self.width} and ridge is {self.ridge}; expected numbers above 0")

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        def draw(segments: int, generator: torch.Generator) -> Tensor:
            return torch.bernoulli(torch.full((self.samples, segments), 0.5), generator=generator).bool()

        def fit(seen: np.ndarray, y: np.ndarray) -> np.ndarray:
            distance = 1 - np.sqrt(seen.mean(axis=1))  # 1 − the cosine of a 0/1 vector to the vector of ones
            return weighted_fit(seen, y, np.exp(-(distance**2) / (2 * self.width**2)), self.ridge)

        how = (self.segmentation, self.segments, self.fill, self.score)
        return paint_coefficients(model, samples, "lime", how, draw, fit)


@dataclass(frozen=True)
class KernelShap(Explainer):
    """Kernel SHAP: Shapley values of superpixels, estimated by a weighted linear regression.

    Formula: as LIME without regularisation; the number of seen segments is drawn in proportion to the Shapley kernel
    (M − 1)/(k·(M − k)), and the empty and the whole image are fitted exactly to their scores. The coefficients then sum
    to y(image) − y(filled image).

    Parameters:
        samples: 500, perturbed images per image; should be several times the number of segments.
        segments: 50, about how many superpixels.
        segmentation: ``slic``, or ``grid`` (equal rectangles, the same for every image).
        fill: ``black`` or ``mean`` (the card's mean colour), for what is not seen.
        score: classifiers: ``logit`` of the predicted class or its ``probability``. Pairs: the cosine.

    Source: Lundberg & Lee, NeurIPS 2017, arXiv:1705.07874; equal to captum's KernelShap. Cost: ``samples``
    forward passes per image, no backward pass. Not specified: what "absent" means for a superpixel, and the score; the
    logit because it adds up where a probability saturates.
    """

    samples: int = 500
    segments: int = 50
    segmentation: Segmentation = "slic"
    fill: Fill = "black"
    score: Score = "logit"

    method = Method(
        name="kernel-shap",
        seeded=True,
        source="Lundberg & Lee 2017, arXiv:1705.07874",
    )

    def __post_init__(self) -> None:
        _check_counts(self.samples, self.segments)

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        def draw(segments: int, generator: torch.Generator) -> Tensor:
            return shapley_coalitions(self.samples, segments, generator)

        def fit(seen: np.ndarray, y: np.ndarray) -> np.ndarray:
            ends = seen.all(axis=1) | ~seen.any(axis=1)
            return weighted_fit(seen, y, np.where(ends, HELD, 1.0))

        how = (self.segmentation, self.segments, self.fill, self.score)
        return paint_coefficients(model, samples, "kernel-shap", how, draw, fit)


def shapley_coalitions(samples: int, segments: int, generator: torch.Generator) -> Tensor:
    """Draw coalitions, bool S×M: first all segments, then none, then k of them with p(k) ∝ (M − 1)/(k·(M − k)).

    In the order in which captum draws, so that the same seed gives the same coalitions: for each row first a size by
    ``torch.multinomial``, which is the largest ratio of a share to an exponential number, then M normal numbers whose
    ``size`` largest are seen. The numbers are drawn row by row, and evaluated for all rows at once.
    """
    k = torch.arange(segments, dtype=torch.float32)
    share = (segments - 1) / (k * (segments - k))
    share[0] = 0.0
    exponential, normal = torch.ones(samples, segments), torch.zeros(samples, segments)
    for i in range(2, samples):
        exponential[i].exponential_(1, generator=generator)
        normal[i].normal_(generator=generator)
    sizes = (share / exponential).argmax(dim=1)
    sizes[:2] = torch.tensor([segments, 0])
    place = normal.argsort(dim=1, descending=True).argsort(dim=1)
    return place < sizes[:, None]


def _check_counts(samples: int, segments: int) -> None:
    if samples < 2 or segments < 2:
        raise ValueError(f"samples is {samples} and segments is {segments}; expected at least 2 of each")


EXPLAINERS: tuple[Explainer, ...] = (Lime(), KernelShap())
