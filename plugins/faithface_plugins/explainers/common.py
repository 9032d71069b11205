"""What the explainers of this package share: scoring by ONNX Runtime, fills, reduction of channels, building maps.

Place in the flow: imported by the explainers beside it; may call ``faithface.contract``, ``tasks``, ``card``,
``errors``. Registers nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from faithface.card import InputCard, ModelCard
from faithface.contract import FaceModel, Maps, Samples
from faithface.errors import NotApplicable
from faithface.lazy import torch
from faithface.tasks import ClassTarget, Target, class_probabilities

if TYPE_CHECKING:
    from torch import Tensor

    from faithface.model.twin import Twin

Fill = Literal["black", "mean"]
Score = Literal["probability", "logit"]
Channels = Literal["sum", "abs-of-sum", "sum-of-abs", "max-of-abs"]


def chunks(n: int, size: int) -> Iterator[slice]:
    """Yield consecutive slices of at most ``size`` that cover ``range(n)``."""
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def scores_of(card: ModelCard, outputs: Tensor, target: Target, score: Score = "logit") -> Tensor:
    """Return the explained scalar of several altered versions of one image: float32 N.

    Args:
        outputs: of the altered images, N×K.
        target: of that image: one row.
        score: for classifiers, the logit of the target's class or its probability; for pairs it is the cosine.
    """
    rows = target.take(torch.zeros(len(outputs), dtype=torch.int64, device=outputs.device))
    return scalar_of(card, outputs, rows, score)


def scalar_of(card: ModelCard, outputs: Tensor, target: Target, score: Score = "logit") -> Tensor:
    """Turn raw outputs N×K into the explained scalar of each: float32 N."""
    if score == "probability" and isinstance(target, ClassTarget):
        probabilities = class_probabilities(card, outputs)
        return probabilities.gather(1, target.classes.to(probabilities.device)[:, None]).squeeze(1)
    return target.score(card, outputs)


def fill_color(card: InputCard, fill: Fill) -> Tensor:
    """Return the RGB colour, float32 3×1×1 in [0, 1], that means "removed".

    ``black`` is 0. ``mean`` is the card's mean, which normalisation maps to 0: blending an image towards it is the same
    as multiplying the normalised tensor by the mask, which is what most reference code does.
    """
    if fill == "black":
        return torch.zeros(3, 1, 1)
    mean = torch.tensor(card.mean if len(card.mean) > 1 else card.mean * 3, dtype=torch.float32)
    mean = mean.flip(0) if card.color == "BGR" else mean
    return mean.clamp(0, 1)[:, None, None]


def reduce_channels(attribution: Tensor, channels: Channels) -> Tensor:
    """Reduce an attribution M×3×H×W to one number per pixel, M×H×W."""
    if channels == "sum":
        return attribution.sum(dim=1)
    if channels == "abs-of-sum":
        return attribution.sum(dim=1).abs()
    if channels == "sum-of-abs":
        return attribution.abs().sum(dim=1)
    return attribution.abs().amax(dim=1)


def unsigned_maps(single: Tensor, samples: Samples, native: Tensor | None = None, **note: Any) -> Maps:
    """Build maps from one map per view, M×H×W, that shows how much a pixel matters but not for which decision.

    Pairs: similarity and dissimilarity are the same map, because a method without a sign cannot distinguish
    them.
    """
    single = single.detach().to(torch.float32)
    if not samples.are_pairs:
        return Maps(relevance=single, native=native, note=note)
    both = single.unflatten(0, (len(samples), 2)).clamp(min=0)
    small = None if native is None else native.unflatten(0, (len(samples), 2))
    return Maps(similarity=both, dissimilarity=both.clone(), native=small, note=note)


def core_twin(model: FaceModel) -> Twin:
    """Return the model's twin where it is faithface's own, whose layers can be exchanged during a pass.

    Raises:
        NotApplicable: the model has no twin, or one that is not faithface's.
    """
    from faithface.model.twin import Twin

    twin = model.twin
    if not isinstance(twin, Twin):
        raise NotApplicable(
            f'model "{model.card.name}" has a twin of its own ({type(twin).__name__}) without named layers'
        )
    return twin
