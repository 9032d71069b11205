"""Tiny models and batches shared by the tests of single metrics."""

from __future__ import annotations

from pathlib import Path

import pytest

from faithface.contract import FaceModel, Samples
from faithface.model import open_model
from tests.support.networks import pair_batch, sample_batch, tiny


@pytest.fixture(scope="session")
def classifier(tiny_folder: Path) -> tuple[FaceModel, Samples]:
    """A two-class network at 16×16 and four images."""
    model = open_model(tiny("cnn", "pad", tiny_folder, size=16))
    return model, sample_batch(model, 4)


@pytest.fixture(scope="session")
def verifier(tiny_folder: Path) -> tuple[FaceModel, Samples]:
    """An embedding network at 16×16 and four pairs, two of them genuine; the threshold lies between their scores."""
    model = open_model(tiny("arcface", "verification", tiny_folder, size=16))
    scores = pair_batch(model, 4).clean.scores.tolist()
    return model, pair_batch(model, 4, threshold=(min(scores[::2]) + max(scores[::2])) / 2)
