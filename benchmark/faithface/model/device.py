"""Device lines: where the network runs, and in which arithmetic. A chosen line is opened or refused, never exchanged.

Place in the flow: ``session`` opens networks on a line; ``run`` checks and records it. May call ``errors`` only.

A line is part of every record, because its numbers are its own: ``cpu``, ``cuda`` and ``tensorrt`` compute in float32
and agree to about 1e-4; the ``-fp16`` lines round activations to 10 bits, and their scores are theirs alone. Gradients
and activations come from the torch twin in float32 on every line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx
import onnxruntime as ort
import torch

from faithface.errors import UsageError


@dataclass(frozen=True)
class DeviceLine:
    """One line.

    Attributes:
        name: as users write it.
        torch: the torch device of images and twin: ``"cpu"`` or ``"cuda"``.
        provider: the ONNX Runtime provider that must run the network.
        half: float16 inside the network; its input and outputs stay float32.
    """

    name: str
    torch: str
    provider: str
    half: bool = False

    @property
    def tolerance(self) -> float:
        """Largest relative difference between two ways to the same outputs (twin or session, one row or a batch)."""
        return 2e-2 if self.half else 1e-4


LINES = (
    DeviceLine("cpu", "cpu", "CPUExecutionProvider"),
    DeviceLine("cuda", "cuda", "CUDAExecutionProvider"),
    DeviceLine("cuda-fp16", "cuda", "CUDAExecutionProvider", half=True),
    DeviceLine("tensorrt", "cuda", "TensorrtExecutionProvider"),
    DeviceLine("tensorrt-fp16", "cuda", "TensorrtExecutionProvider", half=True),
)

# Heuristic search instead of the default exhaustive one; no TF32, whose 10-bit mantissa breaks parity with the CPU.
CUDA_OPTIONS: dict[str, Any] = {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": 0, "do_copy_in_default_stream": 1}


def device_line(name: str) -> DeviceLine:
    """Return a line by its name.

    Raises:
        UsageError: there is none of that name.
    """
    known = {line.name: line for line in LINES}
    if name not in known:
        raise UsageError(f"device is '{name}'; expected one of: {', '.join(known)}")
    return known[name]


def providers_for(name: str) -> list[Any]:
    """Return ONNX Runtime's provider list for a line, the one that must run the network first.

    Raises:
        UsageError: an unknown line, or one that this machine or this onnxruntime cannot run.
    """
    line = device_line(name)
    if line.torch == "cpu":
        return [line.provider]
    if not torch.cuda.is_available():
        raise UsageError(
            f"device {name} was asked for, but torch sees no CUDA device; use --device cpu, or mend the driver"
        )
    if line.provider not in ort.get_available_providers():
        raise UsageError(
            f"device {name} was asked for, but this onnxruntime has no {line.provider} "
            f"(it has: {', '.join(ort.get_available_providers())}); install onnxruntime-gpu, or use --device cpu"
        )
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()
    keep_float32()
    # fp16 lines may use the tensor cores for what stays float32; "use_tf32" of 0 closes them to float16 as well.
    cuda = ("CUDAExecutionProvider", CUDA_OPTIONS | ({"use_tf32": 1} if line.half else {}))
    if line.provider == "TensorrtExecutionProvider":
        return [(line.provider, {"trt_fp16_enable": line.half}), cuda, "CPUExecutionProvider"]
    return [cuda, "CPUExecutionProvider"]


def keep_float32() -> None:
    """Make torch on CUDA keep float32's mantissa and repeat its results bit for bit, for the whole process.

    cuDNN's convolutions use TF32 by default, whose 10-bit mantissa puts the twin beyond its parity with the session.
    """
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def half_precision(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the network with float16 inside and float32 at its input and outputs; the argument is left as it was.

    By ONNX Runtime's own converter, which keeps operators in float32 that have no float16 kernel.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return convert_float_to_float16(copy, keep_io_types=True)
