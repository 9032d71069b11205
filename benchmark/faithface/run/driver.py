"""Carry out a plan: the only writer of the store; resume, failures and family metrics come together here.

Place in the flow: ``api`` hands it a plan and a directory; it gives an executor a job for each group and writes what
comes. Calls ``store``, ``readable``, ``family``, ``environment``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from faithface.errors import FaithfaceError, RunError, UsageError
from faithface.reasons import Reason, ReasonCode, Status
from faithface.run.environment import describe_environment
from faithface.run.executors import Executor, Job, apply
from faithface.run.outcome import Outcome, summarise
from faithface.run.paths import maps_file
from faithface.run.plan import Cell, Group, Plan
from faithface.run.readable import Readable, find_unreadable, skipping
from faithface.run.results import SHARD_SIZE, CellShard, Event, Opened, ShardSamples
from faithface.run.store import Store, create_or_resume


class Reporter(Protocol):
    """What a run tells while it goes. Every method may do nothing."""

    def note(self, text: str) -> None:
        """Say one line."""

    def group(self, group: Group, threshold: float | None) -> None:
        """A model is open on a dataset."""

    def start(self, group: Group, cell: Cell, done: int, total: int) -> None:
        """A cell starts or is resumed: ``done`` of ``total`` samples are there."""

    def advance(self, cell: Cell, samples: int) -> None:
        """More samples of a cell are done."""

    def end(self, cell: Cell, status: Status, reason: Reason | None) -> None:
        """A cell has ended."""


class Silent:
    """A reporter that says nothing."""

    def note(self, text: str) -> None: ...

    def group(self, group: Group, threshold: float | None) -> None: ...

    def start(self, group: Group, cell: Cell, done: int, total: int) -> None: ...

    def advance(self, cell: Cell, samples: int) -> None: ...

    def end(self, cell: Cell, status: Status, reason: Reason | None) -> None: ...


def execute_plan(
    plan: Plan, directory: Path, reporter: Reporter | None = None, executor: Executor | None = None
) -> Outcome:
    """Do what is still to do of a plan.

    Args:
        directory: the run directory; if the same command was interrupted there, it is resumed.
        reporter: receives progress.
        executor: does the shards of a group; None: this process.

    Raises:
        UsageError: the device is not there, the directory holds another run, or no model at all could be opened.
        RunError: the directory cannot be written.
    """
    from faithface.model.target import providers_for

    if executor is None:
        from faithface.run.executors.local import run_group

        executor = run_group
    tell = reporter or Silent()
    providers_for(plan.request.device)
    with create_or_resume(directory, plan.identity) as store:
        register(store, plan, tell)
        refused: list[UsageError] = []
        readable: dict[str, Readable] = {}
        for group in plan.groups:
            error = do_group(store, plan, group, tell, executor, readable)
            if error is not None:
                refused.append(error)
        if len(refused) == len(plan.groups):
            # Nothing ran for want of a model or a dataset: that is the request's fault, not the run's.
            raise refused[0]
        for job in plan.families:
            from faithface.run.family import score_family
            from faithface.run.shard import metric_failure

            try:
                score_family(store, directory, plan, job)
            except FaithfaceError as error:
                failure = metric_failure(error)
                for _group, cell in job.cells:
                    store.set_metric(cell.number, job.metric.spec, failure.status, failure.reason)
        settle_metrics(store, plan)
        store.put_meta("environment", describe_environment(plan.request.device, plan.request.batch_size))
        store.put_meta("complete", True)
        return summarise(store)


# --- what is to do


def register(store: Store, plan: Plan, tell: Reporter) -> None:
    """Write down what will be done; on resume, forget failed cells and those whose code has changed."""
    store.put_meta("complete", False)
    store.put_meta("command", {"line": plan.request.command, "folder": str(Path.cwd())})
    known = {row["id"]: row for row in store.cells()}
    groups = {row["id"]: row for row in store.groups()}
    fresh: set[int] = set()
    changed: dict[str, None] = {}
    repeated = 0
    for group in plan.groups:
        before = groups.get(group.number)
        shared = differing(before["fingerprint"], group.fingerprint) if before else []
        kept = []
        for cell in group.cells:
            row = known.get(cell.number)
            if row is None:
                continue
            parts = shared + differing(row["fingerprint"], cell.fingerprint)
            if not parts and not has_failed(row):
                kept.append(cell)
                continue
            if parts and (row["status"] is Status.OK or store.done(cell.number)):
                changed.update(dict.fromkeys(parts))
                repeated += 1
            store.clear_cell(cell.number)
        if before and shared:
            store.clear_group(group.number)
        if not before or shared:
            name = group.model.object.name
            store.add_group(group.number, name, group.dataset.spec, len(group.positions), group.fingerprint)
        for cell in group.cells:
            if cell not in kept:
                add_cell(store, plan, group, cell)
                fresh.add(cell.number)
    for job in plan.families:
        # What compares several runs is void as soon as the maps of one of them are made again.
        if any(cell.number in fresh for _group, cell in job.cells):
            for _group, cell in job.cells:
                store.clear_metric(cell.number, job.metric.spec)
    if repeated:
        tell.note(
            f"changed since this run was started: {few_of(list(changed))}; computed again: {repeated} of "
            f"{len(plan.cells)} cells"
        )


def differing(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return the parts whose fingerprint is not what it was."""
    return [what for what in {**now, **before} if before.get(what) != now.get(what)]


