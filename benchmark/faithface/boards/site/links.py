"""Which page of a site lies where, and how one page links to another.

Place in the flow: ``block`` and ``pages`` ask for names. Paths are relative to the site's folder, with ``/``; names
come from ``run.paths.safe``, so that no text of a record can lead out of it.
"""

from __future__ import annotations

import hashlib
import posixpath
from urllib.parse import quote

from faithface.boards.board import Board, Table
from faithface.boards.record import Record
from faithface.boards.render import setting_hash, unique_names
from faithface.boards.site.extras import place_of
from faithface.run.paths import safe

SITE = "site"
INDEX = "index.html"


def shown_tables(board: Board) -> list[tuple[Table, str]]:
    """Return the tables that have a page, with it, in their order; two tables of one name get different pages.

    Where there are tables of explainers, those of models have none: an explainer's own page says the same.
    """
    pages = [f"tables/{name}.html" for name in unique_names(board)]
    mixed = any(table.kind == "explainers" for table in board.tables)
    both = zip(board.tables, pages, strict=True)
    return [(table, page) for table, page in both if table.kind == "explainers" or not mixed]


def explainer_page(record: Record) -> str:
    return f"explainers/{safe(record.explainer.spec)}.html"


def cell_page(record: Record) -> str:
    return f"cells/{record.stem.as_posix()}.html"


def sample_page(record: Record, sample: str) -> str:
    model, dataset = place_of(record)
    return f"samples/{model}/{dataset}/{safe(sample)}.html"


def gallery_file(record: Record, name: str) -> str:
    """Return a picture's path from the site's folder: galleries lie beside it."""
    model, dataset = place_of(record)
    return f"../gallery/{model}/{dataset}/{name}"


def record_file(record: Record, suffix: str) -> str:
    return f"../records/{record.stem.parent.as_posix()}/{record.stem.name}{suffix}"


def link(page: str, target: str) -> str:
    """Return the address of a target on a page, percent-encoded.

    Examples:
        >>> link("cells/net/faces/rise.html", "explainers/rise(masks=20).html")
        '../../../explainers/rise%28masks%3D20%29.html'
    """
    relative = posixpath.relpath(target, posixpath.dirname(page) or ".")
    return quote(relative.encode("utf-8", "surrogatepass"), safe="/.-_~")


def anchor(*parts: str) -> str:
    """Return an id that any texts can have: letters and digits only, different for different texts.

    Examples:
        >>> anchor("gap@1(grid=14)")
        'x32aedc2d7d'
    """
    return "x" + hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:10]


def table_anchor(table: Table) -> str:
    record = table.first
    return anchor(table.kind, record.model.name, record.explainer.spec, record.dataset.spec, setting_hash(table))
