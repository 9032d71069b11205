"""Deletion: what is lost when the pixels that a map points to are replaced.

Place in the flow: area under the deletion curve. Forward passes are shared with the other curve
metrics through ``_base``. Each docstring
is the protocol.
"""

from __future__ import annotations

from dataclasses import dataclass

from faithface.contract import Protocol, Which
from faithface.metrics.curves._base import (
    CLASSIFIERS,
    PAIR_SOURCE,
    SOURCE,
    VERIFICATION,
    ClassCurve,
    PairCurve,
    judged_pairs,
)
from faithface.perturb.fills import Fill


@dataclass(frozen=True)
class Deletion(ClassCurve):
    """Area under the predicted class's probability while the most relevant pixels are removed.

    Formula
        The H·W pixels of the map are ranked once, descending. At fractions f = 0, 1/50, …, 1 the first k =
        round(f·H·W) of them take the values of the fill image, in pixel space, before the card's normalisation.
        value = ∫ p(f) df by the trapezoid rule on [0, 1], p = the probability (softmax or sigmoid) of the class
        predicted on the clean image.

    Parameters
        ``fill``: what removed pixels become: ``blur`` (default; Gaussian, σ = 8 % of the shorter side),
        ``stranger`` (another sample of the other class, by the sample's seed; aligned faces only), ``black``,
        ``mean`` (the image's own), ``rise`` (RISE's 11×11 kernel), ``linear`` (ROAD's noisy imputation; slow, the
        fill depends on the mask). ``grid``: 0 = pixels (default); G = the map is averaged on a G×G grid and whole
        cells move, k = round(f·G²) of them; pixel row r lies in cell row ⌊r·G/H⌋, so that cells may differ by one
        row where G does not divide H, and x is then the share of cells. ``points``: points of the curve, both ends
        included (51).

    Range and direction
        0 to 1, lower is better. The best value is 0.0.

    Special cases
        With ``grid``, means are ranked in steps of 2⁻²⁰ of the map's largest |value|: smaller differences are rounding
        errors. Ties break by a permutation seeded from the sample id, the same for every explainer. A constant map is
        therefore scored at random, and flagged. A map with values that are not finite has no value (the reason is
        kept).

    Needs
        The model (forward passes); a classifier.

    Differs from other libraries
        RISE's own code blurs in normalised space for insertion, uses the mean colour for deletion, and breaks ties
        by reversed raster order; its area rule (Σ − first/2 − last/2)/(n − 1) is this one. Quantus' PixelFlipping
        removes single values of C·H·W (channels apart), takes the image's minimum for black, leaves out the clean
        point and does not divide the area by the number of steps, so that it grows with it. InterpretDL averages
        probabilities without the trapezoid, LATEC drops both ends. xplique and torch-cam agree up to fill and ties.

    Known weaknesses
        Altered images leave the distribution that the network knows: with a black fill, scattered random pixels
        lower the probability as fast as the right ones. Never read it alone: ``random`` and ``centre-prior`` stand
        beside it, and ``gap@1`` reads without them.

    Cost
        points − 2 = 49 forward passes per sample. The clean image is scored when samples are loaded, the fully
        masked one once per sample and fill for all explainers.

    Source
        Petsiuk, Das and Saenko, 2018 (RISE). The fills for faces: faithface.
    """

    protocol = Protocol(
        id="deletion@1",
        question=(
            "How soon does the model lose its answer when the pixels that the map calls most relevant are removed?"
        ),
        better="lower",
        range=(0.0, 1.0),
        best=0.0,
        needs=frozenset({"model"}),
        cost="49, and 1 per fill",
        source=SOURCE,
        tasks=CLASSIFIERS,
    )
    read = ("deletion",)


