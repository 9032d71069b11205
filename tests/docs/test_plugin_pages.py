"""What the pages for plugin authors show is run: the file of one's own, the reporters, the tutorial's method."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import faithface
from faithface.cli.main import main
from faithface.plugin_files import VARIABLE, add_plugin_files
from faithface.testing import check_explainer
from tests.docs.pages import DOCS, blocks, command_lines

SMALL = [
    "--model",
    "planted-pad-guided-0",
    "--dataset",
    "planted-pad",
    "--metric",
    "entropy@1",
    "--workers",
    "0",
    "--quiet",
]
PLUGIN_PAGE = DOCS / "how-to" / "write-a-plugin.md"
HOOKS_PAGE = DOCS / "reference" / "hooks.md"
TUTORIAL = DOCS / "tutorial" / "first-explainer.md"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, "")
    yield
    for name in ("mine", "reporter"):
        sys.modules.pop(name, None)


def python_blocks(page: Path) -> list[str]:
    return [block.text for block in blocks(page) if block.language == "python"]


def test_the_file_of_the_page_runs_as_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    first, call = python_blocks(PLUGIN_PAGE)
    Path("mine.py").write_text(first)
    (line,) = [line for line in command_lines(PLUGIN_PAGE) if "--plugin" in line]
    assert main([*line, *SMALL, "--limit", "2"]) == 0
    assert " mine " in capsys.readouterr().out
    names: dict[str, Any] = {}
    exec(compile(f"{first}\n{call}", "page.py", "exec"), names)
    assert not names["result"].failures
    assert check_explainer(SimpleNamespace(**_loaded(Path("mine.py"))).Mine(), max_examples=0, tasks=["pad"]).ok


def test_the_reporters_of_the_page_report(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    logged: dict[str, Any] = {}

    @contextlib.contextmanager
    def start_run(run_name: str) -> Iterator[None]:
        logged["run"] = run_name
        yield

    tracker = ModuleType("mlflow")
    tracker.__dict__.update(
        start_run=start_run,
        log_params=lambda given: logged.update(given),
        log_metric=lambda k, v: logged.update({k: v}),
    )
    monkeypatch.setitem(sys.modules, "mlflow", tracker)
    shown = [text for text in python_blocks(HOOKS_PAGE) if "@faithface.hookimpl" in text]
    to_file, to_tracker = [text for text in shown if "faithface_cell_finished" in text]
    at_end, command = [text for text in shown if "faithface_run_finished" in text or "faithface_commands" in text]
    for text in (to_file, to_tracker):
        Path("reporter.py").write_text(f"import faithface\n\n{text}\n{at_end}\n{command}")
        sys.modules.pop("reporter", None)
        add_plugin_files([Path("reporter.py")])
        faithface.evaluate("planted-pad-guided-0", "planted-pad", ["centre-prior"], ["entropy@1"], limit=2)
        assert "1 cells, 0 failures" in capsys.readouterr().out
    number = Path("log.csv").read_text().strip().split(",")
    assert number[:2] == ["centre-prior", "entropy@1"]
    assert logged["explainer"] == "centre-prior"
    assert logged["entropy"] == pytest.approx(float(number[2]))
    assert main(["--plugin", "reporter.py", "hello"]) == 0
    assert capsys.readouterr().out == "hello world\n"


def test_the_tutorial_s_method_conforms_and_a_flipped_sign_is_found() -> None:
    (text,) = python_blocks(TUTORIAL)
    for change, failed in (("", set()), ("-", {"right-sign"})):
        Path("mine.py").write_text(text.replace("(gradient * (views", f"{change}(gradient * (views"))
        namespace = SimpleNamespace(**_loaded(Path("mine.py")))
        report = check_explainer(namespace.Mine(), max_examples=0, tasks=["pad"])
        assert report.failed_checks() == failed, str(report)


def test_the_tutorial_s_method_is_on_the_board(capsys: pytest.CaptureFixture[str]) -> None:
    (text,) = python_blocks(TUTORIAL)
    Path("mine.py").write_text(f"{text}\n\n@faithface.hookimpl\ndef faithface_explainers():\n    return [Mine()]\n")
    run, build = [line for line in command_lines(TUTORIAL) if line[0] in ("run", "leaderboard")]
    quick = [word for word in run if word != "demo"]
    assert main(["--plugin", "mine.py", *quick, *SMALL, "--limit", "2"]) == 0
    board = capsys.readouterr().out
    assert all(f" {name} " in board for name in ("mine", "grad-cam", "random"))
    assert main(build) == 0
    assert " mine " in Path("leaderboards/adhoc/v0/README.md").read_text(encoding="utf-8")


def _loaded(path: Path) -> dict[str, Any]:
    from faithface.plugin_files import load_file

    sys.modules.pop("mine", None)
    return vars(load_file(path.resolve(), "mine"))


def test_the_tutorial_s_commands_are_those_of_the_program() -> None:
    """They run in ``tests/testing/test_template.py``, where a plugin is installed; here, that none was forgotten."""
    told = [shlex.join(line).split()[0] for line in command_lines(TUTORIAL)]
    assert told == ["new-plugin", "check", "run", "leaderboard"]
