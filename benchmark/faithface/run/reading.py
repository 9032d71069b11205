"""What a store holds, for readers: the base of ``store.Store``.

Place in the flow: ``store`` adds the writing; see there. Imports ``rows`` and ``reasons``.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from faithface.reasons import Reason, ReasonCode, Status
from faithface.run.rows import by_shard, decoded, explained, rows_digest, unpack

EXPLAINED = ""  # the metric under which the explanation itself is kept


def samples_key(group: int, shard: int) -> str:
    """Return the key under which the digest of a shard's samples is kept."""
    return f"samples {group} {shard}"


def opening_key(group: int) -> str:
    """Return the key under which the digest of what opening a model found is kept."""
    return f"opened {group}"


def traceback_key(cell: int, metric: str) -> str:
    """Return under which key of ``meta`` the traceback of a failed cell (metric "") or metric is kept."""
    return f"traceback {cell} {metric}".strip()


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


class Reading:
    """What can be asked of a store.

    Attributes:
        path: of the SQLite file.
        db: the open database.
    """

    path: Path
    db: sqlite3.Connection

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Run one SQL statement; an error of the database is one line (RunError)."""
        with explained(self.path):
            return self.db.execute(statement, parameters)

    def meta(self, key: str) -> Any:
        row = self.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row["value"])

    def groups(self) -> list[dict[str, Any]]:
        rows = self.execute("SELECT * FROM groups ORDER BY id").fetchall()
        return [decoded(row, "facts", "inputs") for row in rows]

    def group(self, group: int) -> dict[str, Any]:
        row = self.execute("SELECT * FROM groups WHERE id = ?", (group,)).fetchone()
        return decoded(row, "facts", "inputs")

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
        return [{**decoded(row, "note", "command"), "metrics": self.metrics(row["id"])} for row in rows]

    def cell_status(self, cell: int) -> Status:
        return Status(self.execute("SELECT status FROM cells WHERE id = ?", (cell,)).fetchone()["status"])

    def traceback(self, cell: int, metric: str = EXPLAINED) -> str:
        """Return the traceback of a failed cell, or of a metric in it; "" where there is none."""
        return str(self.meta(traceback_key(cell, metric)) or "")

    def metrics(self, cell: int) -> list[dict[str, Any]]:
        rows = self.execute(
            "SELECT metric, status, code, detail FROM metrics WHERE cell = ? ORDER BY ordinal, metric", (cell,)
        )
        return [decoded(row) for row in rows]

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
        scores = by_shard(
            self.execute(
                "SELECT metric, number, name, sample, value, code, detail, flag_code, flag FROM scores " + order,
                (cell,),
            )
        )
        curves = by_shard(self.execute(f"SELECT metric, number, name, sample, points FROM curves {order}", (cell,)))
        invalid = by_shard(
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
            found = rows_digest(mine[2], ()) if metric == EXPLAINED else rows_digest(mine[0], mine[1])
            if found != written:
                wrong.append((metric, number))
        return [*wrong, *(key for key in self._misnamed(cell) if key not in wrong)]

    def _misnamed(self, cell: int) -> list[tuple[str, int]]:
        """Return the (metric, shard) of a cell that were not computed for the names that it bears.

        What numbers depend on is kept under the names of the model, the dataset, the explainer and the metric.
        """
        names = self.execute(
            "SELECT groups.model, groups.dataset, explainer FROM cells JOIN groups ON groups.id = grp "
            "WHERE cells.id = ?",
            (cell,),
        ).fetchone()
        wanted = [f'model "{names["model"]}"', f'dataset "{names["dataset"]}"', f'explainer "{names["explainer"]}"']
        wrong: list[tuple[str, int]] = []
        known: dict[tuple[int, str], bool] = {}
        for done in self.all_done(cell):
            key = (done.code, done.metric)
            if key not in known:
                text = json.loads(self.input(done.code))
                own = [*wanted, f'metric "{done.metric}"'] if done.metric != EXPLAINED else wanted
                # A store that an earlier version wrote has no names.
                known[key] = not text or all(any(name in what for what in text) for name in own)
            if done.number >= 0 and not known[key]:
                wrong.append((done.metric, done.number))
        return wrong

    def damaged_samples(self, group: int) -> set[int]:
        """Return the shards of which what is known of the samples is not what was written."""
        facts = {row["sample"]: tuple(row) for row in self.execute("SELECT * FROM samples WHERE grp = ?", (group,))}
        wrong = set()
        for number, ids in self.shards(group).items():
            written = self.meta(samples_key(group, number))
            if written is not None and rows_digest([facts[one] for one in ids if one in facts]) != written:
                wrong.add(number)
        return wrong

    def opening_is_sound(self, group: int) -> bool:
        """Say whether what opening a group's model has found is what was written."""
        written = self.meta(opening_key(group))
        row = self.execute("SELECT threshold, facts, inputs FROM groups WHERE id = ?", (group,)).fetchone()
        return written is None or rows_digest([tuple(row)]) == written

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
        with explained(self.path):
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
        return {row["sample"]: unpack(row["points"]) for row in rows}

    def curve_names(self, cell: int, metric: str) -> list[str]:
        """Return the names of a metric's curves in a cell."""
        rows = self.execute(
            "SELECT DISTINCT name FROM curves WHERE cell = ? AND metric = ? ORDER BY name", (cell, metric)
        )
        return [row["name"] for row in rows]

    def all_curves(self, cell: int) -> Iterator[dict[str, Any]]:
        """Yield ``metric, name, sample, points`` of all curves of a cell, by metrics, names and samples."""
        rows = self.execute(
            "SELECT curves.metric, name, curves.sample, points FROM curves JOIN metrics USING (cell, metric) "
            "JOIN cells ON cells.id = cell JOIN samples ON samples.grp = cells.grp AND samples.sample = curves.sample "
            "WHERE cell = ? ORDER BY metrics.ordinal, metrics.metric, name, position",
            (cell,),
        )
        for row in rows:
            yield {**dict(row), "points": unpack(row["points"])}
