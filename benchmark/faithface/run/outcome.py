"""What became of a run, in lines that a person can act on.

Place in the flow: ``driver`` asks for it at the end; the command line prints it and takes its exit code; ``export``
and ``boards.publish`` ask whether a run is finished. Reads the store.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faithface.run.left_out import LeftOut
from faithface.run.shard import SHARD_SIZE
from faithface.run.store import FAILED, NOT_APPLICABLE, OK, Store


@dataclass
class Outcome:
    """What became of a run.

    Attributes:
        failures: one line per failed cell or metric, and per cell with invalid maps.
        misfits: one per cell or metric that did not apply.
    """

    directory: Path
    cells: int = 0
    failures: list[str] = field(default_factory=list)
    misfits: list[LeftOut] = field(default_factory=list)

    @property
    def left_out(self) -> list[str]:
        """One line per cell or metric that did not apply."""
        return [item.line for item in self.misfits]

    @property
    def exit_code(self) -> int:
        return 1 if self.failures else 0


def summarise(store: Store) -> Outcome:
    """Say what failed, what was invalid and what did not apply, one line each."""
    outcome = Outcome(store.directory)
    rows = store.cells()
    used = used_somewhere(rows)
    shared = left_out_by_all(rows)
    outcome.misfits += [
        LeftOut(model, data, "", metric, why, metric not in used) for model, data, metric, why in shared
    ]
    for row in rows:
        outcome.cells += 1
        name = f"{row['model']} / {row['dataset']} / {row['explainer']}"
        if row["status"] == FAILED:
            outcome.failures.append(f"{name}: {row['reason']}")
            continue
        if row["status"] == NOT_APPLICABLE:
            unused = row["explainer"] not in used
            outcome.misfits.append(LeftOut(*place(row), row["explainer"], "", row["reason"], unused))
            continue
        for metric in row["metrics"]:
            if metric["status"] == FAILED:
                outcome.failures.append(f"{name} / {metric['metric']}: {metric['reason']}")
            elif metric["status"] == NOT_APPLICABLE:
                if (*place(row), metric["metric"], metric["reason"]) in shared:
                    continue
                text, why = metric["metric"], metric["reason"]
                outcome.misfits.append(LeftOut(*place(row), row["explainer"], text, why, text not in used))
        invalid = {r["sample"] for r in store.scores(row["id"]) if "non-finite" in r["reason"]}
        if invalid:
            shown = ", ".join(sorted(invalid)[:3]) + ("…" if len(invalid) > 3 else "")
            outcome.failures.append(f"{name}: {len(invalid)} invalid maps (non-finite values): {shown}")
    return outcome


def unfinished(store: Store) -> str:
    """Say how much of an unfinished run is there and which command finishes it, in one line; "" for a finished run."""
    if store.meta("complete"):
        return ""
    sizes = {group["id"]: math.ceil(group["samples"] / SHARD_SIZE) for group in store.groups()}
    cells = [cell for cell in store.cells() if cell["status"] != NOT_APPLICABLE]
    done = [len(store.done(cell["id"])) for cell in cells]
    # A cell that is done has all its shards, though images that could not be read may have left it fewer.
    wanted = [n if cell["status"] == OK else sizes[cell["grp"]] for n, cell in zip(done, cells, strict=True)]
    whole = sum(cell["status"] == OK for cell in cells)
    there = f"{whole} of {len(cells)} cells and {sum(done)} of {sum(wanted)} shards are there"
    return f"{store.directory} is not finished: {there}; {how_to_finish(store)}"


def how_to_finish(store: Store) -> str:
    """Return the command that goes on with a run, to be typed in the current folder."""
    command = store.meta("command")
    if not command or not command["line"]:
        return "make the call that began it again to finish it"
    elsewhere = command["folder"] != str(Path.cwd())
    folder = f"cd {shlex.quote(command['folder'])} && " if elsewhere else ""
    return f"finish it with `{folder}{command['line']}`"


def place(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["model"], row["dataset"]


def used_somewhere(rows: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """Return the explainers and metrics that applied to at least one model and dataset."""
    cells = [row for row in rows if row["status"] != NOT_APPLICABLE]
    metrics = [m["metric"] for row in cells for m in row["metrics"] if m["status"] != NOT_APPLICABLE]
    return frozenset([*(row["explainer"] for row in cells), *metrics])


def left_out_by_all(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str, str]]:
    """Return (model, dataset, metric, reason) of metrics that apply to no explainer of a group, for one reason."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["status"] == OK:
            groups.setdefault(place(row), []).append(row)
    found: list[tuple[str, str, str, str]] = []
    for (model, dataset), cells in groups.items():
        for i, metric in enumerate(cells[0]["metrics"]):
            states = {(cell["metrics"][i]["status"], cell["metrics"][i]["reason"]) for cell in cells}
            if len(cells) > 1 and states == {(NOT_APPLICABLE, metric["reason"])}:
                found.append((model, dataset, metric["metric"], metric["reason"]))
    return found
