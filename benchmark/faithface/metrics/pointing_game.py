"""Does the maximum hit the truth? Place in the flow: a metric on maps and ground truth; built on ``_truth``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from faithface.metrics._truth import Localisation, localisation


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

    Special cases
        One of several maxima is drawn by a permutation seeded from the sample, the same for all explainers; so is the
        pixel of a constant map, which is flagged.

    Differs from other libraries
        The original allows a miss by up to 15 pixels on photographs of scenes; on aligned faces of about a hundred
        pixels, no miss is allowed here. The original averages over object classes, this metric over samples. Quantus
        counts a hit where any of several maxima lies inside, so that a constant map always hits.

    Known weaknesses
        One pixel decides.

    Source
        Zhang et al., 2016 (excitation backprop).
    """

    protocol = localisation(
        "pointing-game@1",
        "If the explanation may point at one pixel, is it evidence?",
        "Zhang et al., Top-down Neural Attention by Excitation Backprop, ECCV 2016",
    )

    def compare(self, relevance: np.ndarray, truth: np.ndarray, order: np.ndarray) -> float:
        return float(truth[order[0]])
