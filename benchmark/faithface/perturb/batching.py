"""How many images go through the network at once: asked of the model, or measured; halved when memory runs out.

Place in the flow: asked by ``engine`` before each round. May call the contract's FaceModel and ``model.pace``; keeps
its answer in ``model.memo``. Where the user named a batch size, or the file has a fixed one, nothing is measured.
"""

from __future__ import annotations

import numpy as np
import torch

from faithface.contract import FaceModel
from faithface.model.pace import Pace, fastest_batch

_KEY = "engine batch size"


def batch_for(model: FaceModel) -> int:
    """Return the rows of one pass of the engine for this model on its device."""
    if _KEY not in model.memo:
        model.memo[_KEY] = choose_pace(model).batch
    return int(model.memo[_KEY])


def remember_batch(model: FaceModel, batch: int) -> None:
    """Set the batch size of the engine for this model."""
    model.memo[_KEY] = max(1, batch)


def choose_pace(model: FaceModel) -> Pace:
    """Return the model's own pace; for a model that keeps none its fixed or named batch, or the fastest by doubling."""
    own = getattr(model, "pace", None)
    if isinstance(own, Pace):
        return own
    known = getattr(model, "fixed_batch", None) or getattr(model, "batch_given", None)
    return Pace(int(known)) if known else measure_batch(model)


def measure_batch(model: FaceModel) -> Pace:
    """Return the fastest batch of a model that keeps no pace of its own, on random images."""
    counted = model.passes.forward

    def run(batch: int) -> None:
        pixels = np.random.default_rng(0).random((batch, 3, *model.size), dtype=np.float32)
        model.outputs(torch.from_numpy(pixels).to(model.device)).cpu()

    try:
        return fastest_batch(run, model.size, "cuda" if model.device.startswith("cuda") else "cpu")
    finally:
        model.passes.forward = counted  # a measurement is no part of what an explanation or a metric costs
