"""The store: one SQLite file per run directory, with one value per sample, metric and named value.

Place in the flow: only the driver writes, in one transaction per shard and cell, flushed to disk, so that a run
killed at any moment leaves whole shards behind and the same command resumes from there. Readers (``export``,
``boards.collect``, ``api``, ``status``) open it read-only. Imports ``errors``, ``reasons``, ``results``, ``schema``
(the tables), ``lock`` (one writer) and ``durable``.

What became of a cell, a metric or a value is a ``status`` where there is one, a ``code`` and a ``detail``; readers get
them back as ``Status`` and ``Reason``. Beside each shard lie the digests of its inputs (``inputs``) and of its rows.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from faithface.durable import AGAIN, sync_folder
from faithface.errors import RunError, UsageError
from faithface.reasons import Reason, Status
from faithface.run.lock import LOCK, RunLock
from faithface.run.reading import EXPLAINED, Reading, opening_key, samples_key, traceback_key
from faithface.run.results import NOT_DETERMINISTIC, CellShard, SampleFacts, ShardFailure
from faithface.run.rows import columns, damage, explained, line_about, null, pack, rows_digest
from faithface.run.schema import SCHEMA, STEPS, create_tables, migrate

FILE = "run.sqlite"
ENDED = -1  # the shard number under which the end of a cell or metric (failed, not applicable) keeps its inputs
OWN_FILES = (LOCK, f"{FILE}.new", f"{FILE}.new-journal")
"""What a run that was killed before its store was there may have left in its directory."""


class Store(Reading):
    """One run's SQLite file. Use :func:`create_or_resume` to write and :func:`open_run` to read."""

    def __init__(self, path: Path, writable: bool, lock: RunLock | None = None) -> None:
        self.path, self.directory = path, path.parent
        self._lock = lock
        self._inputs: dict[str, int] = {}
        if writable:
            self.db = sqlite3.connect(path, isolation_level=None)
            self.db.execute("PRAGMA journal_mode=WAL")
            self.db.execute("PRAGMA synchronous=FULL")
        else:
            self.db = _read_only(path)
        self.db.row_factory = sqlite3.Row
        self._seen = self._version()

    def _version(self) -> tuple[int, int]:
        """Return what another process changes that writes the file or replaces it."""
        try:
            file = self.path.stat().st_ino
        except OSError:
            file = 0
        return int(self.db.execute("PRAGMA data_version").fetchone()[0]), file

    def written_by_others(self) -> bool:
        """Say whether another process has written the store, or replaced it, since this was last asked."""
        before, self._seen = self._seen, self._version()
        return self._seen != before

    def close(self) -> None:
        self.db.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Store:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Close the store; what was met in it because it is damaged becomes one line that says so."""
        found: Exception | None = None
        if isinstance(error, sqlite3.Error | UnicodeDecodeError):
            found = error
        elif isinstance(error, ValueError | LookupError | TypeError | AttributeError | OverflowError | zlib.error):
            found = damage(self.db)
        self.close()
        if found is not None:
            raise line_about(self.path, found) from None

    def _many(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        with explained(self.path):
            self.db.executemany(statement, rows)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Write all of what happens inside, or nothing; within another transaction, be part of it."""
        if self.db.in_transaction:
            yield
            return
        with explained(self.path):
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.db.execute("COMMIT")
            except BaseException:
                self._inputs.clear()  # what was written of them is gone
                if self.db.in_transaction:  # a full disk has rolled back already
                    self.db.execute("ROLLBACK")
                raise

    # --- writing, by the driver only

    def put_meta(self, key: str, value: Any) -> None:
        self.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, json.dumps(value)))

    def add_group(self, group: int, model: str, dataset: str) -> None:
        self.execute("INSERT INTO groups (id, model, dataset, samples) VALUES (?, ?, ?, 0)", (group, model, dataset))

    def open_group(
        self, group: int, threshold: float | None, facts: Mapping[str, Any], inputs: Mapping[str, str]
    ) -> None:
        """Record what opening a model on a dataset found: the decision threshold, the file's sha256, the provider."""
        row = (threshold, json.dumps(facts), json.dumps(inputs))
        with self.transaction():
            self.execute(
                "UPDATE groups SET threshold = ?, opened = 1, facts = ?, inputs = ? WHERE id = ?", (*row, group)
            )
            self.put_meta(opening_key(group), rows_digest([row]))

    def close_group(self, group: int) -> None:
        """Forget what opening a model on a dataset found."""
        with self.transaction():
            self.execute("UPDATE groups SET threshold = NULL, opened = 0, inputs = '{}' WHERE id = ?", (group,))
            self.execute("DELETE FROM meta WHERE key = ?", (opening_key(group),))

    def add_shards(self, group: int, shards: Mapping[int, Sequence[str]]) -> None:
        """Write down which samples are done together, by the shard's number."""
        rows = [(group, number, json.dumps(ids), len(ids)) for number, ids in shards.items()]
        with self.transaction():
            self._many("INSERT INTO shards VALUES (?, ?, ?, ?)", rows)
            total = "(SELECT COALESCE(SUM(size), 0) FROM shards WHERE grp = groups.id)"
            self.execute(f"UPDATE groups SET samples = {total} WHERE id = ?", (group,))

    def add_cell(self, cell: int, group: int, explainer: str, status: Status, reason: Reason | None) -> None:
        self.execute(
            "INSERT INTO cells (id, grp, explainer, status, code, detail) VALUES (?, ?, ?, ?, ?, ?)",
            (cell, group, explainer, status.value, *columns(reason)),
        )

    def add_metric(self, cell: int, metric: str, ordinal: int, status: Status, reason: Reason | None) -> None:
        self.execute(
            "INSERT OR REPLACE INTO metrics VALUES (?, ?, ?, ?, ?, ?)",
            (cell, metric, ordinal, status.value, *columns(reason)),
        )

    def set_command(self, cell: int, command: Mapping[str, str]) -> None:
        """Keep the command that a cell was last part of."""
        self.execute("UPDATE cells SET command = ? WHERE id = ?", (json.dumps(command), cell))

    def set_cell(self, cell: int, status: Status, reason: Reason | None = None) -> None:
        self.execute(
            "UPDATE cells SET status = ?, code = ?, detail = ? WHERE id = ?", (status.value, *columns(reason), cell)
        )

    def set_metric(self, cell: int, metric: str, status: Status, reason: Reason | None = None) -> None:
        self.execute(
            "UPDATE metrics SET status = ?, code = ?, detail = ? WHERE cell = ? AND metric = ?",
            (status.value, *columns(reason), cell, metric),
        )

    def put_samples(self, group: int, number: int, facts: Iterable[SampleFacts]) -> None:
        """Write what is known of a shard's samples, and its digest."""
        rows = [(group, f.position, f.sample, json.dumps(f.facts)) for f in facts]
        with self.transaction():
            self._many("INSERT OR REPLACE INTO samples VALUES (?, ?, ?, ?)", rows)
            self.put_meta(samples_key(group, number), rows_digest(rows))

    def forget_samples(self, group: int, shards: Iterable[int]) -> None:
        """Forget what is known of the samples of some shards, and of samples that are in no shard."""
        gone = set(shards)
        kept = {one for number, ids in self.shards(group).items() if number not in gone for one in ids}
        with self.transaction():
            for row in self.execute("SELECT sample FROM samples WHERE grp = ?", (group,)).fetchall():
                if row["sample"] not in kept:
                    self.execute("DELETE FROM samples WHERE grp = ? AND sample = ?", (group, row["sample"]))

    def put_shard(self, done: CellShard, inputs: Mapping[str, tuple[str, str]]) -> None:
        """Write one cell's share of a shard in one transaction; a second delivery of the same shard changes nothing.

        Args:
            inputs: by metric ("" for the explanation), what its numbers depend on: the code and the data mapping, as
                JSON. Metrics that are not among them are not written.
        """
        with self.transaction():
            there = self.done_metrics(done.cell, done.number)
            wanted = [metric for metric in inputs if metric not in there]
            if not wanted:
                return
            if done.failure is not None:
                self.set_cell(done.cell, done.failure.status, done.failure.reason)
                self._put_traceback(done.cell, "", done.failure)
                self._put_done(done, EXPLAINED, ENDED, inputs[EXPLAINED], "")
                return
            for metric, failure in done.metric_failures.items():
                if metric in inputs:
                    self.set_metric(done.cell, metric, failure.status, failure.reason)
                    self._put_traceback(done.cell, metric, failure)
                    self._put_done(done, metric, ENDED, inputs[metric], "")
            if done.note:
                row = self.execute("SELECT note FROM cells WHERE id = ?", (done.cell,)).fetchone()
                # Found on the first shard, and true of all.
                kept = {k: v for k, v in json.loads(row["note"] if row else "{}").items() if k == NOT_DETERMINISTIC}
                note = json.dumps({**kept, **done.note})
                self.execute("UPDATE cells SET note = ? WHERE id = ?", (note, done.cell))
            for metric in wanted:
                if metric not in done.metric_failures:
                    self._put_done(done, metric, done.number, inputs[metric], self._put_rows(done, metric))

    def _put_traceback(self, cell: int, metric: str, failure: ShardFailure) -> None:
        """Keep the traceback of a failure, or forget that of an earlier one."""
        self.put_meta(traceback_key(cell, metric), failure.traceback)

    def _put_done(self, done: CellShard, metric: str, number: int, inputs: tuple[str, str], digest: str) -> None:
        code, data = (self._input(text) for text in inputs)
        cost = (done.seconds, done.forward, done.backward) if metric == EXPLAINED else (0.0, 0, 0)
        kept = metric == EXPLAINED and done.maps is not None
        self.execute(
            "INSERT OR REPLACE INTO done VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (done.cell, metric, number, code, data, digest, len(done.ids), *cost, kept, time.time()),
        )

    def _put_rows(self, done: CellShard, metric: str) -> str:
        """Write a metric's values and curves of a shard (or its invalid maps), and return their digest."""
        if metric == EXPLAINED:
            invalid = [(done.cell, done.number, sample, *columns(why)) for sample, why in done.invalid.items()]
            self._many("INSERT OR REPLACE INTO invalid VALUES (?, ?, ?, ?, ?)", invalid)
            return rows_digest((row[2:] for row in invalid), ())
        scores, curves = self._put_scores(done, metric)
        return rows_digest((row[3:] for row in scores), (row[3:] for row in curves))

    def _put_scores(self, done: CellShard, metric: str) -> tuple[list[Any], list[Any]]:
        at = (done.cell, metric, done.number)
        scores = [
            (*at, v.name, v.sample, null(v.value), *columns(v.reason), *columns(v.flag))
            for v in done.values
            if v.metric == metric
        ]
        curves = [(*at, c.name, c.sample, pack(c.points)) for c in done.curves if c.metric == metric]
        self._many("INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", scores)
        self._many("INSERT OR REPLACE INTO curves VALUES (?, ?, ?, ?, ?, ?)", curves)
        return scores, curves

    def _input(self, text: str) -> int:
        if text not in self._inputs:
            self.execute("INSERT OR IGNORE INTO inputs (text) VALUES (?)", (text,))
            row = self.execute("SELECT id FROM inputs WHERE text = ?", (text,)).fetchone()
            self._inputs[text] = int(row["id"])
        return self._inputs[text]

    def put_family(self, shards: Iterable[CellShard], metric: str, inputs: tuple[str, str]) -> None:
        """Write a family metric's values of one chunk of samples, for all runs of the family, in one transaction."""
        with self.transaction():
            for done in shards:
                self._put_done(done, metric, done.number, inputs, self._put_rows(done, metric))

    def put_numbers(self, cell: int, metric: str, basis: str, numbers: Any) -> None:
        """Keep a metric's means and intervals; ``basis`` says what they were computed from."""
        self.execute("INSERT OR REPLACE INTO numbers VALUES (?, ?, ?, ?)", (cell, metric, basis, json.dumps(numbers)))

    def drop(self, cell: int, metric: str, number: int) -> None:
        """Forget one shard of a metric in a cell; of the explanation (metric ""), all that was made from its map."""
        with self.transaction():
            which, at = ("", (cell, number)) if metric == EXPLAINED else (" AND metric = ?", (cell, number, metric))
            for table in ("done", "scores", "curves", *(("invalid",) if metric == EXPLAINED else ())):
                self.execute(f"DELETE FROM {table} WHERE cell = ? AND number = ?{which}", at)

    def clear_metric(self, cell: int, metric: str) -> None:
        """Forget one metric's results in a cell, so that it is scored afresh."""
        with self.transaction():
            for table in ("done", "scores", "curves", "numbers"):
                self.execute(f"DELETE FROM {table} WHERE cell = ? AND metric = ?", (cell, metric))
            self.set_metric(cell, metric, Status.PENDING)

    def clear_cell(self, cell: int) -> None:
        """Forget a cell's results, so that it is done afresh."""
        with self.transaction():
            for table in ("done", "invalid", "scores", "curves", "numbers", "metrics"):
                self.execute(f"DELETE FROM {table} WHERE cell = ?", (cell,))

    def remove_cell(self, cell: int) -> None:
        """Forget a cell."""
        with self.transaction():
            self.clear_cell(cell)
            self.execute("DELETE FROM cells WHERE id = ?", (cell,))

    def remove_shard(self, group: int, number: int) -> None:
        """Forget a shard, its samples and all that its group's cells made of it."""
        with self.transaction():
            for row in self.execute("SELECT id FROM cells WHERE grp = ?", (group,)).fetchall():
                self.drop(row["id"], EXPLAINED, number)
            for sample in self.shards(group).get(number, ()):
                self.execute("DELETE FROM samples WHERE grp = ? AND sample = ?", (group, sample))
            self.execute("DELETE FROM shards WHERE grp = ? AND number = ?", (group, number))
            self.execute("DELETE FROM meta WHERE key = ?", (samples_key(group, number),))
            self.add_shards(group, {})


