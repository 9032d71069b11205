"""All pages of a board, as text by path. A pure function of the board and its gallery.

Place in the flow: ``write`` puts on disk what :func:`site_files` yields. Calls the modules beside it, ``board`` and
``render``; imports Jinja2. Texts are escaped by the templates; the only markup that passes unescaped is made in
``charts``, ``marks`` and :func:`breakable`.

    index.html                                     the board: filters, tables, who is told apart
    tables/<model>--<dataset>.html                 one table with its figures
    explainers/<explainer>.html                    one explainer on everything
    cells/<model>/<dataset>/<explainer>.html       one cell: all numbers, its samples, how to cite it
    samples/<model>/<dataset>/<sample>.html        one sample: faces, maps, curves, values
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from faithface.boards.across import MEANING, across_tables
from faithface.boards.board import Board, Column, Row, Table
from faithface.boards.claims import claim
from faithface.boards.controls import controls_text
from faithface.boards.legend import tier_text, verdict_text
from faithface.boards.record import Number, Record
from faithface.boards.render import JUDGED, figure, heading, place, shown_columns
from faithface.boards.site import cite, links
from faithface.boards.site.block import (
    ACCESS,
    FAMILIES,
    OTHER,
    Block,
    Family,
    access_of,
    family_of,
    gate_text,
    make_block,
    seconds_text,
)
from faithface.boards.site.charts import charts_of
from faithface.boards.site.extras import CellExtras, Extras, Gallery, Shown, face_file, picture_file
from faithface.boards.site.figures import MANIFEST, Drawn, Figures
from faithface.boards.site.marks import Lines, curve_lines
from faithface.boards.verdicts import SIGNS
from faithface.reasons import ReasonCode, Status

HERE = Path(__file__).parent
ASSETS = ("site.css", "site.js", "simple-datatables.js", "simple-datatables-licence.txt", "gpl-3.0.txt", "VENDORED.md")
FIRST_PAGE = 450_000  # characters of tables on the first page; what is beyond is linked
LISTED = 48  # samples on a cell's page
PROTOCOLS = 8  # headline values of each sample there
COSTS = (0.01, 0.1, 1.0, 10.0)


@dataclass(frozen=True)
class Progress:
    """How far a run is whose pages are made: what is missing, and whether somebody is working on it.

    Attributes:
        refresh: seconds after which a page loads itself anew; 0: never.
    """

    done: int
    cells: int
    running: bool
    pending: tuple[str, ...] = ()
    refresh: int = 0


@dataclass(frozen=True)
class _Site:
    """What every page needs."""

    board: Board
    tables: tuple[Table, ...]
    extras: Extras
    progress: Progress | None
    downloads: bool
    pages: Mapping[int, str]
    environment: Environment = field(repr=False)

    def render(self, template: str, page: str, **values: Any) -> bytes:
        depth = page.count("/")
        text = self.environment.get_template(template).render(
            board=self.board,
            root="../" * depth,
            home=links.link(page, links.INDEX),
            progress=self.progress,
            downloads=self.downloads,
            **values,
        )
        return text.encode("utf-8", "replace")


def site_files(
    board: Board,
    extras: Extras | None = None,
    progress: Progress | None = None,
    downloads: bool = True,
    figures: Figures | None = None,
) -> Iterator[tuple[str, bytes]]:
    """Yield the files of a board's site: path relative to the site, and content.

    Args:
        extras: curves and pictures; None: there are none.
        progress: of a run that is not finished.
        downloads: whether records and tables lie beside the site and are linked.
        figures: those of the site that lies there already, for reuse; None: all are drawn.
    """
    tables = links.shown_tables(board)
    pages = {id(table): page for table, page in tables}
    shown = tuple(table for table, _page in tables)
    site = _Site(board, shown, extras or Extras(), progress, downloads, pages, _environment())
    for name in ASSETS:
        yield f"assets/{name}", (HERE / "assets" / name).read_bytes()
    figures = figures or Figures()
    charts = {
        id(table): [figures.drawn(c, page) for c in charts_of(table, site.extras, links.table_anchor(table))]
        for table, page in tables
    }
    yield MANIFEST, figures.manifest()
    yield links.INDEX, _index(site, charts)
    for table in shown:
        yield _table(site, table, charts[id(table)])
    yield from _explainers(site)
    for row, table in rows_of(shown).values():
        yield _cell(site, row, table)
    yield from _samples(site)


def rows_of(tables: Sequence[Table]) -> dict[str, tuple[Row, Table]]:
    """Return the rows of all cells by page."""
    return {links.cell_page(row.record): (row, table) for table in tables for row in table.rows}


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(figure=figure, breakable=breakable, flat=flat, markup=Markup, tally=tally)
    environment.globals.update(ACCESS=ACCESS)
    environment.filters.update(verdict_text=verdict_text, gate=gate_text)
    environment.globals.update(SIGNS=SIGNS)
    return environment


@functools.lru_cache(maxsize=10_000)
def breakable(text: str) -> Markup:
    """Return a name, escaped, that a browser may break after its signs and before its parameters and long values (none
    of these signs stands in an escape).

    Examples:
        >>> breakable("a-b@1(c<d,e=2,f=negative)")
        Markup('a-<wbr>b@1<wbr>(c&lt;d,<wbr>e=2,<wbr>f=<wbr>negative)')
    """
    return Markup(re.sub(r"(?<=[-,:/_])(?=.)|(?<=.)(?=\()|(?<==)(?=[^,)]{5})", "<wbr>", str(escape(flat(text)))))


def flat(text: str) -> str:
    """Return a text in one line, without letters that a page cannot hold."""
    return " ".join(str(text).split()).encode("utf-8", "replace").decode()


def tally(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


# --- the board


@dataclass(frozen=True)
class _Folded:
    """A table that the first page only links to, and what may be said of its first protocol."""

    page: str
    heading: str
    task: str
    methods: int
    protocol: str
    said: str


def _index(site: _Site, charts: Mapping[int, Sequence[Drawn]]) -> bytes:
    board, page = site.board, links.INDEX
    blocks: list[tuple[Block, list[Drawn]]] = []
    folded: list[tuple[_Folded, Table]] = []
    spent = 0
    for table in site.tables:
        drawn = sum(len(chart.svg) for chart in charts[id(table)])
        weight = _weight(table, len(table.columns))
        if blocks and spent + weight + drawn > FIRST_PAGE:
            folded.append((_fold(site, table), table))
            continue
        block = _block(site, table, page)
        if weight + drawn > FIRST_PAGE:
            # A first table that is large by itself is shown in part; its own page has all of it.
            block, drawn = _in_part(block, table), FIRST_PAGE
        spent += weight + drawn
        blocks.append((block, list(charts[id(table)]) if not block.more else []))
    rows = [row for table in site.tables for row in table.rows]
    explainers = {links.explainer_page(row.record): row.record.explainer for row in rows}
    return site.render(
        "index.html.j2",
        page,
        title=f"{board.suite} v{board.version}",
        blocks=blocks,
        folded=[block for block, _table in folded],
        filters=_filters(site, page, [block for block, _charts in blocks], [table for _block, table in folded]),
        explainers=[
            (one.spec, links.link(page, path), one.control) for path, one in sorted(explainers.items(), key=_by_control)
        ],
        across=across_tables(board.tables),
        meaning=MEANING,
        models=len({(r.model.name, r.model.sha256) for r in board.records}),
        datasets=len({r.dataset.spec for r in board.records}),
        trust=sorted({r.trust for r in board.records}),
        places=sorted({place(r) for r in board.records}),
        published=list(dict.fromkeys(e for r in board.records for e in r.suite.published)),
    )


def _by_control(entry: tuple[str, Any]) -> tuple[bool, str]:
    return entry[1].control, entry[1].spec


def _block(site: _Site, table: Table, page: str) -> Block:
    def link(record: Record) -> str:
        return links.link(page, links.cell_page(record))

    return make_block(table, page, site.pages[id(table)], link)


def _weight(table: Table, columns: int) -> int:
    """Return about how many characters a table has on a page."""
    return 4000 + (330 * columns + 400) * len(table.rows)


def _in_part(block: Block, table: Table) -> Block:
    """Return a block with as many of its sections as fit on the first page, at least one."""
    shown = 1
    while shown < len(block.sections):
        columns = sum(len(section.heads) for section in block.sections[: shown + 1])
        if _weight(table, columns) + 400 * shown * len(table.rows) > FIRST_PAGE:
            break
        shown += 1
    return replace(block, sections=block.sections[:shown], more=len(block.sections) - shown)


def _fold(site: _Site, table: Table) -> _Folded:
    columns = [c for c in shown_columns(table) if c.standing.judges] if table.kind == "explainers" else []
    protocol, said = (columns[0].protocol, claim(table, columns[0])) if columns else ("", "")
    page = links.link(links.INDEX, site.pages[id(table)])
    methods = sum(not row.control for row in table.rows)
    return _Folded(page, heading(table), table.first.model.task, methods, protocol, said)


@dataclass(frozen=True)
class _Filters:
    """The choices of the filter bar: (value, text) pairs; models also have an address where they are elsewhere."""

    tasks: list[str]
    models: list[tuple[str, str, str]]
    families: list[tuple[str, str]]
    access: list[tuple[str, str]]
    costs: list[tuple[str, str]]


def _filters(site: _Site, page: str, here: Sequence[Block], elsewhere: Sequence[Table]) -> _Filters:
    records = site.board.records
    models = [(b.anchor, b.heading, "") for b in here]
    models += [(links.table_anchor(t), heading(t), links.link(page, site.pages[id(t)])) for t in elsewhere]
    access = {access_of(r) for r in records if not r.explainer.control}
    seconds = [r.seconds_per_sample for r in records if r.seconds_per_sample and not r.explainer.control]
    costs = [c for c in COSTS if any(s <= c for s in seconds) and any(s > c for s in seconds)]
    return _Filters(
        sorted({*(block.task for block in here), *(table.first.model.task for table in elsewhere)}),
        models,
        [(one.key, one.title) for one in _in_order({section.family for block in here for section in block.sections})],
        [(key, ACCESS[key]) for key in ACCESS if key and key in access] if len(access) > 1 else [],
        [(f"{cost:g}", f"up to {seconds_text(cost)}") for cost in costs],
    )


def _in_order(families: set[Family]) -> list[Family]:
    known = [*FAMILIES, OTHER]
    return sorted(families, key=lambda one: (known.index(one) if one in known else len(known), one.key))


def _table(site: _Site, table: Table, charts: Sequence[Drawn]) -> tuple[str, bytes]:
    page = site.pages[id(table)]
    block = _block(site, table, page)
    others = [other for other in site.tables if other is not table]
    return page, site.render(
        "table.html.j2",
        page,
        title=f"{block.heading}, {site.board.suite} v{site.board.version}",
        block=block,
        charts=charts,
        filters=_filters(site, page, [block], others),
        csv=links.link(page, f"../tables/{page.removeprefix('tables/').removesuffix('.html')}.csv"),
    )


# --- explainers and cells


def _explainers(site: _Site) -> Iterator[tuple[str, bytes]]:
    by_page: dict[str, list[tuple[Row, Table]]] = {}
    for row, table in rows_of(site.tables).values():
        by_page.setdefault(links.explainer_page(row.record), []).append((row, table))
    for page, rows in by_page.items():
        families: dict[Family, str] = {}
        lines = []
        for row, table in rows:
            first: dict[str, tuple[Number, str, Column]] = {}
            for column in table.columns:
                number, family = row.number(column.protocol), family_of(column.sample)
                if number is not None and number.status is Status.OK and family.key not in first:
                    families.setdefault(family, "")
                    rank = row.rank(column.protocol)
                    first[family.key] = number, "" if rank is None else rank.replace("-", "–"), column
            lines.append((row.record, links.link(page, links.cell_page(row.record)), first))
        one = rows[0][0].record.explainer
        yield (
            page,
            site.render(
                "explainer.html.j2",
                page,
                title=f"{flat(one.spec)}, {site.board.suite} v{site.board.version}",
                explainer=one,
                access=ACCESS[access_of(rows[0][0].record)],
                tier=tier_text(rows[0][0]),
                families=_in_order(set(families)),
                lines=lines,
            ),
        )


@dataclass(frozen=True)
class _Value:
    """One number of a cell, for its page; ``column``: of its protocol."""

    number: Number
    column: Column
    rank: str
    tie: int
    needed: int | None
    judged: str


def _cell(site: _Site, row: Row, table: Table) -> tuple[str, bytes]:
    record, page = row.record, links.cell_page(row.record)
    gallery = site.extras.of(record)
    families: dict[Family, list[_Value]] = {}
    columns = {column.protocol: column for column in table.columns}
    for number in record.numbers:
        if number.status is Status.NOT_APPLICABLE:
            continue
        family = family_of(number)
        spot = row.places.get(number.protocol) if number.value_name == "" else None
        families.setdefault(family, []).append(
            _Value(
                number,
                columns[number.protocol],
                "" if spot is None else spot.text.replace("-", "–"),
                0 if spot is None else spot.tie_class or 0,
                None if spot is None else spot.needed,
                JUDGED.get(number.which, number.which),
            )
        )
    protocols, samples = _sample_lines(site, row, page, gallery)
    at = site.pages[id(table)]
    digest = site.extras.digest(record)
    return page, site.render(
        "cell.html.j2",
        page,
        title=f"{flat(record.explainer.spec)} on {flat(record.model.name)}, {site.board.suite} v{site.board.version}",
        record=record,
        families=[(family, families[family]) for family in _in_order(set(families))],
        absent=[
            n
            for n in record.numbers
            if n.status is Status.NOT_APPLICABLE and n.value_name == "" and n.code != "other-task"
        ],
        protocols=[(p, columns[p]) for p in protocols],
        samples=samples,
        total=len({sample for values in row.values.values() for sample in values}),
        table_link=links.link(page, at),
        explainer_link=links.link(page, links.explainer_page(record)),
        text=cite.sentence(site.board, row, digest),
        bibtex=cite.bibtex(site.board, row, digest),
        seconds=seconds_text(record.seconds_per_sample),
        access=ACCESS[access_of(record)],
        record_json=links.link(page, links.record_file(record, ".json")),
        record_values=links.link(page, links.record_file(record, ".parquet")) if record.values else "",
        where=place(record),
        bands=_bands(site.extras.cell(record)),
        control=controls_text([record.explainer.spec]),
    )


def _absent(record: Record) -> list[Number]:
    """Return the protocols that do not apply to a cell, without those that nobody expects of its task."""
    return [
        number
        for number in record.numbers
        if number.status is Status.NOT_APPLICABLE and not number.value_name and number.code is not ReasonCode.OTHER_TASK
    ]


def _sample_lines(
    site: _Site, row: Row, page: str, gallery: Gallery
) -> tuple[list[str], list[tuple[str, str, list[tuple[str, float | None, int, int]]]]]:
    """Return the protocols and, for each sample that a cell's page lists, its name, address and values with ranks."""
    protocols = [p for p in row.values if row.values[p]][:PROTOCOLS]
    ranked = {p: ranks(row.values[p], _higher(row, p)) for p in protocols}
    shown = {one.sample: links.link(page, links.sample_page(row.record, one.sample)) for one in gallery.samples}
    known = dict.fromkeys(sample for p in protocols for sample in row.values[p])
    first = [sample for sample in shown if sample in known]
    order = [*first, *(sample for sample in known if sample not in shown)][:LISTED]
    mark = links.anchor(row.record.stem.name)
    return protocols, [
        (
            sample,
            f"{shown[sample]}#{mark}" if sample in shown else "",
            [(p, row.values[p].get(sample), *ranked[p].get(sample, (0, 0))) for p in protocols],
        )
        for sample in order
    ]


