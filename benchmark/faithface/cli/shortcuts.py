"""``faithface shortcuts``: how much of a network's decisions lies outside the face, and in what.

Place in the flow: calls ``answers``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from faithface.cli.explain import DEVICE_HELP
from faithface.errors import UsageError


def shortcuts(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model's name or card (.toml).")],
    dataset: Annotated[
        str, typer.Option("--dataset", metavar="NAME", help="Aligned faces, or a set with things that can be changed.")
    ],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write a page too: .html.")] = None,
    limit: Annotated[int, typer.Option(min=2, help="Samples, evenly over the classes.")] = 100,
    fills: Annotated[int, typer.Option(min=1, max=64, help="Other people's pictures that replace a place.")] = 4,
    compare: Annotated[int, typer.Option(min=0, help="Networks of each of the zoo's families; 0: none.")] = 1,
    crop: Annotated[
        str | None, typer.Option(help="The template that the crops follow: arcface or dlib; default: by size.")
    ] = None,
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = "cpu",
    seed: Annotated[int, typer.Option(help="All random numbers depend on it.")] = 0,
) -> int:
    """Say how much of a network's decisions lies in glasses, border, corners or background."""
    if out is not None and out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{out} is no HTML page; expected a name that ends in .html")
    from faithface.answers.shortcuts import find_shortcuts
    from faithface.answers.shortcuts_page import write_shortcuts

    found = find_shortcuts(
        model, dataset, limit=limit, fills=fills, compare=compare, crop=crop, seed=seed, device=device
    )
    if out is not None:
        write_shortcuts(found, out)
    typer.echo(found.text())
    return 0


def add_to(app: typer.Typer) -> None:
    app.command()(shortcuts)
