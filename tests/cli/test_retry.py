"""``faithface run --retry-failed``: with the run directory alone, what failed is done again by the command it keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from faithface.cli import main
from faithface.run.store import open_run
from tests.support.runs import write_card, write_folder


def test_what_failed_is_done_again_by_the_command_that_the_run_keeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cards = [write_card(tmp_path, seed=seed, name=f"net-{seed}") for seed in (0, 1)]
    write_folder(tmp_path / "faces", 4)
    file = tmp_path / next(line.split('"')[1] for line in cards[1].read_text().splitlines() if line.startswith("file"))
    whole = file.read_bytes()
    file.write_bytes(whole[:400])
    monkeypatch.chdir(tmp_path)
    models = [word for card in cards for word in ("--model", card.name)]
    command = ["run", *models, "--dataset", "folder:faces/classes", "--explainer", "random", "--metric", "entropy@1"]
    assert main([*command, "--out", "r", "-q"]) == 1
    assert "not an ONNX file" in capsys.readouterr().err
    with open_run(tmp_path / "r") as store:
        before = [tuple(row) for row in store.scores(0)]

    file.write_bytes(whole)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["run", "--retry-failed", "--out", "../r"]) == 0
    assert "net-1" in capsys.readouterr().out  # the table of the model that failed before
    with open_run(tmp_path / "r") as store:
        assert [str(row["status"]) for row in store.cells()] == ["ok", "ok"]
        assert [tuple(row) for row in store.scores(0)] == before
        assert "--retry-failed" not in store.meta("command")["line"]


def test_without_a_command_there_is_nothing_to_retry(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--retry-failed", "--out", str(tmp_path / "nothing")]) == 2
    assert "is not a run directory" in capsys.readouterr().err
