"""Opened tiny networks that the checks of many plugins share.

Place in the flow: a trial of ``asked_of_explainers``, ``asked_of_metrics`` or ``asked_of_fills`` takes its network from
here, within :func:`borrowing`. May call ``subjects`` and ``watching``.

To open a network, to choose its batches and to derive its twin takes longer than most checks. A network that a plugin
left changed is not used again, so that one plugin's fault cannot become another one's finding.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from faithface.contract import FaceModel
from faithface.run.guard import twin_state
from faithface.tasks import Task
from faithface.testing.subjects import SIZE, tiny_model
from faithface.testing.watching import weights_of

Key = tuple[Task, tuple[int, int]]


@dataclass
class Shelf:
    """Networks by task and size, each with what it was like when it was opened."""

    models: dict[Key, tuple[FaceModel, Any]] = field(default_factory=dict)


@functools.cache
def _shelf() -> Shelf:
    return Shelf()


def shared_model(task: Task, size: tuple[int, int] = SIZE) -> FaceModel:
    """Return a tiny network with its twin derived: as from :func:`tiny_model`, but one for all that ask for it."""
    models = _shelf().models
    if (task, size) not in models:
        model = tiny_model(task, size)
        _ = model.twin, model.batching
        models[task, size] = model, _state(model)
    return models[task, size][0]


@contextlib.contextmanager
def borrowing() -> Iterator[None]:
    """After the block, empty the caches of all shared networks and forget those that are not what they were."""
    models = _shelf().models
    try:
        yield
    finally:
        for key, (model, before) in list(models.items()):
            model.cache.clear()
            if _state(model) != before:
                del models[key]


def _state(model: FaceModel) -> Any:
    """Return the twin's modes, hooks and weights, and what was put onto the model that its class does not know."""
    strange = [name for name in vars(model) if not name.startswith("_") and not hasattr(type(model), name)]
    return twin_state(model), weights_of(model), strange
