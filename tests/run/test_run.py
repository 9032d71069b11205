"""Runs from beginning to end on a tiny network: values, resume, batches, failures, maps, families."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from faithface.contract import Scores
from faithface.errors import RunError, UsageError
from faithface.plugins import Registry
from faithface.reasons import Reason, ReasonCode, Status
from faithface.run.driver import Silent, execute_plan
from faithface.run.executors import Job
from faithface.run.executors.local import run_group
from faithface.run.export import export, run_values
from faithface.run.paths import maps_file
from faithface.run.plan import Cell, Plan, make_plan
from faithface.run.request import Request
from faithface.run.results import CellShard, Event
from faithface.run.store import FILE, create_or_resume, open_run
from tests.support.runs import Fails, FailsToScore, Interrupts, MeanRelevance, Ramp, place


class Notes(Silent):
    """A reporter that keeps the notes."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def note(self, text: str) -> None:
        self.told.append(text)


class Counting:
    """The local executor, which keeps what each shard was of."""

    def __init__(self) -> None:
        self.shards: list[tuple[int, int]] = []

    def __call__(self, job: Job, /) -> Iterator[Event]:
        for event in run_group(job):
            if isinstance(event, CellShard):
                self.shards.append((event.cell, event.number))
            yield event


def do(registry: Registry, out: Path, models: Any, datasets: Any, explainers: Any, metrics: Any, **more: Any) -> Any:
    plan = make_plan(Request(tuple(models), tuple(datasets), tuple(explainers), tuple(metrics), **more), registry)
    return execute_plan(plan, out)


def frame(out: Path) -> pl.DataFrame:
    with open_run(out) as store:
        return run_values(store).sort("model", "dataset", "explainer", "metric", "sample")


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
def test_an_interrupted_run_is_resumed_and_gives_the_numbers_of_an_uninterrupted_one(
    registry: Registry, tmp_path: Path, pair_card: str, pairs: str, at: int
) -> None:
    def plan(explainer: Any) -> Any:
        return make_plan(Request((pair_card,), (pairs,), ("random", explainer), ("entropy@1",)), registry)

    with pytest.raises(KeyboardInterrupt):
        execute_plan(plan(Interrupts(at)), tmp_path / "cut")
    with open_run(tmp_path / "cut") as store:
        assert not store.meta("complete")
        finished = {row["explainer"]: len(store.done(row["id"])) for row in store.cells()}
    assert finished == {"random": at, "interrupts": at - 1}  # 45 pairs are three shards

    counting = Counting()
    whole = plan(Interrupts(10**6))
    execute_plan(whole, tmp_path / "cut", executor=counting)
    assert len(counting.shards) == 6 - at - (at - 1)  # only what was missing
    execute_plan(whole, tmp_path / "whole")
    assert frame(tmp_path / "cut").equals(frame(tmp_path / "whole"))


def test_a_finished_run_is_not_done_again(registry: Registry, tmp_path: Path, pad_card: str, folder: str) -> None:
    plan = make_plan(Request((pad_card,), (folder,), ("ramp",), ("mean-relevance@1",)), registry)
    execute_plan(plan, tmp_path / "r")

    def never(job: Job) -> Any:
        raise AssertionError("there is nothing to do")

    assert execute_plan(plan, tmp_path / "r", executor=never).exit_code == 0


def test_a_shard_is_written_whole_or_not_at_all(
    registry: Registry, tmp_path: Path, pad_card: str, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from faithface.run import store as store_module

    plan = make_plan(Request((pad_card,), (folder,), ("ramp",), ("mean-relevance@1",)), registry)

    def torn(points: np.ndarray) -> bytes:
        raise KeyboardInterrupt  # after the values of the shard, before its curves

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "pack", torn)
        with pytest.raises(KeyboardInterrupt):
            execute_plan(plan, tmp_path / "r")
    assert len(frame(tmp_path / "r")) == 0
    execute_plan(plan, tmp_path / "r")
    assert len(frame(tmp_path / "r")) == 40


