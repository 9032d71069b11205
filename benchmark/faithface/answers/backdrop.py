"""The background of one decision: the scores of a data set, the threshold, and what the set knows about the images.

Place in the flow: called by ``why``. May call ``loading``, ``tasks`` and ``contract``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from faithface.contract import Dataset, FaceModel, Pair
from faithface.loading import dataset_scores, read_face
from faithface.tasks import class_probabilities, equal_error_threshold, threshold_on

COMPARED = 400  # faces of a classifier's data set that are scored for the distribution


@dataclass(frozen=True)
class Population:
    """Scores of a data set, as a backdrop: float64 N by group (``genuine``, ``impostor``; a classifier's labels)."""

    dataset: str
    groups: Mapping[str, np.ndarray]


def backdrop_of(
    model: FaceModel, data: Dataset | None, name: str, threshold: float | None
) -> tuple[Population | None, float | None, str]:
    """Return the data set's scores, and the threshold with its origin."""
    origin = "given"
    if threshold is None:
        threshold, origin = threshold_on(model.card), "of the card"
    if data is None:
        return None, threshold, origin if threshold is not None else ""
    if model.card.task != "verification":
        return _class_scores(model, data, name), None, ""
    scores, same = dataset_scores(model, data)
    groups = {"genuine": scores[same].astype(np.float64), "impostor": scores[~same].astype(np.float64)}
    if threshold is None and same.any() and not same.all():
        threshold, origin = equal_error_threshold(scores, same), "equal-error point of the data set"
    return Population(name, groups), threshold, origin if threshold is not None else ""


def _class_scores(model: FaceModel, data: Dataset, name: str) -> Population:
    """Return the probability of the positive class (else of the last) by label, on a seeded part of the data set."""
    items: list[Any] = list(data.items())
    at = np.sort(np.random.default_rng(0).permutation(len(items))[:COMPARED])
    chosen = [items[int(i)] for i in at]
    classes = model.card.output.classes
    column = classes.index(model.card.output.positive) if model.card.output.positive in classes else -1
    parts = []
    for start in range(0, len(chosen), 64):
        batch = torch.stack([read_face(item.faces[0], model.size) for item in chosen[start : start + 64]])
        parts.append(class_probabilities(model.card, model.outputs(batch.to(model.device)).cpu())[:, column])
    scores = torch.cat(parts).double().numpy()
    labels = [getattr(item, "label", None) or "unknown" for item in chosen]
    groups = {label: scores[[other == label for other in labels]] for label in dict.fromkeys(labels)}
    return Population(name, groups)


def known_of(data: Dataset | None, paths: Sequence[Path]) -> list[str]:
    """Return the ids of the data set's faces that are these very files: ids are paths below the set's root."""
    if data is None:
        return []
    ids = {face.id for item in data.items() for face in item.faces}
    resolved = [path.resolve().as_posix() for path in paths]
    return [face for path in resolved for face in ids if path.endswith(f"/{face}")]


def known_same_of(data: Dataset | None, known: Sequence[str]) -> bool | None:
    for item in data.items() if data is not None else ():
        if isinstance(item, Pair) and len(known) == 2 and {item.a.id, item.b.id} == set(known):
            return item.same
    return None