def has_failed(row: Mapping[str, Any]) -> bool:
    return row["status"] is Status.FAILED or any(m["status"] is Status.FAILED for m in row["metrics"])


def few_of(names: list[str], shown: int = 4) -> str:
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more} more" if more > 0 else "")


def add_cell(store: Store, plan: Plan, group: Group, cell: Cell) -> None:
    status = Status.NOT_APPLICABLE if cell.reason else Status.PENDING
    with store.transaction():
        store.add_cell(cell.number, group.number, cell.explainer.spec, cell.fingerprint, status, cell.reason)
        for ordinal, metric in enumerate(plan.metrics):
            reason = cell.not_applicable.get(metric.spec)
            state = Status.NOT_APPLICABLE if reason else Status.PENDING
            store.add_metric(cell.number, metric.spec, ordinal, state, reason)


# --- doing it


def do_group(
    store: Store, plan: Plan, group: Group, tell: Reporter, executor: Executor, cache: dict[str, Readable]
) -> UsageError | None:
    """Do the pending cells of a group; return the error if its model or dataset could not be used at all."""
    row = store.groups()[group.number]
    count = math.ceil(len(group.positions) / SHARD_SIZE)
    status = {cell["id"]: cell["status"] for cell in store.cells()}
    pending: dict[int, frozenset[int]] = {}
    for cell in group.cells:
        if status[cell.number] is Status.PENDING:
            pending[cell.number] = frozenset(range(count)) - store.done(cell.number)
    if not pending:
        return None
    families = {cell.number for job in plan.families for _g, cell in job.cells}
    keep = plan.request.keep_maps or any(cell.number in families for cell in group.cells)

    def attempt(usable: Readable) -> None:
        work = replace_positions(group, usable.positions)
        job = Job(work, usable.dataset, plan.request, pending, row["threshold"], bool(row["opened"]), keep)
        events = executor(job)
        follow(store, plan, work, events, pending, row, tell)

    code = ReasonCode.MODEL_UNUSABLE
    try:
        if group.dataset.spec not in cache and threshold_reads_all(group) and not row["opened"]:
            # Finding the threshold reads every face, so a check before it would read each twice; if it fails, check.
            whole = Readable(group.dataset.object, group.positions, {})
            try:
                attempt(whole)
                cache[group.dataset.spec] = whole
                return None
            except UsageError:
                if store.groups()[group.number]["opened"]:
                    raise
        code = ReasonCode.DATASET_UNUSABLE
        usable = check_readable(plan, group, tell, executor, cache)
        code = ReasonCode.MODEL_UNUSABLE
        attempt(usable)
    except UsageError as error:
        reason = Reason(code if error.code is ReasonCode.USAGE else error.code, str(error).splitlines()[0])
        for cell in group.cells:
            if cell.number in pending:
                store.set_cell(cell.number, Status.FAILED, reason)
                tell.end(cell, Status.FAILED, reason)
        return error
    return None


def threshold_reads_all(group: Group) -> bool:
    card = group.model.object
    return card.task == "verification" and card.output.threshold is None


