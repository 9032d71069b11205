"""``faithface compare``: two explainers, paired by sample.

Place in the flow: reads records of a run or a board and hands two columns of values to ``boards.compare``.
"""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Annotated, Any

import typer

Texts = list[str]


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="An explainer as the table names it.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another explainer.")],
    run: Annotated[Path, typer.Option("--in", metavar="RUN|BOARD", help="Where their records lie.")],
    other: Annotated[
        Path | None, typer.Option("--against", metavar="RUN|BOARD", help="Where B's records lie, if not in --in.")
    ] = None,
    metric: Annotated[
        Texts | None,
        typer.Option("--metric", metavar="ID", help="A protocol; repeatable; default: all."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say which of two explainers is better, by how much, and how sure that is.

    Values are paired by sample. Two runs of one explainer, or two versions of a plugin, are compared with --against.
    """
    from faithface.boards.pairs import compare_records

    found = compare_records(a, b, run, other or run, tuple(metric or ()))
    if as_json:
        typer.echo(json.dumps([as_dict(one) for one in found], indent=1, ensure_ascii=False))
        return
    for one in found:
        typer.echo(one.text())


def as_dict(one: Any) -> dict[str, Any]:
    """Return a comparison as JSON values: NaN becomes null."""

    def plain(value: Any) -> Any:
        if isinstance(value, float):
            return None if math.isnan(value) else value
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [plain(inner) for inner in value]
        return getattr(value, "value", value)

    return {key: plain(value) for key, value in dataclasses.asdict(one).items()}


def add_to(app: typer.Typer) -> None:
    app.command()(compare)
