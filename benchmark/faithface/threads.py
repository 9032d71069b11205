"""The host's threads: how many there are to use, and one for torch beside passes of ONNX Runtime.

Place in the flow: used by ``model`` and the perturbation engine, which do their small torch work inside
:func:`one_thread`. Imports only ``lazy``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from faithface.lazy import torch


def thread_count() -> int:
    """Return the number of processors to use: ``OMP_NUM_THREADS``, which Ray sets for its workers, or all there are."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdecimal() and int(given) > 0:
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread within the block, and as many as before after it.

    ONNX Runtime's workers keep spinning for a while after each pass. A parallel torch operation then waits for a core
    that they hold, which costs many times what it saves on arrays of this size.
    """
    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