def check_readable(
    plan: Plan, group: Group, tell: Reporter, executor: Executor, cache: dict[str, Readable]
) -> Readable:
    """Return the group's dataset without images that cannot be read; each dataset is checked once in a run."""
    spec = group.dataset.spec
    if spec not in cache:
        dataset, positions = group.dataset.object, group.positions
        bad = apply(executor, find_unreadable, dataset, positions, plan.request.strict)
        cache[spec] = skipping(dataset, positions, bad, tell.note)
    return cache[spec]


def replace_positions(group: Group, positions: tuple[int, ...]) -> Group:
    return dataclasses.replace(group, positions=positions)


def follow(
    store: Store,
    plan: Plan,
    group: Group,
    events: Iterator[Event],
    pending: Mapping[int, frozenset[int]],
    row: Mapping[str, Any],
    tell: Reporter,
) -> None:
    """Write what an executor yields, and settle the cells at the end."""
    cells = {cell.number: cell for cell in group.cells}
    total = len(group.positions)
    started = False

    def start(threshold: float | None) -> None:
        tell.group(group, threshold)
        for number, missing in pending.items():
            left = sum(len(group.positions[n * SHARD_SIZE : (n + 1) * SHARD_SIZE]) for n in missing)
            tell.start(group, cells[number], total - left, total)

    ended: set[int] = set()
    if row["opened"]:
        start(row["threshold"])
        started = True
    for event in events:
        if isinstance(event, Opened):
            store.open_group(group.number, event.threshold, event.facts)
            for note in event.facts.get("notes", ()):
                tell.note(note)
            start(event.threshold)
            started = True
        elif isinstance(event, ShardSamples):
            store.put_samples(group.number, event.facts)
        elif event.cell not in ended:
            cell = cells[event.cell]
            save_maps(store.directory, group, cell, event)
            store.put_shard(event)
            if event.failure is not None:
                ended.add(event.cell)
                tell.end(cell, event.failure.status, event.failure.reason)
            else:
                tell.advance(cell, len(event.ids))
    assert started or not pending, "an executor yields Opened before anything else"
    for number in pending:
        if number not in ended:
            status, reason = settle_cell(store, number)
            tell.end(cells[number], status, reason)


def save_maps(directory: Path, group: Group, cell: Cell, event: CellShard) -> None:
    """Write the maps of a shard, before its values: a shard that is in the store has its maps."""
    if event.maps is None:
        return
    names = (group.model.object.name, group.dataset.spec, cell.explainer.spec)
    for i, sample in enumerate(event.ids):
        save_arrays(maps_file(directory, *names, sample), {name: array[i] for name, array in event.maps.items()})
        if event.native is not None:
            save_arrays(maps_file(directory, *names, sample, "native"), {"native": event.native[i]})


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    except OSError as error:
        raise RunError(
            f"{path} cannot be written ({error.strerror}); make room and give the same command again"
        ) from None


def settle_cell(store: Store, cell: int) -> tuple[Status, Reason | None]:
    """Mark a cell whose shards are all written: ``ok``, or ``failed`` if not one of its maps could be scored."""
    status, reason = Status.OK, None
    invalid = store.invalid(cell)
    if invalid and len(invalid) == store.explained(cell):
        first = next(iter(invalid.values()))
        status = Status.FAILED
        reason = Reason(first.code, f"no map could be scored: explainer returned NaN ({first.detail})")
    store.set_cell(cell, status, reason)
    return status, reason


def settle_metrics(store: Store, plan: Plan) -> None:
    """Mark the metrics of finished cells: ``ok``, or not applicable if no sample was of the kind they are judged on."""
    which = {metric.spec: metric.object.judged_on for metric in plan.metrics}
    for row in store.cells():
        scored = {r["metric"] for r in store.scores(row["id"])}
        for metric in row["metrics"]:
            if metric["status"] is not Status.PENDING or row["status"] is Status.PENDING:
                continue
            text = metric["metric"]
            if row["status"] is not Status.OK:
                store.set_metric(row["id"], text, row["status"], row["reason"])
            elif text in scored:
                store.set_metric(row["id"], text, Status.OK)
            else:
                none = Reason(ReasonCode.NO_SAMPLES, f"no {which[text]} pairs among the samples")
                store.set_metric(row["id"], text, Status.NOT_APPLICABLE, none)
