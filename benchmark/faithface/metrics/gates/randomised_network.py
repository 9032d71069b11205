"""``randomised-network@1``: the map must change when the network has learned nothing.

Place in the flow: a gate that explains another network; called by ``run``. May call ``randomisation``, ``_reexplain``,
``similarity``, ``contract``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from faithface.contract import Explainer, FaceModel, Maps, Metric, Protocol, Samples, Scores, Value
from faithface.errors import NotApplicable
from faithface.metrics import _maps
from faithface.metrics._reexplain import need_explainer, reasons_for, rescored
from faithface.metrics.noise_stability import judged_ranks
from faithface.metrics.randomisation import learned_layers, randomised_model
from faithface.metrics.similarity import average_ranks, rank_correlation


@dataclass(frozen=True)
class RandomisedNetwork(Metric):
    """Agreement of a map with that of the same network with random weights.

    Formula
        All learned layers (convolutions and matrix products) get random weights: each tensor is redrawn from the normal
        distribution with its own mean and standard deviation, by the generator of (suite's seed, "",
        "randomisation/" + the tensor's name). The samples are explained on that network, for the class that the trained
        network predicted;
        value = |Spearman's rank correlation of the two maps over all pixels|, ties by their mean rank.

    Values
        headline: the absolute correlation.
        ``signed``: with its sign.

    Range and direction
        0 to 1. Lower is better. The best value is 0.0: the random network's map tells nothing about the trained one's.

    Passed or failed
        Passed where the mean over the samples is at most 0.5.

    Which maps
        Classifiers: the relevance map. Pairs: both faces are embedded by the random network; the probe's similarity map
        on genuine pairs, its dissimilarity map on impostor pairs.

    Special cases
        Two constant maps are the same map (1); a constant map beside another gives 0. The sample is flagged where its
        own map is constant. Where one of the maps is not finite, there is no value. Normalisation layers keep their
        parameters.

    Differs from other libraries
        It is the last level of ``randomisation@1`` (value ``all-layers``), which states a mean over levels and costs
        five explanations. One level is enough to tell a map that ignores the network.

    Known weaknesses
        A necessary condition only. Maps that follow the image's edges keep some correlation with any network, and maps
        whose large values lie in the middle for every sample too. Explainers that never ask the network stand at 1.

    Cost
        One explanation and one forward pass per sample (pairs: two), and once per model the opening of a network.

    Source
        Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018, arXiv:1810.03292.
    """

    protocol = Protocol(
        id="randomised-network@1",
        question="The network is made to forget all it has learned. Does the map change?",
        better="lower",
        range=(0.0, 1.0),
        best=0.0,
        needs=frozenset({"model", "explainer"}),
        family="gate",
        bar=0.5,
        values=(Value(), Value("signed")),
        cost="1 (pairs: 2), and 1 explanation",
        source="Adebayo et al., NeurIPS 2018, arXiv:1810.03292",
    )

    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        explainer = need_explainer(self.id, explainer)
        layers = len(learned_layers(model.proto.graph)) if model.proto is not None else 0
        if not layers:
            raise NotApplicable(
                f'metric "{self.id}" randomises float weights of convolutions and matrix products; '
                f'model "{model.card.name}" has none that are stored as such'
            )
        own = _maps.judged(samples, maps)
        net = randomised_model(model, layers, samples.seed)
        before = net.passes
        again = rescored(net, samples)
        other = _maps.judged(again, explainer.explain(net, again))
        # The random network has a meter of its own; what it did is this model's cost.
        spent = net.passes - before
        model.count(spent.forward, spent.backward)
        signed = rank_correlation(maps.cached(judged_ranks, samples), average_ranks(other))
        return _maps.result({"": np.abs(signed), "signed": signed}, reasons_for(own, signed), _maps.constant(own))
