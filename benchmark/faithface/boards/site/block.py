"""A table of a board as sections by metric family, with everything that a template prints already decided.

Place in the flow: ``pages`` calls :func:`make_block`. Calls ``board``, ``claims``, ``render``, ``statistics`` and the
modules beside it. Texts are plain; templates escape them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from faithface.boards.board import Column, Row, Table, passed
from faithface.boards.claims import claim, needed_text
from faithface.boards.controls import controls_text
from faithface.boards.legend import verdict_text
from faithface.boards.record import Number, Record
from faithface.boards.render import ARROW, JUDGED, bound, clean_text, figure, heading, remarks, shown_columns, span
from faithface.boards.site import links
from faithface.boards.site.marks import Axis, axis_of, interval_path
from faithface.boards.statistics.agreement import Overall, borda
from faithface.boards.verdicts import Verdict
from faithface.reasons import Status

NEIGHBOURS = 12  # lines about what separates neighbours, per protocol


@dataclass(frozen=True)
class Family:
    """What a family of metrics asks; ``ranked``: whether its numbers rank methods."""

    key: str
    title: str
    asks: str
    ranked: bool = True


FAMILIES = (
    Family("faithful", "Faithful", "Does the model depend on what the map points at?"),
    Family("specific", "Specific", "Does it depend on this sample's own map more than on another's?"),
    Family("truth", "Known answers", "Does the map agree with an answer that is known?"),
    Family("gate", "Gates", "Checks that a method passes or fails. They do not rank.", False),
    Family(
        "description", "Descriptions", "Properties of maps. They say nothing of faithfulness and rank nobody.", False
    ),
    Family("cost", "Cost", "What one explanation costs."),
)
OTHER = Family("other", "Metrics", "Protocols without a stated family.")
ACCESS = {
    "": "nothing, or not stated",
    "answer": "knows the answer",
    "gradients": "gradients",
    "activations": "activations",
    "scores": "black box",
}


def family_of(number: Number) -> Family:
    """Return the family of a protocol; one that is not known here stands under its own name."""
    if not number.family:
        return OTHER
    return next((one for one in FAMILIES if one.key == number.family), Family(number.family, number.family, ""))


def access_of(record: Record) -> str:
    """Return what an explainer uses of the model, as one key of ``ACCESS``."""
    needs = set(record.explainer.needs)
    if needs & {"truth", "contributions"}:
        return "answer"
    return next((key for key in ("gradients", "activations", "scores") if key in needs), "")


@dataclass(frozen=True)
class Head:
    """One protocol at the top of a table.

    Attributes:
        audit: the verdict of the metrics' audit, with what speaks against the metric.
        mark, why: what the audit makes a board say beside the name, and the reason; "" for nothing.
        kind: of the mark, as a class of the style sheet.
    """

    protocol: str
    arrow: str
    better: str
    question: str
    judged: str
    range: str
    best: str
    n: str
    invalid: str
    source: str
    audit: str
    mark: str
    why: str
    kind: str
    anchor: str
    summary: str


@dataclass(frozen=True)
class Cell:
    """One number: as text, as an SVG path, its rank and tie class, of a gate ``passed`` or ``failed``; or why there is
    none.
    """

    text: str
    interval: str = ""
    path: str = ""
    rank: str = ""
    tie: int = 0
    order: float | None = None
    why: str = ""
    gate: str = ""


@dataclass(frozen=True)
class Line:
    """One row: the texts and links of its name, what it is filtered by, and its cells."""

    title: str
    href: str
    cite: str
    access: str
    seconds: float | None
    cost: str
    cells: tuple[Cell, ...]
    note: str = ""
    group: str = ""
    tier: str = ""


@dataclass(frozen=True)
class Section:
    """A family's table."""

    family: Family
    anchor: str
    heads: tuple[Head, ...]
    methods: tuple[Line, ...]
    controls: tuple[Line, ...]
    claims: tuple[str, ...]
    neighbours: tuple[str, ...]
    zero: tuple[float | None, ...]


@dataclass(frozen=True)
class Block:
    """All that a page says of one table. ``more``: sections that stand on the table's own page only."""

    kind: str
    anchor: str
    page: str
    heading: str
    task: str
    model: str
    dataset: str
    setting: tuple[str, ...]
    sections: tuple[Section, ...]
    remarks: tuple[str, ...]
    overall: Overall | None
    overall_note: str
    more: int = 0
    controls: str = ""


