"""What a door loads: the listings, the help and the boards import none of the heavy libraries.

Each case runs in a fresh interpreter, because this one has imported everything long ago.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "torchvision", "onnxruntime", "onnx", "matplotlib", "ray", "captum", "skimage", "sklearn")
COMMANDS = [
    ["--help"],
    ["run", "--help"],
    ["plugins"],
    ["explainers"],
    ["metrics"],
    ["metrics", "gap@1"],
    ["suites"],
    ["runs"],
    ["leaderboard", "build", "--no-site", "BOARD"],
]


def loaded(code: str) -> set[str]:
    """Return the heavy modules that a fresh interpreter holds after some code."""
    report = f"{code}\nimport sys\nprint('LOADED', *(m for m in {HEAVY!r} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return set(done.stdout.splitlines()[-1].split()[1:])


@pytest.mark.parametrize("module", ["faithface", "faithface.contract", "faithface.boards.publish", "faithface.cli"])
def test_a_light_module_imports_nothing_heavy(module: str) -> None:
    assert loaded(f"import {module}") == set()


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_light_command_imports_nothing_heavy(command: list[str], tmp_path: Path) -> None:
    import shutil

    if "BOARD" in command:
        board = tmp_path / "board"
        shutil.copytree(ROOT / "leaderboards" / "demo" / "v0", board)
        command = [str(board) if word == "BOARD" else word for word in command]
    assert loaded(f"from faithface.cli import main\nassert main({command!r}) == 0") == set()


def test_the_check_sees_a_heavy_import() -> None:
    assert "torch" in loaded("import torch")
