"""What the score loses without the top 10 %.

Place in the flow: a metric with forward passes; built on ``_top_share``.
"""

from __future__ import annotations

from dataclasses import dataclass

from faithface.metrics._top_share import TopShare, top_share


@dataclass(frozen=True)
class ConfidenceDrop(TopShare):
    """Fall of the score when the most relevant tenth of the image is removed.

    Formula
        value = s(image) − s(image with the top cells replaced by the fill), where s is the probability of the class
        predicted on the clean image, or the similarity of the pair. Signed, not divided by s, not clipped; samples that
        the model gets wrong are included. The map is averaged on a grid of G×G cells (see ``grid``), and the mask holds
        the max(1, round(share·G²)) cells of the largest means: 20 of 196.

    Range and direction
        −1 to 1 for classifiers, −2 to 2 for pairs. Higher is better. The best value is 2.0 (1.0 for classifiers).
        Only what exceeds ``:control`` supports the explanation.

    Differs from other libraries
        The paper crops the centre for the network and stretches the map over the whole original, so that on images that
        are not square its mask is displaced. Here a model sees the whole image, so even ``published`` is aligned. In
        the notebook, two of the three fills of the control omit the shift; here none does.

    Known weaknesses
        One share, one fill. Black squares are out of distribution, and a control at another place of an aligned face
        often covers background: a low control does not prove that the place is right.

    Source
        Ensemble-CAM (2510.19695).
    """

    protocol = top_share(
        "confidence-drop@1", "Does the model lose its confidence without what the explanation puts first?", "higher"
    )
    keep = False
