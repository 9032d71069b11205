"""ONNX Runtime sessions: the requested provider or an error, repeatable options, a known batch axis.

Place in the flow: used by ``onnx_model.py``; the perturbation engine runs the same session from its own buffers,
through ``FaceModel.feed``. May call ``target``, ``threads``, ``screen``, ``openvino``, ``errors`` and the contract's
policy only. Knows nothing of cards or faces: arrays in, arrays out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch

from faithface.contract.running import ONNX_RUNTIME, OPENVINO, BatchingPolicy
from faithface.errors import RunError, UsageError
from faithface.model.openvino import OpenVino
from faithface.model.screen import read_proto
from faithface.model.target import execution_target, half_precision, providers_for
from faithface.threads import thread_count

_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
TORCH_DTYPES: dict[Any, torch.dtype] = {
    np.float32: torch.float32,
    np.float16: torch.float16,
    np.float64: torch.float64,
}


@dataclass(frozen=True)
class Port:
    """A graph input or output: name, element type as ONNX Runtime writes it, and shape (None = dynamic)."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


def session_options(threads: int | None = None) -> ort.SessionOptions:
    """Return the options of every session: all graph optimisations, threads from the machine, deterministic kernels."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads or thread_count()
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 4
    return options


def open_session(
    model: bytes | str | Path, device: str = "cpu", what: str = "model", threads: int | None = None
) -> ort.InferenceSession:
    """Open a session on the requested device and prove that it runs there; ``threads`` divide each of its operators.

    Raises:
        UsageError: the file is truncated or not ONNX, an operator is unknown, or the provider fell back.
    """
    providers = providers_for(device)
    source = model if isinstance(model, bytes) else str(model)
    if execution_target(device).half:
        proto = onnx.load_from_string(model) if isinstance(model, bytes) else load_proto(Path(model))
        source = half_precision(proto).SerializeToString()
    try:
        session = ort.InferenceSession(source, session_options(threads), providers=providers)
    except Exception as error:  # onnxruntime raises a dozen unrelated classes for a bad file
        raise UsageError(f"{what} is not a model that ONNX Runtime can open: {_first_line(error)}") from None
    wanted = providers[0] if isinstance(providers[0], str) else providers[0][0]
    if session.get_providers()[0] != wanted:
        raise UsageError(
            f"{wanted} was requested, but ONNX Runtime fell back to {session.get_providers()[0]}: its libraries did "
            "not load; install the CUDA, cuDNN or TensorRT that this onnxruntime-gpu needs, or use --device cpu"
        )
    return session


def load_proto(path: Path) -> onnx.ModelProto:
    """Read an ``.onnx`` file.

    Raises:
        UsageError: it is not there, truncated, not ONNX, or demands too much (see :mod:`faithface.model.screen`).
    """
    return read_proto(path)


def ports(entries: Sequence[Any]) -> list[Port]:
    """Describe the inputs or outputs of a session."""
    return [
        Port(e.name, e.type, tuple(d if isinstance(d, int) and d > 0 else None for d in (e.shape or ())))
        for e in entries
    ]


class Session:
    """One open ``.onnx`` graph with one image input and one chosen output.

    Attributes:
        inputs, outputs: the graph's ports.
        output: the chosen output's name.
        fixed_batch: the only batch size that the file accepts; None: any.
        execution_target: where it runs; ``device`` is its torch device.
        provider: the provider in use.
        workers: how many passes are meant to run side by side (:meth:`share_out`).
        engine: what runs passes on the host (:meth:`use`): ``"onnxruntime"`` or ``"openvino"``.
    """

    def __init__(self, model: bytes | Path, output: str = "", device: str = "cpu", what: str = "model") -> None:
        self.ort = open_session(model, device, what)
        self.execution_target = execution_target(device)
        self.device, self.workers = self.execution_target.torch, 1
        self._source, self._what = model, what
        self._pool: ThreadPoolExecutor | None = None
        self._openvino: OpenVino | None = None
        self._last_compiled: OpenVino | None = None
        self._ort_workers = 1
        self.provider = self.ort.get_providers()[0]
        self.inputs, self.outputs = ports(self.ort.get_inputs()), ports(self.ort.get_outputs())
        names = [port.name for port in self.outputs]
        if output and output not in names:
            raise UsageError(f"{what} has no output '{output}'; its outputs are: {', '.join(names)}")
        if len(self.inputs) != 1:
            raise UsageError(
                f"{what} has {len(self.inputs)} inputs ({', '.join(p.name for p in self.inputs)}); expected one image"
            )
        if self.inputs[0].dtype not in _DTYPES or len(self.inputs[0].shape) != 4:
            raise UsageError(
                f"{what}: input '{self.inputs[0].name}' is {self.inputs[0].dtype} of {len(self.inputs[0].shape)} "
                "dimensions; expected a float image batch of 4 dimensions: export the network with such an input"
            )
        self.output = output or names[0]
        self.dtype = _DTYPES[self.inputs[0].dtype]
        self.fixed_batch = self.inputs[0].shape[0]

    def share_out(self, workers: int) -> None:
        """Divide the host's threads among so many passes side by side; 1: each pass has them all.

        ONNX Runtime fixes the threads of a session when it opens, so it is reopened and the old one dropped.
        """
        self.ort = open_session(self._source, self.execution_target.name, self._what, max(1, thread_count() // workers))
        self._ort_workers = workers
        self._set_workers(workers)

    def _set_workers(self, workers: int) -> None:
        if workers == self.workers:
            return
        self.workers = workers
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    @property
    def engine(self) -> str:
        return ONNX_RUNTIME if self._openvino is None else OPENVINO

    def use(self, policy: BatchingPolicy) -> None:
        """Run by a policy's engine and passes side by side from now on.

        Raises:
            RunError: OpenVINO does not compile the network.
        """
        if policy.engine == self.engine and policy.workers == self.workers:
            return
        if policy.engine == OPENVINO:
            self._openvino = self._compiled(policy.workers)
        else:
            self._openvino = None
            if policy.workers != self._ort_workers:
                self.share_out(policy.workers)
        self._set_workers(policy.workers)

    def _compiled(self, streams: int) -> OpenVino:
        """Return the network compiled by OpenVINO; the last one stays, because the engines are timed in turns."""
        if self._last_compiled is None or self._last_compiled.streams != streams:
            self._last_compiled = OpenVino(self._source, streams, self._what)
        return self._last_compiled

    def drop_unused(self) -> None:
        """Let go of what OpenVINO compiled, unless it is in use."""
        self._last_compiled = self._openvino

    @property
    def pool(self) -> ThreadPoolExecutor:
        """One thread for each pass that runs side by side. ONNX Runtime releases Python's lock during a pass."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="faithface-pass")
        return self._pool

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Turn what ONNX Runtime raises during a pass into a :class:`RunError` that names the model."""
        try:
            yield
        except Exception as error:  # onnxruntime raises a dozen unrelated classes
            if not type(error).__module__.startswith("onnxruntime"):
                raise
            raise RunError(f"{self._what}: ONNX Runtime cannot run it: {_first_line(error)}") from error

    def run(self, batch: np.ndarray, output: str = "") -> np.ndarray:
        """Return the chosen output, or another one by name, as float32.

        Args:
            batch: images that are already in the network's layout and normalisation.

        Raises:
            RunError: the engine failed, for instance because the network does not take this batch size.
        """
        rows = np.ascontiguousarray(batch, dtype=self.dtype)
        if self._openvino is not None:
            return self._openvino.run(rows, output or self.output)
        with self.failures():
            return np.asarray(self.ort.run([output or self.output], {self.inputs[0].name: rows})[0], dtype=np.float32)

    def run_tensor(self, batch: torch.Tensor) -> torch.Tensor:
        """As :meth:`run` on torch tensors, on the session's device; on CUDA nothing crosses the bus."""
        if self.device == "cpu":
            return torch.from_numpy(self.run(batch.numpy()))
        return self.run_bound(batch.to(TORCH_DTYPES[self.dtype]).contiguous())

    def run_bound(self, batch: torch.Tensor) -> torch.Tensor:
        """Run by IOBinding: the input is read in place, the output stays on the device.

        Args:
            batch: contiguous, in the network's dtype, on the device of the session (the host's memory serves as well).

        Returns:
            float32, a copy: ONNX Runtime writes its next output into the memory of this one.
        """
        kind = batch.device.type
        binding = self.ort.io_binding()
        if kind == "cuda":
            # ONNX Runtime works on its own stream: what torch has queued must be done before it reads, or writes into
            # memory whose last output torch is still copying.
            torch.cuda.current_stream().synchronize()
        binding.bind_input(self.inputs[0].name, kind, 0, self.dtype, tuple(batch.shape), batch.data_ptr())
        binding.bind_output(self.output, kind)
        with self.failures():
            self.ort.run_with_iobinding(binding)
        binding.synchronize_outputs()
        output = torch.utils.dlpack.from_dlpack(binding.get_outputs()[0]._ortvalue.to_dlpack())
        return output.to(torch.float32, copy=True)


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__)[:300]
