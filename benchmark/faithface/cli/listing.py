"""``faithface plugins``, and ``faithface explainers|models|datasets|metrics|fills|suites [NAME]``: what is registered.

Place in the flow: reads the registry and prints; opens no model. Of a dataset that is described one sample is read.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from faithface.errors import UsageError

ALL_TASKS = ["pad", "synthetic-detection", "verification"]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str | None, typer.Argument(help="Describe this one; leave it out to list all.")]
StrictPlugins = Annotated[bool, typer.Option("--strict-plugins", help="A plugin that fails to load is an error.")]


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False))


def print_table(rows: list[dict[str, Any]], empty: str) -> None:
    """Print rows of one shape as a plain table that is as wide as it must be where it is piped."""
    if not rows:
        typer.echo(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in rows[0]:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(cell(value) for value in row.values()))
    console = Console(markup=False, highlight=False)
    console.print(table) if console.is_terminal else Console(markup=False, highlight=False, width=400).print(table)


def cell(value: Any) -> str:
    """Return a value as a table shows it; all three tasks are simply ``all``."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value == ALL_TASKS:
        return "all"
    if isinstance(value, list | tuple | frozenset | set):
        return ", ".join(str(v) for v in value)
    return "" if value is None else str(value)


def print_facts(facts: dict[str, Any], words: str = "") -> None:
    """Print one thing: its name, its description, and its facts one a line."""
    if words:
        typer.echo(words + "\n")
    shown = {k: v for k, v in facts.items() if v not in (None, "", [], {})}
    width = max(len(k) for k in shown)
    for key, value in shown.items():
        if isinstance(value, dict):
            value = ", ".join(f"{k}={v}" for k, v in value.items())
        for line in value if key == "notes" else [value]:
            typer.echo(f"{key.replace('_', ' '):<{width}}  {cell(line)}")


def plugins(as_json: Json = False, strict_plugins: StrictPlugins = False) -> int:
    """List the distributions that provide something, what they registered, and what failed."""
    from faithface.plugins import load_registry, without_entry
    from faithface.testing.ladder import known_tier

    registry = load_registry(strict=strict_plugins)
    listed = [*registry.rows, *without_entry()]
    tiers = [known_tier(registry, row.distribution, row.status) for row in listed]
    if as_json:
        print_json([{**dataclasses.asdict(row), "tier": tier} for row, tier in zip(listed, tiers, strict=True)])
        return 0
    rows = []
    for row, tier in zip(listed, tiers, strict=True):
        given = "; ".join(
            f"{len(names)} {kind}" if len(names) > 1 else f"{kind[:-1]} {names[0]}"
            for kind, names in row.registered.items()
        )
        rows.append(
            {
                "distribution": row.distribution,
                "version": row.version,
                "entry_point": row.entry_point,
                "status": row.status,
                "tier": tier,
                "registered": given,
                "error": row.error,
            }
        )
    print_table(rows, "no plugins")
    return 0


def provider(found: Any) -> dict[str, str]:
    return {"provider": f"{found.provenance.distribution} {found.provenance.version}".strip()}


def words_of(thing: Any) -> str:
    """Return a docstring of the thing's own class; a base class's says nothing of it."""
    own = type(thing).__dict__.get("__doc__") or ""
    # dataclasses write the signature where there is no docstring
    return "" if own.startswith(f"{type(thing).__name__}(") else inspect.cleandoc(own)


def summary(thing: Any) -> str:
    return (words_of(thing).splitlines() or [""])[0].rstrip(".")


def tasks_of(thing: Any) -> list[str]:
    return sorted(thing.info.tasks)


def defaults(thing: Any) -> dict[str, str]:
    from faithface.specs import format_value, parameters

    return {name: format_value(value) for name, value in parameters(thing).items()}


