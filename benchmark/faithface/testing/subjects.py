"""What plugins are tried on: tiny networks whose evidence is known by construction, images for them, and a double.

Place in the flow: used by the checks and by the fixtures of ``pytest_plugin``. May call ``card``, the contract,
``loading`` and ``model``; reads nothing that is not written here.

The networks are written weight by weight, so that nothing is trained and nothing is downloaded. Their first layer
answers to three colours (green, red, blue) that stand out from grey; the rest sums those answers up:

* a classifier says ``attack`` for green and ``bona-fide`` for red;
* a verifier has one dimension per colour, so that two faces are alike as far as they show the same colours.

The evidence of a decision is therefore where the coloured patches are, and nowhere else. Layers are symmetric, so that
no method has a reason to point beside them.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from faithface.card import InputCard, ModelCard, OutputCard
from faithface.contract import Dataset, Face, FaceModel, Pair, Sample, Samples
from faithface.errors import UsageError
from faithface.lazy import torch
from faithface.loading import load_samples
from faithface.model.torch_model import TorchModel
from faithface.tasks import Task

if TYPE_CHECKING:
    from torch import Tensor

SIZE = (32, 32)
COLOURS = {"green": (0.25, 0.8, 0.3), "red": (0.85, 0.3, 0.25), "blue": (0.25, 0.35, 0.85)}
CHANNELS = {"green": 1, "red": 0, "blue": 2}
CLASSES: dict[str, tuple[str, str]] = {
    "pad": ("bona-fide", "attack"),
    "synthetic-detection": ("real", "synthetic"),
}
GAIN, OFFSET = 6.0, 0.9
"""Of the colour filter: its answer to a pixel is GAIN · (colour − mean of the others) − OFFSET, where positive."""


@functools.cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="faithface-testing-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def tiny_card(task: Task = "pad", size: tuple[int, int] = SIZE) -> ModelCard:
    """Return the card of a tiny network for a task, written into a folder that goes with this process.

    Args:
        size: height and width; multiples of 2, at least 14.

    Raises:
        UsageError: another size.
    """
    if min(size) < 14 or size[0] % 2 or size[1] % 2:
        raise UsageError(f"size is {size}; expected even numbers of at least 14")
    path = _folder() / f"tiny-{task}-{size[0]}x{size[1]}.onnx"
    if not path.exists():
        _write_network(path, task, size)
    output = (
        OutputCard(kind="embedding", threshold=0.5)
        if task == "verification"
        else OutputCard(kind="logits", classes=CLASSES[task], positive=CLASSES[task][1])
    )
    return ModelCard(
        name=f"tiny-{task}",
        task=task,
        file=path.name,
        licence="CC0-1.0",
        source="written by faithface.testing",
        input=InputCard(size=size, mean=(0.5,), std=(0.5,)),
        output=output,
        root=path.parent,
    )


def weights(task: Task) -> dict[str, np.ndarray]:
    """Return the weights of a tiny network by name: ``colour``, ``pool`` (two convolutions) and ``head``.

    They are for pixels from −1 to 1, which is what the card's mean and standard deviation of 0.5 give.
    """
    colour = np.zeros((3, 3, 3, 3), np.float32)  # output channels green, red, blue; averaged over 3×3
    for row, name in enumerate(COLOURS):
        for channel in range(3):
            share = 1.0 if channel == CHANNELS[name] else -0.5
            colour[row, channel] = share * GAIN / 2 / 9  # a pixel in −1..1 is twice as far from grey as in 0..1
    pool = np.zeros((4, 3, 4, 4), np.float32)
    soft = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64
    for row in range(3):
        pool[row, row] = soft
    pool[3] = soft / 3
    if task == "verification":
        head = np.zeros((3, 4), np.float32)
        head[:, :3] = np.eye(3) * 20
        bias = np.full(3, -0.3, np.float32)  # embeddings have values of both signs
    else:
        head = np.array([[0, 16, 0, 0.5], [16, 0, 0, 0.5]], np.float32)
        bias = np.zeros(2, np.float32)
    return {
        "colour": colour,
        "colour_bias": np.full(3, -OFFSET, np.float32),
        "pool": pool,
        "pool_bias": np.zeros(4, np.float32),
        "head": head,
        "head_bias": bias,
    }


def _write_network(path: Path, task: Task, size: tuple[int, int]) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    made = weights(task)
    out = len(made["head"])
    nodes = [
        helper.make_node("Conv", ["image", "colour", "colour_bias"], ["c1"], pads=[1, 1, 1, 1], name="/colour/Conv"),
        helper.make_node("Relu", ["c1"], ["r1"], name="/colour/Relu"),
        helper.make_node(
            "Conv", ["r1", "pool", "pool_bias"], ["c2"], pads=[1, 1, 1, 1], strides=[2, 2], name="/pool/Conv"
        ),
        helper.make_node("Relu", ["c2"], ["r2"], name="/pool/Relu"),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"], name="/pool/Mean"),
        helper.make_node("Flatten", ["p"], ["f"], name="/pool/Flatten"),
        helper.make_node("Gemm", ["f", "head", "head_bias"], ["output"], transB=1, name="/head/Gemm"),
    ]
    graph = helper.make_graph(
        nodes,
        f"tiny-{task}",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, *size])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", out])],
        [numpy_helper.from_array(value, name) for name, value in made.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)


# --- images


def place(rng: np.random.Generator, count: int, size: tuple[int, int], side: int) -> list[tuple[int, int]]:
    """Return the corners of ``count`` squares that lie inside an image with a margin and do not touch."""
    margin = 3
    while True:
        corners = [
            (int(rng.integers(margin, size[0] - side - margin + 1)), int(rng.integers(margin, size[1] - side - margin
            + 1)))
            for _ in range(count)
        ]  # fmt: skip
        apart = [
            max(abs(a[0] - b[0]), abs(a[1] - b[1])) >= side + 2 for i, a in enumerate(corners) for b in corners[:i]
        ]
        if all(apart):
            return corners


@dataclass(frozen=True)
class Picture:
    """One image: grey with soft shades and an uncoloured chequered square, and coloured patches on it.

    Attributes:
        patches: colour, row, column and side of each.
    """

    seed: int
    size: tuple[int, int]
    patches: tuple[tuple[str, int, int, int], ...]
    distractor: tuple[int, int]

    def read(self) -> np.ndarray:
        """Return float32 H×W×3 in [0, 1]."""
        rng = np.random.default_rng(self.seed)
        height, width = self.size
        shade = rng.random((height // 4 + 1, width // 4 + 1)).astype(np.float32)
        soft = np.kron(shade, np.ones((4, 4), np.float32))[:height, :width]
        image = np.repeat((0.4 + 0.2 * soft)[..., None], 3, axis=2)
        y, x = self.distractor
        board = np.indices((4, 4)).sum(axis=0) % 2
        image[y : y + 4, x : x + 4] = (0.3 + 0.4 * board)[..., None]
        for colour, y, x, side in self.patches:
            shine = rng.uniform(0.9, 1.1, (side, side, 1)).astype(np.float32)
            image[y : y + side, x : x + side] = np.clip(np.array(COLOURS[colour], np.float32) * shine, 0, 1)
        return image.astype(np.float32)

    def mask(self, *colours: str) -> np.ndarray:
        """Return bool H×W: where patches of these colours are."""
        found = np.zeros(self.size, bool)
        for colour, y, x, side in self.patches:
            if colour in colours:
                found[y : y + side, x : x + side] = True
        return found


def picture(seed: int, size: tuple[int, int], wanted: Sequence[tuple[str, int]]) -> Picture:
    """Return an image with patches of these colours and sides."""
    rng = np.random.default_rng((seed, 7))
    side = max(s for _, s in wanted)
    corners = place(rng, len(wanted) + 1, size, side)
    patches = tuple((colour, *corner, s) for (colour, s), corner in zip(wanted, corners[1:], strict=True))
    return Picture(seed, size, patches, corners[0])


@dataclass(frozen=True)
class TinyDataset(Dataset):
    """Images or pairs for the tiny networks, with the evidence as ground truth.

    Parameters:
        n: how many; classes (genuine and impostor pairs) alternate.
        seed: of all draws.
    """

    task: Task = field(default="pad", metadata={"parameter": False})
    n: int = 8
    seed: int = 0
    size: tuple[int, int] = field(default=SIZE, metadata={"parameter": False})

    licence = "CC0-1.0"
    source = "drawn by faithface.testing"

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"tiny-{self.task}"

    @property
    def revision(self) -> str:  # type: ignore[override]
        return f"1-{self.n}-{self.seed}"

    @property
    def classes(self) -> tuple[str, ...]:  # type: ignore[override]
        return CLASSES.get(self.task, ())

    @property
    def positive(self) -> str:  # type: ignore[override]
        return CLASSES[self.task][1] if self.task in CLASSES else ""

    def truths(self) -> frozenset[str]:
        pairs = self.task == "verification"
        return frozenset({"similarity", "dissimilarity"} if pairs else {"relevance"})

    def items(self) -> Sequence[Sample] | Sequence[Pair]:
        if self.task == "verification":
            return [tiny_pair(i, self.seed, self.size) for i in range(self.n)]
        return [tiny_sample(i, self.task, self.seed, self.size) for i in range(self.n)]


def _face(picture: Picture, name: str, identity: str | None = None) -> Face:
    return Face(name, picture.read, identity, functools.partial(_digest, picture))


def _digest(*parts: object) -> str:
    import hashlib

    return hashlib.sha256(repr(parts).encode()).hexdigest()


def tiny_sample(index: int, task: Task, seed: int = 0, size: tuple[int, int] = SIZE) -> Sample:
    """Return an image with one coloured patch; odd ones are of the positive class (green), even ones red."""
    other, positive = CLASSES[task]
    label, colour = (positive, "green") if index % 2 else (other, "red")
    made = picture(1000 * seed + index, size, [(colour, 7)])
    return Sample(
        f"{label}--{seed}-{index:04d}",
        _face(made, f"image-{seed}-{index:04d}"),
        label,
        {"relevance": functools.partial(made.mask, colour)},
        truth_digest=functools.partial(_digest, made),
    )


def tiny_pair(index: int, seed: int = 0, size: tuple[int, int] = SIZE) -> Pair:
    """Return a pair of images with two patches each: one colour that both show, one that only one of them shows.

    The shared colour is the larger patch in genuine pairs (even ones), the smaller one in impostor pairs.
    """
    same = index % 2 == 0
    shared, own = (7, 4) if same else (3, 7)
    first = picture(2000 * (seed + 1) + 2 * index, size, [("green", shared), ("red", own)])
    second = picture(2000 * (seed + 1) + 2 * index + 1, size, [("green", shared), ("blue", own)])
    people = (f"person-{index}", f"person-{index}" if same else f"person-{index}-b")
    return Pair(
        f"pair-{seed}-{index:04d}",
        _face(first, f"a-{seed}-{index:04d}", people[0]),
        _face(second, f"b-{seed}-{index:04d}", people[1]),
        same,
        {
            "similarity": functools.partial(_masks, first, second, ("green",)),
            "dissimilarity": functools.partial(_masks, first, second, ("red", "blue")),
        },
        truth_digest=functools.partial(_digest, first, second),
    )


def _masks(first: Picture, second: Picture, colours: tuple[str, ...]) -> np.ndarray:
    return np.stack([first.mask(*colours), second.mask(*colours)])


def tiny_model(task: Task = "pad", size: tuple[int, int] = SIZE, device: str = "cpu") -> FaceModel:
    """Return a tiny network, opened as any other model: ONNX Runtime forward, a torch twin backward."""
    from faithface.model import open_model

    return open_model(tiny_card(task, size), device)


def tiny_samples(model: FaceModel, n: int = 4, seed: int = 0) -> Samples:
    """Return a loaded batch of n samples (pairs for a verifier); a tiny network decides all of them rightly."""
    data = TinyDataset(model.card.task, n, seed, model.size)
    return load_samples(model, data.items(), seed, None, data)


# --- a double


def tiny_double(task: Task = "pad", size: tuple[int, int] = SIZE) -> TorchModel:
    """Return the tiny network of a task as a torch module: the same numbers as :func:`tiny_model`, and no file."""
    from torch import nn

    made = {name: torch.from_numpy(value.copy()) for name, value in weights(task).items()}
    colour, pool = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 4, 4, stride=2, padding=1)
    head = nn.Linear(4, len(made["head"]))
    for module, name in ((colour, "colour"), (pool, "pool"), (head, "head")):
        module.weight = nn.Parameter(made[name])
        module.bias = nn.Parameter(made[f"{name}_bias"])

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.colour, self.pool, self.relu, self.head = colour, pool, nn.ReLU(), head

        def forward(self, images: Tensor) -> Tensor:
            x = self.relu(self.colour((images - 0.5) / 0.5))
            return self.head(self.relu(self.pool(x)).mean(dim=(2, 3)))  # type: ignore[no-any-return]

    return TorchModel(Whole(), tiny_card(task, size), pool)
