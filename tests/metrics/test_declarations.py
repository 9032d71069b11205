"""What metrics declare: parameters and nothing else, costs and words that follow the parameters, light imports."""

from __future__ import annotations

import pickle
import subprocess
import sys
import typing
from pathlib import Path

import numpy as np
import pytest

import faithface
from faithface.contract import FaceModel, Maps, Metric, Samples
from faithface.errors import UsageError
from faithface.loading import load_samples
from faithface.metrics import METRICS
from faithface.metrics.curves import METRICS as CURVES
from faithface.metrics.curves import Gap, GapDissimilarity, GapSimilarity
from faithface.metrics.curves.base import Alter, ClassCurve, ClassFillName, FillName, PairCurve
from faithface.perturb import curves as engine_curves
from faithface.perturb import fills
from faithface.specs import configure, parse_spec
from tests.metrics.toy_explainers import Brightness
from tests.metrics.toy_pairs import ToyPairs

LIGHT = """
import sys, types
package = types.ModuleType("faithface")  # without the package's own first lines, whatever they import
package.__path__ = [sys.argv[1]]
sys.modules["faithface"] = package
import faithface.metrics, faithface.metrics.describe
assert len(faithface.metrics.METRICS) > 30
heavy = {"torch", "onnx", "onnxruntime", "matplotlib", "scipy", "skimage", "PIL", "ray"}
print(sorted(heavy & set(sys.modules)))
"""


def test_importing_the_metrics_imports_neither_torch_nor_onnx_nor_scipy() -> None:
    folder = str(Path(faithface.__file__).parent)
    done = subprocess.run([sys.executable, "-c", LIGHT, folder], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


@pytest.mark.parametrize(
    "spec", ["noise-stability@1(better=lower)", "degradation@1(better=lower)", "gap@1(kind=similarity)"]
)
def test_what_a_metric_is_cannot_be_set(spec: str) -> None:
    parsed = parse_spec(spec)
    metric = next(metric for metric in METRICS if metric.id == parsed.name)
    with pytest.raises(UsageError) as refused:
        configure(metric, parsed.params, f'metric "{metric.id}"')
    assert f'has no parameter "{parsed.params[0][0]}"' in str(refused.value)
    real = {"noise-stability@1": ("level", "levels"), "gap@1": ("fill", "grid", "points")}.get(metric.id, ())
    assert all(parameter in str(refused.value) for parameter in real)


@pytest.mark.parametrize("metric", METRICS, ids=lambda m: m.id)
def test_metrics_travel_to_workers_and_back(metric: Metric) -> None:
    again = pickle.loads(pickle.dumps(metric))
    assert again == metric == type(metric)()
    assert type(again) is type(metric)
    assert again.protocol is metric.protocol


def test_the_table_has_its_rows_and_pairs_know_their_defaults() -> None:
    assert len({m.id for m in CURVES}) == 15
    assert sum(isinstance(m, ClassCurve) for m in CURVES) == 3
    assert sum(isinstance(m, PairCurve) for m in CURVES) == 12
    assert repr(GapDissimilarity(points=11)) == (
        "GapDissimilarity(fill='partner', grid=0, points=11, pairs='impostor', alter='probe')"
    )
    assert GapSimilarity(pairs="all").judged_on == "all"
    assert Gap().judged_on == "positive"
    assert Gap(which="all").judged_on == "all"


def test_fills_and_sides_are_those_of_the_engine() -> None:
    assert typing.get_args(FillName) == typing.get_args(fills.FillName)
    assert typing.get_args(ClassFillName) == typing.get_args(fills.ClassFillName)
    assert typing.get_args(Alter) == typing.get_args(typing.get_type_hints(engine_curves)["alter"])


@pytest.mark.parametrize(
    ("metric", "passes"),
    [
        (GapSimilarity(), 98),
        (GapSimilarity(points=11), 18),
        (GapSimilarity(points=11, grid=2), 6),  # of four cells, three proper shares each way
        (GapSimilarity(points=6, alter="both"), 16),
        (GapDissimilarity(points=11), 18),
    ],
    ids=repr,
)
def test_a_curves_cost_follows_its_parameters_and_is_what_is_run(
    metric: PairCurve, passes: int, verifier: tuple[FaceModel, Samples]
) -> None:
    model = verifier[0]
    data = ToyPairs(n=2, size=16)
    samples = load_samples(model, data.items(), threshold=0.5, dataset=data)
    samples = samples.take(samples.where(metric.judged_on))
    sides = 2 if metric.alter == "both" else 1
    fill = 0 if metric.fill == "partner" else sides
    stated = f"{passes}{f', and {sides} per fill' if fill else ''} (shared with deletion and insertion)"
    assert metric.cost == stated
    maps: Maps = Brightness().explain(model, samples)
    before = model.passes.forward
    metric.score(model, samples, maps)
    # Where a stranger's face is embedded for the first time, that is not the metric's own doing.
    spent = (model.passes.forward - before) / len(samples)
    assert spent == passes + fill
    assert np.isfinite(metric.score(model, samples, maps).values[""]).all()
