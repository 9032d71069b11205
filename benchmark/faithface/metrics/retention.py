"""What the score loses with nothing but the top 10 %.

Place in the flow: a metric with forward passes; on ``_top_share``.
"""

from __future__ import annotations

from dataclasses import dataclass

from faithface.contract import Protocol, Value, both
from faithface.metrics._top_share import TopShare
from faithface.tasks import difference_range


@dataclass(frozen=True)
class Retention(TopShare):
    """Fall of the score when only the most relevant tenth of the image is kept.

    Formula
        value = s(image) − s(image with all but the top cells replaced by the fill), where s is the probability of
        the class predicted on the clean image, or the similarity of the pair. Signed, not divided by s, not clipped;
        samples that the model gets wrong are included. The map is averaged on a grid of G×G cells (see ``grid``), and
        the max(1, round(share·G²)) cells of the largest means are kept: 20 of 196.

    Values
        (headline): the fall.
        ``:control``: the fall for the same mask shifted circularly by rows and columns, drawn from the sample's seed.
        ``:flips``: 1 where the decision changes, else 0; the mean is the share of flipped decisions.
        ``:control-flips``: the same for the control.

    Range and direction
        −1 to 1 for classifiers, −2 to 2 for pairs. Lower is better. The best value is −2.0 (−1.0 for classifiers); 0
        means that nothing was lost. Only what lies below ``:control`` speaks for the explanation.

    Parameters
        ``share``: of the cells; default 0.1.
        ``grid``: cells per side (14), ranked by their means in steps of 2⁻²⁰ of the map's largest |value|; pixel row r
        lies in cell row ⌊r·G/H⌋. 0 = pixels: then the tied pixels of a binary map are scattered over its area.
        ``fill``: ``black`` (default, the paper's), ``mean`` (the image's mean colour), ``blur`` (σ = 8 % of the shorter
        side), ``stranger`` (another face; aligned sets only).
        ``reading``: ``input`` (default) or ``published``, the paper's own masks on images at their own size, which
        needs ``grid=0``; see ``confidence-drop@1``.
        ``which``: of classifiers, the samples that are judged: ``positive`` (default), ``negative`` or ``all``. The
        evidence of a bona fide image is what is absent from it.

    Which maps
        Classifiers: the relevance map of samples of the positive class. Pairs: genuine ones only, the probe's
        similarity map; the probe is altered.

    Special cases
        Ties fall by a permutation seeded from the sample. A constant map is scored in that order and flagged. A map
        with values that are not finite has no value. Without a decision threshold the flips of pairs have no value.

    Differs from other libraries
        Others call keep-only tests sufficiency; what Quantus calls sufficiency asks whether like maps go with like
        predictions, which is another question.

    Known weaknesses
        A tenth of a face on black is far from anything the model was trained on: where every map loses everything, the
        values say little. Many classifiers answer one class for whatever they do not know, which makes retention
        perfect for samples of that class.

    Cost
        2 forward passes per sample.

    Source
        Ensemble-CAM (2510.19695), table 3.
    """

    protocol = Protocol(
        id="retention@1",
        question="Is what the explanation puts first enough for the model?",
        better="lower",
        range=lambda _, card: difference_range(card),
        needs=frozenset({"model"}),
        family="faithful",
        values=(
            Value(),
            Value("control"),
            Value("flips"),
            Value("control-flips"),
        ),
        judged_on=lambda metric: both("genuine", metric.which),
        cost="2",
        source="Ensemble-CAM, 2510.19695",
    )
    keep = True
