"""One record per cell: everything that is needed to read, doubt and re-run its numbers.

Place in the flow: :func:`make_records` turns a finished run and its plan into records; :func:`write_records` puts
one JSON and one Parquet file of per-sample values for each on disk; :func:`read_records` reads them back for
``build``. Calls ``statistics``.

Four versions are different things and are named so: ``record_schema`` (this file), ``suite.version`` (the board),
``protocol`` (in a metric's id), and ``distribution_version`` (a package).
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, ValidationError

from faithface.boards.statistics import interval
from faithface.contract import Metric
from faithface.errors import UsageError
from faithface.plugins import Resolved
from faithface.run.paths import safe, short
from faithface.run.plan import Cell, Group, Plan, family_of, file_hash
from faithface.run.store import OK, Store
from faithface.run.suite import Published
from faithface.specs import format_value, parameters

RECORD_SCHEMA = 1
Status = Literal["ok", "failed", "not applicable"]
Trust = Literal["self-reported", "re-run", "independent"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SuiteRef(_Strict):
    """The board that a record belongs to."""

    name: str
    version: int
    description: str = ""
    published: tuple[Published, ...] = ()


class Origin(_Strict):
    """Which package something came from. ``source_hash``: sha256 of the file that defines it."""

    distribution: str = ""
    distribution_version: str = ""
    entry_point: str = ""
    source_hash: str = ""


class ExplainerRef(_Strict):
    """The explainer of a cell. ``spec``: as users write it; ``note``: what it chose on the way, such as a layer."""

    spec: str
    name: str
    version: str
    parameters: dict[str, str]
    seeded: bool
    source: str
    origin: Origin
    note: dict[str, Any] = {}


class ModelRef(_Strict):
    """The model of a cell, with its whole card."""

    name: str
    sha256: str
    task: str
    family: str
    run: int
    card: dict[str, Any]
    origin: Origin
    threshold: float | None
    clean_accuracy: float | None
    clean_n: int
    twin_parity: float | None


class DatasetRef(_Strict):
    """The dataset of a cell: ``samples`` used of ``size``; paths in ``spec`` are cut to their last part."""

    spec: str
    name: str
    revision: str
    parameters: dict[str, str]
    size: int
    samples: int
    limit: int | None
    seed: int
    licence: str
    source: str
    origin: Origin


class Where(_Strict):
    """Device, provider, batch size, versions and commit."""

    device: str
    device_name: str
    provider: str
    threads: int
    batch: int
    system: str
    versions: dict[str, str]
    commit: str


class Number(_Strict):
    """One named value of one protocol on one cell.

    Attributes:
        protocol: the metric's text with its parameters, such as ``deletion@1(grid=14)``.
        value_name: "" for the headline.
        number: the board's number; None where ``status`` is not ``ok`` or nothing could be scored.
        low, high: its 95 % bootstrap interval.
        range, best: of the protocol; None is infinity, which JSON does not have.
        n: samples behind it; ``invalid``: samples without a value; ``flagged``: samples with a remark.
        summary: ``mean``, or ``protocol`` where the protocol has a summary of its own.
    """

    protocol: str
    id: str
    value_name: str
    status: Status
    reason: str = ""
    number: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    invalid: int = 0
    flagged: int = 0
    better: Literal["higher", "lower"]
    range: tuple[float | None, float | None]
    best: float | None
    which: str
    summary: Literal["mean", "protocol"]
    parameters: dict[str, str]
    source: str
    origin: Origin


class Record(_Strict):
    """One cell of a board."""

    record_schema: Literal[1] = 1
    suite: SuiteRef
    model: ModelRef
    dataset: DatasetRef
    explainer: ExplainerRef
    where: Where
    status: Status
    reason: str = ""
    numbers: tuple[Number, ...]
    seconds_per_sample: float | None = None
    trust: Trust = "self-reported"
    values: str = ""
    values_sha256: str = ""

    @property
    def stem(self) -> Path:
        """Where the record lies among a board's records, without a suffix.

        A dataset that was opened on a path has its revision in the name: two folders may have the same last part.
        """
        dataset = self.dataset.spec + (f"-{self.dataset.revision[:8]}" if ":" in self.dataset.spec else "")
        return Path(safe(self.model.name)) / safe(dataset) / safe(self.explainer.spec)


@dataclass(frozen=True)
class Kept:
    """A record and its per-sample values: columns ``protocol, value_name, sample, value, reason, flag, units``."""

    record: Record
    values: pl.DataFrame


VALUE_SCHEMA: dict[str, Any] = {
    "protocol": pl.String,
    "value_name": pl.String,
    "sample": pl.String,
    "value": pl.Float64,
    "reason": pl.String,
    "flag": pl.String,
    "units": pl.List(pl.String),
}


# --- from a run


def make_records(store: Store, plan: Plan) -> list[Kept]:
    """Return one record per cell of a finished run, in the plan's order.

    Raises:
        UsageError: the run is not finished.
    """
    if not store.meta("complete"):
        raise UsageError(f"the run in {store.directory} is not finished; give the same command again to go on with it")
    rows = {row["id"]: row for row in store.cells()}
    environment = store.meta("environment")
    kept = []
    for group in plan.groups:
        facts = store.groups()[group.number]
        samples = store.samples(group.number)
        for cell in group.cells:
            kept.append(_record(store, plan, group, cell, rows[cell.number], facts, samples, environment))
    return kept


def _record(
    store: Store,
    plan: Plan,
    group: Group,
    cell: Cell,
    row: dict[str, Any],
    facts: dict[str, Any],
    samples: list[dict[str, Any]],
    environment: dict[str, Any],
) -> Kept:
    units = {s["sample"]: s["units"] for s in samples}
    frame = values_frame(store, cell.number, units)
    states = {m["metric"]: (m["status"], m["reason"]) for m in row["metrics"]}
    numbers: list[Number] = []
    for metric in plan.metrics:
        status, reason = (row["status"], row["reason"]) if row["status"] != OK else states[metric.spec]
        numbers.extend(_numbers(metric, status, reason, frame, plan.request.seed))
    opened = facts["facts"]
    where = {**environment, "provider": opened.get("provider", ""), "batch": opened.get("batch", 0)}
    cost = store.db.execute("SELECT SUM(seconds) FROM shards WHERE cell = ?", (cell.number,)).fetchone()[0]
    record = Record(
        suite=SuiteRef(
            name=plan.request.suite[0],
            version=plan.request.suite[1],
            description=plan.request.description,
            published=plan.request.published,
        ),
        model=_model(group, facts, samples),
        dataset=_dataset(plan, group, samples),
        explainer=ExplainerRef(
            spec=short(cell.explainer.spec),
            name=cell.explainer.object.name,
            version=cell.explainer.object.version,
            parameters=_parameters(cell.explainer.object),
            seeded=cell.explainer.object.seeded,
            source=cell.explainer.object.source,
            origin=_origin(cell.explainer),
            note=row["note"],
        ),
        where=Where(**where),
        status=row["status"],
        reason=row["reason"],
        numbers=tuple(numbers),
        seconds_per_sample=cost / len(samples) if cost and samples and row["status"] == OK else None,
    )
    return Kept(record, frame if row["status"] == OK else frame.clear())


def values_frame(store: Store, cell: int, units: dict[str, list[str]]) -> pl.DataFrame:
    """Return a cell's values with the units of each sample."""
    rows = [
        (r["metric"], r["name"], r["sample"], r["value"], r["reason"], r["flag"], units[r["sample"]])
        for r in store.scores(cell)
    ]
    return pl.DataFrame(rows, schema=VALUE_SCHEMA, orient="row")


