"""Does the maximum hit the truth? Place in the flow: a metric on maps and ground truth; built on ``_truth``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from faithface.contract import Protocol, Value
from faithface.metrics._truth import CHANCE, Localisation, asked_truth


@dataclass(frozen=True)
class PointingGame(Localisation):
    """Whether the map's maximum lies inside the ground truth.

    Formula
        1 if the most relevant pixel belongs to the truth, else 0. The board's number is the mean: hits / (hits +
        misses).

    Values
        (headline): 1 or 0.
        ``:chance``: the truth's share of the image, which is what a random pixel scores on average.

    Range and direction
        0 to 1. Higher is better. The best value is 1.0. Read it against ``:chance``.

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
        Of several maxima one is drawn by a permutation seeded from the sample, the same for all explainers; so is the
        pixel of a constant map, which is flagged. A sample without the truth, or whose truth covers all or none of
        the image, has no value.

    Differs from other libraries
        The original allows a miss by up to 15 pixels on photographs of scenes; on aligned faces of about a hundred
        pixels nothing is forgiven here. It averages over object classes; here over samples. Quantus counts a hit
        where any of several maxima lies inside, so that a constant map always hits.

    Known weaknesses
        One pixel decides. The map explains the predicted class: where a model misses the attack, the attack's pixels
        are not its reason.

    Cost
        No forward passes.

    Source
        Zhang et al., 2016 (excitation backprop).
    """

    protocol = Protocol(
        id="pointing-game@1",
        question="If the explanation may point at one pixel, is it evidence?",
        better="higher",
        range=(0.0, 1.0),
        best=1.0,
        needs=frozenset({"truth"}),
        family="truth",
        values=(
            Value(),
            Value(CHANCE),
        ),
        source="Zhang et al., Top-down Neural Attention by Excitation Backprop, ECCV 2016",
        ground_truth=asked_truth,
    )

    def compare(self, relevance: np.ndarray, truth: np.ndarray, order: np.ndarray) -> float:
        return float(truth[order[0]])
