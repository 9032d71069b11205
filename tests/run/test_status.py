"""``faithface status`` and ``faithface runs``: what is done, failed, pending and stale, and who writes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from faithface.cli import main
from faithface.plugins import Registry
from faithface.reasons import Status
from faithface.run import status as status_module
from faithface.run.driver import execute_plan
from faithface.run.lock import RunLock
from faithface.run.plan import make_plan
from faithface.run.request import Request
from faithface.run.status import span, state_of
from faithface.run.store import FILE
from tests.run.test_resume import Killed, cut_after
from tests.support.runs import Fails, FailsToScore, Ramp, place, write_card


@pytest.fixture
def run(registry: Registry, tmp_path: Path, folder: str) -> Path:
    """A run of three cells: one failed, one done, one cut off after its first shard."""
    card = str(write_card(tmp_path, name="net"))
    explainers = (Fails(), Ramp(), Ramp(2.0))
    plan = make_plan(Request((card,), (folder,), explainers, ("fails-to-score@1", "mean-relevance@1")), registry)
    with pytest.raises(Killed):
        execute_plan(plan, tmp_path / "runs" / "r", executor=cut_after(4))  # 3 of the first shard, 1 of the second
    return tmp_path / "runs" / "r"


def test_a_run_that_was_cut_off(run: Path) -> None:
    state = state_of(run)
    assert not state.complete
    assert [(cell.status, cell.done, cell.shards) for cell in state.cells] == [
        (Status.FAILED, 0, 2),
        (Status.PENDING, 2, 2),
        (Status.PENDING, 1, 2),
    ]
    assert state.shards == (3, 6)
    assert state.stale == ()
    assert state.writer is None
    assert state.left is None
    assert "make the call that began it again" in state.finish
    where = place(FailsToScore.score, "no score today")
    assert [cell.failed_metrics for cell in state.cells][1] == {
        "fails-to-score@1": f"metric raised RuntimeError: no score today ({where})"
    }


def test_the_command_prints_lines_of_80_columns_and_json(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["cells"] == {"pending": 2, "ok": 0, "failed": 1, "not applicable": 0}
    assert found["shards"] == {"done": 3, "total": 6}
    assert [(one["explainer"], one["metric"]) for one in found["failed"]] == [
        ("fails", ""), ("ramp", "fails-to-score@1"), ("ramp(slope=2.0)", "fails-to-score@1"),
    ]  # fmt: skip
    assert main(["status", str(run)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "cells:  1 failed, 2 pending" in lines
    assert "shards: 3 of 6 done (50 %)" in lines
    assert all(len(line) <= 80 for line in lines if "/" not in line)


def test_a_changed_model_file_and_package_are_stale_and_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = next(run.parent.parent.glob("*.onnx"))
    file.write_bytes(file.read_bytes() + b"\0")
    now = dict(status_module.package_versions()) | {"package torch": "99.0"}
    monkeypatch.setattr(status_module, "package_versions", lambda: now)
    state = state_of(run)
    assert {cell.stale for cell in state.cells} == {("package torch", 'the files of model "net"')}


def test_the_writer_and_the_rate_are_those_of_the_process_that_holds_the_lock(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sqlite3

    lock = RunLock(run)
    try:
        with sqlite3.connect(run / FILE) as db:
            since = json.loads((run / "run.lock").read_text())["since"]
            for i, (cell, number) in enumerate([(1, 0), (2, 0), (1, 1)]):
                at = since + 1 + 20 * i
                db.execute("UPDATE done SET finished = ? WHERE cell = ? AND number = ?", (at, cell, number))
        state = state_of(run)
    finally:
        lock.release()
    assert state.writer is not None
    assert state.writer["pid"] == os.getpid()
    assert state.rate == pytest.approx(3.0)  # two more shards in 40 s
    assert state.left == pytest.approx(60.0)  # three of six are left
    assert state.finish == ""


def test_runs_lists_what_lies_there_the_newest_first(
    run: Path, registry: Registry, folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    card = str(run.parent.parent / "net.toml")
    command = "faithface run --model net.toml"
    done: Any = make_plan(Request((card,), (folder,), (Ramp(),), ("mean-relevance@1",), command=command), registry)
    execute_plan(done, run.parent / "done")
    (run.parent / "torn").mkdir()
    (run.parent / "torn" / FILE).write_bytes(b"not a database")
    for i, name in enumerate(("done", "r", "torn")):
        os.utime(run.parent / name / FILE, (10**9 + i, 10**9 + i))
    assert main(["runs", str(run.parent), "--json"]) == 0
    found = {Path(one["run"]).name: one for one in json.loads(capsys.readouterr().out)}
    assert list(found) == ["torn", "r", "done"]
    assert [found[name]["state"] for name in found] == ["unreadable", "stopped, 3 of 6", "finished"]
    assert found["done"]["command"] == command
    assert main(["runs", str(run.parent / "nowhere")]) == 0
    assert capsys.readouterr().out.startswith("no runs in ")


@pytest.mark.parametrize(("seconds", "words"), [(42, "42 s"), (600, "10 min"), (3 * 3600 + 120, "3 h 2 min")])
def test_lengths_of_time(seconds: float, words: str) -> None:
    assert span(seconds) == words