def _numbers(metric: Resolved, status: Status, reason: str, frame: pl.DataFrame, seed: int) -> Iterable[Number]:
    protocol: Metric = metric.object
    own = type(protocol).summarise is not Metric.summarise
    for name in protocol.value_names:
        common: dict[str, Any] = {
            "protocol": metric.spec,
            "id": protocol.id,
            "value_name": name,
            "better": protocol.directions.get(name, protocol.better),
            "range": (_json(protocol.range[0]), _json(protocol.range[1])),
            "best": _json(protocol.best),
            "which": protocol.which,
            "summary": "protocol" if own else "mean",
            "parameters": _parameters(protocol),
            "source": protocol.source,
            "origin": _origin(metric),
        }
        if status != OK:
            yield Number(**common, status=status, reason=reason)
            continue
        mine = frame.filter((pl.col("protocol") == metric.spec) & (pl.col("value_name") == name))
        scored = mine.filter(pl.col("value").is_not_null())
        values = scored["value"].to_numpy()
        number = float(protocol.summarise(values, name)) if len(values) else math.nan
        summarise = functools.partial(protocol.summarise, name=name) if own else None
        spread = interval(values, scored["units"].to_list(), summarise, seed)
        yield Number(
            **common,
            status=OK,
            reason="" if len(values) else _commonest(mine["reason"].to_list()),
            number=_json(number),
            low=_json(spread.low),
            high=_json(spread.high),
            n=len(values),
            invalid=len(mine) - len(values),
            flagged=int((mine["flag"] != "").sum()),
        )


