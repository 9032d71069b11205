"""Tiny torch networks, exported to ONNX with a card: what tests run on instead of real models.

Place in the flow: used by tests only. Each kind stands for a family of real models; weights are random but fixed by a
seed, so that a torch oracle on :func:`build` and faithface on the exported file see the same network.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from faithface.card import ExplainCard, InputCard, ModelCard, OutputCard
from faithface.contract import Face, FaceModel, Pair, Sample, Samples
from faithface.loading import load_samples

KINDS = ("cnn", "depthwise", "arcface", "vit", "fixed-batch", "grey", "linear", "one-unit")


class Cnn(nn.Module):
    """Three convolutions, global average pooling, one linear layer."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, 8, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(8, 12, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(12, 16, 3, 1, 1),
            nn.ReLU(),
        )
        self.head = nn.Linear(16, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean(dim=(2, 3)))


class Depthwise(nn.Module):
    """Depthwise-separable blocks with hard-swish and squeeze-and-excitation, as MobileNetV3."""

    def __init__(self, out: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.depth = nn.Conv2d(8, 8, 3, 2, 1, groups=8)
        self.point = nn.Conv2d(8, 16, 1)
        self.squeeze = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 4, 1), nn.ReLU(), nn.Conv2d(4, 16, 1), nn.Hardsigmoid()
        )
        self.act = nn.Hardswish()
        self.head = nn.Linear(16, out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.point(self.depth(self.act(self.stem(x)))))
        return self.head((x * self.squeeze(x)).mean(dim=(2, 3)))


class ArcFace(nn.Module):
    """PReLU, BatchNorm, a residual block, and a flattened linear embedding with BatchNorm, as IResNet."""

    def __init__(self, size: int, out: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.PReLU(8))
        self.block = nn.Sequential(
            nn.BatchNorm2d(8),
            nn.Conv2d(8, 8, 3, 1, 1, bias=False),
            nn.BatchNorm2d(8),
            nn.PReLU(8),
            nn.Conv2d(8, 8, 3, 1, 1),
            nn.BatchNorm2d(8),
        )
        self.down = nn.Conv2d(8, 8, 3, 2, 1)
        self.norm = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8 * (size // 4) ** 2, out)
        self.features = nn.BatchNorm1d(out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.norm(self.down(x + self.block(x)))
        return self.features(self.fc(x.flatten(1)))


class Vit(nn.Module):
    """Patch embedding, a class token, two pre-norm transformer blocks."""

    def __init__(self, size: int, out: int, dim: int = 16, patch: int = 4) -> None:
        super().__init__()
        tokens = (size // patch) ** 2
        self.patch = nn.Conv2d(3, dim, patch, patch)
        self.cls = nn.Parameter(torch.randn(1, 1, dim) * 0.5)
        self.pos = nn.Parameter(torch.randn(1, tokens + 1, dim) * 0.5)
        self.blocks = nn.ModuleList(VitBlock(dim) for _ in range(2))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], dim=1) + self.pos
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


class VitBlock(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        attention = (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(dim=-1)
        x = x + self.proj(attention @ v)
        return x + self.mlp(self.norm2(x))


class LinearModel(nn.Module):
    """outputs = W · pixels + b: the model whose deletion curve, gradient and oracle are known in closed form."""

    def __init__(self, size: int, out: int) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * size * size, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1))


def build(kind: str, out: int, size: int, seed: int = 0) -> nn.Module:
    """Return the torch network of a kind, in evaluation mode, with fixed random weights and batch statistics."""
    torch.manual_seed(seed)
    made: dict[str, Any] = {
        "cnn": lambda: Cnn(3, out),
        "depthwise": lambda: Depthwise(out),
        "arcface": lambda: ArcFace(size, out),
        "vit": lambda: Vit(size, out),
        "fixed-batch": lambda: Cnn(3, out),
        "grey": lambda: Cnn(1, out),
        "linear": lambda: LinearModel(size, out),
        "one-unit": lambda: Cnn(3, 1),
    }
    net = made[kind]()
    for module in net.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm1d)):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
        elif isinstance(module, nn.Conv2d):
            # Default initialisation shrinks signals so much that all outputs look alike.
            nn.init.kaiming_normal_(module.weight)
    return net.eval()


