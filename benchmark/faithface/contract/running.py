"""How rows go through a model: the meter, the batching policy, the feed, and what happens when memory runs out.

Place in the flow: parts of ``model.FaceModel``, used by all that run a model (the perturbation engine, ``run``,
``bench``). Imports only ``errors`` and ``lazy``.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from faithface.errors import RunError
from faithface.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

# How ONNX Runtime (its arena, with and without a limit), cuBLAS, cuDNN and C++ report that memory ran out.
MEMORY_WORDS = (
    "out of memory",
    "failed to allocate memory",
    "smaller than requested bytes",
    "alloc_failed",
    "bad_alloc",
    "bad allocation",
)


@dataclass(frozen=True)
class Passes:
    """How many images went forward and backward through a network: a reading of the meter behind ``cost@1``."""

    forward: int = 0
    backward: int = 0

    def __add__(self, other: Passes) -> Passes:
        return Passes(self.forward + other.forward, self.backward + other.backward)

    def __sub__(self, other: Passes) -> Passes:
        return Passes(self.forward - other.forward, self.backward - other.backward)


ONNX_RUNTIME, OPENVINO = "onnxruntime", "openvino"


@dataclass(frozen=True)
class BatchingPolicy:
    """How a model is run: rows per pass, how many passes run side by side (one per worker thread), and by what."""

    batch: int
    workers: int = 1
    engine: str = ONNX_RUNTIME


@dataclass(frozen=True, kw_only=True)
class Feed:
    """A way to run rows that are already in the network's own space, from a buffer that the caller owns.

    A caller that changes few pixels between two passes prepares its images once, edits rows of its buffer in place,
    and runs them without a copy. Rows are numpy arrays on the host (:class:`HostFeed`), torch tensors on a device
    (:class:`DeviceFeed`).

    Attributes:
        prepare: images M×3×H×W in [0, 1] → contiguous rows M×C×H×W (M×H×W×C where ``channels_last``), in the network's
            dtype. Each value of a row depends on the same pixel of its image only.
        run: contiguous rows → outputs N×K, float32, which belong to the caller. Where the model's batching policy has
            several workers, it is called from as many threads, each with rows of its own.
        channels_last: whether the channels of a pixel are adjacent in memory.
        fixed_batch: the only number of rows that ``run`` accepts; None: any.
        counts: whether ``run`` counts its passes on the model's meter; otherwise the caller does, by
            ``FaceModel.count``, and omits rows that only fill a batch.
    """

    channels_last: bool = False
    fixed_batch: int | None = None
    counts: bool = True


@dataclass(frozen=True, kw_only=True)
class HostFeed(Feed):
    """A feed whose rows are in the host's memory, as numpy arrays.

    Attributes:
        pool: threads for passes side by side, which live as long as the model; None: the caller makes its own.
    """

    prepare: Callable[[Tensor], np.ndarray]
    run: Callable[[np.ndarray], Tensor]
    pool: Executor | None = None


@dataclass(frozen=True, kw_only=True)
class DeviceFeed(Feed):
    """A feed whose rows are in a device's memory, as torch tensors; so do the outputs."""

    prepare: Callable[[Tensor], Tensor]
    run: Callable[[Tensor], Tensor]


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error of torch, ONNX Runtime or Python means that memory ran out."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return any(words in text for words in MEMORY_WORDS)


def no_memory(name: str, batch: int) -> RunError:
    """Return the error for a batch that does not fit and cannot be made smaller."""
    images = "one image" if batch == 1 else f"{batch} images, the only batch that its file accepts"
    return RunError(f'model "{name}": out of memory with a batch of {images}')
