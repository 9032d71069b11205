"""Which execution providers of this ONNX Runtime really load on this machine.

Place in the flow: called by ``inspect`` and ``doctor``. Imports ONNX and ONNX Runtime when asked.

ONNX Runtime lists the providers that it was built with. A GPU build on a machine without a GPU lists CUDA, and only a
session shows that it cannot be used.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass

WARNING, FATAL = 2, 4  # ONNX Runtime's levels; the first is its default


@dataclass(frozen=True)
class Provider:
    """A provider that this ONNX Runtime was built with: ``problem`` says why it does not load; "" if it does."""

    name: str
    problem: str = ""


def providers() -> tuple[Provider, ...]:
    """Open a session of one operator on each provider, and say which of them ran it."""
    import onnxruntime as ort

    data = _identity()
    found = []
    # What does not load is told in our own words; ONNX Runtime logs it, and prints that it falls back.
    ort.set_default_logger_severity(FATAL)
    try:
        for name in ort.get_available_providers():
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    session = ort.InferenceSession(data, providers=[name])
                loaded = name in session.get_providers()
                found.append(Provider(name, "" if loaded else "its libraries, or its device, are not there"))
            except Exception as error:  # ONNX Runtime raises classes of its own
                first = (str(error).strip().splitlines() or [type(error).__name__])[0]
                found.append(Provider(name, first[:160]))
    finally:
        ort.set_default_logger_severity(WARNING)
    return tuple(found)


def working() -> tuple[str, ...]:
    """Return the names of the providers that load."""
    return tuple(one.name for one in providers() if not one.problem)


def _identity() -> bytes:
    from onnx import TensorProto, helper

    node = helper.make_node("Identity", ["x"], ["y"])
    x, y = ([helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])] for name in "xy")
    model = helper.make_model(helper.make_graph([node], "one", x, y), opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 7
    return bytes(model.SerializeToString())
