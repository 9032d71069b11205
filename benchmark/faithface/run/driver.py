"""Carry out a plan: the only writer of the store; resume, failures and family metrics come together here.

Place in the flow: ``api`` hands it a plan and a directory; it gives an executor a job for each group and writes what
comes. Calls ``resume`` (what is to do), ``store``, ``readable``, ``family``, ``environment``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from faithface.contract import Dataset, Pair, Sample
from faithface.durable import write_whole
from faithface.errors import UsageError
from faithface.reasons import Reason, ReasonCode, Status
from faithface.run.environment import describe_environment
from faithface.run.executors import Executor, GroupFailed, Job, apply, names_digest, policy_of
from faithface.run.family import score_family
from faithface.run.forecast import Work
from faithface.run.listed import problem_of
from faithface.run.outcome import Outcome, summarise
from faithface.run.paths import maps_file
from faithface.run.plan import Cell, Group, Plan
from faithface.run.readable import Readable, find_unreadable, skipping
from faithface.run.results import CellShard, Event, Measured, Opened, Progress, ShardFailure, ShardSamples
from faithface.run.resume import Basis, Todo, keeps_maps, opened_on, prepare, rounds
from faithface.run.store import FILE, Store, create_or_resume


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

    def begin(self, work: Sequence[Work]) -> bool:
        """The run begins: this is missing. Return whether what it takes is to be measured."""

    def measured(self, found: Measured) -> None:
        """What the steps of a group take."""

    def progress(self, event: Progress) -> None:
        """What a process is at."""

    def timed(self, shard: CellShard) -> None:
        """A shard of a cell is done, and took so long."""


class Silent:
    """A reporter that says nothing."""

    def note(self, text: str) -> None: ...

    def group(self, group: Group, threshold: float | None) -> None: ...

    def start(self, group: Group, cell: Cell, done: int, total: int) -> None: ...

    def advance(self, cell: Cell, samples: int) -> None: ...

    def end(self, cell: Cell, status: Status, reason: Reason | None) -> None: ...

    def begin(self, work: Sequence[Work]) -> bool:
        return False

    def measured(self, found: Measured) -> None: ...

    def progress(self, event: Progress) -> None: ...

    def timed(self, shard: CellShard) -> None: ...


def execute_plan(
    plan: Plan,
    directory: Path,
    reporter: Reporter | None = None,
    executor: Executor | None = None,
    finish: Callable[[Store, Plan], None] | None = None,
    only_failed: bool = False,
) -> Outcome:
    """Do what is still to do of a plan.

    Args:
        directory: the run directory; if there is a run in it, it is resumed, or extended by what is new in the plan.
        reporter: receives progress.
        executor: does the shards of a group; None: this process.
        finish: called when all is scored, with the plan as the store numbers it; the run is finished when it returns.
        only_failed: do again what failed, and nothing else.

    Raises:
        UsageError: the device is not there, the directory holds a run with another seed or device, or no model at all
            could be opened.
        RunError: the directory cannot be written, or another process is writing it.
    """
    from faithface.model.target import providers_for

    if executor is None:
        from faithface.run.executors.local import run_group

        executor = run_group
    tell = reporter or Silent()
    providers_for(plan.request.device)
    with create_or_resume(directory, plan.fixed) as store:
        todo = prepare(store, plan, tell.note, only_failed, reading(executor))
        plan = todo.plan
        measure = tell.begin(work_of(store, todo))
        refused: list[UsageError] = []
        readable: dict[str, Readable] = {}
        for group in plan.groups:
            if problem := problem_of(group.dataset.object):
                error: UsageError | None = GroupFailed(problem.detail, problem.code)
                for cell in group.cells:
                    if cell.reason is None:
                        tell.end(cell, Status.FAILED, problem)
            else:
                error = do_group(store, todo, group, tell, executor, readable, measure)
            if error is not None:
                refused.append(error)
        if len(refused) == len(plan.groups):
            # Nothing ran for want of a model or a dataset: that is the request's fault, not the run's.
            raise refused[0]
        if todo.basis.tampered:
            drop_damaged(store, plan, tell)
        for job in plan.families:
            score_family(store, plan, job, todo.basis, executor)
        settle_metrics(store, plan)
        store.put_meta("environment", describe_environment(plan.request.device, plan.request.batch_size))
        if finish is not None and all(
            store.cell_status(cell.number) is not Status.PENDING for _group, cell in plan.cells
        ):
            finish(store, plan)
        store.put_meta("complete", not unsettled(store))
        return summarise(store)


def work_of(store: Store, todo: Todo) -> list[Work]:
    """Return what is missing of each cell."""
    found = []
    for group in todo.plan.groups:
        sizes = {number: len(ids) for number, ids in store.shards(group.number).items()}
        for cell in group.cells:
            missing = todo.missing.get(cell.number, {})
            metrics: dict[str, int] = {}
            for metric in cell.metrics:
                samples = sum(sizes.get(number, 0) for number, asked in missing.items() if metric in asked)
                if samples and "family" not in cell.metrics[metric].object.protocol.needs:
                    metrics[metric] = samples
            samples = sum(sizes.get(number, 0) for number in missing)
            if samples:
                found.append(Work(group.number, cell.number, cell.explainer.spec, samples, metrics))
    return found


# --- doing it

WROTE = ShardFailure(
    Status.FAILED,
    Reason(
        ReasonCode.STATE_CHANGED,
        f"explainer or one of its metrics wrote the run's store ({FILE}), which only the run itself may",
    ),
)


def drop_damaged(store: Store, plan: Plan, tell: Reporter) -> None:
    """Forget what somebody else has changed in the store; the next run computes it again."""
    count = 0
    for _group, cell in plan.cells:
        for metric, number in store.damaged(cell.number):
            store.drop(cell.number, metric, number)
            count += 1
            if store.cell_status(cell.number) is Status.OK:
                store.set_cell(cell.number, Status.PENDING)
    if count:
        tell.note(f"{count} shards were changed in the store by another process, and are forgotten")


def do_group(
    store: Store,
    todo: Todo,
    group: Group,
    tell: Reporter,
    executor: Executor,
    cache: dict[str, Readable],
    measure: bool = False,
) -> UsageError | None:
    """Do what is missing of a group; return the error if its model or dataset could not be used at all."""
    plan = todo.plan
    missing = {cell.number: todo.missing[cell.number] for cell in group.cells if cell.number in todo.missing}
    for cell in group.cells:
        if cell.number in todo.complete and store.cell_status(cell.number) is Status.PENDING:
            settle_cell(store, cell.number)  # its last shard was written, its end was not
    if not missing:
        return None

    def attempt(usable: Readable) -> None:
        for each in rounds(missing):
            work = round_of(group, each, usable.positions)
            pending = {number: shards for number, (_metrics, shards) in each.items()}
            keep = any(keeps_maps(plan, group, cell) for cell in group.cells)
            row = store.group(group.number)
            shards = positions_of(store.shards(group.number), usable.dataset)
            opened, facts = bool(row["opened"]), row["facts"] or {}
            measured = opened and plan.request.batch_size is None and facts.get("batch")
            job = Job(
                group=work,
                dataset=usable.dataset,
                request=plan.request,
                pending=pending,
                threshold=row["threshold"],
                opened=opened,
                keep_maps=keep,
                shards=shards,
                listed=names_digest(usable.dataset.items()),
                measure=measure,
                policy=policy_of(facts) if measured else None,
            )
            digest_first(store, todo.basis, group, each)
            sizes = {number: len(at) for number, at in shards.items()}
            follow(store, todo.basis, work, executor(job), each, row, tell, sizes)

    code = ReasonCode.MODEL_UNUSABLE
    try:
        if group.dataset.spec not in cache and threshold_reads_all(group) and not store.group(group.number)["opened"]:
            # Finding the threshold reads every face, so a check before it would read each twice; if it fails, check.
            whole = Readable(group.dataset.object, group.positions, {})
            try:
                attempt(whole)
                cache[group.dataset.spec] = whole
                return None
            except UsageError:
                if store.group(group.number)["opened"]:
                    raise
        code = ReasonCode.DATASET_UNUSABLE
        usable = check_readable(todo, group, tell, executor, cache)
        code = ReasonCode.MODEL_UNUSABLE
        attempt(usable)
    except UsageError as error:
        reason = Reason(code if error.code is ReasonCode.USAGE else error.code, str(error).splitlines()[0])
        for cell in group.cells:
            if cell.number in missing:
                store.set_cell(cell.number, Status.FAILED, reason)
                tell.end(cell, Status.FAILED, reason)
        return error
    return None


def round_of(
    group: Group, each: Mapping[int, tuple[frozenset[str], frozenset[int]]], positions: tuple[int, ...]
) -> Group:
    """Return a group with the cells and metrics of one round."""
    cells = tuple(
        dataclasses.replace(cell, metrics={spec: m for spec, m in cell.metrics.items() if spec in each[cell.number][0]})
        for cell in group.cells
        if cell.number in each
    )
    return dataclasses.replace(group, cells=cells, positions=positions)


def digest_first(
    store: Store, basis: Basis, group: Group, each: Mapping[int, tuple[frozenset[str], frozenset[int]]]
) -> None:
    """Take the digests of what a round will read, before it reads.

    A file that is replaced in between then has another digest than the one that is kept, and its shard is computed
    again by the next run. Taken afterwards, the digest would vouch for values of the file before.
    """
    shards = store.shards(group.number)
    for cell in group.cells:
        metrics, numbers = each.get(cell.number, (frozenset(), frozenset()))
        for number in numbers:
            basis.of_shard(group, cell, metrics, shards[number])


def positions_of(shards: Mapping[int, tuple[str, ...]], dataset: Dataset) -> dict[int, tuple[int, ...]]:
    """Return where the samples of each shard stand in a dataset; samples that are not in it are skipped."""
    items: Sequence[Sample | Pair] = dataset.items()
    at = {item.id: position for position, item in enumerate(items)}
    return {number: tuple(at[one] for one in ids if one in at) for number, ids in shards.items()}


def threshold_reads_all(group: Group) -> bool:
    card = group.model.object
    return card.task == "verification" and card.output.threshold is None


def reading(executor: Executor) -> Callable[..., Any]:
    """Return how datasets are read for digests: where the executor runs plugins; None instead of what it cannot."""

    def read(function: Callable[..., Any], *arguments: object) -> Any:
        try:
            return apply(executor, function, *arguments)
        except UsageError:
            return None  # what cannot be read here is named when its samples are loaded

    return read


def check_readable(
    todo: Todo, group: Group, tell: Reporter, executor: Executor, cache: dict[str, Readable]
) -> Readable:
    """Return the group's dataset without images that cannot be read; each dataset is checked once in a run."""
    spec = group.dataset.spec
    if spec not in cache:
        dataset, positions = group.dataset.object, group.positions
        about = f'dataset "{spec}", while its faces were read for the first time,'
        found = apply(executor, find_unreadable, dataset, positions, todo.plan.request.strict, about=about)
        todo.basis.contents(group).saw(found.seen)
        cache[spec] = skipping(dataset, positions, found.bad, tell.note)
    return cache[spec]


