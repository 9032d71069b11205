"""OpenVINO, a second engine for forward passes on the host: faster where a network's convolutions are depthwise.

Place in the flow: ``autotune`` compiles it beside ONNX Runtime and keeps the faster one; ``session`` then runs its
passes by it. May call ``errors`` and ``threads`` only; the extra ``openvino`` is imported in the functions that need
it. Gradients, activations and a network's checks on opening are not its business.

Arithmetic is float32 on every processor: OpenVINO would choose bfloat16 where the hardware has it.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import threading
from pathlib import Path
from typing import Any

import numpy as np

from faithface.errors import RunError
from faithface.threads import thread_count


def openvino_version() -> str | None:
    """Return the version of the installed OpenVINO; None where it is not installed."""
    if importlib.util.find_spec("openvino") is None:
        return None
    try:
        return importlib.metadata.version("openvino")
    except importlib.metadata.PackageNotFoundError:
        return None


class OpenVino:
    """One network, compiled for so many passes side by side.

    Args:
        source: the ``.onnx`` file, or its bytes.
        streams: how many passes run side by side; they share the host's threads.
        what: the network, as messages call it.

    Raises:
        RunError: OpenVINO does not read or compile the network.
    """

    def __init__(self, source: bytes | Path, streams: int, what: str) -> None:
        import openvino

        self.streams, self._what = streams, what
        self._own = threading.local()
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "EXECUTION_MODE_HINT": "ACCURACY",
            "NUM_STREAMS": str(streams),
            "INFERENCE_NUM_THREADS": str(thread_count()),
        }
        try:
            core = openvino.Core()
            network = core.read_model(model=source if isinstance(source, bytes) else str(source))
            self._compiled: Any = core.compile_model(network, "CPU", settings)
        except RuntimeError as error:
            raise RunError(f"{what}: OpenVINO cannot compile it: {_first_line(error)}") from error
        self._ports = {name: port for port in self._compiled.outputs for name in port.get_names()}

    def run(self, rows: np.ndarray, output: str) -> np.ndarray:
        """Return one output by its name, float32, a copy. May be called from several threads at once.

        Args:
            rows: contiguous, in the network's layout, normalisation and dtype.

        Raises:
            RunError: OpenVINO failed, or knows no output of that name.
        """
        if not hasattr(self._own, "request"):
            self._own.request = self._compiled.create_infer_request()
        try:
            results = self._own.request.infer({0: rows}, share_inputs=True, share_outputs=True)
            # A copy: the request writes its next result into the memory of this one.
            return np.array(results[self._ports[output]], dtype=np.float32)
        except (RuntimeError, KeyError) as error:
            raise RunError(f"{self._what}: OpenVINO cannot run it: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]
