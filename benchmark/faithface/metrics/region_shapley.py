"""``region-shapley@1``: a map's sums over named regions of the face, against the exact Shapley values of these regions.

Place in the flow: a metric with forward passes, shared by all explainers; called by ``run``. May call ``regions``,
``_maps`` and the contract.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from faithface.card import ModelCard
from faithface.contract import Dataset, Explainer, FaceModel, Maps, Metric, Protocol, Samples, Scores, Value
from faithface.errors import NotApplicable, UsageError
from faithface.metrics import _maps
from faithface.reasons import Reason, ReasonCode

if TYPE_CHECKING:
    from faithface.regions import Regions, RegionValues

Partition = Literal["paired", "sided"]
CropName = Literal["by-size", "arcface", "dlib"]
RegionFill = Literal["auto", "stranger", "partner", "blur"]

COUNTS = {"paired": 10, "sided": 12}
MOST_CELLS = 3  # per side: 9 regions
EQUAL_SUMS = Reason(ReasonCode.CONSTANT_MAP, "the map's sums are equal in all regions")


@dataclass(frozen=True)
class RegionShapley(Metric):
    """Agreement of a map's region sums with the exact Shapley values of the regions.

    Formula
        The input is divided into k regions; every pixel belongs to one. v(T) is the score when the regions in T show
        the fill: the probability of the class predicted on the clean image, or the similarity of the pair. All 2^k
        subsets are scored. The exact value of region r is
        φ_r = Σ_{T ∌ r} |T|! (k − |T| − 1)! / k! · (v(T) − v(T ∪ {r})),
        and the reference is the mean of φ over the fills.
        value = Spearman's rank correlation, over regions, of the map's sums with the reference; on impostor pairs with
        the negated reference, because the dissimilarity map should be large where a region lowers the similarity.

    Values
        (headline): Spearman's coefficient.
        ``:kendall``: Kendall's τ-b of the same.
        ``:reliability``: of the reference: split-half reliability of the order of the regions over the fills, by
        Spearman's coefficient, corrected to the full number of fills by the Spearman–Brown formula. It is the same for
        all explainers. A map that gave the true values would reach about the square root of it.

    Range and direction
        −1 to 1. Higher is better. The best value is 1.0. A map without relation to the reference has the mean 0; on
        one sample with 10 regions, one such map in twenty exceeds 0.55. Read it beside ``centre-prior``: the order of
        the regions is partly the same for all aligned faces, so a fixed map gets part of it right.

    Parameters
        ``regions``: ``paired`` (default): forehead, brows, eyes, nose, cheeks, mouth, chin, jaw, hair, border; or,
        with left and right eye and cheek apart (12 regions), ``sided``.
        ``crop``: the template that the faces follow: ``arcface`` or ``dlib``; default ``by-size``: ArcFace's for inputs
        of 112×112, dlib's for 150×150.
        ``grid``: G > 0: instead of named regions, G×G equal cells (2 or 3), for inputs of any size.
        ``fill``: ``stranger`` (faces of other people; aligned sets only), ``partner`` (the pair's other image, one
        fill), ``blur`` (σ from half to twice 8 % of the shorter side); default ``auto``: strangers for pairs, blur for
        classifiers.
        ``fills``: how many; default 8.
        ``reliable``: the least reliability of a reference that judges anything; default 0.5.

    Which maps
        Classifiers: the relevance map. Genuine pairs: the probe's similarity map; impostor pairs: the probe's
        dissimilarity map. Only the probe is altered.

    Special cases
        Where the reliability is below ``reliable``, there is no value, for any explainer: the reference says nothing of
        the order. A single fill has no spread; there the reliability is NaN, and the reference judges as it is. Where
        the score does not move under any region, there is no value. A map whose sums are equal in all regions is
        scored 0 and flagged; so is a constant map, which is scored as what it is: its sums are the regions' sizes. A
        map with values that are not finite has no value.

    Differs from other libraries
        SHAP samples subsets and superpixels; here all subsets of a few regions are scored, so that the reference is
        exact for its fills. Its uncertainty over fills is measured and given, and no explainer is judged beyond it.

    Known weaknesses
        The values are those of the stated fills: other fills, other values. Composed faces have seams. Sums depend on
        a region's size: a map that lies far above zero everywhere has its largest sums where regions are largest.
        Occlusion asks nearly the same question, and starts with an advantage. Ten regions are few for one sample; the
        mean over many is what counts. A template does not follow a turned head.

    Cost
        fills · 2^k forward passes per sample (8,192 by default) and one for each stranger considered, once for all
        explainers.

    Source
        Shapley, A value for n-person games, 1953; reliability: Spearman, 1910, and Brown, 1910.
    """

    regions: Partition = "paired"
    crop: CropName = "by-size"
    grid: int = 0
    fill: RegionFill = "auto"
    fills: int = 8
    reliable: float = 0.5

    protocol = Protocol(
        id="region-shapley@1",
        question=(
            "Does the map give the regions of the face the order that their exact contributions to the score have?"
        ),
        better="higher",
        range=(-1.0, 1.0),
        best=1.0,
        needs=frozenset({"model"}),
        values=(Value(), Value("kendall"), Value("reliability")),
        cost=lambda metric: metric.passes_text,
        source="Shapley, 1953; agreement by ranks over all subsets of regions",
    )

    def __post_init__(self) -> None:
        if self.grid not in range(MOST_CELLS + 1) or self.grid == 1:
            raise ValueError(f"grid is {self.grid}; expected 0 (named regions), 2 or 3 cells per side")
        if not 1 <= self.fills <= 256:
            raise ValueError(f"fills is {self.fills}; expected 1 to 256")
        if not 0 <= self.reliable <= 1:
            raise ValueError(f"reliable is {self.reliable}; expected 0 to 1")

    @property
    def passes_text(self) -> str:
        """Forward passes per sample, in words."""
        k = self.grid**2 or COUNTS[self.regions]
        fills = 1 if self.fill == "partner" else self.fills
        return f"{fills << k} (each further explainer: 0)"

    def kind(self, pairs: bool) -> str:
        """Return the kind of fill for pairs, or for single images."""
        return ("stranger" if pairs else "blur") if self.fill == "auto" else self.fill

    def check(self, card: ModelCard, dataset: Dataset, explainer: Explainer | None = None) -> None:
        pairs = card.task == "verification"
        if not self.grid:
            try:
                self.partition(card.input.size)
            except UsageError as error:
                raise NotApplicable(
                    f'metric "{self.id}": {error}; or set grid=3, whose cells need no template'
                ) from None
            if not dataset.aligned:
                raise NotApplicable(
                    f'metric "{self.id}" places named regions by a template and needs aligned faces; dataset '
                    f'"{dataset.name}" says that its faces are not: align them, or set grid=3 and fill=blur',
                    ReasonCode.NOT_ALIGNED,
                )
        from faithface.regions.fills import check_kind

        check_kind(self.kind(pairs), pairs, dataset)

    def partition(self, size: tuple[int, int]) -> Regions:
        """Return the regions of inputs of this size.

        Raises:
            UsageError: no template is known for it.
        """
        from faithface.regions import regions_of, regions_of_grid

        if self.grid:
            return regions_of_grid(size, self.grid)
        return regions_of(size, None if self.crop == "by-size" else self.crop, partition=self.regions)

    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        from faithface.regions import agreement, region_sums

        chosen = _maps.judged(samples, maps)
        reasons = _maps.invalid(chosen)
        flags = _maps.constant(chosen)
        labels = self.partition(model.size).labels
        sign = np.where(samples.genuine, 1.0, -1.0) if samples.are_pairs else np.ones(len(samples))
        values = {name: np.full(len(samples), np.nan) for name in self.protocol.value_names}
        for i in range(len(samples)):
            if i in reasons:
                continue
            exact = samples.take([i]).cached(_reference, model, self)
            if isinstance(exact, Reason):
                reasons[i] = exact
                continue
            problem = _problem(exact, self.reliable)
            if problem is not None:
                reasons[i] = problem
                continue
            sums = region_sums(_maps.to_numpy(chosen[i]), labels)
            found = agreement(
                explainer.name if explainer else "", "", exact.fill, sums, sign[i] * exact.mean, exact.rank_reliability
            )
            if np.ptp(sums) == 0:
                flags[i] = EQUAL_SUMS
            values[""][i], values["kendall"][i] = np.nan_to_num(found.spearman), np.nan_to_num(found.kendall)
            values["reliability"][i] = exact.rank_reliability
        return _maps.result(values, reasons, flags)


def _reference(samples: Samples, model: FaceModel, metric: RegionShapley) -> RegionValues | Reason:
    """Return the exact values of one sample, once for all explainers, or why there are none (too few strangers).

    Asked for through :meth:`Samples.cached`.
    """
    from faithface.regions import make_fills, region_values

    try:
        fills = make_fills(model, samples, metric.kind(samples.are_pairs), metric.fills, samples.dataset)
    except NotApplicable as error:
        return Reason(error.code, str(error))
    return region_values(model, samples, [fills], metric.partition(model.size).labels)[0]


def _problem(exact: RegionValues, least: float) -> Reason | None:
    """Say why a reference judges nothing."""
    if exact.problem is not None or len(exact.values) == 1:
        return exact.problem
    found = exact.rank_reliability
    if found >= least:
        return None
    return Reason(
        ReasonCode.UNRELIABLE_REFERENCE,
        f"the order of the regions over {len(exact.values)} fills has reliability {found:.2f}; expected {least:g} at "
        "least: raise fills",
    )


METRICS = (RegionShapley(),)
