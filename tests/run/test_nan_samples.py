"""A network that gives no number for one sample: that one has no value, with the reason; all others have theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor, nn

from faithface.contract import Dataset, Face, Pair, Sample
from faithface.loading import clean_threshold, dataset_scores
from faithface.model import open_model
from faithface.plugins import Registry
from faithface.reasons import ReasonCode, Status
from faithface.run.driver import execute_plan
from faithface.run.export import run_values
from faithface.run.plan import make_plan
from faithface.run.request import Request
from faithface.run.store import open_run
from faithface.tasks import equal_error_threshold
from tests.support.networks import build, export, faces, tiny

COUNT = 12
ODD = 3


class NoNumberForWhite(nn.Module):
    """A network whose outputs are NaN where the first pixel is white."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        corner = images[:, :, 0, 0].mean(dim=1, keepdim=True)
        return self.net(images) + 1e-6 * torch.sqrt(0.995 - corner)


def card_for(task: str, folder: Path) -> Any:
    card = tiny("cnn", task, folder)
    net = NoNumberForWhite(build("cnn", 16 if task == "verification" else 2, 32))
    export(net.eval(), (3, 32, 32), folder / "odd.onnx")
    return card.model_copy(update={"file": "odd.onnx", "name": "odd", "sha256": ""})


def some_faces() -> list[Face]:
    made = faces(COUNT, 32)

    def white() -> np.ndarray:
        pixels = faces(COUNT, 32)[ODD].read()
        pixels[0, 0] = 1.0
        return pixels

    made[ODD] = Face(made[ODD].id, white, made[ODD].identity)
    return made


class Singles(Dataset):
    name, task, classes, positive = "singles", "pad", ("bona-fide", "attack"), "attack"

    def items(self) -> list[Sample]:
        return [Sample(face.id, face, self.classes[i % 2]) for i, face in enumerate(some_faces())]


class Pairs(Dataset):
    name, task = "pairs", "verification"

    def items(self) -> list[Pair]:
        made = some_faces()
        genuine = [(i, i + 1) for i in range(0, COUNT, 2)]
        impostor = [(i, (i + 3) % COUNT) for i in range(0, COUNT, 2)]
        return [
            Pair(f"{a}--{b}", made[a], made[b], same)
            for same, some in ((True, genuine), (False, impostor))
            for a, b in some
        ]


def without_number(data: Dataset) -> set[str]:
    return {item.id for item in data.items() if f"face{ODD}" in [face.id for face in item.faces]}


@pytest.mark.parametrize(("task", "data"), [("pad", Singles()), ("verification", Pairs())])
def test_only_the_samples_without_a_number_have_no_value(
    registry: Registry, tmp_path: Path, task: str, data: Dataset
) -> None:
    metrics = ("mean-relevance@1", "entropy@1")
    asked = Request((card_for(task, tmp_path),), (data,), ("ramp", "saliency"), metrics, batch_size=16)
    outcome = execute_plan(make_plan(asked, registry), tmp_path / "run")
    with open_run(tmp_path / "run") as store:
        assert [row["status"] for row in store.cells()] == [Status.OK, Status.OK]
        for row in store.cells():
            assert {m["metric"]: m["status"] for m in row["metrics"]} == dict.fromkeys(metrics, Status.OK)
            invalid = store.invalid(row["id"])
            assert set(invalid) == without_number(data)
            assert {reason.code for reason in invalid.values()} == {ReasonCode.NON_FINITE_SCORE}
        values = run_values(store)
    nothing = values.filter(pl.col("value").is_null() | pl.col("value").is_nan())
    assert set(nothing["sample"]) == without_number(data)
    assert len(nothing) == len(without_number(data)) * 2 * 3  # explainers × named values
    assert outcome.failures  # the run says so


def test_the_threshold_is_that_of_the_pairs_with_a_number(tmp_path: Path) -> None:
    model = open_model(card_for("verification", tmp_path))
    scores, same = dataset_scores(model, Pairs())
    ids = [item.id for item in Pairs().items()]
    assert {one for one, score in zip(ids, scores, strict=True) if not np.isfinite(score)} == without_number(Pairs())
    left = np.isfinite(scores)
    assert clean_threshold(model, Pairs()) == equal_error_threshold(scores[left], same[left])
