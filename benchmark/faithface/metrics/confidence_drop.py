"""What the score loses without the top 10 %.

Place in the flow: a metric with forward passes; built on ``_top_share``.
"""

from __future__ import annotations

from dataclasses import dataclass

from faithface.contract import Protocol, Value, both
from faithface.metrics._top_share import TopShare
from faithface.tasks import difference_range


@dataclass(frozen=True)
class ConfidenceDrop(TopShare):
    """Fall of the score when the most relevant tenth of the image is removed.

    Formula
        value = s(image) − s(image with the top cells replaced by the fill), where s is the probability of the class
        predicted on the clean image, or the similarity of the pair. Signed, not divided by s, not clipped; samples that
        the model gets wrong are included. The map is averaged on a grid of G×G cells (see ``grid``), and the mask holds
        the max(1, round(share·G²)) cells of the largest means: 20 of 196.

    Values
        (headline): the fall.
        ``:control``: the fall for the same mask shifted circularly by rows and columns, drawn from the sample's seed:
        equal area and shape, another place.
        ``:flips``: 1 where the decision changes, else 0; the mean is the share of flipped decisions.
        ``:control-flips``: the same for the control.

    Range and direction
        −1 to 1 for classifiers, −2 to 2 for pairs. Higher is better. The best value is 2.0 (1.0 for classifiers).
        Only what exceeds ``:control`` speaks for the explanation.

    Parameters
        ``share``: of the cells; default 0.1.
        ``grid``: cells per side (14), ranked by their means in steps of 2⁻²⁰ of the map's largest |value|; pixel row r
        lies in cell row ⌊r·G/H⌋. 0 = pixels: then the tied pixels of a binary map are scattered over its area.
        ``fill``: ``black`` (default, the paper's), ``mean`` (the image's mean colour), ``blur`` (σ = 8 % of the shorter
        side), ``stranger`` (another face; aligned sets only).
        ``reading``: ``input`` (default) works on float pixels at the model's input size. ``published``, which needs
        ``grid=0``, follows the paper's notebook: threshold at the 90th percentile with all ties kept, map stretched
        bilinearly over the image at its own size, mask where it exceeds its minimum (about 10.7 %), black, and one
        shift for all images of a size (numpy seed 42).
        ``which``: of classifiers, the samples that are judged: ``positive`` (default), ``negative`` or ``all``. The
        evidence of a bona fide image is what is absent from it.

    Which maps
        Classifiers: the relevance map of samples of the positive class. Pairs: genuine ones only, the probe's
        similarity map; the probe is altered. An impostor pair has no confidence to lose.

    Special cases
        Ties fall by a permutation seeded from the sample. A constant map is scored in that order (``published``: its
        mask is empty) and flagged. A map with values that are not finite has no value. Without a decision threshold
        the flips of pairs have no value.

    Differs from other libraries
        The paper crops the centre for the network and stretches the map over the whole original, so that on images that
        are not square its mask is displaced. Here a model sees the whole image, so even ``published`` is aligned. In
        the notebook two of three fills of the control forget the shift; not here.

    Known weaknesses
        One share, one fill. Black squares are out of distribution, and a control at another place of an aligned face
        often covers background: a low control does not prove the place right.

    Cost
        2 forward passes per sample.

    Source
        Ensemble-CAM (2510.19695).
    """

    protocol = Protocol(
        id="confidence-drop@1",
        question="Does the model lose its confidence without what the explanation puts first?",
        better="higher",
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
    keep = False
