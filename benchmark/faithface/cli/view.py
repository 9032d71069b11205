"""``faithface view``: the pages of a run or board, written and opened.

Place in the flow: calls ``view``.
"""

from __future__ import annotations

import sys
import time
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from faithface.plugins import Registry

INTERVAL = 2.0  # seconds between two looks of --watch
REFRESH = 5
AUDIT_HELP = "The record of an audit (audit.json) that goes before the one of the boards beside it, in audit/."


def view(
    target: Annotated[Path, typer.Argument(metavar="RUN|BOARD", help="A run directory, finished or not; or a board.")],
    open_it: Annotated[bool, typer.Option("--open/--no-open", help="Open the first page in the browser.")] = True,
    watch: Annotated[bool, typer.Option("--watch", help="Write the pages again as cells finish.")] = False,
    samples: Annotated[int, typer.Option(min=0, help="Samples with pictures, per model and dataset.")] = 12,
    audit: Annotated[Path | None, typer.Option(metavar="FILE", help=AUDIT_HELP)] = None,
) -> None:
    """Write the pages of a run (also while it is running) or of a board, and open them.

    Faces of a run are shown whatever their licence: the pages stay in the run's folder `view/`.
    """
    from faithface.view import finished_cells, write_pages

    found: list[Registry] = []

    def registry() -> Registry:
        from faithface.plugins import load_registry

        if not found:
            found.append(load_registry())
        return found[0]

    pages = write_pages(target, samples, registry, audit, REFRESH if watch else 0)
    for line in pages.notes:
        print(f"faithface: {line}", file=sys.stderr)
    typer.echo(str(pages.first))
    if open_it:
        webbrowser.open(pages.first.resolve().as_uri())
    while watch and pages.going:
        time.sleep(INTERVAL)
        finished, going = finished_cells(target)
        if finished != pages.finished or going != pages.going:
            pages = write_pages(target, samples, registry, audit, REFRESH)


def add_to(app: typer.Typer) -> None:
    app.command()(view)
