"""Execution targets: where the network runs, and in which arithmetic. A target is used as named or refused.

Place in the flow: ``session`` opens networks on a target; ``run`` checks and records it. May call ``errors`` and
``lazy`` only; ONNX and ONNX Runtime are imported in the functions that need them, so that names can be checked without.

The target is part of every record, because numbers depend on it: ``cpu``, ``cuda`` and ``tensorrt`` compute in float32
and agree to about 1e-4; the ``-fp16`` targets round activations to 10 bits, and their scores are comparable only
with each other. Gradients and activations come from the torch twin in float32 on every target.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from faithface.errors import UsageError
from faithface.lazy import torch

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class ExecutionTarget:
    """One execution target.

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


TARGETS = (
    ExecutionTarget("cpu", "cpu", "CPUExecutionProvider"),
    ExecutionTarget("cuda", "cuda", "CUDAExecutionProvider"),
    ExecutionTarget("cuda-fp16", "cuda", "CUDAExecutionProvider", half=True),
    ExecutionTarget("tensorrt", "cuda", "TensorrtExecutionProvider"),
    ExecutionTarget("tensorrt-fp16", "cuda", "TensorrtExecutionProvider", half=True),
)

# Heuristic search instead of the default exhaustive one; no TF32, whose 10-bit mantissa breaks parity with the CPU.
CUDA_OPTIONS: dict[str, Any] = {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": 0, "do_copy_in_default_stream": 1}


def execution_target(name: str) -> ExecutionTarget:
    """Return an execution target by its name.

    Raises:
        UsageError: there is none of that name.
    """
    known = {target.name: target for target in TARGETS}
    if name not in known:
        raise UsageError(f"device is '{name}'; expected one of: {', '.join(known)}")
    return known[name]


def providers_for(name: str) -> list[Any]:
    """Return ONNX Runtime's provider list for an execution target, the one that must run the network first.

    Raises:
        UsageError: an unknown target, or one that this machine or this onnxruntime cannot run.
    """
    target = execution_target(name)
    if target.torch == "cpu":
        return [target.provider]
    import onnxruntime as ort

    if not torch.cuda.is_available():
        raise UsageError(
            f"device {name} was requested, but torch sees no CUDA device; use --device cpu, or fix the driver"
        )
    if target.provider not in ort.get_available_providers():
        raise UsageError(
            f"device {name} was requested, but this onnxruntime has no {target.provider} "
            f"(it has: {', '.join(ort.get_available_providers())}); install onnxruntime-gpu, or use --device cpu"
        )
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()
    keep_float32()
    # fp16 targets may use the tensor cores for what stays float32; "use_tf32" of 0 closes them to float16 as well.
    cuda = ("CUDAExecutionProvider", CUDA_OPTIONS | ({"use_tf32": 1} if target.half else {}))
    if target.provider == "TensorrtExecutionProvider":
        return [(target.provider, {"trt_fp16_enable": target.half}), cuda, "CPUExecutionProvider"]
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
    """Return the network with float16 inside and float32 at its input and outputs; the argument is unchanged.

    By ONNX Runtime's own converter, which keeps operators in float32 that have no float16 kernel.
    """
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return convert_float_to_float16(copy, keep_io_types=True)
