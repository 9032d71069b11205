"""Values, curves, numbers and maps of a run for other tools: Parquet or CSV, and one ``.npz`` per map.

Place in the flow: ``faithface export RUN -o DIR``; reads the store, writes nothing into the run. What the columns mean
is in ``docs/reference/export.md``.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from faithface.durable import write_whole
from faithface.errors import RunError, UsageError
from faithface.reasons import Status
from faithface.run.outcome import how_to_finish, unfinished
from faithface.run.store import Store, open_run

Format = Literal["parquet", "csv"]
SCHEMA = {
    "model": pl.String,
    "dataset": pl.String,
    "explainer": pl.String,
    "metric": pl.String,
    "sample": pl.String,
    "value": pl.Float64,
}
FULL: dict[str, Any] = {
    "model": pl.String,
    "dataset": pl.String,
    "explainer": pl.String,
    "metric": pl.String,
    "value_name": pl.String,
    "sample": pl.String,
    "value": pl.Float64,
    "better": pl.String,
    "label": pl.String,
    "kind": pl.String,
    "clean_score": pl.Float64,
    "decision": pl.String,
    "correct": pl.Boolean,
    "reason": pl.String,
    "flag": pl.String,
}
CURVES: dict[str, Any] = {
    "model": pl.String,
    "dataset": pl.String,
    "explainer": pl.String,
    "metric": pl.String,
    "curve": pl.String,
    "sample": pl.String,
    "step": pl.Int64,
    "fraction": pl.Float64,
    "value": pl.Float64,
}
NUMBERS: dict[str, Any] = {
    "model": pl.String,
    "dataset": pl.String,
    "explainer": pl.String,
    "metric": pl.String,
    "value_name": pl.String,
    "number": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "n": pl.Int64,
    "invalid": pl.Int64,
    "flagged": pl.Int64,
    "better": pl.String,
}


@dataclass(frozen=True)
class Exported:
    """What was written: the tables, the number of values, and how many maps; of an unfinished run, what is missing and
    how to finish it, in one line.
    """

    values: Path
    rows: int
    maps: int
    unfinished: str = ""
    curves: Path | None = None
    numbers: Path | None = None


def _scored(store: Store) -> Iterator[tuple[Mapping[str, Any], set[str]]]:
    """Yield each cell that has values, with its metrics that have some."""
    scored = (Status.OK, Status.PENDING)
    for cell in store.cells():
        if cell["status"] in scored:
            yield cell, {m["metric"] for m in cell["metrics"] if m["status"] in scored}


def run_values(store: Store) -> pl.DataFrame:
    """Return all values of a run, one row each: ``model, dataset, explainer, metric, sample, value``.

    A named value's metric is ``id:name`` (``noise-stability@1:spearman``). A value that could not be had is NaN.
    Cells and metrics that failed have no rows.
    """
    rows = []
    for cell, shown in _scored(store):
        for r in store.scores(cell["id"]):
            if r["metric"] in shown:
                metric = f"{r['metric']}:{r['name']}" if r["name"] else r["metric"]
                value = float("nan") if r["value"] is None else r["value"]
                rows.append((cell["model"], cell["dataset"], cell["explainer"], metric, r["sample"], value))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def full_values(store: Store) -> pl.DataFrame:
    """Return all values of a run with what is known of their samples; see ``docs/reference/export.md``."""
    rows = []
    groups = {group["id"]: group for group in store.groups()}
    facts = {key: {one["sample"]: one for one in store.samples(key)} for key in groups}
    for cell, shown in _scored(store):
        directions = directions_of(store, cell["id"])
        known = facts[cell["grp"]]
        classes = (groups[cell["grp"]]["facts"] or {}).get("classes", [])
        for r in store.scores(cell["id"]):
            if r["metric"] not in shown:
                continue
            sample = known.get(r["sample"], {})
            pair = "same" in sample
            rows.append(
                (
                    *(cell[key] for key in ("model", "dataset", "explainer")),
                    *(r["metric"], r["name"], r["sample"], r["value"]),
                    directions.get((r["metric"], r["name"])),
                    None if pair else sample.get("label"),
                    ("genuine" if sample["same"] else "impostor") if pair else None,
                    sample.get("score"),
                    decision_of(sample, pair, classes),
                    sample.get("correct"),
                    r["detail"] or None,
                    r["flag"] or None,
                )
            )
    return pl.DataFrame(rows, schema=FULL, orient="row")


def decision_of(sample: Mapping[str, Any], pair: bool, classes: list[str]) -> str | None:
    """Return what the model says of the unaltered sample: a class, or ``accepted`` or ``rejected``; None: not known."""
    predicted = sample.get("predicted")
    if predicted is None:
        return None
    if pair:
        # Without a threshold nothing is decided, and whether the model is right is not known.
        return None if sample.get("correct") is None else ("accepted" if predicted else "rejected")
    return classes[predicted] if predicted < len(classes) else str(predicted)


def directions_of(store: Store, cell: int) -> dict[tuple[str, str], str]:
    """Return by metric and value which direction is better, as far as the run has summed them up."""
    found = {}
    for metric, (_basis, kept) in store.numbers(cell).items():
        for one in kept["numbers"]:
            found[metric, one["value_name"]] = one["better"]
    return found


def run_numbers(store: Store) -> pl.DataFrame:
    """Return the means of a run with their 95 % intervals, as its records have them; none of an unfinished run."""
    rows = []
    for cell, shown in _scored(store):
        for metric, (_basis, kept) in store.numbers(cell["id"]).items():
            if metric in shown:
                for one in kept["numbers"]:
                    own = (
                        one[key] for key in ("value_name", "number", "low", "high", "n", "invalid", "flagged", "better")
                    )
                    rows.append((cell["model"], cell["dataset"], cell["explainer"], metric, *own))
    return pl.DataFrame(rows, schema=NUMBERS, orient="row")


def run_curves(store: Store) -> pl.DataFrame:
    """Return all curves of a run, one row per point; ``fraction`` is the point's place from 0 to 1."""
    rows: list[tuple[Any, ...]] = []
    for cell, shown in _scored(store):
        where = (cell["model"], cell["dataset"], cell["explainer"])
        for r in store.all_curves(cell["id"]):
            if r["metric"] in shown:
                points = np.asarray(r["points"], dtype=np.float64)
                last = max(1, len(points) - 1)
                own = (*where, r["metric"], r["name"], r["sample"])
                rows.extend((*own, step, step / last, float(value)) for step, value in enumerate(points))
    return pl.DataFrame(rows, schema=CURVES, orient="row")


