"""Black-box explainers: occlusion and RISE. They need outputs only, so they run on every model that ONNX Runtime runs.

Place in the flow: registered by the package; call ``perturb.blended``, so that
altered images are made while others are scored.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from faithface.contract import Explainer, FaceModel, Maps, Method, Samples
from faithface.lazy import torch
from faithface.perturb import blended_outputs, covered_outputs
from faithface.seeds import rng_for
from faithface.threads import one_thread
from faithface_plugins.explainers.common import Fill, Score, fill_color, scalar_of, scores_of

if TYPE_CHECKING:
    from torch import Tensor


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

    Source: Zeiler & Fergus, ECCV 2014, arXiv:1311.2901. Where the windows fit the image exactly, equal to
    captum's Occlusion; elsewhere captum lets the last window of a row extend beyond the border, so that it covers
    less, and here it is moved back to the border and covers as much as the others. Cost: one forward pass per window
    and image, 100 at the defaults and 112×112; no backward pass. Not specified by the paper: window, step and fill
    (grey there); the logit is used because a saturated probability does not fall.
    """

    window: float = 0.2
    stride: float = 0.5
    fill: Fill = "black"
    score: Score = "logit"

    method = Method(
        name="occlusion",
        source="Zeiler & Fergus 2014, arXiv:1311.2901",
    )

    def __post_init__(self) -> None:
        for key in ("window", "stride"):
            if not 0 < getattr(self, key) <= 1:
                raise ValueError(f"{key} is {getattr(self, key)}; expected a share, above 0 and at most 1")

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        views = samples.views()
        clean = scalar_of(
            model.card, samples.clean.outputs.reshape(len(views.images), -1), views.target, self.score
        ).to(views.images.device)
        side = max(1, round(self.window * min(model.size)))
        corners = window_corners(model.size, side, max(1, round(self.stride * side)))
        fill = fill_color(model.card.input, self.fill).to(views.images)
        falls = []
        windows = [(y, x, y + side, x + side) for y, x in corners]
        for i, image in enumerate(views.images):
            outputs = covered_outputs(model, image, fill, windows)
            falls.append(clean[i] - scores_of(model.card, outputs, views.target.take(slice(i, i + 1)), self.score))
        total = torch.zeros((len(falls), *model.size), dtype=torch.float64, device=views.images.device)
        times = torch.zeros_like(total[0])
        for (y, x), fall in zip(corners, torch.stack(falls).double().T, strict=True):
            total[:, y : y + side, x : x + side] += fall[:, None, None]
            times[y : y + side, x : x + side] += 1
        return Maps.from_views(total / times, samples)


