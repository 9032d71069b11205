"""Fixtures and an option for tests of plugins, in every environment that has pytest and faithface.

Place in the flow: loaded by pytest through the entry point ``faithface`` of the group ``pytest11``. Imports nothing
heavy; a fixture imports what it needs when a test asks for it.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from faithface.contract import FaceModel, Samples
    from faithface.model.torch_model import TorchModel
    from faithface.testing.subjects import TinyDataset


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faithface")
    with contextlib.suppress(ValueError):  # another plugin has an option of that name
        group.addoption(
            "--max-examples",
            type=int,
            default=None,
            metavar="N",
            help="inputs that Hypothesis makes up for each explainer and metric in plugin_tests (default: 10; 0: none)",
        )


@pytest.fixture(scope="session")
def tiny_model() -> FaceModel:
    """An opened classifier at 32×32 whose evidence is known: green speaks for ``attack``, red for ``bona-fide``."""
    from faithface.testing.subjects import tiny_model

    return tiny_model("pad")


@pytest.fixture(scope="session")
def tiny_verifier() -> FaceModel:
    """An opened verification network at 32×32: faces that show the same colours are alike."""
    from faithface.testing.subjects import tiny_model

    return tiny_model("verification")


@pytest.fixture
def tiny_samples(tiny_model: FaceModel) -> Samples:
    """A loaded batch of eight images for ``tiny_model``, with the evidence as ground truth."""
    from faithface.testing.subjects import tiny_samples

    return tiny_samples(tiny_model, 8)


@pytest.fixture
def tiny_pairs(tiny_verifier: FaceModel) -> Samples:
    """A loaded batch of eight pairs for ``tiny_verifier``, genuine and impostor in turn, with the evidence as truth."""
    from faithface.testing.subjects import tiny_samples

    return tiny_samples(tiny_verifier, 8)


@pytest.fixture
def tiny_dataset() -> TinyDataset:
    """A dataset of eight images of two classes for ``tiny_model``."""
    from faithface.testing.subjects import TinyDataset

    return TinyDataset("pad")


@pytest.fixture
def model_double() -> TorchModel:
    """The network of ``tiny_model`` as a torch module behind the same interface: no file, no ONNX Runtime."""
    from faithface.testing.subjects import tiny_double

    return tiny_double("pad")
