"""What all curve metrics share: parameters, sharing of forward passes, the step from curves to values.

Place in the flow: base of the table in ``curves``; calls ``text`` and, when it scores, ``perturb.curves``. All metrics
of one setting (fill, grid, points, pairs, alter) read the same curves, so however many of them a run asks for, the
network is run once.
"""

from __future__ import annotations

import types
import typing
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeVar

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
    Which,
)
from faithface.contract.metric import Range
from faithface.errors import NotApplicable
from faithface.metrics.curves import text
from faithface.metrics.curves.text import Row
from faithface.perturb import area, curves
from faithface.perturb.fills import check_fill
from faithface.perturb.ranking import unit_counts
from faithface.reasons import ReasonCode
from faithface.tasks import accepted, difference_range, score_range

# The same words as in perturb, which is imported only to score; a test compares them.
ClassFillName = Literal["stranger", "blur", "black", "mean", "rise", "linear"]
FillName = Literal["stranger", "partner", "blur", "black", "mean", "rise", "linear"]
Alter = Literal["probe", "both"]

NO_THRESHOLD = "there is no decision threshold: give the card one, or load samples with clean_threshold()"


@dataclass(frozen=True)
class Curve(Metric):
    """A curve metric. A subclass with a row is a metric: its protocol and its docstring follow from the row."""

    row: ClassVar[Row]

    fill: FillName | Fill
    grid: int = 0
    points: int = 51

    def __init_subclass__(cls, row: Row | None = None) -> None:
        super().__init_subclass__()
        if row is None:
            return  # a base class
        cls.row = row
        cls.protocol = Protocol(
            id=row.id,
            question=text.QUESTION[row.kind, row.read],
            better=row.better,
            range=curve_range,
            needs=frozenset({"model"}),
            family="faithful",
            tolerance=curve_tolerance,
            judged_on=lambda metric: metric.pairs if isinstance(metric, PairCurve) else metric.which,
            cost=curve_cost,
            source=row.source,
            tasks=frozenset({"verification"}) if row.pairs else frozenset({"pad", "synthetic-detection"}),
        )
        cls.__doc__ = text.docstring(row)

    def __post_init__(self) -> None:
        if self.grid < 0:
            raise ValueError(f"grid is {self.grid}; expected 0 (pixels) or the number of cells per side")
        if self.points < 2:
            raise ValueError(f"points is {self.points}; expected at least 2, both ends of the curve")

    def check(self, card: ModelCard, dataset: Dataset, explainer: Explainer | None = None) -> None:
        check_fill(self.fill, dataset, self.row.pairs)

    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        found = curves(
            model, samples, maps, self.row.kind, self.fill, self.grid, self.points, altered(self), self.row.directions
        )
        curve = found.scores
        if self.row.form == "decision":
            curve = {direction: right_decisions(c, samples) for direction, c in curve.items()}
        areas = [area(curve[direction]) for direction in self.row.directions]
        # The gap is insertion − deletion; on a dissimilarity map the larger similarity area is that of deletion.
        value = areas[0] if len(areas) == 1 else (areas[0] - areas[1]) * (-1 if self.row.reversed else 1)
        return Scores({"": value}, found.reasons, curve, found.flags)


@dataclass(frozen=True)
class ClassCurve(Curve):
    """A curve metric of classifiers; as it is set, one that judges samples of the positive class."""

    fill: ClassFillName | Fill = "blur"
    which: ClassSide = "positive"


@dataclass(frozen=True)
class PairCurve(Curve):
    """A curve metric of verification models; as it is set, one that judges similarity maps on genuine pairs."""

    fill: FillName | Fill = "stranger"
    pairs: Which = "genuine"
    alter: Alter = "probe"


@dataclass(frozen=True)
class ImpostorCurve(PairCurve):
    """A curve metric of verification models; as it is set, one that judges dissimilarity maps on impostor pairs."""

    fill: FillName | Fill = "partner"
    pairs: Which = "impostor"


AnyCurve = TypeVar("AnyCurve", bound=Curve)


def readings(
    base: type[AnyCurve], kind: text.Kind = "relevance", form: text.Form = "probability"
) -> tuple[type[AnyCurve], ...]:
    """Return three rows of the table as metrics: gap, insertion and deletion, named such as ``GapSimilarityScore``."""
    rows = [Row(read, kind, form) for read in typing.get_args(text.Read)]
    names = ["".join(part.capitalize() for part in row.id.removesuffix("@1").split("-")) for row in rows]
    # Pickle looks a class up in its module, which is that of the table.
    module = {"__module__": __name__.rpartition(".")[0]}
    made = [
        types.new_class(name, (base,), {"row": row}, lambda body: body.update(module))
        for name, row in zip(names, rows, strict=True)
    ]
    return tuple(made)


def altered(metric: Curve) -> Alter:
    """Return which images of a sample are altered; of a classifier's there is one."""
    return metric.alter if isinstance(metric, PairCurve) else "probe"


def right_decisions(similarity: np.ndarray, samples: Samples) -> np.ndarray:
    """Return 1.0 where the decision at the clean threshold is right, 0.0 where it is wrong, NaN where there is no
    score.

    Raises:
        NotApplicable: the samples carry no threshold.
    """
    if samples.threshold is None:
        raise NotApplicable(NO_THRESHOLD, ReasonCode.NO_THRESHOLD)
    right = (accepted(similarity, samples.threshold) == samples.genuine[:, None]).astype(np.float64)
    return np.where(np.isnan(similarity), np.nan, right)


def curve_range(metric: Curve, card: ModelCard | None) -> Range:
    """Return the range of a curve metric's value: that of an area of its scores, or of the difference of two."""
    gap = len(metric.row.directions) == 2
    if metric.row.form == "score":
        return difference_range(card) if gap else score_range(card)
    return (-1.0, 1.0) if gap else (0.0, 1.0)


def curve_tolerance(metric: Curve) -> float:
    """Return how far a re-run may be: of right decisions, two points of each curve may lie so near the threshold that
    they fall to its other side; of scores, what rounding on another device makes of them.
    """
    if metric.row.form == "score":
        return 1e-3
    return 2 * len(metric.row.directions) / (metric.points - 1)


def curve_cost(metric: Curve) -> str:
    """Return the forward passes per sample of a curve metric: those of the altered images, and those of the fill."""
    inner = metric.points - 2
    if metric.grid:
        # A count of cells that several points round to is run once.
        inner = len(set(unit_counts(metric.grid**2, metric.points)) - {0, metric.grid**2})
    sides = 2 if altered(metric) == "both" else 1
    passes = f"{inner * sides * len(metric.row.directions)}"
    shared = " (shared with deletion and insertion)" if len(metric.row.directions) == 2 else ""
    # The partner is a clean image, which has been scored.
    return passes + ("" if metric.fill == "partner" else f", and {sides} per fill") + shared
