"""Fixtures of the explainer tests: opened tiny models, made once per session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from faithface.contract import Samples
from faithface.model import OnnxModel, open_model
from tests.support.networks import pair_batch, sample_batch, tiny

Opened = tuple[OnnxModel, Samples]


@pytest.fixture(scope="session")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Opened]:
    """Return ``opened(kind, task, n=3, **card) -> (model, samples)``; the same arguments give the same objects."""
    folder: Path = tmp_path_factory.mktemp("explainers")
    made: dict[Any, Opened] = {}

    def make(kind: str, task: str = "pad", n: int = 3, **card: Any) -> Opened:
        key = (kind, task, n, *sorted(card.items()))
        if key not in made:
            model = open_model(tiny(kind, task, folder, **card))
            made[key] = model, (pair_batch if task == "verification" else sample_batch)(model, n)
        return made[key]

    return make
