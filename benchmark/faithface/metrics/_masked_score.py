"""The score of the image multiplied by its own map: what ``average_drop`` and ``average_increase`` share.

Place in the flow: called by both, computed once for both; calls ``_maps``, ``_forward`` and the contract.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from faithface.card import InputCard
from faithface.contract import FaceModel, Maps, Samples
from faithface.lazy import torch
from faithface.metrics import _maps
from faithface.metrics._forward import answers, probes
from faithface.reasons import Reason, ReasonCode

if TYPE_CHECKING:
    from torch import Tensor

Toward = Literal["black", "mean"]
NOT_POSITIVE = Reason(ReasonCode.UNDEFINED, "the clean score is not positive, so that a relative change has no meaning")


def masked_scores(model: FaceModel, samples: Samples, maps: Maps, toward: Toward) -> np.ndarray:
    """Return the scores, float64 N, of image·m + colour·(1 − m), with m the judged map scaled to [0, 1].

    One forward pass per sample, shared by all metrics that ask on these maps.
    """
    return maps.cached(_masked_scores, samples, model, toward)


def _masked_scores(maps: Maps, samples: Samples, model: FaceModel, toward: Toward) -> np.ndarray:
    weight = unit_range(_maps.finite(_maps.judged(samples, maps)))[:, None]
    images = probes(samples)
    colour = torch.zeros(3) if toward == "black" else normalised_zero(model.card.input)
    faded = images * weight + colour.to(images)[:, None, None] * (1 - weight)
    return answers(model, samples, [faded], f"images faded by the map toward {toward}").scores[0]


def unit_range(values: Tensor) -> Tensor:
    """Return maps N×H×W scaled by their minimum and maximum to [0, 1]; a constant map becomes 0."""
    low, high = values.amin(dim=(1, 2), keepdim=True), values.amax(dim=(1, 2), keepdim=True)
    spread = torch.where(high > low, high - low, torch.ones_like(high))
    return (values - low) / spread


def normalised_zero(card: InputCard) -> Tensor:
    """Return the RGB colour that the card's normalisation maps to 0."""
    mean = list(card.mean) * (3 // len(card.mean))
    return torch.tensor(mean[::-1] if card.color == "BGR" else mean)
