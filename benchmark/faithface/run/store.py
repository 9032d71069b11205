"""The store: one SQLite file per run directory, with one value per sample, metric and named value.

Place in the flow: only the driver writes, in one transaction per shard and cell, flushed to disk, so that a run
killed at any moment leaves whole shards behind and the same command resumes from there. Readers (``export``,
``boards.collect``, ``api``, ``status``) open it read-only. Imports ``errors``, ``reasons``, ``results``, ``schema``
(the tables), ``lock`` (one writer) and ``durable``.

What became of a cell, a metric or a value is a ``status`` where there is one, a ``code`` and a ``detail``; readers get
them back as ``Status`` and ``Reason``. Beside each shard lie the digests of its inputs (``inputs``) and of its rows.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from faithface.durable import AGAIN, sync_folder
from faithface.errors import RunError, UsageError
from faithface.reasons import Reason, ReasonCode, Status
from faithface.run.lock import LOCK, RunLock
from faithface.run.results import CellShard, SampleFacts
from faithface.run.schema import SCHEMA, STEPS, create_tables, migrate

FILE = "run.sqlite"
ENDED = -1  # the shard number under which the end of a cell or metric (failed, not applicable) keeps its inputs
EXPLAINED = ""  # the metric under which the explanation itself is kept
OWN_FILES = (LOCK, f"{FILE}.new", f"{FILE}.new-journal")
"""What a run that was killed before its store was there may have left in its directory."""


@dataclass(frozen=True)
class Done:
    """One finished shard of one metric in one cell.

    Attributes:
        metric: "" is the explanation itself.
        code, data: keys of what it depends on; see :meth:`Store.inputs`.
        maps: whether its maps were kept.
    """

    cell: int
    metric: str
    number: int
    code: int
    data: int
    maps: bool


class Store:
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

    def close(self) -> None:
        self.db.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Run one SQL statement; an error of the database is one line (RunError)."""
        with _explained(self.path):
            return self.db.execute(statement, parameters)

    def _many(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        with _explained(self.path):
            self.db.executemany(statement, rows)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Write all of what happens inside, or nothing; within another transaction, be part of it."""
        if self.db.in_transaction:
            yield
            return
        with _explained(self.path):
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.db.execute("COMMIT")
            except BaseException:
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
        self.execute(
            "UPDATE groups SET threshold = ?, opened = 1, facts = ?, inputs = ? WHERE id = ?",
            (threshold, json.dumps(facts), json.dumps(inputs), group),
        )

    def close_group(self, group: int) -> None:
        """Forget what opening a model on a dataset found."""
        self.execute("UPDATE groups SET threshold = NULL, opened = 0, inputs = '{}' WHERE id = ?", (group,))

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
            (cell, group, explainer, status.value, *_columns(reason)),
        )

    def add_metric(self, cell: int, metric: str, ordinal: int, status: Status, reason: Reason | None) -> None:
        self.execute(
            "INSERT OR REPLACE INTO metrics VALUES (?, ?, ?, ?, ?, ?)",
            (cell, metric, ordinal, status.value, *_columns(reason)),
        )

    def set_command(self, cell: int, command: Mapping[str, str]) -> None:
        """Keep the command that a cell was last part of."""
        self.execute("UPDATE cells SET command = ? WHERE id = ?", (json.dumps(command), cell))

    def set_cell(self, cell: int, status: Status, reason: Reason | None = None) -> None:
        self.execute(
            "UPDATE cells SET status = ?, code = ?, detail = ? WHERE id = ?", (status.value, *_columns(reason), cell)
        )

    def set_metric(self, cell: int, metric: str, status: Status, reason: Reason | None = None) -> None:
        self.execute(
            "UPDATE metrics SET status = ?, code = ?, detail = ? WHERE cell = ? AND metric = ?",
            (status.value, *_columns(reason), cell, metric),
        )

    def put_samples(self, group: int, facts: Iterable[SampleFacts]) -> None:
        rows = [(group, f.position, f.sample, json.dumps(f.facts)) for f in facts]
        with self.transaction():
            self._many("INSERT OR REPLACE INTO samples VALUES (?, ?, ?, ?)", rows)

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
                self._put_done(done, EXPLAINED, ENDED, inputs[EXPLAINED], "")
                return
            for metric, failure in done.metric_failures.items():
                self.set_metric(done.cell, metric, failure.status, failure.reason)
                self._put_done(done, metric, ENDED, inputs[metric], "")
            if done.note:
                self.execute("UPDATE cells SET note = ? WHERE id = ?", (json.dumps(done.note), done.cell))
            for metric in wanted:
                if metric not in done.metric_failures:
                    self._put_done(done, metric, done.number, inputs[metric], self._put_rows(done, metric))

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
            invalid = [(done.cell, done.number, sample, *_columns(why)) for sample, why in done.invalid.items()]
            self._many("INSERT OR REPLACE INTO invalid VALUES (?, ?, ?, ?, ?)", invalid)
            return _digest((row[2:] for row in invalid), ())
        scores, curves = self._put_scores(done, metric)
        return _digest((row[3:] for row in scores), (row[3:] for row in curves))

    def _put_scores(self, done: CellShard, metric: str) -> tuple[list[Any], list[Any]]:
        at = (done.cell, metric, done.number)
        scores = [
            (*at, v.name, v.sample, _null(v.value), *_columns(v.reason), *_columns(v.flag))
            for v in done.values
            if v.metric == metric
        ]
        curves = [(*at, c.name, c.sample, _pack(c.points)) for c in done.curves if c.metric == metric]
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
            self.add_shards(group, {})

    # --- reading

    def meta(self, key: str) -> Any:
        row = self.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row["value"])

    def groups(self) -> list[dict[str, Any]]:
        rows = self.execute("SELECT * FROM groups ORDER BY id").fetchall()
        return [_decoded(row, "facts", "inputs") for row in rows]

    def group(self, group: int) -> dict[str, Any]:
        row = self.execute("SELECT * FROM groups WHERE id = ?", (group,)).fetchone()
        return _decoded(row, "facts", "inputs")

    def shards(self, group: int) -> dict[int, tuple[str, ...]]:
        """Return the samples of each shard by its number, in order."""
        rows = self.execute("SELECT number, samples FROM shards WHERE grp = ? ORDER BY number", (group,))
        return {row["number"]: tuple(json.loads(row["samples"])) for row in rows}

    def cells(self) -> list[dict[str, Any]]:
        """Return the cells in order, with ``model`` and ``dataset`` of their group and their metrics.

        ``status`` is a ``Status``, ``reason`` a ``Reason`` or None; so it is for metrics.
        """
        rows = self.execute(
            "SELECT cells.*, groups.model, groups.dataset FROM cells JOIN groups ON groups.id = grp ORDER BY cells.id"
        ).fetchall()
        return [{**_decoded(row, "note", "command"), "metrics": self.metrics(row["id"])} for row in rows]

    def cell_status(self, cell: int) -> Status:
        return Status(self.execute("SELECT status FROM cells WHERE id = ?", (cell,)).fetchone()["status"])

    def metrics(self, cell: int) -> list[dict[str, Any]]:
        rows = self.execute(
            "SELECT metric, status, code, detail FROM metrics WHERE cell = ? ORDER BY ordinal, metric", (cell,)
        )
        return [_decoded(row) for row in rows]

    def done(self, cell: int) -> set[int]:
        """Return the numbers of the shards that are explained."""
        rows = self.execute("SELECT number FROM done WHERE cell = ? AND metric = '' AND number >= 0", (cell,))
        return {row["number"] for row in rows}

    def done_metrics(self, cell: int, number: int) -> set[str]:
        """Return the metrics of which a shard of a cell is done; "" is the explanation."""
        rows = self.execute("SELECT metric FROM done WHERE cell = ? AND number = ?", (cell, number))
        return {row["metric"] for row in rows}

    def all_done(self, cell: int) -> list[Done]:
        rows = self.execute("SELECT metric, number, code, data, maps FROM done WHERE cell = ?", (cell,))
        return [Done(cell, *tuple(row)) for row in rows]

    def inputs(self) -> dict[int, str]:
        """Return what numbers depend on, as JSON, by the keys in :class:`Done`."""
        return {row["id"]: row["text"] for row in self.execute("SELECT id, text FROM inputs")}

    def input(self, key: int) -> str:
        return str(self.execute("SELECT text FROM inputs WHERE id = ?", (key,)).fetchone()["text"])

    def damaged(self, cell: int) -> list[tuple[str, int]]:
        """Return the (metric, shard) of a cell whose rows are not those that were written."""
        order = "WHERE cell = ? ORDER BY metric, number, name, sample"
        scores = _by_shard(
            self.execute(
                "SELECT metric, number, name, sample, value, code, detail, flag_code, flag FROM scores " + order,
                (cell,),
            )
        )
        curves = _by_shard(self.execute(f"SELECT metric, number, name, sample, points FROM curves {order}", (cell,)))
        invalid = _by_shard(
            self.execute(
                "SELECT '' AS metric, number, sample, code, detail FROM invalid WHERE cell = ? ORDER BY number, sample",
                (cell,),
            )
        )
        # The three come in the order of metric and number, as the shards do: they are walked side by side.
        rows = self.execute(
            "SELECT metric, number, digest FROM done WHERE cell = ? AND number >= 0 ORDER BY metric, number", (cell,)
        ).fetchall()
        wrong = []
        heads = [next(each, None) for each in (scores, curves, invalid)]
        for metric, number, written in map(tuple, rows):
            mine: list[list[Any]] = [[], [], []]
            for i, source in enumerate((scores, curves, invalid)):
                while (head := heads[i]) is not None and head[0] < (metric, number):
                    heads[i] = next(source, None)  # rows without a shard, which nothing reads
                if head is not None and head[0] == (metric, number):
                    mine[i] = head[1]
                    heads[i] = next(source, None)
            found = _digest(mine[2], ()) if metric == EXPLAINED else _digest(mine[0], mine[1])
            if found != written:
                wrong.append((metric, number))
        return wrong

    def basis(self, cell: int, metric: str) -> str:
        """Return a digest of all that a metric's mean in a cell is computed from."""
        rows = self.execute(
            "SELECT number, digest FROM done WHERE cell = ? AND metric = ? ORDER BY number", (cell, metric)
        )
        return hashlib.blake2b(repr([tuple(row) for row in rows]).encode(), digest_size=16).hexdigest()

    def numbers(self, cell: int) -> dict[str, tuple[str, Any]]:
        """Return by metric the basis and the means and intervals that were computed from it."""
        rows = self.execute("SELECT metric, basis, numbers FROM numbers WHERE cell = ?", (cell,))
        return {row["metric"]: (row["basis"], json.loads(row["numbers"])) for row in rows}

    def explained(self, cell: int) -> int:
        """Return how many samples have a map, valid or not."""
        row = self.execute(
            "SELECT SUM(samples) AS total FROM done WHERE cell = ? AND metric = '' AND number >= 0", (cell,)
        ).fetchone()
        return int(row["total"] or 0)

    def seconds(self, cell: int) -> float:
        """Return how long a cell's explanations took."""
        row = self.execute("SELECT SUM(seconds) AS total FROM done WHERE cell = ? AND metric = ''", (cell,)).fetchone()
        return float(row["total"] or 0.0)

    def scored(self, cell: int) -> set[str]:
        """Return the metrics that have values in a cell."""
        rows = self.execute(
            "SELECT metric FROM metrics WHERE cell = ? AND "
            "EXISTS (SELECT 1 FROM scores WHERE scores.cell = metrics.cell AND scores.metric = metrics.metric)",
            (cell,),
        )
        return {row["metric"] for row in rows}

    def invalid(self, cell: int) -> dict[str, Reason]:
        """Return by sample why its map could not be scored, in the order of sample ids."""
        rows = self.execute("SELECT * FROM invalid WHERE cell = ? ORDER BY sample", (cell,))
        return {row["sample"]: Reason(ReasonCode(row["code"]), row["detail"]) for row in rows}

    def samples(self, group: int) -> list[dict[str, Any]]:
        """Return the samples of a group in the dataset's order: ``sample``, ``position`` and what is known of each."""
        rows = self.execute("SELECT * FROM samples WHERE grp = ? ORDER BY position, sample", (group,))
        return [{"sample": row["sample"], "position": row["position"], **json.loads(row["facts"])} for row in rows]

    def scores(self, cell: int) -> Iterator[sqlite3.Row]:
        """Yield ``metric, name, sample, value, code, detail, flag_code, flag``, by metrics, names and samples."""
        with _explained(self.path):
            yield from self.db.execute(
                "SELECT scores.* FROM scores JOIN metrics USING (cell, metric) JOIN cells ON cells.id = cell "
                "JOIN samples ON samples.grp = cells.grp AND samples.sample = scores.sample "
                "WHERE cell = ? ORDER BY metrics.ordinal, metrics.metric, name, position",
                (cell,),
            )

    def curves(self, cell: int, metric: str, name: str) -> dict[str, np.ndarray]:
        """Return a metric's curves of a cell by sample."""
        rows = self.execute(
            "SELECT sample, points FROM curves WHERE cell = ? AND metric = ? AND name = ?", (cell, metric, name)
        )
        return {row["sample"]: _unpack(row["points"]) for row in rows}


def _null(value: float) -> float | None:
    return float(value) + 0.0 if np.isfinite(value) else None  # SQLite keeps no negative zero


def _columns(reason: Reason | None) -> tuple[str, str]:
    """Return a reason as its two columns; none is two empty texts."""
    return ("", "") if reason is None else (reason.code.value, reason.detail)


def _decoded(row: sqlite3.Row, *texts: str) -> dict[str, Any]:
    """Return a row with ``status`` and ``reason`` as values, and JSON columns read."""
    found = dict(row)
    if "status" in found:
        code, detail = found.pop("code"), found.pop("detail")
        found["status"] = Status(found["status"])
        found["reason"] = Reason(ReasonCode(code), detail) if code else None
    return {**found, **{name: json.loads(found[name]) for name in texts}}


def _pack(points: np.ndarray) -> bytes:
    return zlib.compress(np.asarray(points, dtype="<f4").tobytes(), 1)


def _unpack(blob: bytes) -> np.ndarray:
    return np.frombuffer(zlib.decompress(blob), dtype="<f4").astype(np.float32)


def _digest(*tables: Iterable[Sequence[Any]]) -> str:
    """Return the digest of the rows of a shard, in whatever order they come."""
    found = hashlib.blake2b(digest_size=12)
    for rows in tables:
        found.update(repr(sorted(map(tuple, rows), key=lambda row: row[:2])).encode("utf-8", "surrogatepass"))
    return found.hexdigest()


def _by_shard(rows: Iterable[sqlite3.Row]) -> Iterator[tuple[tuple[str, int], list[tuple[Any, ...]]]]:
    """Group rows that begin with metric and number, and come in their order; yield the rest of each row."""
    for key, mine in groupby(rows, key=lambda row: (row[0], row[1])):
        yield key, [tuple(row)[2:] for row in mine]


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn an error of the database into one line that says what to do."""
    try:
        yield
    except sqlite3.Error as error:
        raise _line(path, error) from None


def _line(path: Path, error: sqlite3.Error) -> RunError:
    text = str(error)
    if "locked" in text:
        return RunError(f"{path} is locked by another program; close that, then give the same command again")
    if isinstance(error, sqlite3.OperationalError):
        return RunError(f"{path} cannot be written ({text}); {AGAIN}")
    return RunError(f"{path} is damaged ({text}); remove it to start the run afresh, or choose another --out")


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
    except sqlite3.Error as error:
        raise _line(path, error) from None
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
