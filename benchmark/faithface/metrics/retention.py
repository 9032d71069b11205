"""What the score loses with nothing but the top 10 %.

Place in the flow: a metric with forward passes; on ``_top_share``.
"""

from __future__ import annotations

from dataclasses import dataclass

from faithface.metrics._top_share import TopShare, top_share


@dataclass(frozen=True)
class Retention(TopShare):
    """Fall of the score when only the most relevant tenth of the image is kept.

    Formula
        value = s(image) − s(image with all but the top cells replaced by the fill), where s is the probability of
        the class predicted on the clean image, or the similarity of the pair. Signed, not divided by s, not clipped;
        samples that the model gets wrong are included. The map is averaged on a grid of G×G cells (see ``grid``), and
        the max(1, round(share·G²)) cells of the largest means are kept: 20 of 196.

    Range and direction
        −1 to 1 for classifiers, −2 to 2 for pairs. Lower is better. The best value is −2.0 (−1.0 for classifiers); 0
        means that nothing was lost. Only what lies below ``:control`` supports the explanation.

    Differs from other libraries
        Others call keep-only tests sufficiency. What Quantus calls sufficiency asks whether similar maps come with
        similar predictions, which is another question.

    Known weaknesses
        A tenth of a face on black is far from anything the model was trained on: where every map loses everything, the
        values say little. Many classifiers predict one class for whatever they do not know, which makes retention
        perfect for samples of that class.

    Source
        Ensemble-CAM (2510.19695), table 3.
    """

    protocol = top_share("retention@1", "Is what the explanation puts first enough for the model?", "lower")
    keep = True
