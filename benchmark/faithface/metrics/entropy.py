"""Spatial entropy of a map. Place in the flow: a metric on maps alone; calls only ``_maps`` and the contract."""

from __future__ import annotations

import math
from dataclasses import dataclass

from faithface.contract import Explainer, FaceModel, Maps, Metric, Protocol, Samples, Scores
from faithface.lazy import torch
from faithface.metrics import _maps


@dataclass(frozen=True)
class Entropy(Metric):
    """Entropy of the map seen as a distribution over places.

    Formula
        p = |m| / Σ|m| over the H·W pixels of the map at the model's input size;
        value = −Σ p·log2(p) / log2(H·W), with 0·log2(0) = 0.

    Parameters
        ``grid``: 0 = pixels (default); G = the map is averaged on a G×G grid first, and log2(G²) takes the place of
        log2(H·W), so that maps of different granularity can be compared.

    Range and direction
        0 (all relevance on one pixel) to 1 (spread evenly). Lower is better, in the sense of more concentrated. The
        best value is 0.0. It says nothing about whether the place is right: one random pixel scores 0.

    Which maps
        Classifiers: the relevance map, by absolute value. Pairs: the probe's similarity map on genuine pairs, the
        probe's dissimilarity map on impostor pairs.

    Special cases
        A constant map is spread evenly and scores 1 (an empty one too, as the limit of ever smaller constants); it is
        flagged. A map with values that are not finite, and a map of a single pixel or cell, have no value.

    Differs from other libraries
        Division by log2(H·W) makes sizes comparable; Quantus' Complexity, xplique and xaitk do not divide, and use the
        natural logarithm (xaitk: bits), so that their value grows with the image. xaitk subtracts the minimum where
        this protocol takes absolute values, and returns NaN on a constant map. It is not the entropy of 2303.11969,
        which is one of grey levels, not of places: that is ``histogram-entropy@1``.

    Known weaknesses
        An upsampled 7×7 map cannot be as concentrated as a pixel-level one: compare such explainers with ``grid=7``.
        Rewards maps that leave evidence out.

    Cost
        No forward passes.

    Source
        Bhatt, Weller and Moura, 2020 (complexity), normalised here.
    """

    protocol = Protocol(
        id="entropy@1",
        question="Over how much of the image does the explanation spread?",
        better="lower",
        family="description",
        range=(0.0, 1.0),
        best=0.0,
        source="Bhatt et al., Evaluating and Aggregating Feature-based Model Explanations, IJCAI 2020; normalised here",
    )

    grid: int = 0

    def __post_init__(self) -> None:
        _maps.check_grid(self.grid)

    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        chosen = _maps.judged(samples, maps)
        reasons = _maps.invalid(chosen)
        mass = _maps.on_grid(_maps.finite(chosen).abs(), self.grid).flatten(1)
        pixels = mass.shape[1]
        if pixels == 1:
            reasons = dict.fromkeys(range(len(samples)), _maps.ONE_CELL)
        # Dividing by the largest value first keeps the sum of tiny maps away from zero.
        mass = mass / mass.amax(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
        total = mass.sum(dim=1, keepdim=True)
        p = torch.where(total > 0, mass / total.clamp(min=1), torch.full_like(mass, 1 / pixels))
        bits = -torch.special.xlogy(p, p).sum(dim=1) / math.log(max(pixels, 2))
        return _maps.result({"": _maps.to_numpy(bits.clamp(0, 1))}, reasons, _maps.constant(chosen))
