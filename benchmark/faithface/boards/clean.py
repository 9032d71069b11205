"""How well a model separates the two sides of the samples that a cell used, before anything is altered.

Place in the flow: ``collect`` puts it into a record. Calls ``tasks``; reads what the run kept of each sample.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from faithface.card import ModelCard
from faithface.tasks import auc

FEWEST = 5
"""Samples of each side below which an area says nothing: with one positive sample it is 0 or 1 by chance."""


def clean_auc(card: ModelCard, samples: Iterable[Mapping[str, Any]]) -> float | None:
    """Return the area under the ROC curve of the clean scores, or None where it is not known.

    Pairs: of the similarity, for genuine against impostor. Classifiers with two classes: of the probability of the
    positive class. With more classes a run keeps only the probability of the predicted one, so it is not known; nor is
    it with fewer than five samples of a side.

    Args:
        samples: what the run kept of each: ``score``, and ``same`` for pairs, else ``predicted`` and ``correct``.
    """
    classes = card.output.classes
    positive = classes.index(card.output.positive) if card.output.positive in classes else len(classes) - 1
    scores, sides = [], []
    for facts in samples:
        score = facts.get("score")
        if score is None or not math.isfinite(score):
            continue
        if card.task == "verification":
            side = facts.get("same")
        else:
            known = facts.get("correct") if len(classes) == 2 else None
            predicted = facts.get("predicted") == positive
            side = None if known is None else predicted == known
            score = score if predicted else 1 - score
        if side is not None:
            scores.append(float(score))
            sides.append(bool(side))
    if min(sum(sides), len(sides) - sum(sides)) < FEWEST:
        return None
    return auc(np.array(scores), np.array(sides))
