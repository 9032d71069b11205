"""From a finished run to records: numbers, intervals, and who, what and where.

Place in the flow: ``api`` has ``run.driver`` call :func:`publish_run` at the end of a run. Reads the store, and saves
the numbers in it; calls ``statistics`` and ``record``.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from faithface.applicability import family_of
from faithface.boards.provenance import address_of
from faithface.boards.record import (
    CURVE_SCHEMA,
    RECORDS,
    VALUE_SCHEMA,
    DatasetRef,
    ExplainerRef,
    Kept,
    ModelRef,
    Number,
    Origin,
    Record,
    SuiteRef,
    Where,
    copy_record,
    samples_digest,
    write_records,
)
from faithface.boards.statistics import interval
from faithface.card import ModelCard
from faithface.contract import Metric, judged_by
from faithface.durable import cannot_write, replace_folder
from faithface.errors import UsageError
from faithface.hashing import file_hash, fingerprint_of, model_digest, modules_fingerprint
from faithface.plugins import Resolved
from faithface.reasons import Reason, ReasonCode, Status
from faithface.run.blame import without_folders
from faithface.run.environment import describe_environment
from faithface.run.executors import Executor, GroupFailed, apply
from faithface.run.inputs import digest
from faithface.run.listed import real_of
from faithface.run.paths import short
from faithface.run.plan import Cell, Group, Plan
from faithface.run.store import Store
from faithface.specs import format_value, parameters

STATISTICS = ("faithface.boards.collect", "faithface.boards.statistics")
"""The modules that make means and intervals of values."""


def publish_run(store: Store, plan: Plan, executor: Executor | None = None) -> list[Kept]:
    """Make the records of a run whose cells are done, and put them beside its store, all at once; return them.

    Records of cells that an earlier command left in the run, and this one does not name, stay.

    Args:
        executor: where plugins run; None: in this process.

    Raises:
        RunError: they cannot be written.
    """
    kept = make_records(store, plan, executor)
    begun = store.directory / f"{RECORDS}.new"
    try:
        shutil.rmtree(begun, ignore_errors=True)
        begun.mkdir()
        listed = {}
        own = {cell.number for _group, cell in plan.cells}
        there = {row["id"] for row in store.cells() if row["status"] is not Status.PENDING} - own
        for name, entry in (store.meta("records") or {}).items():
            path = store.directory / RECORDS / name
            if entry["cell"] in there and path.is_file() and file_hash(path) == entry["sha256"]:
                copy_record(path, begun / name)
                listed[name] = entry
        for path, (_group, cell) in zip(write_records(kept, begun), plan.cells, strict=True):
            listed[path.relative_to(begun).as_posix()] = {"cell": cell.number, "sha256": file_hash(path)}
    except OSError as error:
        raise cannot_write(begun, error) from None
    replace_folder(begun, store.directory / RECORDS)
    store.put_meta("records", listed)
    return kept


def make_records(store: Store, plan: Plan, executor: Executor | None = None) -> list[Kept]:
    """Return one record per cell of a run whose cells are done, in the plan's order.

    Means and intervals are saved in the store as they are found, so that a run that is killed here moves on.

    Raises:
        UsageError: a cell is not done.
    """
    rows = {row["id"]: row for row in store.cells()}
    if any(rows[cell.number]["status"] is Status.PENDING for _group, cell in plan.cells):
        raise UsageError(f"the run in {store.directory} is not finished; give the same command again to resume it")
    return _records(store, plan, rows, store.meta("environment"), True, executor)


def records_so_far(store: Store, plan: Plan) -> list[Kept]:
    """Return one record per cell of a run that is finished, while others may not be; nothing is written.

    A metric of a whole family of models has a number only once the run is finished.

    Args:
        store: opened for reading.
        plan: numbered as the store is.
    """
    rows = {row["id"]: row for row in store.cells()}
    for row in rows.values():
        if row["status"] is not Status.OK:
            continue
        scored = store.scored(row["id"])
        for metric in row["metrics"]:  # settled at the end of a run only
            if metric["status"] is Status.PENDING and metric["metric"] in scored:
                metric["status"] = Status.OK
    environment = store.meta("environment") or describe_environment(plan.request.device, plan.request.batch_size)
    return _records(store, plan, rows, environment, save=False)


def _records(
    store: Store,
    plan: Plan,
    rows: Mapping[int, dict[str, Any]],
    environment: dict[str, Any],
    save: bool,
    executor: Executor | None = None,
) -> list[Kept]:
    kept = []
    for group in plan.groups:
        facts = store.group(group.number)
        samples = store.samples(group.number)
        for cell in group.cells:
            if rows[cell.number]["status"] is not Status.PENDING:
                row = rows[cell.number]
                kept.append(_record(store, plan, group, cell, row, facts, samples, environment, save, executor))
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
    save: bool,
    executor: Executor | None,
) -> Kept:
    units = {s["sample"]: s["units"] for s in samples}
    states = {m["metric"]: (m["status"], m["reason"]) for m in row["metrics"]}
    frame = cell_values(store, cell.number, samples)
    reasons = _reasons(store, cell.number)
    saved = store.numbers(cell.number)
    numbers: list[Number] = []
    for metric in plan.metrics:
        status, reason = (row["status"], row["reason"]) if row["status"] is not Status.OK else states[metric.spec]
        if status is Status.PENDING:
            continue
        what = [status.value, str(reason), cell.fingerprint.get(f'metric "{metric.spec}"', ""), list(units.items())]
        code = [modules_fingerprint(*STATISTICS), plan.request.seed, metric.spec]
        basis = digest([store.basis(cell.number, metric.spec), what, code])
        if saved.get(metric.spec, ("", None))[0] == basis:
            numbers.extend(Number.model_validate(one) for one in saved[metric.spec][1]["numbers"])
            continue
        asked = (frame, reasons, plan.request.seed)
        found, failure = _summarised(executor, metric, group.model.object, status, reason, *asked)
        if failure is not None:
            status, reason = Status.FAILED, failure
            if save:
                store.set_metric(cell.number, metric.spec, status, reason)
        if save and status is Status.OK:
            lines = [one.model_dump(mode="json") for one in found]
            store.put_numbers(
                cell.number, metric.spec, basis, {"rows": store.basis(cell.number, metric.spec), "numbers": lines}
            )
        numbers.extend(found)
    if row["status"] is Status.OK:
        numbers.extend(_earlier(store, plan, cell, states, saved))
    frame = frame.filter(pl.col("protocol").is_in([one.protocol for one in numbers]))
    curves = cell_curves(store, cell.number, frame)
    opened = facts["facts"]
    where = {
        **environment,
        "provider": opened.get("provider", ""),
        "batch": opened.get("batch", 0),
        "side_by_side": opened.get("side_by_side", 1),
    }
    cost = store.seconds(cell.number)
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
            version=cell.explainer.object.info.version,
            parameters=_parameters(cell.explainer.object),
            seeded=cell.explainer.object.info.seeded,
            control=cell.explainer.object.info.control,
            needs=tuple(sorted(cell.explainer.object.info.needs)),
            source=cell.explainer.object.info.source,
            origin=_origin(cell.explainer),
            note=row["note"],
        ),
        where=Where(**where),
        status=row["status"],
        **_why(row["reason"]),
        traceback=without_folders(store.traceback(cell.number)) if row["status"] is Status.FAILED else "",
        numbers=tuple(numbers),
        seconds_per_sample=cost / len(samples) if cost and samples and row["status"] is Status.OK else None,
    )
    if row["status"] is not Status.OK:
        frame, curves = frame.clear(), curves.clear()
    return Kept(record, frame, made_curves=curves)


def _earlier(
    store: Store,
    plan: Plan,
    cell: Cell,
    states: Mapping[str, tuple[Status, Reason | None]],
    saved: Mapping[str, tuple[str, Any]],
) -> Iterable[Number]:
    """Yield the numbers of metrics that an earlier command scored in a cell, if they are of the same samples still."""
    shards = store.done(cell.number)
    for spec, (status, _reason) in states.items():
        if spec in {metric.spec for metric in plan.metrics} or status is not Status.OK or spec not in saved:
            continue
        kept = saved[spec][1]
        done = {one.number for one in store.all_done(cell.number) if one.metric == spec}
        if done == shards and kept["rows"] == store.basis(cell.number, spec):
            for one in kept["numbers"]:
                yield Number.model_validate(one)


def cell_values(store: Store, cell: int, samples: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    """Return a cell's values with what is known of each sample (``VALUE_SCHEMA``)."""
    known = {s["sample"]: (s["units"], label_of(s), s.get("score"), s.get("correct")) for s in samples}
    rows = [
        (r["metric"], r["name"], r["sample"], r["value"], r["detail"], r["flag"], *known[r["sample"]])
        for r in store.scores(cell)
    ]
    return pl.DataFrame(rows, schema=VALUE_SCHEMA, orient="row")


