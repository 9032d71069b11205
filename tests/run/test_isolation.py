"""A run in worker processes beside plugins that misbehave: each is named, and no value of another moves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from faithface.plugins import Registry, load_registry
from faithface.reasons import Reason, Status
from faithface.run.driver import execute_plan
from faithface.run.executors.descendants import descendants
from faithface.run.executors.processes import ProcessExecutor
from faithface.run.export import run_values
from faithface.run.plan import make_plan
from faithface.run.request import Request
from faithface.run.store import open_run
from tests.support.runs import MeanRelevance, Ramp, with_extras
from tests.support.zoo import DAEMON, EXPLAINERS, HANGS, HARMLESS, METRICS, READS, Bad, BadDataset, BadMetric, Shares

GOOD = ("ramp", "shares", "grad-cam", "random")
SCORED = ("mean-relevance@1", "entropy@1", "gap@1(grid=8,points=5)")
GENEROUS = 60.0  # seconds for a step where nothing hangs: the machine may be busy
SHORT = 10.0
ROOM = 1_500_000_000


@pytest.fixture(scope="module")
def registry() -> Registry:
    return with_extras(load_registry(), Ramp(), MeanRelevance(), Bad(), BadMetric(), Shares())


class Ran:
    """A finished run: its outcome, its values, the state of every cell and metric, and the processes it left."""

    def __init__(self, plan: Any, out: Path, **limits: Any) -> None:
        executor = ProcessExecutor(logs=out, **limits) if limits else None
        pids: set[int] = set()
        if executor is not None:
            start = executor.child

            def child() -> Any:
                made = start()
                pids.add(made.process.pid)
                return made

            executor.child = child  # type: ignore[method-assign]
        try:
            self.outcome = execute_plan(plan, out, executor=executor)
        finally:
            if executor is not None:
                executor.close()
        self.out = out
        self.left = [pid for pid in pids if in_session(pid)] + below_the_server() + running(DAEMON)
        with open_run(out) as store:
            self.values = run_values(store).sort("dataset", "explainer", "metric", "sample")
            self.cells: dict[str, Any] = {row["explainer"]: row for row in store.cells()}

    def of(self, explainer: str, *without: str) -> pl.DataFrame:
        return self.values.filter((pl.col("explainer") == explainer) & ~pl.col("metric").is_in(without))


def below_the_server() -> list[int]:
    """Return the live processes that the server of workers is the parent of, whatever session they have moved to."""
    from multiprocessing.forkserver import _forkserver  # type: ignore[attr-defined]

    server = getattr(_forkserver, "_forkserver_pid", None)
    return descendants(server) if server else []


def running(command: tuple[str, ...]) -> list[int]:
    """Return the live processes of a command."""
    wanted = "\0".join(command).encode() + b"\0"
    found = []
    for path in Path("/proc").iterdir():
        try:
            if path.name.isdecimal() and (path / "cmdline").read_bytes() == wanted:
                found.append(int(path.name))
        except OSError:
            continue
    return found


def in_session(leader: int) -> list[int]:
    """Return the live processes of a worker's session, the worker itself among them."""
    found = []
    for path in Path("/proc").iterdir():
        try:
            fields = (path / "stat").read_text().rpartition(")")[2].split() if path.name.isdecimal() else []
        except OSError:
            continue
        if fields and fields[0] != "Z" and leader in (int(path.name), int(fields[3])):
            found.append(int(path.name))
    return found


def request(card: str, data: Any, explainers: tuple[str, ...], metrics: tuple[str, ...] = SCORED) -> Request:
    # A batch size by name: the measured one may differ between two runs, and with it the last bit of a value.
    return Request((card,), (data,), explainers, metrics, limit=18, batch_size=16)


def bad(way: str) -> str:
    return "bad" if way == "images" else f"bad(way={way})"


@pytest.fixture(scope="module")
def clean(registry: Registry, tmp_path_factory: pytest.TempPathFactory, pad_card: str, folder: str) -> Ran:
    """The good explainers by themselves, in this process."""
    plan = make_plan(request(pad_card, folder, GOOD), registry)
    return Ran(plan, tmp_path_factory.mktemp("clean") / "run")


@pytest.fixture(scope="module")
def zoo(registry: Registry, tmp_path_factory: pytest.TempPathFactory, pad_card: str, folder: str) -> Ran:
    """One run of all misbehaving explainers that do not hang, with good ones before, between and after them."""
    ways = [bad(way) for way in (*EXPLAINERS, *HARMLESS)]
    middle = len(ways) // 2
    order = ("shares", *ways[:middle], "ramp", "grad-cam", *ways[middle:], "random")
    plan = make_plan(request(pad_card, folder, order), registry)
    return Ran(plan, tmp_path_factory.mktemp("zoo") / "run", timeout=GENEROUS, memory=ROOM, retries=0)


@pytest.fixture(scope="module")
def hanging(registry: Registry, tmp_path_factory: pytest.TempPathFactory, pad_card: str, folder: str) -> Ran:
    order = ("ramp", *map(bad, HANGS), "shares")
    plan = make_plan(request(pad_card, folder, order, ("mean-relevance@1",)), registry)
    return Ran(plan, tmp_path_factory.mktemp("hangs") / "run", timeout=SHORT, memory=ROOM, retries=0)


