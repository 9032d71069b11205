"""The networks that are timed: small, middle, ResNet-18 size.

Place in the flow: used by ``bench`` only; asks the plugin registry for real networks, builds the others.

* small: the first classifier of the zoo; without one, a stand-in of its size with random weights;
* middle: ``resnet29``, where that plugin is installed;
* ResNet-18 size: He et al.'s 18-layer network at 112×112 with random weights, built here. Weights do not matter for
speed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor, nn

from faithface.card import InputCard, ModelCard, OutputCard
from faithface.contract import Face, Pair, Sample, Samples
from faithface.loading import load_samples
from faithface.model import OnnxModel, open_model
from faithface.plugins import load_registry

SIZE = 112


class Block(nn.Module):
    """Two 3×3 convolutions with batch norm beside an identity or a 1×1 projection."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
        )
        self.second = nn.Sequential(nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs))
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.skip = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.relu(self.second(self.first(x)) + self.skip(x))
        return out


class ResNet18(nn.Module):
    """The 18-layer residual network: stem, four stages of two blocks, average pooling, a linear head."""

    def __init__(self, outputs: int = 2, widths: tuple[int, ...] = (64, 128, 256, 512)) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, widths[0], 7, 2, 3, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        )
        stages, before = [], widths[0]
        for i, width in enumerate(widths):
            stages.append(nn.Sequential(Block(before, width, 1 if i == 0 else 2), Block(width, width, 1)))
            before = width
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(before, outputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.stages(self.stem(x)).mean(dim=(2, 3)))
        return out


class Small(nn.Module):
    """A stand-in for the zoo's classifier, of the same cost: plain convolutions down to 14×14."""

    def __init__(self, outputs: int = 2) -> None:
        super().__init__()
        shapes = [(3, 16, 3, 2), (16, 24, 3, 2), (24, 32, 3, 1), (32, 48, 3, 2), (48, 48, 3, 1), (48, 64, 1, 1)]
        self.features = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(a, b, k, s, k // 2, bias=False), nn.BatchNorm2d(b), nn.ReLU())
                for a, b, k, s in shapes
            )
        )
        self.head = nn.Linear(64, outputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.features(x).mean(dim=(2, 3)))
        return out


@dataclass(frozen=True)
class Subject:
    """One network to time.

    Attributes:
        role: ``small``, ``middle`` or ``ResNet-18 size``.
        model: opened on the device.
        network: the same network in torch, fed with normalised images, for other libraries; None where there is none.
        layer: the torch module whose output CAMs use; None where only faithface's automatic choice is known.
    """

    role: str
    model: OnnxModel
    network: nn.Module | None
    layer: nn.Module | None

    @property
    def name(self) -> str:
        return self.model.card.name


def with_random_weights(network: nn.Module) -> nn.Module:
    """Give a network fixed random weights and batch statistics, in evaluation mode."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    return network.eval()


def export(network: nn.Module, name: str, folder: Path, embedding: bool = False) -> ModelCard:
    """Write a network to ``folder`` with a dynamic batch and return its card."""
    path = folder / f"{name}.onnx"
    torch.onnx.export(
        network,
        (torch.zeros(2, 3, SIZE, SIZE),),
        path,
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("n")},),
        external_data=False,
        verbose=False,
    )
    return card_for(path, embedding)


def card_for(path: Path, embedding: bool = False) -> ModelCard:
    """Return the card of a network that :func:`export` wrote."""
    output = OutputCard(kind="embedding", threshold=0.5) if embedding else OutputCard(kind="logits", classes=("a", "b"))
    return ModelCard(
        name=path.stem,
        task="verification" if embedding else "pad",
        file=path.name,
        root=path.parent,
        input=InputCard(size=(SIZE, SIZE), mean=(0.5,), std=(0.5,)),
        output=output,
    )


@contextmanager
def subjects(device: str = "cpu", batch_size: int | None = None) -> Iterator[tuple[list[Subject], list[str]]]:
    """Open the networks; yield them and one note per network that is missing."""
    notes: list[str] = []
    with TemporaryDirectory(prefix="faithface-bench-") as folder:
        found = [_small(Path(folder), device, batch_size, notes)]
        registry = load_registry()
        if "resnet29" in registry.models:
            model = open_model(registry.model("resnet29").object, device, batch_size)
            found.append(Subject("middle", model, None, None))
        else:
            notes.append("middle: skipped, the plugin faithface-resnet29 is not installed")
        network = ResNet18()
        with_random_weights(network)
        model = open_model(export(network, "resnet18-random", Path(folder)), device, batch_size)
        # Stage 3 is the last one with at least 7×7 places at this size: faithface's own choice of a layer.
        found.append(Subject("ResNet-18 size", model, network.to(device), network.stages[2]))
        yield found, notes


def _small(folder: Path, device: str, batch_size: int | None, notes: list[str]) -> Subject:
    registry = load_registry()
    cards = [r.object for r in registry.models.values() if r.object.task != "verification"]
    if cards:
        model = open_model(cards[0], device, batch_size)
        return Subject("small", model, model.twin.network, None)
    notes.append("small: no classifier of the zoo is installed; a stand-in of its size with random weights is timed")
    network = Small()
    with_random_weights(network)
    model = open_model(export(network, "small-random", folder), device, batch_size)
    return Subject("small", model, network.to(device), network.features)


def random_samples(model: OnnxModel, n: int, start: int = 0) -> Samples:
    """Return n loaded samples (or pairs) of smooth random images; image i is the same in every call."""

    def face(number: int) -> Face:
        def read() -> np.ndarray:
            coarse = np.random.default_rng(number).random((1, 3, 8, 8), dtype=np.float32)
            fine = torch.nn.functional.interpolate(torch.from_numpy(coarse), size=model.size, mode="bilinear")
            return fine[0].permute(1, 2, 0).contiguous().numpy()

        return Face(f"f{number}", read)

    numbers = range(start, start + n)
    if model.card.task == "verification":
        pairs = [Pair(f"p{i}", face(2 * i), face(2 * i + 1), same=True) for i in numbers]
        return load_samples(model, pairs, threshold=0.5)
    return load_samples(model, [Sample(f"s{i}", face(i)) for i in numbers])


def fresh(samples: Samples) -> Samples:
    """Return the same batch with an empty cache, so that fills are made and scored again."""
    return Samples(samples.items, samples.images, samples.clean, samples.seed, samples.dataset)


def random_maps(samples: Samples) -> Tensor:
    """Return smooth random maps without ties: float32 N×H×W."""
    generator = torch.Generator().manual_seed(0)
    height, width = samples.images.shape[-2:]
    coarse = torch.rand((len(samples), 1, 14, 14), generator=generator)
    fine = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")[:, 0]
    return (fine + 1e-4 * torch.rand(fine.shape, generator=generator)).to(samples.images.device)
