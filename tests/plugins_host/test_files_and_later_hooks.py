"""Plugins without a package, hooks that are called later, the contract's version, and the trace of calls."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

import faithface
from faithface.cli.main import main
from faithface.contract.version import CONTRACT, FaithfaceDeprecationWarning, warn_deprecated
from faithface.errors import UsageError
from faithface.hashing import fingerprint_of
from faithface.plugin_files import VARIABLE, add_plugin_files
from faithface.plugins import A_FILE, TRACE, load_registry

FILE = '''
from dataclasses import dataclass

import faithface
import torch


@dataclass(frozen=True)
class Slope(faithface.Explainer):
    """A slope."""

    method = faithface.Method("slope")

    def explain(self, model, samples):
        row = torch.linspace(1, 0, model.size[1], device=samples.images.device)
        return faithface.Maps(relevance=row.expand(len(samples), *model.size).clone())


@faithface.hookimpl
def faithface_explainers():
    return [Slope()]
'''
LATER = """

TOLD = []


@faithface.hookimpl
def faithface_cell_finished(record):
    TOLD.append((record.record.explainer.spec, len(record.values)))


@faithface.hookimpl
def faithface_run_finished(run):
    TOLD.append(("run", run.cells, len(run.failures)))


@faithface.hookimpl
def faithface_commands(app):
    @app.command("hello")
    def hello(name: str = "world"):
        print(f"hello {name}")

    @app.command("run")
    def run():
        print("not this one")
