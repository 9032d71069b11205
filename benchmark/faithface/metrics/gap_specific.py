"""``gap-specific@1``: does the map say something of this very sample, or does another sample's map serve as well?

Place in the flow: a metric that explains other samples; called by ``run``. May call ``_others``, ``_reexplain``,
``perturb``, ``contract``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from faithface.card import ModelCard
from faithface.contract import (
    ClassSide,
    Dataset,
    Explainer,
    FaceModel,
    Fill,
    Maps,
    Metric,
    Protocol,
    Samples,
    Scores,
    Value,
    Which,
    both,
)
from faithface.errors import NotApplicable
from faithface.lazy import torch
from faithface.metrics import _maps
from faithface.metrics._others import circles, maps_of_others, mean_difference, too_few
from faithface.metrics._reexplain import need_explainer
from faithface.reasons import Reason, ReasonCode

if TYPE_CHECKING:
    from torch import Tensor

Replacement = Literal["auto", "stranger", "partner", "blur", "black", "mean", "rise"]
OTHER_INVALID = Reason(ReasonCode.NON_FINITE_MAP, "a map of another sample is not finite")
FILL_BY_KIND = {"relevance": "blur", "similarity": "stranger", "dissimilarity": "partner"}


def value_range(_metric: Metric, card: ModelCard | None) -> tuple[float, float]:
    """Return the range of a difference of two gaps."""
    if card is None or (card.task == "verification" and card.output.similarity == "cosine"):
        return -4.0, 4.0
    return (-2.0, 2.0) if card.task != "verification" else (float("-inf"), float("inf"))


def passes(metric: GapSpecific) -> str:
    """Return the cost in words."""
    each = 2 * (metric.points - 2)
    count = metric.others
    return (
        f"{each * (count + 1)} ({each} for each of {count + 1} maps), 1 per fill, the other samples' clean scores"
        f" (both shared), and up to {count} explanations (in a run about 1)"
    )


@dataclass(frozen=True)
class GapSpecific(Metric):
    """The gap of a sample's own map minus the gap of other samples' maps on the same sample.

    Formula
        G(m, x) is the gap of map m on sample x, with the score's form: classifiers: area(insertion) − area(deletion)
        of the probability of the class predicted on the clean image (as ``gap@1``); genuine pairs: area(insertion) −
        area(deletion) of the pair's similarity, by the probe's similarity map (as ``gap-similarity-score@1``);
        impostor pairs: area(deletion) − area(insertion) of the similarity, by the probe's dissimilarity map (as
        ``gap-dissimilarity-score@1``). With e(x) the explainer's map of x, and y_1 … y_K other samples of the same
        kind,
        value = mean over k of [G(e(x), x) − G(e(y_k), x)].
        All K + 1 maps are ranked with the ties of x, and meet the same image, the same fill and the same reference.

    The other samples
        Two samples are of one kind if they have the same label (classifiers), or are both genuine or both impostor and
        of the same sort (the ``kind`` of a pair, where a dataset names sorts, such as part swaps). The label is used
        and not the predicted class, so that all models and explainers meet the same others. The samples of a kind in
        the *whole* dataset, whatever part of it is run, are sorted by the seed of (suite's seed, sample id, "limit"),
        ascending, and closed to a circle. The others of x are the next K on the circle that show no person of x
        (identities where they are named; faces of one genuine pair are one person). So each sample serves about
        equally often, and with others of every quality.

    Parameters
        ``others``: K, the number of other samples (2).
        ``fill``: ``auto`` (default): ``blur`` for classifiers, ``stranger`` for genuine and ``partner`` for impostor
        pairs; or one of ``stranger``, ``partner``, ``blur``, ``black``, ``mean``, ``rise`` for all.
        ``grid``: G = the map is averaged on a G×G grid and whole cells move (default 14); 0 = pixels.
        ``points``: points of a curve, both ends included (11).
        ``pairs``: the pairs that are judged: ``all`` (default), ``genuine`` or ``impostor``. The two kinds stand on
        different scales: rank them apart.
        ``which``: of classifiers, the samples that are judged: ``positive`` (default), ``negative`` or ``all``.

    Values
        headline: the difference.
        ``own``: G(e(x), x), the plain gap.
        ``others``: the mean over k of G(e(y_k), x).

    Range and direction
        −4 to 4 for the cosine, −2 to 2 for classifiers. Higher is better. The best value is 4.0. 0 = another sample's
        map serves as well. It is exactly 0 for a map that is the same for all samples, whatever it is (the control
        ``centre-prior``); for a random map its expectation is 0. Below 0, the map serves other samples better than its
        own. Where every map is turned upside down, the sign changes and nothing else.

    Which maps
        Classifiers: relevance. Pairs: of the probe, similarity on genuine and dissimilarity on impostor pairs; only the
        probe is altered.

    Special cases
        Maps that rank the units of x alike have one and the same gap. A constant map is ranked by the ties of x, and
        flagged. A sample with fewer than K others has no value; neither has one whose own map, or one of whose others',
        is not finite. Verification needs aligned faces: on others the map of another pair would lose by its place
        alone. On a classifier's loose crops some of the value is that: the map follows the face.

    Differs from other libraries
        No library has it. Class sensitivity and randomisation tests compare maps with maps; here the network judges
        both. Subtracting the mean map of all samples before scoring would ask another question of another map.

    Known weaknesses
        Two samples may have the same answer (two genuine pairs: the middle of the face), which is no fault of the map:
        the value measures what is *specific*, not what is right. A map must be both; ``own`` tells the other half. A
        fault that all maps of an explainer share, such as a shift, is seen only as far as it spoils what was specific.
        Values of two samples that have an other in common are not quite independent.

    Cost
        18 forward passes for each of the K + 1 maps (54), 1 for the fill, and the explanations of the others. Those are
        kept with the model (256 MB of maps at most), so that in a run each sample is explained about twice: once for
        all metrics, and once as another's other.

    Source
        faithface. Curves: Petsiuk, Das and Saenko, RISE, BMVC 2018; on pairs: Lu, Xu and Ebrahimi, CorrRISE, WACV 2024.
    """

    others: int = 2
    fill: Replacement | Fill = "auto"
    grid: int = 14
    points: int = 11
    pairs: Which = "all"
    which: ClassSide = "positive"

    protocol = Protocol(
        id="gap-specific@1",
        question=(
            "How much more does the model depend on what a sample's own map ranks first than on what the same"
            " explainer's maps of other samples do?"
        ),
        better="higher",
        range=value_range,
        needs=frozenset({"model", "explainer"}),
        family="specific",
        values=(Value(), Value("own"), Value("others")),
        judged_on=lambda metric: both(metric.pairs, metric.which),
        cost=passes,
        source="faithface; curves: Petsiuk, Das, Saenko, RISE, BMVC 2018; Lu, Xu, Ebrahimi, CorrRISE, WACV 2024",
    )

    def __post_init__(self) -> None:
        if self.others < 1:
            raise ValueError(f"others is {self.others}; expected at least 1")
        _maps.check_grid(self.grid)
        if self.points < 2:
            raise ValueError(f"points is {self.points}; expected at least 2, both ends of the curve")

    def check(self, card: ModelCard, dataset: Dataset, explainer: Explainer | None = None) -> None:
        from faithface.perturb.fills import check_fill

        pairs = card.task == "verification"
        if pairs and not dataset.aligned:
            raise NotApplicable(
                f'metric "{self.id}" lays one pair\'s map on another and needs aligned faces; dataset "{dataset.name}" '
                "says that its faces are not",
                ReasonCode.NOT_ALIGNED,
            )
        if self.fill != "auto":
            check_fill(self.fill, dataset, pairs, masks=False)

    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        explainer = need_explainer(self.id, explainer)
        if samples.dataset is None:
            raise NotApplicable(
                f'metric "{self.id}" draws other samples from the dataset, and these belong to none; give load_samples '
                "the dataset",
                ReasonCode.NO_SAMPLES,
            )
        ring = circles(model, samples.dataset, samples.seed)
        rows = [ring.following(item, self.others) for item in samples]
        able = [i for i, row in enumerate(rows) if len(row) == self.others]
        reasons: dict[int, Reason | str] = {
            i: Reason(ReasonCode.UNDEFINED, too_few(samples.items[i], len(row), self.others))
            for i, row in enumerate(rows)
            if i not in able
        }
        own = _maps.judged(samples, maps)
        gaps = np.full((self.others + 1, len(samples)), np.nan)
        if able:
            theirs = torch.stack(maps_of_others(model, samples, explainer, [rows[i] for i in able]), dim=1)
            both = torch.cat([own[able][None].to(theirs), theirs])
            gaps[:, able] = self._gaps(model, samples.take(able), both)
        reasons |= {i: OTHER_INVALID for i in able if np.isnan(gaps[1:, i]).any()}
        reasons |= _maps.invalid(own)
        values = {"": mean_difference(gaps[0], gaps[1:]), "own": gaps[0], "others": gaps[1:].mean(axis=0)}
        return _maps.result(values, reasons, _maps.constant(own))

    def _gaps(self, model: FaceModel, samples: Samples, maps: Tensor) -> np.ndarray:
        """Return the gaps of M maps of each of N samples, float64 M×N; each kind of map with its fill and sign."""
        from faithface.perturb.several import gaps_of_several

        kinds = np.array(_maps.judged_kinds(samples))
        gaps = np.full(maps.shape[:2], np.nan)
        for kind in sorted(set(kinds)):
            at = np.flatnonzero(kinds == kind)
            fill = FILL_BY_KIND[kind] if self.fill == "auto" else self.fill
            # Deleting what is dissimilar makes a pair alike: there the good map has the larger area of deletion.
            sign = -1 if kind == "dissimilarity" else 1
            found = gaps_of_several(model, samples.take(at), maps[:, at], fill, self.grid, self.points)
            gaps[:, at] = sign * found
        return gaps


METRICS = (GapSpecific(),)