def show(kind: str, name: str | None, as_json: bool, row: Any, full: Any, words: Any = words_of) -> None:
    """List a kind, or describe one of it by what the registry resolves the name to."""
    from faithface.plugins import load_registry

    registry = load_registry()
    if name is not None:
        found = getattr(registry, kind[:-1])(name)
        facts = {**full(found.object), **provider(found)}
        if as_json:
            print_json({**facts, "description": words(found.object)})
        else:
            print_facts(facts, words(found.object))
        return
    table = getattr(registry, kind)
    rows = [{**row(table[key].object), **provider(table[key])} for key in sorted(table)]
    if as_json:
        print_json(rows)
    else:
        print_table(rows, f"no {kind} registered")


def explainer_row(thing: Any) -> dict[str, Any]:
    return {
        "name": thing.name,
        "version": thing.info.version,
        "tasks": tasks_of(thing),
        "needs": sorted(thing.info.needs),
        "seeded": thing.info.seeded,
        "summary": summary(thing),
    }


def explainers(name: Name = None, as_json: Json = False) -> None:
    """List the explainers, or describe one."""

    def full(thing: Any) -> dict[str, Any]:
        facts = explainer_row(thing)
        facts.pop("summary")
        return {**facts, "parameters": defaults(thing), "source": thing.info.source}

    show("explainers", name, as_json, explainer_row, full)


def models(
    name: Name = None,
    as_json: Json = False,
    presets: Annotated[
        bool, typer.Option("--presets", help="List card presets of public networks; with a name, print its card.")
    ] = False,
) -> None:
    """List the models, or describe one."""
    if presets:
        show_presets(name, as_json)
        return

    def row(card: Any) -> dict[str, Any]:
        height, width = card.input.size
        return {
            "name": card.name,
            "task": card.task,
            "family": card.family or card.name,
            "run": card.run,
            "input": f"{height}×{width} {card.input.color}",
            "output": card.output.kind,
            "licence": card.licence,
        }

    show("models", name, as_json, row, lambda card: {**row(card), **card.model_dump(mode="json")}, lambda _card: "")


def show_presets(name: str | None, as_json: bool) -> None:
    """List the presets of public networks, or print one as a card to save beside the file."""
    from faithface.errors import nearest
    from faithface.model.presets import preset_text, presets

    known = presets()
    if name is not None and name not in known:
        raise UsageError(f'no preset "{name}"; {nearest(name, known)} (`faithface models --presets` lists them)')
    chosen = list(known.values()) if name is None else [known[name]]
    if as_json:
        print_json([{"name": p.name, "note": p.note, "card": p.card.model_dump(mode="json")} for p in chosen])
    elif name is not None:
        typer.echo(preset_text(known[name]), nl=False)
    else:
        print_table(
            [{"name": p.name, "file": p.file, "task": p.card.task, "note": p.note} for p in chosen], "no presets"
        )


def datasets(name: Name = None, as_json: Json = False) -> None:
    """List the datasets, or describe one (folder:PATH and pairs:CSV@ROOT too)."""

    def row(data: Any) -> dict[str, Any]:
        return {
            "name": data.name,
            "task": data.task,
            "classes": list(data.classes),
            "aligned": data.aligned,
            "ground_truth": sorted(data.truths()),
            "licence": data.licence,
            "summary": summary(data),
        }

    def full(data: Any) -> dict[str, Any]:
        facts = row(data)
        facts.pop("summary")
        facts |= {
            "revision": data.revision,
            "positive": data.positive,
            "parameters": defaults(data),
            "source": data.source,
        }
        return {**facts, **sizes(data, given)}

    given = name is not None and ":" in name
    show("datasets", name, as_json, row, full)