def _commonest(reasons: Sequence[str]) -> str:
    return max(sorted(set(reasons)), key=reasons.count) if reasons else ""


def _json(value: float) -> float | None:
    """Round to 9 significant digits, so that a re-run whose last bits differ leaves the same record."""
    return float(f"{value:.9g}") if math.isfinite(value) else None


def _model(group: Group, facts: dict[str, Any], samples: list[dict[str, Any]]) -> ModelRef:
    card = group.model.object
    judged = [s["correct"] for s in samples if s.get("correct") is not None]
    return ModelRef(
        name=card.name,
        sha256=facts["facts"].get("sha256") or file_hash(card.path),
        task=card.task,
        family=family_of(card),
        run=card.run,
        card=card.model_dump(mode="json"),
        origin=_origin(group.model),
        threshold=facts["threshold"],
        clean_accuracy=float(np.mean(judged)) if judged else None,
        clean_n=len(judged),
        twin_parity=facts["facts"].get("twin_parity"),
    )


def _dataset(plan: Plan, group: Group, samples: list[dict[str, Any]]) -> DatasetRef:
    dataset = group.dataset.object
    return DatasetRef(
        spec=short(group.dataset.spec),
        name=dataset.name,
        revision=dataset.revision,
        parameters={k: short(v) for k, v in _parameters(dataset).items()},
        size=len(dataset.items()),
        samples=len(samples),
        limit=plan.request.limit,
        seed=plan.request.seed,
        licence=dataset.licence,
        source=dataset.source,
        origin=_origin(group.dataset),
    )


def _parameters(obj: Any) -> dict[str, str]:
    return {name: format_value(value) for name, value in parameters(obj).items()}


def _origin(resolved: Resolved) -> Origin:
    found = resolved.provenance
    return Origin(
        distribution=found.distribution,
        distribution_version=found.version,
        entry_point=short(found.entry_point),
        source_hash=found.source_sha256,
    )


# --- on disk


def write_records(kept: Sequence[Kept], folder: Path) -> list[Path]:
    """Write records below a folder; one that is there already for the same cell is replaced. Return the JSON paths."""
    paths = []
    for one in kept:
        path = folder / one.record.stem.parent / f"{one.record.stem.name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        values = path.with_suffix(".parquet") if one.record.stem.suffix == "" else path.parent / f"{path.stem}.parquet"
        record = one.record.model_copy(update={"values": "", "values_sha256": ""})
        values.unlink(missing_ok=True)
        if len(one.values):
            one.values.write_parquet(values, compression="zstd", statistics=False)
            record = record.model_copy(update={"values": values.name, "values_sha256": file_hash(values)})
        text = json.dumps(record.model_dump(mode="json"), indent=1, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")
        paths.append(path)
    return paths


def read_records(folder: Path) -> list[Kept]:
    """Read all records below a folder, in the order of their paths.

    Raises:
        UsageError: there are none, one is not a record of this schema, or its values were altered.
    """
    paths = sorted(folder.rglob("*.json"), key=lambda p: p.relative_to(folder).as_posix())
    if not paths:
        raise UsageError(f"{folder} holds no records; expected the folder that `faithface leaderboard build` wrote")
    return [read_record(path) for path in paths]


def read_record(path: Path) -> Kept:
    """Read one record and its values.

    Raises:
        UsageError: it is not a record of this schema, or its values are missing or were altered.
    """
    try:
        record = Record.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "file"
        raise UsageError(f"{path} is not a record of schema {RECORD_SCHEMA}: {where}: {first['msg']}") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror})") from None
    if not record.values:
        return Kept(record, pl.DataFrame(schema=VALUE_SCHEMA))
    values = path.parent / record.values
    if not values.is_file() or hashlib.sha256(values.read_bytes()).hexdigest() != record.values_sha256:
        raise UsageError(f"{values} is missing, or is not the file that {path.name} was written with; restore both")
    return Kept(record, pl.read_parquet(values))
