"""A few kills at random moments, of drivers and of worker processes; ``python -m tests.soak.kills`` makes many."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("options", [("--driver", "4", "--worker", "0"), ("--driver", "0", "--worker", "3")])
def test_a_killed_run_ends_as_an_undisturbed_one(options: tuple[str, ...]) -> None:
    # In a process of its own: it forks, which one with threads must not.
    command = [sys.executable, "-m", "tests.soak.kills", *options, "--ray", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].endswith("kills asked for, 0 not survived")
