"""What all curve metrics share: parameters, sharing of forward passes, the step from curves to values.

Place in the flow: below ``deletion``, ``insertion`` and ``gap``; calls ``perturb.curves``. All metrics of one setting
(fill, grid, points, pairs, alter) read the same curves, so however many of them a run asks for, the network is run
once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from faithface.card import ModelCard
from faithface.contract import Dataset, Explainer, FaceModel, Maps, Metric, Samples, Scores, Which
from faithface.errors import NotApplicable
from faithface.perturb import area
from faithface.perturb.curves import Alter, Direction, curves
from faithface.perturb.fills import ClassFill, Fill, check_fill
from faithface.tasks import Task

CLASSIFIERS: frozenset[Task] = frozenset({"pad", "synthetic-detection"})
VERIFICATION: frozenset[Task] = frozenset({"verification"})

# The pair whose clean score set the threshold lies exactly on it; rounding must not decide on which side.
ON_THRESHOLD = 1e-5

SOURCE = "Petsiuk, Das, Saenko, RISE, BMVC 2018 (curves)"
PAIR_SOURCE = "Lu, Xu, Ebrahimi, CorrRISE, WACV 2024, after RISE, BMVC 2018 (curves); fills and directions: faithface"


def check_parameters(grid: int, points: int) -> None:
    """Raise ValueError for a grid or a number of points that no map can have."""
    if grid < 0:
        raise ValueError(f"grid is {grid}; expected 0 (pixels) or the number of cells per side")
    if points < 2:
        raise ValueError(f"points is {points}; expected at least 2, both ends of the curve")


@dataclass(frozen=True)
class ClassCurve(Metric):
    """A curve metric of classifiers; subclasses say which curves they read and give the protocol."""

    read: ClassVar[tuple[Direction, ...]] = ("deletion",)

    fill: ClassFill = "blur"
    grid: int = 0
    points: int = 51

    def __post_init__(self) -> None:
        check_parameters(self.grid, self.points)

    def check(self, card: ModelCard, dataset: Dataset, explainer: Explainer | None = None) -> None:
        check_fill(self.fill, dataset, pairs=False)

    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        found = curves(model, samples, maps, "relevance", self.fill, self.grid, self.points, directions=self.read)
        return scores_of(found.scores, found.reasons, found.flags, 1)


def judged_pairs(metric: PairCurve) -> Which:
    """Return the pairs that a curve metric, as it is set, is judged on."""
    return metric.pairs


@dataclass(frozen=True)
class PairCurve(Metric):
    """A curve metric of verification models; subclasses say which maps, curves and scores, and give the protocol.

    Attributes:
        kind: the maps that are judged.
        form: ``decision`` = is the decision at the clean threshold right; ``score`` = the similarity itself.
    """

    read: ClassVar[tuple[Direction, ...]] = ("deletion",)
    kind: ClassVar[Literal["similarity", "dissimilarity"]] = "similarity"
    form: ClassVar[Literal["decision", "score"]] = "decision"

    fill: Fill = "stranger"
    grid: int = 0
    points: int = 51
    pairs: Which = "genuine"
    alter: Alter = "probe"

    def __post_init__(self) -> None:
        check_parameters(self.grid, self.points)

    def check(self, card: ModelCard, dataset: Dataset, explainer: Explainer | None = None) -> None:
        check_fill(self.fill, dataset, pairs=True)

    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        found = curves(
            model, samples, maps, self.kind, self.fill, self.grid, self.points, self.alter, directions=self.read
        )
        curve = found.scores
        if self.form == "decision":
            curve = {d: right_decisions(c, samples) for d, c in curve.items()}
        # On a dissimilarity map a good deletion makes the pair alike soonest: its similarity area is the larger one.
        sign = -1 if (self.kind, self.form) == ("dissimilarity", "score") else 1
        return scores_of(curve, found.reasons, found.flags, sign)


def right_decisions(similarity: np.ndarray, samples: Samples) -> np.ndarray:
    """Return 1.0 where the decision at the clean threshold is right, 0.0 where it is wrong, NaN where there is no
    score.

    A pair is accepted when its similarity is at least the threshold (to 1e-5).

    Raises:
        NotApplicable: the samples carry no threshold.
    """
    if samples.threshold is None:
        raise NotApplicable("there is no decision threshold: give the card one, or load samples with clean_threshold()")
    accepted = similarity >= samples.threshold - ON_THRESHOLD
    right = (accepted == samples.genuine[:, None]).astype(np.float64)
    return np.where(np.isnan(similarity), np.nan, right)


def scores_of(
    curve: Mapping[str, np.ndarray], reasons: Mapping[int, str], flags: Mapping[int, str], sign: int
) -> Scores:
    """Return the area of the one curve, or the gap of two: sign · (insertion − deletion)."""
    areas = {direction: area(c) for direction, c in curve.items()}
    value = sign * (areas["insertion"] - areas["deletion"]) if len(areas) == 2 else next(iter(areas.values()))
    return Scores({"": value}, reasons, curve, flags)
