"""FAME: move the image along its own gradient and show where it had to change.

Place in the flow: registered through ``verification``; calls ``FaceModel.gradient`` and ``pair_common``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from faithface.contract import Explainer, FaceModel, Maps, Method, Samples
from faithface.lazy import torch
from faithface.tasks import PairTarget, pair_similarity
from faithface_plugins.explainers.pair_common import pair_maps, partners, require_cosine, require_pairs, scaled, smooth

if TYPE_CHECKING:
    from torch import Tensor

GREY = (0.2989, 0.587, 0.114)
PIXEL = 1 / 255
STOP = 0.01

# A gradient of the cosine this small is rounding noise (two identical images), which must not become a direction.
NO_GRADIENT = 1e-7


@dataclass(frozen=True)
class Fame(Explainer):
    """FAME: the accumulated change of a face that is driven towards another decision.

    Formula, for image A with partner B and s(x) = cosine(f(x), f(B))::

        x ← x − (1/255) · g / max|g|,  g = ∂L/∂x,  starting from x = A, for ``steps`` steps
        similarity:     L = s(x)        lower the similarity: the changed pixels made the faces alike
        dissimilarity:  L = 1 − s(x)    raise it: the changed pixels set them apart
        map = |grey(x) − grey(A)| / max, then smoothed

    and the same for B with the roles swapped. The largest change per step is one grey level; x is not clamped to
    [0, 1]. An image stops early when its L falls below 0.01, or when it has no gradient (an identical partner).

    Parameters:
        steps: iterations of each of the two walks.
        smoothing: σ of a Gaussian in pixels at 112×112, scaled with the shorter side; 0: none. It is cut off at 2.4 σ;
            the border is torchvision's ``reflect`` (scipy's ``mirror``).

    Source: "FAME" (CVPRW XAI4CV 2026), arXiv:2605.12017, and its authors' code. Cost per image, at ``steps`` = n: up to
    2n backward and 4n forward passes (n gradients and n scores for the early stop, in both walks).

    Not specified, or chosen here: the authors' default is 500 steps, but they call 75 to 200 enough; 75 is the default
    here, because cost is linear in the steps. σ = 5 is their setting for faces (7.7 for larger images). Their last
    min-max scaling changes no ranking and is omitted, so the map of an image that never changed is 0.
    """

    steps: int = 75
    smoothing: float = 5.0

    method = Method(
        name="fame",
        tasks=frozenset({"verification"}),
        needs=frozenset({"gradients"}),
        source="FAME, CVPRW 2026, arXiv:2605.12017",
    )

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; expected at least 1")
        if self.smoothing < 0:
            raise ValueError(f"smoothing is {self.smoothing}; expected σ in pixels, at least 0")

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        require_pairs(self.name, samples)
        require_cosine(self.name, model)
        images = samples.images.flatten(0, 1)
        reference = partners(samples.clean.outputs.flatten(0, 1))
        sigma = scaled(self.smoothing, model)
        similarity = smooth(self._walk(model, images, reference, -1.0), sigma)
        dissimilarity = smooth(self._walk(model, images, reference, 1.0), sigma)
        return pair_maps(similarity, dissimilarity)

    def _walk(self, model: FaceModel, images: Tensor, reference: Tensor, direction: float) -> Tensor:
        """Return where the images change, M×H×W in [0, 1], when the similarity is driven down (−1) or up (+1)."""
        x = images.clone()
        going = torch.arange(len(x), device=x.device)
        for _ in range(self.steps):
            score = pair_similarity(model.card, model.embeddings(x[going]), reference[going])
            loss = score if direction < 0 else 1 - score
            going = going[loss >= STOP]
            if not len(going):
                break
            gradient = model.gradient(x[going], PairTarget(reference[going])).nan_to_num(0.0, 0.0, 0.0)
            largest = gradient.abs().amax(dim=(1, 2, 3), keepdim=True)
            usable = largest > NO_GRADIENT
            x[going] += direction * PIXEL * torch.where(usable, gradient / largest.clamp(min=NO_GRADIENT), 0.0)
            going = going[usable.flatten()]
            if not len(going):
                break
        grey = images.new_tensor(GREY)[:, None, None]
        change = ((x * grey).sum(dim=1) - (images * grey).sum(dim=1)).abs()
        largest = change.amax(dim=(1, 2), keepdim=True)
        return change / torch.where(largest > 0, largest, 1.0)


EXPLAINERS: tuple[Explainer, ...] = (Fame(),)
