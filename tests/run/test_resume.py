"""What a resumed run keeps and what it computes again: after a change of an input, not one value of before is left."""

from __future__ import annotations

import csv
import dataclasses
import importlib
import json
import sqlite3
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars as pl
import pytest
from PIL import Image

from faithface import hashing
from faithface.api import execute
from faithface.contract import Dataset, Explainer, FaceModel, Maps, Method, Metric, Protocol, Samples, Scores
from faithface.errors import RunError, UsageError
from faithface.plugins import Registry
from faithface.run.driver import execute_plan
from faithface.run.executors import Job
from faithface.run.executors.local import run_group
from faithface.run.export import run_values
from faithface.run.lock import RunLock
from faithface.run.plan import make_plan
from faithface.run.request import Request
from faithface.run.results import CellShard, Event
from faithface.run.store import FILE, open_run
from tests.run.test_run import Counting, Notes, frame
from tests.support.networks import faces
from tests.support.runs import SIZE, MeanRelevance, Ramp, as_maps, write_card

CHANGED = "changed since this run was started: "


@dataclass(frozen=True)
class ScoreTimesPixels(Explainer):
    """A map that depends on the pixels and on the model's output."""

    method = Method(name="score-times-pixels")

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        return as_maps(samples.images.mean(dim=1) * samples.clean.scores[:, None, None], samples)


@dataclass(frozen=True)
class InsideMask(Metric):
    """The mean of the map where the annotators looked."""

    protocol = Protocol(id="inside-mask@1", needs=frozenset({"truth"}), ground_truth=("human",))

    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        masks = np.stack([item.truth["human"]() for item in samples.items])
        return Scores({"": (maps.headline.numpy() * masks).mean(axis=(1, 2)).astype(np.float64)})


class Killed(Exception):
    """Stands for a signal: whatever is written by then is all there is."""


def cut_after(shards: int) -> Callable[[Job], Iterator[Event]]:
    """Return the local executor, ended after some shards of cells."""

    def executor(job: Job) -> Iterator[Event]:
        done = 0
        for event in run_group(job):
            yield event
            done += isinstance(event, CellShard)
            if done == shards:
                raise Killed

    return executor


def write_faces(root: Path, count: int = 18, seed: int = 0, first: int = 0) -> Path:
    """Write a folder of two classes as BMP: images of one size have files of one size."""
    for i, face in enumerate(faces(count, SIZE, seed)):
        path = root / ("attack" if i % 2 else "bona-fide") / f"im{first + i:02d}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.rint(face.read() * 255).astype(np.uint8)).save(path)
    return root


def images_of(root: Path) -> list[Path]:
    return sorted(root.rglob("*.bmp"))


@dataclass
class Case:
    """A run whose inputs lie in a folder of their own, and can be changed."""

    root: Path
    registry: Registry
    dataset: str
    explainers: tuple[Any, ...] = (ScoreTimesPixels(),)
    metrics: tuple[Any, ...] = (MeanRelevance(),)

    def plan(self, **more: Any) -> Any:
        request = Request((str(self.root / "net.toml"),), (self.dataset,), self.explainers, self.metrics, **more)
        return make_plan(request, self.registry)


@pytest.fixture
def case(registry: Registry, tmp_path: Path) -> Case:
    write_card(tmp_path, name="net")
    return Case(tmp_path, registry, f"folder:{write_faces(tmp_path / 'faces')}")


def change_the_mean_of_the_card(case: Case) -> str:
    card = case.root / "net.toml"
    card.write_text(card.read_text().replace("mean = [0.5]", "mean = [0.3]"))
    return "the card of model"


def change_an_image_of_the_same_size(case: Case) -> str:
    path = images_of(case.root / "faces")[0]
    before = path.stat()
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    assert path.stat().st_size == before.st_size
    import os

    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    return "the images and labels"


