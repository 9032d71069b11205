"""Workers that are killed, runs that are interrupted, networks that cannot be scored, and a run without workers."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from faithface.contract import Explainer, Maps, Method, Samples
from faithface.errors import UsageError
from faithface.model import open_model
from faithface.plugins import Registry, load_registry
from faithface.reasons import ReasonCode, Status
from faithface.run.driver import Silent, execute_plan
from faithface.run.executors import Job
from faithface.run.executors.child import MARK, Child
from faithface.run.executors.processes import ProcessExecutor, said
from faithface.run.plan import Plan, make_plan
from faithface.run.request import Request
from faithface.run.results import CellShard, Event, Step
from faithface.run.store import open_run
from tests.run.test_isolation import GOOD, Ran, bad, in_session, request
from tests.support.networks import export, tiny
from tests.support.runs import MeanRelevance, Ramp, with_extras
from tests.support.zoo import EXPLAINERS, Bad, Shares

# What a run in one process survives too: all but what ends or holds up the process, or leaves something in it.
INSIDE = [
    way
    for way, (_do, code, _words) in EXPLAINERS.items()
    if code in (ReasonCode.INPUT_CHANGED, ReasonCode.STATE_CHANGED, ReasonCode.EXPLAINER_RAISED) and way != "interrupt"
]


@pytest.fixture(scope="module")
def registry() -> Registry:
    return with_extras(load_registry(), Ramp(), MeanRelevance(), Bad(), Shares())


@pytest.fixture(scope="module")
def plan(registry: Registry, pad_card: str, folder: str) -> Plan:
    return make_plan(request(pad_card, folder, GOOD), registry)


@pytest.fixture(scope="module")
def clean(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return Ran(plan, tmp_path_factory.mktemp("clean") / "run")


@pytest.fixture(scope="module")
def inside(registry: Registry, tmp_path_factory: pytest.TempPathFactory, pad_card: str, folder: str) -> Ran:
    order = ("shares", *map(bad, INSIDE), "ramp", "grad-cam", "random")
    plan = make_plan(request(pad_card, folder, order), registry)
    return Ran(plan, tmp_path_factory.mktemp("inside") / "run")


@pytest.mark.parametrize("way", INSIDE)
def test_without_workers_changes_are_named_and_put_back_too(inside: Ran, way: str) -> None:
    row = inside.cells[bad(way)]
    assert row["status"] is Status.FAILED
    assert row["reason"].code is EXPLAINERS[way][1], row["reason"]
    assert EXPLAINERS[way][2] in row["reason"].detail


@pytest.mark.parametrize("explainer", GOOD)
def test_without_workers_no_value_of_others_moves_either(inside: Ran, clean: Ran, explainer: str) -> None:
    assert inside.of(explainer).equals(clean.of(explainer))


@dataclass(frozen=True)
class WritesTheStore(Explainer):
    """An explainer that changes the values of others in the run's store, at its second shard."""

    store: str = ""

    method = Method(name="writes-the-store")

    def explain(self, model: Any, samples: Samples) -> Maps:
        if len(samples) < 16 and self.store:
            with sqlite3.connect(self.store) as db:
                db.execute("UPDATE scores SET value = value + 1 WHERE number = 0")
            db.close()
        return Ramp().explain(model, samples)


def test_a_plugin_that_writes_the_store_is_named_and_what_it_wrote_is_forgotten(
    registry: Registry, clean: Ran, tmp_path: Path, pad_card: str, folder: str
) -> None:
    order = ("shares", "ramp", "grad-cam", WritesTheStore(str(tmp_path / "run" / "run.sqlite")), "random")
    plan = make_plan(request(pad_card, folder, order), registry)  # type: ignore[arg-type]
    ran = Ran(plan, tmp_path / "run")
    assert ran.outcome.exit_code == 1
    culprit = next(row for name, row in ran.cells.items() if name.startswith("writes-the-store"))
    assert culprit["status"] is Status.FAILED
    assert culprit["reason"].code is ReasonCode.STATE_CHANGED
    assert "wrote the run's store (run.sqlite)" in culprit["reason"].detail
    for name in GOOD:  # not one changed value is left; what is there is right
        left, right = ran.of(name), clean.of(name)
        assert left.join(right, on=left.columns, how="anti").is_empty(), name
    without = make_plan(request(pad_card, folder, GOOD), registry)
    again = Ran(without, tmp_path / "run")
    for name in GOOD:
        assert again.cells[name]["status"] is Status.OK
        assert again.of(name).equals(clean.of(name))