def _summarised(
    executor: Executor | None,
    metric: Resolved[Metric],
    card: ModelCard,
    status: Status,
    reason: Reason | None,
    *asked: Any,
) -> tuple[list[Number], Reason | None]:
    """Return a metric's numbers; if its own summary fails, those of a failed metric, and the reason.

    A plugin's summary is called where plugins run.
    """
    failure = None
    foreign = type(metric.object).__module__.partition(".")[0] not in ("faithface", "faithface_plugins")
    if type(metric.object).summarise is not Metric.summarise and foreign and status is Status.OK:
        about = "metric, while its values were summarised,"
        call = executor or _here
        try:
            there = (metric, card, status, reason, *asked)
            return apply(call, _numbers_there, *there, about=about, raised=ReasonCode.METRIC_RAISED), None
        except GroupFailed as error:
            failure = Reason(error.code, str(error))
        except Exception as error:  # in this process
            failure = Reason(ReasonCode.METRIC_RAISED, f"{about} raised {type(error).__name__}: {first_line(error)}")
        status, reason = Status.FAILED, failure
    return list(_numbers(metric, card, status, reason, *asked)), failure


def first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0]


def _here(_job: Any, /) -> Any:
    """Stand for an executor that runs plugins in this process."""
    raise AssertionError("no shards are done here")


