"""What must hold inside a record, among the records of a board, and between a board's records and its files.

Place in the flow: ``faithface leaderboard validate``, ``check`` and ``submit`` print what :func:`validate_board` and
:func:`validate_records` find. Reads files, runs no model. Calls ``record``, ``inside``, ``attest``, ``frozen`` and
``render``.

Findings are values; nothing here raises because of what a record says. What is inside one record stands in ``inside``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from faithface.boards.attest import ATTESTATIONS, read_attestations
from faithface.boards.board import make_board
from faithface.boards.findings import Check, Finding
from faithface.boards.frozen import changed_since_frozen
from faithface.boards.inside import MetricOf, no_metric, validate_inside
from faithface.boards.publish import board_contents
from faithface.boards.record import (
    RECORDS,
    Kept,
    curves_of,
    read_record,
    record_bytes,
    record_digest,
    record_paths,
    same_cell,
)
from faithface.boards.tiers import tiers_for
from faithface.boards.verdicts import audit_for
from faithface.errors import UsageError

SAME_SCORE = 1e-3
"""How far two records of one model and dataset may be apart in a sample's clean score."""


def validate_board(board: Path, metric_of: MetricOf = no_metric, strict: bool = True) -> list[Finding]:
    """Check a board: each record, the records among each other, attestations, and the files that are made from them.

    Args:
        board: such as ``leaderboards/demo/v1``.
        metric_of: gives the metric of a protocol where it is installed.
        strict: whether files that differ from what the records give are findings; of a frozen board they are not, if
            they are those that were frozen: an older version of the program may have drawn them otherwise.

    Raises:
        UsageError: the folder is no board, or holds no record.
    """
    if not (board / RECORDS).is_dir():
        raise UsageError(f"{board} holds no folder '{RECORDS}'; give a board such as leaderboards/demo/v0")
    kept, found = validate_records(board / RECORDS, metric_of)
    found = [Finding(f"{RECORDS}/{one.path}", one.check, one.detail) for one in found]
    found += _suite(board, kept)
    frozen = changed_since_frozen(board)
    found += [Finding(name, Check.FROZEN, "is not what was frozen") for name in frozen or ()]
    found += [
        Finding(f"{ATTESTATIONS}/{name}", Check.ATTESTATION, why)
        for name, why in read_attestations(board, kept).refused
    ]
    whole = not any(one.check in (Check.UNREADABLE, Check.SAME_CELL, Check.SUITE) for one in found)
    if strict and whole and frozen is None:
        found += made_files(board, kept)
    return found


def validate_records(folder: Path, metric_of: MetricOf = no_metric) -> tuple[list[Kept], list[Finding]]:
    """Check the records below a folder; return those that can be read, and what is wrong.

    Raises:
        UsageError: there are none.
    """
    paths = record_paths(folder)
    if not paths:
        raise UsageError(f"{folder} holds no records; expected the folder that `faithface run` or `build` wrote")
    kept: list[Kept] = []
    at: list[Path] = []
    found: list[Finding] = []
    known: set[str] = set()
    for path in paths:
        name = path.relative_to(folder).as_posix()
        try:
            one = read_record(path)
            curves_of(one)
        except UsageError as error:
            found.append(Finding(name, Check.UNREADABLE, str(error)))
            stem = name.removesuffix(".json")
            known |= {f"{stem}.parquet", f"{stem}~curves.parquet"}
            continue
        found += _file(path, name, one)
        found += [Finding(name, check, detail) for check, detail in validate_inside(one, metric_of)]
        kept.append(one)
        at.append(path.relative_to(folder))
    found += [
        Finding(second.as_posix(), Check.SAME_CELL, f"is of the model, dataset and explainer of {first.as_posix()}")
        for first, second in same_cell(at, [one.record for one in kept])
    ]
    found += _among(dict(zip((path.as_posix() for path in at), kept, strict=True)))
    known |= {name for one, path in zip(kept, at, strict=True) for name in _files_of(one, path)}
    found += [
        Finding(path.relative_to(folder).as_posix(), Check.STRAY, "belongs to no record")
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".json" and path.relative_to(folder).as_posix() not in known
    ]
    return kept, found


