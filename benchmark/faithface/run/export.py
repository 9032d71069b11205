"""Values and maps of a run for other tools: one Parquet file and one ``.npz`` per map.

Place in the flow: ``faithface export RUN -o DIR``; reads the store, writes nothing into the run.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from faithface.errors import RunError, UsageError
from faithface.reasons import Status
from faithface.run.outcome import how_to_finish, unfinished
from faithface.run.store import Store, open_run

SCHEMA = {
    "model": pl.String,
    "dataset": pl.String,
    "explainer": pl.String,
    "metric": pl.String,
    "sample": pl.String,
    "value": pl.Float64,
}


@dataclass(frozen=True)
class Exported:
    """What was written: the values' file, its number of rows, and how many maps; of an unfinished run, what is
    missing and how to finish it, in one line.
    """

    values: Path
    rows: int
    maps: int
    unfinished: str = ""


def run_values(store: Store) -> pl.DataFrame:
    """Return all values of a run, one row each: ``model, dataset, explainer, metric, sample, value``.

    A named value's metric is ``id:name`` (``noise-stability@1:spearman``). A value that could not be had is NaN.
    Cells and metrics that failed have no rows.
    """
    rows = []
    scored = (Status.OK, Status.PENDING)
    for cell in store.cells():
        if cell["status"] not in scored:
            continue
        shown = {m["metric"] for m in cell["metrics"] if m["status"] in scored}
        for r in store.scores(cell["id"]):
            if r["metric"] in shown:
                metric = f"{r['metric']}:{r['name']}" if r["name"] else r["metric"]
                value = float("nan") if r["value"] is None else r["value"]
                rows.append((cell["model"], cell["dataset"], cell["explainer"], metric, r["sample"], value))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def export(run: str | Path, out: Path) -> Exported:
    """Write ``values.parquet`` and, where the run kept them, ``maps/<model>/<dataset>/<explainer>/<sample>.npz``.

    Of an unfinished run, what is there is written.

    Raises:
        UsageError: ``run`` is not a run, or ``out`` is inside it.
        RunError: ``out`` cannot be written.
    """
    run = Path(run)
    if run.resolve() == out.resolve():
        raise UsageError(f"{out} is the run itself; export to another folder")
    with open_run(run) as store:
        if damaged := sum(len(store.damaged(cell["id"])) for cell in store.cells()):
            raise RunError(f"{run}: {damaged} shards are damaged; {how_to_finish(store)}")
        missing = unfinished(store)
        frame = run_values(store)
    count = 0
    try:
        out.mkdir(parents=True, exist_ok=True)
        values = out / "values.parquet"
        frame.write_parquet(values)
        if (run / "maps").is_dir():
            shutil.copytree(run / "maps", out / "maps", dirs_exist_ok=True)
            count = sum(1 for _ in (out / "maps").rglob("*.npz"))
    except OSError as error:
        raise RunError(f"{out} cannot be written ({error.strerror or error})") from None
    return Exported(values, len(frame), count, missing)