def window_corners(size: tuple[int, int], side: int, step: int) -> list[tuple[int, int]]:
    """Return the top left corners of a sliding window, row by row; the last of a row or column ends at the border."""
    rows, columns = ([min(start, extent - side) for start in range(0, extent - side + step, step)] for extent in size)
    return [(y, x) for y in rows for x in columns]


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
    image, no backward pass. Not specified: pairs. Without centring, a cosine that stays positive under every mask would
    give a map that is positive everywhere and follows how often each pixel happened to be visible. The official
    notebooks use N = 5000 or 6000 with p1 = 0.1, which hides nine tenths of a face in each mask. As in the official
    code there is no division by each pixel's own coverage.
    """

    masks: int = 1000
    cells: int = 8
    p1: float = 0.5
    fill: Fill = "black"
    score: Score = "probability"

    method = Method(
        name="rise",
        seeded=True,
        source="Petsiuk et al. 2018, arXiv:1806.07421",
    )

    def __post_init__(self) -> None:
        if self.masks < 1 or self.cells < 1:
            raise ValueError(f"masks is {self.masks} and cells is {self.cells}; expected at least 1 of each")
        if not 0 < self.p1 < 1:
            raise ValueError(f"p1 is {self.p1}; expected a probability between 0 and 1, both excluded")

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        views = samples.views()
        fill = fill_color(model.card.input, self.fill).to(views.images)
        maps = []
        for i, (image, seed_id) in enumerate(zip(views.images, views.seed_ids, strict=True)):
            masks = RiseMasks.draw(rng_for(samples.seed, seed_id, "rise"), self.masks, self.cells, self.p1, model.size)

            def rendered(part: slice, image: Tensor = image, masks: RiseMasks = masks) -> Tensor:
                return masks.render(part, image.device)

            outputs = blended_outputs(model, image, fill, self.masks, rendered)
            weights = scores_of(model.card, outputs, views.target.take(slice(i, i + 1)), self.score).double()
            weights = weights - weights.mean() if samples.are_pairs else weights
            maps.append(masks.weighted_sum(weights.cpu().numpy()) / (self.masks * self.p1))
        return Maps.from_views(torch.from_numpy(np.stack(maps)).to(views.images.device), samples)


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

        Bilinear upsampling is separable: the rows and columns of each possible crop are prepared as one matrix per
        axis, which costs a small product of matrices instead of enlarging and cropping every mask.
        """
        down, across = (crops[self.offsets[part, axis]] for axis, crops in enumerate(self.crops))
        if torch.device(device).type == "cpu":
            # For matrices of this size numpy's product is three times as fast as torch's, and shares the cores better.
            return torch.from_numpy(down @ (self.grids[part] @ across))
        left, grids, right = (torch.from_numpy(a).to(device) for a in (down, self.grids[part], across))
        return left @ (grids @ right)

    def weighted_sum(self, weights: np.ndarray) -> np.ndarray:
        """Return Σ_i weights[i] · mask i, float64 H×W, without rendering a mask.

        Masks that are cropped alike are enlarged alike, and enlarging is linear: grids are summed first.
        """
        down, across = (torch.from_numpy(crops).double() for crops in self.crops)
        alike = self.offsets[:, 0] * len(across) + self.offsets[:, 1] == np.arange(len(down) * len(across))[:, None]
        with one_thread():  # numpy's threads would spin for a while, beside the next image's passes
            grids = torch.from_numpy(alike * weights) @ torch.from_numpy(self.grids).double().flatten(1)
            grids = grids.unflatten(0, (len(down), len(across))).unflatten(2, self.grids.shape[1:])
            return (down @ (grids @ across).sum(dim=1)).sum(dim=0).numpy()  # type: ignore[no-any-return]

    @cached_property
    def crops(self) -> tuple[np.ndarray, np.ndarray]:
        """The upsampling matrix cropped at each offset: float32 offsets×H×cells, and offsets×cells×W."""
        cells = self.grids.shape[1]
        windows = []
        for side in self.size:
            matrix = upsampling_matrix(cells, side)
            windows.append(np.stack([matrix[start : start + side] for start in range(-(-side // cells))]))
        return windows[0], np.ascontiguousarray(windows[1].transpose(0, 2, 1))


def upsampling_matrix(cells: int, side: int) -> np.ndarray:
    """Return the matrix of bilinear upsampling, float32 (cells+1)·⌈side/cells⌉ × cells.

    Half-pixel centres, mirrored border: the same as ``skimage.transform.resize(order=1, mode="reflect")`` along one
    axis, which the official code calls.
    """
    length = (cells + 1) * -(-side // cells)
    at = (np.arange(length) + 0.5) * cells / length - 0.5
    if cells == 1:
        return np.ones((length, 1), dtype=np.float32)
    last = cells - 1
    at = np.abs(at)
    at = last - np.abs(last - at)
    low = np.clip(np.floor(at).astype(int), 0, last - 1)
    matrix = np.zeros((length, cells), dtype=np.float32)
    rows = np.arange(length)
    matrix[rows, low] = 1 - (at - low)
    matrix[rows, low + 1] = at - low
    return matrix


EXPLAINERS: tuple[Explainer, ...] = (Occlusion(), Rise())
