"""How fast FGGB is beside 512 separate backward passes, on a network of MobileFaceNet's size. Run on demand:

    python -m pytest tests/speed/test_fggb_speed.py --benchmark-only -s

Prints the median of the ratios of interleaved runs, and the peak of the process's memory. Times are processor times of
this process, so that other work on the machine disturbs them little; set OMP_NUM_THREADS=1 on a busy machine.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from faithface.card import InputCard, ModelCard, OutputCard
from faithface.contract import Face, Pair, Samples
from faithface.loading import load_samples
from faithface.model import OnnxModel, open_model
from faithface.model.twin import preprocess
from faithface_plugins.explainers.fggb import Fggb
from faithface_plugins.explainers.fggb_channels import channel_cotangents, channel_weights
from tests.support.networks import export, faces

DIM, SIZE, ROUNDS = 512, 112, 3


def block(inside: int, out: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True) -> nn.Sequential:
    padding = kernel // 2 if kernel < 7 else 0
    parts: list[nn.Module] = [
        nn.Conv2d(inside, out, kernel, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(out),
    ]
    return nn.Sequential(*parts, *([nn.PReLU(out)] if act else []))


class Bottleneck(nn.Module):
    def __init__(self, inside: int, out: int, stride: int, expand: int) -> None:
        super().__init__()
        wide = inside * expand
        self.body = nn.Sequential(
            block(inside, wide, 1), block(wide, wide, 3, stride, wide), block(wide, out, 1, act=False)
        )
        self.skip = stride == 1 and inside == out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.skip else self.body(x)


def mobile_face_net() -> nn.Sequential:
    """Return a network with MobileFaceNet's layers (1.2 million weights, random) and a 512-d embedding."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [block(3, 64, 3, 2), block(64, 64, 3, groups=64)]
    width = 64
    for expand, out, repeats, stride in ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1)):
        for i in range(repeats):
            layers.append(Bottleneck(width, out, stride if i == 0 else 1, expand))
            width = out
    layers += [block(128, 512, 1), block(512, 512, 7, groups=512, act=False), block(512, DIM, 1, act=False)]
    net = nn.Sequential(*layers, nn.Flatten()).train()
    with torch.no_grad():
        for _ in range(4):  # batch statistics, without which signals die out
            net(torch.rand(8, 3, SIZE, SIZE))
    return net.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def net() -> nn.Sequential:
    return mobile_face_net()


@pytest.fixture(scope="module")
def pair(net: nn.Sequential, tmp_path_factory: pytest.TempPathFactory) -> tuple[OnnxModel, Samples]:
    path = export(net, (3, SIZE, SIZE), tmp_path_factory.mktemp("speed") / "mobile-face-net.onnx")
    card = ModelCard(
        name="mobile-face-net",
        task="verification",
        file=path.name,
        root=path.parent,
        input=InputCard(size=(SIZE, SIZE), mean=(0.5,), std=(0.5,)),
        output=OutputCard(kind="embedding"),
    )
    model = open_model(card)
    a, b = faces(2, SIZE)
    face = [Face(f.id, f.read) for f in (a, b)]
    return model, load_samples(model, [Pair("a--b", face[0], face[1], same=True)], threshold=0.3)


def loop(network: Callable[[Tensor], Tensor], samples: Samples) -> Tensor:
    """FGGB by one backward pass per channel, on one kept graph per image: what the batches are compared with."""
    weights = channel_weights(samples.clean.outputs, 0.3)[0]
    maps = []
    for image in samples.images[0]:
        pixels = image[None].clone().requires_grad_(True)
        outputs = network(pixels)
        total = torch.zeros(SIZE, SIZE)
        for weight, vector in zip(weights, channel_cotangents(outputs[0].detach(), "normalised"), strict=True):
            (gradient,) = torch.autograd.grad(outputs, pixels, vector[None], retain_graph=True)
            reduced = gradient[0].abs().mean(dim=0)
            total += reduced * (weight / reduced.norm())
        maps.append(total)
    return torch.stack(maps)


@pytest.mark.benchmark(group="fggb on a MobileFaceNet, one pair")
def test_fggb_beside_the_loop_of_backward_passes(
    benchmark: Any, net: nn.Sequential, pair: tuple[OnnxModel, Samples], tmp_path: Path
) -> None:
    model, samples = pair
    fggb = Fggb(smoothing=0)
    runs: dict[str, Callable[[], Any]] = {
        "batched": lambda: fggb.explain(model, samples),
        "loop on the same twin": lambda: loop(model.twin, samples),
        "loop on the torch network": lambda: loop(lambda x: net(preprocess(x, model.card.input)), samples),
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    results: dict[str, Any] = {}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            start = time.process_time()
            results[name] = run()
            times[name].append(time.process_time() - start)
    signed = results["batched"].similarity[0] - results["batched"].dissimilarity[0]
    expected = results["loop on the same twin"]
    # Another batch size rounds differently, and a unit that changes sides of its kink changes the gradient a little.
    assert float((signed - expected).abs().max()) <= 1e-2 * float(expected.abs().max())
    benchmark.pedantic(runs["batched"], rounds=1, iterations=1)
    print()
    for name, taken in times.items():
        ratio = statistics.median(np.divide(taken, times["batched"]))
        print(f"{name:28s} {statistics.median(taken):7.2f} s per pair, {ratio:.2f} × the time of the batched one")
    print(f"peak memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")