def landmarks(case: Case, shift: float) -> None:
    rows = [[path.relative_to(case.root / "faces").as_posix()] for path in images_of(case.root / "faces")]
    points = np.array([[11, 15], [21, 15], [16, 20], [12, 26], [20, 26]]) + shift
    names = [f"{p}_{axis}" for p in ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth") for axis in "xy"]
    with (case.root / "landmarks.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["image", *names], *([*row, *points.ravel()] for row in rows)])


def change_the_landmarks(case: Case) -> str:
    landmarks(case, 3.0)
    return "the images and labels"


def change_a_map_that_was_given(case: Case) -> str:
    path = min((case.root / "maps").glob("*.npz"))
    np.savez(path, relevance=np.full((SIZE, SIZE), 9, np.float32))
    return "the maps that were given"


def change_a_mask(case: Case) -> str:
    path = min((case.root / "masks").rglob("*.png"))
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    return "the masks"


def change_external_weights(case: Case) -> str:
    before = (case.root / "net.onnx").read_bytes()
    external(case, seed=1)
    assert (case.root / "net.onnx").read_bytes() == before
    return "the files of model"


def external(case: Case, seed: int) -> None:
    """Write a network whose weights lie in a file beside it."""
    card = write_card(case.root, seed=seed, name="net")
    file = next(line for line in card.read_text().splitlines() if line.startswith("file"))
    model = onnx.load(case.root / file.split('"')[1])
    (case.root / "net.onnx.data").unlink(missing_ok=True)
    onnx.save_model(
        model, case.root / "net.onnx", save_as_external_data=True, location="net.onnx.data", size_threshold=0
    )
    card.write_text(card.read_text().replace(file, 'file = "net.onnx"'))


def with_landmarks(case: Case) -> None:
    landmarks(case, 0.0)
    case.dataset += f"(landmarks={case.root / 'landmarks.csv'},size={SIZE})"


def with_maps(case: Case) -> None:
    (case.root / "maps").mkdir()
    for i, path in enumerate(images_of(case.root / "faces")):
        relevance = np.full((SIZE, SIZE), i, np.float32)
        np.savez(case.root / "maps" / f"{path.parent.name}--{path.stem}.npz", relevance=relevance)
    case.explainers = (f"maps:{case.root / 'maps'}",)


def with_masks(case: Case) -> None:
    for path in images_of(case.root / "faces"):
        target = case.root / "masks" / path.parent.name / f"{path.stem}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        half = np.zeros((SIZE, SIZE), np.uint8)
        half[: SIZE // 2] = 255
        Image.fromarray(half).save(target)
    case.dataset += f"(human={case.root / 'masks'})"
    case.metrics = (InsideMask(),)


CHANGES: list[tuple[Callable[[Case], Any] | None, Callable[[Case], str]]] = [
    (None, change_the_mean_of_the_card),
    (None, change_an_image_of_the_same_size),
    (with_landmarks, change_the_landmarks),
    (with_maps, change_a_map_that_was_given),
    (with_masks, change_a_mask),
    (lambda case: external(case, seed=0), change_external_weights),
]


@pytest.mark.parametrize(("ready", "change"), CHANGES, ids=[change.__name__ for _ready, change in CHANGES])
def test_no_value_of_before_is_left_when_an_input_changes_between_kill_and_resume(
    case: Case, ready: Callable[[Case], Any] | None, change: Callable[[Case], str]
) -> None:
    if ready is not None:
        ready(case)
    with pytest.raises(Killed):
        execute_plan(case.plan(), case.root / "r", executor=cut_after(1))
    before = frame(case.root / "r")
    assert len(before) > 0
    what = change(case)
    notes = Notes()
    assert execute_plan(case.plan(), case.root / "r", notes).exit_code == 0
    execute_plan(case.plan(), case.root / "fresh")
    assert frame(case.root / "r").equals(frame(case.root / "fresh"))
    after = frame(case.root / "r").join(before, on=["explainer", "metric", "sample"])
    assert (after["value"] != after["value_right"]).any()  # the change does move numbers
    assert any(line.startswith(CHANGED) and what in line for line in notes.told), notes.told


def test_only_the_shards_that_a_change_touches_are_computed_again(case: Case) -> None:
    execute_plan(case.plan(), case.root / "r")
    change_an_image_of_the_same_size(case)
    counting, notes = Counting(), Notes()
    execute_plan(case.plan(), case.root / "r", notes, counting)
    with open_run(case.root / "r") as store:
        touched = [n for n, ids in store.shards(0).items() if "attack--im01" in ids]
    assert counting.shards == [(0, n) for n in touched]
    assert notes.told == [f"{CHANGED}the images and labels; computed again: 1 of 2 shards"]


def others_mean(_model: FaceModel, dataset: Dataset) -> float:
    return float(np.mean([face.read().mean() for item in dataset.items() for face in item.faces]))


@dataclass(frozen=True)
class BesideOthers(Metric):
    """The map's mean, beside that of the pixels of all samples of the dataset, which the model's cache shares."""

    name: str = "a"

    protocol = Protocol(id="beside-others@1", range=(-1e9, 1e9))

    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        assert samples.dataset is not None
        shared = model.cached(others_mean, samples.dataset)
        return Scores({"": maps.headline.flatten(1).mean(dim=1).numpy().astype(np.float64) - shared})


def test_what_reads_other_samples_depends_on_them(case: Case) -> None:
    # Both read the others, the second one by way of the cache; the third one does not.
    beside = (BesideOthers(), BesideOthers("b"))
    case = dataclasses.replace(case, metrics=(*beside, MeanRelevance()))
    execute_plan(case.plan(), case.root / "r")
    before = frame(case.root / "r")
    change_an_image_of_the_same_size(case)
    execute_plan(case.plan(), case.root / "r", notes := Notes())
    execute_plan(case.plan(), case.root / "fresh")
    assert frame(case.root / "r").equals(frame(case.root / "fresh"))
    both = frame(case.root / "r").join(before, on=["explainer", "metric", "sample"])
    moved = both.filter(pl.col("value") != pl.col("value_right")).group_by("metric").len()
    count = dict(moved.iter_rows())
    assert count["beside-others@1"] == count["beside-others@1(name=b)"] == 18
    assert count["mean-relevance@1"] == 1  # of the changed image
    assert notes.told == [
        f"{CHANGED}the images and labels, the whole set (decision threshold, strangers); computed again: 2 of 2 shards"
    ]


def test_another_package_version_computes_all_again_and_a_bug_fix_release_nothing(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    from faithface.run import inputs

    real = inputs.version_of
    execute_plan(case.plan(), case.root / "r")
    for version, shards in ((f"{real('numpy')}.1", 0), ("99.1.0", 2)):
        monkeypatch.setattr(inputs, "version_of", lambda name, v=version: v if name == "numpy" else real(name))
        counting, notes = Counting(), Notes()
        execute_plan(case.plan(), case.root / "r", notes, counting)
        assert len(counting.shards) == shards
        assert [line for line in notes.told if "package numpy" in line] == notes.told
        assert len(notes.told) == bool(shards)


def test_a_helper_module_of_a_plugin_that_changes_between_kill_and_resume(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = case.root / "helped_plugin"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "method.py").write_text(
        "from dataclasses import dataclass\n"
        "from faithface.contract import Explainer, Method\n"
        "from helped_plugin.helper import FACTOR\n"
        "from tests.support.runs import Ramp\n\n"
        "@dataclass(frozen=True)\n"
        "class Helped(Explainer):\n"
        "    method = Method(name='helped')\n"
        "    def explain(self, model, samples):\n"
        "        return Ramp(FACTOR).explain(model, samples)\n"
    )
    monkeypatch.syspath_prepend(str(case.root))

    def loaded(factor: float) -> None:
        (package / "helper.py").write_text(f"FACTOR = {factor}\n")
        for name in [name for name in sys.modules if name.startswith("helped_plugin")]:
            del sys.modules[name]
        for cached in (hashing._fingerprint, hashing.installed):  # a new process begins without these
            cached.cache_clear()
        importlib.invalidate_caches()
        sys.dont_write_bytecode = True
        case.explainers = (importlib.import_module("helped_plugin.method").Helped(),)

    loaded(1.0)
    with pytest.raises(Killed):
        execute_plan(case.plan(), case.root / "r", executor=cut_after(1))
    loaded(2.0)
    notes = Notes()
    execute_plan(case.plan(), case.root / "r", notes)
    values = frame(case.root / "r").filter(pl.col("metric") == "mean-relevance@1")["value"].to_list()
    assert values == [pytest.approx(1.0)] * 18
    assert notes.told == [f'{CHANGED}explainer "helped"; computed again: 1 of 2 shards']


# --- changed commands


def test_an_explainer_a_metric_and_samples_are_added_to_a_run_and_only_they_are_computed(case: Case) -> None:
    whole = dataclasses.replace(
        case, explainers=(ScoreTimesPixels(), Ramp(), Ramp(2.0)), metrics=(MeanRelevance(), "entropy@1")
    )
    case.explainers = (ScoreTimesPixels(), Ramp())
    execute_plan(case.plan(limit=4), case.root / "r")

    def extend(**more: Any) -> list[tuple[int, int]]:
        counting, notes = Counting(), Notes()
        assert execute_plan(case.plan(**more), case.root / "r", notes, counting).exit_code == 0
        assert notes.told == []
        return counting.shards

    case.explainers = (ScoreTimesPixels(), Ramp(2.0), Ramp())
    assert extend(limit=4) == [(2, 0)]
    case.explainers = (ScoreTimesPixels(), Ramp(), Ramp(2.0))
    with_old = frame(case.root / "r")
    assert len(with_old) == 3 * 4 * 2
    case.metrics = (MeanRelevance(), "entropy@1")
    assert extend(limit=4) == [(0, 0), (1, 0), (2, 0)]
    assert sorted(extend()) == [(0, 1), (1, 1), (2, 1)]  # 14 more samples
    assert extend() == []
    execute_plan(whole.plan(), case.root / "fresh")
    found, fresh = frame(case.root / "r"), frame(case.root / "fresh")
    assert found.drop("value").equals(fresh.drop("value"))
    np.testing.assert_allclose(found["value"].to_numpy(), fresh["value"].to_numpy(), rtol=1e-5)


def test_a_metric_that_is_added_is_scored_without_touching_the_values_that_are_there(case: Case) -> None:
    execute_plan(case.plan(), case.root / "r")
    with sqlite3.connect(case.root / "r" / FILE) as db:
        before = db.execute("SELECT * FROM done WHERE metric = 'mean-relevance@1'").fetchall()
    case.metrics = (MeanRelevance(), "entropy@1")
    execute_plan(case.plan(), case.root / "r")
    with sqlite3.connect(case.root / "r" / FILE) as db:
        assert db.execute("SELECT * FROM done WHERE metric = 'mean-relevance@1'").fetchall() == before
        assert db.execute("SELECT COUNT(*) FROM scores WHERE metric = 'entropy@1'").fetchone() == (18,)


def test_a_smaller_limit_keeps_the_samples_that_are_there_and_says_so(case: Case) -> None:
    execute_plan(case.plan(limit=6), case.root / "r")
    notes = Notes()
    execute_plan(case.plan(limit=2), case.root / "r", notes)
    assert notes.told == ["the run has 6 samples per dataset already; --limit 2 is not used"]
    assert len(frame(case.root / "r")["sample"].unique()) == 6


def test_other_parameters_are_other_cells_and_the_records_of_both_are_kept(case: Case) -> None:
    for slope in (1.0, 3.0):
        case.explainers = (Ramp(slope),)
        execute(case.plan(), case.root / "r")
    records = sorted((case.root / "r" / "records").rglob("*.json"))
    assert [json.loads(path.read_text())["explainer"]["spec"] for path in records] == ["ramp(slope=3.0)", "ramp"]
    assert len(frame(case.root / "r")) == 2 * 2 * 18


def test_a_metric_that_a_later_command_does_not_name_stays_in_the_record(case: Case) -> None:
    execute(case.plan(), case.root / "r")
    case.metrics = ("entropy@1",)
    _outcome, (kept,) = execute(case.plan(), case.root / "r")
    assert [(one.protocol, one.n) for one in kept.record.numbers] == [
        ("entropy@1", 18), ("mean-relevance@1", 18), ("mean-relevance@1", 18),
    ]  # fmt: skip
    assert set(kept.values["protocol"]) == {"entropy@1", "mean-relevance@1"}


def test_a_cell_that_the_command_does_not_name_is_removed_when_the_model_has_changed(case: Case) -> None:
    execute(case.plan(), case.root / "r")
    case.explainers = (Ramp(),)
    change_the_mean_of_the_card(case)
    notes = Notes()
    execute(case.plan(), case.root / "r", notes)
    assert any(line.startswith("removed, since what they depend on has changed: net / ") for line in notes.told)
    assert frame(case.root / "r")["explainer"].unique().to_list() == ["ramp"]
    assert len(list((case.root / "r" / "records").rglob("*.json"))) == 1


# --- damage, and one writer


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE scores SET value = value + 1 WHERE sample = (SELECT MIN(sample) FROM scores)",
        "DELETE FROM scores WHERE sample = (SELECT MIN(sample) FROM scores)",
        "UPDATE curves SET points = x'00' WHERE sample = (SELECT MIN(sample) FROM curves)",
        "INSERT INTO invalid VALUES (0, 0, 'attack--im01', 'undefined', 'not so')",
        "UPDATE samples SET facts = REPLACE(facts, 'units', 'unite') WHERE position = 0",
        "UPDATE samples SET sample = 'somebody' WHERE position = 0",
    ],
)
def test_rows_that_are_not_as_they_were_written_are_found_and_computed_again(case: Case, harm: str) -> None:
    execute_plan(case.plan(), case.root / "r")
    before = frame(case.root / "r")
    with sqlite3.connect(case.root / "r" / FILE) as db:
        assert db.execute(harm).rowcount > 0
    notes = Notes()
    execute_plan(case.plan(), case.root / "r", notes)
    assert notes.told == ["damaged in the store, and computed again: 1 of 2 shards"]
    assert frame(case.root / "r").equals(before)
    with open_run(case.root / "r") as store:
        assert len(store.samples(0)) == 18
        assert all("units" in facts for facts in store.samples(0))


def test_values_under_the_name_of_another_explainer_are_found(case: Case) -> None:
    execute_plan(case.plan(), case.root / "r")
    with sqlite3.connect(case.root / "r" / FILE) as db:
        assert db.execute("UPDATE cells SET explainer = 'ramp'").rowcount == 1
    case.explainers = (Ramp(),)
    notes = Notes()
    execute_plan(case.plan(), case.root / "r", notes)
    execute_plan(case.plan(), case.root / "fresh")
    assert frame(case.root / "r").equals(frame(case.root / "fresh"))


def test_a_threshold_that_is_not_as_it_was_written_is_found_again(case: Case) -> None:
    execute_plan(case.plan(), case.root / "r")
    with sqlite3.connect(case.root / "r" / FILE) as db:
        assert db.execute("UPDATE groups SET threshold = 0.25").rowcount == 1
    case.explainers = (*case.explainers, Ramp())
    execute_plan(case.plan(), case.root / "r")
    with open_run(case.root / "r") as store:
        assert store.group(0)["threshold"] is None


def test_a_store_with_a_torn_page_is_one_line_and_nothing_is_reused(case: Case) -> None:
    execute_plan(case.plan(), case.root / "r")
    path = case.root / "r" / FILE
    content = bytearray(path.read_bytes())
    content[4096 : len(content)] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"run\.sqlite is damaged .* remove it to start the run afresh"):
        execute_plan(case.plan(), case.root / "r")
    path.unlink()
    (case.root / "r" / "thesis.txt").write_text("")
    with pytest.raises(UsageError, match="is not a run directory"):
        execute_plan(case.plan(), case.root / "r")


def test_a_second_writer_is_told_who_holds_the_run(case: Case) -> None:
    import os

    execute_plan(case.plan(), case.root / "r")
    lock = RunLock(case.root / "r")
    try:
        with pytest.raises(RunError, match=rf"is being written by process {os.getpid()} on .* since \d{{4}}-"):
            execute_plan(case.plan(), case.root / "r")
    finally:
        lock.release()
    execute_plan(case.plan(), case.root / "r")
    assert (case.root / "r" / "run.lock").read_text() == ""  # no name of a machine is left


def test_a_directory_in_which_a_run_was_killed_before_its_store_was_there_is_used(case: Case) -> None:
    (case.root / "r").mkdir()
    for name in ("run.lock", "run.sqlite.new", "run.sqlite.new-journal"):
        (case.root / "r" / name).write_bytes(b"torn")
    (case.root / "r" / FILE).write_bytes(b"")
    execute_plan(case.plan(), case.root / "r")
    assert len(frame(case.root / "r")) == 36


def test_a_store_of_schema_2_is_read_after_the_same_command_and_its_values_are_computed_again(case: Case) -> None:
    (case.root / "r").mkdir()
    with sqlite3.connect(case.root / "r" / FILE) as db:
        db.executescript((Path(__file__).parent / "schema2.sql").read_text().replace("DATASET", case.dataset))
    with pytest.raises(UsageError, match=r"older version of faithface .* bring it up to date"):
        open_run(case.root / "r")
    notes = Notes()
    execute_plan(case.plan(), case.root / "r", notes)
    execute_plan(case.plan(), case.root / "fresh")
    assert frame(case.root / "r").equals(frame(case.root / "fresh"))
    with open_run(case.root / "r") as store:
        assert run_values(store)["value"].max() < 1000


def test_an_image_that_is_replaced_while_the_run_is_at_work_is_computed_again_by_the_next(case: Case) -> None:
    def meddling(job: Job) -> Iterator[Event]:
        """The local executor; every image is replaced after the first was read, and before anything is written."""
        for i, event in enumerate(run_group(job)):
            for path in images_of(case.root / "faces") if i == 0 else ():
                Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
            yield event

    execute_plan(case.plan(), case.root / "r", executor=meddling)
    notes = Notes()
    execute_plan(case.plan(), case.root / "r", notes)
    assert notes.told == [f"{CHANGED}the images and labels; computed again: 2 of 2 shards"]
    execute_plan(case.plan(), case.root / "fresh")
    assert frame(case.root / "r").equals(frame(case.root / "fresh"))
