"""How many images go through the network at once: asked of the model, or measured; halved when memory runs out.

Place in the flow: asked by ``engine`` before each round. May call the contract's FaceModel and ``model.pace``. An
``OnnxModel`` keeps its own pace, one for the engine and for all other forward passes; for any other model the answer is
kept in ``model.memo``. Where the user named a batch size, or the file has a fixed one, nothing is measured.
"""

from __future__ import annotations

import numpy as np

from faithface.contract import FaceModel
from faithface.lazy import torch
from faithface.model import OnnxModel
from faithface.model.pace import Pace, fastest_batch


def batch_for(model: FaceModel) -> int:
    """Return the rows of one pass of the engine for this model on its device."""
    if isinstance(model, OnnxModel):
        return model.pace.batch
    return model.cached(_own_pace)[0].batch


def remember_batch(model: FaceModel, batch: int) -> None:
    """Set the rows of one pass for this model."""
    if isinstance(model, OnnxModel):
        model.keep_pace(Pace(batch, model.pace.workers))
    else:
        model.cached(_own_pace)[0] = Pace(batch)


def _own_pace(model: FaceModel) -> list[Pace]:
    """Return a list of one pace, to be replaced in place: asked for through :meth:`FaceModel.cached`."""
    known = getattr(model, "batch_given", None)
    return [Pace(int(known)) if known else measure_batch(model)]


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
