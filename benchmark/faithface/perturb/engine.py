"""Run a masking plan: compose masked images in place, fill every batch, feed the network, collect the outputs.

Place in the flow: below ``curves`` and every other metric that alters pixels; above the model, which it sees
as a ``FaceModel``. May call ``masking_plan`` and ``lanes``.

Why it is fast. Successive stops of a track differ in a few hundred pixels, so a masked image is never composed as a
whole: each row of the batch is a *lane* that follows one track, and between two batches only the pixels between two
stops are written into it. Normalisation is affine per channel, hence commutes with choosing pixels: image and fill are
normalised once per sample, not once per masked image. The remaining cost is the network's.

Where the network runs fastest as one pass per core (``FaceModel.batching``), each core has lanes and a buffer of its
own, and one writes pixels while the others run. The host writes with numpy into the very buffer that ONNX Runtime
reads; a CUDA device writes with torch into device memory that is bound to the session, so that nothing crosses the bus
(``lanes.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

import numpy as np

from faithface.contract import FaceModel
from faithface.lazy import torch
from faithface.perturb.lanes import LaneBuffer, lane_buffers
from faithface.perturb.masking_plan import Lane, MaskingPlan, lay_out
from faithface.threads import one_thread

if TYPE_CHECKING:
    from torch import Tensor

Part = tuple[tuple[np.ndarray, np.ndarray], "Tensor"]  # (tracks, stops) of the rows of one pass, and their outputs
Follow = Callable[[MaskingPlan, LaneBuffer, list[Lane], int], Iterator[Part]]


def run_masking_plan(model: FaceModel, plan: MaskingPlan) -> Tensor:
    """Return the raw outputs at every stop of every track.

    Args:
        model: any FaceModel; it is run through its :meth:`~faithface.contract.FaceModel.feed`, by its batching policy.
        plan: what to run.

    Returns:
        float32 T×S×K on the CPU.

    Raises:
        RunError: out of memory with a single image, or with the only batch that the file accepts.
    """
    tracks, stops = plan.stops.shape
    if not plan.passes:
        return torch.zeros((tracks, stops, 0))
    results: Tensor | None = None
    for (track, stop), outputs in run_lanes(model, plan, tracks, stops, _follow):
        if results is None:
            results = outputs.new_empty((tracks, stops, outputs.shape[1]))
        results[track, stop] = outputs
    assert results is not None  # a plan with passes has run at least one batch
    return results.cpu()


def run_lanes(model: FaceModel, plan: MaskingPlan, tracks: int, stops: int, follow: Follow) -> Iterator[Part]:
    """Run tracks of ``stops`` looks each in full batches, and yield their parts in any order.

    A round that runs out of memory is run again with half the batch; parts of it may then come twice.

    Args:
        plan: its canvases and orders are used; ``follow`` decides what changes between two looks.
        follow: gets the plan, a buffer, lanes (longest first) and the number of rows of the buffer; runs the lanes and
            yields their parts. It is called from several threads, each with a buffer and lanes of its own.

    Raises:
        RunError: see :func:`run_masking_plan`.
    """
    policy = model.batching  # first: choosing it may reopen the session
    feed = model.feed()
    buffers = lane_buffers(plan, feed, policy.workers)
    done = 0
    with ThreadPoolExecutor(len(buffers)) as pool:
        while done < tracks:
            lanes = next(lay_out(tracks - done, stops, policy.batch * len(buffers)))
            lanes = [Lane(lane.track + done, lane.first, lane.last) for lane in lanes]
            try:
                yield from _run_shares(pool, buffers, plan, lanes, policy.batch, follow)
            except Exception as error:  # ONNX Runtime and torch raise unrelated classes when memory runs out
                policy = model.reduce_batch(policy, error)
                for buffer in buffers:
                    buffer.reset()
                continue
            done = max(lane.track for lane in lanes) + 1
    if not feed.counts:
        model.count(forward=tracks * stops)


def _run_shares(
    pool: Executor, buffers: list[LaneBuffer], plan: MaskingPlan, lanes: list[Lane], batch: int, follow: Follow
) -> Iterator[Part]:
    """Yield the parts of one round, whose lanes are distributed over the buffers: each follows its own in a thread."""
    if len(buffers) == 1:
        yield from follow(plan, buffers[0], lanes, batch)
        return

    def work(buffer: LaneBuffer, share: list[Lane]) -> list[Part]:
        with one_thread():
            return list(follow(plan, buffer, share, batch))

    # Dealt like cards, each share is sorted as the lanes are, and all take equally long.
    shares = [lanes[first :: len(buffers)] for first in range(min(len(buffers), len(lanes)))]
    running = [pool.submit(work, buffer, share) for buffer, share in zip(buffers, shares, strict=False)]
    wait(running)  # all of them, before an error of one lets the caller write into their buffers
    for future in running:
        yield from future.result()


def _follow(plan: MaskingPlan, buffer: LaneBuffer, lanes: list[Lane], batch: int) -> Iterator[Part]:
    """Yield the parts of some lanes, which are sorted, longest first: one pass with a row for each, then the next."""
    track = np.array([lane.track for lane in lanes])
    first = np.array([lane.first for lane in lanes])
    length = np.array([lane.last - lane.first for lane in lanes])
    stops, order, other = plan.stops[track], plan.order[track], plan.other[track]
    at, low = np.arange(len(lanes)), np.zeros(len(lanes), dtype=np.int64)
    buffer.start(plan.base[track], batch)
    for step in range(int(length.max())):
        active = int((length > step).sum())
        now = first[:active] + step
        high = stops[at[:active], now]
        buffer.replace(low[:active], high, order[:active], other[:active])
        low = high
        yield (track[:active], now), buffer.forward(active)
