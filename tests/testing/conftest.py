"""One thread for the tests of the kit: on its small networks, threads wait for each other longer than they work.

Place in the flow: pytest reads it for this folder, and ``tests/docs`` uses it too. On a machine that does other work
the same checks took 2.5 times the processor time with two threads.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Let torch and ONNX Runtime (which asks ``faithface.threads``) use one thread within this folder."""
    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(before)
