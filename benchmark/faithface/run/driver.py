"""Carry out a plan: the only writer of the store; resume, failures and family metrics come together here.

Place in the flow: ``api`` hands it a plan and a directory; it asks an executor (``local`` or ``cluster``) for the
pending work of each group and writes what comes. Calls ``store``, ``readable``, ``family``, ``environment``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from faithface.contract import Dataset
from faithface.errors import FaithfaceError, RunError, UsageError
from faithface.model.target import providers_for
from faithface.run.environment import describe_environment
from faithface.run.family import score_family
from faithface.run.local import Event, Opened, Pending, run_group
from faithface.run.outcome import Outcome, summarise
from faithface.run.paths import maps_file
from faithface.run.plan import Cell, Group, Plan, Request
from faithface.run.readable import Readable, without_unreadable
from faithface.run.shard import SHARD_SIZE, CellShard, ShardSamples
from faithface.run.store import FAILED, NOT_APPLICABLE, OK, PENDING, Store, create_or_resume


class Reporter(Protocol):
    """What a run tells while it goes. Every method may do nothing."""

    def note(self, text: str) -> None:
        """Say one line."""

    def group(self, group: Group, threshold: float | None) -> None:
        """A model is open on a dataset."""

    def start(self, group: Group, cell: Cell, done: int, total: int) -> None:
        """A cell begins, or goes on: ``done`` of ``total`` samples are there."""

    def advance(self, cell: Cell, samples: int) -> None:
        """More samples of a cell are done."""

    def end(self, cell: Cell, status: str, reason: str) -> None:
        """A cell has ended."""


class Silent:
    """A reporter that says nothing."""

    def note(self, text: str) -> None: ...

    def group(self, group: Group, threshold: float | None) -> None: ...

    def start(self, group: Group, cell: Cell, done: int, total: int) -> None: ...

    def advance(self, cell: Cell, samples: int) -> None: ...

    def end(self, cell: Cell, status: str, reason: str) -> None: ...


class GroupExecutor(Protocol):
    """What ``local.run_group`` and ``cluster.RayExecutor`` have in common."""

    def __call__(
        self,
        group: Group,
        dataset: Dataset,
        request: Request,
        pending: Pending,
        threshold: float | None,
        opened: bool,
        keep_maps: bool,
    ) -> Iterator[Event]: ...


def run_plan(
    plan: Plan, directory: Path, reporter: Reporter | None = None, executor: GroupExecutor = run_group
) -> Outcome:
    """Do what is still to do of a plan.

    Args:
        directory: the run directory; if the same command was interrupted there, it is gone on with.
        reporter: hears of progress.
        executor: does the shards of a group.

    Raises:
        UsageError: the device is not there, the directory holds another run, or no model at all could be opened.
        RunError: the directory cannot be written.
    """
    tell = reporter or Silent()
    providers_for(plan.request.device)
    with create_or_resume(directory, plan.identity) as store:
        register(store, plan)
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
            try:
                score_family(store, directory, plan, job)
            except FaithfaceError as error:
                for _group, cell in job.cells:
                    store.set_metric(cell.number, job.metric.spec, FAILED, f"metric failed: {error}")
        settle_metrics(store, plan)
        store.put_meta("environment", describe_environment(plan.request.device, plan.request.batch_size))
        store.put_meta("complete", True)
        return summarise(store)


def register(store: Store, plan: Plan) -> None:
    """Write down what will be done; on resume, forget failed cells so that they are tried again.

    Raises:
        UsageError: the code of an explainer or metric changed while results of the older code are in the store.
    """
    store.put_meta("complete", False)
    store.put_meta("command", {"line": plan.request.command, "folder": str(Path.cwd())})
    known = {row["id"]: row for row in store.cells()}
    for group in plan.groups:
        store.add_group(group.number, group.model.object.name, group.dataset.spec, len(group.positions))
        for cell in group.cells:
            row = known.get(cell.number)
            if row is not None:
                spoiled = row["status"] == FAILED or any(m["status"] == FAILED for m in row["metrics"])
                if not spoiled and row["fingerprint"] == cell.fingerprint:
                    continue
                if not spoiled and row["status"] != NOT_APPLICABLE and store.done(cell.number):
                    raise UsageError(
                        f'the code of explainer "{cell.explainer.spec}" or of its metrics changed since '
                        f"{store.directory} was begun, and numbers of two versions must not mix; choose another --out"
                    )
                store.clear_cell(cell.number)
            status = NOT_APPLICABLE if cell.reason else PENDING
            with store.transaction():
                store.add_cell(cell.number, group.number, cell.explainer.spec, cell.fingerprint, status, cell.reason)
                for ordinal, metric in enumerate(plan.metrics):
                    skipped = cell.skipped.get(metric.spec, "")
                    store.add_metric(cell.number, metric.spec, ordinal, NOT_APPLICABLE if skipped else PENDING, skipped)


def do_group(
    store: Store, plan: Plan, group: Group, tell: Reporter, executor: GroupExecutor, cache: dict[str, Readable]
) -> UsageError | None:
    """Do the pending cells of a group; return the error if its model or dataset could not be used at all."""
    row = store.groups()[group.number]
    count = math.ceil(len(group.positions) / SHARD_SIZE)
    status = {cell["id"]: cell["status"] for cell in store.cells()}
    pending: dict[int, frozenset[int]] = {}
    for cell in group.cells:
        if status[cell.number] == PENDING:
            pending[cell.number] = frozenset(range(count)) - store.done(cell.number)
    if not pending:
        return None
    families = {cell.number for job in plan.families for _g, cell in job.cells}
    keep = plan.request.keep_maps or any(cell.number in families for cell in group.cells)

    def attempt(usable: Readable) -> None:
        work = replace_positions(group, usable.positions)
        events = executor(work, usable.dataset, plan.request, pending, row["threshold"], bool(row["opened"]), keep)
        follow(store, plan, work, events, pending, row, tell)

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
        attempt(check_readable(plan, group, tell, cache))
    except UsageError as error:
        for cell in group.cells:
            if cell.number in pending:
                store.set_cell(cell.number, FAILED, str(error).splitlines()[0])
                tell.end(cell, FAILED, str(error))
        return error
    return None


def threshold_reads_all(group: Group) -> bool:
    card = group.model.object
    return card.task == "verification" and card.output.threshold is None


def check_readable(plan: Plan, group: Group, tell: Reporter, cache: dict[str, Readable]) -> Readable:
    """Return the group's dataset without images that cannot be read; each dataset is checked once in a run."""
    spec = group.dataset.spec
    if spec not in cache:
        cache[spec] = without_unreadable(group.dataset.object, group.positions, plan.request.strict, tell.note)
    return cache[spec]


