"""Metrics of several training runs of one model: what is to do of them, and what becomes of it.

Place in the flow: ``driver`` calls :func:`score_family` once per (metric, family, dataset, explainer), after the cells
of all runs. ``family_shard`` scores, where the executor runs plugins. The value belongs to the family; it is stored
with each run's cell, so that a board of models can show it beside any of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from faithface.contract import Metric
from faithface.errors import FaithfaceError, RunError
from faithface.plugins import Resolved
from faithface.reasons import Reason, ReasonCode, Status
from faithface.run.executors import Executor, GroupFailed, stream
from faithface.run.family_work import FamilyShard, FamilyWork
from faithface.run.inputs import reads_of
from faithface.run.plan import Cell, FamilyJob, Group, Plan
from faithface.run.reading import EXPLAINED, traceback_key
from faithface.run.results import ShardFailure
from faithface.run.resume import Basis
from faithface.run.resume import text as as_text
from faithface.run.store import Store


def score_family(store: Store, plan: Plan, job: FamilyJob, basis: Basis, executor: Executor) -> None:
    """Score what is missing of a family metric and store its values; a failure is the metric's alone.

    Only samples whose map is there and finite in every run are scored.

    Raises:
        RunError: the store cannot be written, or a map that it knows of is gone.
    """
    text = job.metric.spec
    states = {row["id"]: row["status"] for row in store.cells()}
    runs = [(group, cell) for group, cell in job.cells if states[cell.number] is Status.OK]
    if any(states[cell.number] is Status.PENDING for _group, cell in job.cells):
        return  # the maps of a run are still to come
    if len(runs) < 2:
        few = Reason(ReasonCode.SINGLE_RUN, "fewer than two runs of the family have maps")
        for _group, cell in job.cells:
            store.clear_metric(cell.number, text)
            store.set_metric(cell.number, text, Status.NOT_APPLICABLE, few)
        return
    first, leader = runs[0]
    shards = store.shards(first.number)
    inputs = {n: family_inputs(basis, runs, leader, job.metric, ids) for n, ids in shards.items()}

    def data(number: int, kept: str) -> str:
        reads = reads_of(json.loads(kept))
        return basis.data(first, leader, job.metric.object, shards[number], reads) if reads else inputs[number][1]

    missing = keep_unchanged(store, runs, text, inputs, data)
    for _group, cell in runs:
        store.set_metric(cell.number, text, Status.PENDING)  # settled at the end, with all others
    failure = _score(store, plan, job, runs, missing, inputs, basis, executor)
    if failure is not None:
        for _group, cell in runs:
            store.set_metric(cell.number, text, failure.status, failure.reason)
            store.put_meta(traceback_key(cell.number, text), failure.traceback)


def _score(
    store: Store,
    plan: Plan,
    job: FamilyJob,
    runs: Sequence[tuple[Group, Cell]],
    missing: Sequence[int],
    inputs: Mapping[int, tuple[str, str]],
    basis: Basis,
    executor: Executor,
) -> ShardFailure | None:
    """Have the missing shards scored, and write each as it comes; return why the metric failed, if it did."""
    first = runs[0][0]
    shards, known = store.shards(first.number), {row["sample"] for row in store.samples(first.number)}
    left = {number: tuple(one for one in shards[number] if one in known) for number in missing}
    for _attempt in range(getattr(executor, "retries", 0) + 1):
        work = FamilyWork(
            store.directory.resolve(),
            job.metric,
            tuple(runs),
            plan.request,
            store.group(first.number)["threshold"],
            dict(left),
        )
        try:
            if not left:
                return None
            for event in stream(executor, score_shards, work, about=_about(first)):
                if event.failure is not None:
                    return event.failure
                store.put_family(
                    event.of_cells(tuple(c.number for _g, c in runs)), job.metric.spec, inputs[event.number]
                )
                del left[event.number]
            return None
        except GroupFailed as error:
            # A process may have been killed from outside; what exceeds a limit is not tried again.
            failed = ShardFailure(Status.FAILED, Reason(error.code, str(error)))
            if error.code is not ReasonCode.WORKER_LOST:
                return failed
        except RunError:
            raise  # the store or the disk, of which the metric knows nothing
        except Exception as error:  # of a model that cannot be opened, or of a plugin in this process
            code = error.code if isinstance(error, FaithfaceError) else ReasonCode.METRIC_RAISED
            return ShardFailure(Status.FAILED, Reason(code, (str(error).splitlines() or [type(error).__name__])[0]))
    return failed


def _about(group: Group) -> dict[str, str]:
    model, data = f'model "{group.model.object.name}"', f'dataset "{group.dataset.spec}"'
    return {
        "open": f"{model}, while it was opened,",
        "load": f"{model}, while unaltered samples were scored,",
        "call": f"{data}, while its samples were listed,",
        "score": "metric",
    }


def score_shards(work: FamilyWork, **options: Any) -> Iterator[FamilyShard]:
    """Score a family metric, where plugins run; imports what only that process needs."""
    from faithface.run.family_shard import score_family_shards

    yield from score_family_shards(work, **options)


def family_inputs(
    basis: Basis,
    runs: Sequence[tuple[Group, Cell]],
    leader: Cell,
    metric: Resolved[Metric],
    ids: tuple[str, ...],
) -> tuple[str, str]:
    """Return what a family metric's values depend on: the maps of all runs and the metric; and the samples."""
    code: dict[str, str] = {}
    for group, cell in runs:
        name = group.model.object.name
        code |= {f"{what} ({name})": value for what, value in json.loads(basis.code(group, cell, EXPLAINED)).items()}
    what = f'metric "{metric.spec}"'
    code[what] = leader.fingerprint.get(what, "")
    return as_text(code), basis.data(runs[0][0], leader, metric.object, ids)


def keep_unchanged(
    store: Store,
    runs: Sequence[tuple[Group, Cell]],
    metric: str,
    inputs: Mapping[int, tuple[str, str]],
    data: Callable[[int, str], str],
) -> list[int]:
    """Forget the shards of a family metric that depend on something that has changed; return those to score.

    Args:
        data: returns the data mapping of a shard now, of all that the one that was kept names.
    """
    texts = store.inputs()
    kept: list[set[int]] = []
    for _group, cell in runs:
        kept.append(set())
        for done in store.all_done(cell.number):
            if done.metric != metric:
                continue
            kept_data = texts[done.data]
            same = done.number in inputs and inputs[done.number][0] == texts[done.code]
            if same and data(done.number, kept_data) == kept_data:
                kept[-1].add(done.number)
            else:
                store.drop(cell.number, metric, done.number)
    return [number for number in inputs if not all(number in numbers for numbers in kept)]
