"""Boards on disk: add the records of finished runs, and rebuild a board's files from its records.

Place in the flow: ``faithface leaderboard build`` calls :func:`add_runs` and :func:`rebuild`. Calls ``board``,
``record``, ``render``, ``verdicts`` and the run's store.

    leaderboards/<suite>/v<N>/records/<model>/<dataset>/<explainer>.json + .parquet      the records
    leaderboards/<suite>/v<N>/README.md, tables/*.csv                      made from them and the audit, byte for byte
    leaderboards/audit/audit.json                                          what the metrics' audit lets rank
    leaderboards/<suite>/v<N>/trust.csv                              made from the records and their attestations
    leaderboards/<suite>/README.md                                   the versions, and what changed between them

A version that was frozen (``frozen``) is never changed: what would change it is refused.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from faithface.boards.attest import Attested, read_attestations
from faithface.boards.board import Board, make_board
from faithface.boards.escaping import csv_cell
from faithface.boards.frozen import FROZEN_PARTS, TRUST, VERSION, changed_since_frozen, refuse_if_frozen
from faithface.boards.history import suite_page
from faithface.boards.record import RECORDS, Kept, copy_record, read_record, read_records, record_paths
from faithface.boards.render import board_files
from faithface.boards.tiers import tiers_for
from faithface.boards.verdicts import audit_for
from faithface.durable import write_whole
from faithface.errors import UsageError
from faithface.hashing import file_hash
from faithface.run.outcome import how_to_finish, unfinished
from faithface.run.store import FILE, open_run


def add_runs(runs: Iterable[Path], out: Path, audit: Path | None = None) -> list[Path]:
    """Copy the records of finished runs to their boards and build these; return the boards' folders.

    A record of the same model, dataset and explainer replaces the older one.

    Args:
        audit: as of :func:`rebuild`.

    Raises:
        UsageError: a folder is not a finished run, its records are not those of its cells, or a board is frozen.
        RunError: a board cannot be written.
    """
    copies: dict[Path, list[tuple[Path, Path]]] = {}
    for run in runs:
        source = run / RECORDS
        for path in records_of(run):
            record = read_record(path).record
            board = out / record.suite.name / f"v{record.suite.version}"
            copies.setdefault(board, []).append((path, board / RECORDS / path.relative_to(source)))
    for board, pairs in copies.items():
        refuse_if_frozen(board, {to.relative_to(board).as_posix(): path.read_bytes() for path, to in pairs})
    for board, pairs in copies.items():
        for path, to in pairs:
            copy_record(path, to)
        rebuild(board, audit)
    return list(copies)


def records_of(run: Path) -> list[Path]:
    """Return the records of a finished run, after comparing them with its cells.

    Raises:
        UsageError: the run is not finished, or a record is missing or is not the one that the run wrote.
    """
    source = run / RECORDS
    if not (run / FILE).is_file():
        if not source.is_dir():
            raise UsageError(f"{run} is not a run directory; give a folder that `faithface run` wrote")
        return record_paths(source)
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


def rebuild(board: Path, audit: Path | None = None) -> Board:
    """Write a board's tables from its records; files that no record accounts for are removed from ``tables/``.

    Of a frozen board that is what was frozen, only what freezing does not cover is written.

    Args:
        audit: the record of an audit whose verdicts go before those of the audit beside the boards.

    Raises:
        UsageError: there are no records, they cannot be read, or the board is frozen and was changed since.
    """
    if not (board / RECORDS).is_dir():
        raise UsageError(f"{board} holds no folder '{RECORDS}'; give a board such as leaderboards/demo/v0")
    kept = read_records(board / RECORDS)
    made = make_board(kept, audit_for(board, audit), tiers_for(board))
    files = {name: text.encode("utf-8") for name, text in board_contents(board, made, kept).items()}
    frozen = changed_since_frozen(board)
    if frozen == []:
        # What was frozen stays, though another version of the program or another audit may draw it otherwise.
        files = {name: content for name, content in files.items() if name.partition("/")[0] not in FROZEN_PARTS}
    refuse_if_frozen(board, files)
    tables = board / "tables"
    if tables.is_dir() and frozen is None:
        for old in tables.iterdir():
            if old.is_file() and f"tables/{old.name}" not in files:
                old.unlink()
    for name, content in files.items():
        write_whole(board / name, lambda file, content=content: file.write(content))  # type: ignore[misc]
    if VERSION.fullmatch(board.resolve().name):
        page = suite_page(board.resolve().parent).encode("utf-8")
        write_whole(board.resolve().parent / "README.md", lambda file: file.write(page))
    return made


def board_contents(board: Path, made: Board, kept: Sequence[Kept]) -> dict[str, str]:
    """Return all that is made from a board's records and attestations, by relative path."""
    return {**board_files(made), TRUST: trust_csv(kept, read_attestations(board, kept))}


def trust_csv(kept: Sequence[Kept], attested: Attested) -> str:
    """Return the level of each record as CSV: one line per attestation, or one for a record without."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ("model", "dataset", "explainer", "level", "attested", "by", "samples", "values", "largest", "seed")
    )
    for one in kept:
        record = one.record
        cells = [record.model.name, record.dataset.spec, record.explainer.spec, attested.level(record)]
        for a in attested.by_cell.get(record.stem.as_posix(), ()) or (None,):
            facts = ["", "", "", "", "", ""]
            if a is not None:
                facts = [a.level, a.by, str(len(a.samples)), str(a.values), f"{a.largest:.3g}", str(a.seed)]
            writer.writerow([csv_cell(text) for text in (*cells, *facts)])
    return out.getvalue()
