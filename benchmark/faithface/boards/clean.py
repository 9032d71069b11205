"""How well a model separates the two sides of the samples behind a record, before anything is altered.

Place in the flow: ``board`` puts it beside a record, whose values it follows from. Calls ``record`` and ``tasks``.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from faithface.boards.record import Kept
from faithface.tasks import auc

FEWEST = 5
"""Samples of each side below which an area says nothing: with one positive sample it is 0 or 1 by chance."""


def clean_auc(kept: Kept) -> float | None:
    """Return the area under the ROC curve of the clean scores, or None where it is not known.

    Pairs: of the similarity, for genuine against impostor. Images of two labels, and a model of two classes: of the
    probability of either class; it is the same for both. Below 0.5 the scores are turned round. It is not known with
    more classes, of which a record keeps the probability of the predicted one alone, nor with fewer than five samples
    of a side.
    """
    model = kept.record.model
    facts = kept.values.select("sample", "label", "score", "correct").unique(subset="sample")
    facts = facts.filter(pl.col("score").is_finite() & pl.col("correct").is_not_null())
    labels = sorted(set(facts["label"]))
    classes = (model.card.get("output") or {}).get("classes") or ()  # a record may say anything
    if len(labels) != 2 or (model.task != "verification" and len(classes) != 2):
        return None
    sides = (facts["label"] == labels[0]).to_numpy()
    scores = facts["score"].to_numpy()
    if model.task == "verification":
        sides = (facts["label"] == "genuine").to_numpy()
    else:
        # The score is the probability of the predicted class, which is that of the label where the model is right.
        scores = np.where(sides == facts["correct"].to_numpy(), scores, 1 - scores)
    if min(sides.sum(), (~sides).sum()) < FEWEST:
        return None
    return auc(scores, sides)
