"""The short form of ``tests/soak``: a few hundred mutated files, each read or refused in one line."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.soak.mutations import KINDS

COUNT = 40


@pytest.fixture(scope="module")
def report() -> str:
    # In a process of its own: this one has threads of torch and ONNX Runtime, which a fork does not survive.
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak.mutations", "--count", str(COUNT)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


@pytest.mark.parametrize("name", sorted(KINDS))
def test_mutated_files_are_read_or_refused_in_one_line(report: str, name: str) -> None:
    (own,) = re.findall(rf"^{name}: (.*(?:\n  .*)*)", report, re.MULTILINE)
    assert "\n" not in own  # a fault is a line below
    counts = {what: int(count) for what, count in re.findall(r"(\w+) (\d+)[,;]", own)}
    assert set(counts) <= {"read", "refused", "caught"}
    assert sum(counts.values()) == COUNT
    assert counts["refused"] > COUNT / 4  # the mutations do reach the reader
