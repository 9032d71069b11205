"""``faithface run`` and ``faithface export``.

Place in the flow: turns options into a :class:`~faithface.run.request.Request`, has ``api.execute`` carry it out,
prints tables or JSON.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
import shlex
import shutil
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from faithface.cli import preview
from faithface.cli.completion import names
from faithface.cli.explain import DEVICE_HELP, OUTSIDE_HELP
from faithface.cli.failing import FailFast, FirstFailure, post_mortem
from faithface.cli.lines import say
from faithface.cli.listing import print_table
from faithface.errors import UsageError

if TYPE_CHECKING:
    from faithface.boards.record import Kept
    from faithface.plugins import Registry
    from faithface.run.executors import Executor
    from faithface.run.outcome import Outcome
    from faithface.run.plan import Plan
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
        str | None,
        typer.Argument(
            metavar="SUITE", help="A registered suite's name, or a suite file (.toml).", autocompletion=names("suites")
        ),
    ] = None,
    model: Annotated[
        Texts | None,
        typer.Option(
            "--model",
            metavar="NAME|CARD",
            autocompletion=names("models"),
            help="A model's name or card (.toml); repeatable.",
        ),
    ] = None,
    dataset: Annotated[
        Texts | None,
        typer.Option(
            "--dataset",
            metavar="NAME",
            autocompletion=names("datasets"),
            help="A name, folder:PATH or pairs:CSV@ROOT; repeatable.",
        ),
    ] = None,
    explainer: Annotated[
        Texts | None,
        typer.Option(
            "--explainer",
            metavar="NAME",
            autocompletion=names("explainers"),
            help="A name with parameters, fggb(reading=signed); repeatable.",
        ),
    ] = None,
    metric: Annotated[
        Texts | None,
        typer.Option(
            "--metric",
            metavar="ID",
            autocompletion=names("metrics"),
            help="A protocol with parameters, deletion@1(grid=14); repeatable.",
        ),
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
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would run, what cannot, and what it takes; then stop.")
    ] = False,
    traceback: Annotated[bool, typer.Option("--traceback", help="Print the traceback of each failure.")] = False,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first failure.")] = False,
    pdb: Annotated[
        bool, typer.Option("--pdb", help="Open Python's debugger where a plugin raises; needs --workers 0.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress; skipped files are still named.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome and all numbers as JSON.")] = False,
) -> int:
    """Explain and score: a suite, or models, datasets, explainers and metrics given by name.

    The same command in the same directory resumes an interrupted run, and does again what failed in it. A command
    with further explainers, metrics or samples and the same --out extends the run: only what is new is computed. With
    a suite, each of --model, --dataset, --explainer and --metric replaces the suite's own list, and the numbers then
    belong to no board but "adhoc".
    """
    if pdb and (executor != "local" or workers != 0):
        raise UsageError("--pdb needs the plugins in this process; add --workers 0")
    if retry_failed and out is not None and suite is None and not (model or dataset or explainer or metric):
        return again(context, out)
    talks = not (quiet or as_json)
    if talks:
        say("planning the run")
    from faithface.api import execute
    from faithface.cli.progress import make_reporter
    from faithface.plugins import load_registry
    from faithface.run.listing import lister
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
    request = make_request(registry, suite, lists, options)
    reporter = make_reporter(quiet or as_json)
    runner = pick_executor(executor, workers, limits)
    if pdb:
        from faithface.run.executors.local import run_group

        runner = functools.partial(run_group, failed=post_mortem)
    try:
        plan = make_plan(request, registry, lister(runner))
        directory = out or default_directory(plan)
        if dry_run:
            return print_dry_run(plan, directory, runner, as_json)
        keep_logs(runner, directory)
        if talks:
            for line in preview.overview(plan, directory):
                say(line)
        runner = FailFast(runner) if fail_fast else runner
        outcome, kept = execute(plan, directory, reporter, runner, retry_failed, registry.listeners)
    except FirstFailure as failure:
        getattr(reporter, "close", lambda: None)()
        if failure.line not in getattr(reporter, "told", ()):
            say(f"faithface: failed: {failure.line}")
        if traceback and failure.traceback:
            print(failure.traceback, file=sys.stderr)
        raise
    finally:
        for part in (reporter, runner):
            getattr(part, "close", lambda: None)()
    if as_json:
        typer.echo(json.dumps(as_dict(outcome, kept), indent=1, ensure_ascii=False))
    else:
        known = [] if quiet else [entry.line for entry in preview.entries(plan)]
        show(outcome, kept, quiet, known, getattr(reporter, "nothing", False))
    told: Collection[str] = getattr(reporter, "told", ())
    for line in outcome.failures:
        if line not in told:
            say(f"faithface: failed: {line}")
        if traceback and line in outcome.tracebacks:
            print(f"\n{line}\n{outcome.tracebacks[line]}", file=sys.stderr)
    if outcome.failures:
        parts = f"{len(outcome.failures)} part{'s' * (len(outcome.failures) > 1)}"
        hint = "" if traceback or not outcome.tracebacks else "; --traceback shows where"
        say(f"faithface: error: {parts} of the run failed; everything else is scored and stored{hint}")
    return outcome.exit_code


def print_dry_run(plan: Plan, directory: Path, executor: Executor, as_json: bool) -> int:
    """Print what a run would do and what it would take."""
    forecast = preview.measured(plan, executor)
    if as_json:
        typer.echo(json.dumps(preview.as_dict(plan, directory, forecast), indent=1, ensure_ascii=False))
        return 0
    for line in preview.overview(plan, directory):
        say(line, sys.stdout)
    typer.echo()
    print_table(preview.judged_table(plan), "no protocol applies")
    typer.echo()
    print_table(preview.costs_table(forecast), "nothing to run")
    typer.echo()
    say(f"the whole run: {preview.takes(forecast)}", sys.stdout)
    return 0


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


def keep_logs(executor: Executor, directory: Path) -> None:
    """Have an executor of processes keep the output of plugins in the run directory."""
    from faithface.run.executors.processes import ProcessExecutor

    if isinstance(executor, ProcessExecutor):
        executor.logs = directory


def pick_executor(name: str, workers: int | None, limits: Limits) -> Executor:
    """Return the executor of a name.

    Raises:
        UsageError: an unknown name, or Ray is not installed.
    """
    from faithface.run.executors.processes import ProcessExecutor

    if name == "local":
        if workers == 0:
            from faithface.run.executors.local import run_group

            return run_group
        return ProcessExecutor(workers or 1, limits.timeout, limits.memory, limits.retries)
    if name == "ray":
        from faithface.run.executors.ray import RayExecutor

        return RayExecutor(workers or None, ProcessExecutor(1, limits.timeout, limits.memory, limits.retries))
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


def show(outcome: Outcome, kept: list[Kept], quiet: bool, known: Collection[str], nothing: bool) -> None:
    """Print one table per model and dataset, then what was not applicable, then where the run lies and what is next.

    Args:
        known: lines on what is not applicable that were printed before the run.
        nothing: whether nothing was to be done.
    """
    from faithface.boards.board import make_board
    from faithface.boards.terminal import board_text
    from faithface.run.not_applicable import fold

    width = shutil.get_terminal_size().columns
    typer.echo(f"\n{board_text(make_board(kept), min(width, 100))}\n")
    for line in fold([entry for entry in outcome.entries if entry.line not in known]):
        say(f"not applicable: {line}", sys.stdout)
    if quiet:
        return
    if nothing:
        say("nothing was to be done: all of it is there already")
    where = shlex.quote(str(outcome.directory))
    say(f"run: {outcome.directory}", sys.stdout)
    say(f"next: faithface view {where}", sys.stdout)
    say(f"      faithface leaderboard build {where} -o leaderboards", sys.stdout)


def as_dict(outcome: Outcome, kept: list[Kept]) -> dict[str, Any]:
    """Return what ``--json`` prints: where the run lies, what failed, and every record in full."""
    return {
        "run": str(outcome.directory),
        "failures": outcome.failures,
        "tracebacks": outcome.tracebacks,
        "not_applicable": outcome.not_applicable,
        "exit_code": outcome.exit_code,
        "records": [k.record.model_dump(mode="json") for k in kept],
    }


def export(
    run_directory: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where values, numbers, curves and maps/ go.")],
    form: Annotated[str, typer.Option("--format", help="parquet or csv.")] = "parquet",
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
) -> None:
    """Write a run's values, numbers and curves (Parquet or CSV) and kept maps (.npz) for other tools."""
    from faithface.run.export import export as write

    done = write(run_directory, out, form)  # type: ignore[arg-type]
    if done.unfinished:
        print(f"faithface: warning: {done.unfinished}", file=sys.stderr)
    if as_json:
        tables = {name: str(getattr(done, name)) for name in ("values", "numbers", "curves")}
        typer.echo(json.dumps({**tables, "rows": done.rows, "maps": done.maps}))
    else:
        typer.echo(f"{done.values}: {done.rows} values; {done.maps} maps")
        typer.echo(f"{done.numbers}, {done.curves}: means with intervals, and curves")


def add_to(app: typer.Typer) -> None:
    app.command()(run)
    app.command()(export)
