"""What is still to do of a plan in a run directory: the plan is compared with what the store holds.

Place in the flow: ``driver`` calls :func:`prepare` before anything runs. May call ``store``, ``inputs``, ``plan`` and
``choice``.

A run directory holds cells, by model, dataset and explainer. A command does its own cells and leaves others alone; what
it shares with what is there is kept, as long as nothing that its numbers depend on has changed. A shard of which
something has changed is forgotten and computed again, and the run says so.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from faithface.contract import Metric
from faithface.reasons import Reason, Status
from faithface.run.choice import choose
from faithface.run.inputs import MASKS, SAMPLES, Contents, Read, differing, here, opening, reads_of
from faithface.run.listed import problem_of
from faithface.run.paths import maps_file
from faithface.run.plan import Cell, Group, Plan
from faithface.run.reading import EXPLAINED, Done
from faithface.run.results import SHARD_SIZE
from faithface.run.store import ENDED, Store

Missing = Mapping[int, frozenset[str]]
"""By shard, the metrics that are missing; "" is the explanation."""

Tell = Callable[[str], Any]


@dataclass
class Basis:
    """What the numbers of a plan depend on, each digest computed once and when it is first asked for.

    Attributes:
        tampered: another process has written the store.
    """

    read: Read = here
    tampered: bool = False
    _contents: dict[str, Contents] = field(default_factory=dict)
    _texts: dict[tuple[Any, ...], str] = field(default_factory=dict)

    def contents(self, group: Group) -> Contents:
        spec = group.dataset.spec
        if spec not in self._contents:
            self._contents[spec] = Contents(group.dataset.object, self.read)
        return self._contents[spec]

    def code(self, group: Group, cell: Cell, metric: str) -> str:
        """Return the code mapping of a metric in a cell ("" for the explanation), as JSON."""
        key = ("code", cell.number, metric)
        if key not in self._texts:
            own = (f'explainer "{cell.explainer.spec}"', f'metric "{metric}"' if metric else "")
            self._texts[key] = text(
                {**group.fingerprint, **{what: cell.fingerprint[what] for what in own if what in cell.fingerprint}}
            )
        return self._texts[key]

    def data(
        self,
        group: Group,
        cell: Cell,
        metric: Metric | None,
        ids: tuple[str, ...],
        reads: frozenset[str] = frozenset(),
    ) -> str:
        """Return the data mapping of a shard's samples for a metric (None: the explanation), as JSON.

        Args:
            reads: what was read beyond the samples.
        """
        needs = (metric.protocol.needs if metric is not None else frozenset()) & {"truth", "out-of-set"}
        key = ("data", group.dataset.spec, cell.explainer.spec, needs, ids, reads)
        if key not in self._texts:
            self._texts[key] = text(self.contents(group).of_shard(ids, cell.explainer.object, metric, reads))
        return self._texts[key]

    def of_shard(
        self,
        group: Group,
        cell: Cell,
        metrics: Iterable[str],
        ids: tuple[str, ...],
        reads: Mapping[str, frozenset[str]] | None = None,
    ) -> dict[str, tuple[str, str]]:
        """Return the code and data mappings of the explanation and of metrics of a shard.

        Args:
            reads: by metric, what was read beyond the samples.
        """
        reads, none = reads or {}, frozenset[str]()
        data = self.data(group, cell, None, ids, reads.get(EXPLAINED, none))
        found = {EXPLAINED: (self.code(group, cell, EXPLAINED), data)}
        for metric in metrics:
            if metric != EXPLAINED:
                data = self.data(group, cell, cell.metrics[metric].object, ids, reads.get(metric, none))
                found[metric] = (self.code(group, cell, metric), data)
        return found


@dataclass(frozen=True)
class Todo:
    """What is to do.

    Attributes:
        plan: the plan, its groups and cells numbered as the store numbers them.
        missing: by cell, what is missing and to be done.
        complete: the cells of which nothing is missing.
    """

    plan: Plan
    missing: Mapping[int, Missing]
    complete: frozenset[int]
    basis: Basis


@dataclass
class _Changes:
    """What has changed since a run was started, and the (cell, shard) that it touches.

    Attributes:
        spoilt: by group, the shards whose samples are not as they were written.
    """

    parts: dict[str, None] = field(default_factory=dict)
    touched: set[tuple[int, int]] = field(default_factory=set)
    damaged: set[tuple[int, int]] = field(default_factory=set)
    removed: list[str] = field(default_factory=list)
    spoilt: dict[int, frozenset[int]] = field(default_factory=dict)

    def tell(self, shards: int, tell: Tell) -> None:
        if self.touched:
            tell(
                f"changed since this run was started: {few_of(list(self.parts))}; computed again: "
                f"{len(self.touched)} of {shards} shards"
            )
        if self.damaged:
            tell(f"damaged in the store, and computed again: {len(self.damaged)} of {shards} shards")
        if self.removed:
            tell(
                f"removed, since what they depend on has changed: {few_of(self.removed)}; name them to have them again"
            )


def prepare(store: Store, plan: Plan, tell: Tell, only_failed: bool = False, read: Read = here) -> Todo:
    """Write down what will be done, and forget what failed, was damaged, or depends on something that has changed.

    Args:
        only_failed: leave what was never done, and do again only what failed.
        read: calls what reads a dataset's pixels and masks.
    """
    basis, changes = Basis(read), _Changes()
    plan = numbered(store, widened(store, plan, tell))
    command = {"line": plan.request.command, "folder": plan.request.folder}
    with store.transaction():
        store.put_meta("complete", False)
        store.put_meta("command", command)
        models = {group.model.object.name: str(group.model.object.path.resolve()) for group in plan.groups}
        store.put_meta("models", {**(store.meta("models") or {}), **models})
        store.put_meta("limit", {"limit": plan.request.limit})
        cards = {group.model.object.name: group.model.spec for group in plan.groups}
        store.put_meta("cards", {**(store.meta("cards") or {}), **cards})  # as they were asked for, in that folder
        name, version = plan.request.suite
        store.put_meta("suite", {"name": name, "version": version, "description": plan.request.description})
        texts = {key: json.loads(value) for key, value in store.inputs().items()}
        rows = {row["id"]: row for row in store.cells()}
        known = {row["id"] for row in store.groups()}
        missing: dict[int, Missing] = {}
        complete: set[int] = set()
        shards = 0
        for group in plan.groups:
            if group.number not in known:
                store.add_group(group.number, group.model.object.name, group.dataset.spec)
            if problem := problem_of(group.dataset.object):
                for cell in group.cells:
                    _unlisted(store, group, cell, cell.number in rows, problem)
                    store.set_command(cell.number, command)
                continue
            _shards(store, group, basis, changes)
            reopen(store, group, basis)
            there = store.shards(group.number)
            changes.spoilt[group.number] = frozenset(store.damaged_samples(group.number))
            if changes.spoilt[group.number]:
                store.forget_samples(group.number, changes.spoilt[group.number])
            shards += len(there) * len(group.cells)
            named = {cell.number for cell in group.cells}
            for row in rows.values():
                if row["grp"] == group.number and row["id"] not in named:
                    _unnamed(store, group, row, basis, texts, there, changes)
            for cell in group.cells:
                before = rows.get(cell.number)
                failed = before is not None and has_failed(before)
                left = _cell(store, plan, group, cell, before, basis, texts, there, changes)
                if not left:
                    complete.add(cell.number)
                elif failed or not only_failed:
                    missing[cell.number] = left
                store.set_command(cell.number, command)
    changes.tell(shards, tell)
    return Todo(plan, missing, frozenset(complete), basis)


def numbered(store: Store, plan: Plan) -> Plan:
    """Return a plan whose groups and cells have the numbers that the store gave them, or gives them now."""
    groups = {(row["model"], row["dataset"]): row["id"] for row in store.groups()}
    cells = {(row["grp"], row["explainer"]): row["id"] for row in store.cells()}
    next_cell = max(cells.values(), default=-1) + 1
    made: dict[int, Group] = {}
    for group in plan.groups:
        number = groups.setdefault((group.model.object.name, group.dataset.spec), len(groups))
        own = []
        for cell in group.cells:
            key = (number, cell.explainer.spec)
            if key not in cells:
                cells[key], next_cell = next_cell, next_cell + 1
            own.append(dataclasses.replace(cell, number=cells[key]))
        made[group.number] = dataclasses.replace(group, number=number, cells=tuple(own))
    families = []
    for job in plan.families:
        pairs = []
        for group, cell in job.cells:
            new = made[group.number]
            pairs.append((new, next(c for c in new.cells if c.explainer.spec == cell.explainer.spec)))
        families.append(dataclasses.replace(job, cells=tuple(pairs)))
    return dataclasses.replace(plan, groups=tuple(made.values()), families=tuple(families))


def widened(store: Store, plan: Plan, tell: Tell) -> Plan:
    """Return a plan of as many samples as the run already has; fewer would leave records that contradict each other."""
    held = store.meta("limit")
    asked = plan.request.limit
    if held is None or asked is None or (held["limit"] is not None and held["limit"] <= asked):
        return plan
    limit = held["limit"]
    tell(f"the run has {'all' if limit is None else limit} samples per dataset already; --limit {asked} is not used")
    request = dataclasses.replace(plan.request, limit=limit)
    groups = {
        group.number: dataclasses.replace(group, positions=choose(group.dataset.object.items(), limit, request.seed))
        for group in plan.groups
    }
    families = tuple(
        dataclasses.replace(job, cells=tuple((groups[g.number], c) for g, c in job.cells)) for job in plan.families
    )
    return dataclasses.replace(plan, request=request, groups=tuple(groups.values()), families=families)


def _shards(store: Store, group: Group, basis: Basis, changes: _Changes) -> None:
    """Divide the group's samples among shards: those of an earlier command stay as they are, new ones come behind."""
    contents = basis.contents(group)
    ids = list(contents.items)
    wanted = [ids[position] for position in group.positions]
    contents.wanted |= dict.fromkeys(wanted)
    chosen = set(wanted)
    placed: set[str] = set()
    numbers = [-1]
    for number, samples in store.shards(group.number).items():
        numbers.append(number)
        if chosen.issuperset(samples):
            placed.update(samples)
            continue
        changes.parts["the samples of the dataset"] = None
        changes.touched.update((cell.number, number) for cell in group.cells)
        store.remove_shard(group.number, number)
    new = [one for one in wanted if one not in placed]
    first = max(numbers) + 1
    store.add_shards(
        group.number,
        {first + i: new[at : at + SHARD_SIZE] for i, at in enumerate(range(0, len(new), SHARD_SIZE))},
    )


