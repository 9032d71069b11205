"""Files are whole or absent, and a full disk is one clear error, whoever makes the content."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from faithface.durable import write_whole
from faithface.errors import RunError


@pytest.fixture
def small_files() -> Iterator[None]:
    """Let no file grow beyond 512 bytes, as on a disk that is nearly full."""
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize("what", ["parquet", "csv", "npz", "bytes"])
def test_a_file_that_does_not_fit_is_one_clear_error_and_leaves_the_old_one(what: str, tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).random(4096)
    frame = pl.DataFrame({"x": numbers})
    fill = {
        "parquet": frame.write_parquet,
        "csv": frame.write_csv,
        "npz": lambda file: np.savez(file, x=numbers),
        "bytes": lambda file: file.write(numbers.tobytes()),
    }[what]
    path = tmp_path / "kept"
    path.write_bytes(b"old")
    with pytest.raises(RunError, match=r"kept cannot be written \(File too large\); make room"):
        write_whole(path, fill)  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["kept"]