def sizes(data: Any, given: bool = True) -> dict[str, Any]:
    """Return how many samples there are, of which kinds, and what is worth knowing of them.

    Args:
        data: the dataset.
        given: it was opened on a path; else nothing is returned for a dataset that needs one.

    Raises:
        UsageError: what a run would refuse: no samples, or none that can be read.
    """
    from faithface.contract import Dataset, Pair

    if not given and type(data).with_argument is not Dataset.with_argument:
        return {}
    items = data.items()
    if not len(items):
        raise UsageError(f'dataset "{data.name}" is empty; expected at least one sample')
    notes = [*data.notes(), *data.absent()]
    if given:
        refuse_unreadable(data.name, items)
    kinds: dict[str, int] = {}
    for item in items:
        kind = ("genuine" if item.same else "impostor") if isinstance(item, Pair) else str(item.label)
        kinds[kind] = kinds.get(kind, 0) + 1
    return {"samples": len(items), "kinds": kinds, "notes": notes}


def refuse_unreadable(name: str, items: Any) -> None:
    """Raise UsageError if no sample can be read. The first that can ends the search."""
    problem = ""
    for item in items:
        try:
            for face in item.faces:
                face.read()
            return
        except UsageError as error:
            problem = problem or str(error)
    raise UsageError(f'no sample of dataset "{name}" can be read: {problem}')


def metrics(name: Name = None, as_json: Json = False) -> None:
    """List the metrics with their directions, or print one's protocol."""

    def row(metric: Any) -> dict[str, Any]:
        from faithface.metrics.describe import ARROWS

        return {
            "id": metric.id,
            "better": f"{metric.protocol.better} {ARROWS[metric.protocol.better]}",
            "family": metric.protocol.family,
            "tasks": sorted(metric.protocol.tasks),
            "judged_on": metric.judged_on,
            "needs": sorted(metric.protocol.needs) or ["maps only"],
            "passes": metric.cost,
            "summary": summary(metric),
        }

    if name is not None and not as_json:
        from faithface.metrics.describe import describe
        from faithface.plugins import load_registry

        found = load_registry().metric(name)
        typer.echo(describe(found.object))
        typer.echo(f"\nprovider  {provider(found)['provider']}")
        return

    def full(metric: Any) -> dict[str, Any]:
        return {
            **row(metric),
            "better": metric.protocol.better,
            # JSON has no infinity; null says that there is no bound.
            "range": [v if abs(v) != float("inf") else None for v in metric.range_on()],
            "best": metric.best_on() if abs(metric.best_on()) != float("inf") else None,
            "truth": list(metric.ground_truth),
            "values": list(metric.protocol.value_names),
            "parameters": defaults(metric),
            "source": metric.protocol.source,
        }

    show("metrics", name, as_json, row, full)


def fills(name: Name = None, as_json: Json = False) -> None:
    """List the fills that plugins bring, or describe one; faithface's own are on the page of each metric."""

    def row(fill: Any) -> dict[str, Any]:
        told = fill.filling
        return {
            "name": fill.name,
            "version": told.version,
            "tasks": sorted(told.tasks),
            "sees_mask": told.sees_mask,
            "aligned": told.aligned,
            "seeded": told.seeded,
            "summary": summary(fill),
        }

    def full(fill: Any) -> dict[str, Any]:
        facts = row(fill)
        facts.pop("summary")
        return {**facts, "parameters": defaults(fill), "source": fill.filling.source}

    show("fills", name, as_json, row, full)


def suites(name: Name = None, as_json: Json = False) -> None:
    """List the suites, or describe one."""
    from faithface.run.suite import load_suite

    def row(path: Path) -> dict[str, Any]:
        suite = load_suite(path)
        return {
            "name": suite.name,
            "version": suite.version,
            "models": len(suite.models),
            "datasets": len(suite.datasets),
            "explainers": len(suite.explainers),
            "metrics": len(suite.metrics),
            "description": suite.description,
        }

    def full(path: Path) -> dict[str, Any]:
        said = load_suite(path).model_dump(mode="json")
        if not as_json:
            said["published"] = [
                f"{e['explainer']} {e['protocol']} {e['value']:g} ({e['source']})" for e in said["published"]
            ]
        return said

    show("suites", name, as_json, row, full, lambda _p: "")


def add_to(app: typer.Typer) -> None:
    for command in (plugins, explainers, models, datasets, metrics, fills, suites):
        app.command()(command)
