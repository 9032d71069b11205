"""The curve metrics: deletion, insertion and their gap, for classifiers and for pairs. One table over shared text.

Place in the flow: registered through ``faithface.metrics.METRICS``. ``base`` scores, ``text`` composes the protocols.
"""

from __future__ import annotations

from faithface.contract import Metric
from faithface.metrics.curves.base import ClassCurve, ImpostorCurve, PairCurve, readings

CLASS = Gap, Insertion, Deletion = readings(ClassCurve)
GENUINE = GapSimilarity, InsertionSimilarity, DeletionSimilarity = readings(PairCurve, "similarity", "decision")
GENUINE_SCORE = GapSimilarityScore, InsertionSimilarityScore, DeletionSimilarityScore = readings(
    PairCurve, "similarity", "score"
)
IMPOSTOR = GapDissimilarity, InsertionDissimilarity, DeletionDissimilarity = readings(
    ImpostorCurve, "dissimilarity", "decision"
)
IMPOSTOR_SCORE = GapDissimilarityScore, InsertionDissimilarityScore, DeletionDissimilarityScore = readings(
    ImpostorCurve, "dissimilarity", "score"
)

METRICS: tuple[Metric, ...] = tuple(
    metric() for rows in (CLASS, GENUINE, GENUINE_SCORE, IMPOSTOR, IMPOSTOR_SCORE) for metric in rows
)