def make_block(table: Table, at: str, page: str, link: Callable[[Record], str]) -> Block:
    """Return a table as sections.

    Args:
        at: the page on which it is shown.
        page: the table's own page.
        link: returns the address of a record's cell page.
    """
    record = table.first
    columns = shown_columns(table)
    families: dict[Family, list[Column]] = {}
    for column in columns:
        families.setdefault(family_of(column.sample), []).append(column)
    known = [*FAMILIES, OTHER]
    order = sorted(families, key=lambda one: (known.index(one) if one in known else len(known), one.key))
    sections = tuple(_section(table, family, families[family], link) for family in order)
    overall, note = _overall(table, columns)
    return Block(
        table.kind,
        links.table_anchor(table),
        links.link(at, page),
        heading(table),
        record.model.task,
        record.model.name if table.kind == "explainers" else "",
        record.dataset.spec,
        _setting(table),
        sections,
        tuple(remarks(table)),
        overall,
        note,
        controls="" if table.kind == "models" else controls_text(row.title for row in table.rows if row.control),
    )


def _setting(table: Table) -> tuple[str, ...]:
    record = table.first
    data, model = record.dataset, record.model
    parts = [f"{data.samples} of {data.size} samples (seed {data.seed})", f"dataset revision {data.revision[:12]}"]
    if data.licence:
        parts.append(f"licence {data.licence}")
    if table.kind == "explainers":
        parts.append(f"model file sha256 {model.sha256[:12]}")
        parts.append(clean_text(record))
        if model.threshold is not None:
            parts.append(f"decision threshold {figure(model.threshold)}")
    return tuple(parts)


def _section(table: Table, family: Family, columns: Sequence[Column], link: Callable[[Record], str]) -> Section:
    axes = [_axis(table, column) for column in columns]
    random = [next((r.number(c.protocol) for r in table.rows if r.title == "random"), None) for c in columns]
    # The line to hold numbers against: of a gate its bar, of all else the number of random.
    against = [
        column.sample.bar if column.sample.bar is not None else n.number if n is not None else None
        for n, column in zip(random, columns, strict=True)
    ]
    zero = [None if v is None else round(axis.place(v), 1) for v, axis in zip(against, axes, strict=True)]
    rows = list(table.rows) if table.kind == "models" else sorted(table.rows, key=_best_first(columns[0]))
    # A column whose methods share one class is not shaded: the shade would look like success, and tells nobody apart.
    plain = [len({p.tie_class for r in rows if (p := r.places.get(c.protocol))}) == 1 for c in columns]
    lines = [
        (
            row.control,
            _line(table, row, [cell_of(row, c, a, p) for c, a, p in zip(columns, axes, plain, strict=True)], link),
        )
        for row in rows
    ]
    ranked = table.kind == "explainers" and family.ranked
    heads = tuple(head_of(table, column) for column in columns)
    return Section(
        family,
        links.anchor(links.table_anchor(table), family.key),
        heads,
        tuple(line for control, line in lines if not control),
        tuple(line for control, line in lines if control),
        tuple(claim(table, column) for column in columns) if ranked else (),
        tuple(one for column in columns for one in _neighbours(table, column)) if ranked else (),
        tuple(zero),
    )


def _best_first(column: Column) -> Callable[[Row], tuple[bool, bool, float, str]]:
    """Return the order of a section: methods, then controls, best first by its first protocol."""
    sign = -1 if column.sample.better == "higher" else 1

    def key(row: Row) -> tuple[bool, bool, float, str]:
        number = row.number(column.protocol)
        value = None if number is None else number.number
        return row.control, value is None, sign * (value or 0.0), row.title

    return key


def _axis(table: Table, column: Column) -> Axis:
    """Return the scale of a column: that of the methods, random and oracle. An inverted control would stretch it."""
    rows = [row for row in table.rows if not row.control or row.title in ("random", "oracle")] or table.rows
    found = [n for row in rows if (n := row.number(column.protocol)) is not None]
    return axis_of([*(v for n in found for v in (n.number, n.low, n.high)), column.sample.bar])


def head_of(table: Table, column: Column) -> Head:
    """Return what is to be said of a protocol on a table."""
    one = column.sample
    found = [n for row in table.rows if (n := row.number(column.protocol)) is not None and n.status is Status.OK]
    return Head(
        column.protocol,
        ARROW[one.better],
        one.better,
        one.question,
        JUDGED.get(one.which, one.which),
        f"{bound(one.range[0], '−')} to {bound(one.range[1], '')}",
        bound(one.best, ""),
        span(n.n for n in found),
        span(n.invalid for n in found),
        one.source,
        verdict_text(column),
        str(column.standing.mark),
        column.standing.why,
        column.standing.mark.name.lower(),
        links.anchor(links.table_anchor(table), column.protocol),
        one.summary,
    )


