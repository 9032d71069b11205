"""``faithface verify``: run a sample of records again, and say whether their values come out.

Place in the flow: reads records, has ``boards.verify`` run them, prints lines or JSON, writes attestations.
"""

from __future__ import annotations

import dataclasses
import json
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from faithface.cli.explain import DEVICE_HELP
from faithface.errors import UsageError

if TYPE_CHECKING:
    from faithface.boards.record import Kept
    from faithface.boards.verify import Verified

Texts = list[str]
DIFFERS, CANNOT = 1, 3


def verify(
    source: Annotated[
        Path, typer.Argument(metavar="RECORD|BOARD|RUN", help="A record (.json), a board, or a finished run.")
    ],
    sample: Annotated[int, typer.Option(min=1, help="How many samples of each model and dataset.")] = 20,
    seed: Annotated[int | None, typer.Option(min=0, help="Which samples; default: drawn, and printed.")] = None,
    model: Annotated[
        Texts | None,
        typer.Option("--model", metavar="CARD", help="A card of a model that is not registered; repeatable."),
    ] = None,
    dataset: Annotated[
        Texts | None,
        typer.Option("--dataset", metavar="NAME", help="Where a dataset of files lies: folder:PATH; repeatable."),
    ] = None,
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = "cpu",
    attest: Annotated[
        bool, typer.Option("--attest", help="Write what was reproduced beside the board's records.")
    ] = False,
    independent: Annotated[
        bool, typer.Option("--independent", help="With --attest: I made neither these records nor the methods.")
    ] = False,
    by: Annotated[str, typer.Option("--by", metavar="NAME", help="With --attest: who attests.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Run a sample of records again, here, and compare value by value within the protocols' tolerance.

    Exit code 0: all were reproduced. 1: one differs. 3: none differs, and one could not be run here.
    """
    from faithface.boards.verify import NO_VALUES, Asked, Outcome, verify_records
    from faithface.plugins import load_registry
    from faithface.run.paths import short

    if independent and not (attest and by.strip()):
        raise UsageError("--independent goes with --attest and --by NAME: who attests")
    board, kept = records_at(source)
    if attest and board is None:
        raise UsageError(f"{source} is no board; attestations lie beside a board's records")
    registry = load_registry()
    cards = {registry.model(card).object.name: card for card in model or ()}
    seed = secrets.randbelow(2**31) if seed is None else seed
    asked = Asked(sample, seed, cards, {short(spec): spec for spec in dataset or ()}, device)
    found: list[Verified] = []
    for one in verify_records(kept, registry, asked):
        found.append(one)
        if not as_json:
            say(one)
        if attest and board is not None and one.outcome is Outcome.REPRODUCED:
            attest_to(board, one, independent, by, seed)
    if attest and board is not None:
        from faithface.boards.publish import rebuild

        rebuild(board)
    counts = {outcome: sum(one.outcome is outcome for one in found) for outcome in Outcome}
    if as_json:
        typer.echo(json.dumps({"seed": seed, "sample": sample, "records": [as_dict(one) for one in found]}, indent=1))
    else:
        typer.echo(f"{', '.join(f'{n} {outcome}' for outcome, n in counts.items())} (--sample {sample} --seed {seed})")
    missing = any(one.outcome is Outcome.CANNOT and one.reason != NO_VALUES for one in found)
    code = DIFFERS if counts[Outcome.DIFFERS] else CANNOT if missing else 0
    if code:
        raise typer.Exit(code)


def records_at(source: Path) -> tuple[Path | None, list[Kept]]:
    """Return the board of a path (None: it is a record or a run) and its records.

    Raises:
        UsageError: there are none, or they were altered.
    """
    from faithface.boards.frozen import board_at
    from faithface.boards.record import RECORDS, read_record, read_records

    if source.is_file():
        kept = [read_record(source)]
        board = next((p.parent for p in source.resolve().parents if p.name == RECORDS), None)
        return board if board is not None and (board / "README.md").is_file() else None, kept
    folder = board_at(source)
    if not (folder / RECORDS).is_dir():
        raise UsageError(f"{source} is no record, board or finished run; it holds no folder '{RECORDS}'")
    return folder if (folder / "README.md").is_file() else None, read_records(folder / RECORDS)


def say(one: Verified) -> None:
    """Print what became of a record: one line, and one for each note and each protocol that was not compared."""
    typer.echo(str(one))
    for gap in one.gaps[1:4]:
        typer.echo(f"    {gap}")
    for note in (*one.notes, *(f"not compared: {text}" for text in one.skipped)):
        typer.echo(f"    {note}")


def attest_to(board: Path, one: Verified, independent: bool, by: str, seed: int) -> None:
    """Write the attestation of a record that was reproduced."""
    from faithface.boards.attest import attestation_of, write_attestation

    made = attestation_of(
        one.record,
        independent,
        by,
        one.where,
        seed=seed,
        samples=one.samples,
        protocols=one.protocols,
        values=one.values,
        largest=one.largest,
    )
    write_attestation(board, made)


def as_dict(one: Verified) -> dict[str, Any]:
    """Return what became of a record as JSON values."""
    record = one.record
    return {
        "model": record.model.name,
        "dataset": record.dataset.spec,
        "explainer": record.explainer.spec,
        "record_digest": record.digest,
        "outcome": one.outcome.value,
        "reason": one.reason,
        "samples": list(one.samples),
        "protocols": list(one.protocols),
        "values": one.values,
        "largest": one.largest if one.largest != float("inf") else None,
        "gaps": [dataclasses.asdict(gap) for gap in one.gaps],
        "notes": list(one.notes),
        "skipped": list(one.skipped),
    }


def add_to(app: typer.Typer) -> None:
    app.command()(verify)
