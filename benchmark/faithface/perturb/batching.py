"""How many images go through the network at once: measured once per model and device, halved when memory runs out.

Place in the flow: asked by ``engine`` before each round. May call the contract's FaceModel; keeps its answer in
``model.memo``. Where the user named a batch size, or the file has a fixed one, nothing is measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from faithface.contract import FaceModel
from faithface.model.session import Session
from faithface.model.twin import preprocess

SMALLEST = {"cpu": 8, "cuda": 32}
LARGEST = {"cpu": 32, "cuda": 1024}
# A doubled batch is taken unless it costs this share more per image: composing has a fixed cost per batch. On the host
# it has no more to win beyond 32 rows, which then leave the cache.
LOSS = 0.03
SLOW = 0.5  # seconds; no larger batch is tried beyond one that takes so long
BUFFER_BYTES = 512 * 2**20  # for the batch itself; activations are the network's affair
_KEY = "engine batch size"


def batch_for(model: FaceModel) -> int:
    """Return the batch size of the engine for this model on its device."""
    if _KEY not in model.memo:
        model.memo[_KEY] = choose_batch(model)
    return int(model.memo[_KEY])


def remember_batch(model: FaceModel, batch: int) -> None:
    """Set the batch size of the engine for this model."""
    model.memo[_KEY] = max(1, batch)


def choose_batch(model: FaceModel) -> int:
    """Return the fixed batch size, or the one that the user named, or the fastest found by doubling."""
    known = getattr(model, "fixed_batch", None) or getattr(model, "batch_given", None)
    return int(known) if known else measure_batch(model)


def measure_batch(model: FaceModel) -> int:
    """Double the batch while the time per image does not rise; random images, the faster of two runs counts."""
    device = "cuda" if model.device.startswith("cuda") else "cpu"
    height, width = model.size
    limit = max(1, min(LARGEST[device], BUFFER_BYTES // (3 * height * width * 8)))
    batch = min(SMALLEST[device], limit)
    best, best_time = batch, float("inf")
    counted = model.passes.forward
    while batch <= limit:
        try:
            seconds = _seconds(model, batch)
        except Exception as error:  # the search must end at the memory's edge, not in an error
            if not is_out_of_memory(error):
                raise
            break
        if seconds / batch > best_time * (1 + LOSS):
            break
        best, best_time = batch, min(best_time, seconds / batch)
        if seconds > SLOW:
            break
        batch *= 2
    model.passes.forward = counted  # a measurement is no part of what an explanation or a metric costs
    return best


def _seconds(model: FaceModel, batch: int) -> float:
    pixels = np.random.default_rng(0).random((batch, 3, *model.size), dtype=np.float32)
    images = torch.from_numpy(pixels).to(model.device)
    session = getattr(model, "session", None)
    run: Callable[[torch.Tensor], torch.Tensor] = model.outputs
    if isinstance(session, Session):
        images, run = preprocess(images, model.card.input).contiguous(), session.run_tensor
    times = []
    for _ in range(3):
        start = time.perf_counter()
        run(images).cpu()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error of torch, ONNX Runtime or Python means that memory ran out."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return any(words in text for words in ("out of memory", "failed to allocate memory", "bad_alloc", "bad allocation"))
