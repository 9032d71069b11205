"""Share of the relevance inside the truth.

Place in the flow: a metric on maps and ground truth; built on ``_truth``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from faithface.metrics import _maps
from faithface.metrics._truth import Localisation, localisation, positive
from faithface.reasons import Reason, ReasonCode

if TYPE_CHECKING:
    from torch import Tensor

NOTHING_POSITIVE = Reason(ReasonCode.CONSTANT_MAP, "no positive relevance, or a constant map")


@dataclass(frozen=True)
class RelevanceMass(Localisation):
    """Share of the positive relevance that lies inside the ground truth.

    Formula
        Σ over the truth of max(m, 0) / Σ over the image of max(m, 0).

    Values
        (headline): the share.
        ``:chance``: the truth's share of the image, which is what a uniform map scores.

    Range and direction
        0 to 1. Higher is better. The best value is 1.0. Read it against ``:chance``.

    Special cases
        A map without any positive value counts as uniform, and is flagged; so is a constant map.

    Differs from other libraries
        Quantus' RelevanceMassAccuracy sums signed values, so that it can leave [0, 1] and be NaN or infinite where the
        sum is 0; here negative relevance, which is evidence against the class, is not counted. The inside-total ratio
        of Kohlbrenner et al. is the same number.

    Known weaknesses
        Rewards maps that mark one certain pixel. It is not invariant under increasing transforms of the map: adding a
        constant to a map lowers a good value. ``relevance-rank@1`` and ``localisation-auc@1`` depend only on the order.

    Source
        Arras, Osman and Samek, 2022 (CLEVR-XAI); Kohlbrenner et al., 2020.
    """

    protocol = localisation(
        "relevance-mass@1",
        "How much of what the explanation points at is the evidence?",
        "Arras et al., CLEVR-XAI, a benchmark for the ground-truth evaluation of explanations, 2022",
    )

    def compare(self, relevance: np.ndarray, truth: np.ndarray, order: np.ndarray) -> float:
        mass = positive(relevance)
        mass = mass / mass.max()
        return float(mass[truth].sum() / mass.sum())

    def remarks(self, relevance: Tensor) -> dict[int, Reason]:
        return _maps.constant(relevance.clamp(min=0), NOTHING_POSITIVE)
