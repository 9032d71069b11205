"""``faithface new-plugin`` and ``faithface check``, and the subcommands that plugins bring.

Place in the flow: turns options into calls of ``testing``, prints what comes back.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from faithface.errors import UsageError


def new_plugin(
    name: Annotated[str, typer.Argument(help="Name of the distribution, such as cell-drop.")],
    kind: Annotated[str, typer.Option(help="explainer, model, dataset, metric, fill or suite.")] = "explainer",
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the new folder goes.")] = Path("."),
    update: Annotated[
        bool, typer.Option("--update", help="Bring later changes of the template into the folder that is there.")
    ] = False,
) -> None:
    """Write a plugin that works: package, example, test, README and CI file."""
    from faithface.testing.template import new_plugin as write
    from faithface.testing.template import update_plugin

    if update:
        changed = update_plugin(out / name)
        typer.echo("\n".join(["changed:", *(f"  {path}" for path in changed)]) if changed else "nothing changed")
        return
    folder = write(name, kind, out)
    example = folder / name.replace("-", "_")
    typer.echo(f"{folder}: a plugin with one {kind}, in {example}")
    typer.echo("next:")
    typer.echo(f"  python -m pip install -e {folder}")
    typer.echo(f"  faithface check {name}")


def check(
    distribution: Annotated[str, typer.Argument(help="The distribution that brings the plugin.")],
    board: Annotated[
        list[Path] | None, typer.Option("--board", help="A folder with published records or audits; repeatable.")
    ] = None,
    path: Annotated[
        list[str] | None, typer.Option("--path", metavar="DATASET=PATH", help="Where a dataset lies; repeatable.")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", metavar="MODEL=DATASET", help="On what a model should work; repeatable."),
    ] = None,
    max_examples: Annotated[
        int, typer.Option("--max-examples", min=0, help="Inputs that are made up for each explainer and metric.")
    ] = 10,
    tiers: Annotated[
        Path | None,
        typer.Option(
            "--tiers", metavar="FOLDER", help="Write the tiers to FOLDER/tiers/, beside the boards in FOLDER."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Hold a plugin against the contract, and say which tier it has reached and what the next one needs.

    With --tiers, the boards of a folder show the tier of each explainer, once they are built again. The exit code is 1
    where a check of severity error failed, else 0.
    """
    from faithface.plugins import load_registry
    from faithface.testing.ladder import PAGE, Tier, examine, publish

    standing = examine(
        distribution,
        load_registry(),
        boards=(*(board or ()), *([tiers] if tiers is not None else [])),
        paths=pairs("--path", path),
        data=pairs("--data", data),
        max_examples=max_examples,
        tell=(lambda _report: None) if as_json else (lambda report: typer.echo(str(report))),
    )
    written = None if tiers is None else publish(standing, tiers)
    if as_json:
        from faithface.cli.listing import print_json

        print_json(
            {**dataclasses.asdict(standing), "objects": [one.model_dump(mode="json") for one in standing.objects]}
        )
    else:
        typer.echo(f"\n{distribution}: {standing.tier}")
        if standing.next is not None:
            typer.echo(f"for {standing.next}:")
            for one in standing.needed:
                typer.echo(f"  {one}")
            typer.echo(f"rules: {PAGE.format(standing.next)} of the documentation")
        if written is not None:
            typer.echo(str(written))
    return 1 if standing.tier in (Tier.FAILS, Tier.RUNS) else 0


def pairs(option: str, given: list[str] | None) -> dict[str, str]:
    """Return ``NAME=VALUE`` texts as a mapping.

    Raises:
        UsageError: a text without an equals sign.
    """
    found = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals or not name or not value:
            raise UsageError(f"{option} is '{text}'; expected NAME=VALUE")
        found[name] = value
    return found


def add_commands(app: typer.Typer, typed: list[str]) -> None:
    """Let plugins add their subcommands, where the first word typed is none of the builtin ones.

    ``faithface --help`` lists the builtin commands and loads no plugin.
    """
    rest = list(typed)
    files = []
    while rest[:1] == ["--plugin"] and len(rest) > 1:
        files.append(Path(rest[1]))
        rest = rest[2:]
    word = rest[0] if rest else ""
    if not word or word.startswith("-"):
        return
    builtin = {_name(c) for c in app.registered_commands} | {str(g.name) for g in app.registered_groups}
    if word in builtin:
        return
    from faithface.plugin_files import add_plugin_files
    from faithface.plugins import load_registry, notify

    add_plugin_files(files)
    own = typer.Typer()
    for line in notify(load_registry().listeners, "faithface_commands", own):
        print(f"faithface: warning: {line}", file=sys.stderr)
    app.registered_commands += [c for c in own.registered_commands if _name(c) not in builtin]


def _name(command: Any) -> str:
    return str(command.name or command.callback.__name__.replace("_", "-"))


def add_to(app: typer.Typer) -> None:
    app.command("new-plugin")(new_plugin)
    app.command("check")(check)
