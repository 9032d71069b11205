"""Remove and impute, most relevant first and least relevant first.

Place in the flow: a metric with forward passes; calls ``_maps``, ``_forward``, ``perturb.ranking`` and
``perturb.linear``.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from faithface.contract import ClassSide, Explainer, FaceModel, Maps, Metric, Protocol, Samples, Scores, Value, both
from faithface.lazy import torch
from faithface.metrics import _maps
from faithface.metrics._forward import NO_THRESHOLD, answers, probes, unaltered_scores
from faithface.perturb import Ranking, area, rank
from faithface.perturb.linear import impute_linear
from faithface.perturb.ranking import unit_counts
from faithface.tasks import difference_range

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Road(Metric):
    """Remove and debias: the gap between removing the least and the most relevant pixels, imputed from the rest.

    Formula
        At fractions f = 0, 0.1, … 1 the round(f·H·W) most relevant pixels (MoRF), or as many of the least relevant ones
        (LeRF), are removed. Each removed pixel becomes the weighted mean of its eight neighbours (1/6 direct, 1/12
        diagonal; weights of neighbours outside the image dropped), all of them solved for at once, plus normal noise of
        σ = ``noise``, clipped to [0, 1]. s(f) is the probability of the class predicted on the clean image, or the
        similarity of the pair; an area is the trapezoid of s over f.
        value = area of LeRF − area of MoRF.

    Values
        (headline): the gap.
        ``:morf``, ``:lerf``: the two areas (MoRF: lower is better).
        ``:morf-decision``, ``:lerf-decision``: areas under "the decision is that of the clean image", 1 or 0 at each
        fraction; over a set this is the area under the accuracy curves of the paper, with the model's own answer as
        label.

    Range and direction
        −1 to 1 for classifiers, −2 to 2 for pairs. Higher is better. The best value is 2.0 (1.0 for classifiers). A
        random map scores 0 in expectation, and the inverted map minus the value (ties apart).

    Parameters
        ``points``: number of fractions, both ends included; default 11.
        ``noise``: standard deviation in units of pixels in [0, 1]; default 0.01.
        ``grid``: 0 = pixels (default); G = whole cells of a G×G grid are ranked by their mean, in steps of 2⁻²⁰ of the
        map's largest |value|, and removed.
        ``which``: of classifiers, the samples that are judged: ``positive`` (default), ``negative`` or ``all``. The
        evidence of a bona fide image is what is absent from it.

    Which maps
        Classifiers: the relevance map of samples of the positive class. Pairs: genuine ones only, the probe's
        similarity map; the probe is altered. Imputation takes evidence away, which an impostor pair, unlike by its own,
        does not show.

    Special cases
        With everything removed there is nothing to impute from: the image's mean colour, plus the noise. The noise
        belongs to the pixel and the sample, the same for all fractions, directions and explainers. Ties fall by a
        permutation seeded from the sample. A constant map is scored in that order and flagged; a map with values that
        are not finite has no value. Without a decision threshold the two decision values of pairs are missing.

    Differs from other libraries
        The paper and Quantus: accuracy at each fraction, no area (``-decision`` values); Quantus: fractions 1 to 99 %
        in steps of 2. pytorch-grad-cam: change of the target at fractions 10 to 90 %, (LeRF − MoRF) / 2, and LeRF by
        ranking 1 − map. All of them add the noise in the network's normalised space; here it is in pixel space.

    Known weaknesses
        Smooth imputation rebuilds smooth regions: a map that marks skin loses nothing by it. The sparse systems cost
        more than a small network's forward passes.

    Cost
        2·(points − 2) + 1 forward passes per sample: 19; the clean end is known and the empty end is shared.

    Source
        Rong et al., 2022 (ROAD).
    """

    protocol = Protocol(
        id="road@1",
        question=(
            "Does information leave the image faster with the pixels ranked first than with those ranked last, "
            "when the removed ones are filled in so that the mask itself tells the model nothing?"
        ),
        better="higher",
        range=lambda _, card: difference_range(card),
        needs=frozenset({"model"}),
        family="faithful",
        values=(
            Value(),
            Value("morf", "lower"),
            Value("lerf"),
            Value("morf-decision", "lower"),
            Value("lerf-decision"),
        ),
        judged_on=lambda metric: both("genuine", metric.which),
        cost=lambda metric: f"{2 * (metric.points - 2) + 1}",
        source="Rong et al., A Consistent and Efficient Evaluation Strategy for Attribution Methods, ICML 2022",
    )

    points: int = 11
    noise: float = 0.01
    grid: int = 0
    which: ClassSide = "positive"

    def __post_init__(self) -> None:
        if self.points < 2:
            raise ValueError(f"points is {self.points}; expected at least 2, the two ends")
        if self.noise < 0:
            raise ValueError(f"noise is {self.noise}; expected 0 or more")
        _maps.check_grid(self.grid)

    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        chosen = _maps.judged(samples, maps)
        reasons = _maps.invalid(chosen)
        chosen = _maps.finite(chosen)
        ranking = rank(chosen, samples, self.grid)
        counts = unit_counts(ranking.units, self.points)
        n = len(samples)
        scores = np.empty((2, n, self.points))
        stands = np.ones((2, n, self.points))
        scores[:, :, 0] = unaltered_scores(samples)
        images = probes(samples)
        for step in range(1, self.points):
            last = step == self.points - 1
            # At the end both directions have removed everything: one pass serves both.
            sides = (False,) if last else (False, True)
            versions = [self._imputed(samples, images, ranking, int(counts[step]), least) for least in sides]
            told = answers(model, samples, versions, "pixels imputed from their neighbours")
            scores[:, :, step], stands[:, :, step] = told.scores, 1 - told.flipped
        areas, decisions = area(scores), area(stands)
        values = {
            "": areas[1] - areas[0],
            "morf": areas[0],
            "lerf": areas[1],
            "morf-decision": decisions[0],
            "lerf-decision": decisions[1],
        }
        curves = {"morf": scores[0], "lerf": scores[1]}
        result = _maps.result(values, reasons, _maps.constant(chosen), curves)
        if not np.isnan(decisions).any():
            return result
        return dataclasses.replace(result, reasons=dict.fromkeys(range(n), NO_THRESHOLD) | reasons)

    def _imputed(self, samples: Samples, images: Tensor, ranking: Ranking, units: int, least: bool) -> Tensor:
        """Return the probes without ``units`` units, the most or the least relevant ones: float32 N×3×H×W."""
        size = images.shape[-2:]
        out = []
        for i, image in enumerate(images.cpu().numpy()):
            removed = ~ranking.removed(i, ranking.units - units) if least else ranking.removed(i, units)
            out.append(impute_linear(image, removed.reshape(size).cpu().numpy(), samples.rng(i, "road"), self.noise))
        return torch.from_numpy(np.stack(out)).to(images.device)
