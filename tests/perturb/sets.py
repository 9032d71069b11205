"""A dataset in memory, built from the synthetic faces of ``tests.support.networks``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from faithface.card import InputCard, ModelCard, OutputCard
from faithface.contract import Dataset, Face, Pair, Sample, Samples
from faithface.loading import load_samples
from tests.support.networks import export, faces


@dataclass(frozen=True)
class InMemory(Dataset):
    """A dataset whose samples are given."""

    name = "in-memory"
    samples: tuple = ()
    is_aligned: bool = True

    @property
    def aligned(self) -> bool:
        return self.is_aligned

    def items(self) -> Sequence:
        return self.samples


def class_set(n: int = 6, size: int = 32, classes: tuple[str, ...] = ("bona-fide", "attack")) -> InMemory:
    made = faces(n, size)
    labels = [classes[i % len(classes)] for i in range(n)]
    return InMemory(tuple(Sample(f"{label}--{f.id}", f, label) for label, f in zip(labels, made, strict=True)))


def pair_set(n: int = 6, size: int = 32) -> InMemory:
    """n pairs, alternately genuine (one face dimmed) and impostor."""
    made = faces(2 * n, size, seed=5)
    pairs = []
    for i in range(n):
        a, b = made[2 * i], made[2 * i + 1]
        if i % 2 == 0:
            b = Face(f"{a.id}-dim", lambda a=a: a.read() * np.float32(0.7), a.identity)
        else:
            b = Face(b.id, b.read, f"other-{b.identity}")
        pairs.append(Pair(f"{a.id}--{b.id}", a, b, same=i % 2 == 0))
    return InMemory(tuple(pairs))


def load(model, dataset: InMemory, which: Sequence[int] | None = None, threshold: float | None = None) -> Samples:
    items = dataset.items() if which is None else [dataset.items()[i] for i in which]
    return load_samples(model, items, seed=3, threshold=threshold, dataset=dataset)


class ChannelsLast(nn.Module):
    """A network that wants N×H×W×C, as exports from TensorFlow do."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x.permute(0, 3, 1, 2))


def channels_last_card(folder, size: int = 16) -> ModelCard:
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(6 * (size // 2) ** 2, 2))
    path = folder / "nhwc.onnx"
    export(ChannelsLast(inner).eval(), (size, size, 3), path)
    return ModelCard(
        name="nhwc",
        task="pad",
        file=path.name,
        root=folder,
        input=InputCard(size=(size, size), color="BGR", layout="NHWC", mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7)),
        output=OutputCard(kind="logits", classes=("bona-fide", "attack"), positive="attack"),
    )