@dataclass(frozen=True)
class DeletionSimilarity(PairCurve):
    """Area under the share of right decisions while the probe's most similar pixels are replaced.

    Formula
        The H·W pixels of the probe's similarity map are ranked once, descending. At fractions f = 0, 1/50, …, 1 the
        first k = round(f·H·W) of them take the values of the fill image, in pixel space, before the card's
        normalisation. Only the probe (image A) is altered.
        value = ∫ r(f) df by the trapezoid rule on [0, 1]; r(f) = 1 if the decision at the clean threshold is right
        (similarity of the altered probe and the unaltered reference at least the threshold for a genuine pair,
        below it for an impostor pair), else 0. The threshold is the card's, else the equal-error point of the clean
        scores; a similarity within 1e-5 below it counts as on it.

    Parameters
        ``fill``: what replaces pixels, default ``stranger``: ``stranger`` (the pixels of another person's face of
        the same set, by the sample's seed), ``partner`` (the other image's own pixels), both for aligned faces
        only; ``blur`` (Gaussian, σ = 8 % of the shorter side), ``black`` (the papers'), ``mean``, ``rise``,
        ``linear`` (ROAD's noisy imputation; slow). ``grid``: 0 = pixels (default); G = the map is averaged on a G×G
        grid and whole cells move, k = round(f·G²) of them; pixel row r lies in cell row ⌊r·G/H⌋, so that cells may
        differ by one row where G does not divide H, and x is then the share of cells. ``points``: points of the
        curve, both ends included (51). ``pairs``: ``genuine`` (default), ``impostor``, or ``all`` to compare with
        papers that mix them. ``alter``: ``probe`` (default) or ``both`` (each image by its own map, at the same
        fraction; with ``stranger`` two different people).

    Range and direction
        0 to 1, lower is better. The best value is 0.0.

    Special cases
        With ``grid``, means are ranked in steps of 2⁻²⁰ of the map's largest |value|: smaller differences are rounding
        errors. Ties break by a permutation seeded from the sample id, the same for every explainer. A constant map is
        therefore scored at random, and flagged. A map with values that are not finite has no value (the reason is
        kept).

    Needs
        The model (forward passes); verification; a decision threshold.

    Differs from other libraries
        The papers' code removes pixels by percentile thresholds on 11 points with a black fill, so that tied pixels
        go all at once or never, and scores all pairs of a protocol: ``(fill=black,pairs=all,points=11)`` comes
        nearest, and stands on another scale than genuine or impostor pairs alone. RISE's rule for the area is this
        one; Quantus' is not normalised and knows no pairs.

    Known weaknesses
        A centre prior scores high on aligned genuine pairs, where the whole middle of the face speaks. One pair's
        value moves in steps of one point of the curve; average over many pairs, or read the ``-score`` form.
        Rewards compact maps at pixel level; compare maps of different granularity with ``grid``.

    Cost
        points − 2 = 49 forward passes per sample. The clean image is scored when samples are loaded, the fully
        masked one once per sample and fill for all explainers (not at all with ``partner``). ``alter=both`` costs
        twice as much.

    Source
        Lu, Xu and Ebrahimi, 2024 (CorrRISE), after RISE, 2018. The fills: faithface.
    """

    protocol = Protocol(
        id="deletion-similarity@1",
        question=(
            "How soon does a genuine pair stop matching when what the map calls similar is replaced by another "
            "person's face?"
        ),
        better="lower",
        range=(0.0, 1.0),
        best=0.0,
        needs=frozenset({"model"}),
        cost="49, and 1 per fill",
        source=PAIR_SOURCE,
        tasks=VERIFICATION,
        judged_on=judged_pairs,
    )
    read = ("deletion",)
    kind = "similarity"
    form = "decision"


@dataclass(frozen=True)
class DeletionSimilarityScore(PairCurve):
    """Area under the similarity of the pair while the probe's most similar pixels are replaced.

    Formula
        The H·W pixels of the probe's similarity map are ranked once, descending. At fractions f = 0, 1/50, …, 1 the
        first k = round(f·H·W) of them take the values of the fill image, in pixel space, before the card's
        normalisation. Only the probe (image A) is altered.
        value = ∫ s(f) df by the trapezoid rule on [0, 1]; s(f) = the similarity of the altered probe and the
        unaltered reference (cosine, or minus the Euclidean distance, as the card says).

    Parameters
        ``fill``: what replaces pixels, default ``stranger``: ``stranger`` (the pixels of another person's face of
        the same set, by the sample's seed), ``partner`` (the other image's own pixels), both for aligned faces
        only; ``blur`` (Gaussian, σ = 8 % of the shorter side), ``black`` (the papers'), ``mean``, ``rise``,
        ``linear`` (ROAD's noisy imputation; slow). ``grid``: 0 = pixels (default); G = the map is averaged on a G×G
        grid and whole cells move, k = round(f·G²) of them; pixel row r lies in cell row ⌊r·G/H⌋, so that cells may
        differ by one row where G does not divide H, and x is then the share of cells. ``points``: points of the
        curve, both ends included (51). ``pairs``: ``genuine`` (default), ``impostor``, or ``all`` to compare with
        papers that mix them. ``alter``: ``probe`` (default) or ``both`` (each image by its own map, at the same
        fraction; with ``stranger`` two different people).

    Range and direction
        −1 to 1 for cosine, lower is better. The best value is -1.0.

    Special cases
        With ``grid``, means are ranked in steps of 2⁻²⁰ of the map's largest |value|: smaller differences are rounding
        errors. Ties break by a permutation seeded from the sample id, the same for every explainer. A constant map is
        therefore scored at random, and flagged. A map with values that are not finite has no value (the reason is
        kept).

    Needs
        The model (forward passes); verification.

    Differs from other libraries
        The papers' code removes pixels by percentile thresholds on 11 points with a black fill, so that tied pixels
        go all at once or never, and scores all pairs of a protocol: ``(fill=black,pairs=all,points=11)`` comes
        nearest, and stands on another scale than genuine or impostor pairs alone. RISE's rule for the area is this
        one; Quantus' is not normalised and knows no pairs.

    Known weaknesses
        A centre prior scores high on aligned genuine pairs, where the whole middle of the face speaks. Rewards
        compact maps at pixel level; compare maps of different granularity with ``grid``.

    Cost
        points − 2 = 49 forward passes per sample. The clean image is scored when samples are loaded, the fully
        masked one once per sample and fill for all explainers (not at all with ``partner``). ``alter=both`` costs
        twice as much.

    Source
        Lu, Xu and Ebrahimi, 2024 (CorrRISE), after RISE, 2018. The fills: faithface.
    """

    protocol = Protocol(
        id="deletion-similarity-score@1",
        question=(
            "How soon does a genuine pair stop matching when what the map calls similar is replaced by another "
            "person's face?"
        ),
        better="lower",
        range=(-1.0, 1.0),
        best=-1.0,
        needs=frozenset({"model"}),
        cost="49, and 1 per fill",
        source=PAIR_SOURCE,
        tasks=VERIFICATION,
        judged_on=judged_pairs,
    )
    read = ("deletion",)
    kind = "similarity"
    form = "score"


