"""The curve metrics: deletion, insertion and their gap, for classifiers and for pairs.

Place in the flow: registered through ``faithface.metrics.METRICS``; they call ``perturb.curves``. One setting's
metrics share one set of forward passes.
"""

from faithface.contract import Metric
from faithface.metrics.curves.deletion import (
    Deletion,
    DeletionDissimilarity,
    DeletionDissimilarityScore,
    DeletionSimilarity,
    DeletionSimilarityScore,
)
from faithface.metrics.curves.gap import (
    Gap,
    GapDissimilarity,
    GapDissimilarityScore,
    GapSimilarity,
    GapSimilarityScore,
)
from faithface.metrics.curves.insertion import (
    Insertion,
    InsertionDissimilarity,
    InsertionDissimilarityScore,
    InsertionSimilarity,
    InsertionSimilarityScore,
)

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

__all__ = ["METRICS"]
