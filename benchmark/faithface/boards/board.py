"""From records to boards: which records share a table, its columns, ranks and order. A pure function of the records,
the metrics' audit and the explainers' tiers.

Place in the flow: ``publish`` and ``api`` call :func:`make_board`; ``render`` writes what comes out. Calls ``record``,
``statistics``, ``tiers`` and ``verdicts``.

Records share a table only if model file, dataset revision, samples and seed agree, and a column only if the
protocol's id, version and parameters do.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from faithface.boards.clean import clean_auc
from faithface.boards.columns import Designs, Matrix, headlines, units_of, values_by_member
from faithface.boards.outcomes import Split, splits_of
from faithface.boards.record import Kept, Number, Record
from faithface.boards.statistics import Place, pairwise, places
from faithface.boards.tiers import Known, Tier, tier_of
from faithface.boards.verdicts import APART, Audit, Standing, audit_for, fill_of, standing
from faithface.errors import UsageError
from faithface.reasons import ReasonCode

# By the id of a record in memory: its headline values by protocol and sample.
Values = dict[int, dict[str, dict[str, float]]]


@dataclass(frozen=True)
class Column:
    """One protocol of a table.

    Attributes:
        sample: any of its numbers, for direction, range and source.
        standing: what the metrics' audit lets it do.
    """

    protocol: str
    sample: Number
    standing: Standing

    @property
    def ranked(self) -> bool:
        """Whether its numbers may be ranked: they are means, and of a protocol that judges maps."""
        return self.sample.summary == "mean" and self.standing.judges


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        places: by protocol, the rank interval and tie class among the methods; none for controls, and for protocols
            that are not ranked.
        beats: by protocol, the controls that it is significantly better than.
        values: by protocol, the headline values by sample; samples without a value are not there.
        clean_auc: of the model's clean scores; None where it is not known.
        tier: how far up the ladder the explainer's code stands; None: not computed.
    """

    title: str
    record: Record
    places: Mapping[str, Place]
    beats: Mapping[str, frozenset[str]] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, float]] = field(default_factory=dict, repr=False)
    clean_auc: float | None = None
    tier: Tier | None = None

    @property
    def control(self) -> bool:
        return self.record.explainer.control

    def rank(self, protocol: str) -> str | None:
        """Return the rank as boards print it, such as ``1-3``; None: not ranked."""
        place = self.places.get(protocol)
        return None if place is None else place.text

    def number(self, protocol: str, value_name: str = "") -> Number | None:
        return self._numbers.get((protocol, value_name))

    @functools.cached_property
    def _numbers(self) -> dict[tuple[str, str], Number]:
        return {(one.protocol, one.value_name): one for one in reversed(self.record.numbers)}


@dataclass(frozen=True)
class Table:
    """A table of explainers (one model, one dataset) or of models (one explainer, one dataset).

    Attributes:
        kind: ``explainers`` or ``models``.
        rows: in the order in which they are shown: methods, then controls.
        splits: of verification, the numbers by the model's decision (``outcomes``).
        units: the people (or images) in each sample.
    """

    kind: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    splits: tuple[Split, ...] = ()
    units: Mapping[str, Sequence[str]] = field(default_factory=dict, repr=False)

    @property
    def first(self) -> Record:
        return self.rows[0].record


@dataclass(frozen=True)
class Board:
    """All tables of one suite and version."""

    suite: str
    version: int
    description: str
    tables: tuple[Table, ...]
    records: tuple[Record, ...]


