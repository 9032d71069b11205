"""The short measurement: passes are those of a whole explanation, also where the network stood still after a moment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from faithface.contract import Dataset, Samples
from faithface.explaining import explain
from faithface.model import OnnxModel, open_model
from faithface.run import measure as measure_module
from faithface.run.fast_forward import FastForward
from faithface.run.guard import Watch
from faithface.run.measure import measure
from faithface.tasks import PairTarget
from faithface_plugins.explainers.black_box import Rise
from faithface_plugins.explainers.fggb import Fggb
from faithface_plugins.explainers.gradients import SmoothGrad
from tests.support.networks import pair_batch, tiny
from tests.support.runs import Fails, MeanRelevance, Ramp


class Only(Dataset):
    """The pairs of a batch."""

    name = "only"
    task = "verification"
    revision = "1"

    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def items(self) -> Any:
        return self.samples.items


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> tuple[OnnxModel, Samples]:
    model = open_model(tiny("cnn", "verification", tmp_path_factory.mktemp("m"), dim=48))
    _ = model.twin
    return model, pair_batch(model, 2)


def calls(images: torch.Tensor) -> dict[str, Callable[[Any], torch.Tensor]]:
    reference = torch.ones(len(images), 48)
    cotangents = torch.ones(len(images), 40, 48)
    return {
        "outputs": lambda m: m.outputs(images),
        "outputs_of": lambda m: m.outputs_of(150, lambda part: images[:1].expand(part.stop - part.start, -1, -1, -1)),
        "embeddings": lambda m: m.embeddings(images),
        "gradient": lambda m: m.gradient(images, PairTarget(reference)),
        "vjp": lambda m: m.vjp(images, cotangents),
    }


@pytest.mark.parametrize("what", ["outputs", "outputs_of", "embeddings", "gradient", "vjp"])
def test_within_the_time_answers_are_the_models_and_passes_are_counted_alike(
    opened: tuple[OnnxModel, Samples], what: str
) -> None:
    model, samples = opened
    images = samples.views().images
    fast = FastForward(model, seconds=1e6)
    before = model.passes
    expected = calls(images)[what](model)
    counted = model.passes - before
    torch.testing.assert_close(calls(images)[what](fast), expected)
    assert fast.passes == counted
    assert fast.ran_all
    assert fast.correction <= 0  # warming up is no part of it


@pytest.mark.parametrize("what", ["outputs", "outputs_of", "embeddings", "gradient", "vjp"])
def test_after_the_time_shapes_and_passes_stay(opened: tuple[OnnxModel, Samples], what: str) -> None:
    model, samples = opened
    images = samples.views().images
    fast = FastForward(model, seconds=-1e6)
    shape = calls(images)[what](fast).shape
    first = fast.passes
    before = model.passes
    again = calls(images)[what](fast)
    assert again.shape == shape
    assert fast.passes == first + first
    assert model.passes == before  # the network stood still
    assert not fast.ran_all
    assert fast.correction > 0


@pytest.mark.parametrize("explainer", [Fggb(), Rise(masks=300), SmoothGrad(noisy=7)], ids=lambda e: e.name)
def test_the_passes_of_an_explainer_are_those_of_a_run(
    opened: tuple[OnnxModel, Samples], explainer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure_module, "TRUE_SECONDS", -1e6)
    model, samples = opened
    one = samples.take([0])
    expected = explain(model, one, explainer).cost

    cells = {5: (explainer, {"mean": MeanRelevance()}), 6: (Fails(), {})}
    found = measure(model, 0, cells, Only(samples), (0, 1), 0, 0.5, Watch())
    assert expected is not None
    assert (found.explain[5].forward, found.explain[5].backward) == (expected.forward, expected.backward)
    assert 6 not in found.explain  # it fails, which its own cell will say
    assert found.score["mean"].forward == 0
    assert found.score["mean"].explained == 0


def test_a_measurement_is_over_when_its_time_is(opened: tuple[OnnxModel, Samples], tmp_path: Path) -> None:
    model, samples = opened

    found = measure(model, 0, {0: (Fggb(), {})}, Only(samples), (0,), 0, 0.5, Watch(), seconds=-1.0)
    assert found.explain == {}


def test_what_a_first_pass_takes_to_warm_up_is_no_part_of_the_time(
    opened: tuple[OnnxModel, Samples], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock on which the first pass takes 9 s, and each further one 1 s: 10 images make 10 s, 9 of them skipped."""
    model, samples = opened
    image = samples.views().images[:1]
    now, per = [0.0], [9.0]

    def slow(count: int, make: Any) -> torch.Tensor:
        now[0] += per[0]
        per[0] = 1.0
        return torch.zeros(count, 48)

    monkeypatch.setattr("faithface.run.fast_forward.time.monotonic", lambda: now[0])
    monkeypatch.setattr(model, "outputs_of", slow)
    fast = FastForward(model, seconds=2.5)
    for _ in range(10):
        fast.outputs(image)
    assert not fast.ran_all
    assert now[0] + fast.correction == pytest.approx(10.0)


@pytest.mark.parametrize(("first", "expected"), [(1.5, 0.1), (60.0, 60.0)])
def test_what_a_first_call_makes_once_is_not_multiplied_by_the_samples(
    opened: tuple[OnnxModel, Samples], monkeypatch: pytest.MonkeyPatch, first: float, expected: float
) -> None:
    """A clock on which the first explanation takes long, each further one 0.1 s; a minute is not asked for twice."""
    now, calls = [0.0], []

    class Warms(Ramp):
        def explain(self, model: Any, samples: Samples) -> Any:
            now[0] += 0.1 if calls else first
            calls.append(1)
            return super().explain(model, samples)

    monkeypatch.setattr("faithface.run.measure.time.monotonic", lambda: now[0])
    model, samples = opened
    found = measure(model, 0, {0: (Warms(), {})}, Only(samples), (0, 1), 0, 0.5, Watch(), seconds=1e6)
    assert found.explain[0].seconds == pytest.approx(expected)
