"""How long the tables of a large board take: ``python -m tests.speed.boards_scale``.

Place in the flow: run by hand; no timed test. Writes a board of made values (by default 200 explainers, 50 models and
20 metrics) to a folder, then reads it, makes its tables and their texts, each step by the clock and by the processor.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from faithface.boards.board import make_board
from faithface.boards.publish import board_contents
from faithface.boards.record import Kept, read_records, record_bytes, record_digest
from faithface.hashing import file_hash
from tests.boards.made import made_board


def write_board(folder: Path, explainers: int, models: int, metrics: int, samples: int) -> None:
    """Write the records of a board; values and people differ between models, and one explainer in ten is a control."""
    rng = np.random.default_rng(0)
    names = [f"method-{i:03d}" for i in range(explainers)]
    for number in range(models):
        quality = rng.normal(size=(explainers, metrics, 1))
        drawn = quality + rng.normal(size=(explainers, metrics, samples))
        values = {(n, f"metric-{m:02d}@1"): drawn[e, m] for e, n in enumerate(names) for m in range(metrics)}
        people = [[f"p{a}", f"p{b}"] for a, b in rng.integers(0, 20, size=(samples, 2))]
        labels = ["genuine", "impostor"] * (samples // 2) + ["genuine"] * (samples % 2)
        made = made_board(
            values, set(names[::10]), units=people, model=f"net-{number:02d}", labels=labels, intervals=False,
            sha256=f"{number:064d}",
        )  # fmt: skip
        for one in made:
            write_fast(one, folder)


def write_fast(one: Kept, folder: Path) -> None:
    """Write a record without waiting for the disk after each file, as ``write_records`` does."""
    path = folder / f"{one.record.stem.as_posix()}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    values = path.with_suffix(".parquet")
    one.values.write_parquet(values, compression="zstd", statistics=False)
    record = one.record.model_copy(update={"values": values.name, "values_sha256": file_hash(values), "digest": ""})
    path.write_bytes(record_bytes(record.model_copy(update={"digest": record_digest(record)})))


def timed(what: str, function: Callable[[], Any]) -> Any:
    clock, processor = time.perf_counter(), time.process_time()
    found = function()
    print(f"{what:<30} {time.perf_counter() - clock:7.1f} s {time.process_time() - processor:7.1f} s of processor")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the tables of a large board.")
    for name, count in (("explainers", 200), ("models", 50), ("metrics", 20), ("samples", 24)):
        parser.add_argument(f"--{name}", type=int, default=count)
    parser.add_argument("--board", type=Path, help="where to keep the board; it is used again if it is there")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        board = asked.board or Path(scratch)
        if not (board / "records").is_dir():
            sizes = (asked.explainers, asked.models, asked.metrics, asked.samples)
            timed("write (not counted)", lambda: write_board(board / "records", *sizes))
        clock = time.perf_counter()
        kept = timed("read records", lambda: read_records(board / "records"))
        made = timed("compare, rank, make tables", lambda: make_board(kept))
        files = timed("texts", lambda: board_contents(board, made, kept))
        total = sum(len(text) for text in files.values())
        print(
            f"{len(kept)} records, {len(made.tables)} tables, {total / 1e6:.1f} MB: {time.perf_counter() - clock:.1f} s"
        )


if __name__ == "__main__":
    main()
