"""The per-sample data of a board as one data set for others: values, curves and records, and what they are.

Place in the flow: ``faithface leaderboard export`` calls :func:`export_board`. Calls ``record`` and ``durable``.

    values.parquet     one row per model, dataset, explainer, protocol, named value and sample
    curves.parquet     one row per model, dataset, explainer, protocol, curve and sample
    records.parquet    one row per record: versions, digests, licences
    croissant.json     the columns for machines (MLCommons Croissant 1.0)
    README.md          the datasheet for people
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from faithface.boards.escaping import markdown
from faithface.boards.record import CURVE_SCHEMA, VALUE_SCHEMA, Kept, Record, curves_of
from faithface.durable import cannot_write, write_whole
from faithface.errors import UsageError
from faithface.hashing import file_hash

CELL = {
    "suite": "Board, with its version: `demo v1`.",
    "model": "Name of the model.",
    "task": "`verification`, `pad` or `synthetic-detection`.",
    "dataset": "Dataset with its parameters.",
    "explainer": "Explainer with its parameters.",
}
COLUMNS: dict[str, dict[str, str]] = {
    "values": {
        **CELL,
        "control": "Whether the explainer is a control (`random`, `oracle`, …) rather than a method.",
        "protocol": "Protocol with version and parameters: `gap@1(grid=14)`.",
        "family": "What kind of question the protocol asks: faithful, specific, truth, gate, description, cost.",
        "better": "`higher` or `lower`.",
        "value_name": "Named value; empty for the headline.",
        "sample": "Id of the sample in its dataset.",
        "value": "The value; null where there is none.",
        "reason": "Why there is no value; empty where there is one.",
        "flag": "Remark on a value that is there, such as a constant map; empty for none.",
        "units": "The people in the sample, or its images where people are not known; what makes samples dependent.",
        "label": "`genuine`, `impostor`, or the class; empty where not known.",
        "score": "The model's score on the unaltered sample.",
        "correct": "Whether the model is right; null where not known.",
    },
    "curves": {
        **CELL,
        "protocol": "As in values.",
        "curve": "Name of the curve: `deletion`, `insertion`.",
        "sample": "As in values.",
        "points": "Scores at equal steps of the share of pixels, 0 and 1 included.",
    },
    "records": {
        **CELL,
        "digest": "sha256 of the record.",
        "model_sha256": "sha256 of the model's files.",
        "model_licence": "Licence of the model.",
        "dataset_revision": "Revision of the dataset.",
        "dataset_licence": "Licence of the dataset.",
        "samples_sha256": "Digest of the samples' ids, people and labels.",
        "seed": "Seed of the run.",
        "device": "Where it ran.",
        "faithface": "Version of faithface.",
        "commit": "Commit of a source checkout; empty for an installed package.",
    },
}
"""The columns of each file, in order, with what they hold."""

TYPES = {
    "String": "sc:Text",
    "Float64": "sc:Float",
    "Float32": "sc:Float",
    "Boolean": "sc:Boolean",
    "Int64": "sc:Integer",
}


@dataclass(frozen=True)
class ExportedBoard:
    """What was written: the files by name, with their rows."""

    folder: Path
    rows: Mapping[str, int]


def export_board(kept: Sequence[Kept], out: Path) -> ExportedBoard:
    """Write the per-sample data of some records, with their description.

    Raises:
        UsageError: there is no value, or a record's curves were altered.
        RunError: ``out`` cannot be written.
    """
    frames = {
        "values": _joined((_values(one) for one in kept), VALUE_SCHEMA),
        "curves": _joined((_curves(one) for one in kept), CURVE_SCHEMA),
        "records": pl.DataFrame([_record(one.record) for one in kept]),
    }
    if not len(frames["values"]):
        raise UsageError("these records have no values to export")
    frames = {name: frame.select(list(COLUMNS[name])) for name, frame in frames.items() if len(frame)}
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(out, error) from None
    for name, frame in frames.items():
        write_whole(out / f"{name}.parquet", lambda file, frame=frame: frame.write_parquet(file, compression="zstd"))  # type: ignore[misc]
    texts = {
        "croissant.json": json.dumps(croissant(kept, frames, out), indent=1, ensure_ascii=False) + "\n",
        "README.md": datasheet(kept, frames),
    }
    for name, text in texts.items():
        write_whole(out / name, lambda file, text=text: file.write(text.encode("utf-8")))  # type: ignore[misc]
    return ExportedBoard(out, {f"{name}.parquet": len(frame) for name, frame in frames.items()})


def _cell(record: Record) -> dict[str, Any]:
    return {
        "suite": f"{record.suite.name} v{record.suite.version}",
        "model": record.model.name,
        "task": record.model.task,
        "dataset": record.dataset.spec,
        "explainer": record.explainer.spec,
    }


def _values(kept: Kept) -> pl.DataFrame:
    numbers = {(n.protocol, n.value_name): n for n in kept.record.numbers}
    known = pl.DataFrame(
        [(*key, n.family, n.better) for key, n in numbers.items()],
        schema={"protocol": pl.String, "value_name": pl.String, "family": pl.String, "better": pl.String},
        orient="row",
    )
    constants = {**_cell(kept.record), "control": kept.record.explainer.control}
    frame = kept.values.join(known, on=["protocol", "value_name"], how="left", maintain_order="left")
    return frame.with_columns(**{name: pl.lit(value) for name, value in constants.items()})


def _curves(kept: Kept) -> pl.DataFrame:
    return curves_of(kept).with_columns(**{name: pl.lit(value) for name, value in _cell(kept.record).items()})


def _joined(frames: Iterable[pl.DataFrame], schema: Mapping[str, Any]) -> pl.DataFrame:
    found = [frame for frame in frames if len(frame)]
    return pl.concat(found) if found else pl.DataFrame(schema=dict(schema))


def _record(record: Record) -> dict[str, Any]:
    return {
        **_cell(record),
        "digest": record.digest,
        "model_sha256": record.model.sha256,
        "model_licence": str(record.model.card.get("licence", "")),
        "dataset_revision": record.dataset.revision,
        "dataset_licence": record.dataset.licence,
        "samples_sha256": record.dataset.samples_sha256,
        "seed": record.dataset.seed,
        "device": record.where.device,
        "faithface": record.where.versions.get("faithface", ""),
        "commit": record.where.commit,
    }


def croissant(kept: Sequence[Kept], frames: Mapping[str, pl.DataFrame], out: Path) -> dict[str, Any]:
    """Return the description for machines: files with digests, and a record set with typed fields for each."""
    suites = sorted({f"{one.record.suite.name} v{one.record.suite.version}" for one in kept})
    licences = sorted({one.record.dataset.licence for one in kept if one.record.dataset.licence})
    return {
        "@context": {
            "@language": "en",
            "@vocab": "https://schema.org/",
            "sc": "https://schema.org/",
            "cr": "http://mlcommons.org/croissant/",
            "dct": "http://purl.org/dc/terms/",
            "conformsTo": "dct:conformsTo",
            "recordSet": "cr:recordSet",
            "field": "cr:field",
            "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
            "source": "cr:source",
            "extract": "cr:extract",
            "column": "cr:column",
            "fileObject": "cr:fileObject",
            "repeated": "cr:repeated",
        },
        "@type": "sc:Dataset",
        "name": f"faithface {', '.join(suites)}",
        "description": "Values of explainers of face models by versioned protocols, one per sample.",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "license": licences,
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": f"{name}.parquet",
                "name": f"{name}.parquet",
                "contentUrl": f"{name}.parquet",
                "encodingFormat": "application/vnd.apache.parquet",
                "sha256": file_hash(out / f"{name}.parquet"),
            }
            for name in frames
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": name,
                "name": name,
                "field": [_field(name, column, frame.schema[column]) for column in frame.columns],
            }
            for name, frame in frames.items()
        ],
    }


def _field(name: str, column: str, dtype: Any) -> dict[str, Any]:
    inner = dtype.inner if isinstance(dtype, pl.List) else dtype
    return {
        "@type": "cr:Field",
        "@id": f"{name}/{column}",
        "name": column,
        "description": COLUMNS[name][column],
        "dataType": TYPES[str(inner)],
        **({"repeated": True} if isinstance(dtype, pl.List) else {}),
        "source": {"fileObject": {"@id": f"{name}.parquet"}, "extract": {"column": column}},
    }


def datasheet(kept: Sequence[Kept], frames: Mapping[str, pl.DataFrame]) -> str:
    """Return the description for people: what it is, where it comes from, what it is for, and its columns."""
    records = [one.record for one in kept]
    suites = ", ".join(sorted({f"{r.suite.name} v{r.suite.version}" for r in records}))
    parts = [f"# Per-sample values of {markdown(suites)}"]
    parts.append(
        "Each row of `values.parquet` is one value of one explanation: an explainer's map of one sample, scored by one "
        "protocol. Metrics can be studied with it without running a network: their agreement, their noise, how many "
        "samples they need. It holds numbers, sample ids, and ids of people as the datasets give them; no image and no "
        "map."
    )
    counts = [(f"`{name}.parquet`", f"{len(frame):,}") for name, frame in frames.items()]
    parts.append(_table(("file", "rows"), counts))
    datasets = sorted({(r.dataset.spec, r.dataset.revision, r.dataset.licence, r.dataset.source) for r in records})
    parts += ["## Datasets", _table(("dataset", "revision", "licence", "source"), datasets)]
    models = sorted({(r.model.name, r.model.sha256, str(r.model.card.get("licence", ""))) for r in records})
    models = [(name, f"`{sha[:16]}…`", licence) for name, sha, licence in models]
    parts += ["## Models", _table(("model", "sha256", "licence"), models)]
    parts += [
        "## What to know before using it",
        "* Samples that share a person are dependent: resample `units`, not rows.\n"
        "* A value is comparable only within one protocol, with its version and parameters.\n"
        "* A null value has a reason; leaving such samples out changes the question.\n"
        "* Values were measured by whoever submitted the records; the board's `trust.csv` says what others ran again.",
    ]
    for name, frame in frames.items():
        rows = [(f"`{column}`", str(frame.schema[column]), COLUMNS[name][column]) for column in frame.columns]
        parts += [f"## Columns of `{name}.parquet`", _table(("column", "type", "what it holds"), rows)]
    return "\n\n".join(parts) + "\n"


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join("| " + " | ".join(markdown(cell) for cell in line) + " |" for line in lines)
