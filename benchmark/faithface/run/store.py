"""The store: one SQLite file per run directory, with one value per sample, metric and named value.

Place in the flow: only the driver writes, in one transaction per shard and cell, so that a run killed at any moment
leaves whole shards behind and the same command goes on from there. Readers (``export``, ``boards.record``, ``api``)
open it read-only. Imports ``errors`` and the result types of ``shard``.

Tables: ``meta`` (key → JSON) · ``groups`` (model × dataset: threshold, facts) · ``cells`` (one explainer in a
group) · ``metrics`` (one metric in a cell: applies or not, and why) · ``samples`` · ``shards`` (what is done) ·
``scores`` · ``curves``.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from faithface.errors import RunError, UsageError
from faithface.run.shard import CellShard, SampleFacts

SCHEMA = 1
FILE = "run.sqlite"

OK, FAILED, NOT_APPLICABLE, PENDING = "ok", "failed", "not applicable", "pending"

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE groups (id INTEGER PRIMARY KEY, model TEXT NOT NULL, dataset TEXT NOT NULL, samples INTEGER NOT NULL,
    threshold REAL, opened INTEGER NOT NULL DEFAULT 0, facts TEXT NOT NULL DEFAULT '{}');
CREATE TABLE cells (id INTEGER PRIMARY KEY, grp INTEGER NOT NULL REFERENCES groups(id), explainer TEXT NOT NULL,
    fingerprint TEXT NOT NULL, status TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '', note TEXT NOT NULL DEFAULT '{}');
CREATE TABLE metrics (cell INTEGER NOT NULL REFERENCES cells(id), metric TEXT NOT NULL, ordinal INTEGER NOT NULL,
    status TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '', PRIMARY KEY (cell, metric));
CREATE TABLE samples (grp INTEGER NOT NULL REFERENCES groups(id), position INTEGER NOT NULL, sample TEXT NOT NULL,
    facts TEXT NOT NULL, PRIMARY KEY (grp, sample));
CREATE TABLE shards (cell INTEGER NOT NULL REFERENCES cells(id), number INTEGER NOT NULL, seconds REAL NOT NULL,
    forward INTEGER NOT NULL, backward INTEGER NOT NULL, PRIMARY KEY (cell, number));
CREATE TABLE scores (cell INTEGER NOT NULL, metric TEXT NOT NULL, name TEXT NOT NULL, sample TEXT NOT NULL, value REAL,
    reason TEXT NOT NULL DEFAULT '', flag TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (cell, metric, name, sample)) WITHOUT ROWID;
CREATE TABLE curves (cell INTEGER NOT NULL, metric TEXT NOT NULL, name TEXT NOT NULL, sample TEXT NOT NULL,
    points BLOB NOT NULL, PRIMARY KEY (cell, metric, name, sample)) WITHOUT ROWID;
"""