@pytest.mark.parametrize(
    ("more", "words"), [({"seed": 3}, "holds a run with seed 0, not 3"), ({"seed": 0}, None)], ids=["other", "same"]
)
def test_only_another_seed_is_refused_in_the_same_directory_and_named(
    registry: Registry, tmp_path: Path, pad_card: str, folder: str, more: dict[str, int], words: str | None
) -> None:
    do(registry, tmp_path / "r", [pad_card], [folder], ["ramp"], ["mean-relevance@1"], limit=2)
    if words is None:
        do(registry, tmp_path / "r", [pad_card], [folder], ["random"], ["entropy@1"], limit=4, **more)
    else:
        with pytest.raises(UsageError, match=words):
            do(registry, tmp_path / "r", [pad_card], [folder], ["ramp"], ["mean-relevance@1"], limit=2, **more)


def test_a_directory_that_is_not_a_run_is_left_alone(
    registry: Registry, tmp_path: Path, pad_card: str, folder: str
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="is not a run directory"):
        do(registry, tmp_path, [pad_card], [folder], ["ramp"], ["mean-relevance@1"])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / FILE).write_text("not a database")
    with pytest.raises(RunError, match=r"is damaged .* remove it"):
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
    explainers = ["grad-cam", "rise(masks=20)", "random"]
    metrics = [
        "gap-similarity-score@1(grid=8)",
        "gap-dissimilarity-score@1(grid=8)",
        "gap-similarity-score@1",
        "entropy@1",
    ]
    for size in (batch, 32):
        do(registry, tmp_path / str(size), [pair_card], [pairs], explainers, metrics, limit=18, batch_size=size)
    one, many = frame(tmp_path / str(batch)), frame(tmp_path / "32")
    assert one.drop("value").equals(many.drop("value"))
    # Two batches' maps of a network differ by a rounding, by which nearly tied pixels change places; random's do not.
    swapped = ((one["metric"] == "gap-similarity-score@1") & (one["explainer"] != "random")).to_numpy()
    a, b = one["value"].to_numpy(), many["value"].to_numpy()
    np.testing.assert_allclose(a[~swapped], b[~swapped], atol=1e-4)
    np.testing.assert_allclose(a[swapped], b[swapped], atol=5e-4)


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

WHOLE = "relevance map holds values that are not finite"


@pytest.mark.parametrize(
    ("way", "code", "words"),
    [
        (
            "raise",
            ReasonCode.EXPLAINER_RAISED,
            f"explainer raised ZeroDivisionError: a mistake ({place(Fails.explain, 'ZeroDivisionError')})",
        ),
        ("nan", ReasonCode.NON_FINITE_MAP, "no map could be scored: explainer returned NaN"),
        (
            "shape",
            ReasonCode.EXPLAINER_RETURNED,
            "explainer returned relevance of shape (16, 32, 31); expected (16, 32, 32)",
        ),
        ("dtype", ReasonCode.EXPLAINER_RETURNED, "explainer returned relevance as float64; expected float32"),
        ("nothing", ReasonCode.EXPLAINER_RETURNED, "explainer returned nothing (None); expected Maps"),
        (
            "numpy",
            ReasonCode.EXPLAINER_RETURNED,
            "explainer returned relevance as numpy.ndarray; expected a torch tensor: torch.from_numpy(…)",
        ),
        ("list", ReasonCode.EXPLAINER_RETURNED, "explainer returned relevance as list; expected a torch tensor"),
        (
            "gradient",
            ReasonCode.EXPLAINER_RETURNED,
            "explainer returned relevance with its gradient attached; expected a plain tensor: relevance.detach()",
        ),
    ],
)
def test_an_explainer_that_misbehaves_fails_its_cell_and_nothing_else(
    registry: Registry, tmp_path: Path, pad_card: str, folder: str, way: str, code: ReasonCode, words: str
) -> None:
    outcome = do(registry, tmp_path / "r", [pad_card], [folder], [Fails(way), "ramp"], ["mean-relevance@1"])
    assert outcome.exit_code == 1
    assert len(outcome.failures) == 1
    found = {row["status"]: row for row in cells(tmp_path / "r").values()}
    assert set(found) == {"failed", "ok"}
    reason = found["failed"]["reason"]
    assert reason.code is code
    assert words in reason.detail
    assert "\n" not in reason.detail
    assert frame(tmp_path / "r")["explainer"].unique().to_list() == ["ramp"]
    assert len(frame(tmp_path / "r")) == 40


