"""The training loops: one for embeddings, one for classifiers, both one-cycle AdamW on one CPU thread.

Place in the flow: called by ``train_zoo.py``; calls ``networks.py`` and ``losses.py``. Nothing here touches a file.

Everything random comes from the recipe's run number. The same processor gives the same weights; another one may round
differently, so the committed files, not a re-training, are what records refer to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from training.exact_networks import EXACT
from training.losses import ArcFaceHead, cyborg
from training.networks import MEAN, NETWORKS, STD, CueNet
from training.recipes import Recipe

MARGIN = 0.3

Report = Callable[[str], None]


def normalised(levels: np.ndarray) -> Tensor:
    """Turn uint8 N×H×W×3 into the network's input, float32 N×3×H×W (channels last in memory)."""
    pixels = torch.from_numpy(np.ascontiguousarray(levels)).permute(0, 3, 1, 2).to(torch.float32)
    return pixels.mul_(1 / (255 * STD)).sub_(MEAN / STD)


def one_cycle(step: int, steps: int, peak: float) -> float:
    """Return the learning rate: linear warm-up over the first 15 %, then a cosine down to 0."""
    warm = max(1, int(0.15 * steps))
    if step < warm:
        return peak * (step + 1) / warm
    return 0.5 * peak * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _jittered(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Change brightness and contrast per image and shift the whole batch by up to two pixels."""
    count = len(images)
    gain = torch.from_numpy(rng.uniform(0.85, 1.15, (count, 1, 1, 1)).astype(np.float32))
    bias = torch.from_numpy(rng.uniform(-0.15, 0.15, (count, 1, 1, 1)).astype(np.float32))
    dy, dx = (int(v) for v in rng.integers(-2, 3, 2))
    return torch.roll(images * gain + bias, (dy, dx), (2, 3))


def _batches(count: int, size: int, epochs: int, rng: np.random.Generator) -> Iterator[tuple[int, np.ndarray]]:
    step = 0
    for _ in range(epochs):
        order = rng.permutation(count)
        for start in range(0, count - count % size or count, size):
            # Sorted, because rows of a memory map are read fastest in order; the draw stays random.
            yield step, np.sort(order[start : start + size])
            step += 1


def _fit(
    recipe: Recipe,
    modules: list[nn.Module],
    count: int,
    loss_of: Callable[[np.ndarray, np.random.Generator, float], Tensor],
    report: Report,
) -> None:
    """Run the recipe's epochs; ``loss_of(rows, rng, progress)`` gives the loss of a batch."""
    size = min(recipe.batch, count)
    steps = recipe.epochs * max(1, count // size)
    parameters = [p for m in modules for p in m.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=recipe.rate, weight_decay=0.02)
    rng = np.random.default_rng([recipe.run, 20_26])
    recent: list[float] = []
    for step, rows in _batches(count, size, recipe.epochs, rng):
        for group in optimiser.param_groups:
            group["lr"] = one_cycle(step, steps, recipe.rate)
        loss = loss_of(rows, rng, step / steps)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimiser.step()
        recent.append(loss.item())
        if (step + 1) % 100 == 0 or step + 1 == steps:
            report(f"{recipe.name}: step {step + 1}/{steps}, loss {np.mean(recent[-100:]):.4f}")


def _network(recipe: Recipe) -> nn.Module:
    torch.manual_seed(1000 + recipe.run)
    builders: dict[str, Callable[[], nn.Module]] = {**NETWORKS, **EXACT}
    network = builders[recipe.network]()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.train()


def _first(outputs: Tensor | tuple[Tensor, ...]) -> Tensor:
    """Return the output that a loss is taken of; a mechanism-exact network returns its contributions second."""
    return outputs[0] if isinstance(outputs, tuple) else outputs


def written(recipe: Recipe) -> nn.Module:
    """Return a network whose weights are written and not trained (a recipe of no epochs)."""
    return _network(recipe)


def train_verifier(recipe: Recipe, images: np.ndarray, labels: np.ndarray, report: Report = print) -> nn.Module:
    """Train an embedding with ArcFace; the margin rises from 0 to ``MARGIN`` over the first half.

    Args:
        images: uint8 N×112×112×3.
        labels: int64 N, identities 0 … C−1.
    """
    network = _network(recipe)
    head = ArcFaceHead(int(network.dimensions), int(labels.max()) + 1)  # type: ignore[arg-type]

    def loss_of(rows: np.ndarray, rng: np.random.Generator, progress: float) -> Tensor:
        batch = _jittered(normalised(images[rows]), rng)
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.half):
            embeddings = _first(network(batch))
        return head(embeddings.float(), torch.from_numpy(labels[rows]), MARGIN * min(1.0, 2 * progress))  # type: ignore[no-any-return]

    _fit(recipe, [network, head], len(images), loss_of, report)
    return network


def train_classifier(
    recipe: Recipe, images: np.ndarray, labels: np.ndarray, human: np.ndarray, report: Report = print
) -> nn.Module:
    """Train a classifier by cross-entropy, or by CYBORG's loss where the recipe has a guidance weight.

    Args:
        images: uint8 N×112×112×3.
        labels: int64 N, 0 or 1.
        human: float N×14×14 in [0, 1], the annotator's salience; all zero where there is none.
    """
    network = _network(recipe)
    if recipe.guidance and not isinstance(network, CueNet):
        raise ValueError(f"{recipe.name}: guidance is {recipe.guidance}, but only a CueNet has a map to guide")

    def loss_of(rows: np.ndarray, rng: np.random.Generator, progress: float) -> Tensor:
        batch = _jittered(normalised(images[rows]), rng)
        target = torch.from_numpy(labels[rows])
        salience = torch.from_numpy(human[rows].astype(np.float32))
        if rng.random() < 0.5:
            batch, salience = batch.flip(3), salience.flip(2)
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.half):
            logits, cams = network.with_cam(batch) if isinstance(network, CueNet) else (_first(network(batch)), None)
        if recipe.guidance and cams is not None:
            return cyborg(logits.float(), cams.float(), salience, target, recipe.guidance)
        return nn.functional.cross_entropy(logits.float(), target)

    _fit(recipe, [network], len(images), loss_of, report)
    return network
