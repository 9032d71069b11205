"""``completeness@1``: a map that promises to sum to the score must.

Place in the flow: a gate on the map and on what the explainer promises; called by ``run``. May call the contract.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from faithface.card import ModelCard
from faithface.contract import Dataset, Explainer, FaceModel, Maps, Metric, Protocol, Samples, Scores
from faithface.errors import NotApplicable
from faithface.lazy import torch
from faithface.metrics import _maps
from faithface.reasons import Reason, ReasonCode

NO_RISE = Reason(ReasonCode.UNDEFINED, "the promised sum is 0")


@dataclass(frozen=True)
class Completeness(Metric):
    """Relative error of the sum of a map that promises a sum.

    Formula
        r = what the explainer promises that the map sums to (``Explainer.promised_sum``); for integrated gradients the
        explained scalar of the image minus that of the baseline. The explained scalar is the logit of the class
        predicted on the image, or the cosine of the probe's and the reference's embeddings. Classifiers: s = Σ of the
        relevance map. Pairs: s = Σ of the probe's similarity map minus Σ of its dissimilarity map.
        value = |s − r| / |r|, summed in float64.

    Range and direction
        0 upwards. Lower is better. The best value is 0.0.

    Passed or failed
        Passed where the mean over the samples is at most 0.05.

    Special cases
        It applies to methods that promise a sum (``completeness`` in ``Method.promises``), as they are set: integrated
        gradients with channels that lose their sign promise none. A sample with r = 0 has no value, nor has
        one whose map is not finite.

    Differs from other libraries
        Quantus asks every method whether its map sums to the score minus that of a baseline of its own choice, and
        answers yes or no by equality. A method is held here to what it says itself.

    Known weaknesses
        A map can be complete and wrong at every pixel: one pixel may hold all of the sum. For integrated gradients the
        error is that of the quadrature, and falls with ``steps``.

    Cost
        Nothing, where the explainer knows the score of its baseline.

    Source
        Sundararajan, Taly and Yan, Axiomatic Attribution for Deep Networks, ICML 2017, arXiv:1703.01365.
    """

    protocol = Protocol(
        id="completeness@1",
        question="The method says what its map sums to. Does it?",
        better="lower",
        range=(0.0, float("inf")),
        best=0.0,
        needs=frozenset({"model"}),
        family="gate",
        bar=0.05,
        cost="0",
        source="Sundararajan, Taly and Yan, ICML 2017, arXiv:1703.01365",
    )

    def check(self, card: ModelCard, dataset: Dataset, explainer: Explainer | None = None) -> None:
        if explainer is not None and "completeness" not in explainer.info.promises:
            raise NotApplicable(f'metric "{self.id}" is for methods that promise what their maps sum to')

    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        promised = None if explainer is None else explainer.promised_sum(model, samples)
        if promised is None:
            raise NotApplicable(f'metric "{self.id}" needs an explainer that promises what its maps sum to')
        named = maps.named()
        if samples.are_pairs:
            promised = promised.unflatten(0, (len(samples), 2))[:, 0]
            signed = named["similarity"][:, 0].double() - named["dissimilarity"][:, 0].double()
        else:
            signed = named["relevance"].double()
        reasons: dict[int, Reason | str] = dict(_maps.invalid(signed))
        rise = _maps.to_numpy(promised)
        reasons |= {int(i): NO_RISE for i in np.flatnonzero(rise == 0)}
        total = _maps.to_numpy(torch.nan_to_num(signed).sum(dim=(1, 2)))
        value = np.abs(total - rise) / np.where(rise == 0, 1.0, np.abs(rise))
        return _maps.result({"": value}, reasons)
