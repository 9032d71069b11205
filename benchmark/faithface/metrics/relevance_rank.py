"""Share of the top pixels inside the truth.

Place in the flow: a metric on maps and ground truth; built on ``_truth``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from faithface.contract import Protocol, Value
from faithface.metrics._truth import CHANCE, Localisation, asked_truth


@dataclass(frozen=True)
class RelevanceRank(Localisation):
    """Share of the K most relevant pixels that lie inside a ground truth of K pixels.

    Formula
        K = number of truth pixels; value = number of truth pixels among the K most relevant / K.

    Values
        (headline): the share.
        ``:chance``: the truth's share of the image, which is what a random order scores on average.

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
        Ties fall by a permutation seeded from the sample, the same for all explainers. A constant map is scored, in
        that order, and flagged. A sample without the truth, or whose truth covers all or none of the image, has no
        value.

    Differs from other libraries
        Quantus' RelevanceRankAccuracy leaves ties to the sorting routine.

    Known weaknesses
        Blind to how far down the missed pixels are: ``localisation-auc@1`` sees that. The map explains the predicted
        class: where a model misses the attack, the attack's pixels are not its reason.

    Cost
        No forward passes.

    Source
        Arras, Osman and Samek, 2022 (CLEVR-XAI).
    """

    protocol = Protocol(
        id="relevance-rank@1",
        question="Of as many pixels as the evidence has, how many did the explanation put first?",
        better="higher",
        range=(0.0, 1.0),
        best=1.0,
        needs=frozenset({"truth"}),
        family="truth",
        values=(
            Value(),
            Value(CHANCE),
        ),
        source="Arras et al., CLEVR-XAI, a benchmark for the ground-truth evaluation of explanations, 2022",
        ground_truth=asked_truth,
    )

    def compare(self, relevance: np.ndarray, truth: np.ndarray, order: np.ndarray) -> float:
        return float(truth[order[: int(truth.sum())]].mean())
