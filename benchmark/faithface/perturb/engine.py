"""Run a plan: compose masked images in place, fill every batch, feed the network, bring the outputs back.

Place in the flow: below ``curves`` and every other metric that alters pixels; above the model. May call ``plan``,
``feed``, ``batching`` and ``model``.

Why it is fast. Successive stops of a track differ in a few hundred pixels, so a masked image is never composed as a
whole: each row of the batch is a *lane* that follows one track, and between two batches only the pixels between two
stops are written into it. Normalisation is affine per channel, hence commutes with choosing pixels: image and fill are
normalised once per sample, not once per masked image. What is left of the cost is the network's.

Where the network runs fastest as one pass per core (``model.pace``), each core has lanes and a buffer of its own, and
one writes pixels while the others run. The host writes with numpy into the very buffer that ONNX Runtime reads; a CUDA
device writes with torch into device memory that is bound to the session, so that nothing crosses the bus (``feed.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

import numpy as np

from faithface.contract import FaceModel
from faithface.lazy import torch
from faithface.model.pace import is_out_of_memory, no_memory
from faithface.model.threads import one_thread
from faithface.perturb.batching import batch_for, remember_batch
from faithface.perturb.feed import Feed, feed_for
from faithface.perturb.plan import Lane, Plan, lay_out

if TYPE_CHECKING:
    from torch import Tensor

Part = tuple[tuple[np.ndarray, np.ndarray], "Tensor"]  # (tracks, stops) of the rows of one pass, and their outputs


def run_plan(model: FaceModel, plan: Plan) -> Tensor:
    """Return the raw outputs at every stop of every track.

    Args:
        model: any FaceModel. With an ONNX Runtime session its session is fed directly; any other is called through
            :meth:`~faithface.contract.FaceModel.outputs`.
        plan: what to run.

    Returns:
        float32 T×S×K on the CPU.

    Raises:
        RunError: out of memory with a single image, or with the batch that the file insists on.
    """
    tracks, stops = plan.stops.shape
    if not plan.passes:
        return torch.zeros((tracks, stops, 0))
    batch = batch_for(model)  # first: measuring it may open the session anew
    feeds = feed_for(model, plan)
    results: Tensor | None = None
    done = 0
    with ThreadPoolExecutor(len(feeds)) as pool:
        while done < tracks:
            lanes = next(lay_out(tracks - done, stops, batch * len(feeds)))
            lanes = [Lane(lane.track + done, lane.first, lane.last) for lane in lanes]
            try:
                for rows, outputs in _run_shares(pool, feeds, plan, lanes, batch):
                    if results is None:
                        results = outputs.new_empty((tracks, stops, outputs.shape[1]))
                    results[rows[0], rows[1]] = outputs
            except Exception as error:  # ONNX Runtime and torch raise unrelated classes when memory runs out
                if not is_out_of_memory(error):
                    raise
                if batch == 1 or getattr(model, "fixed_batch", None):
                    raise no_memory(model.card.name, batch) from error
                batch //= 2
                remember_batch(model, batch)
                for feed in feeds:
                    feed.reset()
                continue
            done = max(lane.track for lane in lanes) + 1
    model.passes.forward += plan.passes if feeds[0].counts_passes else 0
    assert results is not None  # a plan with passes has run at least one batch
    return results.cpu()


def _run_shares(pool: Executor, feeds: list[Feed], plan: Plan, lanes: list[Lane], batch: int) -> Iterator[Part]:
    """Yield the parts of one round, whose lanes are dealt out to the feeds: each follows its own in a thread."""
    if len(feeds) == 1:
        yield from _run_share(feeds[0], plan, lanes, batch)
        return

    def follow(feed: Feed, share: list[Lane]) -> list[Part]:
        with one_thread():
            return list(_run_share(feed, plan, share, batch))

    # Dealt like cards, each share is sorted as the lanes are, and all take equally long.
    shares = [lanes[first :: len(feeds)] for first in range(min(len(feeds), len(lanes)))]
    running = [pool.submit(follow, feed, share) for feed, share in zip(feeds, shares, strict=False)]
    wait(running)  # all of them, before an error of one lets the caller write into their buffers
    for future in running:
        yield from future.result()


def _run_share(feed: Feed, plan: Plan, lanes: list[Lane], batch: int) -> Iterator[Part]:
    """Yield the parts of some lanes, which are sorted, longest first: one pass with a row for each, then the next."""
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