def follow(
    store: Store,
    basis: Basis,
    group: Group,
    events: Iterator[Event],
    each: Mapping[int, tuple[frozenset[str], frozenset[int]]],
    row: Mapping[str, Any],
    tell: Reporter,
    sizes: Mapping[int, int],
) -> None:
    """Write what an executor yields, and settle the cells at the end."""
    cells = {cell.number: cell for cell in group.cells}
    shards = store.shards(group.number)
    total = sum(sizes.values())
    started = False

    def start(threshold: float | None) -> None:
        tell.group(group, threshold)
        for number, (_metrics, missing) in each.items():
            left = sum(sizes[n] for n in missing)
            tell.start(group, cells[number], total - left, total)

    ended: set[int] = set()
    # What has failed is not scored in later shards: these say nothing of it.
    asked = {number: set(metrics) for number, (metrics, _missing) in each.items()}
    if row["opened"]:
        start(row["threshold"])
        started = True
    for event in events:
        if isinstance(event, Measured):
            tell.measured(event)
        elif isinstance(event, Progress):
            tell.progress(event)
        elif isinstance(event, Opened):
            store.open_group(group.number, event.threshold, event.facts, opened_on(group, basis))
            for note in event.facts.get("notes", ()):
                tell.note(note)
            start(event.threshold)
            started = True
        elif isinstance(event, ShardSamples):
            store.put_samples(group.number, event.number, event.facts)
        elif event.cell not in ended:
            cell = cells[event.cell]
            if store.written_by_others():
                basis.tampered = True
                event = CellShard(event.cell, event.number, event.ids, failure=WROTE)
            save_maps(store.directory, group, cell, event)
            metrics = asked[event.cell]
            if event.asked is not None:
                metrics = metrics & (event.asked | set(event.metric_failures))
            store.put_shard(event, basis.of_shard(group, cell, metrics, shards[event.number], event.reads))
            asked[event.cell] -= set(event.metric_failures)
            if event.failure is not None:
                ended.add(event.cell)
                tell.end(cell, event.failure.status, event.failure.reason)
            else:
                tell.timed(event)
                tell.advance(cell, len(event.ids))
    assert started or not each, "an executor yields Opened before anything else"
    for number in each:
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
    write_whole(path, lambda file: np.savez_compressed(file, **arrays))  # type: ignore[arg-type]