def cell_of(row: Row, column: Column, axis: Axis, plain: bool = False) -> Cell:
    """Return a cell of a family's table; ``plain``: without the shade of its tie class."""
    number = row.number(column.protocol)
    if number is None or number.number is None or number.status is not Status.OK:
        why = "" if number is None else number.reason
        text = "–" if number is None or number.status is Status.OK else str(number.status)
        return Cell(text, why=" ".join(why.split()))
    place = row.places.get(column.protocol)
    return Cell(
        figure(number.number),
        "" if number.low is None or number.high is None else f"{figure(number.low)} to {figure(number.high)}",
        interval_path(axis, number.number, number.low, number.high),
        "" if place is None else place.text.replace("-", "–").replace("too few to rank", "too few"),
        0 if plain or place is None or place.tie_class is None else place.tie_class,
        number.number,
        gate=gate_text(number),
    )


def gate_text(number: Number) -> str:
    """Return ``passed`` or ``failed`` for a gate's number; "" for all else."""
    through = passed(number)
    return "" if through is None else "passed" if through else "failed"


def _line(table: Table, row: Row, cells: Sequence[Cell], link: Callable[[Record], str]) -> Line:
    record = row.record
    seconds = record.seconds_per_sample
    failed = "" if record.status is Status.OK else f"{record.status}: {' '.join(record.reason.split())}"
    return Line(
        row.title,
        link(record),
        f"{link(record)}#cite",
        access_of(record),
        seconds,
        seconds_text(seconds),
        tuple(cells),
        failed,
        record.model.family if table.kind == "models" else "",
        "" if row.tier is None else str(row.tier),
    )


def seconds_text(seconds: float | None) -> str:
    """Return what an explanation takes.

    Examples:
        >>> [seconds_text(x) for x in (None, 0.0042, 0.25, 12.0)]
        ['–', '4.2 ms', '250 ms', '12 s']
    """
    if seconds is None:
        return "–"
    return (
        f"{1000 * seconds:.2g} ms"
        if seconds < 0.01
        else f"{1000 * seconds:.0f} ms"
        if seconds < 1
        else f"{seconds:.3g} s"
    )


def _neighbours(table: Table, column: Column) -> list[str]:
    """Say how many samples would separate each method from the next one, best first."""
    placed = [row for row in table.rows if column.protocol in row.places and not row.control]
    sign = -1 if column.sample.better == "higher" else 1
    placed.sort(key=lambda row: (sign * row.places[column.protocol].mean, row.title))
    said = []
    for row, other in itertools.pairwise(placed):
        place, behind = row.places[column.protocol], other.places[column.protocol]
        if place.tie_class is None or behind.tie_class is None:
            continue
        needed = needed_text(row, column)
        text = f"{needed} (80 % power)" if needed else "no number of samples that could be had"
        said.append(f"{column.protocol}: {row.title}, {other.title}: {text}")
    if len(said) > NEIGHBOURS:
        said = [
            *said[:NEIGHBOURS],
            f"{column.protocol}: and {len(said) - NEIGHBOURS} further pairs, on the cells' pages",
        ]
    return said


def _overall(table: Table, columns: Sequence[Column]) -> tuple[Overall | None, str]:
    """Return the order by families over the metrics that judge without reserve, or a sentence on why there is none."""
    if table.kind != "explainers":
        return None, ""
    families: dict[str, dict[str, dict[str, float]]] = {}
    for column in columns:
        numbers = {
            row.title: n.number
            for row in table.rows
            if not row.control and (n := row.number(column.protocol)) is not None and n.number is not None
        }
        families.setdefault(family_of(column.sample).title, {})[column.protocol] = numbers
    fit = {c.protocol for c in columns if c.standing.examined.verdict is Verdict.JUDGES and c.standing.judges}
    higher = {column.protocol: column.sample.better == "higher" for column in columns}
    found = borda(families, higher, fit)
    if not found.rows:
        return None, "No overall order: the audit lets none of the metrics here judge, in exactly these settings."
    if len(found.metrics) < 2:
        only = ", ".join(found.metrics).lower()
        return None, f"No overall order: metrics of one question only judge without reserve here ({only})."
    return found, ""
