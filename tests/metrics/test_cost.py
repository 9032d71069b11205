"""``cost@1``: what a batch took, divided by its number of samples, counted by hand."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from faithface.contract import Cost, Explainer, FaceModel, Maps, Method, Samples
from faithface.explaining import explain
from faithface.metrics.cost import ExplanationCost
from faithface.reasons import ReasonCode
from tests.metrics.made import codes

SECONDS = 0.25


@dataclass(frozen=True)
class Known(Explainer):
    """Two passes forward of the whole batch, one more of its first sample, one gradient of each face."""

    method = Method(name="toy-known-cost", needs=frozenset({"gradients"}))

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        views = samples.views()
        for images in (views.images, 1 - views.images, views.images[:1]):
            model.outputs(images)
        gradient = model.gradient(views.images, views.target)
        return Maps.from_views(gradient.abs().sum(dim=1), samples)


def slow_cost(samples: Samples) -> dict[str, float]:
    """Images one by one: each face passes forward three times and backward once, the first face forward once more."""
    forward = backward = 0
    faces = sum(len(item.faces) for item in samples.items)
    for _ in range(faces):
        forward += 2  # the face and its negative
        forward += 1  # the gradient's way forward
        backward += 1
    forward += 1  # the first face again
    return {"": SECONDS / len(samples), "forward": forward / len(samples), "backward": backward / len(samples)}


@pytest.mark.parametrize("which", ["classifier", "verifier"])
def test_it_is_what_the_batch_took_over_its_number_of_samples(
    which: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, samples = request.getfixturevalue(which)
    model.gradient(samples.views().images, samples.views().target)  # what is made once is made before it is counted
    ticks = iter([10.0, 10.0 + SECONDS])
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks, 10.0 + SECONDS))
    maps = explain(model, samples, Known())
    monkeypatch.undo()
    got = ExplanationCost().score(model, samples, maps)
    assert not got.reasons
    for name, expected in slow_cost(samples).items():
        np.testing.assert_allclose(got.values[name], [expected] * len(samples), rtol=1e-12)


def test_maps_whose_making_was_not_measured_have_no_value(classifier: tuple[FaceModel, Samples]) -> None:
    model, samples = classifier
    maps = Maps(relevance=torch.ones(len(samples), *model.size))
    got = ExplanationCost().score(model, samples, maps)
    assert all(np.isnan(values).all() for values in got.values.values())
    assert set(codes(got.reasons).values()) == {ReasonCode.UNDEFINED}
    free = ExplanationCost().score(model, samples, replace(maps, cost=Cost(0.0, 0, 0)))
    assert all((values == 0).all() for values in free.values.values())
