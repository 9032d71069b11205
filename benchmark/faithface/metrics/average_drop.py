"""Relative fall under the map. Place in the flow: a metric with one forward pass; calls ``_masked_score``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from faithface.card import ModelCard
from faithface.contract import (
    ClassSide,
    Dataset,
    Explainer,
    FaceModel,
    Maps,
    Metric,
    Protocol,
    Samples,
    Scores,
    Value,
    both,
)
from faithface.errors import NotApplicable
from faithface.metrics import _maps
from faithface.metrics._forward import unaltered_scores
from faithface.metrics._masked_score import NOT_POSITIVE, Toward, masked_scores
from faithface.tasks import score_range


@dataclass(frozen=True)
class AverageDrop(Metric):
    """Relative fall of the score when the image is dimmed where the map is low.

    Formula
        x' = x·m + c·(1 − m), with m the map scaled by its minimum and maximum to [0, 1] and c the colour of ``toward``;
        value = max(0, s(x) − s(x')) / s(x), where s is the probability of the class predicted on the clean image, or
        the similarity of the pair. A share, not a percentage.

    Values
        (headline): the relative fall.
        ``:absolute``: max(0, s(x) − s(x')), not divided.

    Range and direction
        0 to 1 for classifiers; for pairs up to 1 + 1/s(x), since a cosine can become negative. Lower is better. The
        best value is 0.0.

    Parameters
        ``toward``: ``black`` (default): the image is multiplied by the map in pixel space. ``mean``: it is multiplied
        after normalisation, so that a low map leaves the card's mean colour.
        ``which``: of classifiers, the samples that are judged: ``positive`` (default), ``negative`` or ``all``. The
        evidence of a bona fide image is what is absent from it.

    Which maps
        Classifiers: the relevance map of samples of the positive class. Pairs: genuine ones only, the probe's
        similarity map; the probe is altered.

    Special cases
        A constant map has no scale: it counts as 0 everywhere, so that saying nothing is not rewarded for hiding
        nothing; flagged. Where the clean score is not positive (a cosine may be) there is no value; on models that
        compare by Euclidean distance, whose score is minus the distance, it is not applicable. A map with values that
        are not finite has no value.

    Differs from other libraries
        torch-cam: this formula, multiplied after normalisation (``toward=mean``), and samples with a NaN map are
        dropped. pytorch-grad-cam does not divide by the clean score (``:absolute``) and may take logits.

    Known weaknesses
        A map of ones everywhere but one pixel is nearly perfect: read it beside ``entropy@1``. It is not a ranking
        metric: a monotone transform of the map changes how much is dimmed.

    Cost
        1 forward pass per sample, shared with ``average-increase@1`` on the same maps.

    Source
        Chattopadhay et al., 2018 (Grad-CAM++).
    """

    protocol = Protocol(
        id="average-drop@1",
        question="How much of the confidence is lost when only what the explanation highlights is shown?",
        better="lower",
        range=(0.0, float("inf")),
        best=0.0,
        needs=frozenset({"model"}),
        family="faithful",
        values=(
            Value(),
            Value("absolute"),
        ),
        judged_on=lambda metric: both("genuine", metric.which),
        cost="1",
        source="Chattopadhay et al., Grad-CAM++, WACV 2018",
    )

    toward: Toward = "black"
    which: ClassSide = "positive"

    def check(self, card: ModelCard, dataset: Dataset, explainer: Explainer | None = None) -> None:
        if score_range(card)[1] <= 0:
            raise NotApplicable(
                f'metric "{self.id}" divides by the clean score; minus a Euclidean distance, the score of '
                f"{card.name}, is never positive: use confidence-drop@1"
            )

    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        chosen = _maps.judged(samples, maps)
        clean = unaltered_scores(samples)
        reasons = {int(i): NOT_POSITIVE for i in np.flatnonzero(clean <= 0)} | _maps.invalid(chosen)
        fall = np.maximum(0, clean - masked_scores(model, samples, maps, self.toward))
        relative = fall / np.where(clean > 0, clean, 1)
        return _maps.result({"": relative, "absolute": fall}, reasons, _maps.constant(chosen))