def _higher(row: Row, protocol: str) -> bool:
    number = row.number(protocol)
    return number is None or number.better == "higher"


def ranks(values: Mapping[str, float], higher: bool) -> dict[str, tuple[int, int]]:
    """Return the rank of each sample among all, 1 = best by the protocol's direction, ties sharing the best one.

    Examples:
        >>> ranks({"a": 0.5, "b": 0.9, "c": 0.5}, higher=True)
        {'a': (2, 3), 'b': (1, 3), 'c': (2, 3)}
    """
    first: dict[float, int] = {}
    for position, value in enumerate(sorted(values.values(), reverse=higher), start=1):
        first.setdefault(value, position)
    return {sample: (first[value], len(values)) for sample, value in values.items()}


def _bands(extras: CellExtras) -> list[tuple[str, Lines, int]]:
    found = []
    for protocol in distinct({p: {n: b.mean for n, b in bands.items()} for p, bands in extras.bands.items()}):
        bands = extras.bands[protocol]
        lines = curve_lines({name: band.mean for name, band in bands.items()})
        if lines is not None:
            found.append((protocol, lines, max(band.n for band in bands.values())))
    return found


def distinct(curves: Mapping[str, Mapping[str, Sequence[float]]]) -> list[str]:
    """Return the protocols whose curves are not among those of another: a gap reads the curves of its two areas."""
    parts = {protocol: {(name, tuple(c)) for name, c in by_name.items()} for protocol, by_name in curves.items()}
    order = list(parts)

    def repeats(protocol: str) -> bool:
        mine = parts[protocol]
        return any(
            mine < parts[other] or (mine == parts[other] and order.index(other) < order.index(protocol))
            for other in order
            if other != protocol
        )

    return [protocol for protocol in order if parts[protocol] and not repeats(protocol)]


