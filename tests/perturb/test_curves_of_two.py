"""Curves that are kept with maps belong to the model and the samples that they were made on."""

from __future__ import annotations

import numpy as np

from faithface.loading import load_samples
from faithface.model import open_model
from faithface.perturb import curves
from faithface.plugins import load_registry


def test_the_same_maps_have_other_curves_on_another_model() -> None:
    registry = load_registry()
    dataset = registry.dataset("planted-pad(n=4)").object
    first, second = (open_model(registry.model(f"exact-pad-{size}-0").object) for size in (28, 16))
    given, other = (load_samples(model, dataset.items(), 0, None, dataset) for model in (first, second))
    explainer = registry.explainer("centre-prior").object
    shared, fresh = explainer.explain(first, given), explainer.explain(second, other)
    before = curves(first, given, shared, grid=4, points=5).scores["deletion"]
    after = curves(second, other, shared, grid=4, points=5).scores["deletion"]
    np.testing.assert_array_equal(after, curves(second, other, fresh, grid=4, points=5).scores["deletion"])
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_array_equal(curves(first, given, shared, grid=4, points=5).scores["deletion"], before)
