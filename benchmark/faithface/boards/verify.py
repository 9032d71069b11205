"""Run a sample of records again, here, and compare: reproduced, differs, or cannot.

Place in the flow: ``faithface verify`` and ``leaderboard check`` call :func:`verify_records`. Plans a run of the
records' own models, datasets, explainers and metrics, on some of their samples, has ``run.driver`` carry it out in a
scratch folder, and compares value by value within the protocols' tolerance. ``docs/explanation/trust.md`` says what
that proves.

What is compared with is the installed protocol's tolerance, not the one that a record states.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import polars as pl

from faithface.boards.collect import cell_values, label_of
from faithface.boards.record import Kept, Record
from faithface.card import ModelCard
from faithface.contract import Dataset, Explainer, Metric, Pair, Sample
from faithface.errors import FaithfaceError, UsageError
from faithface.hashing import fingerprint_of, model_digest
from faithface.plugins import Registry, Resolved
from faithface.reasons import Status
from faithface.run.driver import execute_plan
from faithface.run.executors import Executor
from faithface.run.paths import short
from faithface.run.plan import Plan, make_plan
from faithface.run.request import Request
from faithface.run.store import Store
from faithface.seeds import seed_for

SAMPLE = 20
CLEAN_SCORE = "clean score"
CLEAN_TOLERANCE = 1e-3
NO_VALUES = "it has no values: nothing ran there"


class Outcome(StrEnum):
    """What running a record again came to."""

    REPRODUCED = "reproduced"
    DIFFERS = "differs"
    CANNOT = "cannot"


@dataclass(frozen=True)
class Gap:
    """One value that is not what the record says.

    Attributes:
        protocol, value_name: what; or ``clean score``.
        recorded, found: None: no value.
        tolerance: how far apart the two may be.
    """

    protocol: str
    value_name: str
    sample: str
    recorded: float | None
    found: float | None
    tolerance: float

    def __str__(self) -> str:
        name = f"{self.protocol}:{self.value_name}" if self.value_name else self.protocol
        said, here = (("no value" if v is None else f"{v:.6g}") for v in (self.recorded, self.found))
        return f'{name} on sample "{self.sample}": recorded {said}, here {here} (tolerance {self.tolerance:g})'


@dataclass(frozen=True)
class Verified:
    """What running one record again came to.

    Attributes:
        reason: why it cannot be run here; for ``differs``, the first difference in words.
        samples, protocols: what was run again and compared.
        values: how many values were compared.
        gaps: those that differ.
        largest: the largest difference, in units of its tolerance.
        notes: what is not as it was when the record was made, such as the code of an explainer.
        skipped: protocols that were not compared, and why.
        where: device, system and versions of this run.
    """

    record: Record
    outcome: Outcome
    reason: str = ""
    samples: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()
    values: int = 0
    gaps: tuple[Gap, ...] = ()
    largest: float = 0.0
    notes: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    where: Mapping[str, Any] = field(default_factory=dict)

    @property
    def cell(self) -> str:
        return f"{self.record.model.name} / {self.record.dataset.spec} / {self.record.explainer.spec}"

    def __str__(self) -> str:
        if self.outcome is Outcome.REPRODUCED:
            text = f"{len(self.samples)} samples, {self.values} values, at most {self.largest:.2g} of the tolerance off"
        elif self.outcome is Outcome.DIFFERS and self.gaps:
            text = f"{len(self.gaps)} of {self.values} values; {self.reason}"
        else:
            text = self.reason
        return " ".join(f"{self.cell}: {self.outcome}: {text}".split())


@dataclass(frozen=True)
class Asked:
    """How to run records again.

    Attributes:
        sample: how many samples of each model and dataset.
        seed: which they are.
        models: cards' paths by model name, for models that are not registered.
        datasets: datasets as they are opened here, by the text that records have (``folder:faces``).
        device: where.
    """

    sample: int = SAMPLE
    seed: int = 0
    models: Mapping[str, str] = field(default_factory=dict)
    datasets: Mapping[str, str] = field(default_factory=dict)
    device: str = "cpu"


def verify_records(
    kept: Sequence[Kept], registry: Registry, asked: Asked, executor: Executor | None = None
) -> Iterator[Verified]:
    """Run a sample of each record again and compare. Records of one model and dataset share a run.

    Args:
        kept: records with their values, already found to be whole.
        registry: what is installed here.
        executor: does the shards; None: this process.
    """
    groups: dict[tuple[object, ...], list[Kept]] = {}
    for one in kept:
        if not len(one.values):
            yield Verified(one.record, Outcome.CANNOT, NO_VALUES)
            continue
        model, data = one.record.model, one.record.dataset
        groups.setdefault((model.name, model.sha256, data.spec, data.revision, data.seed), []).append(one)
    for members in groups.values():
        yield from _verify_group(members, registry, asked, executor)


def _verify_group(
    members: Sequence[Kept], registry: Registry, asked: Asked, executor: Executor | None
) -> Iterator[Verified]:
    first = members[0].record
    try:
        _model(first, registry, asked)
        dataset = _dataset(first, registry, asked)
    except FaithfaceError as error:
        yield from (Verified(one.record, Outcome.CANNOT, _line(error)) for one in members)
        return
    chosen = chosen_samples(members, asked.sample, asked.seed)
    listed: Sequence[Sample | Pair] = dataset.object.items()
    items = {item.id: at for at, item in enumerate(listed)}
    if strange := sorted(set(chosen) - set(items)):
        reason = f'sample "{strange[0]}" is not in {first.dataset.spec} ({len(strange)} of {len(chosen)} are not)'
        for one in members:
            mine = tuple(s for s in chosen if s in set(one.values["sample"].unique()))
            yield Verified(one.record, Outcome.DIFFERS, reason, mine)
        return
    runnable: list[Kept] = []
    for one in members:
        try:
            registry.explainer(one.record.explainer.spec)
            runnable.append(one)
        except FaithfaceError as error:
            yield Verified(one.record, Outcome.CANNOT, _line(error))
    metrics, skipped = _metrics(runnable, registry)
    if not runnable or not metrics:
        why = "; ".join(skipped.values()) or "none of its protocols can be run here"
        yield from (Verified(one.record, Outcome.CANNOT, why) for one in runnable)
        return
    request = Request(
        models=(asked.models.get(first.model.name, first.model.name),),
        datasets=(asked.datasets.get(first.dataset.spec, first.dataset.spec),),
        explainers=tuple(one.record.explainer.spec for one in runnable),
        metrics=tuple(metrics),
        seed=first.dataset.seed,
        device=asked.device,
        inherited=frozenset({"explainers", "metrics"}),
    )
    try:
        plan = make_plan(request, registry)
        positions = tuple(sorted(items[sample] for sample in chosen))
        plan = dataclasses.replace(
            plan, groups=tuple(dataclasses.replace(group, positions=positions) for group in plan.groups)
        )
        with tempfile.TemporaryDirectory(prefix="faithface-verify-") as scratch:
            found: list[Verified] = []

            def finish(store: Store, done: Plan) -> None:
                found.extend(_compared(store, done, runnable, chosen, metrics, skipped))

            execute_plan(plan, Path(scratch) / "run", executor=executor, finish=finish)
    except FaithfaceError as error:
        found = [Verified(one.record, Outcome.CANNOT, _line(error)) for one in runnable]
    yield from found


def chosen_samples(members: Sequence[Kept], sample: int, seed: int) -> tuple[str, ...]:
    """Return which samples are run again: a seeded choice, in turn from each label, the same for all records."""
    labels: dict[str, str] = {}
    for one in members:
        labels |= dict(one.values.select("sample", "label").unique().iter_rows())
    strata: dict[str, list[str]] = {}
    for name in sorted(labels, key=lambda name: seed_for(seed, name, "verify")):
        strata.setdefault(labels[name] or "", []).append(name)
    longest = max((len(one) for one in strata.values()), default=0)
    turns = [strata[label][i] for i in range(longest) for label in sorted(strata) if i < len(strata[label])]
    return tuple(turns[:sample])


def _model(record: Record, registry: Registry, asked: Asked) -> Resolved[ModelCard]:
    """Return the record's model as it is here.

    Raises:
        UsageError: it is not here, or is another file or another card.
    """
    name = record.model.name
    try:
        found = registry.model(asked.models.get(name, name))
    except UsageError as error:
        raise UsageError(f'model "{name}" is not here; give its card with --model ({_line(error)})') from None
    if (sha256 := model_digest(found.object.path)) != record.model.sha256:
        raise UsageError(f'model "{name}" here is another file: {sha256[:12]}…, recorded {record.model.sha256[:12]}…')
    if fingerprint_of(found.object) != record.model.origin.fingerprint:
        raise UsageError(f'model "{name}" here has another card: its input, output or layer is not as recorded')
    return found


def _dataset(record: Record, registry: Registry, asked: Asked) -> Resolved[Dataset]:
    """Return the record's dataset as it is here.

    Raises:
        UsageError: it is not here, or of another revision.
    """
    spec = record.dataset.spec
    try:
        found = registry.dataset(asked.datasets.get(spec, spec))
    except UsageError as error:
        raise UsageError(f"dataset {spec} is not here; give it with --dataset ({_line(error)})") from None
    if found.object.revision != record.dataset.revision:
        here, said = found.object.revision[:12], record.dataset.revision[:12]
        raise UsageError(f"dataset {spec} here has revision {here}, recorded {said}")
    return found


def _metrics(kept: Iterable[Kept], registry: Registry) -> tuple[dict[str, Resolved[Metric]], dict[str, str]]:
    """Return the protocols that can be run again, and why others cannot."""
    found: dict[str, Resolved[Metric]] = {}
    skipped: dict[str, str] = {}
    for one in kept:
        for number in one.record.numbers:
            spec = number.protocol
            if number.status is not Status.OK or spec in found or spec in skipped:
                continue
            try:
                metric = registry.metric(spec)
            except FaithfaceError as error:
                skipped[spec] = f"{spec}: {_line(error)}"
                continue
            if "family" in metric.object.protocol.needs:
                skipped[spec] = f"{spec}: it needs all runs of the model's family"
            elif math.isinf(metric.object.tolerance):
                skipped[spec] = f"{spec}: it is not expected to come out the same"
            else:
                found[spec] = metric
    return found, skipped


def _compared(
    store: Store,
    plan: Plan,
    kept: Sequence[Kept],
    chosen: Sequence[str],
    metrics: Mapping[str, Resolved[Metric]],
    skipped: Mapping[str, str],
) -> Iterator[Verified]:
    """Compare the cells of a finished run with the records."""
    from faithface.run.environment import describe_environment

    where = describe_environment(plan.request.device, None)
    rows = {row["id"]: row for row in store.cells()}
    (group,) = plan.groups
    threshold = store.group(group.number)["threshold"]
    facts = store.samples(group.number)
    by_spec = {short(cell.explainer.spec): cell for cell in group.cells}
    for one in kept:
        record = one.record
        cell = by_spec.get(record.explainer.spec)
        if cell is None:
            yield Verified(record, Outcome.CANNOT, f"{record.explainer.spec} has another name here")
            continue
        row = rows[cell.number]
        notes = _notes(record, cell.explainer, metrics, threshold)
        if row["status"] is not Status.OK:
            why = f"it is {row['status']} here: {row['reason']}"
            yield Verified(record, Outcome.CANNOT, why, notes=notes, where=where)
            continue
        here = cell_values(store, cell.number, facts)
        states = {m["metric"]: m for m in row["metrics"]}
        usable = [spec for spec in metrics if spec in states and states[spec]["status"] is Status.OK]
        told = [skipped[n.protocol] for n in record.numbers if n.value_name == "" and n.protocol in skipped]
        told += [
            f"{spec}: {states[spec]['status']} here: {states[spec]['reason']}"
            for spec in metrics
            if spec in states and spec not in usable and any(n.protocol == spec and n.n for n in record.numbers)
        ]
        tolerances = {spec: metrics[spec].object.tolerance for spec in usable}
        count, gaps, largest = differences(one.values, here, chosen, tolerances)
        facts_count, facts_gaps, facts_largest = clean_differences(one.values, facts, chosen)
        gaps = facts_gaps + gaps
        mine = set(one.values["sample"].unique())
        common: dict[str, Any] = {
            "samples": tuple(s for s in chosen if s in mine),
            "protocols": tuple(spec for spec in usable if len(one.values.filter(pl.col("protocol") == spec))),
            "values": count + facts_count,
            "gaps": tuple(gaps),
            "largest": max(largest, facts_largest),
            "notes": notes,
            "skipped": tuple(told),
            "where": where,
        }
        if gaps:
            yield Verified(record, Outcome.DIFFERS, str(gaps[0]), **common)
        elif not count:
            yield Verified(record, Outcome.CANNOT, "; ".join(told) or "no value could be compared", **common)
        else:
            yield Verified(record, Outcome.REPRODUCED, **common)


def differences(
    recorded: pl.DataFrame, here: pl.DataFrame, samples: Collection[str], tolerances: Mapping[str, float]
) -> tuple[int, list[Gap], float]:
    """Compare recorded values with those that were found.

    Args:
        recorded, here: rows as in ``VALUE_SCHEMA``.
        samples: those that were run again.
        tolerances: by protocol; others are not compared.

    Returns:
        How many values were compared, which differ, and the largest difference in units of its tolerance.
    """
    keys = ["protocol", "value_name", "sample"]
    wanted = pl.col("protocol").is_in(list(tolerances)) & pl.col("sample").is_in(list(samples))
    known = recorded["protocol"].unique().to_list()
    said = recorded.filter(wanted).select(*keys, "value")
    found = here.filter(wanted & pl.col("protocol").is_in(known)).select(*keys, "value")
    both = said.join(found, on=keys, how="full", coalesce=True, suffix="_here").sort(keys)
    gaps, largest = [], 0.0
    for protocol, name, sample, value, other in both.iter_rows():
        tolerance = tolerances[protocol]
        if value is None and other is None:
            continue
        apart = math.inf if value is None or other is None else abs(value - other) / max(tolerance, 1e-12)
        if apart > 1:
            gaps.append(Gap(protocol, name, sample, value, other, tolerance))
        largest = max(largest, apart)
    return len(both), gaps, largest


def clean_differences(
    recorded: pl.DataFrame, facts: Iterable[Mapping[str, Any]], samples: Collection[str]
) -> tuple[int, list[Gap], float]:
    """Compare the clean scores, labels and people of samples; see :func:`differences`. Another label or person is a
    difference without limit.
    """
    here = {one["sample"]: one for one in facts}
    rows = recorded.select("sample", "units", "label", "score").unique(subset="sample").sort("sample")
    gaps, largest, count = [], 0.0, 0
    for sample, units, label, score in rows.iter_rows():
        if sample not in samples or sample not in here:
            continue
        one = here[sample]
        count += 1
        same = (sorted(units), label) == (sorted(one["units"]), label_of(one)) and score is not None
        apart = abs(score - one["score"]) / CLEAN_TOLERANCE if same else math.inf
        if apart > 1:
            gaps.append(Gap(CLEAN_SCORE, "", sample, score, one["score"], CLEAN_TOLERANCE))
        largest = max(largest, apart)
    return count, gaps, largest


def _notes(
    record: Record, explainer: Resolved[Explainer], metrics: Mapping[str, Resolved[Metric]], threshold: float | None
) -> tuple[str, ...]:
    """Return what is not as it was when the record was made."""
    notes = []
    if fingerprint_of(explainer.object, explainer.provenance.distribution) != record.explainer.origin.fingerprint:
        said = f"{record.explainer.origin.distribution} {record.explainer.origin.distribution_version}"
        notes.append(f"the code of {record.explainer.spec} is not that of the record ({said})")
    changed = [
        number.protocol
        for number in record.numbers
        if number.value_name == ""
        and (metric := metrics.get(number.protocol)) is not None
        and fingerprint_of(metric.object, metric.provenance.distribution) != number.origin.fingerprint
    ]
    if changed:
        notes.append(f"the code of {', '.join(changed)} is not that of the record")
    said_threshold = record.model.threshold
    if said_threshold is not None and threshold is not None and abs(said_threshold - threshold) > CLEAN_TOLERANCE:
        notes.append(f"the decision threshold is {threshold:.6g} here, recorded {said_threshold:.6g}")
    return tuple(notes)


def _line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
