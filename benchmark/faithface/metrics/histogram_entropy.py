"""Entropy of a map's grey levels, as Explain To Me measures it.

Place in the flow: a metric on maps alone; calls only ``_maps`` and the contract.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from faithface.contract import Explainer, FaceModel, Maps, Metric, Protocol, Samples, Scores
from faithface.lazy import torch
from faithface.metrics import _maps

if TYPE_CHECKING:
    from torch import Tensor

# A map that was stored in 8 bits and read back may lie a rounding below its level: without this it would fall to the
# next lower one (float32 leaves up to 1.5e-5 of a level).
GUARD = 1e-4


def eight_bit(values: Tensor) -> np.ndarray:
    """Return maps N×h×w as uint8: positive part, min-max to [0, 1], times 255, truncated; constant maps become 0."""
    positive = values.detach().double().clamp(min=0)
    low, high = positive.amin(dim=(1, 2), keepdim=True), positive.amax(dim=(1, 2), keepdim=True)
    spread = torch.where(high > low, high - low, torch.ones_like(high))
    return torch.floor(255 * (positive - low) / spread + GUARD).to(torch.uint8).cpu().numpy()


def bits(levels: np.ndarray) -> float:
    """Return the Shannon entropy, base 2, of the frequencies of the values of an array."""
    _, counts = np.unique(levels, return_counts=True)
    p = counts / counts.sum()
    return float(-(p * np.log2(p)).sum()) + 0.0


@dataclass(frozen=True)
class HistogramEntropy(Metric):
    """Entropy of the grey levels of the 8-bit map, at the map's native size.

    Formula
        The map of m×n cells before any upsampling: positive part, min-max to [0, 1], times 255, truncated to 8 bits.
        p_v = share of cells with value v; value = −Σ p_v·log2(p_v) / log2(min(256, m·n)).
        For a 7×7 map the divisor is log2(49) = 5.614.

    Range and direction
        0 (one grey level) to 1 (all levels different). Lower is better, as in the paper. The best value is 0.0.

    Which maps
        Classifiers: the relevance map. Pairs: the probe's similarity map on genuine pairs. The native map where the
        explainer has one (CAMs: the layer's own size), else the map at the model's input size.

    Special cases
        A constant map is all 0 in 8 bits, has the value 0 and is flagged; in the paper's own pipeline it was skipped.
        A map with values that are not finite, and a map of a single cell, have no value.

    Differs from other libraries
        It is not a spatial entropy: moving the cells about changes nothing, one hot cell of 49 scores 0.026 and an even
        ramp scores 1. ``entropy@1`` is the spatial one. On an upsampled map the paper's fixed divisor 5.614 gives
        values above 1 (a repackaging of its code prints 1.293 so); here the divisor follows the size of the map.

    Known weaknesses
        Says nothing of place. Depends on the map's native size through the number of levels that can occur, and on how
        the explainer rectifies: 8 bits are taken of the positive part only.

    Cost
        No forward passes.

    Source
        Explain To Me (2303.11969), measure (a). Its stored map of one FFHQ face scores 0.542, here too.
    """

    protocol = Protocol(
        id="histogram-entropy@1",
        question="How evenly are the grey levels of the stored map used? In the paper: how unspecific is the salience?",
        better="lower",
        family="description",
        range=(0.0, 1.0),
        best=0.0,
        judged_on="genuine",
        source=(
            "Crum et al., Explain To Me: Salience-Based Explainability for Synthetic Face Detection Models, 2303.11969"
        ),
    )

    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        if maps.native is None:
            native = _maps.pick(maps, ("similarity" if maps.are_pairs else "relevance",) * len(samples))
        else:
            native = maps.native[:, 0] if maps.native.ndim == 4 else maps.native
        reasons = _maps.invalid(native)
        cells = native[0].numel() if len(native) else 1
        if cells == 1:
            reasons = dict.fromkeys(range(len(samples)), _maps.ONE_CELL)
        levels = eight_bit(_maps.finite(native))
        most = np.log2(max(2, min(256, cells)))
        values = np.array([bits(one) for one in levels]) / most
        return _maps.result({"": values}, reasons, _maps.constant(native.clamp(min=0)))