class Killing:
    """The executor, whose worker is killed from outside after each of some events."""

    def __init__(self, executor: ProcessExecutor, after: tuple[int, ...]) -> None:
        self.executor, self.after, self.seen = executor, after, 0

    def __call__(self, job: Job, /) -> Iterator[Event]:
        for event in self.executor(job):
            self.seen += 1
            if self.seen in self.after:
                os.kill(self.executor.children[0].process.pid, signal.SIGKILL)
            yield event


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_workers_cost_nothing_but_time(plan: Plan, clean: Ran, tmp_path: Path, workers: int) -> None:
    pool = ProcessExecutor(workers, retries=3, logs=tmp_path / "run")  # all three may hit a worker that is opening
    try:
        outcome = execute_plan(plan, tmp_path / "run", executor=Killing(pool, (1, 3, 6)))
    finally:
        pool.close()
    assert outcome.exit_code == 0, outcome.failures
    with open_run(tmp_path / "run") as store:
        from faithface.run.export import run_values

        values = run_values(store).sort("dataset", "explainer", "metric", "sample")
    assert values.equals(clean.values)


class Asking(Killing):
    """An executor that has a worker do something else after every event, as a driver has it read more of a dataset."""

    def __call__(self, job: Job, /) -> Iterator[Event]:
        for event in self.executor(job):
            assert self.executor.apply(added, 1, len(self.after)) == 1
            self.seen += isinstance(event, CellShard)
            yield event


def added(one: int, other: int, beat: Any) -> int:
    return one + other


@pytest.mark.parametrize("workers", [1, 2])
def test_a_call_during_a_job_takes_nothing_from_it(plan: Plan, clean: Ran, tmp_path: Path, workers: int) -> None:
    """What a busy worker says belongs to its job: the call went to it, took its values, and the run waited for them."""
    pool = ProcessExecutor(workers, timeout=60)
    asking = Asking(pool, ())
    try:
        outcome = execute_plan(plan, tmp_path / "run", executor=asking)
    finally:
        pool.close()
    assert outcome.exit_code == 0, outcome.failures
    assert asking.seen >= len(clean.cells)
    with open_run(tmp_path / "run") as store:
        from faithface.run.export import run_values

        values = run_values(store).sort("dataset", "explainer", "metric", "sample")
    assert values.equals(clean.values)


class Interrupted(Silent):
    """A reporter at whose n-th word the user presses Ctrl-C."""

    def __init__(self, at: int) -> None:
        self.left = at

    def advance(self, cell: Any, samples: int) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def test_an_interrupted_run_leaves_no_process_and_resumes(plan: Plan, clean: Ran, tmp_path: Path) -> None:
    pool = ProcessExecutor()
    with pytest.raises(KeyboardInterrupt):
        execute_plan(plan, tmp_path / "run", Interrupted(3), pool)
    pids = [child.process.pid for child in pool.children]
    pool.close()
    assert not [pid for pid in pids if in_session(pid)]
    assert Ran(plan, tmp_path / "run", timeout=600.0).values.equals(clean.values)


def test_ctrl_c_ends_the_program_and_its_workers_with_130(tmp_path: Path, pad_card: str, folder: str) -> None:
    command = [sys.executable, "-m", "faithface", "run", "--model", pad_card, "--dataset", folder, "--limit", "16"]
    command += ["--explainer", "rise(masks=900000)", "--metric", "entropy@1", "--out", str(tmp_path / "run")]
    program = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert program.stderr is not None
    lines = iter(program.stderr.readline, "")
    assert any("16 samples" in line for line in lines)  # the model is open and the explainer at work
    started = [int(p.name) for p in Path("/proc").iterdir() if p.name.isdecimal() and str(tmp_path) in environment(p)]
    os.killpg(program.pid, signal.SIGINT)
    _, errors = program.communicate(timeout=120)
    assert program.returncode == 130
    assert "interrupted; give the same command again to resume" in errors
    assert "Traceback" not in errors
    time.sleep(0.5)
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]
    assert not in_session(program.pid)


def environment(process: Path) -> str:
    try:
        return (process / "cmdline").read_text()
    except OSError:
        return ""