@dataclass(frozen=True)
class DeletionDissimilarity(PairCurve):
    """Area under the share of right decisions while the probe's most dissimilar pixels are replaced.

    Formula
        The H·W pixels of the probe's dissimilarity map are ranked once, descending. At fractions f = 0, 1/50, …, 1
        the first k = round(f·H·W) of them take the values of the fill image, in pixel space, before the card's
        normalisation. Only the probe (image A) is altered.
        value = ∫ r(f) df by the trapezoid rule on [0, 1]; r(f) = 1 if the decision at the clean threshold is right
        (similarity of the altered probe and the unaltered reference at least the threshold for a genuine pair,
        below it for an impostor pair), else 0. The threshold is the card's, else the equal-error point of the clean
        scores; a similarity within 1e-5 below it counts as on it.

    Parameters
        ``fill``: what replaces pixels, default ``partner``: ``stranger`` (the pixels of another person's face of
        the same set, by the sample's seed), ``partner`` (the other image's own pixels), both for aligned faces
        only; ``blur`` (Gaussian, σ = 8 % of the shorter side), ``black`` (the papers'), ``mean``, ``rise``,
        ``linear`` (ROAD's noisy imputation; slow). ``grid``: 0 = pixels (default); G = the map is averaged on a G×G
        grid and whole cells move, k = round(f·G²) of them; pixel row r lies in cell row ⌊r·G/H⌋, so that cells may
        differ by one row where G does not divide H, and x is then the share of cells. ``points``: points of the
        curve, both ends included (51). ``pairs``: ``impostor`` (default), ``genuine``, or ``all`` to compare with
        papers that mix them. ``alter``: ``probe`` (default) or ``both`` (each image by its own map, at the same
        fraction; with ``stranger`` two different people).

    Range and direction
        0 to 1, lower is better. The best value is 0.0. Deleting what is dissimilar should make the model accept,
        which is wrong, soonest.

    Special cases
        With ``grid``, means are ranked in steps of 2⁻²⁰ of the map's largest |value|: smaller differences are rounding
        errors. Ties break by a permutation seeded from the sample id, the same for every explainer. A constant map is
        therefore scored at random, and flagged. A map with values that are not finite has no value (the reason is
        kept).

    Needs
        The model (forward passes); verification; a decision threshold.

    Differs from other libraries
        The papers' code removes pixels by percentile thresholds on 11 points with a black fill, so that tied pixels
        go all at once or never, and scores all pairs of a protocol: ``(fill=black,pairs=all,points=11)`` comes
        nearest, and stands on another scale than genuine or impostor pairs alone. RISE's rule for the area is this
        one; Quantus' is not normalised and knows no pairs.

    Known weaknesses
        Means little with fills that are no faces: with black, random rankings and real maps score alike on impostor
        pairs. One pair's value moves in steps of one point of the curve; average over many pairs, or read the
        ``-score`` form. Rewards compact maps at pixel level; compare maps of different granularity with ``grid``.

    Cost
        points − 2 = 49 forward passes per sample. The clean image is scored when samples are loaded, the fully
        masked one once per sample and fill for all explainers (not at all with ``partner``). ``alter=both`` costs
        twice as much.

    Source
        Lu, Xu and Ebrahimi, 2024 (CorrRISE), after RISE, 2018. The fills: faithface.
    """

    protocol = Protocol(
        id="deletion-dissimilarity@1",
        question=(
            "How soon do two people look alike to the model when what the map calls dissimilar is replaced by the"
            " partner's own pixels?"
        ),
        better="lower",
        range=(0.0, 1.0),
        best=0.0,
        needs=frozenset({"model"}),
        cost="49, and 1 per fill",
        source=PAIR_SOURCE,
        tasks=VERIFICATION,
        judged_on=judged_pairs,
    )
    read = ("deletion",)
    kind = "dissimilarity"
    form = "decision"

    fill: Fill = "partner"
    pairs: Which = "impostor"


