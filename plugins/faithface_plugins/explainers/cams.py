"""The gradient CAMs: grad-cam, grad-cam++, hirescam, xgrad-cam, layer-cam, eigen-cam.

Place in the flow: registered by the package; calls ``FaceModel.activations`` (one forward and one backward pass, which
the model remembers for the batch, so that all six cost one pass when they run one after another) and ``cam_math``.

All of them share these decisions:

* Classifiers explain the logit of the class predicted on the clean image. The map is ReLU, min-max (epsilon 1e-7),
  bilinear resize with half-pixel centres to the input size, ReLU, min-max: pytorch-grad-cam's order, whose values they
  reproduce.
* Pairs explain the cosine (or whichever similarity the card names) to the partner's clean embedding, which is
  held fixed. The similarity map is the CAM of the cosine, the dissimilarity map the CAM of the negated cosine (the same
  activations, negated gradients). Both are divided by the larger of their two maxima, so that their proportion
  survives; no minimum is subtracted.
* ``native`` is the map at the layer's own size (pairs: of similarity).
* The layer is the parameter ``layer``, else the card's ``explain.layer``, else the automatic choice; it is in the note.
  In a vision transformer it is a grid of tokens.
* Where a map is undefined (0/0, no positive evidence at all) it is 0, a constant map.

Source of the family's differences: pytorch-grad-cam and torch-cam differ in Grad-CAM++'s α and in whether maps are
resized at all; faithface follows pytorch-grad-cam.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from faithface.contract import Explainer, FaceModel, Maps, Method, Samples
from faithface.lazy import torch
from faithface_plugins.explainers import cam_math
from faithface_plugins.explainers.common import unsigned_maps

if TYPE_CHECKING:
    from torch import Tensor


def cam_maps(samples: Samples, size: tuple[int, int], positive: Tensor, negative: Tensor | None, layer: str) -> Maps:
    """Turn coarse signed CAMs (one per view, M×h×w) into maps.

    Args:
        samples: the batch that they explain.
        size: the model's input size.
        positive: the CAM of the target.
        negative: the CAM of the negated target; needed for pairs only.
        layer: for the note.
    """
    if not samples.are_pairs:
        full, small = cam_math.classifier_maps(positive, size)
        return Maps(relevance=full, native=small, note={"layer": layer})
    assert negative is not None
    n = len(samples)
    similarity, dissimilarity, small = (m.unflatten(0, (n, 2)) for m in cam_math.pair_maps(positive, negative, size))
    return Maps(similarity=similarity, dissimilarity=dissimilarity, native=small, note={"layer": layer})


def explain_by_gradient(
    model: FaceModel, samples: Samples, layer: str, cam: Callable[[Tensor, Tensor], Tensor]
) -> Maps:
    """Explain a batch by a function of activations and gradients."""
    views = samples.views()
    seen = model.activations(views.images, views.target, layer or None)
    assert seen.gradients is not None
    negative = cam(seen.values, -seen.gradients) if samples.are_pairs else None
    return cam_maps(samples, model.size, cam(seen.values, seen.gradients), negative, seen.layer)


@dataclass(frozen=True)
class GradCam(Explainer):
    """Grad-CAM: each channel weighted by the mean of its gradient.

    Formula: ReLU(Σ_k w_k·A_k), w_k = mean over the grid of ∂y/∂A_k. See the module for target, scaling and resize.

    Parameters:
        layer: name of the layer ("" = the card's, else automatic).

    Source: Selvaraju et al., ICCV 2017, arXiv:1610.02391. Cost: 1 forward, 1 backward pass per image, shared with the
    other gradient CAMs. Not specified by the paper: the resize and its order with the scaling (here as in
    pytorch-grad-cam), the target for pairs (here the cosine).
    """

    layer: str = ""

    method = Method(
        name="grad-cam",
        needs=frozenset({"gradients", "activations"}),
        source="Selvaraju et al. 2017, arXiv:1610.02391",
    )

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        return explain_by_gradient(model, samples, self.layer, cam_math.grad_cam)

    def with_argument(self, argument: str, resolve: Callable[[str], Explainer]) -> Explainer:
        """Return a class of pytorch-grad-cam as an explainer: ``grad-cam:EigenGradCAM``."""
        from faithface_plugins.explainers.bridges import GradCamBridge

        made = GradCamBridge(argument, self.layer)
        made.chosen()
        return made


@dataclass(frozen=True)
class GradCamPlusPlus(Explainer):
    """Grad-CAM++: each channel weighted by its positive gradients, each position with its own coefficient α.

    Formula: ReLU(Σ_k w_k·A_k), w_k = Σ_ij α_ij·ReLU(g_ij), α = g² / (2g² + (Σ_ab A_ab)·g³ + 1e-6), α = 0 where g = 0.
    For the negated target of a pair, g is negated before α.

    Parameters:
        layer: name of the layer ("" = the card's, else automatic).

    Source: Chattopadhay et al., WACV 2018, arXiv:1710.11063. Cost: as Grad-CAM, shared. Not specified: the paper
    derives α for exp(y) and libraries drop that factor; torch-cam puts g³ inside the sum, pytorch-grad-cam (followed
    here) outside. α is not
    homogeneous in g: where gradients are far below 1e-3, as those of a cosine are, the constant 1e-6 dominates and α ≈
    1e6·g². So on pairs the map depends strongly on that stabiliser, which the paper does not have: maps with another
    constant agree with these at a rank correlation of 0.82 to 0.92 only. Compare maps of pairs between libraries, or
    between networks whose gradients differ in size, with that in mind; Grad-CAM and HiResCAM have no such constant.
    """

    layer: str = ""

    method = Method(
        name="grad-cam++",
        needs=frozenset({"gradients", "activations"}),
        source="Chattopadhay et al. 2018, arXiv:1710.11063",
    )

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        return explain_by_gradient(model, samples, self.layer, cam_math.grad_cam_plus_plus)


@dataclass(frozen=True)
class HiResCam(Explainer):
    """HiResCAM: gradient times activation at each position, without averaging the gradient first.

    Formula: ReLU(Σ_k g_k ⊙ A_k).

    Parameters:
        layer: name of the layer ("" = the card's, else automatic).

    Source: Draelos & Carin 2020, arXiv:2011.08891. Cost: as Grad-CAM, shared. Not specified: the paper's guarantee (the
    map sums to the score) holds for the signed map and a head without further non-linearity; the ReLU here is
    pytorch-grad-cam's.
    """

    layer: str = ""

    method = Method(
        name="hirescam",
        needs=frozenset({"gradients", "activations"}),
        source="Draelos & Carin 2020, arXiv:2011.08891",
    )

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        return explain_by_gradient(model, samples, self.layer, cam_math.hires_cam)


@dataclass(frozen=True)
class XGradCam(Explainer):
    """XGrad-CAM: each channel weighted by its gradients in proportion to its activations.

    Formula: ReLU(Σ_k w_k·A_k), w_k = Σ_ij g_ij·A_ij / (Σ_ij A_ij + 1e-7).

    Parameters:
        layer: name of the layer ("" = the card's, else automatic).

    Source: Fu et al., BMVC 2020, arXiv:2008.02312. Cost: as Grad-CAM, shared. Not specified: the paper assumes
    activations after a ReLU; where they have both signs Σ A can be near 0 and one channel can then take over the map.
    Prefer a layer after a ReLU.
    """

    layer: str = ""

    method = Method(
        name="xgrad-cam",
        needs=frozenset({"gradients", "activations"}),
        source="Fu et al. 2020, arXiv:2008.02312",
    )

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        return explain_by_gradient(model, samples, self.layer, cam_math.xgrad_cam)


@dataclass(frozen=True)
class LayerCam(Explainer):
    """LayerCAM: each position of each channel weighted by its own positive gradient.

    Formula: ReLU(Σ_k ReLU(g_k) ⊙ A_k).

    Parameters:
        layer: name of the layer ("" = the card's, else automatic).

    Source: Jiang et al., IEEE TIP 2021 (LayerCAM). Cost: as Grad-CAM, shared. Not specified: the paper fuses several
    layers, libraries in different ways; here it is one layer.
    """

    layer: str = ""

    method = Method(
        name="layer-cam",
        needs=frozenset({"gradients", "activations"}),
        source="Jiang et al. 2021, doi:10.1109/TIP.2021.3089943",
    )

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        return explain_by_gradient(model, samples, self.layer, cam_math.layer_cam)


@dataclass(frozen=True)
class EigenCam(Explainer):
    """Eigen-CAM: the strongest pattern in the activations, whatever the decision.

    Formula: ReLU(± X̄·v_1): X̄ = activations as (h·w)×C rows minus their mean row, v_1 = first right singular vector.

    Parameters:
        layer: name of the layer ("" = the card's, else automatic).

    Source: Muhammad & Yeasin, IJCNN 2020, arXiv:2008.00299. Cost: it needs 1 forward pass; the gradient CAMs' shared
    pass is used, so that a batch explained by all six is run once. Not specified: the sign of v_1 is arbitrary, and
    with the ReLU a wrong one inverts the map. Here the position of the largest magnitude is positive (flip if |min| >
    |max|), as in Seg-Eigen-CAM (Chung & Ying 2025); pytorch-grad-cam's EigenCAM leaves the sign to the SVD. The paper
    does not centre the rows, pytorch-grad-cam (followed here) does. The map knows neither class nor partner: the
    dissimilarity map of a pair equals its similarity map, each scaled to a maximum of 1.
    """

    layer: str = ""

    method = Method(
        name="eigen-cam",
        needs=frozenset({"activations"}),
        source="Muhammad & Yeasin 2020, arXiv:2008.00299",
    )

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        views = samples.views()
        seen = model.activations(views.images, views.target, self.layer or None)
        cam = cam_math.eigen_cam(seen.values)
        if not samples.are_pairs:
            return cam_maps(samples, model.size, cam, None, seen.layer)
        full, _, small = cam_math.pair_maps(cam, torch.zeros_like(cam), model.size)
        return unsigned_maps(full, samples, small, layer=seen.layer)


EXPLAINERS: tuple[Explainer, ...] = (
    GradCam(),
    GradCamPlusPlus(),
    HiResCam(),
    XGradCam(),
    LayerCam(),
    EigenCam(),
)