def test_a_sample_with_an_invalid_map_has_no_value_and_a_reason_while_the_others_are_scored(
    registry: Registry, tmp_path: Path, pad_card: str, folder: str
) -> None:
    outcome = do(registry, tmp_path / "r", [pad_card], [folder], [Fails("one nan")], ["mean-relevance@1"])
    assert outcome.exit_code == 1
    assert "2 invalid maps (values that are not finite)" in outcome.failures[0]  # the first of each of the two shards
    values = frame(tmp_path / "r").filter(pl.col("metric") == "mean-relevance@1")
    assert values["value"].is_nan().sum() == 2
    assert len(values) == 20
    with open_run(tmp_path / "r") as store:
        reasons = {(row["code"], row["detail"]) for row in store.scores(0) if row["value"] is None}
        assert set(store.invalid(0).values()) == {Reason(ReasonCode.NON_FINITE_MAP, WHOLE)}
    assert reasons == {("non-finite-map", WHOLE)}


def test_a_metric_that_raises_fails_alone(registry: Registry, tmp_path: Path, pad_card: str, folder: str) -> None:
    outcome = do(registry, tmp_path / "r", [pad_card], [folder], ["ramp"], ["fails-to-score@1", "mean-relevance@1"])
    assert outcome.failures == [
        f"tiny-pad-0 / {folder} / ramp / fails-to-score@1: metric raised RuntimeError: no score today "
        f"({place(FailsToScore.score, 'no score today')})"
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
    assert execute_plan(plan, tmp_path / "r").exit_code == 1
    mended.append(True)
    assert execute_plan(plan, tmp_path / "r").exit_code == 0
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
    with pytest.raises(UsageError, match="cuda was requested"):
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
    assert execute_plan(plan, tmp_path / "r", Listener()).exit_code == 0
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
    assert values.columns[:7] == ["model", "dataset", "explainer", "metric", "value_name", "sample", "value"]
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
    assert any("fewer than two runs" in line for line in outcome.not_applicable)


# --- the store


def test_a_metric_judged_on_impostor_pairs_does_not_apply_to_a_run_without_any(
    registry: Registry, tmp_path: Path, pair_card: str, pairs: str
) -> None:
    metrics = ["gap-dissimilarity-score@1", "entropy@1"]
    outcome = do(registry, tmp_path / "r", [pair_card], [pairs], ["ramp"], metrics, limit=1)
    assert [line.rpartition(": ")[2] for line in outcome.not_applicable] == ["no impostor pairs among the samples"]


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
    # The pair that set the threshold lies on it: protocol rule 4 accepts what is at most 1e-5 below.
    right = (samples.clean.scores >= threshold - 1e-5).numpy() == samples.genuine
    with open_run(tmp_path / "r") as store:
        assert store.groups()[0]["threshold"] == pytest.approx(threshold, abs=1e-6)
        kept = [row["correct"] for row in store.samples(0)]
    assert np.mean(kept) == right.mean()


def test_a_reader_cannot_write(registry: Registry, tmp_path: Path, pad_card: str, folder: str) -> None:
    do(registry, tmp_path / "r", [pad_card], [folder], ["ramp"], [MeanRelevance()], limit=2)
    with open_run(tmp_path / "r") as store, pytest.raises(RunError, match="readonly"):
        store.put_meta("complete", False)


def with_cell_code(plan: Plan, number: int, what: str) -> Plan:
    """The plan as if the code of one part of one cell were another."""

    def edited(cell: Cell) -> Cell:
        changed = {**cell.fingerprint, what: "another"} if cell.number == number else cell.fingerprint
        assert what in cell.fingerprint or cell.number != number
        return dataclasses.replace(cell, fingerprint=changed)

    groups = (dataclasses.replace(g, cells=tuple(edited(cell) for cell in g.cells)) for g in plan.groups)
    return dataclasses.replace(plan, groups=tuple(groups))


def test_cells_whose_code_changed_are_computed_again_and_no_others(
    registry: Registry, tmp_path: Path, pad_card: str, folder: str
) -> None:
    plan = make_plan(Request((pad_card,), (folder,), ("ramp", "random"), ("mean-relevance@1",)), registry)
    execute_plan(plan, tmp_path / "r")
    before = frame(tmp_path / "r")
    first, second, third = Counting(), Counting(), Counting()
    execute_plan(make_plan(plan.request, registry), tmp_path / "r", executor=first)
    assert first.shards == []
    notes = Notes()
    changed = with_cell_code(plan, 1, 'metric "mean-relevance@1"')
    execute_plan(changed, tmp_path / "r", notes, second)
    assert second.shards == [(1, 0), (1, 1)]
    assert notes.told == [
        'changed since this run was started: metric "mean-relevance@1"; computed again: 2 of 4 shards'
    ]
    execute_plan(changed, tmp_path / "r", notes, third)
    assert third.shards == []
    assert frame(tmp_path / "r").equals(before)


def test_a_card_that_changed_is_opened_again_and_its_cells_computed_again(
    registry: Registry, tmp_path: Path, pair_card: str, pairs: str
) -> None:
    card = Path(pair_card).with_name("edited.toml")
    card.write_text(Path(pair_card).read_text())
    request = Request((str(card),), (pairs,), ("ramp",), ("mean-relevance@1",))
    execute_plan(make_plan(request, registry), tmp_path / "r")
    card.write_text(Path(pair_card).read_text() + "threshold = 0.125\n")
    notes = Notes()
    execute_plan(make_plan(request, registry), tmp_path / "r", notes)
    assert any("the card of model" in line for line in notes.told)
    with open_run(tmp_path / "r") as store:
        assert store.groups()[0]["threshold"] == 0.125
        assert len(store.samples(0)) == 45
        kept = {row["sample"]: (row["score"] >= 0.125) == row["same"] for row in store.samples(0)}
        assert {row["sample"]: row["correct"] for row in store.samples(0)} == kept


def test_a_family_metric_is_scored_again_when_one_run_of_it_is(
    registry: Registry, tmp_path: Path, two_runs: tuple[str, str], folder: str
) -> None:
    request = Request(two_runs, (folder,), ("ramp",), ("agreement@1", "mean-relevance@1"), limit=4)
    plan = make_plan(request, registry)
    execute_plan(plan, tmp_path / "r")
    with open_run(tmp_path / "r") as store:
        store_path = store.path
    with sqlite3.connect(store_path) as db:  # what the first run of the pair would have given with other maps
        db.execute("UPDATE scores SET value = 7 WHERE metric = 'agreement@1'")
    execute_plan(with_cell_code(plan, 1, 'explainer "ramp"'), tmp_path / "r")
    values = frame(tmp_path / "r").filter(pl.col("metric") == "agreement@1")["value"].to_list()
    assert values == [0.0] * 8


def test_a_failed_run_of_a_family_that_works_now_gives_the_family_its_metric(
    registry: Registry, tmp_path: Path, two_runs: tuple[str, str], folder: str
) -> None:
    class Fixed(Fails):
        def explain(self, model: Any, samples: Any) -> Any:
            works = fixed or model.card.name == "kin-0"
            return Ramp().explain(model, samples) if works else super().explain(model, samples)

    fixed: list[bool] = []
    plan = make_plan(Request(two_runs, (folder,), (Fixed(),), ("agreement@1",), limit=4), registry)
    assert execute_plan(plan, tmp_path / "r").exit_code == 1
    fixed.append(True)
    outcome = execute_plan(plan, tmp_path / "r")
    assert (outcome.exit_code, outcome.not_applicable) == (0, [])
    assert frame(tmp_path / "r")["value"].to_list() == [0.0] * 8


@pytest.mark.parametrize(
    "given", ["the score is non-finite", Reason(ReasonCode.NON_FINITE_MAP, "relevance map holds non-finite values")]
)
def test_what_a_metric_says_of_its_values_never_fails_the_explainer(
    registry: Registry, tmp_path: Path, pad_card: str, folder: str, given: str | Reason
) -> None:
    class NoValue(MeanRelevance):
        def score(self, model: Any, samples: Any, maps: Any, explainer: Any = None) -> Scores:
            nothing = np.full(len(samples), np.nan)
            return Scores({"": nothing, "double": nothing}, dict.fromkeys(range(len(samples)), given))

    outcome = do(registry, tmp_path / "r", [pad_card], [folder], ["ramp"], [NoValue()])
    assert (outcome.exit_code, outcome.failures) == (0, [])
    assert cells(tmp_path / "r")["ramp"]["status"] is Status.OK
    with open_run(tmp_path / "r") as store:
        assert store.invalid(0) == {}
        wanted = given if isinstance(given, Reason) else Reason(ReasonCode.UNDEFINED, given)
        assert {(row["code"], row["detail"]) for row in store.scores(0)} == {(wanted.code.value, wanted.detail)}


def test_maps_that_are_all_invalid_fail_the_cell_though_no_metric_is_judged_on_them(
    registry: Registry, tmp_path: Path, pair_card: str, pairs: str
) -> None:
    metrics = ["gap-dissimilarity-score@1"]  # judged on impostor pairs; the one sample is a genuine pair
    outcome = do(registry, tmp_path / "r", [pair_card], [pairs], [Fails("nan")], metrics, limit=1)
    assert outcome.exit_code == 1
    reason = cells(tmp_path / "r")["fails(way=nan)"]["reason"]
    assert reason.code is ReasonCode.NON_FINITE_MAP


def test_statuses_and_reasons_come_back_from_the_store_as_they_went_in(tmp_path: Path) -> None:
    with create_or_resume(tmp_path / "r", {"a": 1}) as store:
        store.add_group(0, "net", "faces")
        for number, status in enumerate(Status):
            reason = None if status is Status.OK else Reason(list(ReasonCode)[number], f"detail {number}: non-finite")
            store.add_cell(number, 0, f"ramp {number}", status, reason)
            store.add_metric(number, "m@1", 0, status, reason)
            row = store.cells()[number]
            for found in (row, row["metrics"][0]):
                assert found["status"] is status
                assert found["reason"] == reason
        for code in ReasonCode:
            store.set_cell(0, Status.FAILED, Reason(code, "x"))
            assert store.cells()[0]["reason"] == Reason(code, "x")


def test_a_store_of_another_version_is_refused_in_one_line(tmp_path: Path) -> None:
    create_or_resume(tmp_path / "r", {"a": 1}).close()
    with sqlite3.connect(tmp_path / "r" / FILE) as db:
        db.execute("UPDATE meta SET value = '1' WHERE key = 'schema'")
    words = (
        r"run\.sqlite was written by another version of faithface \(store schema 1; this one reads 3\); run it again"
    )
    with pytest.raises(UsageError, match=words) as caught:
        open_run(tmp_path / "r")
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match=words):
        create_or_resume(tmp_path / "r", {"a": 1})


