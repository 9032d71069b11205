"""What became of a run, in lines that a person can act on.

Place in the flow: ``driver`` asks for it at the end; the command line prints it and takes its exit code; ``export``
and ``boards.publish`` ask whether a run is finished. Reads the store.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faithface.reasons import Reason, ReasonCode, Status
from faithface.run.not_applicable import Entry
from faithface.run.store import Store


@dataclass
class Outcome:
    """What became of a run.

    Attributes:
        failures: one line per failed cell or metric, and per cell with invalid maps.
        entries: one per cell or metric that was not applicable.
        tracebacks: of those failures that have one, by their line.
    """

    directory: Path
    cells: int = 0
    failures: list[str] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    tracebacks: dict[str, str] = field(default_factory=dict)

    @property
    def not_applicable(self) -> list[str]:
        """One line per cell or metric that was not applicable."""
        return [entry.line for entry in self.entries]

    @property
    def exit_code(self) -> int:
        return 1 if self.failures else 0


def summarise(store: Store) -> Outcome:
    """Say what failed, what was invalid and what was not applicable, one line each."""
    outcome = Outcome(store.directory)
    rows = store.cells()
    used = used_somewhere(rows)
    shared = applicable_to_none(rows)
    outcome.entries += [Entry(model, data, "", metric, why, metric not in used) for model, data, metric, why in shared]
    for row in rows:
        outcome.cells += 1
        name = f"{row['model']} / {row['dataset']} / {row['explainer']}"
        if row["status"] is Status.PENDING:
            # Nothing should leave a cell so; whatever does, the run is not whole and does not say that it is.
            outcome.failures.append(f"{name}: not finished; give the same command again")
            continue
        if row["status"] is Status.FAILED:
            outcome.failures.append(f"{name}: {row['reason']}")
            keep_traceback(outcome, store.traceback(row["id"]))
            continue
        if row["status"] is Status.NOT_APPLICABLE:
            unused = row["explainer"] not in used
            outcome.entries.append(Entry(*place(row), row["explainer"], "", row["reason"], unused))
            continue
        for metric in row["metrics"]:
            if metric["status"] is Status.FAILED:
                outcome.failures.append(f"{name} / {metric['metric']}: {metric['reason']}")
                keep_traceback(outcome, store.traceback(row["id"], metric["metric"]))
            elif metric["status"] is Status.NOT_APPLICABLE:
                if (*place(row), metric["metric"], metric["reason"]) in shared:
                    continue
                text, why = metric["metric"], metric["reason"]
                outcome.entries.append(Entry(*place(row), row["explainer"], text, why, text not in used))
        # An explainer that has no map for want of a ground truth has not failed.
        kept = store.invalid(row["id"]).items()
        invalid = [sample for sample, why in kept if why.code is not ReasonCode.NO_GROUND_TRUTH]
        if invalid:
            shown = ", ".join(invalid[:3]) + ("…" if len(invalid) > 3 else "")
            outcome.failures.append(f"{name}: {len(invalid)} invalid maps (values that are not finite): {shown}")
    return outcome


def keep_traceback(outcome: Outcome, text: str) -> None:
    """Keep the traceback of the last failure."""
    if text:
        outcome.tracebacks[outcome.failures[-1]] = text


def unfinished(store: Store) -> str:
    """Say how much of an unfinished run is there and which command finishes it, in one line; "" for a finished run."""
    if store.meta("complete"):
        return ""
    cells = [cell for cell in store.cells() if cell["status"] is not Status.NOT_APPLICABLE]
    sizes = {group["id"]: len(store.shards(group["id"])) for group in store.groups()}
    done = [len(store.done(cell["id"])) for cell in cells]
    # A cell that is done has all its shards, though images that could not be read may have left it fewer.
    wanted = [n if cell["status"] is Status.OK else sizes[cell["grp"]] for n, cell in zip(done, cells, strict=True)]
    whole = sum(cell["status"] is Status.OK for cell in cells)
    there = f"{whole} of {len(cells)} cells and {sum(done)} of {sum(wanted)} shards are there"
    return f"{store.directory} is not finished: {there}; {how_to_finish(store)}"


def how_to_finish(store: Store) -> str:
    """Return the command that resumes a run, to be typed in the current folder."""
    pending = [cell["command"] for cell in store.cells() if cell["status"] is Status.PENDING and cell["command"]]
    command = next(iter(pending), store.meta("command"))
    if not command or not command["line"]:
        return "make the call that began it again to finish it"
    elsewhere = command["folder"] != str(Path.cwd())
    folder = f"cd {shlex.quote(command['folder'])} && " if elsewhere else ""
    return f"finish it with `{folder}{command['line']}`"


def place(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["model"], row["dataset"]


def used_somewhere(rows: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """Return the explainers and metrics that applied to at least one model and dataset."""
    cells = [row for row in rows if row["status"] is not Status.NOT_APPLICABLE]
    metrics = [m["metric"] for row in cells for m in row["metrics"] if m["status"] is not Status.NOT_APPLICABLE]
    return frozenset([*(row["explainer"] for row in cells), *metrics])


def applicable_to_none(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str, Reason]]:
    """Return (model, dataset, metric, reason) of metrics applicable to no explainer of a group, for one reason."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["status"] is Status.OK:
            groups.setdefault(place(row), []).append(row)
    found: list[tuple[str, str, str, Reason]] = []
    for (model, dataset), cells in groups.items():
        for i, metric in enumerate(cells[0]["metrics"]):
            states = {(cell["metrics"][i]["status"], cell["metrics"][i]["reason"]) for cell in cells}
            if len(cells) > 1 and states == {(Status.NOT_APPLICABLE, metric["reason"])}:
                found.append((model, dataset, metric["metric"], metric["reason"]))
    return found
