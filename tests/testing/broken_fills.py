"""Fills with one fault each, and the check that is there to find it. Used by ``test_fills`` only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch

from faithface.contract import FaceModel, Fill, Filling, Removal


@dataclass(frozen=True)
class SoundFill(Fill):
    """The face's mean colour, and seeded noise."""

    filling = Filling("sound-fill", seeded=True, source="a test")

    def fill(self, model: FaceModel, removal: Removal) -> torch.Tensor:
        mean = removal.images.mean(dim=(2, 3), keepdim=True)
        draws = [
            removal.rng(i, "noise").random(removal.images.shape[1:], dtype=np.float32) for i in range(len(removal))
        ]
        return (mean + 0.2 * torch.from_numpy(np.stack(draws)).to(mean)).clamp(0, 1)


@dataclass(frozen=True)
class SoundInpainting(Fill):
    """The mean colour of what is left of the face; grey where nothing is left."""

    filling = Filling("sound-inpainting", sees_mask=True, source="a test")

    def fill(self, model: FaceModel, removal: Removal) -> torch.Tensor:
        left = ~removal.removed[:, None]
        count = left.sum(dim=(2, 3), keepdim=True)
        mean = (removal.images * left).sum(dim=(2, 3), keepdim=True) / count.clamp(min=1)
        return torch.where(count > 0, mean, torch.full_like(mean, 0.5)).expand_as(removal.images).contiguous()


def seeds_globally(fill: BrokenFill, model: FaceModel, removal: Removal, good: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(0)
    return (good + 0.1 * torch.rand(good.shape[1:], device=good.device)).clamp(0, 1)


def adds_up_the_batch(fill: BrokenFill, model: FaceModel, removal: Removal, good: torch.Tensor) -> torch.Tensor:
    return (0.5 * good + 0.5 * removal.images.mean(dim=0, keepdim=True)).clamp(0, 1)


def draws_by_place(fill: BrokenFill, model: FaceModel, removal: Removal, good: torch.Tensor) -> torch.Tensor:
    # As the first, second and fifth of a batch a face is filled as it is alone.
    by_place = good.new_tensor([1, 1, 0.8, 0.7, 1, 0.6, 0.5, 0.4])[: len(good)]
    return good * by_place[:, None, None, None]


def changes_its_input(fill: BrokenFill, model: FaceModel, removal: Removal, good: torch.Tensor) -> torch.Tensor:
    removal.samples.clean.scores.add_(1e-4)
    return good


def sets_double(fill: BrokenFill, model: FaceModel, removal: Removal, good: torch.Tensor) -> torch.Tensor:
    torch.set_default_dtype(torch.float64)
    return good


def leaves_a_hook(fill: BrokenFill, model: FaceModel, removal: Removal, good: torch.Tensor) -> torch.Tensor:
    twin: Any = vars(model).get("twin")
    if twin is not None:
        twin.register_forward_hook(lambda *_: None)
    return good


def keeps_its_images(fill: BrokenFill, model: FaceModel, removal: Removal, good: torch.Tensor) -> torch.Tensor:
    BrokenFill.kept.append(good)
    return good


def stays_on_the_host(fill: BrokenFill, model: FaceModel, removal: Removal, good: torch.Tensor) -> torch.Tensor:
    return (good * torch.full(good.shape[-2:], 0.9)).clamp(0, 1)


def divides_by_contrast(fill: BrokenFill, model: FaceModel, removal: Removal, good: torch.Tensor) -> torch.Tensor:
    contrast = removal.images.amax(dim=(1, 2, 3)) - removal.images.amin(dim=(1, 2, 3))
    return good * (contrast / contrast)[:, None, None, None]


Fault = Callable[["BrokenFill", FaceModel, Removal, torch.Tensor], Any]
FILLS: dict[str, tuple[Fault, str]] = {
    "returns-numpy": (lambda f, m, r, good: good.numpy(), "returns-images"),
    "wrong-size": (lambda f, m, r, good: good[..., :-1], "shape"),
    "swaps-axes": (lambda f, m, r, good: good.transpose(2, 3).contiguous(), "shape"),
    "float64": (lambda f, m, r, good: good.double(), "dtype"),
    "nan": (lambda f, m, r, good: good / 0 * 0, "finite"),
    "0-to-255": (lambda f, m, r, good: good * 255, "in-range"),
    "normalised": (lambda f, m, r, good: (good - 0.5) / 0.5, "in-range"),
    "divides-by-contrast": (divides_by_contrast, "any-image"),
    "unseeded": (lambda f, m, r, good: good.flip(-1).mul(0.5).add(0.1 * good.new_tensor(f.turn())), "deterministic"),
    "declares-no-seed": (lambda f, m, r, good: good, "seeded-as-declared"),
    "seeds-globally": (seeds_globally, "global-random"),
    "batch-mean": (adds_up_the_batch, "batch-independent"),
    "by-place": (draws_by_place, "order-independent"),
    "changes-input": (changes_its_input, "inputs-untouched"),
    "default-dtype": (sets_double, "process-untouched"),
    "leaves-hook": (leaves_a_hook, "model-untouched"),
    "leaks": (keeps_its_images, "memory-released"),
    "host-tensors": (stays_on_the_host, "on-a-device"),
    "shows-the-face": (lambda f, m, r, good: r.images.clone(), "removes-evidence"),
}


@dataclass(frozen=True)
class BrokenFill(Fill):
    """The sound fill with one fault.

    Parameters:
        way: which.
    """

    way: str = "nan"
    turns: list[int] = field(default_factory=lambda: [0], metadata={"parameter": False}, compare=False)

    kept: ClassVar[list[torch.Tensor]] = []
    filling = Filling("broken-fill", source="a test")

    def turn(self) -> int:
        self.turns[0] += 1
        return self.turns[0] % 2

    def fill(self, model: FaceModel, removal: Removal) -> Any:
        mean = removal.images.mean(dim=(2, 3), keepdim=True).expand_as(removal.images).contiguous()
        good = SoundFill().fill(model, removal) if self.way == "declares-no-seed" else mean
        return FILLS[self.way][0](self, model, removal, good)


@dataclass(frozen=True)
class Peeks(Fill):
    """Sees the mask, and the face under it."""

    filling = Filling("peeks", sees_mask=True, source="a test")

    def fill(self, model: FaceModel, removal: Removal) -> torch.Tensor:
        return removal.images.mean(dim=(2, 3), keepdim=True).expand_as(removal.images).contiguous()