def test_reading_a_run_loads_no_model_code() -> None:
    """The modules that readers import, without the package's façade, which is the command line's business."""
    import subprocess
    import sys

    code = (
        "import sys, types, importlib.util as u; p = types.ModuleType('faithface'); "
        "p.__path__ = list(u.find_spec('faithface').submodule_search_locations); sys.modules['faithface'] = p; "
        "import faithface.run.store, faithface.run.outcome, faithface.run.export, faithface.run.plan, "
        "faithface.run.driver, faithface.run.environment, faithface.run.not_applicable, faithface.hashing; "
        "print(sorted({'torch', 'onnxruntime', 'onnx', 'matplotlib', 'ray'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


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

    def full_at_the_second_shard(self: Store, done: CellShard, metric: str) -> Any:
        rows = put(self, done, metric)
        if done.number == 1:
            raise sqlite3.OperationalError("database or disk is full")
        return rows

    with monkeypatch.context() as patch:
        patch.setattr(Store, "_put_scores", full_at_the_second_shard)
        with pytest.raises(RunError, match=r"run\.sqlite cannot be written \(database or disk is full\)"):
            execute_plan(plan, tmp_path / "r")
    with open_run(tmp_path / "r") as store:
        assert store.done(0) == {0}
        assert len(list(store.scores(0))) == 32
    execute_plan(plan, tmp_path / "r")
    assert len(frame(tmp_path / "r")) == 90
