"""A tiny classifier with a folder, and a tiny embedder with pairs, shared by the tests of the runner."""

from __future__ import annotations

from pathlib import Path

import pytest

from faithface.plugins import Registry, load_registry
from tests.support.runs import (
    Agreement,
    FailsToScore,
    MeanRelevance,
    Ramp,
    with_extras,
    write_card,
    write_folder,
    write_pairs,
)


@pytest.fixture(scope="session")
def registry() -> Registry:
    return with_extras(load_registry(), Ramp(), MeanRelevance(), FailsToScore(), Agreement())


@pytest.fixture(scope="session")
def pad_card(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_card(tmp_path_factory.mktemp("pad")))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"folder:{write_folder(tmp_path_factory.mktemp('folder'))}"


@pytest.fixture(scope="session")
def pair_card(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_card(tmp_path_factory.mktemp("embedder"), "verification"))


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_pairs(tmp_path_factory.mktemp("pairs"))


@pytest.fixture
def two_runs(tmp_path: Path) -> tuple[str, str]:
    """Cards of two training runs of one family."""
    made = [write_card(tmp_path, seed=run, name=f"kin-{run}", family="kin", run=run) for run in (0, 1)]
    return str(made[0]), str(made[1])
