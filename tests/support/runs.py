"""Small runs for tests: a card and images on disk, explainers and metrics that behave or misbehave in known ways.

Place in the flow: used by tests only.
"""

from __future__ import annotations

import dataclasses
import inspect
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from faithface.contract import Explainer, FaceModel, Maps, Method, Metric, Protocol, Samples, Scores, Value
from faithface.plugins import Provenance, Registered, Registry
from faithface.run.driver import Silent
from faithface.run.forecast import Work
from faithface.run.results import CellShard, Measured, Progress
from tests.support.networks import build, export, faces, tiny

SIZE = 32


def write_card(folder: Path, task: str = "pad", seed: int = 0, **fields: Any) -> Path:
    """Export a tiny network and write its card as TOML; return the card's path."""
    card = tiny("cnn", task, folder, SIZE, seed=seed)
    name = fields.pop("name", f"tiny-{task}-{seed}")
    lines = ["[model]", f'name = "{name}"', f'task = "{task}"', f'file = "{card.file}"']
    lines += [f"{key} = {value!r}".replace("'", '"') for key, value in fields.items()]
    lines += ["[input]", f"size = [{SIZE}, {SIZE}]", "mean = [0.5]", "std = [0.5]", "[output]"]
    lines += [f'kind = "{card.output.kind}"']
    if task != "verification":
        classes = ", ".join(f'"{c}"' for c in card.output.classes)
        lines += [f"classes = [{classes}]", f'positive = "{card.output.positive}"']
    path = folder / f"{name}.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def write_images(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """Write synthetic images as PNG and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for i, face in enumerate(faces(count, SIZE, seed)):
        paths.append(folder / f"im{i:02d}.png")
        Image.fromarray(np.rint(face.read() * 255).astype(np.uint8)).save(paths[-1])
    return paths


def write_constant(folder: Path, task: str = "pad") -> Path:
    """As :func:`write_card`, of a network that gives every image the same output."""
    card = write_card(folder, task)
    net = build("cnn", 16 if task == "verification" else 2, SIZE)
    torch.nn.init.zeros_(net.head.weight)
    torch.nn.init.ones_(net.head.bias)
    (path,) = folder.glob("*.onnx")
    export(net, (3, SIZE, SIZE), path)
    return card


def write_folder(root: Path, count: int = 20) -> Path:
    """Write a two-class folder of ``count`` images, alternating between the classes."""
    for i, path in enumerate(write_images(root / "all", count)):
        target = root / "classes" / ("bona-fide" if i % 2 == 0 else "attack") / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    return root / "classes"


def write_pairs(root: Path, people: int = 5, each: int = 2) -> str:
    """Write images of some people (one person: the same blobs, dimmed) and all their pairs; return the spec."""
    crops = root / "crops"
    crops.mkdir(parents=True, exist_ok=True)
    names: list[tuple[str, str]] = []
    for p, face in enumerate(faces(people, SIZE, seed=3)):
        for k in range(each):
            name = f"p{p}_{k}.png"
            Image.fromarray(np.rint(face.read() * 255 * (1 - 0.1 * k)).astype(np.uint8)).save(crops / name)
            names.append((name, f"p{p}"))
    rows = ["image_a,image_b,same,identity_a,identity_b"]
    for i, (a, who_a) in enumerate(names):
        for b, who_b in names[i + 1 :]:
            rows.append(f"{a},{b},{int(who_a == who_b)},{who_a},{who_b}")
    (root / "pairs.csv").write_text("\n".join(rows) + "\n")
    return f"pairs:{root / 'pairs.csv'}@{crops}"


