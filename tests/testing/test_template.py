"""The template as a third party uses it: written, built, installed in a clean environment, tested, checked, removed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import numpy as np
import pytest

from faithface.cli.main import main
from faithface.errors import UsageError
from faithface.testing import template
from faithface.testing.template import KINDS, new_plugin, template_folder, update_plugin

ROOT = Path(__file__).resolve().parents[2]


def run(*words: str | Path, cwd: Path, code: int | None = 0) -> str:
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "FAITHFACE_PLUGIN"))}
    variables |= {"PYTHONDONTWRITEBYTECODE": "1", "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run([str(w) for w in words], cwd=cwd, env=variables, capture_output=True, text=True, timeout=600)
    assert code is None or done.returncode == code, f"{words}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout + done.stderr


class Place:
    """A clean environment in which faithface and its dependencies can be imported, and nothing else is installed."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder / "venv", with_pip=False)
        self.python = folder / "venv" / "bin" / "python"
        (self.site,) = (folder / "venv" / "lib").glob("python*/site-packages")
        # What this process runs on: dependencies are linked, not installed again.
        deps = {str(Path(np.__file__).parents[1]), str(Path(pytest.__file__).parents[1])}
        deps |= {p for p in sys.path if p.endswith("site-packages")}
        own = [str(ROOT / "benchmark"), str(ROOT / "plugins")]
        (self.site / "linked.pth").write_text("\n".join([*own, *sorted(deps)]) + "\n")
        info = self.site / "faithface-0.1.0.dist-info"
        info.mkdir()
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        info.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: faithface\nVersion: 0.1.0\n")
        points = project["entry-points"]
        info.joinpath("entry_points.txt").write_text(
            "\n".join(f"[{group}]\n" + "\n".join(f"{k} = {v}" for k, v in points[group].items()) for group in points)
        )

    def faithface(self, *words: str, cwd: Path, code: int | None = 0) -> str:
        return run(self.python, "-m", "faithface", *words, cwd=cwd, code=code)


def test_a_plugin_of_each_kind_builds_installs_passes_its_tests_and_leaves_no_trace(tmp_path: Path) -> None:
    place = Place(tmp_path)
    before = sorted(p.name for p in place.site.iterdir())
    for kind in KINDS:
        folder = new_plugin(f"lab-{kind}", kind, tmp_path)
        run(
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--no-deps",
            "--no-build-isolation",
            "-q",
            "-w",
            tmp_path / "wheels",
            folder,
            cwd=tmp_path,
        )
    wheels = sorted((tmp_path / "wheels").glob("*.whl"))
    assert len(wheels) == len(KINDS)
    run(sys.executable, "-m", "pip", "--python", place.python, "install", "-q", "--no-deps", *wheels, cwd=tmp_path)
    listed = place.faithface("plugins", cwd=tmp_path)
    for kind in KINDS:
        assert f"lab-{kind}" in listed
    tests = [tmp_path / f"lab-{kind}" / "tests" for kind in KINDS]
    out = run(
        place.python, "-m", "pytest", "-q", "--import-mode=importlib", "--max-examples", "1", *tests, cwd=tmp_path
    )
    assert f"{2 * len(KINDS)} passed" in out
    told = place.faithface("check", "lab-suite", cwd=tmp_path)
    assert "lab-suite: documented" in told
    assert "for validated:" in told
    assert "documented" in next(
        line for line in place.faithface("plugins", cwd=tmp_path).splitlines() if "lab-suite" in line
    )
    names = [f"lab-{kind}" for kind in KINDS]
    run(sys.executable, "-m", "pip", "--python", place.python, "uninstall", "-q", "-y", *names, cwd=tmp_path)
    assert sorted(p.name for p in place.site.iterdir()) == before
    assert "lab-" not in place.faithface("plugins", cwd=tmp_path)


def test_the_command_says_what_comes_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new-plugin", "cell-drop", "--kind", "metric", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert f"python -m pip install -e {tmp_path / 'cell-drop'}" in out
    assert "faithface check cell-drop" in out
    test = (tmp_path / "cell-drop" / "tests" / "test_plugin.py").read_text()
    assert len([line for line in test.splitlines() if line.strip()]) == 2
    assert main(["new-plugin", "cell-drop", "--out", str(tmp_path)]) == 2
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("Cell Drop", "metric", "expected lower-case letters"),
        ("3d-maps", "metric", "cannot be imported"),
        ("faithface", "metric", "cannot be imported"),
        ("cell-drop", "explainers", 'did you mean "explainer"'),
    ],
)
def test_a_wrong_name_or_kind_is_refused(name: str, kind: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words):
        new_plugin(name, kind, tmp_path)


def test_an_author_takes_later_changes_of_the_template_and_keeps_what_is_his(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = new_plugin("my-thing", "explainer", tmp_path)
    assert update_plugin(folder) == []
    own = {
        "my_thing/explainer.py": "# mine",
        "my_thing/more.py": "# mine",
        "README.md": "mine",
        "pyproject.toml": "# mine",
    }
    for path, text in own.items():
        (folder / path).write_text(text)
    later = tmp_path / "later"
    shutil.copytree(template_folder(), later)
    for path in later.rglob("*.jinja"):
        if path.name != "{{_copier_conf.answers_file}}.jinja":
            path.write_text(path.read_text() + "# of the later template\n")
    monkeypatch.setattr(template, "template_folder", lambda: later)
    assert main(["new-plugin", "my-thing", "--update", "--out", str(tmp_path)]) == 0
    told = capsys.readouterr().out.split()
    assert told == ["changed:", ".github/workflows/test.yml", "tests/test_plugin.py"]
    assert {path: (folder / path).read_text() for path in own} == own
    assert (folder / "tests" / "test_plugin.py").read_text().endswith("# of the later template\n")
    assert main(["new-plugin", "my-thing", "--update", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "nothing changed\n"
    (folder / "my_thing" / "explainer.py").unlink()
    assert update_plugin(folder) == ["my_thing/explainer.py"]


def test_only_a_plugin_of_the_template_can_be_updated(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="was not made by `faithface new-plugin`"):
        update_plugin(tmp_path)
    folder = new_plugin("my-thing", "metric", tmp_path)
    (folder / template.ANSWERS).write_text("name: my-thing\n")
    with pytest.raises(UsageError, match="does not say kind"):
        update_plugin(folder)


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_template_is_the_one_of_the_repository() -> None:
    # The installed package has a copy of it; an editable install reads the repository's folder itself.
    assert files_of(template_folder()) == files_of(ROOT / "plugins" / "template")
