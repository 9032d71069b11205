"""Two explainers of records on disk, compared protocol by protocol.

Place in the flow: behind ``faithface compare``. Reads records; calls ``compare``, ``render`` and ``verdicts``.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from faithface.boards.compare import Comparison, Verdict, compare
from faithface.boards.record import RECORDS, Kept, read_records
from faithface.boards.render import figure
from faithface.boards.verdicts import SIGNS, Audit, Standing, audit_for, fill_of, standing
from faithface.errors import UsageError, nearest


@dataclass(frozen=True)
class Compared:
    """One protocol on one model and dataset, for two explainers A and B.

    Attributes:
        better: the direction of the protocol.
        result: the paired comparison, A minus B.
        standing: what the metrics' audit lets the protocol do.
    """

    model: str
    dataset: str
    protocol: str
    better: str
    a: str
    b: str
    result: Comparison
    standing: Standing

    @property
    def winner(self) -> str:
        """The explainer that is significantly better; "" for neither, and where the protocol does not judge."""
        if not self.standing.judges or self.result.verdict not in (Verdict.HIGHER, Verdict.LOWER):
            return ""
        return self.a if (self.result.verdict is Verdict.HIGHER) == (self.better == "higher") else self.b

    def text(self, width: int = 80) -> str:
        """Return the comparison in a few lines of at most ``width`` columns."""
        r = self.result
        lines = [f"{self.model} on {self.dataset}: {self.protocol}, {self.better} is better"]
        lines.append(f"{self.a} {figure(r.mean_a)}, {self.b} {figure(r.mean_b)}; n = {r.n} samples of {r.units} people")
        if r.verdict is Verdict.TOO_FEW:
            lines.append("Too few samples or people in common: no difference is claimed.")
        else:
            lines.append(
                f"difference {figure(r.difference)}, 95 % interval [{figure(r.low)}, {figure(r.high)}], p = {r.p:.2g}"
            )
            if r.verdict is Verdict.NOT_SEPARATED:
                lines.append("The difference may be chance.")
            elif self.winner:
                lines.append(f"{self.winner} is significantly better.")
            else:
                lines.append("The numbers differ significantly. That says nothing of which explainer is better.")
            if r.verdict is Verdict.NOT_SEPARATED and r.n_needed is not None:
                lines.append(f"To separate a difference of this size takes about {r.n_needed} samples.")
        if self.standing.mark:
            lines.append(f"{SIGNS[self.standing.mark]} The metric: {self.standing.why}.")
        if r.most:
            shown = "; ".join(f"{d.sample} ({figure(d.a)} against {figure(d.b)})" for d in r.most)
            lines.append(f"They differ most on: {shown}")
        wrapped = [textwrap.wrap(line, width, subsequent_indent="    ", break_on_hyphens=False) for line in lines]
        return "\n".join(line for part in wrapped for line in part) + "\n"


def compare_records(a: str, b: str, first: Path, second: Path, metrics: Sequence[str] = ()) -> list[Compared]:
    """Compare explainer ``a`` of the records in ``first`` with ``b`` of those in ``second``.

    What a protocol allows to say follows from the audit of the metrics beside ``first``, and the one of faithface.

    Args:
        metrics: protocols as tables name them; none: all with a mean that both have.

    Raises:
        UsageError: no records, an unknown explainer or protocol, or nothing in common.
    """
    ours, theirs = _of(a, first), _of(b, second)
    audit = audit_for(first)
    found: list[Compared] = []
    for one in ours:
        for other in theirs:
            if _setting(one) == _setting(other):
                found += _columns(one, other, metrics, audit)
    if not found:
        known = sorted({number.protocol for kept in ours for number in kept.record.numbers})
        asked = f" {', '.join(metrics)}" if metrics else ""
        hint = f"; {nearest(metrics[0], known)}" if metrics else ""
        raise UsageError(f"{a} and {b} have no protocol{asked} in common on the same model and dataset{hint}")
    return found


def _of(explainer: str, folder: Path) -> list[Kept]:
    records = folder / RECORDS
    if not records.is_dir():
        raise UsageError(f"{folder} holds no folder '{RECORDS}'; give a finished run or a board")
    kept = read_records(records)
    found = [one for one in kept if one.record.explainer.spec == explainer]
    if not found:
        known = {one.record.explainer.spec for one in kept}
        raise UsageError(f'no explainer "{explainer}" in {folder}; {nearest(explainer, known)}')
    return found


def _setting(kept: Kept) -> tuple[object, ...]:
    """Return what must agree for values to be paired: the dataset and its revision, and the task."""
    data = kept.record.dataset
    return kept.record.model.task, kept.record.model.name, data.spec, data.revision, data.seed


def _columns(one: Kept, other: Kept, metrics: Sequence[str], audit: Audit) -> list[Compared]:
    theirs = {number.protocol for number in other.record.numbers if number.value_name == ""}
    found = []
    for number in one.record.numbers:
        wanted = number.protocol in metrics if metrics else number.summary == "mean"
        if number.value_name or not wanted or number.protocol not in theirs:
            continue
        values_a, units = _values(one, number.protocol)
        values_b, more = _values(other, number.protocol)
        if values_a and values_b:
            model, data = one.record.model.name, one.record.dataset.spec
            result = compare(values_a, values_b, units | more)
            titles = one.record.explainer.spec, other.record.explainer.spec
            known = standing(number.protocol, number.family, audit, fill_of(number.parameters, number.which))
            found.append(Compared(model, data, number.protocol, number.better, *titles, result, known))
    return found


def _values(kept: Kept, protocol: str) -> tuple[dict[str, float], dict[str, Sequence[str]]]:
    values: dict[str, float] = {}
    units: dict[str, Sequence[str]] = {}
    found = kept.values.filter(
        (pl.col("protocol") == protocol) & (pl.col("value_name") == "") & pl.col("value").is_not_null()
    )
    for sample, value, people in found.select("sample", "value", "units").iter_rows():
        values[sample], units[sample] = value, people
    return values, units