class NotANumber(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return torch.log(-1 - images.flatten(1)[:, :2].abs())


class Random(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        flat = images.flatten(1)[:, :2]
        return flat + torch.randn_like(flat)


def card_of(net: nn.Module, folder: Path, **fields: Any) -> Any:
    card = tiny("cnn", "pad", folder)
    export(net, (3, 32, 32), folder / "odd.onnx")
    return card.model_copy(update={"file": "odd.onnx", "name": "odd", "sha256": "", **fields})


def test_a_network_that_returns_nan_fails_its_cells_with_the_reason(
    registry: Registry, tmp_path: Path, folder: str
) -> None:
    odd = card_of(NotANumber(), tmp_path)
    asked = Request((tiny("cnn", "pad", tmp_path), odd), (folder,), ("ramp",), ("mean-relevance@1",), limit=18)
    outcome = execute_plan(make_plan(asked, registry), tmp_path / "run")
    assert outcome.exit_code == 1
    with open_run(tmp_path / "run") as store:
        cells = {row["model"]: row for row in store.cells()}
    assert cells["tiny-cnn-0"]["status"] is Status.OK
    assert cells["odd"]["status"] is Status.FAILED
    assert cells["odd"]["reason"].code is ReasonCode.MODEL_UNUSABLE
    assert cells["odd"]["reason"].detail.startswith("no sample could be scored: the model gives nan for the unaltered")


def test_a_network_with_random_outputs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="gives other outputs for the same image"):
        open_model(card_of(Random(), tmp_path))


class Local(Explainer):
    """An explainer that cannot be sent to another process."""

    method = Method(name="local")

    def __init__(self) -> None:
        self.lock = (one for one in ())

    def explain(self, model: Any, samples: Samples) -> Maps:
        raise AssertionError("not reached")


def test_an_object_that_cannot_be_sent_is_refused_in_one_line(
    registry: Registry, tmp_path: Path, pad_card: str, folder: str
) -> None:
    pool = ProcessExecutor()
    try:
        plan = make_plan(Request((pad_card,), (folder,), (Local(),), ("mean-relevance@1",)), registry)
        with pytest.raises(UsageError, match=r"cannot be sent to a worker process .* use --workers 0"):
            execute_plan(plan, tmp_path / "run", executor=pool)
    finally:
        pool.close()


# --- parts


def test_output_is_told_apart_by_step_wherever_it_is_cut() -> None:
    steps = {1: Step("explain", 0, 1), 2: Step("score", 0, 1, "m")}
    data = b"\x00step 1\x00first\x00 odd\n\x00step 2\x00second"
    for size in range(1, len(data)):
        child = Child.__new__(Child)
        child.steps, child._printing, child._pending, child.tail = dict(steps), Step("rest"), b"", b""
        end, start = os.pipe()
        os.set_blocking(end, False)

        class Output:
            def fileno(self, end: int = end) -> int:
                return end

        child.output = Output()  # type: ignore[assignment]
        found: list[tuple[Step, bytes]] = []
        for at in range(0, len(data), size):
            os.write(start, data[at : at + size])
            found += list(child.printed())
        os.close(start)
        os.close(end)
        by_step = {step: b"".join(piece for s, piece in found if s == step) for step, _ in found}
        assert by_step == {steps[1]: b"first\x00 odd\n", steps[2]: b"second"}, size
    assert MARK.fullmatch(b"\x00step 12\x00")


def test_the_last_lines_are_one_line() -> None:
    assert said(b"") == ""
    assert said(b"a\n\nb\x1b[1m\nc\nd\n") == "; it last printed: b [1m | c | d"


def test_a_fault_says_where_it_was() -> None:
    dump = """before
Fatal Python error: Segmentation fault

Thread 0x1 (most recent call first):
  File "/a/other.py", line 9 in wait

Current thread 0x2 (most recent call first):
  File "/lib/ctypes/__init__.py", line 519 in string_at
  File "/a/zoo.py", line 12 in explain
  File "/a/guard.py", line 13 in run

Extension modules: numpy, torch (total: 2)
"""
    assert said(dump.encode()) == (
        "; it was at __init__.py:519 (string_at), called from zoo.py:12 (explain); it last printed: before"
    )
    hung = 'Thread 0x1 (most recent call first):\n  File "/a/x.py", line 1 in wait\n'
    hung += 'Thread 0x2 (most recent call first):\n  File "/a/y.py", line 2 in explain\n'
    assert said(hung.encode()) == "; it was at y.py:2 (explain)"


def test_a_cell_that_nothing_has_ended_is_a_failure(plan: Plan, tmp_path: Path) -> None:
    from faithface.run.outcome import summarise
    from faithface.run.store import create_or_resume

    def few(job: Job) -> Iterator[Event]:
        from faithface.run.executors.local import run_group

        for event in run_group(job):
            yield event
            if isinstance(event, CellShard):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute_plan(plan, tmp_path / "run", executor=few)
    with create_or_resume(tmp_path / "run", plan.fixed) as store:
        outcome = summarise(store)
    assert outcome.exit_code == 1
    assert "not finished; give the same command again" in outcome.failures[0]
