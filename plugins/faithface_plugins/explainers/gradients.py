"""Gradient explainers: saliency, input-x-gradient, smoothgrad, integrated-gradients, guided-backprop.

Place in the flow: registered by the package; captum's attributions on the model's torch twin.
They need a twin; on a model without one they are not applicable.

All of them share these decisions:

* The gradient is that of the explained scalar (classifiers: the logit of the predicted class; pairs: the cosine to the
  partner's clean embedding) with respect to the pixels in [0, 1], not to the normalised tensor. For a standard
  deviation that is the same for all channels the two differ by a constant factor.
* Three colour channels become one number per pixel by ``channels``: ``sum`` keeps the sign; ``abs-of-sum``,
  ``sum-of-abs`` and ``max-of-abs`` do not. The papers do not specify this; each has the default of its source.
* Pairs with ``sum``: the positive part is similarity, the negative part dissimilarity. With the others the map has no
  sign, and the
  two are the same map: the size of a gradient is the same for the cosine and its negation.
* No smoothing, no scaling, no clipping of outliers: these are for display.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from faithface.contract import Explainer, FaceModel, Maps, Method, Samples
from faithface.errors import NotApplicable
from faithface.lazy import torch
from faithface.seeds import rng_for
from faithface_plugins.explainers.common import (
    Channels,
    Fill,
    chunks,
    fill_color,
    reduce_channels,
    unsigned_maps,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

# Images in one pass of the twin; a backward pass keeps every activation in memory, so fewer than in a forward pass.
GRADIENT_CHUNK = 32

# Integrated gradients with a tolerance double their points at most four times.
MOST_STEPS = 16

# Operators that bend a signal as ReLU does, and that guided backpropagation does not change.
NOT_GUIDED = frozenset(
    {"Celu", "Clip", "Elu", "Erf", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "PRelu", "Selu", "Sigmoid"}
    | {"Softplus", "Softsign", "Swish", "Tanh", "ThresholdedRelu"}
)


def explain_by_attribution(
    model: FaceModel, samples: Samples, channels: Channels, attribute: Callable[[nn.Module, Tensor, Tensor], Tensor]
) -> Maps:
    """Explain a batch by ``attribute(scalar, images, rows) -> attributions n×3×H×W``, called on parts of the batch."""
    from faithface_plugins.explainers.explained_scalar import ExplainedScalar

    views = samples.views()
    scalar = ExplainedScalar(model, views)
    rows = torch.arange(len(views.images), device=views.images.device)
    with warnings.catch_warnings():
        # captum warns about requiring gradients of its input, and about the hooks that it sets and removes.
        warnings.simplefilter("ignore", UserWarning)
        parts = [
            reduce_channels(attribute(scalar, views.images[part].detach(), rows[part]).detach(), channels)
            for part in chunks(len(rows), GRADIENT_CHUNK)
        ]
    maps = torch.nan_to_num(torch.cat(parts), nan=0.0, posinf=0.0, neginf=0.0)
    return Maps.from_views(maps, samples) if channels == "sum" else unsigned_maps(maps, samples)


def one_by_one(attribute: Callable[[Tensor, int], Tensor], images: Tensor, rows: Tensor) -> Tensor:
    """Attribute the images of a part singly: for methods that make many variants of each image."""
    return torch.cat([attribute(images[i : i + 1], int(row)) for i, row in enumerate(rows)])


@dataclass(frozen=True)
class Saliency(Explainer):
    """Saliency: the size of the gradient at each pixel.

    Formula: max over channels of |∂y/∂x|.

    Parameters:
        channels: ``max-of-abs`` (the paper's); see the module for the others.

    Source: Simonyan et al. 2013, arXiv:1312.6034; captum's Saliency. Cost: 1 forward, 1 backward pass per image. Not
    specified: pairs (see the module).
    """

    channels: Channels = "max-of-abs"

    method = Method(
        name="saliency",
        needs=frozenset({"gradients"}),
        source="Simonyan et al. 2013, arXiv:1312.6034",
        promises=frozenset({"translation"}),
    )

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        from captum.attr import Saliency as CaptumSaliency

        def attribute(scalar: nn.Module, images: Tensor, rows: Tensor) -> Tensor:
            return CaptumSaliency(scalar).attribute(images, abs=False, additional_forward_args=(rows,))

        return explain_by_attribution(model, samples, self.channels, attribute)


@dataclass(frozen=True)
class InputXGradient(Explainer):
    """Input times gradient: each pixel's share in the score of a network that is linear around the image.

    Formula: Σ over channels of x · ∂y/∂x, x in [0, 1]. Black pixels get 0 whatever their gradient.

    Parameters:
        channels: ``sum`` (keeps the sign and the total); see the module for the others.

    Source: Shrikumar et al. 2016, arXiv:1605.01713; captum's InputXGradient. Cost: 1 forward, 1 backward pass per
    image. Not
    specified: the origin of x, here black; on the normalised tensor it would be the mean colour.
    """

    channels: Channels = "sum"

    method = Method(
        name="input-x-gradient",
        needs=frozenset({"gradients"}),
        source="Shrikumar et al. 2016, arXiv:1605.01713",
        promises=frozenset({"translation"}),
    )

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        from captum.attr import InputXGradient as CaptumInputXGradient

        def attribute(scalar: nn.Module, images: Tensor, rows: Tensor) -> Tensor:
            return CaptumInputXGradient(scalar).attribute(images, additional_forward_args=(rows,))

        return explain_by_attribution(model, samples, self.channels, attribute)


@dataclass(frozen=True)
class SmoothGrad(Explainer):
    """SmoothGrad: the gradient averaged over noisy copies of the image.

    Formula: (1/n)·Σ_i ∂y/∂x at x + ε_i, ε_i ~ N(0, (sigma·(max x − min x))²) per pixel and channel, then reduced over
    channels.

    Parameters:
        noisy: 25, n.
        sigma: 0.15, the standard deviation as a share of the image's own range.
        channels: ``sum-of-abs`` (the authors' code); see the module for the others.

    Source: Smilkov et al. 2017, arXiv:1706.03825; the authors' code for the defaults. Cost: ``noisy`` forward and
    backward passes per image. Not specified: the authors' code averages squares by default, the paper (followed here)
    does not; captum's default noise is 5 copies of absolute standard deviation 1. The gradient is captum's; the noise
    is drawn here from the sample's seed, because captum's comes from torch's global generator and so depends on the
    device and on what ran before. Noisy pixels may leave [0, 1]. A constant image has range 0: its map is the plain
    gradient.
    """

    noisy: int = 25
    sigma: float = 0.15
    channels: Channels = "sum-of-abs"

    method = Method(
        name="smoothgrad",
        needs=frozenset({"gradients"}),
        seeded=True,
        source="Smilkov et al. 2017, arXiv:1706.03825",
    )

    def __post_init__(self) -> None:
        if self.noisy < 1:
            raise ValueError(f"noisy is {self.noisy}; expected at least 1 copy")
        if self.sigma < 0:
            raise ValueError(f"sigma is {self.sigma}; expected a share of the image's range, at least 0")

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        from captum.attr import Saliency as CaptumSaliency

        ids = samples.views().seed_ids

        def attribute(scalar: nn.Module, images: Tensor, rows: Tensor) -> Tensor:
            def one(image: Tensor, row: int) -> Tensor:
                noise = self.noise(samples, ids[row], tuple(image.shape[1:])).to(image)
                copies = image + noise * (image.max() - image.min())
                gradients = [
                    CaptumSaliency(scalar).attribute(
                        copies[part], abs=False, additional_forward_args=(rows.new_full((len(copies[part]),), row),)
                    )
                    for part in chunks(self.noisy, GRADIENT_CHUNK)
                ]
                return torch.cat(gradients).mean(dim=0, keepdim=True)

            return one_by_one(one, images, rows)

        return explain_by_attribution(model, samples, self.channels, attribute)

    def noise(self, samples: Samples, seed_id: str, shape: tuple[int, ...]) -> Tensor:
        """Return the noise of one view before it is scaled to the image's range: float32 noisy×3×H×W."""
        rng = rng_for(samples.seed, seed_id, "smoothgrad")
        return self.sigma * torch.from_numpy(rng.standard_normal((self.noisy, *shape), dtype="float32"))


@dataclass(frozen=True)
class IntegratedGradients(Explainer):
    """Integrated gradients: the gradient averaged on the straight line from a baseline, times the difference from it.

    Formula: (x − b) · ∫₀¹ ∂y/∂x at b + t·(x − b) dt, by Gauss-Legendre quadrature, summed over channels. The map sums
    to y(x) − y(b) up to the quadrature's error.

    Parameters:
        steps: 50, points of the quadrature.
        baseline: ``black`` (0 in pixel space) or ``mean`` (the card's mean colour, 0 of the normalised tensor).
        channels: ``sum`` (keeps the sign and the total); see the module for the others.
        tolerance: 0: ``steps`` points for every image. Above 0: an image whose completeness gap is larger is repeated
            with twice as many points, up to 16 · ``steps``.

    The completeness gap of an image is |Σ map − (y(x) − y(b))| / |y(x) − y(b)|, before the colours are reduced. The
    note holds ``completeness_gap``, its mean over the batch, and with a tolerance ``steps``, the mean number of points
    of the maps returned. At 50 points a gap of 0.1 is not rare.

    Source: Sundararajan et al., ICML 2017, arXiv:1703.01365; captum's IntegratedGradients. Cost: ``steps`` forward and
    backward passes per image, with a tolerance up to 31 · ``steps``; the gap takes one forward pass of the baseline per
    model, which the meter does not count. Not specified: the baseline; other libraries use 25 steps with both ends at
    full weight.
    """

    steps: int = 50
    baseline: Fill = "black"
    channels: Channels = "sum"
    tolerance: float = 0.0

    method = Method(
        name="integrated-gradients",
        needs=frozenset({"gradients"}),
        source="Sundararajan et al. 2017, arXiv:1703.01365",
        promises=frozenset({"completeness", "translation"}),
    )

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; expected at least 1")
        if not 0 <= self.tolerance < 1:
            raise ValueError(f"tolerance is {self.tolerance}; expected a share of y(x) − y(b) below 1, or 0 for none")

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        from captum.attr import IntegratedGradients as CaptumIntegratedGradients

        baseline = baseline_images(model, self.baseline).to(samples.images)
        rises = rises_from(model, samples, self.baseline)
        gaps, used = [], []

        def attribute(scalar: nn.Module, images: Tensor, rows: Tensor) -> Tensor:
            def integrate(image: Tensor, row: int, steps: int) -> Tensor:
                return CaptumIntegratedGradients(scalar).attribute(
                    image,
                    baselines=baseline,
                    additional_forward_args=(rows.new_full((1,), row),),
                    n_steps=steps,
                    method="gausslegendre",
                    internal_batch_size=GRADIENT_CHUNK,
                )

            def one(image: Tensor, row: int) -> Tensor:
                steps, rise = self.steps, float(rises[row])
                while True:
                    found = integrate(image, row, steps)
                    gap = abs(float(found.double().sum()) - rise) / (abs(rise) or 1.0)
                    if not self.tolerance or gap <= self.tolerance or steps >= MOST_STEPS * self.steps:
                        gaps.append(gap)
                        used.append(steps)
                        return found
                    steps *= 2

            return one_by_one(one, images, rows)

        maps = explain_by_attribution(model, samples, self.channels, attribute)
        note: dict[str, float] = {"completeness_gap": sum(gaps) / len(gaps)}
        if self.tolerance:
            note["steps"] = sum(used) / len(used)
        return replace(maps, note={**maps.note, **note})

    def promised_sum(self, model: FaceModel, samples: Samples) -> Tensor | None:
        """The rise of the score from the baseline to the image; no promise where the sum loses its sign."""
        return rises_from(model, samples, self.baseline) if self.channels == "sum" else None


def rises_from(model: FaceModel, samples: Samples, fill: Fill) -> Tensor:
    """Return y(x) − y(b) of each view of a batch, float64 M, y being the explained scalar and b the baseline."""
    views = samples.views()
    clean = views.target.score(model.card, samples.clean.outputs.reshape(len(views.images), -1))
    start = model.cached(baseline_outputs, fill).to(clean).expand(len(clean), -1)
    rises = (clean - views.target.score(model.card, start)).double()
    saturated = getattr(views.target, "saturated", None)
    if saturated is not None and bool(saturated.any()):  # explained by log-odds, which outputs of 1.0 do not tell
        black = baseline_images(model, fill).to(views.images)
        with torch.no_grad():
            for row in saturated.nonzero().flatten().tolist():
                target = views.target.take(slice(row, row + 1))
                ends = [float(model.explained(image, target)) for image in (views.images[row : row + 1], black)]
                rises[row] = ends[0] - ends[1]
    return rises


def baseline_images(model: FaceModel, fill: Fill) -> Tensor:
    """Return the baseline as one image, 1×3×H×W."""
    return fill_color(model.card.input, fill).expand(1, 3, *model.size).contiguous()


def baseline_outputs(model: FaceModel, fill: Fill) -> Tensor:
    """Return the raw outputs of the baseline, 1×K, without counting the pass: which batch comes first is arbitrary."""
    forward = model.passes.forward
    outputs = model.outputs(baseline_images(model, fill).to(model.device))
    model.count(forward=forward - model.passes.forward)
    return outputs


@dataclass(frozen=True)
class GuidedBackprop(Explainer):
    """Guided backpropagation: the gradient with negative parts cut off at every ReLU on the way back.

    Formula: as the gradient, but each ReLU also passes back only what is positive.

    Parameters:
        channels: ``max-of-abs``; see the module for the others.

    Source: Springenberg et al. 2014, arXiv:1412.6806; captum's GuidedBackprop. Cost: 1 forward, 1 backward pass per
    image. Not specified: the reduction over channels, and networks whose activation is not ReLU: with another one
    (PReLU, GELU) nothing would be cut and the map would be saliency under another name, so a network without any ReLU
    is not applicable. Where only some activations are ReLU, the others pass the plain gradient, and the note names
    them: ``not_guided``, their ONNX operators (``Clip`` is ReLU6). Known to depend little on
    the network's weights (Adebayo et al. 2018).

    Raises:
        NotApplicable: the network has no ReLU.
    """

    channels: Channels = "max-of-abs"

    method = Method(
        name="guided-backprop",
        needs=frozenset({"gradients"}),
        source="Springenberg et al. 2014, arXiv:1412.6806",
    )

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        from captum.attr import GuidedBackprop as CaptumGuidedBackprop

        if not any(isinstance(module, torch.nn.ReLU) for module in model.twin.modules()):
            raise NotApplicable(
                f'model "{model.card.name}" has no ReLU: guided-backprop would be the plain gradient; use saliency'
            )

        def attribute(scalar: nn.Module, images: Tensor, rows: Tensor) -> Tensor:
            return CaptumGuidedBackprop(scalar).attribute(images, additional_forward_args=(rows,))

        maps = explain_by_attribution(model, samples, self.channels, attribute)
        others = not_guided(model)
        return replace(maps, note={**maps.note, "not_guided": ", ".join(others)}) if others else maps


def not_guided(model: FaceModel) -> list[str]:
    """Return the activation operators of the network that are not ReLU, by name; a sigmoid on the output does not
    count.

    A model whose twin is not derived from an ONNX graph is not examined: empty.
    """
    graph = getattr(getattr(getattr(model.twin, "network", None), "onnx_model", None), "graph", None)
    if graph is None:
        return []
    ends = {output.name for output in graph.output}
    return sorted({n.op_type for n in graph.node if n.op_type in NOT_GUIDED and not ends & set(n.output)})


EXPLAINERS: tuple[Explainer, ...] = (
    Saliency(),
    InputXGradient(),
    SmoothGrad(),
    IntegratedGradients(),
    GuidedBackprop(),
)
