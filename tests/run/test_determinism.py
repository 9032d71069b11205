"""An explainer that gives another map when the first sample is explained again says so in its cell and on the board."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from faithface.boards.board import make_board
from faithface.boards.terminal import board_text
from faithface.contract import Explainer, FaceModel, Maps, Method, Samples
from faithface.plugins import Registry
from faithface.reasons import Status
from faithface.run.results import NOT_DETERMINISTIC
from faithface.run.store import open_run
from tests.support.runs import Ramp


def noisy(samples: Samples, draw: Any) -> Maps:
    shape = (len(samples), *samples.images.shape[-2:])
    return Maps(relevance=torch.from_numpy(np.asarray(draw(shape), dtype=np.float32)))


@dataclass(frozen=True)
class Global(Explainer):
    """Draws from a global generator, as most research code does."""

    of: str = "numpy"

    method = Method(name="global")

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        if self.of == "numpy":
            return noisy(samples, lambda shape: np.random.random(shape))  # noqa: NPY002
        if self.of == "torch":
            return Maps(relevance=torch.rand(len(samples), *samples.images.shape[-2:]))
        if self.of == "python":
            drawn = torch.tensor([random.random() for _ in range(samples.images[:, 0].numel())])
            return Maps(relevance=drawn.reshape(len(samples), *samples.images.shape[-2:]))
        return noisy(samples, np.random.default_rng().random)  # "entropy": of the machine


@dataclass(frozen=True)
class Declared(Explainer):
    """Draws, and says that it does."""

    method = Method(name="declared", seeded=True)

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        return noisy(samples, np.random.default_rng().random)


@dataclass(frozen=True)
class OfTheBatch(Explainer):
    """A map that depends on which samples are explained together: two runs in other batches would differ."""

    method = Method(name="of-the-batch")

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        maps = samples.images.mean(dim=1)
        return Maps(relevance=(maps - maps.mean()) * len(samples))


@dataclass(frozen=True)
class Rounds(Explainer):
    """The same map but for what summing in another order may change."""

    method = Method(name="rounds")

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        return Maps(relevance=samples.images.mean(dim=1) * (1 + 1e-4 * len(samples)))


@pytest.mark.parametrize(
    ("explainer", "differs"),
    [
        (Global("numpy"), True),
        (Global("torch"), True),
        (Global("python"), True),
        (Global("entropy"), True),
        (OfTheBatch(), True),
        (Declared(), False),
        (Rounds(), False),
        (Ramp(), False),
    ],
    ids=repr,
)
def test_a_map_that_differs_the_second_time_is_flagged(
    registry: Registry, tmp_path: Path, pad_card: str, folder: str, explainer: Explainer, differs: bool
) -> None:
    from faithface.api import execute
    from faithface.run.plan import make_plan
    from faithface.run.request import Request

    plan = make_plan(Request((pad_card,), (folder,), (explainer,), ("entropy@1",)), registry)
    _outcome, kept = execute(plan, tmp_path / "r")
    with open_run(tmp_path / "r") as store:
        (row,) = store.cells()
    assert row["status"] is Status.OK  # a remark, no failure; of the two shards, the second says nothing
    assert (NOT_DETERMINISTIC in row["note"]) is differs
    text = " ".join(board_text(make_board(kept)).split())
    assert ("not deterministic: explained again, the first sample's map differs by" in text) is differs
