"""Share of the top pixels inside the truth.

Place in the flow: a metric on maps and ground truth; built on ``_truth``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from faithface.metrics._truth import Localisation, localisation


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

    Special cases
        Ties are broken by a permutation seeded from the sample, the same for all explainers. A constant map is scored
        in that order, and flagged.

    Differs from other libraries
        Quantus' RelevanceRankAccuracy leaves ties to the sorting routine.

    Known weaknesses
        Blind to how far down the missed pixels are: ``localisation-auc@1`` measures that.

    Source
        Arras, Osman and Samek, 2022 (CLEVR-XAI).
    """

    protocol = localisation(
        "relevance-rank@1",
        "Of as many pixels as the evidence has, how many did the explanation put first?",
        "Arras et al., CLEVR-XAI, a benchmark for the ground-truth evaluation of explanations, 2022",
    )

    def compare(self, relevance: np.ndarray, truth: np.ndarray, order: np.ndarray) -> float:
        return float(truth[order[: int(truth.sum())]].mean())
