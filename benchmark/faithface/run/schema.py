"""The tables of a run's store, and how an older store becomes one of today.

Place in the flow: ``store`` creates and opens databases through it. Imports only the standard library.

``meta`` (key → JSON) · ``groups`` (model × dataset: threshold, facts, and what opening depended on) · ``cells`` (one
explainer in a group) · ``metrics`` (one metric in a cell) · ``samples`` · ``shards`` (which samples are done together)
· ``inputs`` (what numbers depend on, each text once) · ``done`` (one shard of one metric in one cell, with its inputs
and the digest of its rows; metric "" is the explanation itself, shard -1 a cell or metric that ended) · ``invalid``
(maps that could not be scored) · ``scores`` · ``curves`` · ``numbers`` (a record's means and intervals).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping

SCHEMA = 3
OLD_SHARD = 16  # samples per shard in schema 2, which did not write them down

TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE groups (id INTEGER PRIMARY KEY, model TEXT NOT NULL, dataset TEXT NOT NULL, samples INTEGER NOT NULL,
    threshold REAL, opened INTEGER NOT NULL DEFAULT 0, facts TEXT NOT NULL DEFAULT '{}',
    inputs TEXT NOT NULL DEFAULT '{}', UNIQUE (model, dataset));
CREATE TABLE cells (id INTEGER PRIMARY KEY, grp INTEGER NOT NULL REFERENCES groups(id), explainer TEXT NOT NULL,
    status TEXT NOT NULL, code TEXT NOT NULL DEFAULT '', detail TEXT NOT NULL DEFAULT '',
    note TEXT NOT NULL DEFAULT '{}', command TEXT NOT NULL DEFAULT 'null', UNIQUE (grp, explainer));
CREATE TABLE metrics (cell INTEGER NOT NULL REFERENCES cells(id), metric TEXT NOT NULL, ordinal INTEGER NOT NULL,
    status TEXT NOT NULL, code TEXT NOT NULL DEFAULT '', detail TEXT NOT NULL DEFAULT '', PRIMARY KEY (cell, metric));
CREATE TABLE samples (grp INTEGER NOT NULL REFERENCES groups(id), position INTEGER NOT NULL, sample TEXT NOT NULL,
    facts TEXT NOT NULL, PRIMARY KEY (grp, sample));
CREATE TABLE shards (grp INTEGER NOT NULL REFERENCES groups(id), number INTEGER NOT NULL, samples TEXT NOT NULL,
    size INTEGER NOT NULL, PRIMARY KEY (grp, number));
CREATE TABLE inputs (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE done (cell INTEGER NOT NULL REFERENCES cells(id), metric TEXT NOT NULL, number INTEGER NOT NULL,
    code INTEGER NOT NULL REFERENCES inputs(id), data INTEGER NOT NULL REFERENCES inputs(id), digest TEXT NOT NULL,
    samples INTEGER NOT NULL DEFAULT 0, seconds REAL NOT NULL DEFAULT 0, forward INTEGER NOT NULL DEFAULT 0,
    backward INTEGER NOT NULL DEFAULT 0, maps INTEGER NOT NULL DEFAULT 0, finished REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (cell, metric, number)) WITHOUT ROWID;
CREATE TABLE invalid (cell INTEGER NOT NULL, number INTEGER NOT NULL, sample TEXT NOT NULL, code TEXT NOT NULL,
    detail TEXT NOT NULL, PRIMARY KEY (cell, number, sample)) WITHOUT ROWID;
CREATE TABLE scores (cell INTEGER NOT NULL, metric TEXT NOT NULL, number INTEGER NOT NULL, name TEXT NOT NULL,
    sample TEXT NOT NULL, value REAL, code TEXT NOT NULL DEFAULT '', detail TEXT NOT NULL DEFAULT '',
    flag_code TEXT NOT NULL DEFAULT '', flag TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (cell, metric, number, name, sample)) WITHOUT ROWID;
CREATE TABLE curves (cell INTEGER NOT NULL, metric TEXT NOT NULL, number INTEGER NOT NULL, name TEXT NOT NULL,
    sample TEXT NOT NULL, points BLOB NOT NULL, PRIMARY KEY (cell, metric, number, name, sample)) WITHOUT ROWID;
CREATE TABLE numbers (cell INTEGER NOT NULL, metric TEXT NOT NULL, basis TEXT NOT NULL, numbers TEXT NOT NULL,
    PRIMARY KEY (cell, metric)) WITHOUT ROWID;
"""


def create_tables(db: sqlite3.Connection) -> None:
    for statement in TABLES.split(";"):
        if statement.strip():
            db.execute(statement)


def schema_of(db: sqlite3.Connection) -> int | None:
    row = db.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
    return None if row is None else json.loads(row[0])


def migrate(db: sqlite3.Connection) -> None:
    """Bring a store of an older schema to today's, in the caller's transaction; see ``STEPS``."""
    while (found := schema_of(db)) in STEPS:
        STEPS[found](db)


def _from_2(db: sqlite3.Connection) -> None:
    """Schema 2 kept no digests: its values stay readable, and a resumed run computes them again."""
    old = ("groups", "cells", "metrics", "samples", "shards", "invalid", "scores", "curves")
    for name in old:
        db.execute(f"ALTER TABLE {name} RENAME TO old_{name}")
    db.execute("ALTER TABLE meta RENAME TO old_meta")
    create_tables(db)
    db.execute("INSERT INTO meta SELECT key, value FROM old_meta WHERE key NOT IN ('schema', 'complete', 'identity')")
    held = db.execute("SELECT value FROM old_meta WHERE key = 'identity'").fetchone()
    kept = {key: value for key, value in json.loads(held[0]).items() if key in ("seed", "device")} if held else {}
    for key, value in {"schema": 3, "complete": False, "identity": kept}.items():
        db.execute("INSERT INTO meta VALUES (?, ?)", (key, json.dumps(value)))
    db.execute("INSERT INTO groups (id, model, dataset, samples) SELECT id, model, dataset, samples FROM old_groups")
    db.execute(
        "INSERT INTO cells (id, grp, explainer, status, code, detail, note) "
        "SELECT id, grp, explainer, status, code, detail, note FROM old_cells"
    )
    db.execute("INSERT INTO metrics SELECT * FROM old_metrics")
    db.execute("INSERT INTO samples SELECT * FROM old_samples")
    ranked = (
        "(SELECT cells.id AS cell, sample, (ROW_NUMBER() OVER (PARTITION BY cells.id ORDER BY position) - 1) / "
        f"{OLD_SHARD} AS number FROM samples JOIN cells USING (grp)) AS place"
    )
    db.execute(
        "INSERT INTO scores SELECT s.cell, metric, number, name, s.sample, value, code, detail, flag_code, flag "
        f"FROM old_scores s JOIN {ranked} ON place.cell = s.cell AND place.sample = s.sample"
    )
    db.execute(
        "INSERT INTO curves SELECT c.cell, metric, number, name, c.sample, points "
        f"FROM old_curves c JOIN {ranked} ON place.cell = c.cell AND place.sample = c.sample"
    )
    db.execute(
        "INSERT INTO invalid SELECT i.cell, number, i.sample, code, detail "
        f"FROM old_invalid i JOIN {ranked} ON place.cell = i.cell AND place.sample = i.sample"
    )
    for name in (*old, "meta"):
        db.execute(f"DROP TABLE old_{name}")


STEPS: Mapping[int | None, Callable[[sqlite3.Connection], None]] = {2: _from_2}
"""By the schema that a store has, what makes it one of the next."""