def reopen(store: Store, group: Group, basis: Basis) -> None:
    """Forget what opening a group's model found, if something that it depends on has changed."""
    row = store.group(group.number)
    if row["opened"] and (row["inputs"] != opened_on(group, basis) or not store.opening_is_sound(group.number)):
        store.close_group(group.number)


def opened_on(group: Group, basis: Basis) -> dict[str, str]:
    return opening(group.model.object, group.fingerprint, basis.contents(group))


def _unlisted(store: Store, group: Group, cell: Cell, known: bool, problem: Reason) -> None:
    """Mark a cell whose dataset could not be listed; what an earlier command has made of it stays in the store."""
    status, reason = (Status.NOT_APPLICABLE, cell.reason) if cell.reason else (Status.FAILED, problem)
    if known:
        store.set_cell(cell.number, status, reason)
    else:
        store.add_cell(cell.number, group.number, cell.explainer.spec, status, reason)


def _cell(
    store: Store,
    plan: Plan,
    group: Group,
    cell: Cell,
    row: Mapping[str, Any] | None,
    basis: Basis,
    texts: Mapping[int, Mapping[str, str]],
    shards: Mapping[int, tuple[str, ...]],
    changes: _Changes,
) -> Missing:
    """Bring one cell of the store in line with the plan; return what is missing of it."""
    number = cell.number
    if row is None:
        store.add_cell(number, group.number, cell.explainer.spec, Status.PENDING, None)
        row = {"status": Status.PENDING, "reason": None, "metrics": []}
    elif row["status"] is Status.FAILED or (row["status"] is Status.NOT_APPLICABLE and not cell.reason):
        ended = [done for done in store.all_done(number) if done.number == ENDED and done.metric == EXPLAINED]
        same = ended and not any(_parts(basis, group, cell, None, done, texts, shards) for done in ended)
        if row["status"] is Status.NOT_APPLICABLE and same:
            return {}
        if row["status"] is Status.FAILED and len(store.invalid(number)) < store.explained(number):
            store.drop(number, EXPLAINED, ENDED)  # what was done before it failed is compared below, as ever
            store.set_cell(number, Status.PENDING)
            row = {**row, "status": Status.PENDING}
        else:
            store.clear_cell(number)
            row = {**row, "status": Status.PENDING, "metrics": []}
    states = {metric["metric"]: metric for metric in row["metrics"]}
    for ordinal, metric in enumerate(plan.metrics):
        reason = cell.not_applicable.get(metric.spec)
        before = states.get(metric.spec)
        if reason or before is None:
            state = Status.NOT_APPLICABLE if reason else Status.PENDING
            store.add_metric(number, metric.spec, ordinal, state, reason)
        elif before["status"] is Status.FAILED:
            store.clear_metric(number, metric.spec)
    if cell.reason:
        store.set_cell(number, Status.NOT_APPLICABLE, cell.reason)
        return {}
    families = {m.spec for m in plan.metrics if "family" in m.object.protocol.needs}
    wanted = frozenset({EXPLAINED, *cell.metrics}) - families
    kept, ended_metrics = _kept(store, plan, group, cell, basis, texts, shards, changes, families)
    for spec in cell.metrics:
        before = states.get(spec)
        # What had no samples may have some now; what ended for another reason stays as it is, unless that has changed.
        if before and before["status"] is Status.NOT_APPLICABLE and spec not in ended_metrics:
            store.set_metric(number, spec, Status.PENDING)
    missing: dict[int, frozenset[str]] = {}
    for shard in shards:
        left = wanted - kept.get(shard, frozenset()) - ended_metrics
        if left:
            missing[shard] = frozenset(left)
    for spec in {spec for left in missing.values() for spec in left} & set(cell.metrics):
        store.set_metric(number, spec, Status.PENDING)
    if missing:
        store.set_cell(number, Status.PENDING)
    return missing