class Store:
    """One run's SQLite file. Use :func:`create_or_resume` to write and :func:`open_run` to read."""

    def __init__(self, path: Path, writable: bool) -> None:
        self.path, self.directory = path, path.parent
        if writable:
            self.db = sqlite3.connect(path, isolation_level=None)
            self.db.execute("PRAGMA journal_mode=WAL")
            self.db.execute("PRAGMA synchronous=NORMAL")
        else:
            self.db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
        self.db.row_factory = sqlite3.Row

    def close(self) -> None:
        self.db.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        try:
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                if self.db.in_transaction:  # a full disk has rolled back already
                    self.db.execute("ROLLBACK")
                raise
            self.db.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise RunError(
                f"{self.path} cannot be written ({error}); mend that and give the same command again"
            ) from None

    # --- writing, by the driver only

    def put_meta(self, key: str, value: Any) -> None:
        self.db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, json.dumps(value)))

    def add_group(self, group: int, model: str, dataset: str, samples: int) -> None:
        self.db.execute(
            "INSERT OR IGNORE INTO groups (id, model, dataset, samples) VALUES (?, ?, ?, ?)",
            (group, model, dataset, samples),
        )

    def add_cell(self, cell: int, group: int, explainer: str, fingerprint: str, status: str, reason: str) -> None:
        self.db.execute(
            "INSERT INTO cells (id, grp, explainer, fingerprint, status, reason) VALUES (?, ?, ?, ?, ?, ?)",
            (cell, group, explainer, fingerprint, status, reason),
        )

    def add_metric(self, cell: int, metric: str, ordinal: int, status: str, reason: str) -> None:
        self.db.execute(
            "INSERT OR REPLACE INTO metrics VALUES (?, ?, ?, ?, ?)", (cell, metric, ordinal, status, reason)
        )

    def open_group(self, group: int, threshold: float | None, facts: Mapping[str, Any]) -> None:
        """Record what opening a model on a dataset found: the decision threshold, the file's sha256, the provider."""
        self.db.execute(
            "UPDATE groups SET threshold = ?, opened = 1, facts = ? WHERE id = ?", (threshold, json.dumps(facts), group)
        )

    def set_cell(self, cell: int, status: str, reason: str = "") -> None:
        self.db.execute("UPDATE cells SET status = ?, reason = ? WHERE id = ?", (status, reason, cell))

    def set_metric(self, cell: int, metric: str, status: str, reason: str = "") -> None:
        self.db.execute(
            "UPDATE metrics SET status = ?, reason = ? WHERE cell = ? AND metric = ?", (status, reason, cell, metric)
        )

    def put_samples(self, group: int, facts: Iterable[SampleFacts]) -> None:
        rows = [(group, f.position, f.sample, json.dumps(f.facts)) for f in facts]
        with self.transaction():
            self.db.executemany("INSERT OR IGNORE INTO samples VALUES (?, ?, ?, ?)", rows)

    def put_shard(self, done: CellShard) -> None:
        """Write one cell's share of a shard in one transaction; a second delivery of the same shard changes nothing."""
        with self.transaction():
            seen = self.db.execute("SELECT 1 FROM shards WHERE cell = ? AND number = ?", (done.cell, done.number))
            if seen.fetchone():
                return
            self._put_scores(done)
            if done.failure is not None:
                self.set_cell(done.cell, *done.failure)
                return
            for metric, (status, reason) in done.metric_failures.items():
                self.set_metric(done.cell, metric, status, reason)
            if done.note:
                self.db.execute("UPDATE cells SET note = ? WHERE id = ?", (json.dumps(done.note), done.cell))
            self.db.execute(
                "INSERT INTO shards VALUES (?, ?, ?, ?, ?)",
                (done.cell, done.number, done.seconds, done.forward, done.backward),
            )

    def _put_scores(self, done: CellShard) -> None:
        self.db.executemany(
            "INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(done.cell, v.metric, v.name, v.sample, _null(v.value), v.reason, v.flag) for v in done.values],
        )
        self.db.executemany(
            "INSERT OR REPLACE INTO curves VALUES (?, ?, ?, ?, ?)",
            [(done.cell, c.metric, c.name, c.sample, _pack(c.points)) for c in done.curves],
        )

    def put_family(self, shards: Iterable[CellShard]) -> None:
        """Write a family metric's values of one chunk of samples, for all runs of the family, in one transaction."""
        with self.transaction():
            for done in shards:
                self._put_scores(done)

    def clear_cell(self, cell: int) -> None:
        """Forget a cell's results, so that it is done afresh."""
        with self.transaction():
            for table in ("shards", "scores", "curves", "metrics"):
                self.db.execute(f"DELETE FROM {table} WHERE cell = ?", (cell,))
            self.db.execute("DELETE FROM cells WHERE id = ?", (cell,))

    # --- reading

    def meta(self, key: str) -> Any:
        row = self.db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row["value"])

    def groups(self) -> list[dict[str, Any]]:
        rows = self.db.execute("SELECT * FROM groups ORDER BY id").fetchall()
        return [{**dict(row), "facts": json.loads(row["facts"])} for row in rows]

    def cells(self) -> list[dict[str, Any]]:
        """Return the cells in order, with ``model`` and ``dataset`` of their group and their metrics."""
        rows = self.db.execute(
            "SELECT cells.*, groups.model, groups.dataset FROM cells JOIN groups ON groups.id = grp ORDER BY cells.id"
        ).fetchall()
        return [{**dict(row), "note": json.loads(row["note"]), "metrics": self.metrics(row["id"])} for row in rows]

    def metrics(self, cell: int) -> list[dict[str, Any]]:
        rows = self.db.execute("SELECT metric, status, reason FROM metrics WHERE cell = ? ORDER BY ordinal", (cell,))
        return [dict(row) for row in rows]

    def done(self, cell: int) -> set[int]:
        """Return the numbers of the shards that are written."""
        return {row["number"] for row in self.db.execute("SELECT number FROM shards WHERE cell = ?", (cell,))}

    def samples(self, group: int) -> list[dict[str, Any]]:
        """Return the samples of a group in the dataset's order: ``sample``, ``position`` and what is known of each."""
        rows = self.db.execute("SELECT * FROM samples WHERE grp = ? ORDER BY position", (group,))
        return [{"sample": row["sample"], "position": row["position"], **json.loads(row["facts"])} for row in rows]

    def scores(self, cell: int) -> Iterator[sqlite3.Row]:
        """Yield ``metric, name, sample, value, reason, flag`` of a cell, in the order of metrics, names and samples."""
        yield from self.db.execute(
            "SELECT scores.* FROM scores JOIN metrics USING (cell, metric) JOIN cells ON cells.id = cell "
            "JOIN samples ON samples.grp = cells.grp AND samples.sample = scores.sample "
            "WHERE cell = ? ORDER BY metrics.ordinal, name, position",
            (cell,),
        )

    def curves(self, cell: int, metric: str, name: str) -> dict[str, np.ndarray]:
        """Return a metric's curves of a cell by sample."""
        rows = self.db.execute(
            "SELECT sample, points FROM curves WHERE cell = ? AND metric = ? AND name = ?", (cell, metric, name)
        )
        return {row["sample"]: _unpack(row["points"]) for row in rows}


