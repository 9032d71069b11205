"""``faithface.evaluate``: the Python API gives what the command line gives."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

import faithface
from faithface.plugins import Registry
from tests.support.runs import Fails, MeanRelevance, Ramp


def test_objects_and_names_can_be_mixed_and_the_values_come_as_a_frame(
    registry: Registry, pad_card: str, folder: str
) -> None:
    result = faithface.evaluate(
        model=Path(pad_card),
        dataset=registry.dataset(folder).object,
        explainers=[Ramp(slope=2.0), "random"],
        metrics=[MeanRelevance(), "entropy@1"],
        limit=5,
    )
    assert result.values.columns == ["model", "dataset", "explainer", "metric", "sample", "value"]
    assert len(result.values) == 5 * 2 * 3
    mean = result.values.filter((pl.col("explainer") == "ramp(slope=2.0)") & (pl.col("metric") == "mean-relevance@1"))
    assert mean["value"].to_list() == [pytest.approx(1.0)] * 5
    assert result.failures == ()
    assert [k.record.explainer.origin.distribution for k in result.records] == ["(an object)", "faithface"]


def test_the_table_is_markdown_with_directions(pad_card: str, folder: str) -> None:
    result = faithface.evaluate(pad_card, folder, [Ramp(), Fails()], [MeanRelevance()], limit=5)
    lines = result.table().splitlines()
    assert lines[0].startswith("| explainer")
    assert "mean-relevance@1 ↑" in lines[0]
    assert "0.5000" in lines[2]
    assert "failed" in lines[3]
    assert len(result.failures) == 1


def test_a_card_object_can_be_evaluated(tmp_path: Path, folder: str) -> None:
    from tests.support.networks import tiny

    result = faithface.evaluate(tiny("cnn", "pad", tmp_path), folder, ["random"], [MeanRelevance()], limit=2)
    assert result.values["model"].unique().to_list() == ["tiny-cnn-0"]


def test_a_run_directory_is_kept_only_when_asked_for(tmp_path: Path, pad_card: str, folder: str) -> None:
    out = tmp_path / "kept"
    first = faithface.evaluate(pad_card, folder, [Ramp()], [MeanRelevance()], limit=2, out=out)
    assert (out / "run.sqlite").is_file()
    again = faithface.evaluate(pad_card, folder, [Ramp()], [MeanRelevance()], limit=2, out=out)
    assert again.values.equals(first.values)


def test_an_unknown_name_is_a_usage_error_with_the_nearest(pad_card: str, folder: str) -> None:
    with pytest.raises(faithface.UsageError, match='no explainer "grad-cm"; did you mean "grad-cam'):
        faithface.evaluate(pad_card, folder, ["grad-cm"], ["entropy@1"])


def test_an_oracle_without_ground_truth_on_some_samples_has_not_failed() -> None:
    result = faithface.evaluate(
        model="planted-pad-guided-0",
        dataset="planted-pad",
        explainers=["oracle"],
        metrics=["relevance-mass@1"],
        limit=6,
    )
    values = result.values.filter(result.values["metric"] == "relevance-mass@1")
    known = values.filter(values["value"].is_finite())
    assert result.failures == ()
    assert known["value"].to_list() == [1.0] * len(known)
    assert 0 < len(known) < len(values)
    assert not any("bona-fide" in name for name in known["sample"])