def _read_only(path: Path) -> sqlite3.Connection:
    """Open a store for reading, also in a folder that cannot be written."""
    address = path.resolve().as_uri()
    db = sqlite3.connect(f"{address}?mode=ro", uri=True, isolation_level=None)
    try:
        db.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        # The write-ahead log wants a file of its own beside the store; without a log there is nothing in it to miss.
        log = path.with_name(f"{path.name}-wal")
        if os.access(path.parent, os.W_OK) or (log.exists() and log.stat().st_size):
            raise
        db.close()
        db = sqlite3.connect(f"{address}?immutable=1", uri=True, isolation_level=None)
    return db


def create_or_resume(directory: Path, identity: Mapping[str, Any]) -> Store:
    """Open the store of ``directory`` for writing, alone: a new one, or the one that is there.

    Args:
        directory: the run directory; made if it is not there.
        identity: what a run directory holds one of (the seed, the device), as JSON values.

    Raises:
        UsageError: the directory holds a run with another seed or device, or something that is not a run.
        RunError: it cannot be written, another process writes it, or its store is damaged.
    """
    path = directory / FILE
    wanted = json.loads(json.dumps(identity))
    if not path.exists():
        there = [] if not directory.is_dir() else [one for one in directory.iterdir() if one.name not in OWN_FILES]
        if there or (directory.exists() and not directory.is_dir()):
            raise UsageError(f"{directory} exists and is not a run directory; choose another --out, or empty it")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = RunLock(directory)
    except OSError as error:
        raise RunError(f"{directory} cannot be written ({error.strerror or error}); choose another --out") from None
    try:
        if not path.exists() or not path.stat().st_size:
            _create(path, wanted)
        store = _opened(path, writable=True, lock=lock)
    except BaseException:
        lock.release()
        raise
    held = store.meta("identity")
    if held != wanted:
        store.close()
        if not isinstance(held, dict):
            raise line_about(path, ValueError("it does not say which run it is"))
        differ = [f"{key} {held.get(key)}, not {wanted[key]}" for key in wanted if held.get(key) != wanted[key]]
        raise UsageError(f"{directory} holds a run with {' and '.join(differ)}; choose another --out")
    return store


