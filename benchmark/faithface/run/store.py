"""The store: one SQLite file per run directory, with one value per sample, metric and named value.

Place in the flow: only the driver writes, in one transaction per shard and cell, so that a run killed at any moment
leaves whole shards behind and the same command resumes from there. Readers (``export``, ``boards.collect``, ``api``)
open it read-only. Imports ``errors``, ``reasons`` and ``results``.

Tables: ``meta`` (key → JSON) · ``groups`` (model × dataset: threshold, facts) · ``cells`` (one explainer in a
group) · ``metrics`` (one metric in a cell) · ``samples`` · ``shards`` (what is done) · ``invalid`` (maps that could not
be scored) · ``scores`` · ``curves``. What became of a cell, a metric or a value is a ``status`` where there is one, a
``code`` and a ``detail``; readers get them back as ``Status`` and ``Reason``.
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
from faithface.reasons import Reason, ReasonCode, Status
from faithface.run.results import CellShard, SampleFacts

SCHEMA = 2
FILE = "run.sqlite"

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE groups (id INTEGER PRIMARY KEY, model TEXT NOT NULL, dataset TEXT NOT NULL, samples INTEGER NOT NULL,
    fingerprint TEXT NOT NULL, threshold REAL, opened INTEGER NOT NULL DEFAULT 0, facts TEXT NOT NULL DEFAULT '{}');
CREATE TABLE cells (id INTEGER PRIMARY KEY, grp INTEGER NOT NULL REFERENCES groups(id), explainer TEXT NOT NULL,
    fingerprint TEXT NOT NULL, status TEXT NOT NULL, code TEXT NOT NULL DEFAULT '', detail TEXT NOT NULL DEFAULT '',
    note TEXT NOT NULL DEFAULT '{}');
CREATE TABLE metrics (cell INTEGER NOT NULL REFERENCES cells(id), metric TEXT NOT NULL, ordinal INTEGER NOT NULL,
    status TEXT NOT NULL, code TEXT NOT NULL DEFAULT '', detail TEXT NOT NULL DEFAULT '', PRIMARY KEY (cell, metric));
CREATE TABLE samples (grp INTEGER NOT NULL REFERENCES groups(id), position INTEGER NOT NULL, sample TEXT NOT NULL,
    facts TEXT NOT NULL, PRIMARY KEY (grp, sample));
CREATE TABLE shards (cell INTEGER NOT NULL REFERENCES cells(id), number INTEGER NOT NULL, samples INTEGER NOT NULL,
    seconds REAL NOT NULL, forward INTEGER NOT NULL, backward INTEGER NOT NULL, PRIMARY KEY (cell, number));
CREATE TABLE invalid (cell INTEGER NOT NULL, sample TEXT NOT NULL, code TEXT NOT NULL, detail TEXT NOT NULL,
    PRIMARY KEY (cell, sample)) WITHOUT ROWID;
CREATE TABLE scores (cell INTEGER NOT NULL, metric TEXT NOT NULL, name TEXT NOT NULL, sample TEXT NOT NULL, value REAL,
    code TEXT NOT NULL DEFAULT '', detail TEXT NOT NULL DEFAULT '',
    flag_code TEXT NOT NULL DEFAULT '', flag TEXT NOT NULL DEFAULT '',
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
                f"{self.path} cannot be written ({error}); make room for it, then give the same command again"
            ) from None

    # --- writing, by the driver only

    def put_meta(self, key: str, value: Any) -> None:
        self.db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, json.dumps(value)))

    def add_group(self, group: int, model: str, dataset: str, samples: int, fingerprint: Mapping[str, str]) -> None:
        self.db.execute(
            "INSERT INTO groups (id, model, dataset, samples, fingerprint) VALUES (?, ?, ?, ?, ?)",
            (group, model, dataset, samples, json.dumps(fingerprint)),
        )

    def clear_group(self, group: int) -> None:
        """Forget a group, its samples and what opening it found; its cells must have been cleared before."""
        with self.transaction():
            self.db.execute("DELETE FROM samples WHERE grp = ?", (group,))
            self.db.execute("DELETE FROM groups WHERE id = ?", (group,))

    def add_cell(
        self,
        cell: int,
        group: int,
        explainer: str,
        fingerprint: Mapping[str, str],
        status: Status,
        reason: Reason | None,
    ) -> None:
        self.db.execute(
            "INSERT INTO cells (id, grp, explainer, fingerprint, status, code, detail) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (cell, group, explainer, json.dumps(fingerprint), status.value, *_columns(reason)),
        )

    def add_metric(self, cell: int, metric: str, ordinal: int, status: Status, reason: Reason | None) -> None:
        self.db.execute(
            "INSERT OR REPLACE INTO metrics VALUES (?, ?, ?, ?, ?, ?)",
            (cell, metric, ordinal, status.value, *_columns(reason)),
        )

    def open_group(self, group: int, threshold: float | None, facts: Mapping[str, Any]) -> None:
        """Record what opening a model on a dataset found: the decision threshold, the file's sha256, the provider."""
        self.db.execute(
            "UPDATE groups SET threshold = ?, opened = 1, facts = ? WHERE id = ?", (threshold, json.dumps(facts), group)
        )

    def set_cell(self, cell: int, status: Status, reason: Reason | None = None) -> None:
        self.db.execute(
            "UPDATE cells SET status = ?, code = ?, detail = ? WHERE id = ?", (status.value, *_columns(reason), cell)
        )

    def set_metric(self, cell: int, metric: str, status: Status, reason: Reason | None = None) -> None:
        self.db.execute(
            "UPDATE metrics SET status = ?, code = ?, detail = ? WHERE cell = ? AND metric = ?",
            (status.value, *_columns(reason), cell, metric),
        )

    def clear_metric(self, cell: int, metric: str) -> None:
        """Forget one metric's results in a cell, so that it is scored afresh."""
        with self.transaction():
            for table in ("scores", "curves"):
                self.db.execute(f"DELETE FROM {table} WHERE cell = ? AND metric = ?", (cell, metric))
            self.set_metric(cell, metric, Status.PENDING)

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
                self.set_cell(done.cell, done.failure.status, done.failure.reason)
                return
            for metric, failure in done.metric_failures.items():
                self.set_metric(done.cell, metric, failure.status, failure.reason)
            self.db.executemany(
                "INSERT OR REPLACE INTO invalid VALUES (?, ?, ?, ?)",
                [(done.cell, sample, *_columns(reason)) for sample, reason in done.invalid.items()],
            )
            if done.note:
                self.db.execute("UPDATE cells SET note = ? WHERE id = ?", (json.dumps(done.note), done.cell))
            self.db.execute(
                "INSERT INTO shards VALUES (?, ?, ?, ?, ?, ?)",
                (done.cell, done.number, len(done.ids), done.seconds, done.forward, done.backward),
            )

    def _put_scores(self, done: CellShard) -> None:
        self.db.executemany(
            "INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (done.cell, v.metric, v.name, v.sample, _null(v.value), *_columns(v.reason), *_columns(v.flag))
                for v in done.values
            ],
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
            for table in ("shards", "invalid", "scores", "curves", "metrics"):
                self.db.execute(f"DELETE FROM {table} WHERE cell = ?", (cell,))
            self.db.execute("DELETE FROM cells WHERE id = ?", (cell,))

    # --- reading

    def meta(self, key: str) -> Any:
        row = self.db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row["value"])

    def groups(self) -> list[dict[str, Any]]:
        rows = self.db.execute("SELECT * FROM groups ORDER BY id").fetchall()
        return [_decoded(row, "facts", "fingerprint") for row in rows]

    def cells(self) -> list[dict[str, Any]]:
        """Return the cells in order, with ``model`` and ``dataset`` of their group and their metrics.

        ``status`` is a ``Status``, ``reason`` a ``Reason`` or None; so it is for metrics.
        """
        rows = self.db.execute(
            "SELECT cells.*, groups.model, groups.dataset FROM cells JOIN groups ON groups.id = grp ORDER BY cells.id"
        ).fetchall()
        return [{**_decoded(row, "note", "fingerprint"), "metrics": self.metrics(row["id"])} for row in rows]

    def metrics(self, cell: int) -> list[dict[str, Any]]:
        rows = self.db.execute(
            "SELECT metric, status, code, detail FROM metrics WHERE cell = ? ORDER BY ordinal", (cell,)
        )
        return [_decoded(row) for row in rows]

    def done(self, cell: int) -> set[int]:
        """Return the numbers of the shards that are written."""
        return {row["number"] for row in self.db.execute("SELECT number FROM shards WHERE cell = ?", (cell,))}

    def explained(self, cell: int) -> int:
        """Return how many samples have a map, valid or not."""
        row = self.db.execute("SELECT SUM(samples) AS total FROM shards WHERE cell = ?", (cell,)).fetchone()
        return int(row["total"] or 0)

    def invalid(self, cell: int) -> dict[str, Reason]:
        """Return by sample why its map could not be scored, in the order of sample ids."""
        rows = self.db.execute("SELECT * FROM invalid WHERE cell = ? ORDER BY sample", (cell,))
        return {row["sample"]: Reason(ReasonCode(row["code"]), row["detail"]) for row in rows}

    def samples(self, group: int) -> list[dict[str, Any]]:
        """Return the samples of a group in the dataset's order: ``sample``, ``position`` and what is known of each."""
        rows = self.db.execute("SELECT * FROM samples WHERE grp = ? ORDER BY position", (group,))
        return [{"sample": row["sample"], "position": row["position"], **json.loads(row["facts"])} for row in rows]

    def scores(self, cell: int) -> Iterator[sqlite3.Row]:
        """Yield ``metric, name, sample, value, code, detail, flag_code, flag``, by metrics, names and samples."""
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
                f"{directory} holds another run (these differ: {', '.join(differs)}); give the same command to "
                "resume it, or choose another --out"
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
        raise UsageError(
            f"{path} was written by another version of faithface (store schema {schema}; this one reads {SCHEMA}); "
            "run it again in another --out"
        )
    return store