def _numbers_there(*asked: Any, beat: Callable[[], Any]) -> list[Number]:
    return list(_numbers(*asked))


def label_of(facts: Mapping[str, Any]) -> str:
    """Return what a sample is: ``genuine``, ``impostor``, or its class; "" where it is not known."""
    if "same" in facts:
        return "genuine" if facts["same"] else "impostor"
    return facts.get("label") or ""


def cell_curves(store: Store, cell: int, values: pl.DataFrame) -> pl.DataFrame:
    """Return the curves behind a cell's values (``CURVE_SCHEMA``), in the order of the values."""
    rows = []
    order = values.select("protocol", "sample").unique(maintain_order=True)
    for (protocol,), mine in order.group_by("protocol", maintain_order=True):
        for name in store.curve_names(cell, str(protocol)):
            found = store.curves(cell, str(protocol), name)
            rows += [(protocol, name, sample, found[sample].tolist()) for sample in mine["sample"] if sample in found]
    return pl.DataFrame(rows, schema=CURVE_SCHEMA, orient="row")


def _numbers(
    metric: Resolved[Metric],
    card: ModelCard,
    status: Status,
    reason: Reason | None,
    frame: pl.DataFrame,
    reasons: Mapping[tuple[str, str], Sequence[Reason]],
    seed: int,
) -> Iterable[Number]:
    asked = metric.object
    protocol = asked.protocol
    low, high = asked.range_on(card)
    own = type(asked).summarise is not Metric.summarise
    for name in protocol.value_names:
        common: dict[str, Any] = {
            "protocol": metric.spec,
            "id": protocol.id,
            "value_name": name,
            "family": protocol.family,
            "question": protocol.question,
            "better": protocol.direction(name),
            "range": (_json(low), _json(high)),
            "best": _json(asked.best_on(card)),
            "which": judged_by(asked.judged_on, card.task),
            "bar": protocol.bar if name == "" else None,
            "summary": "protocol" if own else "mean",
            "tolerance": _json(asked.tolerance),
            "parameters": _parameters(asked),
            "source": protocol.source,
            "origin": _origin(metric),
            "parts": {
                name: _origin(Resolved(name, getattr(asked, name.replace("-", "_")), provenance))
                for name, provenance in metric.parts.items()
            },
        }
        if status is not Status.OK:
            yield Number(**common, status=status, **_why(reason))
            continue
        mine = frame.filter((pl.col("protocol") == metric.spec) & (pl.col("value_name") == name))
        scored = mine.filter(pl.col("value").is_not_null())
        values = scored["value"].to_numpy()
        number = float(asked.summarise(values, name)) if len(values) else math.nan
        summarise = functools.partial(asked.summarise, name=name) if own else None
        spread = interval(values, scored["units"].to_list(), summarise, seed)
        yield Number(
            **common,
            status=Status.OK,
            **_why(None if len(values) else _commonest(reasons.get((metric.spec, name), ()))),
            number=_json(number),
            low=_json(spread.low),
            high=_json(spread.high),
            n=len(values),
            invalid=len(mine) - len(values),
            flagged=int((mine["flag"] != "").sum()),
            flags=dict(sorted(Counter(text for text in mine["flag"] if text).items())),
        )


