"""Boards on disk: add the records of finished runs, and rebuild a board's files from its records.

Place in the flow: ``faithface leaderboard build`` calls :func:`add_runs` and :func:`rebuild`. Calls ``board``,
``record``, ``render`` and the run's store.

    leaderboards/<suite>/v<N>/records/<model>/<dataset>/<explainer>.json + .parquet      the records
    leaderboards/<suite>/v<N>/README.md, tables/*.csv                                    made from them, byte for byte
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from faithface.boards.board import Board, make_board
from faithface.boards.record import RECORDS, read_record, read_records
from faithface.boards.render import board_files
from faithface.errors import UsageError
from faithface.run.outcome import unfinished
from faithface.run.store import FILE, open_run


def add_runs(runs: Iterable[Path], out: Path) -> list[Path]:
    """Copy the records of finished runs to their boards and build these; return the boards' folders.

    A record of the same model, dataset and explainer replaces the older one.

    Raises:
        UsageError: a folder is not a finished run.
    """
    touched: list[Path] = []
    for run in runs:
        if (run / FILE).is_file():
            with open_run(run) as store:
                if missing := unfinished(store):
                    raise UsageError(missing)
        source = run / RECORDS
        if not source.is_dir():
            raise UsageError(
                f"{run} holds no records: it is not a finished run; give its `faithface run` command again to finish it"
            )
        for path in sorted(source.rglob("*.json"), key=lambda p: p.relative_to(source).as_posix()):
            record = read_record(path).record
            board = out / record.suite.name / f"v{record.suite.version}"
            target = board / RECORDS / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            if record.values:
                shutil.copyfile(path.parent / record.values, target.parent / record.values)
            if board not in touched:
                touched.append(board)
    for board in touched:
        rebuild(board)
    return touched


def rebuild(board: Path) -> Board:
    """Write a board's tables from its records; files that no record accounts for are removed from ``tables/``.

    Raises:
        UsageError: there are no records, or they cannot be read.
    """
    if not (board / RECORDS).is_dir():
        raise UsageError(f"{board} holds no folder '{RECORDS}'; give a board such as leaderboards/demo/v0")
    made = make_board(read_records(board / RECORDS))
    files = board_files(made)
    tables = board / "tables"
    if tables.is_dir():
        for old in tables.iterdir():
            if old.is_file() and f"tables/{old.name}" not in files:
                old.unlink()
    for name, text in files.items():
        path = board / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("utf-8"))
    return made
