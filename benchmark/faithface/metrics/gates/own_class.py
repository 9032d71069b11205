"""``own-class@1``: the map of the opposite answer must be another map.

Place in the flow: a gate that explains the other class; called by ``run``. May call ``_reexplain``, ``similarity``,
``contract``.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from faithface.card import ModelCard
from faithface.contract import Cache, Dataset, Explainer, FaceModel, Maps, Metric, Protocol, Samples, Scores
from faithface.errors import NotApplicable
from faithface.metrics import _maps
from faithface.metrics._reexplain import need_explainer, reasons_for
from faithface.metrics.noise_stability import judged_ranks
from faithface.metrics.similarity import average_ranks, rank_correlation
from faithface.tasks import class_probabilities


@dataclass(frozen=True)
class OwnClass(Metric):
    """Agreement of a map with the map of the opposite answer.

    Formula
        Classifiers of two classes: the samples are explained once more, for the class that was not predicted. Pairs:
        the opposite answer's map is the other one of the two, dissimilarity on genuine and similarity on impostor
        pairs, both of the probe.
        value = Spearman's rank correlation of map and opposite map over all pixels, signs kept, ties by their mean
        rank.

    Range and direction
        −1 to 1. Lower is better. The best value is −1.0: what speaks for one answer speaks against the other. At 1 the
        map is the same whatever is asked.

    Passed or failed
        Passed where the mean over the samples is at most 0.5.

    Special cases
        Two constant maps are the same map (1); a constant map beside another gives 0. The sample is flagged where its
        own map is constant. Where one of the maps is not finite, there is no value. Detectors with one output unit have
        two classes as well. Classifiers of more than two classes are not judged: there is no one opposite.

    Differs from other libraries
        Class sensitivity (Li et al. 2021) correlates the maps of the most and the least likely of many classes. The
        detectors here have two, and the opposite map of a signed method is its negative.

    Known weaknesses
        A necessary condition only, and one that sizes of gradients cannot pass on two classes whose logits are each
        other's negative: where |∂y/∂x| is large, it is large for both. Such a map says where, and not for what.
        Methods that keep positive parts only leave the two maps without common mass, which counts as different.

    Cost
        Classifiers: one explanation. Pairs: nothing.

    Source
        faithface; after Li et al., An Experimental Study of Quantitative Evaluations on Saliency Methods, KDD 2021,
        arXiv:2012.15616.
    """

    protocol = Protocol(
        id="own-class@1",
        question="The opposite answer is asked about. Does the map change?",
        better="lower",
        range=(-1.0, 1.0),
        best=-1.0,
        needs=frozenset({"model", "explainer"}),
        family="gate",
        bar=0.5,
        cost="0, and 1 explanation (pairs: none)",
        source="faithface; after Li et al., KDD 2021, arXiv:2012.15616",
    )

    def check(self, card: ModelCard, dataset: Dataset, explainer: Explainer | None = None) -> None:
        if card.task != "verification" and len(card.output.classes) != 2:
            raise NotApplicable(
                f'metric "{self.id}" asks for the opposite class; the model has {len(card.output.classes)} classes, '
                "expected 2"
            )

    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        own = _maps.judged(samples, maps)
        if samples.are_pairs:
            kinds = tuple("dissimilarity" if same else "similarity" for same in samples.genuine)
            other = _maps.pick(maps, kinds)
        else:
            explainer = need_explainer(self.id, explainer)
            again = opposite(model, samples)
            other = _maps.judged(again, explainer.explain(model, again))
        value = rank_correlation(maps.cached(judged_ranks, samples), average_ranks(other))
        return _maps.result({"": value}, reasons_for(own, value), _maps.constant(own))


def opposite(model: FaceModel, samples: Samples) -> Samples:
    """Return samples of two classes with the class that was not predicted as the one that is explained."""
    clean = samples.clean
    probabilities = class_probabilities(model.card, clean.outputs)
    predicted = 1 - clean.predicted
    scores = probabilities.gather(1, predicted[:, None].to(probabilities.device)).squeeze(1)
    return dataclasses.replace(
        samples, clean=dataclasses.replace(clean, predicted=predicted, scores=scores), cache=Cache()
    )