def _create(path: Path, identity: Mapping[str, Any]) -> None:
    """Make an empty store: under another name first, so that one that is there is whole."""
    begun = path.with_name(f"{path.name}.new")
    try:
        for left in (begun, begun.with_name(f"{begun.name}-journal")):
            left.unlink(missing_ok=True)
        db = sqlite3.connect(begun, isolation_level=None)
        try:
            db.execute("PRAGMA synchronous=FULL")
            db.execute("BEGIN IMMEDIATE")
            create_tables(db)
            for key, value in {"schema": SCHEMA, "identity": identity, "complete": False}.items():
                db.execute("INSERT INTO meta VALUES (?, ?)", (key, json.dumps(value)))
            db.execute("COMMIT")
        finally:
            db.close()
        os.replace(begun, path)
        sync_folder(path.parent)
    except (OSError, sqlite3.Error) as error:
        said = getattr(error, "strerror", None) or error
        raise RunError(f"{path.parent} cannot be written ({said}); {AGAIN}") from None


def open_run(directory: str | Path) -> Store:
    """Open a run for reading.

    Raises:
        UsageError: there is no run, or its store has another schema.
    """
    path = Path(directory) / FILE
    if not path.is_file():
        raise UsageError(
            f"{directory} is not a run directory ({FILE} is not there); give a folder that `faithface run` wrote"
        )
    return _opened(path, writable=False)


def _opened(path: Path, writable: bool, lock: RunLock | None = None) -> Store:
    """Open a store that is there; for writing, check that it is sound and bring it to today's schema."""
    try:
        store = Store(path, writable, lock)
        try:
            if writable and (found := store.db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                raise sqlite3.DatabaseError(found.splitlines()[0])
            schema = store.meta("schema")
            if writable and schema in STEPS:
                with store.transaction():
                    migrate(store.db)
                schema = store.meta("schema")
        except BaseException:
            store.db.close()
            raise
    except (sqlite3.Error, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise line_about(path, error) from None
    if schema != SCHEMA:
        store.db.close()
        if schema in STEPS:
            raise UsageError(
                f"{path} was written by an older version of faithface (store schema {schema}); give its `faithface "
                "run` command again to bring it up to date"
            )
        raise UsageError(
            f"{path} was written by another version of faithface (store schema {schema}; this one reads {SCHEMA}); "
            "run it again in another --out"
        )
    return store
