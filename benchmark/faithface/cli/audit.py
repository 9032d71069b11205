"""``faithface audit``: examine metrics, and write the record and its page.

Place in the flow: calls ``audit``; opens models only when it runs.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from faithface.errors import UsageError

if TYPE_CHECKING:
    from faithface.audit.audit import Place
    from faithface.audit.record import AuditRecord


def audit(
    suite: Annotated[
        str | None,
        typer.Argument(metavar="[SUITE]", help="Examine the metrics of this suite; default: all registered."),
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option("--metric", metavar="ID", help="Examine these instead; repeatable.")
    ] = None,
    world: Annotated[
        list[str] | None,
        typer.Option(
            "--world",
            metavar="MODEL/DATASET/EXPLAINER",
            help="Examine there, on this explainer's maps; repeatable. Default: two mechanism-exact networks and one "
            "of the zoo, on planted faces.",
        ),
    ] = None,
    explainer: Annotated[
        list[str] | None,
        typer.Option("--explainer", metavar="NAME", help="Rank these beside the subject's maps; repeatable."),
    ] = None,
    samples: Annotated[int, typer.Option("--samples", "-n", help="Samples per world.")] = 100,
    seed: Annotated[int, typer.Option(help="Seed of all that is drawn.")] = 0,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the record and the page.")] = Path("audit"),
    join: Annotated[
        list[Path] | None, typer.Option("--join", metavar="FOLDER", help="Join the records of audits; repeatable.")
    ] = None,
    page_only: Annotated[
        bool, typer.Option("--page", help="Make the page again from the record in the folder.")
    ] = False,
) -> None:
    """Give metrics their own exam: do they order maps whose quality is known, and notice planted faults?"""
    from faithface.audit import page
    from faithface.audit.join import joined
    from faithface.audit.record import RECORD, read, write

    if page_only:
        record = read(out / RECORD)
    elif join:
        record = joined([read(folder / RECORD) for folder in join])
        write(record, out / RECORD)
    else:
        record = _examined(suite, metric or [], world or [], explainer or [], samples, seed)
        write(record, out / RECORD)
    page.write(record, out)
    counted = {one: sum(m.verdict == one for m in record.metrics) for one in page.ORDER}
    typer.echo(", ".join(f"{count} {verdict}" for verdict, count in counted.items() if count))
    typer.echo(str(out / page.PAGE))


def _examined(
    suite: str | None, asked: list[str], worlds: list[str], explainers: list[str], samples: int, seed: int
) -> AuditRecord:
    from faithface.audit.audit import PLACES, ranked_form
    from faithface.audit.audit import audit as audit_metrics
    from faithface.plugins import load_registry
    from faithface.run.suite import load_suite

    registry = load_registry()
    title = suite or ("the metrics that were named" if asked else "all registered metrics, in the form that is ranked")
    texts = asked
    if suite is not None and not asked:
        texts = list(load_suite(registry.suite(suite).object).metrics)
    elif not asked:
        texts = [ranked_form(row.object) for row in registry.metrics.values()]
    found = {(one := registry.metric(text)).spec: one.object for text in texts}
    places = [_place(text) for text in worlds] or list(PLACES)
    if explainers:
        places = [dataclasses.replace(place, methods=tuple(explainers)) for place in places]
    return audit_metrics(registry, found, places, samples, seed, title, lambda line: typer.echo(line, err=True))


def _place(text: str) -> Place:
    """Read MODEL/DATASET/EXPLAINER; the other explainers are those of the model's builtin world, or of the first."""
    from faithface.audit.audit import PLACES, Place

    # A dataset may be opened on a path, which holds slashes of its own.
    model, _, rest = text.partition("/")
    dataset, _, explainer = rest.rpartition("/")
    parts = (model, dataset, explainer)
    if not all(parts):
        raise UsageError(f'--world is "{text}"; expected MODEL/DATASET/EXPLAINER, such as {PLACES[1].text}')
    known = next((place for place in PLACES if place.model == parts[0]), PLACES[0])
    return Place(parts[0], parts[1], parts[2], known.methods)


def add_to(app: typer.Typer) -> None:
    app.command()(audit)