def _kept(
    store: Store,
    plan: Plan,
    group: Group,
    cell: Cell,
    basis: Basis,
    texts: Mapping[int, Mapping[str, str]],
    shards: Mapping[int, tuple[str, ...]],
    changes: _Changes,
    families: set[str],
) -> tuple[dict[int, frozenset[str]], set[str]]:
    """Forget what cannot be kept of a cell; return by shard what is kept, and the metrics that have ended."""
    number = cell.number
    rows = store.all_done(number)
    stale: set[tuple[str, int]] = set()
    for done in rows:
        if done.metric in families:
            continue  # ``family`` compares these itself: they depend on several cells
        parts = _parts(basis, group, cell, _metric(cell, done.metric), done, texts, shards)
        if parts:
            stale.add((done.metric, done.number))
            changes.parts.update(dict.fromkeys(parts))
            changes.touched.add((number, done.number))
    wrong = set(store.damaged(number)) if rows else set()
    spoilt = changes.spoilt.get(group.number, frozenset())
    wrong |= {(done.metric, done.number) for done in rows if done.number in spoilt}
    changes.damaged.update((number, shard) for _metric_, shard in wrong - stale)
    for metric, shard in sorted(stale | wrong):
        store.drop(number, metric, shard)
    # A shard whose map is gone was dropped with all that was made of it.
    gone = {shard for metric, shard in stale | wrong if metric == EXPLAINED}
    keep = keeps_maps(plan, group, cell)
    kept: dict[int, set[str]] = {}
    ended = set()
    for done in rows:
        if (done.metric, done.number) in stale | wrong or done.number in gone:
            continue
        if done.number == ENDED:
            ended.add(done.metric)
        elif (
            done.metric != EXPLAINED
            or not keep
            or (done.maps and _maps_are_there(store, group, cell, shards[done.number]))
        ):
            kept.setdefault(done.number, set()).add(done.metric)
        else:
            store.execute("DELETE FROM done WHERE cell = ? AND metric = '' AND number = ?", (number, done.number))
    return {shard: frozenset(metrics) for shard, metrics in kept.items()}, ended


