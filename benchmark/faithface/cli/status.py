"""``faithface status`` and ``faithface runs``.

Place in the flow: calls ``run.status`` and prints what it says; loads no plugin and no model code.
"""

from __future__ import annotations

import json
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from faithface.errors import FaithfaceError

if TYPE_CHECKING:
    from faithface.run.status import RunState

INTERVAL = 2.0  # seconds between two looks of --watch
WIDTH = 80


def status(
    run_directory: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    watch: Annotated[bool, typer.Option("--watch", help="Look again every 2 s until the run ends.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with --watch one line per look.")] = False,
) -> None:
    """Say what of a run is done, failed, pending or stale, who is writing it, and how long it will take.

    Stale is what was computed with another model file or package version; images and code are compared when the
    run is resumed.
    """
    from faithface.run.status import state_of

    while True:
        state = state_of(run_directory)
        if as_json:
            typer.echo(json.dumps(state.as_dict(), ensure_ascii=False, indent=None if watch else 1))
        else:
            if watch and sys.stdout.isatty():
                typer.echo("\x1b[2J\x1b[H", nl=False)
            typer.echo("\n".join(lines(state)))
        if not watch or state.writer is None:
            return
        time.sleep(INTERVAL)


def lines(state: RunState) -> list[str]:
    """Return a run's state in lines of at most 80 columns, as far as names allow."""
    from faithface.reasons import Status
    from faithface.run.status import failures, moment, span

    done, total = state.shards
    share = f"{100 * done / total:.0f} %" if total else "–"
    found = [f"run: {state.directory}"]
    if state.writer is not None and "pid" in state.writer:
        since = moment(state.writer["since"])
        found.append(f"running: process {state.writer['pid']} on {state.writer['host']} since {since}")
    names = {Status.OK: "done", Status.FAILED: "failed", Status.PENDING: "pending"}
    names[Status.NOT_APPLICABLE] = "not applicable"
    counts = [f"{state.count(each)} {name}" for each, name in names.items() if state.count(each)]
    found.append(f"cells:  {', '.join(counts) or 'none'}{f', {len(state.stale)} stale' if state.stale else ''}")
    found.append(f"shards: {done} of {total} done ({share})")
    if state.rate:
        left = "" if state.left is None else f", about {span(state.left)} left"
        found.append(f"rate:   {state.rate:.1f} shards per minute{left}")
    for cell in state.cells:
        name = f"{cell.model} / {cell.dataset} / {cell.explainer}"
        for metric, reason in failures(cell):
            found += wrapped(f"failed: {name}{f' / {metric}' if metric else ''}: {reason}")
        if cell.status is Status.PENDING:
            found += wrapped(f"pending: {name}: {cell.done} of {cell.shards} shards")
        if cell.stale:
            found += wrapped(f"stale: {name}: changed: {', '.join(cell.stale)}")
    if state.complete:
        found.append("finished")
    elif state.finish:
        found += wrapped(f"not finished; {state.finish}")
    return found


def wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)


def runs(
    folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="Where the runs lie.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the runs in a folder, the newest first: how far each is, and the command that made it."""
    from faithface.run.status import found_runs

    found = [summary(path) for path in found_runs(folder)]
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False, indent=1))
    elif not found:
        typer.echo(f"no runs in {folder}; `faithface run` puts them there unless --out says otherwise")
    else:
        for one in found:
            typer.echo(f"{one['written']}  {one['state']:<24}  {one['run']}")
            for line in wrapped(str(one["command"])) if one["command"] else ():
                typer.echo(f"    {line}")


def summary(directory: Path) -> dict[str, str]:
    """Return one run for the list: when it was written, its state in words, its command."""
    from faithface.run.status import moment, state_of, written
    from faithface.run.store import open_run

    found = {"run": str(directory), "written": moment(written(directory)), "state": "", "command": ""}
    try:
        state = state_of(directory)
        with open_run(directory) as store:
            found["command"] = (store.meta("command") or {}).get("line", "")
    except FaithfaceError as error:
        return {**found, "state": "unreadable", "command": str(error)}
    done, total = state.shards
    if state.writer is not None:
        found["state"] = f"running, {done} of {total}"
    elif state.complete:
        failed = sum(bool(cell.failed_metrics) or cell.status == "failed" for cell in state.cells)
        found["state"] = f"finished, {failed} failed" if failed else "finished"
    else:
        found["state"] = f"stopped, {done} of {total}"
    return found


def add_to(app: typer.Typer) -> None:
    app.command()(status)
    app.command()(runs)
