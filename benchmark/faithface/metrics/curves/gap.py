"""Gap: insertion against deletion, the headline of the curve metrics.

Place in the flow: difference of the two areas. Forward passes are shared with the other curve
metrics through ``_base``. Each docstring
is the protocol.
"""

from __future__ import annotations

from dataclasses import dataclass

from faithface.contract import Protocol, Which
from faithface.metrics.curves._base import CLASSIFIERS, VERIFICATION, ClassCurve, PairCurve, judged_pairs
from faithface.perturb.fills import Fill

GAP_SOURCE = "faithface; areas after Petsiuk, Das, Saenko, RISE, BMVC 2018, and Lu, Xu, Ebrahimi, CorrRISE, WACV 2024"


@dataclass(frozen=True)
class Gap(ClassCurve):
    """Insertion minus deletion: the headline of the curve metrics, which reads without a reference.

    Formula
        value = area(insertion) − area(deletion), by the trapezoid rule on [0, 1]; p(f) is the probability of the
        class predicted on the clean image; insertion is the curve that puts the first k = round(f·H·W) pixels of
        the map's descending ranking back into the fill image, deletion the one that replaces them by it, at f = 0,
        1/50, …, 1. Both curves come from the same forward passes as ``insertion@1`` and ``deletion@1``.

    Parameters
        ``fill``: what removed pixels become: ``blur`` (default; Gaussian, σ = 8 % of the shorter side),
        ``stranger`` (another sample of the other class, by the sample's seed; aligned faces only), ``black``,
        ``mean`` (the image's own), ``rise`` (RISE's 11×11 kernel), ``linear`` (ROAD's noisy imputation; slow, the
        fill depends on the mask). ``grid``: 0 = pixels (default); G = the map is averaged on a G×G grid and whole
        cells move, k = round(f·G²) of them; pixel row r lies in cell row ⌊r·G/H⌋, so that cells may differ by one
        row where G does not divide H, and x is then the share of cells. ``points``: points of the curve, both ends
        included (51).

    Range and direction
        −1 to 1, higher is better. The best value is 1.0. A random ranking has expectation 0 whatever the model, the
        data and the fill; inverting a map without ties changes the sign and nothing else.

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
        No other library reports the difference.

    Known weaknesses
        What it inherits from both areas: it depends on the fill, it rewards compact maps at pixel level (use
        ``grid``), and a centre prior does well where the whole face speaks.

    Cost
        2·(points − 2) = 98 forward passes per sample, the same ones as deletion and insertion. The clean image is
        scored when samples are loaded, the fully masked one once per sample and fill for all explainers.

    Source
        Petsiuk, Das and Saenko, 2018 (RISE). The gap and the fills for faces: faithface.
    """

    protocol = Protocol(
        id="gap@1",
        question="How much better does the model do with what the map calls relevant than without it?",
        better="higher",
        range=(-1.0, 1.0),
        best=1.0,
        needs=frozenset({"model"}),
        cost="98, and 1 per fill (shared with deletion and insertion)",
        source=GAP_SOURCE,
        tasks=CLASSIFIERS,
    )
    read = ("insertion", "deletion")


@dataclass(frozen=True)
class GapSimilarity(PairCurve):
    """Insertion minus deletion of the share of right decisions, on genuine pairs.

    Formula
        value = area(insertion) − area(deletion), by the trapezoid rule on [0, 1]; insertion is the curve that puts
        the first k = round(f·H·W) pixels of the map's descending ranking back into the fill image, deletion the one
        that replaces them by it, at f = 0, 1/50, …, 1. Only the probe (image A) is altered, by its own similarity
        map. r(f) = 1 if the decision at the clean threshold is right (similarity of the altered probe and the
        unaltered reference at least the threshold for a genuine pair, below it for an impostor pair), else 0. The
        threshold is the card's, else the equal-error point of the clean scores; a similarity within 1e-5 below it
        counts as on it. Both curves come from the same forward passes as the areas.

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
        −1 to 1, higher is better. The best value is 1.0. A random ranking has expectation 0; inverting a map
        without ties changes the sign and nothing else.

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
        2·(points − 2) = 98 forward passes per sample, the same ones as deletion and insertion. The clean image is
        scored when samples are loaded, the fully masked one once per sample and fill for all explainers (not at all
        with ``partner``). ``alter=both`` costs twice as much.

    Source
        Lu, Xu and Ebrahimi, 2024 (CorrRISE), after RISE, 2018. The gap and the fills: faithface.
    """

    protocol = Protocol(
        id="gap-similarity@1",
        question="How much better does a genuine pair match with what the map calls similar than without it?",
        better="higher",
        range=(-1.0, 1.0),
        best=1.0,
        needs=frozenset({"model"}),
        cost="98, and 1 per fill (shared with deletion and insertion)",
        source=GAP_SOURCE,
        tasks=VERIFICATION,
        judged_on=judged_pairs,
    )
    read = ("insertion", "deletion")
    kind = "similarity"
    form = "decision"