"""


@pytest.fixture(autouse=True)
def _own_plugins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, "")
    before = set(sys.modules)
    yield
    for name in ("mine", "faithfacefile", "other"):
        if name not in before:
            sys.modules.pop(name, None)


def write(text: str, name: str = "mine.py") -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_named_file_is_a_plugin_with_provenance_and_fingerprint() -> None:
    add_plugin_files([write(FILE)])
    entry = load_registry(only=[]).explainers["slope"]
    assert (entry.provenance.distribution, entry.provenance.entry_point) == (A_FILE, "mine.py")
    assert len(fingerprint_of(entry.object, A_FILE)) == 64


def test_the_file_of_the_working_folder_is_loaded_unless_plugins_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    write(FILE, "faithfacefile.py")
    assert "slope" in load_registry().explainers
    assert "slope" not in load_registry(only=[]).explainers
    monkeypatch.setenv("FAITHFACE_PLUGINS", "")
    assert "slope" not in load_registry().explainers


def test_a_file_that_is_named_must_load_and_one_that_lies_there_need_not() -> None:
    write("import nothing_of_this_name\n", "faithfacefile.py")
    rows = [row for row in load_registry().rows if row.distribution == A_FILE]
    assert [row.status for row in rows] == ["failed"]
    add_plugin_files([write("1 / 0\n")])
    with pytest.raises(UsageError, match=r"mine\.py.* failed: ZeroDivisionError"):
        load_registry()


def test_files_are_refused_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="no such file"):
        add_plugin_files([Path("nowhere.py")])
    with pytest.raises(UsageError, match=r"two plugin files are named mine\.py"):
        add_plugin_files([write(FILE), write(FILE, "sub/mine.py")])
    add_plugin_files([write(FILE, "json.py")])
    with pytest.raises(UsageError, match="has the name of the module json"):
        load_registry()


def test_a_changed_file_is_read_again() -> None:
    path = write(FILE)
    add_plugin_files([path])
    first = load_registry().explainers["slope"].object
    assert load_registry().explainers["slope"].object == first
    path.write_text(FILE.replace('"slope"', '"steeper"'))
    assert "steeper" in load_registry().explainers


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_run_with_a_file_records_it_and_tells_its_listeners(workers: str, capsys: pytest.CaptureFixture[str]) -> None:
    write(FILE + LATER)
    words = [
        "run",
        "--plugin",
        "mine.py",
        "--model",
        "planted-pad-guided-0",
        "--dataset",
        "planted-pad",
        "--limit",
        "2",
    ]
    words += ["--explainer", "slope", "--metric", "entropy@1", "--workers", workers, "--out", "r", "--quiet"]
    assert main(words) == 0
    (record,) = Path("r/records").rglob("*.json")
    text = record.read_text()
    fingerprint = fingerprint_of(load_registry().explainers["slope"].object, A_FILE)
    assert '"mine.py"' in text
    assert fingerprint in text
    assert sys.modules["mine"].TOLD == [("slope", 2), ("run", 1, 0)]


def test_cells_are_told_of_when_all_records_lie_there_and_again_when_more_is_added() -> None:
    there = 'sorted(path.stem for path in Path("r/records").rglob("*.json"))'
    told = LATER.replace("len(record.values)))", f"{there}))").replace(
        "TOLD = []", "from pathlib import Path\n\nTOLD = []"
    )
    write(FILE + told)
    words = [
        "run",
        "--plugin",
        "mine.py",
        "--model",
        "planted-pad-guided-0",
        "--dataset",
        "planted-pad",
        "--limit",
        "2",
    ]
    words += ["--metric", "entropy@1", "--workers", "0", "--out", "r", "--quiet", "--explainer", "slope"]
    assert main(words) == 0
    assert sys.modules["mine"].TOLD == [("slope", ["slope"]), ("run", 1, 0)]
    assert main([*words, "--explainer", "centre-prior"]) == 0
    whole = ["centre-prior", "slope"]
    again = sys.modules["mine"].TOLD[2:]
    assert sorted(again[:-1]) == [(name, whole) for name in whole]
    assert again[-1] == ("run", 2, 0)


def test_a_listener_that_fails_is_a_warning() -> None:
    add_plugin_files([write(FILE + LATER.replace('TOLD.append(("run", run.cells, len(run.failures)))', "1 / 0"))])
    with pytest.warns(RuntimeWarning, match=r"mine\.py.*faithface_run_finished raised ZeroDivisionError"):
        result = faithface.evaluate("planted-pad-guided-0", "planted-pad", ["slope"], ["entropy@1"], limit=2)
    assert isinstance(result.values, pl.DataFrame)
    assert not result.failures


def test_a_plugin_brings_a_command_and_cannot_replace_one(capsys: pytest.CaptureFixture[str]) -> None:
    write(FILE + LATER)
    assert main(["--plugin", "mine.py", "hello", "--name", "you"]) == 0
    assert capsys.readouterr().out == "hello you\n"
    assert main(["--plugin", "mine.py", "run"]) == 2
    assert "nothing to run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "words"), [("2", "install a newer faithface"), ("0", "a newer version of the plugin")]
)
def test_another_major_version_is_refused_with_both_named(given: str, words: str) -> None:
    add_plugin_files([write(FILE + f"\nFAITHFACE_CONTRACT = {given}\n")])
    with pytest.raises(
        UsageError, match=rf"version {given} of the plugin contract.*{CONTRACT[0]}\.{CONTRACT[1]}.*{words}"
    ):
        load_registry()


def test_the_own_major_version_is_accepted_and_nonsense_is_not() -> None:
    path = write(FILE + f'\nFAITHFACE_CONTRACT = "{CONTRACT[0]}.7"\n')
    add_plugin_files([path])
    assert "slope" in load_registry().explainers
    path.write_text(FILE + '\nFAITHFACE_CONTRACT = "new"\n')
    with pytest.raises(UsageError, match="expected a version such as 1"):
        load_registry()


def test_a_deprecation_names_what_to_use_and_where_it_was_used() -> None:
    def old() -> None:
        warn_deprecated("old()", "1.1", "new()")

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        old()
    (one,) = seen
    assert one.category is FaithfaceDeprecationWarning
    assert one.filename == __file__
    assert str(one.message) == "old() is deprecated and will be gone in version 1.1 of the plugin contract; use new()"


def test_the_trace_has_a_line_for_each_call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add_plugin_files([write(FILE)])
    load_registry(only=[])
    assert "trace" not in capsys.readouterr().err
    monkeypatch.setenv(TRACE, "1")
    load_registry(only=[])
    lines = [line for line in capsys.readouterr().err.splitlines() if "mine.py" in line]
    assert [line.split(": ")[3].split(" in ")[0] for line in lines] == ["import", "faithface_explainers"]


EVERYTHING = """
from pathlib import Path

import faithface
from faithface.testing import TinyDataset
from faithface.testing.subjects import tiny_card


@faithface.hookimpl
def faithface_models():
    return [tiny_card("pad")]


@faithface.hookimpl
def faithface_datasets():
    return [TinyDataset("pad")]


@faithface.hookimpl
def faithface_suites():
    return [Path(__file__).parent / "tiny-suite.toml"]
"""


def test_models_datasets_and_suites_of_a_file_are_registered() -> None:
    write("", "tiny-suite.toml")
    add_plugin_files([write(EVERYTHING)])
    registry = load_registry(only=[])
    assert "tiny-pad" in registry.models
    assert "tiny-pad" in registry.datasets
    assert registry.suites["tiny-suite"].object.name == "tiny-suite.toml"
    (row,) = [row for row in registry.rows if row.distribution == A_FILE]
    assert row.registered == {"models": ["tiny-pad"], "datasets": ["tiny-pad"], "suites": ["tiny-suite"]}
