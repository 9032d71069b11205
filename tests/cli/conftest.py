"""The command line run in this process, with its output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from faithface.cli import main
from faithface.plugins import load_registry
from tests.support.runs import (
    Fails,
    FailsToScore,
    MeanRelevance,
    Ramp,
    with_extras,
    write_card,
    write_folder,
    write_pairs,
)


@dataclass(frozen=True)
class Said:
    """What a command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one error line."""
        lines = [line for line in self.err.splitlines() if line.startswith("faithface: error: ")]
        assert len(lines) == 1, self.err
        return lines[0].removeprefix("faithface: error: ")


@pytest.fixture
def faithface(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Said]:
    """Run ``faithface …`` in an empty folder, with four more plugins registered."""
    registry = with_extras(load_registry(), Ramp(), Fails(), MeanRelevance(), FailsToScore())
    monkeypatch.setattr("faithface.plugins.load_registry", lambda strict=False: registry)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Said:
        capsys.readouterr()
        code = main([str(a) for a in arguments])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return Said(code, said.out, said.err)

    return run


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with cards ``pad.toml`` and ``verification.toml``, a class folder and pairs."""
    root = tmp_path_factory.mktemp("made")
    write_card(root, name="pad")
    write_card(root, "verification", name="verification")
    write_folder(root)
    write_pairs(root)
    return root
