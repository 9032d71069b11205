"""Black-box explainers: occlusion and RISE. They need outputs only, so they run on every model that ONNX Runtime runs.

Place in the flow: registered by the package; call ``FaceModel.outputs`` through ``common.black_box_scores``. Occlusion
is captum's; RISE is written here, because captum has none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from faithface.contract import Explainer, FaceModel, Maps, Samples
from faithface.seeds import rng_for
from faithface_plugins.explainers.common import CHUNK, Fill, Score, black_box_scores, chunks, fill_color


@dataclass(frozen=True)
class Occlusion(Explainer):
    """Occlusion: how far the score falls when a sliding window covers a pixel.

    Formula: mean over the windows that contain the pixel of y(image) − y(image with the window filled). Signed: where
    covering raises the score the map is negative (pairs: dissimilarity).

    Parameters:
        window: 0.2, side of the square window as a share of the image's shorter side.
        stride: 0.5, step as a share of the window. The last window of a row is moved up to the border.
        fill: ``black`` (0 in pixel space) or ``mean`` (the card's mean colour).
        score: classifiers: ``logit`` of the predicted class, or its ``probability``. Pairs: the cosine.

    Source: Zeiler & Fergus, ECCV 2014, arXiv:1311.2901; captum's Occlusion. Cost: 1 + (number of windows) forward
    passes per image, 82 at the defaults and 112×112; no backward pass. Left open by the paper: window, step and fill
    (grey there); the logit is used because a saturated probability falls by nothing.
    """

    window: float = 0.2
    stride: float = 0.5
    fill: Fill = "black"
    score: Score = "logit"

    name = "occlusion"
    source = "Zeiler & Fergus 2014, arXiv:1311.2901"

    def __post_init__(self) -> None:
        for key in ("window", "stride"):
            if not 0 < getattr(self, key) <= 1:
                raise ValueError(f"{key} is {getattr(self, key)}; expected a share, above 0 and at most 1")

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        from captum.attr import Occlusion as CaptumOcclusion

        views = samples.views()

        def forward(images: Tensor, rows: Tensor) -> Tensor:
            return black_box_scores(model, images, views.target.take(rows), self.score)

        side = max(1, round(self.window * min(model.size)))
        step = max(1, round(self.stride * side))
        fill = fill_color(model.card.input, self.fill).to(views.images).expand(1, 3, *model.size).contiguous()
        rows = torch.arange(len(views.images), device=views.images.device)
        parts = []
        for part in chunks(len(views.images), 8):
            attribution = CaptumOcclusion(forward).attribute(
                views.images[part],
                sliding_window_shapes=(3, side, side),
                strides=(3, step, step),
                baselines=fill,
                additional_forward_args=(rows[part],),
                perturbations_per_eval=max(1, CHUNK // (part.stop - part.start)),
            )
            # The window covers all three channels at once, so they hold the same number.
            parts.append(attribution[:, 0])
        return Maps.from_views(torch.cat(parts), samples)


@dataclass(frozen=True)
class Rise(Explainer):
    """RISE: the mean of random masks, each weighted by the score of the image seen through it.

    Formula: S = Σ_i y(image ⊙ M_i)·M_i / (N·p1). A mask is a cells×cells grid of zeros and ones with P(1) = p1,
    upsampled bilinearly to (cells+1)·⌈H/cells⌉ by (cells+1)·⌈W/cells⌉ and cropped at a random offset. Pairs: the scores
    are centred first, S = Σ_i (y_i − ȳ)·M_i / (N·p1); the positive part is similarity, the negative part dissimilarity.

    Parameters:
        masks: 1000, N. One set per image, drawn from the sample's seed.
        cells: 8, cells per side.
        p1: 0.5, the probability that a cell is seen.
        fill: ``black``: the mask multiplies the pixels in [0, 1]; ``mean``: it multiplies the normalised tensor, as in
            the official code, which blends towards the card's mean colour.
        score: classifiers: ``probability`` of the predicted class (the paper's), or its ``logit``. Pairs: the cosine.

    Source: Petsiuk et al., BMVC 2018, arXiv:1806.07421, and its official code. Cost: ``masks`` forward passes per
    image, no backward pass. Left open: pairs. Without centring, a cosine that stays positive under every mask would
    give a map that is positive everywhere and follows how often each pixel happened to be seen. The official notebooks
    use N = 5000 or 6000 with p1 = 0.1, which hides nine tenths of a face at a time. As in the official code there is no
    division by each pixel's own coverage.
    """

    masks: int = 1000
    cells: int = 8
    p1: float = 0.5
    fill: Fill = "black"
    score: Score = "probability"

    name = "rise"
    seeded = True
    source = "Petsiuk et al. 2018, arXiv:1806.07421"

    def __post_init__(self) -> None:
        if self.masks < 1 or self.cells < 1:
            raise ValueError(f"masks is {self.masks} and cells is {self.cells}; expected at least 1 of each")
        if not 0 < self.p1 < 1:
            raise ValueError(f"p1 is {self.p1}; expected a probability between 0 and 1, both excluded")

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        views = samples.views()
        fill = fill_color(model.card.input, self.fill).to(views.images)
        maps = []
        for i, seed_id in enumerate(views.seed_ids):
            masks = RiseMasks.draw(rng_for(samples.seed, seed_id, "rise"), self.masks, self.cells, self.p1, model.size)
            image, scores = views.images[i], []
            for part in chunks(self.masks):
                mask = masks.render(part, image.device)[:, None]
                target = views.target.take(torch.full((len(mask),), i, device=image.device))
                scores.append(black_box_scores(model, fill + mask * (image - fill), target, self.score).double())
            weights = torch.cat(scores)
            weights = weights - weights.mean() if samples.are_pairs else weights
            total = torch.zeros(model.size, dtype=torch.float64, device=image.device)
            for part in chunks(self.masks):
                total += torch.einsum("n,nhw->hw", weights[part], masks.render(part, image.device).double())
            maps.append(total / (self.masks * self.p1))
        return Maps.from_views(torch.stack(maps), samples)


@dataclass(frozen=True)
class RiseMasks:
    """A set of RISE masks as grids and offsets; pixels are made when they are needed.

    Attributes:
        grids: float32 N×s×s of 0 and 1.
        offsets: int N×2: where the crop begins.
        size: height and width of a mask.
    """

    grids: np.ndarray
    offsets: np.ndarray
    size: tuple[int, int]

    @staticmethod
    def draw(rng: np.random.Generator, n: int, cells: int, p1: float, size: tuple[int, int]) -> RiseMasks:
        grids = (rng.random((n, cells, cells)) < p1).astype(np.float32)
        offsets = np.stack([rng.integers(0, -(-side // cells), size=n) for side in size], axis=1)
        return RiseMasks(grids, offsets, size)

    def render(self, part: slice, device: torch.device | str = "cpu") -> Tensor:
        """Return masks n×H×W, float32 in [0, 1].

        Bilinear upsampling is separable: rows and columns of the crop are picked from one matrix per axis, which costs
        a small product of matrices instead of enlarging and cropping every mask.
        """
        factors = []
        for axis, side in enumerate(self.size):
            matrix = upsampling_matrix(self.grids.shape[1], side).to(device)
            picked = torch.from_numpy(self.offsets[part, axis])[:, None] + torch.arange(side)
            factors.append(matrix[picked.to(device)])
        down, across = factors
        return down @ torch.from_numpy(self.grids[part]).to(device) @ across.transpose(1, 2)


def upsampling_matrix(cells: int, side: int) -> Tensor:
    """Return the matrix (cells+1)·⌈side/cells⌉ × cells of bilinear upsampling: half-pixel centres, mirrored border.

    The same as ``skimage.transform.resize(order=1, mode="reflect")`` along one axis, which the official code calls.
    """
    length = (cells + 1) * -(-side // cells)
    at = (np.arange(length) + 0.5) * cells / length - 0.5
    if cells == 1:
        return torch.ones(length, 1)
    last = cells - 1
    at = np.abs(at)
    at = last - np.abs(last - at)
    low = np.clip(np.floor(at).astype(int), 0, last - 1)
    matrix = np.zeros((length, cells), dtype=np.float32)
    rows = np.arange(length)
    matrix[rows, low] = 1 - (at - low)
    matrix[rows, low + 1] = at - low
    return torch.from_numpy(matrix)


EXPLAINERS: tuple[Explainer, ...] = (Occlusion(), Rise())
