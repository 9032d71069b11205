"""A finished tiny run with what a board can hold: numbers, a failure, a NaN, a protocol with its own summary."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from faithface.api import execute
from faithface.contract import Explainer, FaceModel, Maps, Metric, Protocol, Samples, Scores
from faithface.plugins import load_registry
from faithface.run.plan import make_plan
from faithface.run.request import Request
from tests.support.runs import Fails, FailsToScore, MeanRelevance, Ramp, with_extras, write_card, write_folder


@dataclass(frozen=True)
class Median(Metric):
    """A protocol whose board number is the median of the maps' maxima; a sample whose id ends in 0 has no value."""

    protocol = Protocol(
        id="median@1",
        family="faithful",
        better="lower",
        best=0.0,
    )

    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        values = maps.headline.flatten(1).amax(dim=1).numpy().astype(np.float64)
        gone = {i: "its id ends in 0 | or so" for i, name in enumerate(samples.ids) if name.endswith("0")}
        values[list(gone)] = np.nan
        return Scores({"": values}, gone)

    def summarise(self, values: np.ndarray, name: str = "") -> float:
        return float(np.median(values)) if len(values) else float("nan")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory."""
    root = tmp_path_factory.mktemp("board")
    registry = with_extras(load_registry(), Ramp(), Fails(), MeanRelevance(), FailsToScore(), Median())
    request = Request(
        models=(str(write_card(root)), str(write_card(root, seed=1, name="kin-1", family="kin", run=1))),
        datasets=(f"folder:{write_folder(root)}",),
        explainers=("random", "ramp", "ramp(slope=2)", "fails"),
        metrics=("mean-relevance@1", "median@1", "cost@1", "fails-to-score@1"),
        suite=("tiny", 3),
        description="A board for tests",
        limit=12,
    )
    execute(make_plan(request, registry), root / "run")
    return root / "run"


@pytest.fixture
def board(finished: Path, tmp_path: Path) -> Path:
    """A board built from it, free to be altered."""
    from faithface.boards.publish import add_runs

    (made,) = add_runs([finished], tmp_path / "leaderboards")
    assert made == tmp_path / "leaderboards" / "tiny" / "v3"
    return made


def copy(board: Path, to: Path) -> Path:
    return Path(shutil.copytree(board, to))