def _metric(cell: Cell, spec: str) -> Metric | None:
    return cell.metrics[spec].object if spec in cell.metrics else None


def _parts(
    basis: Basis,
    group: Group,
    cell: Cell,
    metric: Metric | None,
    done: Done,
    texts: Mapping[int, Mapping[str, str]],
    shards: Mapping[int, tuple[str, ...]],
) -> list[str]:
    """Return what has changed of all that a finished shard depends on."""
    if done.number not in shards and done.number != ENDED:
        return ["the samples of the dataset"]
    known = metric is not None or done.metric == EXPLAINED
    found = _compare(texts[done.code], json.loads(basis.code(group, cell, done.metric)), known)
    if done.number != ENDED:
        data = texts[done.data]
        now = json.loads(basis.data(group, cell, metric, shards[done.number], reads_of(data)))
        if not known and MASKS in data:
            now[MASKS] = basis.contents(group).truths(shards[done.number])
        found += _compare(data, now, known)
    return found


def _compare(before: Mapping[str, str], now: Mapping[str, str], known: bool) -> list[str]:
    """Return what differs; of a metric that the command does not name, what the command knows of it."""
    if not before:
        return ["the form of the store"]  # it was written by a version that kept no digests
    return differing(before if known else {what: before[what] for what in before if what in now}, now)