def made_files(board: Path, kept: Sequence[Kept]) -> list[Finding]:
    """Return what is wrong with the files that are made from records: missing, edited, or made from nothing."""
    files = board_contents(board, make_board(kept, audit_for(board), tiers_for(board)), kept)
    found = []
    for name, text in files.items():
        path = board / name
        if not path.is_file():
            found.append(Finding(name, Check.TABLES, "is missing; `build` makes it"))
        elif path.read_bytes() != text.encode("utf-8"):
            found.append(Finding(name, Check.TABLES, "differs from what records and audit give; `build` makes it"))
    tables = board / "tables"
    for path in sorted(tables.iterdir()) if tables.is_dir() else ():
        if f"tables/{path.name}" not in files:
            found.append(Finding(f"tables/{path.name}", Check.TABLES, "is made from no record"))
    return found


def _files_of(kept: Kept, path: Path) -> Iterable[str]:
    for name in (kept.record.values, kept.record.curves):
        if name:
            yield (path.parent / name).as_posix()


def _file(path: Path, name: str, kept: Kept) -> list[Finding]:
    """Check the form, the digest and the place of a record's file."""
    found = []
    record = kept.record
    if path.read_bytes() != record_bytes(record):
        found.append(Finding(name, Check.FORM, "is not written as records are (order of keys, spaces, rounding)"))
    if record.digest != record_digest(record):
        found.append(Finding(name, Check.DIGEST, "says something else than when its digest was taken"))
    if Path(name).with_suffix("") != record.stem and name != f"{record.stem.as_posix()}.json":
        found.append(Finding(name, Check.PLACE, f"holds the record of {record.stem.as_posix()}"))
    return found


def _suite(board: Path, kept: Sequence[Kept]) -> list[Finding]:
    """Check that a board's records are of the suite and version that its folder names."""
    found = []
    for one in kept:
        suite = one.record.suite
        if (suite.name, f"v{suite.version}") != (board.resolve().parent.name, board.resolve().name):
            name = f"{RECORDS}/{one.record.stem.as_posix()}.json"
            found.append(Finding(name, Check.SUITE, f"is of {suite.name} v{suite.version}, and lies in {board}"))
    return found


def _among(kept: Mapping[str, Kept]) -> list[Finding]:
    """Check that records of one dataset have the same samples, and of one model on it the same clean scores."""
    found: list[Finding] = []
    digests: dict[tuple[object, ...], dict[str, list[str]]] = {}
    facts: dict[tuple[object, ...], dict[str, tuple[str, tuple[object, ...]]]] = {}
    for name, one in kept.items():
        data, model = one.record.dataset, one.record.model
        setting = (data.spec, data.revision, data.limit, data.seed)
        digests.setdefault(setting, {}).setdefault(data.samples_sha256, []).append(name)
        known = facts.setdefault((model.name, model.sha256, *setting), {})
        columns = ("sample", "units", "label", "score", "correct")
        for sample, units, label, score, correct in one.values.select(columns).unique().sort("sample").iter_rows():
            mine = (sorted(units), label, score, correct)
            before, theirs = known.setdefault(sample, (name, mine))
            if not _same_facts(mine, theirs):
                detail = f'says otherwise of sample "{sample}" than {before}: person, label or clean score'
                found.append(Finding(name, Check.SAMPLES, detail))
                break
    for groups in digests.values():
        usual = max(groups.values(), key=len)
        for names in groups.values():
            if names is not usual:
                found += [Finding(name, Check.SAMPLES, f"is of other samples than {usual[0]}") for name in names]
    return found


def _same_facts(one: tuple[object, ...], other: tuple[object, ...]) -> bool:
    (units, label, score, correct), (units_b, label_b, score_b, correct_b) = one, other
    if (units, label, correct) != (units_b, label_b, correct_b):
        return False
    if not isinstance(score, float) or not isinstance(score_b, float):
        return score == score_b
    return abs(score - score_b) <= SAME_SCORE
