"""``faithface leaderboard``: build, show, validate, check, diff, freeze, export and submit boards.

Place in the flow: calls ``boards``; each command imports what it calls when it runs.
"""

from __future__ import annotations

import dataclasses
import json
import secrets
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from faithface.cli.view import AUDIT_HELP
from faithface.errors import UsageError

if TYPE_CHECKING:
    from faithface.boards.board import Board
    from faithface.boards.inside import MetricOf
    from faithface.boards.record import Kept

board_app = typer.Typer(help="Publish runs as versioned leaderboards.", no_args_is_help=True, rich_markup_mode=None)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
BoardPath = Annotated[Path, typer.Argument(metavar="BOARD", help="A board, such as leaderboards/demo/latest.")]
FOUND = 1


class Format(StrEnum):
    """How a board is shown."""

    TEXT = "text"
    MARKDOWN = "markdown"
    LATEX = "latex"
    CSV = "csv"
    JSON = "json"
    BIBTEX = "bibtex"


@board_app.command()
def build(
    sources: Annotated[
        list[Path], typer.Argument(metavar="RUN|BOARD...", help="Finished runs; or boards, to rebuild their tables.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where the boards of runs go, such as leaderboards/.")
    ] = None,
    site: Annotated[bool, typer.Option("--site/--no-site", help="Write the board's site too.")] = True,
    samples: Annotated[int, typer.Option(min=0, help="Samples of a run with pictures, per model and dataset.")] = 8,
    audit: Annotated[Path | None, typer.Option(metavar="FILE", help=AUDIT_HELP)] = None,
    redraw: Annotated[bool, typer.Option("--redraw", help="Draw all figures of the site, unchanged ones too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the boards' folders as JSON.")] = False,
) -> None:
    """Add the records of runs to <out>/<suite>/v<N>/ and make its tables and site; or remake those of a board.

    Tables are a pure function of a board's records and the metrics' audit, the site of these and the gallery:
    `faithface leaderboard build leaderboards/demo/v0` must change nothing. A metric that the audit does not let judge
    is not ranked. `validate` and `check` read the audit beside the boards, in audit/; one given by --audit has to be
    put there. A figure is drawn again where its data, the drawing code or what lies on its page has changed;
    `leaderboard check` draws all of them and compares. Pictures come from runs with --keep-maps; faces are shown only
    of datasets that allow it.
    A frozen board is never changed.
    """
    from faithface.boards.frozen import board_at
    from faithface.boards.publish import add_runs, rebuild
    from faithface.boards.record import RECORDS
    from faithface.run.store import FILE

    runs = [path for path in sources if (path / FILE).is_file()]
    boards = [board_at(path) for path in sources if path not in runs]
    for path in boards:
        if not (path / RECORDS).is_dir():
            raise UsageError(
                f"{path} is neither a run nor a board; give folders that `faithface run` or this command wrote"
            )
    if runs and out is None:
        raise UsageError("say where the boards of these runs go: -o leaderboards/")
    if boards and out is not None:
        raise UsageError(f"{boards[0]} is a board and is rebuilt in place; leave -o out")
    made = {path: rebuild(path, audit) for path in [*boards, *(add_runs(runs, out, audit) if out is not None else [])]}
    done = list(made)
    if site:
        write_sites(made, runs, samples, redraw)
    if as_json:
        typer.echo(json.dumps({"boards": [str(path) for path in done]}))
    else:
        for path in done:
            typer.echo(str(path / "README.md"))


def write_sites(made: Mapping[Path, Board], runs: Sequence[Path], samples: int, redraw: bool = False) -> None:
    """Write the site of each board, with the galleries of the runs that went into it."""
    from faithface.boards.record import RECORDS, read_records
    from faithface.boards.site import read_extras, write_site
    from faithface.boards.site.links import SITE

    for path, board in made.items():
        for run in runs:
            from faithface.gallery import Wanted, write_gallery
            from faithface.plugins import load_registry

            suite = (board.suite, board.version)
            kept = [k for k in read_records(run / RECORDS) if (k.record.suite.name, k.record.suite.version) == suite]
            for line in write_gallery(run, kept, path, Wanted(samples), load_registry):
                print(f"faithface: {line}", file=sys.stderr)
        write_site(board, path / SITE, read_extras(path), redraw=redraw)


@board_app.command()
def show(
    source: Annotated[Path, typer.Argument(metavar="RUN|BOARD", help="A finished run or a board.")],
    form: Annotated[
        Format, typer.Option("--format", help="text, markdown, latex, csv, json; bibtex: the sources of all methods.")
    ] = Format.TEXT,
    metric: Annotated[
        list[str] | None, typer.Option("--metric", metavar="ID", help="A protocol as tables name it; repeatable.")
    ] = None,
    wide: Annotated[bool, typer.Option("--wide", help="Text: every protocol in full.")] = False,
) -> None:
    """Print a board: for a terminal of 80 columns, for a paper, or for a program."""
    from faithface.boards.board import make_board
    from faithface.boards.show import shown
    from faithface.boards.tiers import tiers_for
    from faithface.boards.verdicts import audit_for

    board, kept = _records(source)
    made = make_board(kept, audit_for(board or source), tiers_for(board or source))
    typer.echo(shown(made, form.value, tuple(metric or ()), wide), nl=False)