def write_quarters(folder: Path) -> Path:
    """Write three masks of a quarter of the image each; what is left is the fourth region."""
    folder.mkdir()
    for i, name in enumerate(["upper_left", "upper_right", "lower_left"]):
        mask = np.zeros((SIZE, SIZE), dtype=np.uint8)
        mask[SIZE // 2 * (i // 2) :][: SIZE // 2, SIZE // 2 * (i % 2) :][:, : SIZE // 2] = 255
        Image.fromarray(mask).save(folder / f"{name}.png")
    return folder


def _shape(samples: Samples) -> tuple[int, ...]:
    n, size = len(samples), samples.images.shape[-2:]
    return (n, 2, *size) if samples.are_pairs else (n, *size)


def as_maps(values: torch.Tensor, samples: Samples) -> Maps:
    if samples.are_pairs:
        return Maps(similarity=values, dissimilarity=values)
    return Maps(relevance=values)


@dataclass(frozen=True)
class Ramp(Explainer):
    """A map that falls from left to right, times ``slope``: the same for every sample, quick, and known."""

    slope: float = 1.0

    method = Method(
        name="ramp",
    )

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        row = torch.linspace(1, 0, samples.images.shape[-1]) * self.slope
        return as_maps(row.expand(_shape(samples)).contiguous(), samples)


@dataclass(frozen=True)
class Fails(Explainer):
    """An explainer that misbehaves in one ``way``."""

    way: str = "raise"

    method = Method(
        name="fails",
    )

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        good = torch.zeros(_shape(samples)) + torch.arange(samples.images.shape[-1])
        if self.way == "raise":
            raise ZeroDivisionError("a mistake\nwith a second line")
        if self.way == "nan":
            return as_maps(torch.full_like(good, float("nan")), samples)
        if self.way == "one nan":
            good[0] = float("nan")
            return as_maps(good, samples)
        if self.way == "shape":
            return as_maps(good[..., :-1], samples)
        if self.way == "dtype":
            return as_maps(good.double(), samples)
        if self.way == "numpy":
            return as_maps(good.numpy(), samples)  # type: ignore[arg-type]
        if self.way == "list":
            return as_maps(list(good), samples)  # type: ignore[arg-type]
        if self.way == "gradient":
            return as_maps(good.requires_grad_(True), samples)
        if self.way == "nothing":
            return None  # type: ignore[return-value]
        raise AssertionError(self.way)


class Interrupts(Explainer):
    """An explainer that is interrupted (as by Ctrl-C) at its n-th batch, once."""

    method = Method(
        name="interrupts",
        seeded=True,  # so that no sample is explained twice
    )

    def __init__(self, at: int) -> None:
        self.left = at

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return Ramp().explain(model, samples)


@dataclass(frozen=True)
class MeanRelevance(Metric):
    """The mean of the map: the simplest metric of all."""

    protocol = Protocol(
        id="mean-relevance@1",
        family="faithful",
        range=(0.0, float("inf")),
        values=(
            Value(),
            Value("double"),
        ),
    )

    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        values = maps.headline.flatten(1).mean(dim=1).numpy().astype(np.float64)
        return Scores({"": values, "double": 2 * values}, curves={"twice": np.stack([values, values], axis=1)})


@dataclass(frozen=True)
class FailsToScore(Metric):
    """A metric that raises."""

    protocol = Protocol(
        id="fails-to-score@1",
    )

    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        raise RuntimeError("no score today")


@dataclass(frozen=True)
class Agreement(Metric):
    """A family metric: the mean absolute difference of two runs' maps."""

    protocol = Protocol(
        id="agreement@1",
        better="lower",
        best=0.0,
        needs=frozenset({"family"}),
    )

    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        raise AssertionError("a family metric is not scored by cell")

    def score_family(self, runs: Any, samples: Samples) -> Scores:
        first, second = (runs[name].headline for name in sorted(runs))
        return Scores({"": (first - second).abs().flatten(1).mean(dim=1).numpy().astype(np.float64)})


def with_extras(registry: Registry, *things: Explainer | Metric) -> Registry:
    """Return a registry with further explainers and metrics, as if a distribution "extras 1" had brought them."""
    explainers, metrics = dict(registry.explainers), dict(registry.metrics)
    provenance = Provenance("extras", "1", "extras")
    for thing in things:
        if isinstance(thing, Explainer):
            explainers[thing.name] = Registered(thing.name, thing, provenance)
        else:
            metrics[thing.id] = Registered(thing.id, thing, provenance)
    return dataclasses.replace(registry, explainers=explainers, metrics=metrics)


def place(function: Any, line: str) -> str:
    """Return how a message names the line of a function that holds a text: ``file.py:12, in score``."""
    lines, first = inspect.getsourcelines(function)
    at = next(i for i, text in enumerate(lines) if line in text)
    return f"{Path(inspect.getfile(function)).name}:{first + at}, in {function.__name__}"


@dataclass(frozen=True)
class Slow(Explainer):
    """An explainer that makes 25 passes, one every tenth of a second."""

    method = Method(name="slow", seeded=True)

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        for _ in range(25):
            model.outputs(samples.images[:1])
            time.sleep(0.1)
        return Ramp().explain(model, samples)


@dataclass(frozen=True)
class DiesAlone(Explainer):
    """An explainer that ends its process when it is asked for a single sample, as a measurement does."""

    method = Method(name="dies-alone", seeded=True)

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        if len(samples) == 1:
            os._exit(3)
        return Ramp().explain(model, samples)


class Told(Silent):
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.work: Sequence[Work] = ()
        self.found: list[Measured] = []
        self.events: list[Progress] = []
        self.shards: list[CellShard] = []

    def begin(self, work: Sequence[Work]) -> bool:
        self.work = work
        return True

    def measured(self, found: Measured) -> None:
        self.found.append(found)

    def progress(self, event: Progress) -> None:
        self.events.append(event)

    def timed(self, shard: CellShard) -> None:
        self.shards.append(shard)