def replace_positions(group: Group, positions: tuple[int, ...]) -> Group:
    return Group(group.number, group.model, group.dataset, positions, group.cells)


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
                tell.end(cell, *event.failure)
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


def settle_cell(store: Store, cell: int) -> tuple[str, str]:
    """Mark a cell whose shards are all written: ``ok``, or ``failed`` if not one of its maps could be scored."""
    bad = [row for row in store.scores(cell) if row["value"] is None and "non-finite" in row["reason"]]
    good = any(row["value"] is not None for row in store.scores(cell))
    if bad and not good:
        status, reason = FAILED, f"no map could be scored: explainer returned NaN ({bad[0]['reason']})"
    else:
        status, reason = OK, ""
    store.set_cell(cell, status, reason)
    return status, reason


def settle_metrics(store: Store, plan: Plan) -> None:
    """Mark the metrics of finished cells: ``ok``, or not applicable if no sample was of the kind they are judged on."""
    which = {metric.spec: metric.object.judged_on for metric in plan.metrics}
    for row in store.cells():
        scored = {r["metric"] for r in store.scores(row["id"])}
        for metric in row["metrics"]:
            if metric["status"] != PENDING or row["status"] == PENDING:
                continue
            text = metric["metric"]
            if row["status"] != OK:
                store.set_metric(row["id"], text, row["status"], row["reason"])
            elif text in scored:
                store.set_metric(row["id"], text, OK)
            else:
                store.set_metric(row["id"], text, NOT_APPLICABLE, f"no {which[text]} pairs among the samples")
