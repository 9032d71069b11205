"""Run a plan: compose masked images in place, fill every batch, feed the network, bring the outputs back.

Place in the flow: below ``curves`` and every other metric that alters pixels; above the model. May call ``plan``,
``feed`` and ``batching``.

Why it is fast. Successive stops of a track differ in a few hundred pixels, so a masked image is never composed as a
whole: each row of the batch is a *lane* that follows one track, and between two batches only the pixels between two
stops are written into it. Normalisation is affine per channel, hence commutes with choosing pixels: image and fill are
normalised once per sample, not once per masked image. What is left of the cost is the network's.

The host writes with numpy into the very buffer that ONNX Runtime reads; a CUDA device writes with torch into device
memory that is bound to the session, so that nothing crosses the bus (``feed.py``).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from faithface.contract import FaceModel
from faithface.errors import RunError
from faithface.perturb.batching import batch_for, is_out_of_memory, remember_batch
from faithface.perturb.feed import Feed, feed_for
from faithface.perturb.plan import Lane, Plan, lay_out


def run_plan(model: FaceModel, plan: Plan) -> Tensor:
    """Return the raw outputs at every stop of every track.

    Args:
        model: any FaceModel. With an ONNX Runtime session its session is fed directly; any other is called through
            :meth:`~faithface.contract.FaceModel.outputs`.
        plan: what to run.

    Returns:
        float32 T×S×K on the CPU.

    Raises:
        RunError: out of memory with a single image.
    """
    tracks, stops = plan.stops.shape
    if not plan.passes:
        return torch.zeros((tracks, stops, 0))
    feed = feed_for(model, plan)
    results: Tensor | None = None
    done = 0
    while done < tracks:
        batch = batch_for(model)
        lanes = lay_out(tracks - done, stops, batch)[0]
        lanes = [Lane(lane.track + done, lane.first, lane.last) for lane in lanes]
        try:
            for rows, outputs in _run_round(feed, plan, lanes, batch):
                if results is None:
                    results = outputs.new_empty((tracks, stops, outputs.shape[1]))
                results[rows[0], rows[1]] = outputs
        except Exception as error:  # ONNX Runtime and torch raise unrelated classes when memory runs out
            if not is_out_of_memory(error):
                raise
            if batch == 1:
                raise RunError(f'model "{model.card.name}": out of memory with a batch of one image') from error
            remember_batch(model, batch // 2)
            feed.reset()
            continue
        done = max(lane.track for lane in lanes) + 1
    model.passes.forward += plan.passes if feed.counts_passes else 0
    assert results is not None  # a plan with passes has run at least one batch
    return results.cpu()


def _run_round(
    feed: Feed, plan: Plan, lanes: list[Lane], batch: int
) -> Iterator[tuple[tuple[np.ndarray, np.ndarray], Tensor]]:
    """Yield ((tracks, stops), outputs) for the batches of one round; lanes are sorted, longest first."""
    track = np.array([lane.track for lane in lanes])
    first = np.array([lane.first for lane in lanes])
    length = np.array([lane.last - lane.first for lane in lanes])
    stops, order, other = plan.stops[track], plan.order[track], plan.other[track]
    at, low = np.arange(len(lanes)), np.zeros(len(lanes), dtype=np.int64)
    feed.start(plan.base[track], batch)
    for step in range(int(length.max())):
        active = int((length > step).sum())
        now = first[:active] + step
        high = stops[at[:active], now]
        feed.replace(low[:active], high, order[:active], other[:active])
        low = high
        yield (track[:active], now), feed.forward(active)
