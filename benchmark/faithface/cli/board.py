"""``faithface leaderboard build``.

Place in the flow: calls ``boards.publish``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from faithface.errors import UsageError

board_app = typer.Typer(help="Publish runs as versioned leaderboards.", no_args_is_help=True, rich_markup_mode=None)


@board_app.command()
def build(
    sources: Annotated[
        list[Path], typer.Argument(metavar="RUN|BOARD...", help="Finished runs; or boards, to rebuild their tables.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where the boards of runs go, such as leaderboards/.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the boards' folders as JSON.")] = False,
) -> None:
    """Add the records of runs to <out>/<suite>/v<N>/ and make its tables; or remake a board's tables.

    A board's tables are a pure function of its records: `faithface leaderboard build leaderboards/demo/v0` must
    change nothing.
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
    for path in boards:
        rebuild(path)
    done = boards + (add_runs(runs, out) if out is not None else [])
    if as_json:
        typer.echo(json.dumps({"boards": [str(path) for path in done]}))
    else:
        for path in done:
            typer.echo(str(path / "README.md"))


def add_to(app: typer.Typer) -> None:
    app.add_typer(board_app, name="leaderboard")