@dataclass(frozen=True)
class GapSimilarityScore(PairCurve):
    """Insertion minus deletion of the similarity of the pair, on genuine pairs.

    Formula
        value = area(insertion) − area(deletion), by the trapezoid rule on [0, 1]; insertion is the curve that puts
        the first k = round(f·H·W) pixels of the map's descending ranking back into the fill image, deletion the one
        that replaces them by it, at f = 0, 1/50, …, 1. Only the probe (image A) is altered, by its own similarity
        map. s(f) = the similarity of the altered probe and the unaltered reference (cosine, or minus the Euclidean
        distance, as the card says). Both curves come from the same forward passes as the areas.

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
        −2 to 2 for cosine, higher is better. The best value is 2.0. A random ranking has expectation 0; inverting a
        map without ties changes the sign and nothing else.

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
        2·(points − 2) = 98 forward passes per sample, the same ones as deletion and insertion. The clean image is
        scored when samples are loaded, the fully masked one once per sample and fill for all explainers (not at all
        with ``partner``). ``alter=both`` costs twice as much.

    Source
        Lu, Xu and Ebrahimi, 2024 (CorrRISE), after RISE, 2018. The gap and the fills: faithface.
    """

    protocol = Protocol(
        id="gap-similarity-score@1",
        question="How much better does a genuine pair match with what the map calls similar than without it?",
        better="higher",
        range=(-2.0, 2.0),
        best=2.0,
        needs=frozenset({"model"}),
        cost="98, and 1 per fill (shared with deletion and insertion)",
        source=GAP_SOURCE,
        tasks=VERIFICATION,
        judged_on=judged_pairs,
    )
    read = ("insertion", "deletion")
    kind = "similarity"
    form = "score"


@dataclass(frozen=True)
class GapDissimilarity(PairCurve):
    """Insertion minus deletion of the share of right decisions, on impostor pairs.

    Formula
        value = area(insertion) − area(deletion), by the trapezoid rule on [0, 1]; insertion is the curve that puts
        the first k = round(f·H·W) pixels of the map's descending ranking back into the fill image, deletion the one
        that replaces them by it, at f = 0, 1/50, …, 1. Only the probe (image A) is altered, by its own
        dissimilarity map. r(f) = 1 if the decision at the clean threshold is right (similarity of the altered probe
        and the unaltered reference at least the threshold for a genuine pair, below it for an impostor pair), else
        0. The threshold is the card's, else the equal-error point of the clean scores; a similarity within 1e-5
        below it counts as on it. Both curves come from the same forward passes as the areas.

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
        −1 to 1, higher is better. The best value is 1.0. A random ranking has expectation 0; inverting a map
        without ties changes the sign and nothing else. Deleting dissimilar pixels makes the decision wrong soonest,
        so a good map has the larger insertion area: the order of the difference is that of genuine pairs, unlike in
        the ``-score`` form.

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
        2·(points − 2) = 98 forward passes per sample, the same ones as deletion and insertion. The clean image is
        scored when samples are loaded, the fully masked one once per sample and fill for all explainers (not at all
        with ``partner``). ``alter=both`` costs twice as much.

    Source
        Lu, Xu and Ebrahimi, 2024 (CorrRISE), after RISE, 2018. The gap and the fills: faithface.
    """

    protocol = Protocol(
        id="gap-dissimilarity@1",
        question="How much more alike are two people without what the map calls dissimilar than with it?",
        better="higher",
        range=(-1.0, 1.0),
        best=1.0,
        needs=frozenset({"model"}),
        cost="98, and 1 per fill (shared with deletion and insertion)",
        source=GAP_SOURCE,
        tasks=VERIFICATION,
        judged_on=judged_pairs,
    )
    read = ("insertion", "deletion")
    kind = "dissimilarity"
    form = "decision"

    fill: Fill = "partner"
    pairs: Which = "impostor"


@dataclass(frozen=True)
class GapDissimilarityScore(PairCurve):
    """Deletion minus insertion of the similarity of the pair, on impostor pairs.

    Formula
        value = area(deletion) − area(insertion), by the trapezoid rule on [0, 1]; insertion is the curve that puts
        the first k = round(f·H·W) pixels of the map's descending ranking back into the fill image, deletion the one
        that replaces them by it, at f = 0, 1/50, …, 1. Only the probe (image A) is altered, by its own
        dissimilarity map. s(f) = the similarity of the altered probe and the unaltered reference (cosine, or minus
        the Euclidean distance, as the card says). Both curves come from the same forward passes as the areas.

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
        −2 to 2 for cosine, higher is better. The best value is 2.0. A random ranking has expectation 0; inverting a
        map without ties changes the sign and nothing else. The order is turned round against genuine pairs:
        deleting dissimilar pixels should raise the similarity.

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
        2·(points − 2) = 98 forward passes per sample, the same ones as deletion and insertion. The clean image is
        scored when samples are loaded, the fully masked one once per sample and fill for all explainers (not at all
        with ``partner``). ``alter=both`` costs twice as much.

    Source
        Lu, Xu and Ebrahimi, 2024 (CorrRISE), after RISE, 2018. The gap and the fills: faithface.
    """

    protocol = Protocol(
        id="gap-dissimilarity-score@1",
        question="How much more alike are two people without what the map calls dissimilar than with it?",
        better="higher",
        range=(-2.0, 2.0),
        best=2.0,
        needs=frozenset({"model"}),
        cost="98, and 1 per fill (shared with deletion and insertion)",
        source=GAP_SOURCE,
        tasks=VERIFICATION,
        judged_on=judged_pairs,
    )
    read = ("insertion", "deletion")
    kind = "dissimilarity"
    form = "score"

    fill: Fill = "partner"
    pairs: Which = "impostor"