def _unnamed(
    store: Store,
    group: Group,
    row: Mapping[str, Any],
    basis: Basis,
    texts: Mapping[int, Mapping[str, str]],
    shards: Mapping[int, tuple[str, ...]],
    changes: _Changes,
) -> None:
    """Remove a cell that the command does not name, if what it shares with the named ones has changed."""
    contents = basis.contents(group)
    for done in store.all_done(row["id"]):
        code = {what: texts[done.code].get(what, "") for what in group.fingerprint}
        same = code == dict(group.fingerprint)
        if same and done.number != ENDED:
            data, ids = texts[done.data], shards.get(done.number)
            same = ids is not None and data[SAMPLES] == contents.samples(ids)
        if not same:
            changes.removed.append(f"{row['model']} / {row['dataset']} / {row['explainer']}")
            store.remove_cell(row["id"])
            return


def keeps_maps(plan: Plan, group: Group, cell: Cell) -> bool:
    """Say whether a cell's maps are kept: asked for, or needed by a family metric."""
    families = {c.number for job in plan.families for _g, c in job.cells}
    return plan.request.keep_maps or cell.number in families


def _maps_are_there(store: Store, group: Group, cell: Cell, ids: Iterable[str]) -> bool:
    names = (group.model.object.name, group.dataset.spec, cell.explainer.spec)
    explained = {row["sample"] for row in store.samples(group.number)}
    return all(maps_file(store.directory, *names, sample).is_file() for sample in ids if sample in explained)


def has_failed(row: Mapping[str, Any]) -> bool:
    return row["status"] is Status.FAILED or any(m["status"] is Status.FAILED for m in row["metrics"])


def few_of(names: list[str], shown: int = 4) -> str:
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more} more" if more > 0 else "")


def rounds(missing: Mapping[int, Missing]) -> list[dict[int, tuple[frozenset[str], frozenset[int]]]]:
    """Divide what is missing into jobs, in each of which a cell needs the same metrics of all its shards.

    Returns:
        By cell, the metrics and the shards. A run that was not extended needs one round.
    """
    made: list[dict[int, tuple[frozenset[str], frozenset[int]]]] = []
    for cell, left in missing.items():
        by_metrics: dict[frozenset[str], set[int]] = {}
        for shard, metrics in left.items():
            by_metrics.setdefault(metrics - {EXPLAINED}, set()).add(shard)
        for i, (metrics, shards) in enumerate(sorted(by_metrics.items(), key=lambda item: min(item[1]))):
            if i == len(made):
                made.append({})
            made[i][cell] = (metrics, frozenset(shards))
    return made


def text(mapping: Mapping[str, str]) -> str:
    """Return a mapping as JSON, in one spelling."""
    return json.dumps(mapping, sort_keys=True, separators=(",", ":"))
