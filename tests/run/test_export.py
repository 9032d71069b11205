"""What a run exports: values with what is known of their samples, means with intervals, curves; Parquet and CSV."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from faithface.api import execute
from faithface.errors import UsageError
from faithface.plugins import Registry
from faithface.run.export import CURVES, FULL, NUMBERS, export
from faithface.run.plan import make_plan
from faithface.run.request import Request
from faithface.run.store import open_run

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def both(registry: Registry, pad_card: str, folder: str, pair_card: str, pairs: str, tmp_path_factory) -> Path:
    """A run on images and on pairs."""
    out = tmp_path_factory.mktemp("both") / "r"
    request = Request(
        (pad_card, pair_card),
        (folder, pairs),
        ("ramp",),
        ("mean-relevance@1", "deletion@1(grid=4,points=5)", "gap-similarity-score@1(grid=4,points=5,fill=black)"),
        limit=12,
    )
    execute(make_plan(request, registry), out)
    return out


@pytest.fixture(scope="module")
def frames(both: Path, tmp_path_factory) -> dict[str, pl.DataFrame]:
    done = export(both, tmp_path_factory.mktemp("out"))
    assert done.curves is not None
    assert done.numbers is not None
    return {name: pl.read_parquet(getattr(done, name)) for name in ("values", "curves", "numbers")}


def test_values_carry_label_or_kind_clean_score_decision_and_direction(both: Path, frames) -> None:
    values = frames["values"]
    assert values.schema == pl.Schema(FULL)
    images = values.filter(pl.col("model") == "tiny-pad-0")
    assert set(images["label"]) == {"bona-fide", "attack"}
    assert images["kind"].is_null().all()
    assert set(images["decision"]) <= {"bona-fide", "attack"}
    assert (images["correct"] == (images["label"] == images["decision"])).all()
    assert images["clean_score"].is_between(0.5, 1).all()  # the probability of the class that is predicted
    faces = values.filter(pl.col("model") == "tiny-verification-0")
    assert set(faces["kind"]) == {"genuine", "impostor"}
    assert faces["label"].is_null().all()
    assert set(faces["decision"]) <= {"accepted", "rejected"}
    assert (faces["correct"] == ((faces["kind"] == "genuine") == (faces["decision"] == "accepted"))).all()
    with open_run(both) as store:
        threshold = {g["model"]: g["threshold"] for g in store.groups()}["tiny-verification-0"]
    assert ((faces["clean_score"] >= threshold - 1e-5) == (faces["decision"] == "accepted")).all()
    better = {metric.partition("@")[0]: way for metric, way in values.select("metric", "better").unique().rows()}
    assert (better["deletion"], better["gap-similarity-score"]) == ("lower", "higher")


def test_numbers_are_the_means_of_the_values_with_an_interval_around(frames) -> None:
    numbers = frames["numbers"]
    assert numbers.schema == pl.Schema(NUMBERS)
    means = (
        frames["values"]
        .group_by("model", "metric", "value_name")
        .agg(pl.col("value").mean().alias("mean"), pl.col("value").count().alias("count"))
    )
    joined = numbers.join(means, on=["model", "metric", "value_name"])
    assert len(joined) == len(numbers) >= 4
    np.testing.assert_allclose(joined["number"], joined["mean"], rtol=1e-8)
    assert (joined["n"] == joined["count"]).all()
    assert (joined["low"] <= joined["number"]).all()
    assert (joined["number"] <= joined["high"]).all()


def test_the_area_under_an_exported_curve_is_the_value(frames) -> None:
    curves = frames["curves"]
    assert curves.schema == pl.Schema(CURVES)
    metric = "deletion@1(grid=4,points=5)"
    mine = curves.filter(pl.col("metric") == metric)
    assert sorted(set(mine["fraction"])) == [0.0, 0.25, 0.5, 0.75, 1.0]
    headline = frames["values"].filter(pl.col("metric") == metric, pl.col("value_name") == "")
    values = dict(headline.select("sample", "value").rows())
    assert set(mine["sample"]) == set(values)
    for (sample,), points in mine.group_by("sample"):
        points = points.sort("step")
        assert np.trapezoid(points["value"], points["fraction"]) == pytest.approx(values[sample], abs=1e-5)


def test_csv_holds_the_same(both: Path, frames, tmp_path: Path) -> None:
    done = export(both, tmp_path / "csv", "csv")
    assert done.values.suffix == ".csv"
    read = pl.read_csv(done.values, schema_overrides=FULL)
    assert read.columns == frames["values"].columns
    np.testing.assert_allclose(read["value"].to_numpy(), frames["values"]["value"].to_numpy(), rtol=1e-12)
    assert len(pl.read_csv(done.curves)) == len(frames["curves"])


def test_an_unknown_format_is_refused(both: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match='format is "xlsx"; expected parquet or csv'):
        export(both, tmp_path / "x", "xlsx")  # type: ignore[arg-type]


@pytest.mark.parametrize("schema", [FULL, CURVES, NUMBERS])
def test_every_column_is_documented(schema: dict) -> None:
    page = (ROOT / "docs" / "reference" / "export.md").read_text()
    assert [name for name in schema if f"`{name}`" not in page] == []
