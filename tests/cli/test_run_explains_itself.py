"""A run says what it will do, what it does, what failed and where, and what is next."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from faithface import plugins
from faithface.cli import preview
from faithface.run.plan import make_plan
from faithface.run.request import Request
from tests.support.runs import Fails, FailsToScore, Ramp, place, with_extras


def ramp(made: Path, *more: object) -> list[object]:
    return [
        *("run", "--model", made / "pad.toml", "--dataset", f"folder:{made / 'classes'}"),
        *("--explainer", "ramp", "--metric", "mean-relevance@1", *more),
    ]


# --- before


def test_before_a_run_it_says_what_will_run_what_cannot_and_how_many(faithface: Any, made: Path) -> None:
    said = faithface(*ramp(made, "--metric", "gap-similarity-score@1", "--metric", "entropy@1", "--limit", "6"))
    assert said.code == 2  # a metric that applies nowhere
    said = faithface(
        *("run", "--model", made / "pad.toml", "--model", made / "verification.toml"),
        *("--dataset", f"folder:{made / 'classes'}", "--dataset", f"pairs:{made / 'pairs.csv'}@{made / 'crops'}"),
        *("--explainer", "ramp", "--metric", "gap@1", "--metric", "gap-similarity-score@1(fill=black)"),
        *("--limit", "6", "--workers", "0", "-o", "r"),
    )
    lines = said.err.splitlines()
    assert lines[0] == "planning the run"
    assert f"pad on folder:{made / 'classes'}: 6 images (3 attack, 3 bona-fide)" in lines
    assert any(line.endswith(": 6 pairs (3 genuine, 3 impostor)") for line in lines)
    assert "1 explainer, 2 protocols, 2 cells" in lines
    few = [line for line in lines if "too few to rank" in line]
    assert len(few) == 2
    assert any(line.startswith("3 genuine pairs: too few to rank, which takes 10") for line in few)
    assert sum("not applicable: gap@1" in line or "/ gap@1: for" in line for line in lines) == 1
    assert any(line.startswith("disk: about ") and line.endswith(" free at r") for line in lines)


def test_little_free_room_is_a_warning(made: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    registry = with_extras(plugins.load_registry(), Ramp())
    asked = Request(
        (str(made / "pad.toml"),), (f"folder:{made / 'classes'}",), ("ramp",), ("entropy@1",), keep_maps=True
    )
    plan = make_plan(asked, registry)
    needed = preview.bytes_of(plan)
    assert needed >= 20 * 32 * 32 * 4  # twenty maps
    assert not any(line.startswith("warning") for line in preview.disk(plan, tmp_path))
    monkeypatch.setattr(preview, "free_bytes", lambda _: needed)
    (line,) = preview.disk(plan, tmp_path)
    assert line.startswith("warning: disk: about ")


def test_a_dry_run_measures_and_scores_nothing(faithface: Any, made: Path) -> None:
    command = ramp(made, "--explainer", "saliency", "--metric", "deletion@1(grid=4,points=5)", "-o", "r", "--dry-run")
    said = faithface(*command, "--workers", "0", "--json")
    assert (said.code, said.err) == (0, "")
    found = json.loads(said.out)
    assert not Path("r").exists()
    cells = {cell["explainer"]: cell for cell in found["cells"]}
    assert (cells["saliency"]["forward"], cells["saliency"]["backward"]) == (1, 1)
    assert (cells["ramp"]["forward"], cells["ramp"]["backward"]) == (0, 0)
    assert cells["ramp"]["metrics"] == ["mean-relevance@1", "deletion@1(grid=4,points=5)"]
    assert 0 < found["seconds"] < 600
    assert found["bytes"] < found["bytes_free"]
    assert {row["protocol"]: (row["n"], row["judged on"]) for row in found["protocols"]} == {
        "mean-relevance@1": (20, "images"),
        "deletion@1(grid=4,points=5)": (20, "images"),  # the folder does not say which class is positive
    }
    named = [f"{part}(positive=attack)" if part == f"folder:{made / 'classes'}" else part for part in command]
    said = faithface(*named, "--workers", "0", "--json")
    counts = {row["protocol"]: (row["n"], row["judged on"]) for row in json.loads(said.out)["protocols"]}
    assert counts["deletion@1(grid=4,points=5)"] == (10, "positive images")
    text = faithface(*command, "--workers", "0").out
    assert re.search(r"saliency +1 +1 +\S+ s", text)
    assert "the whole run: about" in text


def test_a_dry_run_works_with_worker_processes(faithface: Any, made: Path) -> None:
    """With plugins that the workers find themselves."""
    said = faithface(
        *("run", "--model", made / "pad.toml", "--dataset", f"folder:{made / 'classes'}", "--explainer", "saliency"),
        *("--metric", "entropy@1", "--dry-run", "--json"),
    )
    (cell,) = json.loads(said.out)["cells"]
    assert (cell["forward"], cell["backward"]) == (1, 1)
    assert cell["seconds"] > 0


# --- after


def test_after_a_run_it_says_where_it_lies_and_what_is_next(faithface: Any, made: Path) -> None:
    said = faithface(*ramp(made, "-o", "a run", "--workers", "0"))
    assert said.out.splitlines()[-3:] == [
        "run: a run",
        "next: faithface view 'a run'",
        "      faithface leaderboard build 'a run' -o leaderboards",
    ]
    assert "nothing was to be done" not in said.err
    again = faithface(*ramp(made, "-o", "a run", "--workers", "0"))
    assert "nothing was to be done: all of it is there already" in again.err
    assert again.out == said.out


# --- failures


def test_a_failure_names_file_and_line_and_is_printed_once(faithface: Any, made: Path) -> None:
    said = faithface(
        *ramp(made, "--explainer", "fails", "--metric", "fails-to-score@1", "--limit", "4", "-o", "r", "--workers", "0")
    )
    for where in (place(Fails.explain, "ZeroDivisionError"), place(FailsToScore.score, "no score today")):
        assert said.err.count(where) == 1
    assert "Traceback" not in said.err
    assert said.error.endswith("; --traceback shows where")


def test_tracebacks_are_printed_on_request_and_kept_in_the_record(
    made: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from faithface.cli import main

    registry = with_extras(plugins.load_registry(), Ramp(), Fails())
    monkeypatch.setattr("faithface.plugins.load_registry", lambda strict=False: registry)
    monkeypatch.chdir(tmp_path)
    words = ramp(made, "--explainer", "fails", "--limit", "4", "-o", "r", "--workers", "0", "--traceback")
    words[words.index("mean-relevance@1")] = "entropy@1"
    assert main([str(word) for word in words]) == 1
    said = capsys.readouterr().err
    assert said.count("Traceback (most recent call last)") == 1
    assert 'raise ZeroDivisionError("a mistake' in said
    (record,) = [json.loads(p.read_text()) for p in Path("r").rglob("*.json") if "fails" in p.name]
    assert "ZeroDivisionError: a mistake" in record["traceback"]
    assert "support/runs.py" in record["traceback"]
    assert str(Path(__file__).parents[1]) not in record["traceback"]


def test_fail_fast_stops_at_the_first_failure_and_is_resumed(faithface: Any, made: Path) -> None:
    words = ramp(made, "--explainer", "fails", "--limit", "4", "-o", "r", "--workers", "0")
    words[words.index("ramp")] = "fails"
    words[words.index("fails", words.index("fails") + 1)] = "ramp"
    said = faithface(*words, "--fail-fast")
    assert said.code == 1
    assert "stopped at the first failure (--fail-fast)" in said.error
    assert said.err.count("ZeroDivisionError") == 1
    assert "ramp: " not in said.err  # it comes after
    assert "ramp: 4/4" in faithface(*words).err


def test_the_debugger_opens_where_a_plugin_raised(faithface: Any, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr("pdb.post_mortem", lambda trace: seen.append(trace))
    faithface(*ramp(made, "--explainer", "fails", "--limit", "4", "--workers", "0", "--pdb"))
    (trace,) = seen
    while trace.tb_next:
        trace = trace.tb_next
    assert trace.tb_frame.f_code.co_name == "explain"
    assert faithface(*ramp(made, "--pdb")).error == "--pdb needs the plugins in this process; add --workers 0"


# --- on a terminal


@dataclass
class Screen:
    """What a command wrote on a terminal of 80 columns."""

    code: int
    text: str

    @property
    def lines(self) -> list[str]:
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.text)
        return [line for line in re.split(r"[\r\n]+", plain) if line]


def on_a_terminal(*words: str, folder: Path) -> Screen:
    ours, theirs = pty.openpty()
    variables = {**os.environ, "COLUMNS": "80", "LINES": "40", "TERM": "xterm-256color"}
    program = subprocess.Popen(
        [sys.executable, "-m", "faithface", *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=folder,
        env=variables,
    )
    os.close(theirs)
    data = b""
    while True:
        if select.select([ours], [], [], 0.2)[0]:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # the other end is closed
                piece = b""
            if not piece:
                break
            data += piece
        elif program.poll() is not None:
            break
    os.close(ours)
    return Screen(program.wait(), data.decode("utf-8", "replace"))


def test_a_demo_run_prints_nothing_wider_than_80_columns(tmp_path: Path) -> None:
    words = ["--explainer", "grad-cam", "--explainer", "random", "--limit", "4"]
    for metric in ("gap@1(grid=14)", "entropy@1", "relevance-mass@1"):
        words += ["--metric", metric]
    words += ["--model", "planted-pad-guided-0", "--dataset", "planted-pad"]
    screen = on_a_terminal("run", "demo", *words, folder=tmp_path)
    assert screen.code == 0, screen.text
    assert max(cell_len(line) for line in screen.lines) <= 80
    text = "\n".join(screen.lines)
    assert screen.lines[0] == "planning the run"
    for part in ("4 images (2 attack, 2 bona-fide)", "too few to rank", "grad-cam: 4/4", "next: faithface view"):
        assert part in text
