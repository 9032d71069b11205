"""The program ``faithface``: its commands, and how errors end it.

Place in the flow: called by the console script; joins the commands of the modules beside it. Every error that a user
can correct is one line on stderr: exit code 2 for a request that cannot be carried out as it is written, 1 for one that
was tried and failed, 130 for an interrupted one.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

import typer

from faithface.cli import (
    audit,
    board,
    compare,
    doctor,
    explain,
    listing,
    optimum,
    report,
    run,
    shortcuts,
    status,
    verify,
    view,
    why,
)
from faithface.errors import FaithfaceError

app = typer.Typer(
    name="faithface",
    help="Benchmark explainers (saliency methods) of face models: verification, presentation attacks, synthetic faces.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
for subject in (
    run,
    status,
    view,
    explain,
    why,
    shortcuts,
    report,
    listing,
    board,
    compare,
    verify,
    audit,
    optimum,
    doctor,
):
    subject.add_to(app)

TRACEBACK = "FAITHFACE_TRACEBACK"
INTERRUPTED = 130


def _version(show: bool) -> None:
    if show:
        from importlib.metadata import version as installed

        typer.echo(f"faithface {installed('faithface')}")
        raise typer.Exit()


@app.callback()
def options(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    """Options of the program itself."""


def complain(text: str) -> None:
    """Write one error line."""
    print(f"faithface: error: {' '.join(text.split())}", file=sys.stderr)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    if not os.environ.get(TRACEBACK):
        # Advice of libraries to their own callers; a user of the command line can do nothing about it.
        for library in ("captum", "torch", "onnx2pytorch", "onnxscript", "sklearn"):
            warnings.filterwarnings("ignore", module=rf"{library}(\.|$)")
    typed = sys.argv[1:] if arguments is None else arguments
    try:
        result = app(args=typed, prog_name="faithface", standalone_mode=False, obj=typed)
        return interrupted() if result == INTERRUPTED else result if isinstance(result, int) else 0
    except FaithfaceError as error:
        complain(str(error))
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return interrupted()
    except BrokenPipeError:
        # The reader of a pipe has gone (`faithface metrics | head`); leave without a second error at shutdown.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if isinstance(error, typer.Exit):
            return error.exit_code
        if hasattr(error, "format_message"):
            return refused(error)
        if os.environ.get(TRACEBACK):
            raise
        first = (str(error).strip().splitlines() or [""])[0]
        complain(f"internal error: {type(error).__name__}: {first}; set {TRACEBACK}=1 for the traceback, and report it")
        return 1


def refused(error: Any) -> int:
    """Say in one line what typer refused, such as an unknown option; its classes differ between its versions."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
    else:
        complain(f"{error.format_message().rstrip('.')}; `faithface --help` lists the commands")
    return int(error.exit_code)


def interrupted() -> int:
    complain("interrupted; give the same command again to resume")
    return INTERRUPTED
