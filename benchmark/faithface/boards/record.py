"""One record per cell: everything that is needed to read, doubt and re-run its numbers.

Place in the flow: ``collect`` makes records of a finished run; :func:`write_records` puts one JSON, one Parquet file of
per-sample values and one of curves for each on disk; :func:`read_records` reads them back for ``publish``.
``docs/reference/record.md`` describes the format.

A record's ``digest`` covers everything that the JSON says, the digests of the Parquet files included. It tells a slip
from a record; it is no signature, since whoever alters a record can compute it anew (``validate`` and ``verify`` look
at what is inside).

Four versions are different things and are named so: ``record_schema`` (this file), ``suite.version`` (the board),
``protocol`` (in a metric's id), and ``distribution_version`` (a package).
"""

from __future__ import annotations

import functools
import hashlib
import json
import operator
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from faithface.durable import write_whole
from faithface.errors import UsageError
from faithface.hashing import file_hash
from faithface.reasons import ReasonCode, Status
from faithface.run.paths import safe
from faithface.run.suite import Published

RECORD_SCHEMA = 2
RECORDS = "records"
BESIDE = r"^[^/\\\\:]*$"  # a file in the record's own folder
Family = Literal["", "faithful", "specific", "truth", "gate", "description", "cost"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SuiteRef(_Strict):
    """The board that a record belongs to."""

    name: str
    version: int
    description: str = ""
    published: tuple[Published, ...] = ()


class Origin(_Strict):
    """Where something came from: an address and a fingerprint.

    Attributes:
        distribution, distribution_version, entry_point: the package that provided it.
        repository: where its source is kept, as the package says; "" where it does not.
        path: its module's file within the package.
        revision: the commit that was installed; "" where the package does not say.
        fingerprint: of the code that can move its numbers (``hashing``).
    """

    distribution: str = ""
    distribution_version: str = ""
    entry_point: str = ""
    repository: str = ""
    path: str = ""
    revision: str = ""
    fingerprint: str = ""


class ExplainerRef(_Strict):
    """The explainer of a cell. ``spec``: as users write it; ``note``: what it chose on the way, such as a layer;
    ``needs``: what of the model it uses, sorted (empty in records that were written before it was kept).
    """

    spec: str
    name: str
    version: str
    parameters: dict[str, str]
    seeded: bool
    control: bool = False
    needs: tuple[str, ...] = ()
    source: str
    origin: Origin
    note: dict[str, Any] = {}


class ModelRef(_Strict):
    """The model of a cell, with its whole card. ``unmatched``: classes of the data that the card does not name."""

    name: str
    sha256: str
    task: str
    family: str
    run: int
    card: dict[str, Any]
    origin: Origin
    threshold: float | None
    clean_accuracy: float | None
    clean_n: int
    unmatched: tuple[str, ...] = ()
    twin_parity: float | None


class DatasetRef(_Strict):
    """The dataset of a cell: ``samples`` used of ``size``; paths in ``spec`` are cut to their last part.

    ``publishable``: its faces may be shown on published pages.
    ``samples_sha256``: of the ids, units and labels of the samples that were used (:func:`samples_digest`).
    """

    spec: str
    name: str
    revision: str
    parameters: dict[str, str]
    size: int
    samples: int
    samples_sha256: str = ""
    limit: int | None
    seed: int
    licence: str
    publishable: bool = False
    source: str
    origin: Origin


class Where(_Strict):
    """Device, provider, rows per pass and passes side by side (measured unless named), versions and commit."""

    device: str
    device_name: str
    provider: str
    threads: int
    batch: int
    side_by_side: int = 1
    system: str
    versions: dict[str, str]
    commit: str


class Number(_Strict):
    """One named value of one protocol on one cell.

    Attributes:
        protocol: the metric's text with its parameters, such as ``deletion@1(grid=14)``.
        value_name: "" for the headline.
        number: the board's number; None where ``status`` is not ``ok`` or nothing could be scored.
        low, high: its 95 % interval; of a mean, consistent with the test that ranks.
        range, best: of the protocol; None is infinity, which JSON does not have.
        n: samples behind it; ``invalid``: samples without a value; ``flagged``: samples with a remark.
        flags: for how many samples each remark was made.
        bar: of a gate, the number from which it counts as passed.
        summary: ``mean``, or ``protocol`` where the protocol has a summary of its own.
        family, question: what kind of question the protocol asks (``Protocol.family``), and its text; "" in records
            that were written before they were kept.
        tolerance: how far a sample's value may be from that of a re-run (``Protocol.tolerance``); None: it is not
            expected to come out the same.
        parts: by parameter, where a plugin's object that is its value came from, such as a fill; absent from the file
            where there is none.
    """

    protocol: str
    id: str
    family: Family = ""
    question: str = ""
    value_name: str
    status: Status
    code: ReasonCode | None = None
    reason: str = ""
    number: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    invalid: int = 0
    flagged: int = 0
    flags: dict[str, int] = {}
    better: Literal["higher", "lower"]
    range: tuple[float | None, float | None]
    best: float | None
    which: str
    bar: float | None = None
    summary: Literal["mean", "protocol"]
    tolerance: float | None = None
    parameters: dict[str, str]
    source: str
    origin: Origin
    parts: dict[str, Origin] = Field(default={}, exclude_if=operator.not_)


class Record(_Strict):
    """One cell of a board.

    Attributes:
        trust: what a run says of itself. That somebody else saw the numbers again stands in attestations
            (``attest``), never in the record.
        values, curves: the names of the Parquet files beside it; "" without.
        digest: of everything else here (:func:`record_digest`).
        traceback: of a failed cell, with the last two parts of each path.
    """

    record_schema: Literal[2] = 2
    suite: SuiteRef
    model: ModelRef
    dataset: DatasetRef
    explainer: ExplainerRef
    where: Where
    status: Status
    code: ReasonCode | None = None
    reason: str = ""
    traceback: str = ""
    numbers: tuple[Number, ...]
    seconds_per_sample: float | None = None
    trust: Literal["self-reported"] = "self-reported"
    values: str = Field(default="", pattern=BESIDE)
    values_sha256: str = ""
    curves: str = Field(default="", pattern=BESIDE)
    curves_sha256: str = ""
    digest: str = ""

    @property
    def stem(self) -> Path:
        """Where the record lies among a board's records, without a suffix.

        A dataset that was opened on a path has its revision in the name: two folders may have the same last part.
        """
        dataset = self.dataset.spec + (f"-{self.dataset.revision[:8]}" if ":" in self.dataset.spec else "")
        return Path(safe(self.model.name)) / safe(dataset) / safe(self.explainer.spec)


VALUE_SCHEMA: dict[str, Any] = {
    "protocol": pl.String,
    "value_name": pl.String,
    "sample": pl.String,
    "value": pl.Float64,
    "reason": pl.String,
    "flag": pl.String,
    "units": pl.List(pl.String),
    "label": pl.String,
    "score": pl.Float64,
    "correct": pl.Boolean,
}
"""One row per protocol, named value and sample. ``value``: null with a ``reason``. Of the sample: ``units`` (people,
else images), ``label`` (``genuine``, ``impostor``, or the class; "" where unknown), ``score`` (the model's clean score)
and ``correct`` (whether the model is right; null where unknown)."""

CURVE_SCHEMA: dict[str, Any] = {
    "protocol": pl.String,
    "curve": pl.String,
    "sample": pl.String,
    "points": pl.List(pl.Float32),
}
"""One row per protocol, curve (``deletion``, ``insertion``, …) and sample: scores at equal steps from 0 to 1."""


@dataclass(frozen=True)
class Kept:
    """A record, its per-sample values (``VALUE_SCHEMA``), and its curves in memory or in a file.

    Attributes:
        folder: where the record lies; None: nowhere yet.
        made_curves: curves that are not on disk yet; see :func:`curves_of`.
    """

    record: Record
    values: pl.DataFrame
    folder: Path | None = None
    made_curves: pl.DataFrame | None = field(default=None, repr=False)


def curves_of(kept: Kept) -> pl.DataFrame:
    """Return a record's curves (``CURVE_SCHEMA``), read from its file where they are not in memory.

    Raises:
        UsageError: the file is missing, altered or no Parquet file of curves.
    """
    if kept.made_curves is not None:
        return kept.made_curves
    if not kept.record.curves or kept.folder is None:
        return pl.DataFrame(schema=CURVE_SCHEMA)
    return read_frame(kept.folder / kept.record.curves, kept.record.curves_sha256, CURVE_SCHEMA)


def samples_digest(rows: Sequence[tuple[str, Sequence[str], str]]) -> str:
    """Return the sha256 of the samples behind a record: their ids, units and labels, in the order of ids."""
    listed = sorted([name, sorted(units), label] for name, units, label in rows)
    return hashlib.sha256(canonical_json(listed)).hexdigest()


def canonical_json(value: Any) -> bytes:
    """Return JSON values as the bytes that digests are taken of: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def record_digest(record: Record) -> str:
    """Return the sha256 of what a record says, without its ``digest``."""
    return hashlib.sha256(canonical_json(record.model_dump(mode="json", exclude={"digest"}))).hexdigest()


def record_bytes(record: Record) -> bytes:
    """Return a record as its file holds it: one form for one content."""
    return (json.dumps(record.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n").encode("utf-8")


# --- on disk


def record_text(record: Record) -> str:
    """Return a record as its file holds it."""
    return json.dumps(record.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"


def write_records(kept: Sequence[Kept], folder: Path) -> list[Path]:
    """Write records below a folder; one that is there already for the same cell is replaced. Return the JSON paths.

    Raises:
        RunError: a file cannot be written.
    """
    paths = []
    for one in kept:
        stem = one.record.stem
        path = folder / stem.parent / f"{stem.name}.json"
        # No name of an explainer becomes a file name with "~", so the two never meet another record's.
        frames = {
            "values": (f"{stem.name}.parquet", one.values),
            "curves": (f"{stem.name}~curves.parquet", curves_of(one)),
        }
        named: dict[str, str] = {}
        for what, (name, frame) in frames.items():
            named |= {what: "", f"{what}_sha256": ""}
            if len(frame):
                fill = functools.partial(frame.write_parquet, compression="zstd", statistics=False)
                write_whole(path.parent / name, fill)
                named |= {what: name, f"{what}_sha256": file_hash(path.parent / name)}
        record = one.record.model_copy(update={**named, "digest": ""})
        record = record.model_copy(update={"digest": record_digest(record)})
        content = record_bytes(record)
        write_whole(path, lambda file, content=content: file.write(content))  # type: ignore[misc]
        for name, frame in frames.values():
            if not len(frame):
                (path.parent / name).unlink(missing_ok=True)
        paths.append(path)
    return paths


def copy_record(source: Path, target: Path) -> None:
    """Copy a record, its values and curves: these first, so that a record that is there has them.

    Raises:
        UsageError: the record or its values were altered.
        RunError: a file cannot be written.
    """
    kept = read_record(source)
    curves_of(kept)
    for name in (kept.record.values, kept.record.curves):
        if name:
            content = (source.parent / name).read_bytes()
            write_whole(target.parent / name, lambda file, content=content: file.write(content))  # type: ignore[misc]
    text = source.read_bytes()
    write_whole(target, lambda file: file.write(text))


def record_paths(folder: Path) -> list[Path]:
    """Return the JSON files of the records below a folder, in the order of their paths."""
    return sorted(folder.rglob("*.json"), key=lambda p: p.relative_to(folder).as_posix())


def read_records(folder: Path) -> list[Kept]:
    """Read all records below a folder, in the order of their paths.

    Raises:
        UsageError: there are none, one is not a record of this schema, its values were altered, or two are of one
            cell.
    """
    paths = record_paths(folder)
    if not paths:
        raise UsageError(f"{folder} holds no records; expected the folder that `faithface leaderboard build` wrote")
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing and Parquet leave the interpreter to others
        kept = list(pool.map(read_record, paths))
    for first, second in same_cell(paths, [one.record for one in kept]):
        raise UsageError(f"{first} and {second} are records of the same model, dataset and explainer; remove one")
    return kept


def same_cell(paths: Sequence[Path], records: Sequence[Record]) -> Iterator[tuple[Path, Path]]:
    """Yield the files of two records that are of the same cell: a model file, a dataset revision, an explainer."""
    seen: dict[tuple[object, ...], Path] = {}
    for path, record in zip(paths, records, strict=True):
        model, data = record.model, record.dataset
        suite, setting = record.suite, (data.spec, data.revision, data.limit, data.seed)
        cell = (suite.name, suite.version, model.name, model.sha256, *setting, record.explainer.spec)
        if cell in seen:
            yield seen[cell], path
        seen.setdefault(cell, path)


def read_record(path: Path) -> Kept:
    """Read one record and its values.

    Raises:
        UsageError: it is not a record of this schema, it was altered, or its values are missing or were altered.
    """
    try:
        record = Record.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])[:100] or "file"
        raise UsageError(f"{path} is not a record of schema {RECORD_SCHEMA}: {where}: {first['msg'][:200]}") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror})") from None
    if not record.values:
        return Kept(record, pl.DataFrame(schema=VALUE_SCHEMA), path.parent)
    return Kept(record, read_frame(path.parent / record.values, record.values_sha256, VALUE_SCHEMA), path.parent)


def read_frame(path: Path, sha256: str, schema: dict[str, Any]) -> pl.DataFrame:
    """Read a Parquet file that belongs to a record.

    Raises:
        UsageError: it is not in the record's folder, missing, not the file that the record was written with, no
            Parquet file, or has other columns than ``schema``.
    """
    try:
        content = path.read_bytes()
    except (OSError, ValueError):
        content = b""
    if hashlib.sha256(content).hexdigest() != sha256:
        raise UsageError(f"{path} is missing, or is not the file that its record was written with; restore both")
    try:
        frame = pl.read_parquet(content)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # polars and its Parquet reader raise what they like; a panic is no Exception
        raise UsageError(f"{path} is no readable Parquet file ({(str(error).splitlines() or [''])[0][:120]})") from None
    if dict(frame.schema) != schema:
        wrong = [name for name in {**schema, **frame.schema} if frame.schema.get(name) != schema.get(name)]
        raise UsageError(f"{path} has other columns than a record's: {', '.join(sorted(wrong))}")
    return frame
