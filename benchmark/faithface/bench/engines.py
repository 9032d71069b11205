"""The engine that the autotuner chooses beside ONNX Runtime alone, on six networks: ``bench``'s table of engines.

Place in the flow: called by ``suite``; builds what the registry does not have. The networks: the zoo's classifier, its
depthwise and its residual verifier, ``resnet29``, ResNet-18 size, and a MobileFaceNet of 256 numbers with random
weights.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import geometric_mean
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor, nn

from faithface.bench.subjects import ResNet18, export, with_random_weights
from faithface.bench.timing import paired
from faithface.bench.work import bare_run
from faithface.card import ModelCard
from faithface.contract.running import ONNX_RUNTIME
from faithface.model import open_model
from faithface.model.openvino import openvino_version
from faithface.plugins import load_registry

REGISTERED = ("planted-pad-traditional-0", "planted-mobile-0", "planted-residual-0", "resnet29")
DEPTHWISE = "planted-mobile-0"
PASSES = 256


class _Bottleneck(nn.Module):
    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.layers = nn.Sequential(
            *_unit(inputs, width, 1), *_unit(width, width, 3, stride, width), *_unit(width, outputs, 1)[:2]
        )
        self.same = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return x + out if self.same else out


def _unit(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, 0 if kernel == 7 else kernel // 2, 1, groups, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.PReLU(outputs)]


class MobileFaceNet(nn.Module):
    """MobileFaceNet (Chen et al. 2018, Table 1) for 112×112, with an embedding of ``outputs`` numbers."""

    STAGES = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))

    def __init__(self, outputs: int = 256) -> None:
        super().__init__()
        layers = [*_unit(3, 64, 3, 2), *_unit(64, 64, 3, 1, 64)]
        width = 64
        for expansion, channels, repeats, stride in self.STAGES:
            for i in range(repeats):
                layers.append(_Bottleneck(width, channels, expansion, stride if i == 0 else 1))
                width = channels
        layers += [*_unit(width, 512, 1), *_unit(512, 512, 7, groups=512)[:2], *_unit(512, outputs, 1)[:2]]
        self.layers = nn.Sequential(*layers, nn.Flatten())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


def compare_engines(repeats: int, passes: int = PASSES) -> dict[str, Any]:
    """Return a row per network: time by ONNX Runtime's best policy / time by the autotuned policy.

    The choice is measured here, not taken from the user's cache.
    """
    if openvino_version() is None:
        return {"skipped": "OpenVINO is not installed: pip install 'faithface[openvino]'"}
    rows = []
    with TemporaryDirectory(prefix="faithface-bench-") as folder:
        for card in _cards(Path(folder)):
            with _environment(FAITHFACE_CACHE=f"{folder}/cache", FAITHFACE_ENGINE=ONNX_RUNTIME):
                alone = open_model(card)
                before = alone.batching
            with _environment(FAITHFACE_CACHE=f"{folder}/cache", FAITHFACE_ENGINE="auto"):
                tuned = open_model(card)
                after = tuned.batching
            row = {"network": card.name, "engine": after.engine}
            for key, policy in (("onnxruntime", before), ("autotuned", after)):
                row[key] = f"{policy.workers} × {policy.batch}"
            found = paired(bare_run(alone, passes, before.batch), bare_run(tuned, passes, after.batch), repeats)
            rows.append(row | found.as_dict())
    ratios = {row["network"]: float(row["ratio"]) for row in rows}
    return {
        "networks": rows,
        "mean": round(geometric_mean(ratios.values()), 4),
        "worst": min(ratios.values()),
        "depthwise": ratios.get(DEPTHWISE),
    }


def _cards(folder: Path) -> Iterator[ModelCard]:
    models = load_registry().models
    yield from (models[name].object for name in REGISTERED if name in models)
    for name, network, embedding in (("resnet18-random", ResNet18(), False), ("mobilefacenet", MobileFaceNet(), True)):
        yield export(with_random_weights(network), name, folder, embedding)


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