def _why(reason: Reason | None) -> dict[str, Any]:
    """Return a reason as the fields of a record; none leaves them at their defaults."""
    return {} if reason is None else {"code": reason.code, "reason": reason.detail}


def _reasons(store: Store, cell: int) -> dict[tuple[str, str], list[Reason]]:
    """Return by metric and value name why samples have no value."""
    found: dict[tuple[str, str], list[Reason]] = {}
    for row in store.scores(cell):
        if row["code"]:
            found.setdefault((row["metric"], row["name"]), []).append(Reason(ReasonCode(row["code"]), row["detail"]))
    return found


def _commonest(reasons: Sequence[Reason]) -> Reason | None:
    ordered = sorted(set(reasons), key=lambda reason: (reason.detail, reason.code))
    return max(ordered, key=reasons.count) if ordered else None


def _json(value: float) -> float | None:
    """Round to 9 significant digits, so that a re-run whose last bits differ leaves the same record."""
    return float(f"{value:.9g}") if math.isfinite(value) else None


def _model(group: Group, facts: dict[str, Any], samples: list[dict[str, Any]]) -> ModelRef:
    card = group.model.object
    judged = [s["correct"] for s in samples if s.get("correct") is not None]
    unknown = {s["label"] for s in samples if s.get("label") is not None and s.get("correct") is None}
    return ModelRef(
        name=card.name,
        sha256=facts["facts"].get("sha256") or model_digest(card.path),
        task=card.task,
        family=family_of(card),
        run=card.run,
        card=card.model_dump(mode="json"),
        origin=_origin(group.model),
        threshold=facts["threshold"],
        clean_accuracy=float(np.mean(judged)) if judged else None,
        clean_n=len(judged),
        unmatched=tuple(sorted(unknown)),
        twin_parity=facts["facts"].get("twin_parity"),
    )


def _dataset(plan: Plan, group: Group, samples: list[dict[str, Any]]) -> DatasetRef:
    dataset = group.dataset.object
    return DatasetRef(
        spec=short(group.dataset.spec),
        name=dataset.name,
        revision=dataset.revision,
        parameters={k: short(v) for k, v in _parameters(real_of(dataset)).items()},
        size=len(dataset.items()),
        samples=len(samples),
        samples_sha256=samples_digest([(s["sample"], s["units"], label_of(s)) for s in samples]),
        limit=plan.request.limit,
        seed=plan.request.seed,
        licence=dataset.licence,
        publishable=dataset.publishable,
        source=dataset.source,
        origin=_origin(dataclasses.replace(group.dataset, object=real_of(dataset))),
    )


def _parameters(obj: Any) -> dict[str, str]:
    return {name: format_value(value) for name, value in parameters(obj).items()}


def _origin(resolved: Resolved[Any]) -> Origin:
    found = resolved.provenance
    address = address_of(resolved.object, found.distribution)
    return Origin(
        distribution=found.distribution,
        distribution_version=found.version,
        entry_point=short(found.entry_point),
        repository=address.repository,
        path=address.path,
        revision=address.revision,
        fingerprint=fingerprint_of(resolved.object, found.distribution),
    )
