"""Are truth pixels ranked above others? Place in the flow: a metric on maps and ground truth; built on ``_truth``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from faithface.contract import Value
from faithface.metrics._truth import Localisation, localisation


@dataclass(frozen=True)
class LocalisationAuc(Localisation):
    """Area under the ROC curve of the map as a detector of ground-truth pixels.

    Formula
        The probability that a truth pixel drawn at random has a higher relevance than another pixel drawn at random,
        equal values counting one half (Mann and Whitney's U over the number of such pairs).

    Range and direction
        0 to 1. Higher is better. The best value is 1.0; a random map scores 0.5 on average, a constant one exactly.

    Special cases
        Ties count one half, so that no order has to be drawn. A constant map is flagged.

    Differs from other libraries
        The number is the same: Quantus' AUC is the same area on the same pixels (by default of the normalised map,
        whose order is the same).

    Known weaknesses
        Most pixels lie outside a small truth, so that a map with a wide halo still scores high: read it beside
        ``relevance-mass@1``.

    Source
        Fawcett, 2006 (ROC analysis), over pixels.
    """

    protocol = localisation(
        "localisation-auc@1",
        "Is a pixel of the evidence ranked above one that is not?",
        "Fawcett, An introduction to ROC analysis, Pattern Recognition Letters 2006; over pixels",
        values=(Value(),),
    )

    def compare(self, relevance: np.ndarray, truth: np.ndarray, order: np.ndarray) -> float:
        from scipy.stats import rankdata

        inside = int(truth.sum())
        outside = truth.size - inside
        u = rankdata(relevance)[truth].sum() - inside * (inside + 1) / 2
        return float(u / (inside * outside))
