"""``faithface leaderboard build``.

Place in the flow: calls ``boards.publish``, ``boards.site`` and ``gallery``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from faithface.cli.view import AUDIT_HELP, verdicts_for
from faithface.errors import UsageError

if TYPE_CHECKING:
    from faithface.boards.board import Board

board_app = typer.Typer(help="Publish runs as versioned leaderboards.", no_args_is_help=True, rich_markup_mode=None)


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
    as_json: Annotated[bool, typer.Option("--json", help="Print the boards' folders as JSON.")] = False,
) -> None:
    """Add the records of runs to <out>/<suite>/v<N>/ and make its tables and site; or remake those of a board.

    Tables are a pure function of a board's records, the site of its records, gallery and audit: `faithface
    leaderboard build leaderboards/demo/v0` must change nothing. Pictures come from runs with --keep-maps; faces are
    shown only of datasets that allow it.
    """
    from faithface.boards.publish import add_runs, rebuild
    from faithface.boards.record import RECORDS
    from faithface.run.store import FILE

    runs = [path for path in sources if (path / FILE).is_file()]
    boards = [path for path in sources if path not in runs]
    for path in boards:
        if not (path / RECORDS).is_dir():
            raise UsageError(
                f"{path} is neither a run nor a board; give folders that `faithface run` or this command wrote"
            )
    if runs and out is None:
        raise UsageError("say where the boards of these runs go: -o leaderboards/")
    if boards and out is not None:
        raise UsageError(f"{boards[0]} is a board and is rebuilt in place; leave -o out")
    made = {path: rebuild(path) for path in [*boards, *(add_runs(runs, out) if out is not None else [])]}
    done = list(made)
    if site:
        write_sites(made, runs, samples, audit)
    if as_json:
        typer.echo(json.dumps({"boards": [str(path) for path in done]}))
    else:
        for path in done:
            typer.echo(str(path / "README.md"))


def write_sites(made: Mapping[Path, Board], runs: Sequence[Path], samples: int, audit: Path | None) -> None:
    """Write the site of each board, with the galleries of the runs that went into it."""
    from faithface.boards.record import RECORDS, read_records
    from faithface.boards.site import read_extras, write_site
    from faithface.boards.site.write import SITE

    for path, board in made.items():
        for run in runs:
            from faithface.gallery import Wanted, write_gallery
            from faithface.plugins import load_registry

            suite = (board.suite, board.version)
            kept = [k for k in read_records(run / RECORDS) if (k.record.suite.name, k.record.suite.version) == suite]
            for line in write_gallery(run, kept, path, Wanted(samples), load_registry):
                print(f"faithface: {line}", file=sys.stderr)
        write_site(board, path / SITE, read_extras(path), verdicts_for(path, audit))


def add_to(app: typer.Typer) -> None:
    app.add_typer(board_app, name="leaderboard")