@pytest.fixture(scope="module")
def metrics(registry: Registry, tmp_path_factory: pytest.TempPathFactory, pad_card: str, folder: str) -> Ran:
    ways = tuple("bad-metric@1" if way == "maps" else f"bad-metric@1(way={way})" for way in METRICS)
    plan = make_plan(request(pad_card, folder, ("shares", "ramp"), (SCORED[0], *ways, *SCORED[1:])), registry)
    return Ran(plan, tmp_path_factory.mktemp("metrics") / "run", timeout=SHORT, memory=ROOM, retries=0)


def named(reason: Reason | None, code: Any, words: str) -> None:
    assert reason is not None
    assert reason.code is code, reason
    assert words in reason.detail


@pytest.mark.parametrize("way", EXPLAINERS)
def test_an_explainer_that_misbehaves_fails_by_name(zoo: Ran, way: str) -> None:
    row = zoo.cells[bad(way)]
    assert row["status"] is Status.FAILED, row["reason"]
    named(row["reason"], *EXPLAINERS[way][1:])
    assert row["reason"].detail.startswith("explainer ")
    assert any(f" / {bad(way)}: " in line for line in zoo.outcome.failures)


@pytest.mark.parametrize("way", HANGS)
def test_an_explainer_that_hangs_fails_by_name(hanging: Ran, way: str) -> None:
    row = hanging.cells[bad(way)]
    assert row["status"] is Status.FAILED
    named(row["reason"], *HANGS[way][1:])


@pytest.mark.parametrize("way", HARMLESS)
def test_what_harms_nobody_is_scored(zoo: Ran, way: str) -> None:
    assert zoo.cells[bad(way)]["status"] is Status.OK, zoo.cells[bad(way)]["reason"]
    assert len(zoo.of(bad(way))) == len(zoo.of("ramp"))


@pytest.mark.parametrize("explainer", GOOD)
def test_good_explainers_have_the_values_of_a_run_without_the_bad_ones(zoo: Ran, clean: Ran, explainer: str) -> None:
    assert zoo.cells[explainer]["status"] is Status.OK
    assert len(clean.of(explainer)) == 18 * 4
    assert zoo.of(explainer).equals(clean.of(explainer))


@pytest.mark.parametrize("explainer", ["ramp", "shares"])
def test_hangs_move_no_value_of_others(hanging: Ran, clean: Ran, explainer: str) -> None:
    assert hanging.of(explainer).equals(clean.of(explainer, "entropy@1", "gap@1(grid=8,points=5)"))


@pytest.mark.parametrize("way", METRICS)
@pytest.mark.parametrize("explainer", ["shares", "ramp"])
def test_a_metric_that_misbehaves_fails_by_name(metrics: Ran, way: str, explainer: str) -> None:
    text = "bad-metric@1" if way == "maps" else f"bad-metric@1(way={way})"
    row = next(m for m in metrics.cells[explainer]["metrics"] if m["metric"] == text)
    assert row["status"] is Status.FAILED
    named(row["reason"], *METRICS[way][1:])
    assert row["reason"].detail.startswith("metric ")


@pytest.mark.parametrize("explainer", ["shares", "ramp"])
def test_other_metrics_have_the_values_of_a_run_without_the_bad_ones(metrics: Ran, clean: Ran, explainer: str) -> None:
    assert metrics.of(explainer).equals(clean.of(explainer))


def test_no_run_with_failures_ends_well_and_no_process_is_left(zoo: Ran, hanging: Ran, metrics: Ran) -> None:
    for ran in (zoo, hanging, metrics):
        assert ran.outcome.exit_code == 1
        assert ran.left == []
    assert os.getpid() in in_session(os.getpid())  # so that an empty list means something


def test_output_of_a_plugin_is_kept_and_capped(zoo: Ran) -> None:
    logs = {path.stem: path for path in (zoo.out / "logs").rglob("*.log")}
    printed = next(path for name, path in logs.items() if "prints" in name)
    assert 900_000 < printed.stat().st_size < 1_100_000
    assert "further output was dropped" in printed.read_text()[-60:]
    segfault = next(path for name, path in logs.items() if "way=segfault" in name)
    assert "Segmentation fault" in segfault.read_text()
    assert "zoo.py" in segfault.read_text()  # the traceback says where


@pytest.mark.parametrize("way", READS)
def test_a_dataset_that_misbehaves_fails_its_cells_and_no_others(
    registry: Registry, tmp_path: Path, pad_card: str, way: str
) -> None:
    datasets = tuple(BadDataset(name, tmp_path) for name in ("before", way, "after"))
    asked = Request((pad_card,), datasets, ("ramp",), ("mean-relevance@1",), batch_size=16)
    ran = Ran(make_plan(asked, registry), tmp_path / "run", timeout=SHORT, memory=ROOM, retries=1)
    assert ran.outcome.exit_code == 1
    assert ran.left == []
    with open_run(tmp_path / "run") as store:
        cells = {row["dataset"]: row for row in store.cells()}
    assert {name: row["status"] for name, row in cells.items()} == {
        "before": Status.OK,
        way: Status.FAILED,
        "after": Status.OK,
    }
    named(cells[way]["reason"], *READS[way][1:])
    assert way in cells[way]["reason"].detail
    values = [part["value"].to_list() for _, part in ran.values.group_by("dataset", maintain_order=True)]
    assert values[0] == values[-1]
