"""How far a run is: what is done, failed, pending and stale, who writes it, how fast, and how long it will take.

Place in the flow: ``cli.status`` prints it. Reads the store, the lock and the model files; loads no plugin and no model
code, so that it answers at once. What needs plugins (images, code) is compared when the run is resumed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from faithface.errors import FaithfaceError
from faithface.hashing import model_digest
from faithface.reasons import Status
from faithface.run.inputs import package_versions
from faithface.run.lock import holder
from faithface.run.outcome import how_to_finish
from faithface.run.store import FILE, Store, open_run

RECENT = 50  # shards by which the rate is measured


@dataclass(frozen=True)
class CellState:
    """One cell: ``done`` of ``shards`` shards.

    Attributes:
        status: ``ok``, ``failed``, ``pending`` or ``not applicable``.
        reason: why it failed or is not applicable; ""
        stale: what has changed since it was computed; empty if nothing is known to have.
        failed_metrics: the metrics that failed in it, with the reason.
    """

    model: str
    dataset: str
    explainer: str
    status: Status
    done: int
    shards: int
    reason: str = ""
    stale: tuple[str, ...] = ()
    failed_metrics: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RunState:
    """A run directory at one moment.

    Attributes:
        writer: who is writing it: ``pid``, ``host``, ``since`` (seconds of the epoch); None: nobody.
        rate: shards per minute, while somebody is writing it; None: not known.
        left: seconds until all shards are done at that rate; None: not known.
        finish: how an unfinished run is finished; "" for a finished one, and for one that is being written.
    """

    directory: Path
    complete: bool
    cells: tuple[CellState, ...]
    writer: Mapping[str, Any] | None = None
    rate: float | None = None
    left: float | None = None
    finish: str = ""

    def count(self, status: Status) -> int:
        return sum(cell.status is status for cell in self.cells)

    @property
    def stale(self) -> tuple[CellState, ...]:
        return tuple(cell for cell in self.cells if cell.stale)

    @property
    def shards(self) -> tuple[int, int]:
        """How many shards are done, and how many there are, of the cells that apply."""
        mine = [cell for cell in self.cells if cell.status is not Status.NOT_APPLICABLE]
        return sum(cell.done for cell in mine), sum(cell.shards for cell in mine)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        done, total = self.shards
        return {
            "run": str(self.directory),
            "complete": self.complete,
            "cells": {status.value: self.count(status) for status in Status},
            "stale": [
                {"model": c.model, "dataset": c.dataset, "explainer": c.explainer, "changed": list(c.stale)}
                for c in self.stale
            ],
            "failed": [
                {"model": c.model, "dataset": c.dataset, "explainer": c.explainer, "metric": metric, "reason": reason}
                for c in self.cells
                for metric, reason in failures(c)
            ],
            "shards": {"done": done, "total": total},
            "writer": None if self.writer is None else dict(self.writer),
            "shards_per_minute": self.rate,
            "seconds_left": self.left,
            "finish": self.finish,
        }


def failures(cell: CellState) -> list[tuple[str, str]]:
    """Return (metric, reason) of what failed in a cell; metric "" is the cell itself."""
    own = [("", cell.reason)] if cell.status is Status.FAILED else []
    return [*own, *cell.failed_metrics.items()]


def state_of(directory: Path) -> RunState:
    """Say how far a run is.

    Raises:
        UsageError: there is no run in the directory.
        RunError: its store is damaged.
    """
    writer = holder(directory)
    with open_run(directory) as store:
        cells = tuple(_cells(store))
        complete = bool(store.meta("complete"))
        rate = left = None
        if writer is not None and not complete:
            rate = _rate(store, float(writer.get("since", 0.0)))
        state = RunState(directory, complete, cells, writer, rate)
        done, total = state.shards
        if rate:
            left = max(0, total - done) / rate * 60
        finish = "" if complete or writer is not None else how_to_finish(store)
    return RunState(directory, complete, cells, writer, rate, left, finish)


def _cells(store: Store) -> Iterable[CellState]:
    shards = dict(map(tuple, store.execute("SELECT grp, COUNT(*) FROM shards GROUP BY grp")))
    done = dict(
        map(tuple, store.execute("SELECT cell, COUNT(*) FROM done WHERE metric = '' AND number >= 0 GROUP BY cell"))
    )
    now = _known_now(store)
    codes: dict[int, list[int]] = {}
    for cell, code in map(tuple, store.execute("SELECT DISTINCT cell, code FROM done")):
        codes.setdefault(cell, []).append(code)
    texts = {key: json.loads(store.input(key)) for key in {code for each in codes.values() for code in each}}
    for row in store.cells():
        changed = dict.fromkeys(
            what
            for code in codes.get(row["id"], ())
            for what, value in now.items()
            if what in texts[code] and texts[code][what] != value
        )
        yield CellState(
            row["model"],
            row["dataset"],
            row["explainer"],
            row["status"],
            done.get(row["id"], 0),
            shards.get(row["grp"], 0),
            str(row["reason"] or ""),
            tuple(changed),
            {m["metric"]: str(m["reason"]) for m in row["metrics"] if m["status"] is Status.FAILED},
        )


def _known_now(store: Store) -> dict[str, str]:
    """Return what numbers depend on that can be seen without plugins: model files and package versions."""
    found = package_versions()
    for name, path in (store.meta("models") or {}).items():
        what = f'the files of model "{name}"'
        try:
            found[what] = model_digest(Path(path))
        except FaithfaceError:
            found[what] = "not there"
    return found


def _rate(store: Store, since: float) -> float | None:
    """Return the shards per minute of the last few, as far as the present writer wrote them."""
    rows = store.execute(
        "SELECT finished FROM done WHERE metric = '' AND number >= 0 AND finished >= ? ORDER BY finished DESC LIMIT ?",
        (since, RECENT),
    ).fetchall()
    if len(rows) < 2:
        return None
    spent = rows[0]["finished"] - rows[-1]["finished"]
    return 60 * (len(rows) - 1) / spent if spent > 0 else None


def found_runs(root: Path) -> list[Path]:
    """Return the run directories in a folder, the one that was written last first."""
    if not root.is_dir():
        return []
    runs = [path for path in root.iterdir() if (path / FILE).is_file()]
    return sorted(runs, key=lambda path: (-written(path), path.name))


def written(directory: Path) -> float:
    """Return when a run was last written, in seconds of the epoch."""
    files = (directory / FILE, directory / f"{FILE}-wal")
    return max((path.stat().st_mtime for path in files if path.exists()), default=0.0)


def moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")


def span(seconds: float) -> str:
    """Return a length of time in words.

    Examples:
        >>> span(42), span(600), span(3 * 3600 + 120)
        ('42 s', '10 min', '3 h 2 min')
    """
    minutes = round(seconds / 60)
    if seconds < 60:
        return f"{round(seconds)} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
