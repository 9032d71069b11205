"""Boards on disk: add the records of finished runs, and rebuild a board's files from its records.

Place in the flow: ``faithface leaderboard build`` calls :func:`add_runs` and :func:`rebuild`. Calls ``board``,
``record``, ``render`` and the run's store.

    leaderboards/<suite>/v<N>/records/<model>/<dataset>/<explainer>.json + .parquet      the records
    leaderboards/<suite>/v<N>/README.md, tables/*.csv                                    made from them, byte for byte
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from faithface.boards.board import Board, make_board
from faithface.boards.record import RECORDS, copy_record, read_record, read_records
from faithface.boards.render import board_files
from faithface.durable import write_whole
from faithface.errors import UsageError
from faithface.hashing import file_hash
from faithface.run.outcome import how_to_finish, unfinished
from faithface.run.store import FILE, open_run


def add_runs(runs: Iterable[Path], out: Path) -> list[Path]:
    """Copy the records of finished runs to their boards and build these; return the boards' folders.

    A record of the same model, dataset and explainer replaces the older one.

    Raises:
        UsageError: a folder is not a finished run, or its records are not those of its cells.
        RunError: a board cannot be written.
    """
    touched: list[Path] = []
    for run in runs:
        source = run / RECORDS
        for path in records_of(run):
            record = read_record(path).record
            board = out / record.suite.name / f"v{record.suite.version}"
            copy_record(path, board / RECORDS / path.relative_to(source))
            if board not in touched:
                touched.append(board)
    for board in touched:
        rebuild(board)
    return touched


def records_of(run: Path) -> list[Path]:
    """Return the records of a finished run, after comparing them with its cells.

    Raises:
        UsageError: the run is not finished, or a record is missing or is not the one that the run wrote.
    """
    source = run / RECORDS
    if not (run / FILE).is_file():
        if not source.is_dir():
            raise UsageError(f"{run} is not a run directory; give a folder that `faithface run` wrote")
        return sorted(source.rglob("*.json"), key=lambda p: p.relative_to(source).as_posix())
    with open_run(run) as store:
        if missing := unfinished(store):
            raise UsageError(missing)
        listed = store.meta("records") or {}
        without = {row["id"] for row in store.cells()} - {entry["cell"] for entry in listed.values()}
        how = how_to_finish(store)
    if not source.is_dir():
        raise UsageError(f"{run} holds no records: it is not a finished run; {how}")
    wrong = [name for name, entry in listed.items() if not _is(source / name, entry["sha256"])]
    if wrong or without:
        raise UsageError(
            f"{run}: {len(wrong) + len(without)} of {len(listed) + len(without)} records are missing or were altered"
            f"{f' ({wrong[0]})' if wrong else ''}; {how}"
        )
    return [source / name for name in sorted(listed)]


def _is(path: Path, sha256: str) -> bool:
    return path.is_file() and file_hash(path) == sha256


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
        content = text.encode("utf-8")
        write_whole(path, lambda file, content=content: file.write(content))  # type: ignore[misc]
    return made
