"""``contribution-error@1``: do the values of a map mean anything, once its scale and offset are fitted?

Place in the flow: a metric on maps and the model's contributions; built on ``_contributions``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from faithface.contract import FaceModel, Maps, Protocol, Samples, Scores, Value
from faithface.metrics._contributions import Contributions, linear_correlation, stepped
from faithface.reasons import Reason, ReasonCode

NO_SLOPE = Reason(ReasonCode.UNDEFINED, "scale: the fitted slope is not positive")


@dataclass(frozen=True)
class ContributionError(Contributions):
    """Error of a map's patch sums as contributions to the score, after the best fit of a scale and an offset.

    Formula
        m_p and c_p as in ``contribution-correlation@1``: the judged map summed over patch p, and what the patch
        contributes more than the fill. a ≥ 0 and b minimise Σ_p (c_p − a·m_p − b)².
        value = sqrt(Σ_p (c_p − a·m_p − b)² / Σ_p (c_p − mean c)²).

    Values
        (headline): the error relative to the spread of the contributions.
        ``:scale``: ln a per sample; the board's number is its standard deviation over the samples. 0 means that a map's
        value stands for the same contribution on every sample, 0.7 that it differs by a factor of 2.

    Parameters
        ``fill``: what a patch is compared with: ``auto`` (default; ``blur`` for classifiers, ``stranger`` for genuine
        and ``partner`` for impostor pairs), one of ``stranger``, ``partner``, ``blur``, ``black``, ``mean``, ``rise``,
        or ``none``.
        ``pairs``: ``all`` (default), ``genuine`` or ``impostor``.

    Range and direction
        0 to 1. Lower is better. The best value is 0.0. 1 is the error of a constant map, and of one that orders the
        patches the wrong way: a negative a is not allowed.

    Which maps
        Classifiers: the relevance map, signed as it is. Pairs: the probe's similarity map on genuine pairs and its
        dissimilarity map on impostor pairs.

    Needs
        A model whose card has a section ``[contributions]``.

    Special cases
        A map whose patch sums are equal within 2⁻²⁰ of the largest has the value 1, and is flagged. Where a is 0,
        ``:scale`` has no value. A sample whose patches all contribute the same has no value, and neither has a map that
        is not finite.

    Differs from other libraries
        Completeness, which others measure, asks whether the values sum to the score. A map can be complete and wrong at
        each place, and right at each place up to a factor. The fit forgives the factor; ``:scale`` says whether it is
        one and the same.

    Known weaknesses
        One patch with a large contribution decides the fit. Maps that are normalised to a maximum of 1 lose their
        scale, which ``:scale`` shows and the headline does not.

    Cost
        0 forward passes for each explainer. The contributions take 2 per sample, 3 for pairs, once for all.

    Source
        faithface.
    """

    protocol = Protocol(
        id="contribution-error@1",
        question="How far are the map's values from the true contributions, once scale and offset are fitted?",
        better="lower",
        range=(0.0, 1.0),
        needs=frozenset({"contributions"}),
        family="truth",
        values=(Value(), Value("scale")),
        judged_on=lambda metric: metric.pairs,
        cost="0 for each explainer; the contributions 2 per sample, 3 for pairs, once for all",
        source="faithface",
    )

    def compare(self, sums: np.ndarray, samples: Samples, maps: Maps, model: FaceModel) -> Scores:
        truth = self.truth(model, samples)
        spread = np.ptp(stepped(sums), axis=1) > 0
        # The residual of a least-squares line is sqrt(1 − r²) of the spread; with a slope of 0 it is all of it.
        r = np.where(spread, np.maximum(linear_correlation(sums, truth), 0), 0)
        deviation = sums.std(axis=1)
        slope = r * np.divide(truth.std(axis=1), deviation, out=np.zeros(len(sums)), where=spread)
        scale = np.log(slope, out=np.full(len(sums), np.nan), where=slope > 0)
        reasons = {int(i): NO_SLOPE for i in np.flatnonzero(np.isnan(scale))}
        return Scores({"": np.sqrt(1 - r**2), "scale": scale}, reasons)

    def summarise(self, values: np.ndarray, name: str = "") -> float:
        """Return the mean; for ``scale`` the standard deviation, NaN for fewer than two values."""
        if name != "scale":
            return super().summarise(values, name)
        return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
