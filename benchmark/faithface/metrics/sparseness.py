"""Gini index of a map. Place in the flow: a metric on maps alone; calls only ``_maps`` and the contract."""

from __future__ import annotations

from dataclasses import dataclass

from faithface.contract import Explainer, FaceModel, Maps, Metric, Protocol, Samples, Scores
from faithface.lazy import torch
from faithface.metrics import _maps


@dataclass(frozen=True)
class Sparseness(Metric):
    """Gini index of the relevance.

    Formula
        With |m| in ascending order x_1 … x_n: value = Σ (2i − n − 1)·x_i / (n·Σ x_i), over the n = H·W pixels of the
        map at the model's input size.

    Parameters
        ``grid``: 0 = pixels (default); G = the map is averaged on a G×G grid first.

    Range and direction
        0 (all equal) to 1 − 1/n (all on one pixel). Higher is better. The best value is 1.0, reached in the limit of
        many pixels.

    Which maps
        Classifiers: the relevance map, by absolute value. Pairs: the probe's similarity map on genuine pairs, the
        probe's dissimilarity map on impostor pairs.

    Special cases
        A constant map, an empty one included, scores 0 and is flagged. A map with values that are not finite has no
        value.

    Differs from other libraries
        Quantus' Sparseness adds 1e-7 to every pixel, which lowers the index of very small maps; nothing is added
        here, so that the scale of the map does not matter.

    Known weaknesses
        Says nothing of place or of truth, and cannot tell one block from scattered pixels. Upsampled maps are less
        sparse: compare explainers of different granularity with ``grid``.

    Cost
        No forward passes.

    Source
        Chalasani et al., 2020.
    """

    protocol = Protocol(
        id="sparseness@1",
        question="How unequally is relevance shared between pixels?",
        better="higher",
        family="description",
        range=(0.0, 1.0),
        best=1.0,
        source="Chalasani et al., Concise Explanations of Neural Networks using Adversarial Training, ICML 2020",
    )

    grid: int = 0

    def __post_init__(self) -> None:
        _maps.check_grid(self.grid)

    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        chosen = _maps.judged(samples, maps)
        mass = _maps.on_grid(_maps.finite(chosen).abs(), self.grid).flatten(1)
        mass = mass / mass.amax(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
        ascending = mass.sort(dim=1).values
        n = ascending.shape[1]
        weights = 2 * torch.arange(1, n + 1, dtype=torch.float64, device=mass.device) - n - 1
        total = ascending.sum(dim=1)
        gini = (ascending @ weights) / (n * total.clamp(min=1))
        return _maps.result({"": _maps.to_numpy(gini.clamp(0, 1))}, _maps.invalid(chosen), _maps.constant(chosen))
