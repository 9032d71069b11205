"""``faithface report``: one page for the owner of a network.

Place in the flow: calls ``answers``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from faithface.cli.explain import DEVICE_HELP
from faithface.errors import UsageError


def report(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model's name or card (.toml).")],
    dataset: Annotated[str, typer.Option("--dataset", metavar="NAME", help="Labelled images, or pairs.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The page: .html.")],
    explainer: Annotated[
        list[str] | None,
        typer.Option("--explainer", metavar="NAME", help="Compare it with exact region values; repeatable."),
    ] = None,
    measured_by: Annotated[str, typer.Option(metavar="NAME", help="Whose maps the measures describe.")] = "grad-cam",
    samples: Annotated[int, typer.Option(min=2, help="Samples for the measures of Explain To Me.")] = 16,
    judged: Annotated[int, typer.Option(min=0, help="Samples on which explainers are compared; 0: none.")] = 8,
    fills: Annotated[int, typer.Option(min=1, max=256, help="Pictures that replace a region.")] = 8,
    compare: Annotated[int, typer.Option(min=0, help="Networks of each of the zoo's families; 0: none.")] = 1,
    crop: Annotated[
        str | None, typer.Option(help="The template that the crops follow: arcface or dlib; default: by size.")
    ] = None,
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = "cpu",
    seed: Annotated[int, typer.Option(help="All random numbers depend on it.")] = 0,
) -> int:
    """Report on a network: is it what its card says, where does it fail, and which explainers to trust on it."""
    if out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{out} is no HTML page; expected a name that ends in .html")
    from faithface.answers.report import make_report
    from faithface.answers.report_page import write_report

    made = make_report(
        model,
        dataset,
        explainers=explainer or (),
        measured_by=measured_by,
        samples=samples,
        judged=judged,
        fills=fills,
        compare=compare,
        crop=crop,
        seed=seed,
        device=device,
    )
    write_report(made, out)
    typer.echo(f"{out}: {made.sentence()}.")
    for line in made.problems:
        typer.echo(f"  {line}")
    return 0


def add_to(app: typer.Typer) -> None:
    app.command()(report)
