"""One record per cell: everything that is needed to read, doubt and re-run its numbers.

Place in the flow: ``collect`` makes records of a finished run; :func:`write_records` puts one JSON and one Parquet file
of per-sample values for each on disk; :func:`read_records` reads them back for ``publish``.

Four versions are different things and are named so: ``record_schema`` (this file), ``suite.version`` (the board),
``protocol`` (in a metric's id), and ``distribution_version`` (a package).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, ValidationError

from faithface.durable import write_whole
from faithface.errors import UsageError
from faithface.hashing import file_hash
from faithface.reasons import ReasonCode, Status
from faithface.run.paths import safe
from faithface.run.suite import Published

RECORD_SCHEMA = 1
RECORDS = "records"
Trust = Literal["self-reported", "re-run", "independent"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SuiteRef(_Strict):
    """The board that a record belongs to."""

    name: str
    version: int
    description: str = ""
    published: tuple[Published, ...] = ()


class Origin(_Strict):
    """Which package something came from. ``fingerprint``: of the code that can move its numbers (``hashing``)."""

    distribution: str = ""
    distribution_version: str = ""
    entry_point: str = ""
    fingerprint: str = ""


class ExplainerRef(_Strict):
    """The explainer of a cell. ``spec``: as users write it; ``note``: what it chose on the way, such as a layer."""

    spec: str
    name: str
    version: str
    parameters: dict[str, str]
    seeded: bool
    control: bool = False
    source: str
    origin: Origin
    note: dict[str, Any] = {}


class ModelRef(_Strict):
    """The model of a cell, with its whole card."""

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
    twin_parity: float | None


class DatasetRef(_Strict):
    """The dataset of a cell: ``samples`` used of ``size``; paths in ``spec`` are cut to their last part."""

    spec: str
    name: str
    revision: str
    parameters: dict[str, str]
    size: int
    samples: int
    limit: int | None
    seed: int
    licence: str
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
        family: what kind of question the protocol asks; "" in records from before it was kept.
        bar: of a gate, the number from which it counts as passed.
        summary: ``mean``, or ``protocol`` where the protocol has a summary of its own.
    """

    protocol: str
    id: str
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
    better: Literal["higher", "lower"]
    range: tuple[float | None, float | None]
    best: float | None
    which: str
    family: str = ""
    bar: float | None = None
    summary: Literal["mean", "protocol"]
    parameters: dict[str, str]
    source: str
    origin: Origin


class Record(_Strict):
    """One cell of a board."""

    record_schema: Literal[1] = 1
    suite: SuiteRef
    model: ModelRef
    dataset: DatasetRef
    explainer: ExplainerRef
    where: Where
    status: Status
    code: ReasonCode | None = None
    reason: str = ""
    numbers: tuple[Number, ...]
    seconds_per_sample: float | None = None
    trust: Trust = "self-reported"
    values: str = ""
    values_sha256: str = ""

    @property
    def stem(self) -> Path:
        """Where the record lies among a board's records, without a suffix.

        A dataset that was opened on a path has its revision in the name: two folders may have the same last part.
        """
        dataset = self.dataset.spec + (f"-{self.dataset.revision[:8]}" if ":" in self.dataset.spec else "")
        return Path(safe(self.model.name)) / safe(dataset) / safe(self.explainer.spec)


@dataclass(frozen=True)
class Kept:
    """A record and its per-sample values: columns ``protocol, value_name, sample, value, reason, flag, units``."""

    record: Record
    values: pl.DataFrame


VALUE_SCHEMA: dict[str, Any] = {
    "protocol": pl.String,
    "value_name": pl.String,
    "sample": pl.String,
    "value": pl.Float64,
    "reason": pl.String,
    "flag": pl.String,
    "units": pl.List(pl.String),
}


# --- on disk


def write_records(kept: Sequence[Kept], folder: Path) -> list[Path]:
    """Write records below a folder; one that is there already for the same cell is replaced. Return the JSON paths.

    Raises:
        RunError: a file cannot be written.
    """
    paths = []
    for one in kept:
        path = folder / one.record.stem.parent / f"{one.record.stem.name}.json"
        values = path.with_suffix(".parquet") if one.record.stem.suffix == "" else path.parent / f"{path.stem}.parquet"
        record = one.record.model_copy(update={"values": "", "values_sha256": ""})
        if len(one.values):
            write_whole(values, lambda f, t=one.values: t.write_parquet(f, compression="zstd", statistics=False))  # type: ignore[misc]
            record = record.model_copy(update={"values": values.name, "values_sha256": file_hash(values)})
        text = json.dumps(record.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"
        write_whole(path, lambda f, t=text: f.write(t.encode("utf-8")))  # type: ignore[misc]
        if not len(one.values):
            values.unlink(missing_ok=True)
        paths.append(path)
    return paths


def copy_record(source: Path, target: Path) -> None:
    """Copy a record and its values: the values first, so that a record that is there has them.

    Raises:
        UsageError: the record or its values were altered.
        RunError: a file cannot be written.
    """
    record = read_record(source).record
    if record.values:
        content = (source.parent / record.values).read_bytes()
        write_whole(target.parent / record.values, lambda file: file.write(content))
    text = source.read_bytes()
    write_whole(target, lambda file: file.write(text))


def read_records(folder: Path) -> list[Kept]:
    """Read all records below a folder, in the order of their paths.

    Raises:
        UsageError: there are none, one is not a record of this schema, or its values were altered.
    """
    paths = sorted(folder.rglob("*.json"), key=lambda p: p.relative_to(folder).as_posix())
    if not paths:
        raise UsageError(f"{folder} holds no records; expected the folder that `faithface leaderboard build` wrote")
    return [read_record(path) for path in paths]


def read_record(path: Path) -> Kept:
    """Read one record and its values.

    Raises:
        UsageError: it is not a record of this schema, or its values are missing or were altered.
    """
    try:
        record = Record.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "file"
        raise UsageError(f"{path} is not a record of schema {RECORD_SCHEMA}: {where}: {first['msg']}") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror})") from None
    if not record.values:
        return Kept(record, pl.DataFrame(schema=VALUE_SCHEMA))
    values = path.parent / record.values
    if not values.is_file() or hashlib.sha256(values.read_bytes()).hexdigest() != record.values_sha256:
        raise UsageError(f"{values} is missing, or is not the file that {path.name} was written with; restore both")
    return Kept(record, pl.read_parquet(values))
