"""``faithface run`` and ``faithface export``.

Place in the flow: turns options into a :class:`~faithface.run.request.Request`, has ``api.execute`` carry it out,
prints tables or JSON.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from faithface.cli.explain import DEVICE_HELP, OUTSIDE_HELP
from faithface.errors import UsageError

if TYPE_CHECKING:
    from faithface.boards.record import Kept
    from faithface.plugins import Registry
    from faithface.run.executors import Executor
    from faithface.run.outcome import Outcome
    from faithface.run.request import Request

Texts = list[str]
PluginFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin", metavar="FILE", help="A Python file with hooks, used like an installed plugin; repeatable."
    ),
]
RETRY = "--retry-failed"


def run(
    context: typer.Context,
    suite: Annotated[
        str | None, typer.Argument(metavar="SUITE", help="A registered suite's name, or a suite file (.toml).")
    ] = None,
    model: Annotated[
        Texts | None, typer.Option("--model", metavar="NAME|CARD", help="A model's name or card (.toml); repeatable.")
    ] = None,
    dataset: Annotated[
        Texts | None,
        typer.Option("--dataset", metavar="NAME", help="A name, folder:PATH or pairs:CSV@ROOT; repeatable."),
    ] = None,
    explainer: Annotated[
        Texts | None,
        typer.Option("--explainer", metavar="NAME", help="A name with parameters, fggb(reading=signed); repeatable."),
    ] = None,
    metric: Annotated[
        Texts | None,
        typer.Option("--metric", metavar="ID", help="A protocol with parameters, deletion@1(grid=14); repeatable."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Samples per dataset, balanced over classes or kinds of pairs.")
    ] = None,
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = "cpu",
    batch_size: Annotated[int | None, typer.Option(min=1, help="Largest batch; default: measured.")] = None,
    seed: Annotated[int | None, typer.Option(help="All random numbers depend on it.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Run directory; default: runs/<suite>-<hash of the command>.")
    ] = None,
    keep_maps: Annotated[bool, typer.Option("--keep-maps", help="Keep every map, for export and figures.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="An unreadable image is an error, not skipped.")] = False,
    allow_outside: Annotated[bool, typer.Option("--allow-outside", help=OUTSIDE_HELP)] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Do again what failed in the run, and nothing else.")
    ] = False,
    strict_plugins: Annotated[
        bool, typer.Option("--strict-plugins", help="A plugin that fails to load is an error.")
    ] = False,
    plugin: PluginFiles = None,
    executor: Annotated[str, typer.Option(help="local, or ray for many machines.")] = "local",
    workers: Annotated[
        int | None,
        typer.Option(
            min=0, help="Worker processes; default: 1 (ray: one per processor or GPU); 0: none, for debugging."
        ),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            min=0.1, help="Seconds that an explainer or metric may take for 16 samples; default: an hour or more."
        ),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Memory that a worker may hold, such as 8GB; default: what is free."),
    ] = None,
    retries: Annotated[int, typer.Option(min=0, help="How often a step whose worker died is tried again.")] = 1,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome and all numbers as JSON.")] = False,
) -> int:
    """Explain and score: a suite, or models, datasets, explainers and metrics given by name.

    The same command in the same directory resumes an interrupted run, and does again what failed in it. A command
    with further explainers, metrics or samples and the same --out extends the run: only what is new is computed. With
    a suite, each of --model, --dataset, --explainer and --metric replaces the suite's own list, and the numbers then
    belong to no board but "adhoc".
    """
    if retry_failed and out is not None and suite is None and not (model or dataset or explainer or metric):
        return again(context, out)
    from faithface.api import execute
    from faithface.cli.progress import make_reporter
    from faithface.plugins import load_registry
    from faithface.run.plan import default_directory, make_plan

    if executor == "local" and workers != 0:
        from faithface.run.executors.child import prepare

        prepare()  # workers import what they need while the plan is made
    limits = Limits(timeout, memory_size(memory), retries)
    use_plugin_files(plugin)
    registry = load_registry(strict=strict_plugins)
    warn_of_failed_plugins(registry, quiet)
    lists = {"models": model, "datasets": dataset, "explainers": explainer, "metrics": metric}
    options: dict[str, Any] = {
        "limit": limit,
        "seed": seed,
        "device": device,
        "batch_size": batch_size,
        "keep_maps": keep_maps,
        "strict": strict,
        "allow_outside": allow_outside,
        "command": shlex.join(["faithface", *(w for w in context.obj if w != RETRY)]) if context.obj else None,
    }
    plan = make_plan(make_request(registry, suite, lists, options), registry)
    directory = out or default_directory(plan)
    reporter = make_reporter(quiet or as_json)
    runner = pick_executor(executor, workers, limits, directory)
    try:
        outcome, kept = execute(plan, directory, reporter, runner, retry_failed, registry.listeners)
    finally:
        for part in (reporter, runner):
            getattr(part, "close", lambda: None)()
    if as_json:
        typer.echo(json.dumps(as_dict(outcome, kept), indent=1, ensure_ascii=False))
    else:
        show(outcome, kept, quiet)
    for line in outcome.failures:
        print(f"faithface: failed: {line}", file=sys.stderr)
    if outcome.failures:
        parts = f"{len(outcome.failures)} part{'s' * (len(outcome.failures) > 1)}"
        print(f"faithface: error: {parts} of the run failed; everything else is scored and stored", file=sys.stderr)
    return outcome.exit_code


def again(context: typer.Context, out: Path) -> int:
    """Do again what failed in a run, by the command that the run keeps, in the folder where it was given.

    Raises:
        UsageError: there is no run, or it was made by the Python API.
    """
    from faithface.run.store import open_run

    with open_run(out) as store:
        command = store.meta("command") or {}
    if not command.get("line"):
        raise UsageError(f"{out} was not made by a command; make the call that began it again")
    words = [*shlex.split(command["line"])[1:], "--out", str(out.resolve()), RETRY]
    try:
        with contextlib.chdir(command["folder"]):
            program: Any = context.find_root().command
            return int(program.main(args=words, prog_name="faithface", standalone_mode=False, obj=words) or 0)
    except FileNotFoundError:
        raise UsageError(
            f"the folder {command['folder']}, in which the run was begun, is gone; give the whole command"
        ) from None


def make_request(
    registry: Registry, suite: str | None, lists: dict[str, Texts | None], options: dict[str, Any]
) -> Request:
    """Return the request of the options; a suite changed by them is no longer that suite."""
    from faithface.run.request import ADHOC, Request, from_suite
    from faithface.run.suite import load_suite

    given: dict[str, Any] = {what: tuple(names) for what, names in lists.items() if names}
    if suite is None:
        for what in lists:
            if what not in given:
                raise UsageError(
                    f"nothing to run: give a suite (`faithface suites` lists them), or at least one --{what[:-1]}"
                )
        return Request(**given, **{k: v for k, v in options.items() if v is not None})
    loaded = load_suite(registry.suite(suite).object)
    for what in ("models", "datasets"):
        if not getattr(loaded, what) and what not in given:
            raise UsageError(f'suite "{loaded.name}" leaves its {what} to you: give at least one --{what[:-1]}')
    # A list that the suite leaves open is filled, not changed.
    changed = any(getattr(loaded, what) for what in given) or any(
        options[k] is not None and options[k] != getattr(loaded, k) for k in ("limit", "seed")
    )
    return from_suite(
        loaded, **given, **options, **({"suite": ADHOC, "description": "", "published": ()} if changed else {})
    )


@dataclass(frozen=True)
class Limits:
    """What a worker may take: seconds for a step, bytes, and how often a step is tried again."""

    timeout: float | None = None
    memory: int | None = None
    retries: int = 1


def memory_size(text: str | None) -> int | None:
    """Return the bytes of a size such as ``800MB`` or ``8GB`` (powers of 1000); None for None.

    Raises:
        UsageError: no number, or another unit.
    """
    if text is None:
        return None
    found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?)B?\s*", text, re.IGNORECASE)
    size = int(float(found[1]) * 1000 ** " KMGT".index(found[2].upper() or " ")) if found else 0
    if size < 1:
        raise UsageError(f"--memory is '{text}'; expected a size such as 800MB or 8GB")
    return size


def pick_executor(name: str, workers: int | None, limits: Limits, directory: Path) -> Executor:
    """Return the executor of a name.

    Args:
        directory: the run directory, in which output of plugins is kept.

    Raises:
        UsageError: an unknown name, or Ray is not installed.
    """
    if name == "local":
        if workers == 0:
            from faithface.run.executors.local import run_group

            return run_group
        from faithface.run.executors.processes import ProcessExecutor

        return ProcessExecutor(workers or 1, limits.timeout, limits.memory, limits.retries, directory)
    if name == "ray":
        from faithface.run.executors.ray import RayExecutor

        return RayExecutor(workers or None)
    raise UsageError(f"executor is '{name}'; expected one of: local, ray")


def use_plugin_files(paths: list[Path] | None) -> None:
    """Make the files of ``--plugin`` known, before plugins are loaded."""
    if paths:
        from faithface.plugin_files import add_plugin_files

        add_plugin_files(paths)


def warn_of_failed_plugins(registry: Registry, quiet: bool) -> None:
    for row in registry.rows:
        if row.status == "failed" and not quiet:
            print(f"faithface: warning: plugin {row.distribution} failed to load: {row.error}", file=sys.stderr)


def show(outcome: Outcome, kept: list[Kept], quiet: bool) -> None:
    """Print one table per model and dataset, then what was not applicable, then where the run lies."""
    from faithface.boards.board import make_board
    from faithface.boards.terminal import board_text
    from faithface.run.not_applicable import fold

    width = shutil.get_terminal_size().columns
    typer.echo(f"\n{board_text(make_board(kept), min(width, 100))}\n")
    for line in fold(outcome.entries):
        typer.echo(f"not applicable: {line}")
    if not quiet:
        typer.echo(f"run: {outcome.directory}")


def as_dict(outcome: Outcome, kept: list[Kept]) -> dict[str, Any]:
    """Return what ``--json`` prints: where the run lies, what failed, and every record in full."""
    return {
        "run": str(outcome.directory),
        "failures": outcome.failures,
        "not_applicable": outcome.not_applicable,
        "exit_code": outcome.exit_code,
        "records": [k.record.model_dump(mode="json") for k in kept],
    }


def export(
    run_directory: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where values.parquet and maps/ go.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
) -> None:
    """Write a run's values (Parquet) and kept maps (.npz) for other tools."""
    from faithface.run.export import export as write

    done = write(run_directory, out)
    if done.unfinished:
        print(f"faithface: warning: {done.unfinished}", file=sys.stderr)
    if as_json:
        typer.echo(json.dumps({"values": str(done.values), "rows": done.rows, "maps": done.maps}))
    else:
        typer.echo(f"{done.values}: {done.rows} values; {done.maps} maps")


def add_to(app: typer.Typer) -> None:
    app.command()(run)
    app.command()(export)