def export(run: str | Path, out: Path, form: Format = "parquet") -> Exported:
    """Write ``values``, ``numbers`` and ``curves``, and where the run kept them
    ``maps/<model>/<dataset>/<explainer>/<sample>.npz``.

    Of an unfinished run, what is there is written.

    Raises:
        UsageError: ``run`` is not a run, ``out`` is inside it, or the format is unknown.
        RunError: ``out`` cannot be written.
    """
    run = Path(run)
    if form not in ("parquet", "csv"):
        raise UsageError(f'format is "{form}"; expected parquet or csv')
    if run.resolve() == out.resolve():
        raise UsageError(f"{out} is the run itself; export to another folder")
    with open_run(run) as store:
        if damaged := sum(len(store.damaged(cell["id"])) for cell in store.cells()):
            raise RunError(f"{run}: {damaged} shards are damaged; {how_to_finish(store)}")
        missing = unfinished(store)
        frames = {"values": full_values(store), "numbers": run_numbers(store), "curves": run_curves(store)}
    count = 0
    paths = {name: out / f"{name}.{form}" for name in frames}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, frame in frames.items():
            write_whole(paths[name], frame.write_parquet if form == "parquet" else frame.write_csv)
        if (run / "maps").is_dir():
            shutil.copytree(run / "maps", out / "maps", dirs_exist_ok=True)
            count = sum(1 for _ in (out / "maps").rglob("*.npz"))
    except OSError as error:
        raise RunError(f"{out} cannot be written ({error.strerror or error})") from None
    return Exported(paths["values"], len(frames["values"]), count, missing, paths["curves"], paths["numbers"])