# --- samples


@dataclass(frozen=True)
class _Card:
    """One explainer on a sample's page: pictures as (kind, address), curves, values of columns with ranks."""

    title: str
    anchor: str
    control: bool
    href: str
    pictures: list[tuple[str, str]]
    curves: list[tuple[str, Lines]]
    values: list[tuple[Column, float, int, int]]


def _samples(site: _Site) -> Iterator[tuple[str, bytes]]:
    for table in site.tables:
        if table.kind != "explainers":
            continue
        gallery = site.extras.of(table.first)
        ranked = (
            {(row.title, p): ranks(values, _higher(row, p)) for row in table.rows for p, values in row.values.items()}
            if gallery.samples
            else {}
        )
        for i, shown in enumerate(gallery.samples):
            page = links.sample_page(table.first, shown.sample)
            around = [
                links.link(page, links.sample_page(table.first, gallery.samples[k].sample))
                if 0 <= k < len(gallery.samples)
                else ""
                for k in (i - 1, i + 1)
            ]
            yield (
                page,
                site.render(
                    "sample.html.j2",
                    page,
                    title=f"{flat(shown.sample)}, {site.board.suite} v{site.board.version}",
                    shown=shown,
                    record=table.first,
                    hidden=gallery.hidden,
                    faces=[
                        links.link(page, links.gallery_file(table.first, face_file(shown.sample, side)))
                        for side in range(shown.faces)
                    ],
                    cards=[_card(site, table, row, shown, page, ranked) for row in table.rows if row.values],
                    table_link=links.link(page, site.pages[id(table)]),
                    around=around,
                    marks=[(SIGNS[m], str(m)) for m in SIGNS if m and m in {c.standing.mark for c in table.columns}],
                    position=i + 1,
                    count=len(gallery.samples),
                ),
            )


def _card(
    site: _Site,
    table: Table,
    row: Row,
    shown: Shown,
    page: str,
    ranked: Mapping[tuple[str, str], Mapping[str, tuple[int, int]]],
) -> _Card:
    extras = site.extras.cell(row.record)
    columns = {column.protocol: column for column in table.columns}
    name = row.record.stem.name
    kinds = extras.pictures.get(shown.sample, ())
    curves = []
    mine = {
        protocol: {n: by_sample[shown.sample] for n, by_sample in by_name.items() if shown.sample in by_sample}
        for protocol, by_name in extras.curves.items()
    }
    for protocol in distinct(mine):
        lines = curve_lines(mine[protocol])
        if lines is not None:
            curves.append((protocol, lines))
    values = []
    for protocol, by_sample in row.values.items():
        if shown.sample in by_sample:
            values.append((columns[protocol], by_sample[shown.sample], *ranked[row.title, protocol][shown.sample]))
    return _Card(
        row.title,
        links.anchor(name),
        row.control,
        links.link(page, links.cell_page(row.record)),
        [
            (kind, links.link(page, links.gallery_file(row.record, picture_file(shown.sample, name, kind))))
            for kind in kinds
        ],
        curves,
        values,
    )
