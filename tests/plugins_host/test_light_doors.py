"""What a door loads: the listings, the help and the boards import none of the heavy libraries.

Each case runs in a fresh interpreter, because this one has imported everything long ago.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from faithface.boards.record import write_records
from tests.boards.made import made_board

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
    ["leaderboard", "show", "BOARD"],
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
    if "BOARD" in command:
        board = tmp_path / "made" / "v1"
        values = {(name, "gap@1"): np.arange(20.0) + i for i, name in enumerate(("a", "b", "random"))}
        write_records(made_board(values, {"random"}, labels=["genuine", "impostor"] * 10), board / "records")
        command = [str(board) if word == "BOARD" else word for word in command]
    assert loaded(f"from faithface.cli import main\nassert main({command!r}) == 0") == set()


def test_the_check_sees_a_heavy_import() -> None:
    assert "torch" in loaded("import torch")
