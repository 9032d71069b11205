"""The curve metrics: deletion, insertion and their gap, for classifiers and for pairs. One table, a row each.

Place in the flow: registered through ``faithface.metrics.METRICS``. ``base`` scores, ``text`` composes the protocols.
"""

from __future__ import annotations

from faithface.contract import Metric
from faithface.metrics.curves.base import ClassCurve, ImpostorCurve, PairCurve
from faithface.metrics.curves.text import Row


class Gap(ClassCurve, row=Row("gap")): ...


class Insertion(ClassCurve, row=Row("insertion")): ...


class Deletion(ClassCurve, row=Row("deletion")): ...


class GapSimilarity(PairCurve, row=Row("gap", "similarity", "decision")): ...


class InsertionSimilarity(PairCurve, row=Row("insertion", "similarity", "decision")): ...


class DeletionSimilarity(PairCurve, row=Row("deletion", "similarity", "decision")): ...


class GapSimilarityScore(PairCurve, row=Row("gap", "similarity", "score")): ...


class InsertionSimilarityScore(PairCurve, row=Row("insertion", "similarity", "score")): ...


class DeletionSimilarityScore(PairCurve, row=Row("deletion", "similarity", "score")): ...


class GapDissimilarity(ImpostorCurve, row=Row("gap", "dissimilarity", "decision")): ...


class InsertionDissimilarity(ImpostorCurve, row=Row("insertion", "dissimilarity", "decision")): ...


class DeletionDissimilarity(ImpostorCurve, row=Row("deletion", "dissimilarity", "decision")): ...


class GapDissimilarityScore(ImpostorCurve, row=Row("gap", "dissimilarity", "score")): ...


class InsertionDissimilarityScore(ImpostorCurve, row=Row("insertion", "dissimilarity", "score")): ...


class DeletionDissimilarityScore(ImpostorCurve, row=Row("deletion", "dissimilarity", "score")): ...


METRICS: tuple[Metric, ...] = (
    Gap(),
    Insertion(),
    Deletion(),
    GapSimilarity(),
    InsertionSimilarity(),
    DeletionSimilarity(),
    GapSimilarityScore(),
    InsertionSimilarityScore(),
    DeletionSimilarityScore(),
    GapDissimilarity(),
    InsertionDissimilarity(),
    DeletionDissimilarity(),
    GapDissimilarityScore(),
    InsertionDissimilarityScore(),
    DeletionDissimilarityScore(),
)

__all__ = [
    "METRICS",
    "Deletion",
    "DeletionDissimilarity",
    "DeletionDissimilarityScore",
    "DeletionSimilarity",
    "DeletionSimilarityScore",
    "Gap",
    "GapDissimilarity",
    "GapDissimilarityScore",
    "GapSimilarity",
    "GapSimilarityScore",
    "Insertion",
    "InsertionDissimilarity",
    "InsertionDissimilarityScore",
    "InsertionSimilarity",
    "InsertionSimilarityScore",
]