def make_board(kept: Sequence[Kept], audit: Audit | None = None, tiers: Known | None = None) -> Board:
    """Return the board of records that belong to one suite and version.

    Args:
        audit: what is known of metrics, which decides what ranks; None: the audit that comes with faithface.
        tiers: what is known of explainers; None: nothing.

    Raises:
        UsageError: the records belong to several.
    """
    audit = audit_for() if audit is None else audit
    tiers = tiers or {}
    suites = sorted({(k.record.suite.name, k.record.suite.version) for k in kept})
    if len(suites) != 1:
        shown = ", ".join(f"{name} v{version}" for name, version in suites)
        raise UsageError(
            f"records of several boards lie together ({shown}); keep each suite and version in its own folder"
        )
    (name, version) = suites[0]
    ordered = sorted(kept, key=lambda k: k.record.stem.as_posix())
    by_model: dict[tuple[object, ...], list[Kept]] = {}
    by_explainer: dict[tuple[object, ...], list[Kept]] = {}
    for one in ordered:
        model, data = one.record.model, one.record.dataset
        setting = (data.spec, data.revision, data.size, data.limit or 0, data.seed)
        by_model.setdefault((model.name, model.sha256, *setting), []).append(one)
        by_explainer.setdefault((model.task, one.record.explainer.spec, *setting), []).append(one)
    several = [members for members in by_explainer.values() if len({k.record.model.name for k in members}) > 1]
    # A suite of one explainer and many models is a board of models; one-line tables beside it would say nothing more.
    single = bool(several) and all(len(members) == 1 for members in by_model.values())
    # With many explainers, tables of models say something new only of families that were trained several times: their
    # spread. Networks of one run each stand beside each other in the tables of explainers, line by line.
    several = [members for members in several if single or _trained_again(members)]
    values: Values = {}
    groups = [] if single else [("explainers", members) for members in by_model.values()]
    groups += [("models", members) for members in several]
    tables = [_table(kind, members, values, audit, tiers) for kind, members in groups]
    descriptions = sorted({k.record.suite.description for k in kept if k.record.suite.description})
    return Board(
        name, version, descriptions[0] if descriptions else "", tuple(tables), tuple(k.record for k in ordered)
    )


def _trained_again(members: Sequence[Kept]) -> bool:
    """Say whether a family has several runs among the records."""
    runs = Counter((one.record.model.task, one.record.model.family) for one in members)
    return max(runs.values()) > 1


def _table(kind: str, members: Sequence[Kept], values: Values, audit: Audit, tiers: Known) -> Table:
    """Return a table; ``values`` holds those of the records in tables before it, and gets those of its own."""
    # What is made for another task is no row here; what should have applied and did not is one, with its reason.
    members = [one for one in members if one.record.code != ReasonCode.OTHER_TASK] or members
    columns: dict[str, Column] = {}
    for one in members:
        for number in one.record.numbers:
            if number.value_name == "":
                fill = fill_of(number.parameters, number.which)
                known = standing(number.protocol, number.family, audit, fill)
                columns.setdefault(number.protocol, Column(number.protocol, number, known))
    columns = dict(sorted(columns.items(), key=lambda item: _apart(item[1])))
    titles = [k.record.explainer.spec if kind == "explainers" else k.record.model.name for k in members]
    if kind == "explainers" or any(id(one) not in values for one in members):
        frame = headlines(members, titles)
        values |= {id(one): v for one, v in zip(members, values_by_member(frame, len(members)), strict=True)}
    ranked: Mapping[str, _Ranking] = {}
    splits: tuple[Split, ...] = ()
    units: dict[str, Sequence[str]] = {}
    if kind == "explainers":
        controls = {title for title, one in zip(titles, members, strict=True) if one.record.explainer.control}
        units = dict(units_of(frame))
        designs = Designs(units)
        ranked = _rankings(columns, frame, controls, designs)
        if members[0].record.model.task == "verification":
            means = {p: column.sample.better for p, column in columns.items() if column.sample.summary == "mean"}
            splits = splits_of(frame, titles, means, designs)
    # The rows of one model have the same samples and scores.
    most = {one.record.model.name: one for one in sorted(members, key=lambda one: one.values.height)}
    areas = {name: clean_auc(one) for name, one in most.items()}
    rows = [
        Row(
            title,
            one.record,
            {p: found.places[title] for p, found in ranked.items() if title in found.places},
            {p: found.beats[title] for p, found in ranked.items() if title in found.beats},
            values[id(one)],
            areas[one.record.model.name],
            tier_of(one.record.explainer.name, one.record.explainer.origin, tiers),
        )
        for title, one in zip(titles, members, strict=True)
    ]
    if kind != "explainers":
        return Table(kind, tuple(columns.values()), tuple(sorted(rows, key=_by_family)), (), units)
    by_number = _by_first_column(tuple(columns.values()), rows)
    shown = tuple(sorted(rows, key=lambda row: (row.control, by_number(row))))
    return Table(kind, tuple(columns.values()), shown, splits, units)


