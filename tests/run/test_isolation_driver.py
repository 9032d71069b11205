"""The driver runs no plugin: datasets are listed, and metrics of several runs scored, where they can do no harm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from faithface.api import execute
from faithface.boards.record import read_record
from faithface.errors import UsageError
from faithface.plugins import Registry, load_registry
from faithface.reasons import Status
from faithface.run.executors.processes import ProcessExecutor
from faithface.run.listed import Listed, not_here
from faithface.run.listing import lister
from faithface.run.plan import Plan, make_plan
from faithface.run.request import Request
from faithface.run.store import open_run
from tests.run.test_isolation import Ran, named
from tests.support.runs import Agreement, MeanRelevance, Ramp, with_extras, write_card
from tests.support.zoo import FAMILY, LISTS, SUMMARIES, BadDataset, BadFamily, BadSummary

SHORT = 40.0  # seconds for a step: the machine may be busy
LITTLE = 1_200_000_000  # bytes, which a plugin that takes memory without end has soon


@pytest.fixture(scope="module")
def registry() -> Registry:
    return with_extras(load_registry(), Ramp(), MeanRelevance(), Agreement(), BadFamily())


def plan_of(asked: Request, registry: Registry) -> Plan:
    """Make a plan as the command line does, with datasets listed in a worker."""
    pool = ProcessExecutor(timeout=SHORT, memory=LITTLE, retries=1)
    try:
        return make_plan(asked, registry, lister(pool))
    finally:
        pool.close()


@pytest.fixture(scope="module")
def lists(registry: Registry, tmp_path_factory: pytest.TempPathFactory, pad_card: str) -> Ran:
    folder = tmp_path_factory.mktemp("lists")
    datasets = tuple(BadDataset(name, folder) for name in ("before", *LISTS, "after"))
    asked = Request((pad_card,), datasets, ("ramp",), ("mean-relevance@1",), batch_size=16)
    return Ran(plan_of(asked, registry), folder / "run", timeout=SHORT, memory=LITTLE, retries=1)


def cells_of(out: Path) -> dict[str, Any]:
    with open_run(out) as store:
        return {row["dataset"]: row for row in store.cells()}


@pytest.mark.parametrize("way", LISTS)
def test_a_dataset_that_misbehaves_when_it_is_listed_fails_its_cells(lists: Ran, way: str) -> None:
    row = cells_of(lists.out)[way]
    assert row["status"] is Status.FAILED
    named(row["reason"], *LISTS[way][1:])
    assert row["reason"].detail.startswith(f'dataset "{way}", while its samples were listed, ')
    assert any(f" / {way} / ramp: " in line for line in lists.outcome.failures)


def test_other_datasets_are_scored_as_without_it(lists: Ran, registry: Registry, tmp_path: Path, pad_card: str) -> None:
    assert lists.outcome.exit_code == 1
    assert lists.left == []
    asked = Request((pad_card,), (BadDataset("before", tmp_path),), ("ramp",), ("mean-relevance@1",), batch_size=16)
    alone = Ran(make_plan(asked, registry), tmp_path / "run")
    for name in ("before", "after"):
        assert cells_of(lists.out)[name]["status"] is Status.OK
        mine = lists.values.filter(pl.col("dataset") == name).drop("dataset")
        assert mine.height == 36
        assert mine.equals(alone.values.drop("dataset"))


def test_a_run_whose_only_dataset_cannot_be_listed_ends_with_its_reason(
    registry: Registry, tmp_path: Path, pad_card: str
) -> None:
    dataset = BadDataset("list-segfault", tmp_path)
    asked = Request((pad_card,), (dataset,), ("ramp",), ("mean-relevance@1",), batch_size=16)
    with pytest.raises(UsageError, match=r"while its samples were listed, .* SIGSEGV") as caught:
        Ran(plan_of(asked, registry), tmp_path / "run", timeout=SHORT)
    assert caught.value.exit_code == 1


class SometimesHangs(BadDataset):
    """A dataset that cannot be listed while a file is there."""

    def items(self) -> Any:
        if (self.mark.parent / "down").exists():
            raise OSError("the disk is gone")
        return super().items()


def test_what_was_done_before_a_dataset_failed_is_kept(registry: Registry, tmp_path: Path, pad_card: str) -> None:
    dataset = SometimesHangs("before", tmp_path)
    asked = Request((pad_card,), (dataset,), ("ramp",), ("mean-relevance@1",), batch_size=16)
    first = Ran(plan_of(asked, registry), tmp_path / "run", timeout=SHORT)
    with open_run(tmp_path / "run") as store:
        times = [row["finished"] for row in store.execute("SELECT finished FROM done ORDER BY metric, number")]
    assert len(times) == 4
    (tmp_path / "down").touch()
    with pytest.raises(UsageError, match="while its samples were listed, raised OSError: the disk is gone"):
        Ran(plan_of(asked, registry), tmp_path / "run", timeout=SHORT)
    assert cells_of(tmp_path / "run")["before"]["status"] is Status.FAILED
    (tmp_path / "down").unlink()
    again = Ran(plan_of(asked, registry), tmp_path / "run", timeout=SHORT)
    assert again.outcome.exit_code == 0
    assert again.values.equals(first.values)
    with open_run(tmp_path / "run") as store:
        assert times == [row["finished"] for row in store.execute("SELECT finished FROM done ORDER BY metric, number")]


def test_the_driver_knows_names_and_no_pixels(registry: Registry, tmp_path: Path, pad_card: str) -> None:
    real = BadDataset("before", tmp_path)
    asked = Request((pad_card,), (real,), ("ramp",), ("mean-relevance@1",))
    listed = plan_of(asked, registry).groups[0].dataset.object
    assert isinstance(listed, Listed)
    assert [(i.id, i.label, i.face.id) for i in listed.items()] == [(i.id, i.label, i.face.id) for i in real.items()]
    assert all(item.face.read is not_here for item in listed.items())
    for name in ("name", "task", "revision", "classes", "positive"):
        assert getattr(listed, name) == getattr(real, name)
    assert listed.fits("pad")
    assert not listed.fits("verification")


class ListsOthers(BadDataset):
    """A dataset that lists its samples in another order when it is asked again."""

    def items(self) -> Any:
        found = super().items()
        if self.mark.exists():
            return found[::-1]
        self.mark.touch()
        return found


def test_a_dataset_that_changes_its_order_is_refused(registry: Registry, tmp_path: Path, pad_card: str) -> None:
    datasets = (BadDataset("before", tmp_path), ListsOthers("turns", tmp_path))
    asked = Request((pad_card,), datasets, ("ramp",), ("mean-relevance@1",), batch_size=16)
    ran = Ran(plan_of(asked, registry), tmp_path / "run", timeout=SHORT)
    assert ran.outcome.exit_code == 1
    row = cells_of(tmp_path / "run")["turns"]
    assert row["status"] is Status.FAILED
    assert 'dataset "turns" lists other samples than it did when the run began' in row["reason"].detail


@pytest.fixture(scope="module")
def families(registry: Registry, tmp_path_factory: pytest.TempPathFactory, folder: str) -> Ran:
    """One run of all misbehaving family metrics, between two good ones."""
    root = tmp_path_factory.mktemp("families")
    cards = tuple(str(write_card(root, seed=run, name=f"kin-{run}", family="kin", run=run)) for run in (0, 1))
    metrics = ("mean-relevance@1", *(text_of(way) for way in FAMILY), "agreement@1")
    asked = Request(cards, (folder,), ("ramp", "grad-cam"), metrics, limit=18, batch_size=16)
    return Ran(plan_of(asked, registry), root / "run", timeout=SHORT, memory=LITTLE, retries=1)


def text_of(way: str) -> str:
    return "bad-family@1" if way == "family-raises" else f"bad-family@1(way={way})"


@pytest.mark.parametrize("way", FAMILY)
def test_a_family_metric_that_misbehaves_fails_by_name(families: Ran, way: str) -> None:
    for row in families.cells.values():
        assert row["status"] is Status.OK
        state = next(m for m in row["metrics"] if m["metric"] == text_of(way))
        assert state["status"] is Status.FAILED
        named(state["reason"], *FAMILY[way][1:])
        assert state["reason"].detail.startswith("metric ")


def test_other_family_metrics_have_their_values(families: Ran, registry: Registry, tmp_path: Path, folder: str) -> None:
    assert families.outcome.exit_code == 1
    assert families.left == []
    cards = tuple(str(write_card(tmp_path, seed=run, name=f"kin-{run}", family="kin", run=run)) for run in (0, 1))
    good = ("mean-relevance@1", "agreement@1")
    asked = Request(cards, (folder,), ("ramp", "grad-cam"), good, limit=18, batch_size=16)
    alone = Ran(make_plan(asked, registry), tmp_path / "run")
    assert set(alone.values["metric"]) >= set(good)
    order = ("model", "explainer", "metric", "sample")
    assert families.values.sort(order).equals(alone.values.sort(order))


@pytest.fixture(scope="module")
def summaries(
    registry: Registry, tmp_path_factory: pytest.TempPathFactory, pad_card: str, folder: str
) -> tuple[Any, Path]:
    """One run of all metrics whose own summary misbehaves, beside a good one; its outcome and folder."""
    out = tmp_path_factory.mktemp("summaries") / "run"
    ways = tuple(BadSummary(way) for way in SUMMARIES)
    asked = Request((pad_card,), (folder,), ("ramp",), ("mean-relevance@1", *ways), limit=18, batch_size=16)
    pool = ProcessExecutor(timeout=SHORT, memory=LITTLE, retries=0)
    try:
        return execute(make_plan(asked, registry, lister(pool)), out, executor=pool)[0], out
    finally:
        pool.close()


@pytest.mark.parametrize("way", SUMMARIES)
def test_a_metric_whose_summary_misbehaves_fails_by_name(summaries: tuple[Any, Path], way: str) -> None:
    outcome, out = summaries
    assert outcome.exit_code == 1
    with open_run(out) as store:
        (cell,) = store.cells()
    text = "bad-summary@1" if way == "summary-raises" else f"bad-summary@1(way={way})"
    state = next(m for m in cell["metrics"] if m["metric"] == text)
    assert state["status"] is Status.FAILED
    named(state["reason"], *SUMMARIES[way][1:])
    assert state["reason"].detail.startswith("metric, while its values were summarised, ")
    good = next(m for m in cell["metrics"] if m["metric"] == "mean-relevance@1")
    assert good["status"] is Status.OK


def test_the_record_says_which_metric_has_no_summary(summaries: tuple[Any, Path]) -> None:
    (path,) = (summaries[1] / "records").rglob("*.json")
    numbers = read_record(path).record.numbers
    states = {(one.protocol, one.value_name): (one.status, one.number is None) for one in numbers}
    assert states.pop(("mean-relevance@1", "")) == (Status.OK, False)
    assert states.pop(("mean-relevance@1", "double")) == (Status.OK, False)
    assert set(states.values()) == {(Status.FAILED, True)}
    assert len(states) == len(SUMMARIES)
