"""``contribution-correlation@1``: does a map order the patches as the network's own mechanism does?

Place in the flow: a metric on maps and the model's contributions; built on ``_contributions``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from faithface.contract import FaceModel, Maps, Protocol, Samples, Scores, Value
from faithface.metrics import _maps
from faithface.metrics._contributions import Contributions, linear_correlation, patch_sums, rank_correlation, stepped
from faithface.reasons import Reason, ReasonCode

NOTHING_POSITIVE = Reason(ReasonCode.UNDEFINED, "mass: no patch contributes more than the fill")


@dataclass(frozen=True)
class ContributionCorrelation(Contributions):
    """Correlation of a map's patch sums with what the patches contribute to the score, known exactly.

    Formula
        m_p = the sum of the judged map over patch p. c_p = the contribution of patch p to what the map shows, less what
        the fill contributes in its place: to the score of the predicted class (classifiers), to the similarity (genuine
        pairs), or to its negative (impostor pairs).
        value = Spearman's rank correlation of m_p and c_p over the patches, ties by their mean rank.

    Values
        (headline): the rank correlation.
        ``:linear``: Pearson's correlation of m_p and c_p.
        ``:mass``: Σ_p min(m⁺_p / Σm⁺, c⁺_p / Σc⁺), with x⁺ = max(x, 0): the share of the map's mass that lies where the
        contributions have theirs, 0 to 1. A map without a positive patch counts as uniform.
        ``:plain``: the rank correlation with contributions from which no fill is subtracted.
        ``:signed``: as ``:plain``, but of the signed map: similarity minus dissimilarity of the probe with the
        contributions to the similarity, on all pairs. For classifiers it equals ``:plain``.

    Parameters
        ``fill``: what a patch is compared with. ``auto`` (default): the fill with which curves judge the map, ``blur``
        for classifiers, ``stranger`` for genuine and ``partner`` for impostor pairs. Or one of ``stranger``,
        ``partner``, ``blur``, ``black``, ``mean``, ``rise`` for all, or ``none``: nothing is subtracted.
        ``pairs``: ``all`` (default), ``genuine`` or ``impostor``.

    Range and direction
        −1 to 1. Higher is better. The best value is 1.0. A random map has expectation 0. A map without any order of
        the patches has 0.

    Which maps
        Classifiers: the relevance map, signed as it is. Pairs: the probe's similarity map on genuine pairs and its
        dissimilarity map on impostor pairs; ``:signed`` takes both.

    Needs
        A model whose card has a section ``[contributions]``: the networks ``exact-*``, or any other that gives its
        mechanism. Values are comparable between models of one grid of patches only.

    Special cases
        Patch sums are compared in steps of 2⁻²⁰ of the largest |sum|; smaller differences are rounding errors. A map
        whose patch sums are all equal is flagged. A sample whose patches all contribute the same has no value. Where no
        c_p is positive, ``:mass`` has no value. A map with values that are not finite has no value. For patches that
        depend on each other, c_p is the Shapley value of the game "this patch, or the fill's".

    Differs from other libraries
        Ground truth is usually where something was planted, which need not be all that a trained network uses. Here it
        is the network's own sum. Within a patch nothing is known, so that nothing is asked.

    Known weaknesses
        It holds for networks that are linear between patches. On these, methods made for linear models have an easier
        task than on a network that mixes the whole face. A method that answers a question without a fill, such as the
        gradient, is held against a difference: see ``:plain``.

    Cost
        0 forward passes for each explainer. The contributions take 2 per sample, 3 for pairs, once for all; patches
        that depend on each other take 2 to the power of their number more.

    Source
        faithface. Networks after RRFNet (arXiv:2510.10753), BagNet (Brendel and Bethge, 2019) and AttributionLab
        (arXiv:2310.06514).
    """

    protocol = Protocol(
        id="contribution-correlation@1",
        question="Does the map order the patches as their true contributions to the score do?",
        better="higher",
        range=(-1.0, 1.0),
        needs=frozenset({"contributions"}),
        family="truth",
        values=(Value(), Value("linear"), Value("mass"), Value("plain"), Value("signed")),
        judged_on=lambda metric: metric.pairs,
        cost="0 for each explainer; the contributions 2 per sample, 3 for pairs, once for all",
        source="faithface; networks after RRFNet (arXiv:2510.10753), BagNet and AttributionLab (arXiv:2310.06514)",
    )

    def compare(self, sums: np.ndarray, samples: Samples, maps: Maps, model: FaceModel) -> Scores:
        truth, plain = self.truth(model, samples), self.truth(model, samples, plain=True)
        signed, sign = sums, np.ones(len(samples))
        if samples.are_pairs:
            named = maps.named()
            both = _maps.finite(named["similarity"][:, 0] - named["dissimilarity"][:, 0])
            signed, sign = patch_sums(model.card, both), np.where(samples.genuine, 1, -1)
        steps = stepped(sums)
        values = {
            "": rank_correlation(steps, truth),
            "linear": np.where(np.ptp(steps, axis=1) > 0, linear_correlation(sums, truth), 0.0),
            "mass": overlap(sums, truth),
            "plain": rank_correlation(steps, plain),
            "signed": rank_correlation(stepped(signed), plain * sign[:, None]),
        }
        blank = np.flatnonzero(np.isnan(values["mass"]))
        return Scores(values, {int(i): NOTHING_POSITIVE for i in blank})


def overlap(sums: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the common part of two distributions over patches, float64 N; NaN where the truth has no positive part."""
    mass, right = np.maximum(sums, 0), np.maximum(truth, 0)
    mass[~mass.any(axis=1)] = 1
    total = right.sum(axis=1, keepdims=True)
    right = np.divide(right, total, out=np.full_like(right, np.nan), where=total > 0)
    return np.minimum(mass / mass.sum(axis=1, keepdims=True), right).sum(axis=1)
