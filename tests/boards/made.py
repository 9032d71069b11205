"""Boards made of given values, without a run.

Place in the flow: used by tests and by the benchmark of boards' speed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from faithface.boards.record import (
    VALUE_SCHEMA,
    DatasetRef,
    ExplainerRef,
    Kept,
    ModelRef,
    Number,
    Origin,
    Record,
    SuiteRef,
    Where,
    record_digest,
    samples_digest,
)
from faithface.boards.statistics import Interval, interval
from faithface.reasons import Status
from faithface.specs import parse_spec

ORIGIN = Origin(distribution="extras", distribution_version="1", entry_point="extras", fingerprint="f" * 64)


def made_board(
    values: Mapping[tuple[str, str], np.ndarray],
    controls: set[str] | None = None,
    family: Callable[[str], Any] = lambda _protocol: "faithful",
    units: Sequence[Sequence[str]] | None = None,
    model: str = "net",
    suite: tuple[str, int] = ("made", 1),
    labels: Sequence[str] | None = None,
    correct: Sequence[bool | None] | None = None,
    sha256: str = "0" * 64,
    intervals: bool = True,
) -> list[Kept]:
    """Return the records of a table of one model and dataset.

    Args:
        values: by explainer and protocol, one value per sample; NaN is none.
        controls: which explainers are controls.
        family: of a protocol.
        units: the people of each sample; None: each sample its own.
        intervals: whether numbers have their intervals.
    """
    names = list(dict.fromkeys(name for name, _protocol in values))
    count = len(next(iter(values.values())))
    people = [list(one) for one in units] if units is not None else [[f"u{i:04d}"] for i in range(count)]
    samples = [f"s{i:04d}" for i in range(count)]
    label = list(labels) if labels is not None else ["attack"] * count
    right = list(correct) if correct is not None else [True] * count
    judged = [one for one in right if one is not None]
    dataset = DatasetRef(
        spec="made-faces", name="made-faces", revision="1", parameters={}, size=count, samples=count, limit=None,
        samples_sha256=samples_digest(list(zip(samples, people, label, strict=True))), seed=0, licence="CC0-1.0",
        source="made", origin=ORIGIN,
    )  # fmt: skip
    task = "verification" if "genuine" in label or "impostor" in label else "pad"
    network = ModelRef(
        name=model, sha256=sha256, task=task, family=model, run=0, card={}, origin=ORIGIN, threshold=None,
        clean_accuracy=float(np.mean(judged)) if judged else None, clean_n=len(judged), twin_parity=None,
    )  # fmt: skip
    where = Where(
        device="cpu", device_name="x86_64", provider="CPUExecutionProvider", threads=1, batch=1, system="Linux",
        versions={"faithface": "0.1.0"}, commit="",
    )  # fmt: skip
    kept = []
    for name in names:
        numbers, frames = [], []
        for protocol in [protocol for one, protocol in values if one == name]:
            column = np.asarray(values[name, protocol], dtype=np.float64)
            found = np.isfinite(column)
            spread = Interval(float("nan"), float("nan"))
            if intervals:
                spread = interval(column[found], [people[i] for i in np.flatnonzero(found)])
            numbers.append(
                Number(
                    protocol=protocol, id=protocol.partition("(")[0], value_name="", status=Status.OK,
                    number=rounded(column[found].mean() if found.any() else np.nan),
                    low=rounded(spread.low), high=rounded(spread.high),
                    n=int(found.sum()), invalid=int((~found).sum()), better="higher", range=(None, None), best=None,
                    which="all", summary="mean", family=family(protocol), tolerance=1e-3,
                    parameters=dict(parse_spec(protocol).params), source="made", origin=ORIGIN,
                )
            )  # fmt: skip
            frames.append(
                pl.DataFrame(
                    {
                        "protocol": [protocol] * count,
                        "value_name": [""] * count,
                        "sample": samples,
                        "value": [float(v) if np.isfinite(v) else None for v in column],
                        "reason": ["" if np.isfinite(v) else "undefined" for v in column],
                        "flag": [""] * count,
                        "units": people,
                        "label": label,
                        "score": [0.5] * count,
                        "correct": right,
                    },
                    schema=VALUE_SCHEMA,
                )
            )
        explainer = ExplainerRef(
            spec=name, name=name, version="1", parameters={}, seeded=False, control=name in (controls or set()),
            source="Made & Known 2020, arXiv:2001.00001", origin=ORIGIN,
        )  # fmt: skip
        record = Record(
            suite=SuiteRef(name=suite[0], version=suite[1]), model=network, dataset=dataset, explainer=explainer,
            where=where, status=Status.OK, numbers=tuple(numbers),
        )  # fmt: skip
        record = record.model_copy(update={"digest": record_digest(record)})
        kept.append(Kept(record, pl.concat(frames)))
    return kept


def rounded(value: float) -> float | None:
    return float(f"{value:.9g}") if np.isfinite(value) else None
