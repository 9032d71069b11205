"""Rows of a store: values, reasons and curves as columns, the digest of a shard's rows, and errors of the database.

Place in the flow: ``reading`` and ``store`` use it. Imports ``durable``, ``errors`` and ``reasons``.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from faithface.durable import AGAIN
from faithface.errors import RunError
from faithface.reasons import Reason, ReasonCode, Status


def null(value: float) -> float | None:
    return float(value) + 0.0 if np.isfinite(value) else None  # SQLite keeps no negative zero


def columns(reason: Reason | None) -> tuple[str, str]:
    """Return a reason as its two columns; none is two empty texts."""
    return ("", "") if reason is None else (reason.code.value, reason.detail)


def decoded(row: sqlite3.Row, *texts: str) -> dict[str, Any]:
    """Return a row with ``status`` and ``reason`` as values, and JSON columns read."""
    found = dict(row)
    if "status" in found:
        code, detail = found.pop("code"), found.pop("detail")
        found["status"] = Status(found["status"])
        found["reason"] = Reason(ReasonCode(code), detail) if code else None
    return {**found, **{name: json.loads(found[name]) for name in texts}}


def pack(points: np.ndarray) -> bytes:
    return zlib.compress(np.asarray(points, dtype="<f4").tobytes(), 1)


def unpack(blob: bytes) -> np.ndarray:
    return np.frombuffer(zlib.decompress(blob), dtype="<f4").astype(np.float32)


def rows_digest(*tables: Iterable[Sequence[Any]]) -> str:
    """Return the digest of the rows of a shard, in whatever order they come."""
    found = hashlib.blake2b(digest_size=12)
    for rows in tables:
        found.update(repr(sorted(map(tuple, rows), key=lambda row: row[:2])).encode("utf-8", "surrogatepass"))
    return found.hexdigest()


def by_shard(rows: Iterable[sqlite3.Row]) -> Iterator[tuple[tuple[str, int], list[tuple[Any, ...]]]]:
    """Group rows that begin with metric and number, and come in their order; yield the rest of each row."""
    for key, mine in groupby(rows, key=lambda row: (row[0], row[1])):
        yield key, [tuple(row)[2:] for row in mine]


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an error of the database into one line that says what to do."""
    try:
        yield
    except sqlite3.Error as error:
        raise line_about(path, error) from None


def line_about(path: Path, error: Exception) -> RunError:
    text = str(error)
    if "locked" in text:
        return RunError(f"{path} is locked by another program; close that, then give the same command again")
    if isinstance(error, sqlite3.OperationalError) and not any(word in text for word in UNREADABLE):
        return RunError(f"{path} cannot be written ({text}); {AGAIN}")
    said = " ".join(text.split())[:120] or type(error).__name__
    return RunError(f"{path} is damaged ({said}); remove it to start the run afresh, or choose another --out")


UNREADABLE = ("decode", "malformed", "no such table", "no such column", "corrupt")
"""Words of SQLite about a file that it can open and not make sense of."""

JSON = {
    "meta": "value", "groups": "facts", "cells": "note", "shards": "samples", "samples": "facts", "inputs": "text",
    "numbers": "numbers",
}  # fmt: skip
CODED = ("cells", "metrics", "invalid")


def damage(db: sqlite3.Connection) -> Exception | None:
    """Return what is wrong with a store that SQLite can open; None if nothing is found."""
    try:
        if (found := db.execute("PRAGMA integrity_check(1)").fetchone()[0]) != "ok":
            return sqlite3.DatabaseError(found)
        for table, column in JSON.items():
            kind = list if table == "shards" else object if table in ("meta", "numbers") else dict
            for (text,) in map(tuple, db.execute(f"SELECT {column} FROM {table}")):
                if not isinstance(json.loads(text), kind):
                    return ValueError(f"{table}.{column} is no {kind.__name__}")
        for table in CODED:
            for row in db.execute(f"SELECT * FROM {table}"):
                if row["code"]:
                    ReasonCode(row["code"])
                if table != "invalid":
                    Status(row["status"])
    except Exception as error:  # whatever a reader meets too
        return error
    return None
