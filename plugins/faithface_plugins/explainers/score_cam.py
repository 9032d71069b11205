"""Score-CAM: channels weighted by the score of the image seen through them.

Place in the flow: registered by the package; activations from the twin, scores by ONNX Runtime.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from faithface.contract import Explainer, FaceModel, Maps, Method, Samples
from faithface.lazy import torch
from faithface.perturb import blended_outputs_of_several
from faithface_plugins.explainers.cams import cam_maps
from faithface_plugins.explainers.common import Fill, fill_color, scores_of

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ScoreCam(Explainer):
    """Score-CAM: each channel weighted by the score of the image masked with that channel's own activation.

    Formula: ReLU(Σ_k w_k·A_k), w = softmax over k of y(image ⊙ H_k), H_k = A_k upsampled to the input size (bilinear,
    corners aligned), then min-max scaled (epsilon 1e-8). Pairs: the dissimilarity map uses the softmax of −y. Scaling
    and resize of the map as for the gradient CAMs.

    Parameters:
        layer: name of the layer ("" = the card's, else automatic).
        fill: what a mask of 0 shows: ``black`` (the mask multiplies the pixels in [0, 1]) or ``mean`` (it multiplies
            the normalised tensor, as in the authors' code and pytorch-grad-cam; the same where the card's mean is 0).

    Source: Wang et al., CVPRW 2020, arXiv:1910.01279. Cost: 1 + C forward passes per image for a layer of C channels,
    no backward pass. Not specified: y is the logit (libraries agree; the softmax of a probability would be almost
    uniform); subtracting the score of a baseline image, as in the paper, does not change a softmax; scaling before or
    after upsampling (here after, as pytorch-grad-cam). The softmax acts on absolute differences of y: on a cosine it is
    close to uniform, and the map close to the plain mean of the channels.
    """

    layer: str = ""
    fill: Fill = "black"

    method = Method(
        name="score-cam",
        needs=frozenset({"scores", "activations"}),
        source="Wang et al. 2020, arXiv:1910.01279",
    )

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        views = samples.views()
        seen = model.activations(views.images, None, self.layer or None)
        fill = fill_color(model.card.input, self.fill).to(views.images)

        def masks(view: int, part: slice) -> Tensor:
            return channel_masks(seen.values[view, part], model.size)

        outputs = blended_outputs_of_several(model, views.images, fill, seen.values.shape[1], masks)
        scores = [scores_of(model.card, y, views.target.take(slice(i, i + 1))) for i, y in enumerate(outputs)]
        y = torch.stack(scores).to(seen.values.device)

        def cam(weights: Tensor) -> Tensor:
            return (weights[:, :, None, None] * seen.values).sum(dim=1)

        negative = cam((-y).softmax(dim=1)) if samples.are_pairs else None
        return cam_maps(samples, model.size, cam(y.softmax(dim=1)), negative, seen.layer)


def channel_masks(channels: Tensor, size: tuple[int, int]) -> Tensor:
    """Upsample channels C×h×w to C×H×W (corners aligned) and scale each to [0, 1]; a constant channel becomes 0."""
    # Bilinear upsampling is separable: two small products of matrices, where interpolating costs several times as much.
    down, across = (corner_aligned(n, side).to(channels) for n, side in zip(channels.shape[1:], size, strict=True))
    large = down @ (channels @ across.T)
    low, high = large.amin(dim=(1, 2), keepdim=True), large.amax(dim=(1, 2), keepdim=True)
    return large.sub_(low).div_(high - low + 1e-8)


@lru_cache(maxsize=8)
def corner_aligned(cells: int, side: int) -> Tensor:
    """Return the matrix side×cells that enlarges a row of cells, the outer cells at the outer pixels."""
    at = torch.linspace(0, cells - 1, side, dtype=torch.float64)
    return (1 - (at[:, None] - torch.arange(cells)).abs()).clamp(min=0).float()


EXPLAINERS: tuple[Explainer, ...] = (ScoreCam(),)