def export(net: nn.Module, shape: tuple[int, int, int], path: Path, dynamic: bool = True) -> Path:
    """Export a network to ``path`` with input "image" and output "output"."""
    example = torch.rand(2 if dynamic else 1, *shape)
    buffer = io.BytesIO()
    axes = {"image": {0: "batch"}, "output": {0: "batch"}} if dynamic else None
    torch.onnx.export(
        net,
        (example,),
        buffer,
        input_names=["image"],
        output_names=["output"],
        dynamic_axes=axes,
        dynamo=False,
        opset_version=17,
    )
    onnx.save(onnx.load_from_string(buffer.getvalue()), path)
    return path


def tiny(
    kind: str, task: str = "pad", folder: Path | str = ".", size: int = 32, dim: int = 16, seed: int = 0, **card: Any
) -> ModelCard:
    """Export a tiny network of a kind and return its card.

    Args:
        kind: one of :data:`KINDS`.
        task: ``verification`` (an embedding of ``dim``), ``pad`` or ``synthetic-detection`` (two classes).
        folder: where the file goes.
        size: height = width of the input.
        card: further fields of the card, such as ``name``, ``family``, ``run``.
    """
    if kind == "one-unit" and task == "verification":
        raise ValueError("one-unit is a classifier")
    path = Path(folder) / f"{kind}-{task}-{size}-{dim}-{seed}.onnx"
    out = dim if task == "verification" else 2
    channels = 1 if kind == "grey" else 3
    if not path.exists():
        export(build(kind, out, size, seed), (channels, size, size), path, dynamic=kind != "fixed-batch")
    input_card = InputCard(size=(size, size), color="GRAY" if kind == "grey" else "RGB", mean=(0.5,), std=(0.5,))
    classes = ("bona-fide", "attack") if task == "pad" else ("real", "synthetic")
    output = (
        OutputCard(kind="embedding")
        if task == "verification"
        else OutputCard(kind="logit" if kind == "one-unit" else "logits", classes=classes, positive=classes[1])
    )
    fields = {"name": f"tiny-{kind}-{seed}", "task": task, "file": path.name, "root": path.parent, **card}
    return ModelCard(input=input_card, output=output, explain=ExplainCard(), **fields)


def faces(n: int, size: int, seed: int = 0) -> list[Face]:
    """Return n smooth random images (sums of coloured blobs), so that masking them changes a network's output."""
    made = []
    yy, xx = np.mgrid[0:size, 0:size].astype(np.float32) / size
    for i in range(n):
        rng = np.random.default_rng((seed, i))
        image = np.full((size, size, 3), rng.random(3), dtype=np.float32)
        for _ in range(6):
            cy, cx, s = rng.random(), rng.random(), 0.05 + 0.2 * rng.random()
            blob = np.exp(-((yy - cy) ** 2 + (xx - cx) ** 2) / (2 * s * s))[..., None]
            image = image * (1 - blob) + blob * rng.random(3)
        pixels = image.astype(np.float32)
        made.append(Face(f"face{i}", lambda pixels=pixels: pixels.copy(), identity=f"id{i // 2}"))
    return made


def sample_batch(model: FaceModel, n: int = 4, seed: int = 0) -> Samples:
    """Return a loaded batch of n synthetic samples, alternating between the two classes."""
    classes = model.card.output.classes
    items = [
        Sample(f"{classes[i % 2]}--{face.id}", face, classes[i % 2])
        for i, face in enumerate(faces(n, model.size[0], seed))
    ]
    return load_samples(model, items, seed=seed)


def pair_batch(model: FaceModel, n: int = 4, seed: int = 0, threshold: float = 0.5) -> Samples:
    """Return a loaded batch of n synthetic pairs, alternately genuine (the same blobs, dimmed) and impostor."""
    made = faces(2 * n, model.size[0], seed)
    items = []
    for i in range(n):
        a, b = made[2 * i], made[2 * i + 1]
        if i % 2 == 0:
            b = Face(f"{a.id}-dim", lambda a=a: (a.read() * 0.8).astype(np.float32), a.identity)
        else:
            b = Face(b.id, b.read, f"other-{b.identity}")
        items.append(Pair(f"{a.id}--{b.id}", a, b, same=i % 2 == 0))
    return load_samples(model, items, seed=seed, threshold=threshold)
