"""The losses of the zoo: ArcFace's additive angular margin, and CYBORG's cross-entropy with salience guidance.

Place in the flow: called by ``loops.py``; imports torch only.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class ArcFaceHead(nn.Module):
    """Additive angular margin loss (Deng et al. 2019): cross-entropy on s · cos(θ + m) for the own class.

    Args:
        dimensions: length of the embedding.
        classes: number of identities.
        scale: s.

    The margin m (radians) is given per call, so that a training can raise it from 0.
    """

    def __init__(self, dimensions: int, classes: int, scale: float = 24.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, dimensions))
        nn.init.xavier_normal_(self.weight)
        self.scale = scale

    def forward(self, embeddings: Tensor, labels: Tensor, margin: float) -> Tensor:
        cosines = functional.linear(functional.normalize(embeddings), functional.normalize(self.weight))
        own = cosines.gather(1, labels[:, None]).clamp(-1 + 1e-6, 1 - 1e-6)
        sines = (1 - own * own).sqrt()
        shifted = own * math.cos(margin) - sines * math.sin(margin)
        # Past θ = π − m the shifted cosine would rise again; ArcFace's linear continuation keeps it falling.
        shifted = torch.where(own > -math.cos(margin), shifted, own - math.sin(margin) * margin)
        return functional.cross_entropy(self.scale * cosines.scatter(1, labels[:, None], shifted), labels)


def min_max(maps: Tensor) -> Tensor:
    """Scale each map of N×h×w to [0, 1]; a constant map becomes 0."""
    flat = maps.flatten(1)
    low, high = flat.min(dim=1).values, flat.max(dim=1).values
    return (maps - low[:, None, None]) / (high - low).clamp(min=1e-6)[:, None, None]


def cam_guidance(cams: Tensor, human: Tensor) -> Tensor:
    """Mean squared error between min-max normalised maps and an annotator's salience.

    Args:
        cams: N×h×w, the class activation map of the predicted class.
        human: N×h×w in [0, 1]; an image whose map is all zero has no annotation and does not count.

    Returns:
        scalar; 0 where no image is annotated.
    """
    known = human.flatten(1).amax(dim=1) > 0
    error = (min_max(cams) - human).square().mean(dim=(1, 2))
    return (error * known).sum() / known.sum().clamp(min=1)


def cyborg(logits: Tensor, cams: Tensor, human: Tensor, labels: Tensor, weight: float = 0.5) -> Tensor:
    """CYBORG (Boyd et al. 2023): (1 − weight) · cross-entropy + weight · :func:`cam_guidance`."""
    return (1 - weight) * functional.cross_entropy(logits, labels) + weight * cam_guidance(cams, human)
