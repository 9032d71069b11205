"""Share of scores that rise under the map.

Place in the flow: a metric with one forward pass; calls ``_masked_score``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from faithface.contract import ClassSide, Explainer, FaceModel, Maps, Metric, Protocol, Samples, Scores, both
from faithface.metrics import _maps
from faithface.metrics._forward import unaltered_scores
from faithface.metrics._masked_score import Toward, masked_scores

# Scores of one image differ by about this much between batch sizes; a map that hides nothing must not seem to help.
ROUNDING = 1e-6


@dataclass(frozen=True)
class AverageIncrease(Metric):
    """Whether the score rises when the image is dimmed where the map is low.

    Formula
        x' = x·m + c·(1 − m), with m the map scaled by its minimum and maximum to [0, 1] and c the colour of ``toward``;
        value = 1 if s(x') > s(x) + 1e-6, else 0, where s is the probability of the class predicted on the clean
        image, or the similarity of the pair. The board's number, the mean, is the share of samples whose score rises.

    Range and direction
        0 to 1. Higher is better. The best value is 1.0.

    Parameters
        ``toward``: ``black`` (default): the image is multiplied by the map in pixel space. ``mean``: it is multiplied
        after normalisation, so that a low map leaves the card's mean colour.
        ``which``: of classifiers, the samples that are judged: ``positive`` (default), ``negative`` or ``all``. The
        evidence of a bona fide image is what is absent from it.

    Which maps
        Classifiers: the relevance map of samples of the positive class. Pairs: genuine ones only, the probe's
        similarity map; the probe is altered.

    Special cases
        A constant map counts as 0 everywhere and is flagged. A map with values that are not finite has no value.

    Differs from other libraries
        torch-cam multiplies after normalisation (``toward=mean``). The paper gives a percentage.

    Known weaknesses
        Counts the smallest rise as much as a large one (1e-6 keeps roundings out), and cannot rise where the model is
        already certain: on a saturated classifier every explainer scores low.

    Cost
        1 forward pass per sample, shared with ``average-drop@1`` on the same maps.

    Source
        Chattopadhay et al., 2018 (Grad-CAM++).
    """

    protocol = Protocol(
        id="average-increase@1",
        question="Does hiding what the explanation leaves out make the model surer?",
        better="higher",
        range=(0.0, 1.0),
        best=1.0,
        needs=frozenset({"model"}),
        family="faithful",
        judged_on=lambda metric: both("genuine", metric.which),
        cost="1",
        source="Chattopadhay et al., Grad-CAM++, WACV 2018",
    )

    toward: Toward = "black"
    which: ClassSide = "positive"

    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        chosen = _maps.judged(samples, maps)
        rises = masked_scores(model, samples, maps, self.toward) > unaltered_scores(samples) + ROUNDING
        return _maps.result({"": rises.astype(np.float64)}, _maps.invalid(chosen), _maps.constant(chosen))
