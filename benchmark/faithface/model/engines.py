"""Which engine runs a network's forward passes on the host: ONNX Runtime, or OpenVINO where that is faster and equal.

Place in the flow: ``onnx_model`` calls :func:`choose_engine` once ONNX Runtime's own policy is known. May call
``autotune``, ``openvino``, ``session``, ``parity`` and ``errors``.

The two engines agree to about 1e-6, not to the last bit. So that a run which is resumed, or shared between processes,
gives the same bits, the choice is made once for a network on a machine, and kept in the user's cache folder.
``FAITHFACE_ENGINE`` overrides it: ``onnxruntime``, ``openvino``, or ``auto`` (the default).
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import platform
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from faithface.contract import BatchingPolicy
from faithface.contract.running import ONNX_RUNTIME, OPENVINO
from faithface.digest_cache import cache_file
from faithface.errors import RunError, UsageError
from faithface.model.autotune import AT_ONCE, seconds_per_image
from faithface.model.openvino import openvino_version
from faithface.model.parity import relative_difference
from faithface.model.session import Session
from faithface.threads import thread_count

AGREEMENT = 1e-5
"""Largest difference of outputs between the engines, relative to the largest output; 1e-6 is usual."""
GAIN = 1.05
"""How many times faster OpenVINO must be, in three of four turns: two timings of the same engine differ by less."""
TURNS = 8
ROWS = (4, 8, 16, 32)  # rows per pass that are tried
CHECKED = 8  # images on which the engines are compared


def choose_engine(session: Session, rows: np.ndarray, policy: BatchingPolicy, digest: str) -> BatchingPolicy:
    """Return ``policy``, or a policy by OpenVINO if that is faster; leave the session set to it.

    Args:
        session: an open session on the host, set to ``policy``.
        rows: what to feed it, in the network's own layout.
        policy: the best policy by ONNX Runtime.
        digest: sha256 of the network, under which the choice is kept.

    Raises:
        UsageError: ``FAITHFACE_ENGINE`` names no engine, or OpenVINO, which is not installed or not able.
    """
    wanted = os.environ.get("FAITHFACE_ENGINE", "") or "auto"
    if wanted not in ("auto", ONNX_RUNTIME, OPENVINO):
        raise UsageError(f"FAITHFACE_ENGINE is '{wanted}'; expected auto, {ONNX_RUNTIME} or {OPENVINO}")
    if wanted == ONNX_RUNTIME:
        return policy
    version = openvino_version()
    if version is None:
        if wanted == OPENVINO:
            raise UsageError(
                f"FAITHFACE_ENGINE is {OPENVINO}, which is not installed: pip install 'faithface[openvino]'"
            )
        return policy
    kept = _Kept(digest, version)
    known = kept.read() if wanted == "auto" else OPENVINO
    if known == ONNX_RUNTIME:
        return policy
    other = _fastest(session, rows, policy)
    if isinstance(other, str):
        if wanted == OPENVINO:
            raise UsageError(f"FAITHFACE_ENGINE is {OPENVINO}, but {other}")
        kept.write(ONNX_RUNTIME)
        return policy
    if known is None:
        known = kept.write(OPENVINO if _is_faster(session, rows, policy, other) else ONNX_RUNTIME)
    chosen = other if known == OPENVINO else policy
    session.use(chosen)
    session.drop_unused()
    return chosen


def _is_faster(session: Session, rows: np.ndarray, policy: BatchingPolicy, other: BatchingPolicy) -> bool:
    """Time both engines in turns, so that a slow spell of the machine meets both."""
    gains = []
    for _ in range(TURNS):
        session.use(policy)
        before = seconds_per_image(session, rows, policy)
        session.use(other)
        gains.append(before / seconds_per_image(session, rows, other))
    return sorted(gains)[TURNS // 4] >= GAIN


def _fastest(session: Session, rows: np.ndarray, policy: BatchingPolicy) -> BatchingPolicy | str:
    """Return OpenVINO's best policy, and leave the session set to it; in words, why it cannot be used."""
    if session.dtype is not np.float32:
        return "it is used on float32 networks only"
    rows = np.ascontiguousarray(rows, dtype=session.dtype)
    few = rows[: policy.batch if session.fixed_batch else CHECKED]
    expected = session.run(few)
    cores = thread_count()
    counts = (policy.batch,) if session.fixed_batch else tuple(n for n in ROWS if n <= len(rows))
    times: dict[BatchingPolicy, float] = {}
    try:
        for workers in sorted({1, cores}):
            for n in counts:
                if n * workers <= max(AT_ONCE, n):
                    candidate = dataclasses.replace(policy, batch=n, workers=workers, engine=OPENVINO)
                    session.use(candidate)
                    if not times and (far := _difference(session.run(few), expected)) > AGREEMENT:
                        session.use(policy)
                        return (
                            f"its outputs differ from ONNX Runtime's by {far:.1e}; at most {AGREEMENT:.0e} is accepted"
                        )
                    times[candidate] = seconds_per_image(session, rows, candidate)
    except RunError as error:
        session.use(policy)
        return str(error)
    return min(times, key=lambda candidate: times[candidate])


def _difference(got: np.ndarray, expected: np.ndarray) -> float:
    return (
        relative_difference(torch.from_numpy(got), torch.from_numpy(expected))
        if got.shape == expected.shape
        else np.inf
    )


class _Kept:
    """The choice for a network on this machine, in a file of the user's cache folder."""

    def __init__(self, digest: str, version: str) -> None:
        facts = (digest, version, onnxruntime.__version__, platform.machine(), _processor(), str(thread_count()))
        name = hashlib.sha256("\n".join(facts).encode()).hexdigest()
        self.path = cache_file().parent / "engines" / name

    def read(self) -> str | None:
        """Return the engine; None if none was chosen, or the file cannot be read."""
        with contextlib.suppress(OSError):
            said = self.path.read_text(encoding="ascii").strip()
            return said if said in (ONNX_RUNTIME, OPENVINO) else None
        return None

    def write(self, engine: str) -> str:
        """Keep a choice, unless another process was first; return the one that holds."""
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            draft = self.path.with_name(f"{self.path.name}.{os.getpid()}")
            draft.write_text(engine, encoding="ascii")
            with contextlib.suppress(FileExistsError):
                os.link(draft, self.path)
            draft.unlink()
        return self.read() or engine


def _processor() -> str:
    """Return the processor's name, because another one has other timings."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
