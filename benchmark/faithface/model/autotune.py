"""Measure which batching policy is fastest on a machine: rows per pass, and passes side by side. Once per open model.

Place in the flow: ``onnx_model`` calls :func:`autotune` when the first large batch arrives; all forward passes, those
of the perturbation engine too, use the policy that it finds. May call ``session``, ``threads`` and the contract's
``BatchingPolicy``; knows nothing of cards or faces.

Two ways to use the cores of a host: one pass whose operators are divided among them, or one pass per core side by side.
The first waits for the slowest core after every operator, which slows small networks down; the second does not, and
keeps a worker's activations in its own core's cache. Which one wins, and with how many rows, depends on network and
machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import wait
from functools import partial

import numpy as np

from faithface.contract import BatchingPolicy
from faithface.contract.running import is_out_of_memory
from faithface.model.session import Session
from faithface.threads import thread_count

SMALLEST = {"cpu": 8, "cuda": 32}
LARGEST = {"cpu": 32, "cuda": 1024}
ALONE = (1, 2, 4, 8, 16)  # rows per pass that may be tried with one pass per core
AT_ONCE = 128  # the most rows that all passes side by side hold, because each row has activations of its own
# A doubled batch is taken unless it costs this share more per image: composing has a fixed cost per batch. On the host
# there is nothing to gain beyond 32 rows, which no longer fit into the cache.
LOSS = 0.03
TIE = 0.03  # passes side by side may cost this share more per image: two timings differ by as much
# Seconds per image that the engine spends between passes (writing pixels, Python). Beside one divided pass all cores
# wait for them; with one pass per core, one does.
BETWEEN = 2.5e-5
SLOW = 0.5  # seconds; nothing is tried beyond a pass that takes this long
SPAN = 0.03  # seconds that one timing takes at least, so that a pause of the machine does not decide
BUFFER_BYTES = 512 * 2**20  # for the batch itself; activations come on top of it


def most_rows(size: tuple[int, int], device: str) -> int:
    """Return how many rows of images of height×width a pass may have on a device, at most."""
    return max(1, min(LARGEST[device], BUFFER_BYTES // (3 * size[0] * size[1] * 8)))


def fastest_batch(run: Callable[[int], object], size: tuple[int, int], device: str) -> BatchingPolicy:
    """Double the rows of a pass while the time per image does not rise, up to the edge of memory.

    Args:
        run: one pass with so many rows, on prepared data; returns when the result is available.
        size: height and width of the network's input.
        device: ``"cpu"`` or ``"cuda"``.
    """
    limit = most_rows(size, device)
    batch = min(SMALLEST[device], limit)
    best, best_time = batch, float("inf")
    while batch <= limit:
        try:
            taken = _seconds(partial(run, batch))
        except Exception as error:  # ONNX Runtime and torch raise unrelated classes when memory runs out
            if not is_out_of_memory(error):
                raise
            break
        if taken / batch > best_time * (1 + LOSS):
            break
        best, best_time = batch, min(best_time, taken / batch)
        if taken > SLOW:
            break
        batch *= 2
    return BatchingPolicy(best)


def autotune(
    session: Session, rows: np.ndarray, whole: BatchingPolicy, alone: tuple[int, ...] = ALONE
) -> BatchingPolicy:
    """Compare one pass per core with ``whole``, one divided pass at a time; leave the session set to the faster one.

    Args:
        session: an open session on the host.
        rows: what to feed it, in the network's own layout: as many as ``whole`` and ``alone`` need.
        whole: the best policy with divided passes.
        alone: the rows per pass to try with one pass per core.
    """
    cores = thread_count()
    alone = tuple(n for n in alone if n * cores <= AT_ONCE and n <= len(rows))[-3:]
    if cores < 2 or not alone:
        return whole
    rows = rows.astype(session.dtype)
    divided = seconds_per_image(session, rows, whole)
    if divided * whole.batch > SLOW:
        return whole
    session.share_out(cores)
    times = {BatchingPolicy(n, cores): seconds_per_image(session, rows, BatchingPolicy(n, cores)) for n in alone}
    fastest = min(times.values())
    if fastest > divided * (1 + TIE) + BETWEEN * (1 - 1 / cores):
        session.share_out(1)
        return whole
    # The most rows that cost no more: what Python does between passes, it then does less often.
    return max(
        (policy for policy, cost in times.items() if cost <= fastest * (1 + LOSS)), key=lambda policy: policy.batch
    )


def seconds_per_image(session: Session, rows: np.ndarray, policy: BatchingPolicy) -> float:
    """Return seconds per image by a policy to which the session is set: the best of three spans of passes."""

    def passes(count: int) -> None:
        for _ in range(count):
            session.run(rows[: policy.batch])

    def side_by_side(count: int) -> float:
        start = time.perf_counter()
        if policy.workers == 1:
            passes(count)
        else:
            done = wait([session.pool.submit(passes, count) for _ in range(policy.workers)]).done
            [future.result() for future in done]
        return time.perf_counter() - start

    side_by_side(1)
    count = max(1, round(SPAN / side_by_side(1)))
    return min(side_by_side(count) for _ in range(3)) / (count * policy.batch * policy.workers)


def _seconds(run: Callable[[], object]) -> float:
    """Return the seconds of one call: the best of two after a first one, or the first one if that was slow."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
        if times[0] > SLOW:
            break
    return min(times[1:] or times)