def settle_cell(store: Store, cell: int) -> tuple[Status, Reason | None]:
    """Mark a cell whose shards are all written: ``ok``, or ``failed`` if not one of its maps could be scored.

    Where the explainer itself says that no sample has the ground truth that it shows, it is not applicable.
    """
    status, reason = Status.OK, None
    invalid = store.invalid(cell)
    if invalid and len(invalid) == store.explained(cell):
        first = next(iter(invalid.values()))
        if all(one.code is ReasonCode.NO_GROUND_TRUTH for one in invalid.values()):
            store.set_cell(cell, Status.NOT_APPLICABLE, first)
            return Status.NOT_APPLICABLE, first
        status = Status.FAILED
        if first.code is ReasonCode.NON_FINITE_SCORE:
            text = f"no sample could be scored: {first.detail}; check the file and the card's [input]"
            reason = Reason(ReasonCode.MODEL_UNUSABLE, text)
        else:
            reason = Reason(first.code, f"no map could be scored: explainer returned NaN ({first.detail})")
    store.set_cell(cell, status, reason)
    return status, reason


def settle_metrics(store: Store, plan: Plan) -> None:
    """Mark the metrics of finished cells: ``ok``, or not applicable if no sample was of the kind they are judged on."""
    which = {metric.spec: metric.object.judged_on for metric in plan.metrics}
    numbers = {cell.number for _group, cell in plan.cells}
    with store.transaction():
        for row in store.cells():
            if row["id"] not in numbers or row["status"] is Status.PENDING:
                continue
            scored = store.scored(row["id"])
            for metric in row["metrics"]:
                text = metric["metric"]
                if metric["status"] is not Status.PENDING or text not in which:
                    continue
                if row["status"] is not Status.OK:
                    store.set_metric(row["id"], text, row["status"], row["reason"])
                elif text in scored:
                    store.set_metric(row["id"], text, Status.OK)
                else:
                    kind = "pairs" if which[text] in ("genuine", "impostor") else "samples"
                    none = Reason(ReasonCode.NO_SAMPLES, f"no {which[text]} {kind} among the samples")
                    store.set_metric(row["id"], text, Status.NOT_APPLICABLE, none)


def unsettled(store: Store) -> bool:
    """Say whether a cell or metric of the run is still to do."""
    states = [state for row in store.cells() for state in (row["status"], *(m["status"] for m in row["metrics"]))]
    return Status.PENDING in states
