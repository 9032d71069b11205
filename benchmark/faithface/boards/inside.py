"""What must hold inside one record: its numbers follow from its values, its values from its curves and its protocols.

Place in the flow: ``validate`` calls :func:`validate_inside` for each record. A pure function of the record, its values
and its curves. Calls ``statistics``; asks for a metric only to compare bounds, and where a protocol has a summary of
its own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import polars as pl

from faithface.boards.findings import Check
from faithface.boards.record import Kept, Number, curves_of, samples_digest
from faithface.boards.statistics import interval
from faithface.card import ModelCard
from faithface.contract import Metric, judged_by
from faithface.errors import FaithfaceError
from faithface.reasons import Status
from faithface.specs import parse_spec

Found = Iterator[tuple[Check, str]]
MetricOf = Callable[[str], Metric | None]
ROUNDING = 1e-8
"""Numbers of a record have nine figures."""
SLACK = 1e-6
"""What rounding may add to a value at an end of its range."""
CURVE_SLACK = 1e-3
"""How far the ends of a curve may be from the clean score: it is scored in another batch."""
AREA_SLACK = 1e-5
"""Curves are kept in single precision, areas in double."""
CURVES = re.compile(r"(gap|deletion|insertion)(|-similarity|-dissimilarity)(|-score)@(\d+)")


def no_metric(_protocol: str) -> Metric | None:
    """Return no metric: nothing is installed to compare with."""
    return None


def validate_inside(kept: Kept, metric_of: MetricOf = no_metric) -> Found:
    """Yield what does not hold inside a record, as a check and one line.

    Args:
        metric_of: gives the metric of a protocol (``gap@1(grid=14)``), or None where it is not installed.
    """
    yield from _names(kept)
    yield from _rows(kept)
    yield from _samples(kept)
    groups = kept.values.partition_by("protocol", "value_name", as_dict=True)
    for number in kept.record.numbers:
        rows = groups.get((number.protocol, number.value_name), kept.values.clear())
        yield from _number(kept, number, rows, metric_of)
    yield from _gaps(kept)
    yield from _curves(kept)


def _names(kept: Kept) -> Found:
    """The texts that name things say what their fields say."""
    record = kept.record
    for what, spec, name, given in [
        ("explainer", record.explainer.spec, record.explainer.name, record.explainer.parameters),
        *(("protocol", n.protocol, n.id, n.parameters) for n in record.numbers),
    ]:
        try:
            parsed = parse_spec(spec)
        except FaithfaceError as error:
            yield Check.NAMES, f"{what} {spec!r} is no name with parameters ({error})"
            continue
        if parsed.name != name.partition(":")[0]:
            yield Check.NAMES, f"{what} {spec} is said to be {name}"
        for key, value in parsed.params:
            if key in given and not _same_parameter(given[key], value):
                yield Check.NAMES, f"{what} {spec} is said to have {key}={given[key]}"
    listed = [(n.protocol, n.value_name) for n in record.numbers]
    for protocol, name in sorted({one for one in listed if listed.count(one) > 1}):
        yield Check.NAMES, f"{_title(protocol, name)} stands there twice"
    card = record.model.card
    if card and card.get("name") != record.model.name:
        yield Check.NAMES, f"the card is of model {card.get('name')!r}, the record of {record.model.name!r}"
    stated = card.get("sha256")
    if stated and stated != record.model.sha256:
        yield Check.NAMES, f"the model's sha256 is {record.model.sha256[:12]}…, its card says {stated[:12]}…"


def _same_parameter(one: str, other: str) -> bool:
    try:
        return float(one) == float(other)
    except ValueError:
        return one.strip("\"'").lower() == other.strip("\"'").lower()


def _rows(kept: Kept) -> Found:
    """Every row belongs to a number that is there, once, and is a number or has a reason."""
    values = kept.values
    listed = {(n.protocol, n.value_name) for n in kept.record.numbers if n.status is Status.OK}
    held = set(values.select("protocol", "value_name").unique().iter_rows())
    for protocol, name in sorted(held - listed):
        yield Check.ROWS, f"values of {_title(protocol, name)} belong to no number of the record"
    twice = values.group_by("protocol", "value_name", "sample").len().filter(pl.col("len") > 1)
    if len(twice):
        protocol, name, sample, _count = twice.sort("protocol", "value_name", "sample").row(0)
        yield Check.ROWS, f"{_title(protocol, name)} has sample {sample!r} twice ({len(twice)} such rows)"
    if len(wrong := values.filter(pl.col("value").is_nan() | pl.col("value").is_infinite())):
        yield Check.ROWS, f"{len(wrong)} values are not finite; a value that is not there is null, with a reason"
    silent = values.filter(pl.col("value").is_null() & (pl.col("reason").fill_null("") == ""))
    if len(silent):
        yield Check.ROWS, f"{len(silent)} missing values have no reason"


def _samples(kept: Kept) -> Found:
    """The samples are as many as the record says, and where all are there, they are those that it says."""
    data, model = kept.record.dataset, kept.record.model
    columns = ("sample", "units", "label", "score", "correct")
    facts = kept.values.select(columns).unique()
    count = facts["sample"].n_unique()
    if len(facts) != count:
        yield Check.SAMPLES, "two rows of one sample say different things of its person, label or clean score"
        return
    if count > data.samples or data.samples > data.size:
        yield Check.SAMPLES, f"there are values of {count} samples, of {data.samples} that were used, of {data.size}"
    if count != data.samples or not count:
        return
    listed = [(sample, units, label) for sample, units, label, _score, _correct in facts.iter_rows()]
    if samples_digest(listed) != data.samples_sha256:
        yield Check.SAMPLES, "the samples are not those that the record names"
    judged = facts["correct"].drop_nulls()
    accuracy = float(judged.to_numpy().mean()) if len(judged) else None
    if len(judged) != model.clean_n or not _near(accuracy, model.clean_accuracy, ROUNDING):
        yield Check.SAMPLES, f"the clean accuracy is {accuracy} of {len(judged)}; it says {model.clean_accuracy}"


def _number(kept: Kept, number: Number, rows: pl.DataFrame, metric_of: MetricOf) -> Found:
    """Check one number against its rows and its protocol."""
    title = _title(number.protocol, number.value_name)
    if (number.status is Status.OK) and kept.record.status is not Status.OK:
        yield Check.STATUS, f"{title} is ok in a record that is {kept.record.status}"
    if number.status is not Status.OK:
        if number.number is not None or number.n or len(rows):
            yield Check.STATUS, f"{title} is {number.status} and has a number or values"
        elif not number.reason:
            yield Check.STATUS, f"{title} is {number.status} without a reason"
        return
    values = rows["value"].drop_nulls().to_numpy()
    values = values[np.isfinite(values)]
    flagged = int((rows["flag"].fill_null("") != "").sum())
    said = (number.n, number.invalid, number.flagged)
    if said != (counted := (len(values), len(rows) - len(values), flagged)):
        yield Check.COUNT, f"{title} has n, invalid, flagged {counted}; it says {said}"
    # Of classifiers, which have no pairs, ``genuine`` means all samples (see Samples.where).
    pairs = kept.record.model.task == "verification"
    if pairs and number.which in ("genuine", "impostor") and set(rows["label"].unique()) - {number.which}:
        yield Check.SAMPLES, f"{title} is judged on {number.which} pairs and has values of others"
    metric = metric_of(number.protocol)
    if metric is not None:
        yield from _bounds(kept, number, metric)
    low, high = number.range
    low, high = -math.inf if low is None else low, math.inf if high is None else high
    if number.value_name == "" and len(values):
        outside = values[(values < low - SLACK) | (values > high + SLACK)]
        if len(outside):
            yield Check.RANGE, f"{title} has values outside {low:g} to {high:g}, such as {outside[0]:.6g}"
    yield from _summary(kept, number, rows, metric)


def _summary(kept: Kept, number: Number, rows: pl.DataFrame, metric: Metric | None) -> Found:
    title = _title(number.protocol, number.value_name)
    scored = rows.filter(pl.col("value").is_not_null() & pl.col("value").is_finite())
    values = scored["value"].to_numpy()
    own = number.summary == "protocol"
    if own and metric is None:
        return  # how it sums up is known to the protocol alone
    summarise = (lambda v: metric.summarise(v, number.value_name)) if own and metric is not None else None
    if not len(values):
        if (number.number, number.low, number.high) != (None, None, None):
            yield Check.MEAN, f"{title} has a number and no value"
        return
    found = float(summarise(values) if summarise else values.mean())
    if not _near(found, number.number, ROUNDING):
        what = "summary" if own else "mean"
        yield Check.MEAN, f"{title}: the {what} of its {len(values)} values is {found:.9g}; it says {number.number}"
    spread = interval(values, scored["units"].to_list(), summarise, kept.record.dataset.seed)
    if not (_near(spread.low, number.low, 1e-6) and _near(spread.high, number.high, 1e-6)):
        said = f"[{number.low}, {number.high}]"
        yield Check.INTERVAL, f"{title}: the interval is [{spread.low:.9g}, {spread.high:.9g}]; it says {said}"


def _bounds(kept: Kept, number: Number, metric: Metric) -> Found:
    """Compare what a number says of its protocol with the protocol as it is installed."""
    try:
        card = ModelCard.model_validate(kept.record.model.card)
    except ValueError:
        card = None
    protocol = metric.protocol
    low, high = metric.range_on(card)
    expected = {
        "better": protocol.direction(number.value_name),
        "range": (_finite(low), _finite(high)),
        "best": _finite(metric.best_on(card)),
        "judged on": judged_by(metric.judged_on, kept.record.model.task),
        "family": protocol.family,
        "tolerance": _finite(metric.tolerance),
        "summary": "mean" if type(metric).summarise is Metric.summarise else "protocol",
    }
    said = {
        "better": number.better,
        "range": number.range,
        "best": number.best,
        "judged on": number.which,
        "family": number.family,
        "tolerance": number.tolerance,
        "summary": number.summary,
    }
    for what, value in expected.items():
        if said[what] != value:
            title = _title(number.protocol, number.value_name)
            yield Check.BOUNDS, f"{title}: {what} is {said[what]}; the protocol says {value}"


def _gaps(kept: Kept) -> Found:
    """A gap is the difference of the areas of insertion and deletion that stand beside it."""
    by = {n.protocol: n for n in kept.record.numbers if n.value_name == "" and n.status is Status.OK}
    values = _headlines(kept)
    for protocol in by:
        if not protocol.startswith("gap") or not CURVES.match(protocol):
            continue
        deletion, insertion = (protocol.replace("gap", what, 1) for what in ("deletion", "insertion"))
        if deletion not in by or insertion not in by:
            continue
        sign = 1 if by[insertion].better == "higher" else -1
        for sample, value in values[protocol].items():
            parts = values[insertion].get(sample), values[deletion].get(sample)
            if parts[0] is None or parts[1] is None or abs(value - sign * (parts[0] - parts[1])) > SLACK:
                yield Check.RELATION, f"{protocol} on {sample!r} is not the difference of {insertion} and {deletion}"
                break


def _curves(kept: Kept) -> Found:
    """Curves of deletion and insertion begin and end where they must, and their area is the value."""
    curves = curves_of(kept)
    known = {n.protocol for n in kept.record.numbers if n.status is Status.OK}
    if stray := sorted(set(curves["protocol"].unique()) - known):
        yield Check.CURVE, f"curves of {', '.join(stray)} belong to no number of the record"
    rows = kept.values.select("sample", "score", "correct").unique()
    facts = {sample: (score, correct) for sample, score, correct in rows.iter_rows()}
    values = _headlines(kept)
    for protocol in sorted(known):
        match = CURVES.match(protocol)
        mine = curves.filter(pl.col("protocol") == protocol)
        if match is None or not len(mine):
            continue
        found = {(name, sample): np.array(points) for _p, name, sample, points in mine.iter_rows()}
        decision = bool(match[2]) and not match[3]
        sign = _sign(kept, protocol)
        for sample, value in values.get(protocol, {}).items():
            pair = {name: found[name, sample] for name in ("deletion", "insertion") if (name, sample) in found}
            if problem := _curve(pair, value, facts[sample], decision, sign):
                yield Check.CURVE, f"{protocol} on {sample!r}: {problem}"
                break


def _sign(kept: Kept, protocol: str) -> int:
    """Return −1 where the gap is deletion − insertion: on the similarity of impostor pairs."""
    return -1 if re.match(r"gap-dissimilarity-score@", protocol) else 1


def _curve(
    curves: Mapping[str, np.ndarray], value: float, facts: tuple[float | None, bool | None], decision: bool, sign: int
) -> str:
    """Return what is wrong with a sample's curves; "" for nothing."""
    score, correct = facts
    clean = (None if correct is None else float(correct)) if decision else score
    ends = {"deletion": 0, "insertion": -1}
    for name, points in curves.items():
        if clean is not None and len(points) and abs(points[ends[name]] - clean) > CURVE_SLACK:
            where = "nothing is deleted" if name == "deletion" else "everything is inserted"
            return f"{name} is {points[ends[name]]:.6g} where {where}; the clean score is {clean:.6g}"
    areas = {name: float(np.trapezoid(points, dx=1 / (len(points) - 1))) for name, points in curves.items()}
    area = sign * (areas["insertion"] - areas["deletion"]) if len(areas) == 2 else next(iter(areas.values()), value)
    if abs(area - value) > AREA_SLACK:
        return f"the area under its curves is {area:.6g}; the value is {value:.6g}"
    return ""


def _headlines(kept: Kept) -> dict[str, dict[str, float]]:
    """Return by protocol the headline values that are there, by sample."""
    found: dict[str, dict[str, float]] = {}
    rows = kept.values.filter((pl.col("value_name") == "") & pl.col("value").is_not_null())
    for protocol, sample, value in rows.select("protocol", "sample", "value").iter_rows():
        found.setdefault(protocol, {})[sample] = value
    return found


def _title(protocol: str, value_name: str) -> str:
    return f"{protocol}:{value_name}" if value_name else protocol


def _finite(value: float) -> float | None:
    return float(f"{value:.9g}") if math.isfinite(value) else None


def _near(found: float | None, said: float | None, slack: float) -> bool:
    """Say whether a number is what a record says, to relative ``slack``; None and NaN are no number."""
    if found is None or not math.isfinite(found):
        return said is None
    return said is not None and abs(found - said) <= slack * max(1.0, abs(found))
