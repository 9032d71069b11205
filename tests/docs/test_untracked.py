"""A page that was built and not added to git fails the check of the published boards."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from docs.tools import untracked


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b.example", *arguments], cwd=folder, check=True)


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a board of one page and an ignored file."""
    (tmp_path / "leaderboards").mkdir()
    (tmp_path / "leaderboards" / "index.html").write_text("1")
    (tmp_path / ".gitignore").write_text("*.part\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "board")
    (tmp_path / "leaderboards" / "x.part").write_text("")
    (tmp_path / "elsewhere.html").write_text("")
    monkeypatch.setattr(untracked, "ROOT", tmp_path)
    return tmp_path


def test_new_pages_are_named_and_fail(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert untracked.main(["leaderboards"]) == 0
    assert capsys.readouterr().err == ""
    (clone / "leaderboards" / "new é.html").write_text("")
    assert untracked.main(["leaderboards"]) == 1
    assert capsys.readouterr().err == "leaderboards/new é.html is not in git; add or remove it\n"
    git(clone, "add", "-A")
    assert untracked.main(["leaderboards"]) == 0


def test_of_many_the_first_are_named(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(untracked.SHOWN + 3):
        (clone / "leaderboards" / f"{i:03d}.html").write_text("")
    assert untracked.main(["leaderboards"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == untracked.SHOWN + 1
    assert lines[-1] == "and 3 more"


def test_the_check_of_boards_asks_for_them() -> None:
    tox = (Path(untracked.__file__).resolve().parents[2] / "tox.ini").read_text()
    boards = tox.split("[testenv:boards]")[1].split("[testenv:")[0]
    assert "python -m docs.tools.untracked leaderboards docs" in boards