def _apart(column: Column) -> int:
    """Return the place of a column: what judges, what would and may not by the audit, and the families apart."""
    if column.standing.judges:
        return -2
    return APART.index(column.sample.family) if column.sample.family in APART else -1


def passed(number: Number) -> bool | None:
    """Say whether a gate's number reaches its bar; None for what is no gate, or has no number."""
    if number.bar is None or number.number is None:
        return None
    return number.number >= number.bar if number.better == "higher" else number.number <= number.bar


@dataclass(frozen=True)
class _Ranking:
    """The places of the methods in one column, and which controls each of them beats."""

    places: Mapping[str, Place] = field(default_factory=dict)
    beats: Mapping[str, frozenset[str]] = field(default_factory=dict)


def _rankings(
    columns: Mapping[str, Column], frame: pl.DataFrame, controls: set[str], designs: Designs
) -> dict[str, _Ranking]:
    """Rank each column among the methods with a number; nothing for one with its own summary, or that does not judge.

    Controls do not take part in the ranking, so that no method's rank depends on how many controls a suite has. Each
    method is compared with each control beside it, corrected for all comparisons of methods and controls.
    """
    by_protocol = frame.partition_by("protocol", as_dict=True)
    found = {}
    for protocol, column in columns.items():
        rows = by_protocol.get((protocol,))
        if column.ranked and rows is not None:
            found[protocol] = _ranking(column, rows, controls, designs)
    return found


def _ranking(column: Column, frame: pl.DataFrame, controls: set[str], designs: Designs) -> _Ranking:
    """Rank one column; ``frame`` holds its ``title, sample, value``."""
    higher = column.sample.better == "higher"
    everybody = Matrix.of(frame)
    found = pairwise(everybody.values, designs.within(everybody.samples))
    chosen = [k for k, title in enumerate(everybody.titles) if title not in controls]
    methods = [everybody.titles[k] for k in chosen]
    alone = np.isfinite(everybody.values[:, chosen]).any(axis=1)
    if alone.all():
        among = found.only(np.array(chosen, dtype=np.int64))
    else:  # samples that only controls have are none of the methods' business
        mine = everybody.take(alone)
        among = pairwise(mine.values[:, chosen], designs.within(mine.samples))
    ranked = places(methods, among, higher)
    if len(methods) == len(everybody.titles):
        return _Ranking({place.name: place for place in ranked})
    better = found.better(higher)
    known = [k for k, title in enumerate(everybody.titles) if title in controls]
    beats = {everybody.titles[i]: frozenset(everybody.titles[k] for k in known if better[i, k]) for i in chosen}
    return _Ranking({place.name: place for place in ranked}, beats)


def _by_first_column(columns: Sequence[Column], rows: Sequence[Row]) -> Callable[[Row], tuple[int, float, str]]:
    """Return the order of a table: by its first column with numbers, best first, and what has none there last."""
    first = next((c for c in columns if any(_value(row, c) is not None for row in rows)), None)

    def key(row: Row) -> tuple[int, float, str]:
        value = None if first is None else _value(row, first)
        if first is None or value is None:
            return (1, 0.0, row.title)
        return (0, -value if first.sample.better == "higher" else value, row.title)

    return key


def _value(row: Row, column: Column) -> float | None:
    number = row.number(column.protocol)
    return None if number is None else number.number


def _by_family(row: Row) -> tuple[int, float, str]:
    # In the shape of the other order: families by name, then their runs.
    return (0, 0.0, f"{row.record.model.family}\x00{row.record.model.run:06d}\x00{row.title}")
