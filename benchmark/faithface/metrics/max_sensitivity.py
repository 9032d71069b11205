"""``max-sensitivity@1``: how far can a barely visible change of the pixels move the map?

Place in the flow: a metric that explains again; called by ``run``. May call ``_reexplain``, ``contract``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from faithface.contract import Explainer, FaceModel, Maps, Metric, Protocol, Samples, Scores, Value
from faithface.lazy import torch
from faithface.metrics import _maps
from faithface.metrics._forward import probes
from faithface.metrics._reexplain import explain_again, need_explainer, reasons_for

if TYPE_CHECKING:
    from torch import Tensor


def jittered(samples: Samples, draw: int, radius: float) -> Tensor:
    """Return the probes N×3×H×W with uniform noise in ±radius on every colour value, kept within [0, 1]."""
    images = probes(samples)
    fields = [
        samples.rng(i, f"max-sensitivity/{draw}").uniform(-radius, radius, tuple(images.shape[1:]))
        for i in range(len(samples))
    ]
    noise = torch.from_numpy(np.stack(fields)).to(images.device, images.dtype)
    return (images + noise).clamp(0, 1)


def unit_norm(maps: Tensor) -> Tensor:
    """Divide each map by its Frobenius norm; float64 N×H×W. An empty map stays empty."""
    values = maps.to(torch.float64)
    # By the largest value first: squares of very small maps would vanish.
    values = values / values.abs().amax(dim=(1, 2), keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    norm = values.square().sum(dim=(1, 2), keepdim=True).sqrt()
    return torch.where(norm > 0, values / norm, values)


@dataclass(frozen=True)
class MaxSensitivity(Metric):
    """The largest change of the map under small uniform noise.

    Formula
        Each map is divided by its own Frobenius norm: u(x) = map(x) / ‖map(x)‖;
        value = max over ``draws`` of ‖u(x + d) − u(x)‖, with d uniform in ±``radius`` on each colour value in [0, 1],
        and x + d kept within [0, 1]. Since ‖u(x)‖ = 1, this is relative to the map. The altered image is explained for
        the class that was predicted on the clean one.

    Parameters
        ``radius``: half the width of the noise, on pixels in [0, 1]; default 0.02 (five grey levels).
        ``draws``: number of noisy images; default 10. More draws can only raise the value.

    Values
        headline: the largest change.
        ``mean``: the mean change over the draws, which does not grow with their number.
        Curves over the draws: ``change``.

    Range and direction
        0 to 2 (√2 for maps without negative values). Lower is better. The best value is 0.0.

    Which maps
        Classifiers: the relevance map, with its signs. Pairs: noise falls on the probe only; its similarity map on
        genuine pairs, its dissimilarity map on impostor pairs.

    Special cases
        Two empty maps (all zero) are at distance 0, an empty one and another at 1. Constant maps are flagged. Where one
        of the maps is not finite, there is no value.

    Differs from other libraries
        captum (same radius and number) and Quantus (±0.2, 200 draws) divide the distance of the maps as they are by
        ‖map(x)‖, so that a map that doubles everywhere has moved by 1; here only its pattern counts, and the range is
        bounded. Min-max scaling, where an explainer applies it, changes the value everywhere. An early Quantus divided
        by the norm of the image. captum adds the noise in the network's normalised space and does not clip. The class
        is held here; Quantus can drop samples whose prediction changes.

    Known weaknesses
        A map that ignores the image is perfectly insensitive: the controls ``random`` and ``centre-prior`` stand at 0.
        A maximum over few draws of a high-dimensional noise is a lower bound of the true one.

    Cost
        ``draws`` explanations and as many forward passes per sample.

    Source
        Yeh et al., On the (In)fidelity and Sensitivity of Explanations, NeurIPS 2019, arXiv:1901.09392.
    """

    radius: float = 0.02
    draws: int = 10

    protocol = Protocol(
        id="max-sensitivity@1",
        question="How far can a change of the pixels that nobody sees move the explanation?",
        better="lower",
        range=(0.0, 2.0),
        best=0.0,
        needs=frozenset({"model", "explainer"}),
        family="description",
        values=(
            Value(),
            Value("mean"),
        ),
        cost=lambda metric: f"{metric.draws}, and {metric.draws} explanation{'' if metric.draws == 1 else 's'}",
        source="Yeh et al., NeurIPS 2019, arXiv:1901.09392",
    )

    def __post_init__(self) -> None:
        if not 0 < self.radius <= 1:
            raise ValueError(f"radius is {self.radius}; expected a number above 0 and at most 1")
        if self.draws < 1:
            raise ValueError(f"draws is {self.draws}; expected at least 1")

    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        explainer = need_explainer(self.id, explainer)
        own = _maps.judged(samples, maps)
        before = unit_norm(own)
        changes = []
        for draw in range(self.draws):
            _, noisy = explain_again(model, samples, jittered(samples, draw, self.radius), explainer)
            changes.append(_maps.to_numpy((unit_norm(noisy) - before).square().sum(dim=(1, 2)).sqrt()))
        change = np.stack(changes, axis=1)
        # numpy's max, unlike nanmax, lets a map that is not finite through, so that it cannot be hidden by the others.
        values = {"": change.max(axis=1), "mean": change.mean(axis=1)}
        return _maps.result(values, reasons_for(own, values[""]), _maps.constant(own), {"change": change})


METRICS = (MaxSensitivity(),)
