"""Some faults by number: a write, flush or rename that fails, and a signal, in the middle of a run. All: tests/soak."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("cc"), reason="needs Linux and a C compiler")
def test_after_any_fault_the_same_command_ends_with_identical_bytes() -> None:
    command = [sys.executable, "-m", "tests.soak.faults", "--short"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    faults, _, rest = done.stdout.splitlines()[-1].partition(" ")
    assert int(faults) >= 20
    assert rest == "faults, 0 not survived"
