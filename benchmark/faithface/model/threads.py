"""Keep torch's threads out of the network's way on the host.

Place in the flow: ``onnx_model``, the perturbation engine and the workers of a session do their small torch work inside
:func:`one_thread`. Imports only torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread within the block, and as many as before after it.

    ONNX Runtime's workers go on spinning for a while after each pass. A parallel torch operation then waits for a core
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