def _null(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _pack(points: np.ndarray) -> bytes:
    return zlib.compress(np.asarray(points, dtype="<f4").tobytes(), 1)


def _unpack(blob: bytes) -> np.ndarray:
    return np.frombuffer(zlib.decompress(blob), dtype="<f4").astype(np.float32)


def create_or_resume(directory: Path, identity: Mapping[str, Any]) -> Store:
    """Open the store of ``directory`` for writing: a new one, or the one that the same command left there.

    Args:
        directory: the run directory; made if it is not there.
        identity: what makes a command the same command, as JSON values.

    Raises:
        UsageError: the directory holds another run, or something that is not a run.
    """
    path = directory / FILE
    wanted = json.loads(json.dumps(identity))
    if path.exists():
        store = _opened(path, writable=True)
        held = store.meta("identity")
        if held != wanted:
            store.close()
            differs = sorted(k for k in {*held, *wanted} if held.get(k) != wanted.get(k))
            raise UsageError(
                f"{directory} holds another run (these differ: {', '.join(differs)}); give the same command to go on "
                "with it, or choose another --out"
            )
        return store
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UsageError(f"{directory} exists and is not a run directory; choose another --out, or empty it")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        store = Store(path, writable=True)
    except (OSError, sqlite3.Error) as error:
        raise RunError(f"{directory} cannot be written ({error}); choose another --out") from None
    with store.transaction():
        for statement in _TABLES.split(";"):
            if statement.strip():
                store.db.execute(statement)
        store.put_meta("schema", SCHEMA)
        store.put_meta("identity", wanted)
    return store


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


def _opened(path: Path, writable: bool) -> Store:
    try:
        store = Store(path, writable)
        schema = store.meta("schema")
    except sqlite3.DatabaseError as error:
        raise UsageError(f"{path} cannot be read ({error}); choose another --out") from None
    if schema != SCHEMA:
        store.close()
        raise UsageError(f"{path} has store schema {schema}; this faithface reads {SCHEMA}: start a new run")
    return store