@dataclass(frozen=True)
class DeletionDissimilarityScore(PairCurve):
    """Area under the similarity of the pair while the probe's most dissimilar pixels are replaced.

    Formula
        The H·W pixels of the probe's dissimilarity map are ranked once, descending. At fractions f = 0, 1/50, …, 1
        the first k = round(f·H·W) of them take the values of the fill image, in pixel space, before the card's
        normalisation. Only the probe (image A) is altered.
        value = ∫ s(f) df by the trapezoid rule on [0, 1]; s(f) = the similarity of the altered probe and the
        unaltered reference (cosine, or minus the Euclidean distance, as the card says).

    Parameters
        ``fill``: what replaces pixels, default ``partner``: ``stranger`` (the pixels of another person's face of
        the same set, by the sample's seed), ``partner`` (the other image's own pixels), both for aligned faces
        only; ``blur`` (Gaussian, σ = 8 % of the shorter side), ``black`` (the papers'), ``mean``, ``rise``,
        ``linear`` (ROAD's noisy imputation; slow). ``grid``: 0 = pixels (default); G = the map is averaged on a G×G
        grid and whole cells move, k = round(f·G²) of them; pixel row r lies in cell row ⌊r·G/H⌋, so that cells may
        differ by one row where G does not divide H, and x is then the share of cells. ``points``: points of the
        curve, both ends included (51). ``pairs``: ``impostor`` (default), ``genuine``, or ``all`` to compare with
        papers that mix them. ``alter``: ``probe`` (default) or ``both`` (each image by its own map, at the same
        fraction; with ``stranger`` two different people).

    Range and direction
        −1 to 1 for cosine, higher is better. The best value is 1.0. The direction is the reverse of genuine pairs':
        deleting what is dissimilar should make the pair alike soonest.

    Special cases
        With ``grid``, means are ranked in steps of 2⁻²⁰ of the map's largest |value|: smaller differences are rounding
        errors. Ties break by a permutation seeded from the sample id, the same for every explainer. A constant map is
        therefore scored at random, and flagged. A map with values that are not finite has no value (the reason is
        kept).

    Needs
        The model (forward passes); verification.

    Differs from other libraries
        The papers' code removes pixels by percentile thresholds on 11 points with a black fill, so that tied pixels
        go all at once or never, and scores all pairs of a protocol: ``(fill=black,pairs=all,points=11)`` comes
        nearest, and stands on another scale than genuine or impostor pairs alone. RISE's rule for the area is this
        one; Quantus' is not normalised and knows no pairs.

    Known weaknesses
        Means little with fills that are no faces: with black, random rankings and real maps score alike on impostor
        pairs. Rewards compact maps at pixel level; compare maps of different granularity with ``grid``.

    Cost
        points − 2 = 49 forward passes per sample. The clean image is scored when samples are loaded, the fully
        masked one once per sample and fill for all explainers (not at all with ``partner``). ``alter=both`` costs
        twice as much.

    Source
        Lu, Xu and Ebrahimi, 2024 (CorrRISE), after RISE, 2018. The fills: faithface.
    """

    protocol = Protocol(
        id="deletion-dissimilarity-score@1",
        question=(
            "How soon do two people look alike to the model when what the map calls dissimilar is replaced by the"
            " partner's own pixels?"
        ),
        better="higher",
        range=(-1.0, 1.0),
        best=1.0,
        needs=frozenset({"model"}),
        cost="49, and 1 per fill",
        source=PAIR_SOURCE,
        tasks=VERIFICATION,
        judged_on=judged_pairs,
    )
    read = ("deletion",)
    kind = "dissimilarity"
    form = "score"

    fill: Fill = "partner"
    pairs: Which = "impostor"
