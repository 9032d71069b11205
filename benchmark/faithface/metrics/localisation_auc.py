"""Are truth pixels ranked above others? Place in the flow: a metric on maps and ground truth; built on ``_truth``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from faithface.contract import Protocol
from faithface.metrics._truth import Localisation, asked_truth


@dataclass(frozen=True)
class LocalisationAuc(Localisation):
    """Area under the ROC curve of the map as a detector of ground-truth pixels.

    Formula
        The probability that a truth pixel drawn at random has a higher relevance than another pixel drawn at random,
        equal values counting one half (Mann and Whitney's U over the number of such pairs).

    Range and direction
        0 to 1. Higher is better. The best value is 1.0; a random map scores 0.5 on average, a constant one exactly.

    Parameters
        ``truth``: the kinds of ground truth to use, joined by ``+``; the first that a sample has. Default
        ``relevance+similarity+dissimilarity``; also ``human`` (an annotator's salience) and ``tag`` (a planted
        shortcut).

    Which maps
        Classifiers: the relevance map, signed. Pairs: the probe's map, similarity against similarity truth on genuine
        pairs, dissimilarity against dissimilarity truth on impostor pairs; a pair without that truth takes the other
        kind, with the map of that kind.

    Needs
        Ground truth. A pixel belongs to it when its value, resized by area to the model's input size, is at least 0.5.

    Special cases
        Ties count one half, so that no order has to be drawn. A constant map is flagged. A sample without the truth, or
        whose truth covers all or none of the image, has no value.

    Differs from other libraries
        None in the number: Quantus' AUC is the same area on the same pixels (by default of the normalised map, whose
        order is the same).

    Known weaknesses
        Most pixels lie outside a small truth, so that a map with a wide halo still scores high: read it beside
        ``relevance-mass@1``. The map explains the predicted class: where a model misses the attack, the attack's pixels
        are not its reason.

    Cost
        No forward passes.

    Source
        Fawcett, 2006 (ROC analysis), over pixels.
    """

    protocol = Protocol(
        id="localisation-auc@1",
        question="Is a pixel of the evidence ranked above one that is not?",
        better="higher",
        range=(0.0, 1.0),
        best=1.0,
        needs=frozenset({"truth"}),
        family="truth",
        source="Fawcett, An introduction to ROC analysis, Pattern Recognition Letters 2006; over pixels",
        ground_truth=asked_truth,
    )

    def compare(self, relevance: np.ndarray, truth: np.ndarray, order: np.ndarray) -> float:
        from scipy.stats import rankdata

        inside = int(truth.sum())
        outside = truth.size - inside
        u = rankdata(relevance)[truth].sum() - inside * (inside + 1) / 2
        return float(u / (inside * outside))
