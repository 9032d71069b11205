"""The exact region values of one decision: fills in, values out.

Place in the flow: joins ``fills``, ``subsets`` and ``shapley`` for ``answers`` and metrics. May call them and
``tasks``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from faithface.contract import FaceModel, Samples
from faithface.lazy import torch
from faithface.regions.fills import FillSet
from faithface.regions.shapley import RegionValues, shapley_values
from faithface.regions.subsets import Scalar, score_subsets
from faithface.tasks import class_probabilities, pair_similarity


def region_values(
    model: FaceModel, samples: Samples, sets: Sequence[FillSet], labels: np.ndarray
) -> tuple[RegionValues, ...]:
    """Score all subsets of regions for all fills at once, and return the exact values by kind of fill.

    Costs 2^k forward passes per fill.

    Args:
        samples: one loaded sample, or one pair, whose probe is altered.
        sets: the fills (:func:`~faithface.regions.fills.make_fills`).
        labels: int64 H×W: the region of each pixel.

    Raises:
        UsageError, RunError: see :func:`~faithface.regions.subsets.score_subsets`. Values that explain nothing are not
            an error: see :attr:`RegionValues.problem`.
    """
    probe = samples.images[0, 0] if samples.are_pairs else samples.images[0]
    scores = score_subsets(model, probe, torch.cat([s.images for s in sets]), labels, scalar_of(model, samples))
    clean = float(samples.clean.scores[0])
    values, first = [], 0
    for fills in sets:
        part = scores[first : first + len(fills.images)]
        first += len(part)
        moved = float(np.abs(part - part[:, :1]).max()) if np.isfinite(part).all() else float("nan")
        values.append(RegionValues(fills.kind, shapley_values(part), clean, part[:, -1], part.size, moved))
    return tuple(values)


def scalar_of(model: FaceModel, samples: Samples) -> Scalar:
    """Return the function that turns raw outputs N×K of altered probes into scores: protocol rule 4."""
    if samples.are_pairs:
        reference = samples.clean.outputs[0, 1:2].cpu()
        return lambda outputs: pair_similarity(model.card, outputs, reference)
    predicted = int(samples.clean.predicted[0])
    return lambda outputs: class_probabilities(model.card, outputs)[:, predicted]
