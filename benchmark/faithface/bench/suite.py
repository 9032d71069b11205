"""Everything that ``faithface bench`` measures, in order.

Place in the flow: called by the command line, which passes the plain data to ``report``; calls ``efficiency``,
``engines``, ``explainers``, ``gpu`` and ``memory``.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from faithface.bench.efficiency import measure_subject
from faithface.bench.engines import compare_engines
from faithface.bench.explainers import against_captum, against_gradcam, maps_per_second
from faithface.bench.gpu import changed_shapes, vjp_against_loop
from faithface.bench.memory import growth
from faithface.bench.subjects import subjects
from faithface.model.target import execution_target
from faithface.threads import thread_count

IMAGES = {"small": (16, 32), "middle": (1, 4), "ResNet-18 size": (1, 4)}  # quick, whole
MORE = {"cpu": 1, "cuda": 32}  # times as many images: a device finishes a few before Python has started
REPEATS = (2, 4)
PACKAGES = (
    "faithface",
    "torch",
    "onnxruntime-gpu",
    "onnxruntime",
    "openvino",
    "numpy",
    "quantus",
    "torchcam",
    "grad-cam",
    "captum",
)


def run_bench(
    quick: bool = False,
    device: str = "cpu",
    batch_size: int | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Measure everything and return plain data (see ``docs/explanation/performance.md`` for how to read it).

    Args:
        quick: fewer images and repeats, under three minutes on two cores; else under ten.
        device: an execution target's name.
        batch_size: of the engine; None: measured per network.
        say: called with one line before each step.

    Raises:
        UsageError: the device is not available.
    """
    begun = time.perf_counter()
    on = execution_target(device).torch
    repeats = REPEATS[not quick]
    engine: list[dict[str, Any]] = []
    result: dict[str, Any] = {"quick": quick, "device": device, "machine": machine(device), "engine": engine}
    with subjects(device, batch_size) as (found, notes):
        for subject in found:
            say(f"{subject.role}: bare network, curve metrics, other libraries")
            engine.append(measure_subject(subject, IMAGES[subject.role][not quick] * MORE[on], repeats, not quick))
        largest, small = found[-1], found[0]
        say("gradient CAMs beside pytorch-grad-cam, attributions beside captum")
        result["gradcam"] = against_gradcam(largest, 8, repeats, singly=not quick)
        result["captum"] = against_captum(largest, 2 if quick else 4, 1 if quick else 2)
        if on == "cpu":
            say("the autotuned engine beside ONNX Runtime alone")
            result["engines"] = compare_engines(3 * repeats)
        say("maps per second of every explainer")
        result["explainers"] = maps_per_second(small, 2 if quick else 4)
        if on == "cuda":
            say("vector-Jacobian products beside a loop of backward passes")
            result["vjp"] = vjp_against_loop(device)
            result["changed_shapes"] = changed_shapes(largest.model)
        result["notes"] = notes
    say("memory and time against the number of samples")
    result["growth"] = growth([100, 200, 400, 1000])
    result["bars"] = bars(result)
    result["seconds"] = round(time.perf_counter() - begun, 1)
    return result


def machine(device: str) -> dict[str, Any]:
    """Return what the figures depend on: processor, threads, device, versions."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    name = (
        torch.cuda.get_device_name(0)
        if execution_target(device).torch == "cuda"
        else platform.processor() or platform.machine()
    )
    return {"device": name, "threads": thread_count(), "python": platform.python_version(), "versions": versions}


def bars(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Compare the figures with what the project promises; a figure that was not measured has value None."""
    rows = {row["role"]: row for row in result["engine"]}
    peaks = {row["samples"]: row.get("peak_mib") for row in result["growth"]}
    large, small = rows.get("ResNet-18 size", {}), rows.get("small", {})
    wanted = 0.90 if execution_target(result["device"]).torch == "cuda" else 0.95
    engines = result.get("engines", {})
    own = [row["efficiency"] for row in result["explainers"] if "efficiency" in row]
    checks: list[tuple[str, float | None, float, str]] = [
        ("efficiency, ResNet-18 size", _ratio(large, "efficiency"), wanted, ">="),
        ("efficiency, small", _ratio(small, "efficiency"), 0.85, ">="),
        ("efficiency of explainers that only go forward, the lowest", min(own, default=None), 0.85, ">="),
        ("autotuned engine against ONNX Runtime, depthwise verifier", engines.get("depthwise"), 2.2, ">="),
        ("autotuned engine against ONNX Runtime, geometric mean", engines.get("mean"), 1.25, ">="),
        ("autotuned engine against ONNX Runtime, the lowest", engines.get("worst"), 0.98, ">="),
        ("against Quantus PixelFlipping, ResNet-18 size", _ratio(large, "quantus"), 1.5, ">="),
        ("against Quantus PixelFlipping, small", _ratio(small, "quantus"), 2.4, ">="),
        ("against torch-cam DeletionInsertionMetric, ResNet-18 size", _ratio(large, "torchcam"), 1.4, ">="),
        ("against torch-cam DeletionInsertionMetric, small", _ratio(small, "torchcam"), 1.8, ">="),
        ("six gradient CAMs against pytorch-grad-cam", _ratio(result["gradcam"], "six"), 5, ">="),
    ]
    if peaks.get(100) and peaks.get(1000):
        checks.append(("peak memory, 1000 samples against 100", peaks[1000] / peaks[100], 1.05, "<="))
    if "vjp" in result:
        checks.append(("512 vector-Jacobian products against a loop", result["vjp"]["ratio"], 10, ">="))
    return [
        {
            "figure": text,
            "value": None if value is None else round(value, 3),
            "bar": f"{sign} {bar}",
            "holds": None if value is None else bool(value >= bar if sign == ">=" else value <= bar),
        }
        for text, value, bar, sign in checks
    ]


def _ratio(row: dict[str, Any], key: str) -> float | None:
    found = row.get(key, {}).get("ratio")
    return None if found is None else float(found)