@board_app.command()
def validate(
    source: Annotated[Path, typer.Argument(metavar="RUN|BOARD", help="A board, or a finished run.")],
    as_json: Json = False,
) -> None:
    """Check what must hold inside records, among them, and between them and a board's files. Runs no model.

    Exit code 0: nothing is wrong; 1: something is, one line each.
    """
    from faithface.boards.frozen import board_at
    from faithface.boards.record import RECORDS, record_paths
    from faithface.boards.validate import validate_board, validate_records
    from faithface.run.store import FILE

    folder = board_at(source)
    if (folder / FILE).is_file():
        _kept, findings = validate_records(folder / RECORDS, installed_metrics())
    else:
        findings = validate_board(folder, installed_metrics())
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(one) for one in findings], indent=1, ensure_ascii=False))
    else:
        for one in findings:
            typer.echo(str(one))
        count = len(record_paths(folder / RECORDS))
        typer.echo(f"{count} records: {'nothing is wrong' if not findings else f'{len(findings)} findings'}")
    if findings:
        raise typer.Exit(FOUND)


@board_app.command()
def check(
    sources: Annotated[list[Path], typer.Argument(metavar="BOARD...", help="Boards, suites, or leaderboards/.")],
    strict: Annotated[bool, typer.Option("--strict", help="What cannot be verified here fails too.")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the results as JSON.")] = None,
    sample: Annotated[int, typer.Option(min=0, help="Samples per model and dataset to run again; 0: none.")] = 4,
    seed: Annotated[int | None, typer.Option(min=0, help="Which samples; default: drawn, and printed.")] = None,
) -> None:
    """What continuous integration runs: validate, compare made files, say what changed, verify a sample.

    Exit code 0: all passed; 1: not.
    """
    from faithface.boards.check import check_boards
    from faithface.boards.verify import Asked, verify_records
    from faithface.durable import write_whole
    from faithface.plugins import load_registry

    seed = secrets.randbelow(2**31) if seed is None else seed
    registry = load_registry()
    asked = Asked(sample, seed)
    again = (lambda kept: list(verify_records(kept, registry, asked))) if sample else None
    results = check_boards(sources, installed_metrics(), again, strict)
    for one in results:
        typer.echo(f"{'ok  ' if one.passed else 'FAIL'} {one.board}: {one.step}")
        for line in one.lines:
            typer.echo(f"       {line}")
    passed = all(one.passed for one in results)
    if output is not None:
        report = {"passed": passed, "sample": sample, "seed": seed, "results": [one.as_dict() for one in results]}
        text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
        write_whole(output, lambda file: file.write(text.encode("utf-8")))
    if sample:
        typer.echo(f"(--sample {sample} --seed {seed})")
    if not passed:
        raise typer.Exit(FOUND)


@board_app.command()
def diff(
    before: BoardPath,
    after: Annotated[Path, typer.Argument(metavar="BOARD", help="The board to compare it with.")],
    as_json: Json = False,
) -> None:
    """Say what moved between two versions of a board, and which change moved it."""
    from faithface.boards.changes import diff_boards
    from faithface.boards.verdicts import audit_for

    board, kept = _records(after)
    changes = diff_boards(_records(before)[1], kept, audit_for(board or after))
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(changes), indent=1, ensure_ascii=False))
    else:
        typer.echo(changes.text(), nl=False)


@board_app.command()
def freeze(board: BoardPath) -> None:
    """Freeze a board that is published: its records and tables can no longer be changed, only followed by a version."""
    from faithface.boards.frozen import board_at
    from faithface.boards.frozen import freeze as freeze_board
    from faithface.boards.publish import rebuild

    folder = board_at(board)
    path = freeze_board(folder)
    rebuild(folder)  # the suite's page says so
    typer.echo(str(path))


@board_app.command()
def export(
    source: Annotated[Path, typer.Argument(metavar="RUN|BOARD", help="A finished run or a board.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to.")],
    as_json: Json = False,
) -> None:
    """Write the values and curves of every sample as Parquet files, with a datasheet, for others to study."""
    from faithface.boards.datasheet import export_board

    done = export_board(_records(source)[1], out)
    if as_json:
        typer.echo(json.dumps({"folder": str(done.folder), "rows": dict(done.rows)}))
    else:
        for name, rows in done.rows.items():
            typer.echo(f"{done.folder / name}: {rows} rows")
        typer.echo(str(done.folder / "README.md"))


@board_app.command()
def submit(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run of a suite.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder of all boards.")] = Path("leaderboards"),
) -> None:
    """Check a run, add it to its board, and print the git commands and the pull request's text."""
    from faithface.boards.submit import NotFit, submit_run

    try:
        done = submit_run(run, out, installed_metrics())
    except NotFit as error:
        for finding in error.findings:
            typer.echo(str(finding), err=True)
        raise
    for board in done.boards:
        typer.echo(f"built {board}")
    lines = ["", "To send it:", "", *(f"  {command}" for command in done.commands)]
    typer.echo("\n".join([*lines, "", f"Title: {done.title}", "", done.body]), nl=False)


def installed_metrics() -> MetricOf:
    """Return what gives the metric of a protocol where it is installed, else None."""
    from faithface.contract import Metric
    from faithface.errors import FaithfaceError
    from faithface.plugins import load_registry

    registry = load_registry()
    known: dict[str, Metric | None] = {}

    def metric_of(protocol: str) -> Metric | None:
        if protocol not in known:
            try:
                known[protocol] = registry.metric(protocol).object
            except FaithfaceError:
                known[protocol] = None
        return known[protocol]

    return metric_of


def _records(source: Path) -> tuple[Path | None, list[Kept]]:
    from faithface.cli.verify import records_at

    return records_at(source)


def add_to(app: typer.Typer) -> None:
    app.add_typer(board_app, name="leaderboard")
