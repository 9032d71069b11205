"""What an installation is and whether it works: versions, providers, memory, plugins, and a test of a few seconds.

Place in the flow: ``faithface doctor`` prints it. May call everything below ``api``.
"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from faithface.plugins import PluginRow, load_registry, without_entry

SIZE = 16  # of the self test's images


@dataclass(frozen=True)
class Check:
    """One step of the self test: ``problem`` is "" if it passed."""

    name: str
    seconds: float
    problem: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """What was found.

    Attributes:
        versions: of Python and of packages that numbers depend on.
        providers: why each does not load, by name; "" if it does.
        devices: what torch sees beside the processor.
        memory: bytes, ``total`` and ``free``; empty where they cannot be read.
        disk: bytes that are free in the current folder.
        plugins: one row per distribution.
        checks: the self test.
    """

    system: str
    processors: int
    versions: dict[str, str]
    providers: dict[str, str]
    devices: tuple[str, ...]
    memory: dict[str, int]
    disk: int
    plugins: tuple[PluginRow, ...]
    checks: tuple[Check, ...]

    @property
    def healthy(self) -> bool:
        """Whether the self test passed and every plugin loaded."""
        return not any(check.problem for check in self.checks) and all(r.status != "failed" for r in self.plugins)

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "healthy": self.healthy}


def diagnose() -> Diagnosis:
    """Look at the installation and test it."""
    from faithface.model.providers import providers

    return Diagnosis(
        f"{platform.system()} {platform.release()} {platform.machine()}",
        os.cpu_count() or 1,
        {"python": platform.python_version(), **_versions()},
        {one.name: one.problem for one in providers()},
        _devices(),
        _memory(),
        shutil.disk_usage(Path.cwd()).free,
        (*load_registry().rows, *without_entry()),
        tuple(self_test()),
    )


def _versions() -> dict[str, str]:
    from faithface.run.environment import PACKAGES, RUNTIMES, version_of

    return {name: found for name in (*PACKAGES, *RUNTIMES) if (found := version_of(name))}


def _devices() -> tuple[str, ...]:
    import torch

    if not torch.cuda.is_available():
        return ()
    return tuple(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))


def _memory() -> dict[str, int]:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return {}
    kilobytes = {line.partition(":")[0]: int(line.split()[1]) for line in lines if len(line.split()) > 1}
    return {"total": kilobytes.get("MemTotal", 0) * 1024, "free": kilobytes.get("MemAvailable", 0) * 1024}


# --- the self test


def self_test() -> list[Check]:
    """Run a network whose outputs, gradient and explanation are known in closed form through the whole of faithface."""
    checks: list[Check] = []
    with tempfile.TemporaryDirectory() as folder:
        state: dict[str, Any] = {"folder": Path(folder)}
        for name, step in STEPS.items():
            begun, problem = time.perf_counter(), ""
            try:
                step(state)
            except Exception as error:
                problem = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]}"
            checks.append(Check(name, time.perf_counter() - begun, problem))
            if problem:
                break
    return checks


WEIGHTS = np.array([[1.0, -2.0, 0.5], [0.25, 0.5, -1.0]], dtype=np.float32)
"""The network: the mean of each colour, times these, is the logit of each of two classes."""


def _open(state: dict[str, Any]) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from faithface.card import InputCard, ModelCard, OutputCard
    from faithface.model import open_model

    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w"], ["scores"], transB=1),
    ]
    ports = [
        helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, SIZE, SIZE]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 2]),
    ]
    graph = helper.make_graph(nodes, "self-test", ports[:1], ports[1:], [numpy_helper.from_array(WEIGHTS, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 7
    onnx.save(model, state["folder"] / "net.onnx")
    card = ModelCard(
        name="self-test",
        task="pad",
        file="net.onnx",
        root=state["folder"],
        input=InputCard(size=(SIZE, SIZE), mean=(0.0,), std=(1.0,)),
        output=OutputCard(kind="logits", classes=("bona-fide", "attack"), positive="attack"),
    )
    state["model"] = open_model(card)


def _forward(state: dict[str, Any]) -> None:
    import torch

    state["images"] = torch.from_numpy(np.random.default_rng(0).random((3, 3, SIZE, SIZE), dtype=np.float32))
    expected = state["images"].numpy().mean(axis=(2, 3)) @ WEIGHTS.T
    np.testing.assert_allclose(state["model"].outputs(state["images"]).numpy(), expected, rtol=1e-4, atol=1e-5)


def _gradient(state: dict[str, Any]) -> None:
    import torch

    from faithface.tasks import ClassTarget

    classes = torch.tensor([0, 1, 1])
    found = state["model"].gradient(state["images"], ClassTarget(classes)).numpy()
    expected = WEIGHTS[classes.numpy()][:, :, None, None] / SIZE**2
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), rtol=1e-4, atol=1e-8)


def _score(state: dict[str, Any]) -> None:
    """Deletion of a white image to black, by its parts: the curve of a linear network is a straight line."""
    from faithface.contract import Face, Maps, Sample
    from faithface.loading import load_samples

    white = np.ones((SIZE, SIZE, 3), dtype=np.float32)
    samples = load_samples(state["model"], [Sample("white", Face("white", lambda: white), "attack")])
    metric = load_registry().metric("deletion@1(fill=black,grid=4,points=5)").object
    import torch

    ramp = torch.linspace(1, 0, SIZE).expand(1, SIZE, SIZE).contiguous()
    curves = metric.score(state["model"], samples, Maps(relevance=ramp)).curves
    logits = WEIGHTS.sum(axis=1)
    mine = np.linspace(1, 0, 5)[:, None] * logits
    odds = np.exp(mine - mine.max(axis=1, keepdims=True))
    expected = (odds / odds.sum(axis=1, keepdims=True))[:, int(np.argmax(logits))]
    found = next(iter(curves.values()))[0]
    np.testing.assert_allclose(found, expected, atol=1e-4)


STEPS: dict[str, Callable[[dict[str, Any]], None]] = {
    "open a network": _open,
    "forward, by ONNX Runtime": _forward,
    "gradient, by the torch twin": _gradient,
    "score a map by deletion": _score,
}
