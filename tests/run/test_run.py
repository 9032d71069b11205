"""Runs from beginning to end on a tiny network: values, resume, batches, failures, maps, families."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from faithface.errors import RunError, UsageError
from faithface.plugins import Registry
from faithface.run.driver import run_plan
from faithface.run.export import export, values_frame
from faithface.run.local import run_group
from faithface.run.paths import maps_file
from faithface.run.plan import Request, make_plan
from faithface.run.shard import CellShard
from faithface.run.store import FILE, open_run
from tests.support.runs import Fails, Interrupts, MeanRelevance, Ramp


def do(registry: Registry, out: Path, models: Any, datasets: Any, explainers: Any, metrics: Any, **more: Any) -> Any:
    plan = make_plan(Request(tuple(models), tuple(datasets), tuple(explainers), tuple(metrics), **more), registry)
    return run_plan(plan, out)


def frame(out: Path) -> pl.DataFrame:
    with open_run(out) as store:
        return values_frame(store).sort("model", "dataset", "explainer", "metric", "sample")


def cells(out: Path) -> dict[str, dict[str, Any]]:
    with open_run(out) as store:
        return {row["explainer"]: row for row in store.cells()}


def test_every_sample_has_one_value_per_explainer_and_named_value(
    registry: Registry, tmp_path: Path, pad_card: str, folder: str
) -> None:
    outcome = do(registry, tmp_path / "r", [pad_card], [folder], ["ramp", "ramp(slope=3)"], ["mean-relevance@1"])
    assert outcome.exit_code == 0
    assert not outcome.failures
    values = frame(tmp_path / "r")
    counts = {key: len(part) for key, part in values.group_by("explainer", "metric")}
    assert counts == {
        (explainer, metric): 20
        for explainer in ("ramp", "ramp(slope=3.0)")
        for metric in ("mean-relevance@1", "mean-relevance@1:double")
    }
    means = {
        key[0]: part["value"].unique().to_list()
        for key, part in values.filter(pl.col("metric") == "mean-relevance@1").group_by("explainer")
    }
    assert means == {"ramp": [pytest.approx(0.5)], "ramp(slope=3.0)": [pytest.approx(1.5)]}
    assert values["sample"].to_list()[0] == "attack--im01"


@pytest.mark.parametrize("at", [1, 2, 3])
def test_an_interrupted_run_is_gone_on_with_and_gives_the_numbers_of_an_uninterrupted_one(
    registry: Registry, tmp_path: Path, pair_card: str, pairs: str, at: int
) -> None:
    def plan(explainer: Any) -> Any:
        return make_plan(Request((pair_card,), (pairs,), ("random", explainer), ("entropy@1",)), registry)

    with pytest.raises(KeyboardInterrupt):
        run_plan(plan(Interrupts(at)), tmp_path / "cut")
    with open_run(tmp_path / "cut") as store:
        assert not store.meta("complete")
        finished = {row["explainer"]: len(store.done(row["id"])) for row in store.cells()}
    assert finished == {"random": at, "interrupts": at - 1}  # 45 pairs are three shards

    seen: list[int] = []

    def counting(*arguments: Any) -> Any:
        for event in run_group(*arguments):
            if isinstance(event, CellShard):
                seen.append(event.number)
            yield event

    whole = plan(Interrupts(10**6))
    run_plan(whole, tmp_path / "cut", executor=counting)
    assert len(seen) == 6 - at - (at - 1)  # only what was missing
    run_plan(whole, tmp_path / "whole")
    assert frame(tmp_path / "cut").equals(frame(tmp_path / "whole"))


def test_a_finished_run_is_not_done_again(registry: Registry, tmp_path: Path, pad_card: str, folder: str) -> None:
    plan = make_plan(Request((pad_card,), (folder,), ("ramp",), ("mean-relevance@1",)), registry)
    run_plan(plan, tmp_path / "r")

    def never(*arguments: Any) -> Any:
        raise AssertionError("there is nothing to do")

    assert run_plan(plan, tmp_path / "r", executor=never).exit_code == 0


def test_a_shard_is_written_whole_or_not_at_all(
    registry: Registry, tmp_path: Path, pad_card: str, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from faithface.run import store as store_module

    plan = make_plan(Request((pad_card,), (folder,), ("ramp",), ("mean-relevance@1",)), registry)

    def torn(points: np.ndarray) -> bytes:
        raise KeyboardInterrupt  # after the values of the shard, before its curves

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "_pack", torn)
        with pytest.raises(KeyboardInterrupt):
            run_plan(plan, tmp_path / "r")
    assert len(frame(tmp_path / "r")) == 0
    run_plan(plan, tmp_path / "r")
    assert len(frame(tmp_path / "r")) == 40


def test_another_command_in_the_same_directory_is_refused_and_says_what_differs(
    registry: Registry, tmp_path: Path, pad_card: str, folder: str
) -> None:
    do(registry, tmp_path / "r", [pad_card], [folder], ["ramp"], ["mean-relevance@1"])
    with pytest.raises(UsageError, match=r"holds another run \(these differ: explainers, limit\)"):
        do(registry, tmp_path / "r", [pad_card], [folder], ["random"], ["mean-relevance@1"], limit=4)


def test_a_directory_that_is_not_a_run_is_left_alone(
    registry: Registry, tmp_path: Path, pad_card: str, folder: str
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="is not a run directory"):
        do(registry, tmp_path, [pad_card], [folder], ["ramp"], ["mean-relevance@1"])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / FILE).write_text("not a database")
    with pytest.raises(UsageError, match="cannot be read"):
        do(registry, tmp_path / "other", [pad_card], [folder], ["ramp"], ["mean-relevance@1"])


def test_a_directory_that_cannot_be_written_is_a_run_error(
    registry: Registry, tmp_path: Path, pad_card: str, folder: str
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        do(registry, tmp_path / "file" / "run", [pad_card], [folder], ["ramp"], ["mean-relevance@1"])


@pytest.mark.parametrize("batch", [1, 7])
def test_the_batch_size_moves_no_value(
    registry: Registry, tmp_path: Path, pair_card: str, pairs: str, batch: int
) -> None:
    explainers = ["grad-cam", "rise(masks=20)"]
    metrics = ["gap-similarity-score@1", "gap-dissimilarity-score@1", "entropy@1"]
    for size in (batch, 32):
        do(registry, tmp_path / str(size), [pair_card], [pairs], explainers, metrics, limit=18, batch_size=size)
    one, many = frame(tmp_path / str(batch)), frame(tmp_path / "32")
    assert one.drop("value").equals(many.drop("value"))
    np.testing.assert_allclose(one["value"].to_numpy(), many["value"].to_numpy(), atol=1e-4)


def test_the_values_of_a_sample_do_not_depend_on_what_else_is_in_the_run(
    registry: Registry, tmp_path: Path, pair_card: str, pairs: str
) -> None:
    for limit in (9, None):
        do(registry, tmp_path / str(limit), [pair_card], [pairs], ["rise(masks=20)"], ["entropy@1"], limit=limit)
    few, all_ = frame(tmp_path / "9"), frame(tmp_path / "None")
    joined = few.join(all_, on=["explainer", "metric", "sample"])
    assert len(joined) == 9
    np.testing.assert_allclose(joined["value"].to_numpy(), joined["value_right"].to_numpy(), atol=1e-5)


# --- what fails


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("raise", "explainer raised ZeroDivisionError: a mistake"),
        ("nan", "no map could be scored: explainer returned NaN"),
        ("shape", r"explainer returned relevance of shape \(16, 32, 31\); expected \(16, 32, 32\)"),
        ("dtype", "explainer returned relevance as float64; expected float32"),
        ("nothing", "explainer returned NoneType; expected Maps"),
    ],
)
def test_an_explainer_that_misbehaves_fails_its_cell_and_nothing_else(
    registry: Registry, tmp_path: Path, pad_card: str, folder: str, way: str, words: str
) -> None:
    outcome = do(registry, tmp_path / "r", [pad_card], [folder], [Fails(way), "ramp"], ["mean-relevance@1"])
    assert outcome.exit_code == 1
    assert len(outcome.failures) == 1
    found = {row["status"]: row for row in cells(tmp_path / "r").values()}
    assert set(found) == {"failed", "ok"}
    import re

    assert re.search(words, found["failed"]["reason"])
    assert "\n" not in found["failed"]["reason"]
    assert frame(tmp_path / "r")["explainer"].unique().to_list() == ["ramp"]
    assert len(frame(tmp_path / "r")) == 40


def test_a_sample_with_an_invalid_map_has_no_value_and_a_reason_while_the_others_are_scored(
    registry: Registry, tmp_path: Path, pad_card: str, folder: str
) -> None:
    outcome = do(registry, tmp_path / "r", [pad_card], [folder], [Fails("one nan")], ["mean-relevance@1"])
    assert outcome.exit_code == 1
    assert "2 invalid maps (non-finite values)" in outcome.failures[0]  # the first of each of the two shards
    values = frame(tmp_path / "r").filter(pl.col("metric") == "mean-relevance@1")
    assert values["value"].is_nan().sum() == 2
    assert len(values) == 20
    with open_run(tmp_path / "r") as store:
        reasons = {row["reason"] for row in store.scores(0) if row["value"] is None}
    assert reasons == {"relevance map holds non-finite values"}


def test_a_metric_that_raises_fails_alone(registry: Registry, tmp_path: Path, pad_card: str, folder: str) -> None:
    outcome = do(registry, tmp_path / "r", [pad_card], [folder], ["ramp"], ["fails-to-score@1", "mean-relevance@1"])
    assert outcome.failures == [
        f"tiny-pad-0 / {folder} / ramp / fails-to-score@1: metric raised RuntimeError: no score today"
    ]
    states = {m["metric"]: m["status"] for m in cells(tmp_path / "r")["ramp"]["metrics"]}
    assert states == {"fails-to-score@1": "failed", "mean-relevance@1": "ok"}


def test_a_failed_cell_is_tried_again_by_the_same_command(
    registry: Registry, tmp_path: Path, pad_card: str, folder: str
) -> None:
    class Mended(Fails):
        def explain(self, model: Any, samples: Any) -> Any:
            return Ramp().explain(model, samples) if mended else super().explain(model, samples)

    mended: list[bool] = []
    plan = make_plan(Request((pad_card,), (folder,), (Mended(), "random"), ("mean-relevance@1",)), registry)
    assert run_plan(plan, tmp_path / "r").exit_code == 1
    mended.append(True)
    assert run_plan(plan, tmp_path / "r").exit_code == 0
    assert len(frame(tmp_path / "r")) == 80


def test_a_model_that_cannot_be_opened_fails_its_cells_while_another_is_scored(
    registry: Registry, tmp_path: Path, pad_card: str, folder: str
) -> None:
    broken = tmp_path / "broken.toml"
    text = Path(pad_card).read_text().replace('name = "tiny-pad-0"', 'name = "broken"')
    (tmp_path / "broken.onnx").write_bytes(next(Path(pad_card).parent.glob("*.onnx")).read_bytes()[:400])
    broken.write_text(
        "\n".join('file = "broken.onnx"' if line.startswith("file") else line for line in text.splitlines())
    )
    outcome = do(registry, tmp_path / "r", [str(broken), pad_card], [folder], ["ramp"], ["mean-relevance@1"])
    assert len(outcome.failures) == 1
    assert "not an ONNX file" in outcome.failures[0]
    assert len(frame(tmp_path / "r")) == 40
    with pytest.raises(UsageError, match="not an ONNX file"):
        do(registry, tmp_path / "alone", [str(broken)], [folder], ["ramp"], ["mean-relevance@1"])


def test_cuda_asked_for_and_absent_is_a_usage_error_before_anything_is_written(
    registry: Registry, tmp_path: Path, pad_card: str, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UsageError, match="cuda was asked for"):
        do(registry, tmp_path / "r", [pad_card], [folder], ["ramp"], ["mean-relevance@1"], device="cuda")
    assert not (tmp_path / "r").exists()


# --- what cannot be read


def spoil(folder_spec: str, tmp_path: Path) -> str:
    """Copy a folder set and make one of its images unreadable."""
    import shutil

    root = tmp_path / "spoilt"
    shutil.copytree(folder_spec.removeprefix("folder:"), root)
    (root / "attack" / "im01.png").write_bytes(b"not an image")
    return f"folder:{root}"


def test_an_unreadable_image_is_named_and_skipped(
    registry: Registry, tmp_path: Path, pad_card: str, folder: str
) -> None:
    told: list[str] = []

    class Listener:
        def note(self, text: str) -> None:
            told.append(text)

        def __getattr__(self, name: str) -> Any:
            return lambda *_: None

    plan = make_plan(Request((pad_card,), (spoil(folder, tmp_path),), ("ramp",), ("mean-relevance@1",)), registry)
    assert run_plan(plan, tmp_path / "r", Listener()).exit_code == 0
    assert len(told) == 1
    assert "im01.png is not an image" in told[0]
    values = frame(tmp_path / "r")
    assert len(values) == 38
    assert "attack--im01" not in values["sample"].to_list()


def test_an_unreadable_image_is_an_error_in_strict_mode(
    registry: Registry, tmp_path: Path, pad_card: str, folder: str
) -> None:
    with pytest.raises(UsageError, match=r"im01\.png is not an image"):
        do(registry, tmp_path / "r", [pad_card], [spoil(folder, tmp_path)], ["ramp"], ["mean-relevance@1"], strict=True)


# --- maps and families


def test_kept_maps_are_the_maps_and_are_exported(
    registry: Registry, tmp_path: Path, pair_card: str, pairs: str
) -> None:
    do(registry, tmp_path / "r", [pair_card], [pairs], ["ramp"], ["mean-relevance@1"], limit=3, keep_maps=True)
    done = export(tmp_path / "r", tmp_path / "out")
    assert (done.rows, done.maps) == (6, 3)
    values = pl.read_parquet(tmp_path / "out" / "values.parquet")
    assert values.columns == ["model", "dataset", "explainer", "metric", "sample", "value"]
    sample = values["sample"][0]
    with np.load(maps_file(tmp_path / "out", "tiny-verification-0", pairs, "ramp", sample)) as kept:
        assert sorted(kept.files) == ["dissimilarity", "similarity"]
        assert kept["similarity"].dtype == np.float32
        assert kept["similarity"].shape == (2, 32, 32)
        np.testing.assert_allclose(kept["similarity"][1, 5], np.linspace(1, 0, 32), atol=1e-6)


def test_no_maps_are_kept_unless_asked_for(registry: Registry, tmp_path: Path, pad_card: str, folder: str) -> None:
    do(registry, tmp_path / "r", [pad_card], [folder], ["ramp"], ["mean-relevance@1"], limit=3)
    assert export(tmp_path / "r", tmp_path / "out").maps == 0


def test_a_family_metric_compares_the_kept_maps_of_the_runs(
    registry: Registry, tmp_path: Path, two_runs: tuple[str, str], folder: str
) -> None:
    do(
        registry,
        tmp_path / "r",
        two_runs,
        [folder],
        ["input-x-gradient", "ramp"],
        ["agreement@1", "mean-relevance@1"],
        limit=6,
    )
    values = frame(tmp_path / "r").filter(pl.col("metric") == "agreement@1")
    assert len(values) == 24  # 2 runs × 2 explainers × 6 samples
    assert set(values.filter(pl.col("explainer") == "ramp")["value"]) == {0.0}
    sample = values["sample"][0]
    found = values.filter((pl.col("explainer") == "input-x-gradient") & (pl.col("sample") == sample))["value"].to_list()
    maps = []
    for name in ("kin-0", "kin-1"):
        with np.load(maps_file(tmp_path / "r", name, folder, "input-x-gradient", sample)) as kept:
            maps.append(kept["relevance"].astype(np.float64))
    assert found == [pytest.approx(np.abs(maps[0] - maps[1]).mean(), rel=1e-5)] * 2


def test_training_stability_runs_on_a_family_with_native_maps(
    registry: Registry, tmp_path: Path, two_runs: tuple[str, str], folder: str
) -> None:
    outcome = do(registry, tmp_path / "r", two_runs, [folder], ["grad-cam"], ["training-stability@1"], limit=4)
    assert outcome.exit_code == 0
    values = frame(tmp_path / "r").filter(pl.col("metric") == "training-stability@1")["value"].to_numpy()
    assert len(values) == 8
    assert np.all(np.abs(values) <= 1)


def test_a_family_metric_with_one_run_left_does_not_apply(
    registry: Registry, tmp_path: Path, two_runs: tuple[str, str], folder: str
) -> None:
    Path(two_runs[1]).with_name(next(Path(two_runs[1]).parent.glob("*-1.onnx")).name).write_bytes(b"gone")
    outcome = do(registry, tmp_path / "r", two_runs, [folder], ["ramp"], ["agreement@1", "mean-relevance@1"], limit=4)
    assert len(outcome.failures) == 1
    assert "kin-1" in outcome.failures[0]
    assert any("fewer than two runs" in line for line in outcome.left_out)


# --- the store


def test_a_metric_judged_on_impostor_pairs_does_not_apply_to_a_run_without_any(
    registry: Registry, tmp_path: Path, pair_card: str, pairs: str
) -> None:
    metrics = ["gap-dissimilarity-score@1", "entropy@1"]
    outcome = do(registry, tmp_path / "r", [pair_card], [pairs], ["ramp"], metrics, limit=1)
    assert [line.rpartition(": ")[2] for line in outcome.left_out] == ["no impostor pairs among the samples"]


def test_curves_are_kept_beside_the_values(registry: Registry, tmp_path: Path, pad_card: str, folder: str) -> None:
    do(registry, tmp_path / "r", [pad_card], [folder], ["ramp(slope=2)"], ["mean-relevance@1"], limit=2)
    with open_run(tmp_path / "r") as store:
        curves = store.curves(0, "mean-relevance@1", "twice")
    assert len(curves) == 2
    for curve in curves.values():
        np.testing.assert_allclose(curve, [1.0, 1.0], atol=1e-6)


def test_the_clean_accuracy_and_threshold_are_those_of_the_pairs(
    registry: Registry, tmp_path: Path, pair_card: str, pairs: str
) -> None:
    import faithface
    from faithface.card import load_card
    from faithface.model import open_model

    do(registry, tmp_path / "r", [pair_card], [pairs], ["ramp"], ["mean-relevance@1"])
    model = open_model(load_card(pair_card))
    data = registry.dataset(pairs).object
    threshold = faithface.clean_threshold(model, data)
    samples = faithface.load_samples(model, data.items(), threshold=threshold)
    right = (samples.clean.scores >= threshold).numpy() == samples.genuine
    with open_run(tmp_path / "r") as store:
        assert store.groups()[0]["threshold"] == pytest.approx(threshold, abs=1e-6)
        kept = [row["correct"] for row in store.samples(0)]
    assert np.mean(kept) == pytest.approx(right.mean(), abs=0.03)  # one pair lies on the threshold itself


def test_a_reader_cannot_write(registry: Registry, tmp_path: Path, pad_card: str, folder: str) -> None:
    do(registry, tmp_path / "r", [pad_card], [folder], ["ramp"], [MeanRelevance()], limit=2)
    with open_run(tmp_path / "r") as store, pytest.raises(sqlite3.OperationalError):
        store.put_meta("complete", False)


def test_code_that_changed_under_an_unfinished_run_is_noticed(
    registry: Registry, tmp_path: Path, pad_card: str, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Request((pad_card,), (folder,), ("ramp",), ("mean-relevance@1",))
    run_plan(make_plan(request, registry), tmp_path / "r")
    monkeypatch.setattr("faithface.run.plan.source_hash", lambda cls: "another version")
    with pytest.raises(UsageError, match="changed since"):
        run_plan(make_plan(request, registry), tmp_path / "r")


@pytest.mark.parametrize("threshold", ["", "threshold = 0.5\n"])
def test_an_unreadable_image_of_a_pair_set_is_skipped_and_never_anybodys_stranger(
    registry: Registry, tmp_path: Path, pair_card: str, threshold: str
) -> None:
    from tests.support.runs import write_pairs

    card = Path(pair_card).with_name(f"with-{bool(threshold)}.toml")
    card.write_text(Path(pair_card).read_text() + threshold)
    spec = write_pairs(tmp_path)
    (tmp_path / "crops" / "p4_1.png").write_bytes(b"\x89PNG\r\n\x1a\ntruncated")
    metrics = ["gap-similarity-score@1", "mean-relevance@1"]
    outcome = do(registry, tmp_path / "r", [str(card)], [spec], ["ramp"], metrics)
    assert outcome.exit_code == 0
    found = frame(tmp_path / "r")
    assert len(found.filter(pl.col("metric") == "mean-relevance@1")) == 36  # 45 pairs less the 9 of that image
    assert found.filter(pl.col("metric") == "gap-similarity-score@1")["value"].is_finite().all()


def test_a_full_disk_ends_the_run_with_one_line_and_loses_nothing_that_was_written(
    registry: Registry, tmp_path: Path, pair_card: str, pairs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from faithface.run.store import Store

    plan = make_plan(Request((pair_card,), (pairs,), ("ramp",), ("mean-relevance@1",)), registry)
    put = Store._put_scores

    def full_at_the_second_shard(self: Store, done: CellShard) -> None:
        put(self, done)
        if done.number == 1:
            raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "_put_scores", full_at_the_second_shard)
        with pytest.raises(RunError, match=r"run\.sqlite cannot be written \(database or disk is full\)"):
            run_plan(plan, tmp_path / "r")
    with open_run(tmp_path / "r") as store:
        assert store.done(0) == {0}
        assert len(list(store.scores(0))) == 32
    run_plan(plan, tmp_path / "r")
    assert len(frame(tmp_path / "r")) == 90
