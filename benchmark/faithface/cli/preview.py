"""What a run will do, said before it starts: what applies, how many samples each protocol is judged on, what it takes.

Place in the flow: ``run`` beside it prints these lines before a run and for ``--dry-run``. May call ``run.plan``,
``run.not_applicable``, ``run.forecast`` and the contract; opens no network.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from faithface.boards.statistics.means import MIN_SAMPLES
from faithface.contract import Metric, Pair, judged_by
from faithface.run.forecast import EXPLAIN, Forecast, Work
from faithface.run.not_applicable import Entry, fold
from faithface.run.plan import Group, Plan
from faithface.run.status import span

if TYPE_CHECKING:
    from faithface.run.executors import Executor

VALUE_BYTES = 160
"""What one value takes in a run's store, with its keys and index."""
MANY_PASSES = 100
ROOM = 2.0
"""How many times the estimate should be free before nothing is said."""


def overview(plan: Plan, directory: Path) -> Iterator[str]:
    """Yield what a plan will do, line by line."""
    cells = [cell for _group, cell in plan.cells if cell.reason is None]
    explainers = {cell.explainer.spec for cell in cells}
    metrics = {text for cell in cells for text in cell.metrics}
    for group in plan.groups:
        yield f"{group.title}: {kinds(group)}"
    yield f"{number(len(explainers), 'explainer')}, {number(len(metrics), 'protocol')}, {number(len(cells), 'cell')}"
    yield from unmatched(plan)
    yield from few(plan)
    yield from (f"not applicable: {line}" for line in fold(entries(plan)))
    yield from disk(plan, directory)


def number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def kinds(group: Group) -> str:
    """Return how many samples of which kind a group has.

    Examples: ``64 pairs (32 genuine, 32 impostor)``, ``20 images (10 attack, 10 bona-fide)``.
    """
    items = group.dataset.object.items()
    chosen = [items[position] for position in group.positions]
    if not chosen:
        return "its samples could not be listed"
    counts: dict[str, int] = {}
    for item in chosen:
        kind = ("genuine" if item.same else "impostor") if isinstance(item, Pair) else (item.label or "without a label")
        counts[kind] = counts.get(kind, 0) + 1
    what = "pair" if chosen and isinstance(chosen[0], Pair) else "image"
    return f"{number(len(chosen), what)} ({', '.join(f'{counts[kind]} {kind}' for kind in sorted(counts))})"


def unmatched(plan: Plan) -> Iterator[str]:
    """Yield the classes of images that a card does not name, so that it cannot be known whether the model is right."""
    for group in plan.groups:
        out, dataset = group.model.object.output, group.dataset.object
        if dataset.positive and out.positive and len(out.classes) == 2:
            continue  # known by which class is positive
        items = dataset.items()
        labels = {label for p in group.positions if (label := getattr(items[p], "label", None)) is not None}
        if other := sorted(labels - set(out.classes)):
            yield (
                f"warning: {group.title}: classes {', '.join(other)} of the data are not those of the card "
                f"({', '.join(out.classes)}), so the accuracy stays unknown; name them alike"
            )


def judged(group: Group, metric: Metric) -> tuple[int, str]:
    """Return how many samples of a group a protocol is judged on, and what they are called."""
    items = group.dataset.object.items()
    which = judged_by(metric.judged_on, group.model.object.task)
    chosen = [items[position] for position in group.positions]
    pairs = [item for item in chosen if isinstance(item, Pair)]
    if pairs and which in ("genuine", "impostor"):
        return sum(item.same is (which == "genuine") for item in pairs), f"{which} pair"
    positive = group.dataset.object.positive
    if pairs or which not in ("positive", "negative") or not positive:  # of no known positive class, all are judged
        return len(chosen), "pair" if pairs else "image"
    labels = [None if isinstance(item, Pair) else item.label for item in chosen]
    negative = [label not in (None, positive) for label in labels]
    return sum(one is (which == "negative") for one in negative), f"{which} image"


def judged_table(plan: Plan) -> list[dict[str, Any]]:
    """Return on how many samples each protocol is judged, as rows of a table."""
    rows = []
    for group in plan.groups:
        for text, metric in {text: m for cell in group.cells for text, m in cell.metrics.items()}.items():
            count, what = judged(group, metric.object)
            row = {"model": group.model.object.name, "dataset": group.dataset.spec, "protocol": text}
            rows.append({**row, "n": count, "judged on": f"{what}s"})
    return rows


def few(plan: Plan) -> Iterator[str]:
    """Yield what is too few to rank: a line for each kind of samples."""
    found: dict[tuple[str, int, str], list[str]] = {}
    for group in plan.groups:
        for text, metric in {text: m for cell in group.cells for text, m in cell.metrics.items()}.items():
            count, what = judged(group, metric.object)
            if count < MIN_SAMPLES:
                found.setdefault((group.title, count, what), []).append(text)
    for (title, count, what), metrics in found.items():
        named = ", ".join(metrics) if len(metrics) < 4 else f"{len(metrics)} protocols"
        yield f"{number(count, what)}: too few to rank, which takes {MIN_SAMPLES} ({title}: {named})"


def entries(plan: Plan) -> list[Entry]:
    """Return what is known not to apply before anything runs, each once: by metric, or by explainer."""
    found: list[Entry] = []
    cells = plan.cells
    for group in plan.groups:
        where = (group.model.object.name, group.dataset.spec)
        for metric in plan.metrics:
            applying = [cell for cell in group.cells if cell.reason is None]
            reasons = {cell.not_applicable.get(metric.spec) for cell in applying}
            if len(applying) > 1 and len(reasons) == 1 and (reason := reasons.pop()) is not None:
                nowhere = not any(metric.spec in cell.metrics for _group, cell in cells)
                found.append(Entry(*where, "", metric.spec, reason, nowhere))
                continue
            for cell in group.cells:
                own = cell.not_applicable.get(metric.spec)
                if own is not None and cell.reason is None:
                    found.append(Entry(*where, cell.explainer.spec, metric.spec, own))
        for cell in group.cells:
            if cell.reason is not None:
                nowhere = not any(c.explainer.spec == cell.explainer.spec and c.reason is None for _g, c in cells)
                found.append(Entry(*where, cell.explainer.spec, "", cell.reason, nowhere))
    return found


def disk(plan: Plan, directory: Path) -> Iterator[str]:
    """Yield how much room the run takes where that is more than half of what is free."""
    needed = bytes_of(plan)
    free = free_bytes(directory)
    line = f"disk: about {size(needed)} of {size(free)} free at {directory}"
    yield line if needed * ROOM < free else f"warning: {line}; give another --out"


def bytes_of(plan: Plan) -> int:
    """Return about how many bytes a run writes: values and curves, and maps where they are kept (uncompressed)."""
    total = 0
    for group in plan.groups:
        count = len(group.positions)
        height, width = group.model.object.input.size
        for cell in group.cells:
            if cell.reason is None:
                names = sum(len(m.object.protocol.values) for m in cell.metrics.values())
                total += count * names * VALUE_BYTES
                keep = plan.request.keep_maps or any("family" in m.object.protocol.needs for m in cell.metrics.values())
                total += count * keep * (4 if group.model.object.task == "verification" else 1) * height * width * 4
    return total


def free_bytes(directory: Path) -> int:
    """Return the bytes that are free where a folder is, or will be."""
    there = next(folder for folder in (directory.resolve(), *directory.resolve().parents) if folder.exists())
    return shutil.disk_usage(there).free


def size(count: float) -> str:
    """Return a number of bytes in words.

    Examples:
        >>> size(900), size(2.5e6), size(4e9)
        ('1 kB', '2.5 MB', '4 GB')
    """
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= factor:
            return f"{count / factor:.2g} {unit}" if count < 100 * factor else f"{count / factor:.0f} {unit}"
    return f"{max(1, round(count / 1e3))} kB"


# --- what it takes


def takes(forecast: Forecast, most: int = 4) -> str:
    """Return what a run takes in one line: the whole, and the explainers that take the most of it."""
    left = forecast.left
    if left is None:
        return "a time that is not known yet"
    rows = [row for row in by_explainer(forecast)[:most] if row[2] >= 1]
    named = ", ".join(f"{name} {span(seconds)}{passes_text(passes)}" for name, passes, seconds in rows)
    return f"about {span(left)}{f': {named}' if named else ''}"


def passes_text(passes: tuple[float, float] | None) -> str:
    """Return the passes of one explanation where there are many."""
    if passes is None or sum(passes) < MANY_PASSES:
        return ""
    return f" ({passes[0]:.0f} forward and {passes[1]:.0f} backward passes a sample)"


def by_explainer(forecast: Forecast) -> list[tuple[str, tuple[float, float] | None, float]]:
    """Return (explainer, passes forward and backward per sample, seconds in all with its scoring), longest first."""
    found: dict[str, tuple[tuple[float, float] | None, float]] = {}
    for cell, work in forecast.work.items():
        cost = forecast.costs.get((cell, EXPLAIN))
        passes, seconds = found.get(work.explainer, (None, 0.0))
        own = None if cost is None else (cost.forward, cost.backward)
        found[work.explainer] = (own or passes, seconds + (forecast.of_cell(cell) or 0.0))
    rows = [(name, passes, seconds) for name, (passes, seconds) in found.items()]
    return sorted(rows, key=lambda row: -row[2])


def costs_table(forecast: Forecast) -> list[dict[str, Any]]:
    """Return what each explainer takes, as rows of a table."""
    rows = []
    for name, passes, seconds in by_explainer(forecast):
        works = [one for one in forecast.work.values() if one.explainer == name]
        each = [s for one in works if (s := forecast.seconds_per_sample(one.cell, EXPLAIN)) is not None]
        rows.append(
            {
                "explainer": name,
                "forward": "?" if passes is None else f"{passes[0]:.0f}",
                "backward": "?" if passes is None else f"{passes[1]:.0f}",
                "per sample": f"{sum(each) / len(each):.2g} s" if each else "?",
                "with scoring": span(seconds),
            }
        )
    return rows


def measured(plan: Plan, executor: Executor) -> Forecast:
    """Measure what the steps of a whole plan take, and score nothing."""
    from faithface.run.executors import Job
    from faithface.run.results import Measured
    from faithface.tasks import threshold_on

    forecast = Forecast(work_of(plan))
    for group in plan.groups:
        cells = tuple(cell for cell in group.cells if cell.reason is None)
        card = group.model.object
        # A threshold that is not known would take all of the data to find; what is measured does not depend on it.
        threshold = (threshold_on(card) or 0.0) if card.task == "verification" else None
        mine = dataclasses.replace(group, cells=cells)
        job = Job(mine, group.dataset.object, plan.request, {}, threshold, shards={0: group.positions}, measure=True)
        for event in executor(job):
            if isinstance(event, Measured):
                forecast.measured(event)
    return forecast


def work_of(plan: Plan) -> list[Work]:
    """Return the whole of a plan as what is missing."""
    found = []
    for group, cell in plan.cells:
        if cell.reason is None:
            mine = {text: m.object for text, m in cell.metrics.items() if "family" not in m.object.protocol.needs}
            counts = {text: judged(group, metric)[0] for text, metric in mine.items()}
            found.append(Work(group.number, cell.number, cell.explainer.spec, len(group.positions), counts))
    return found


def as_dict(plan: Plan, directory: Path, forecast: Forecast) -> dict[str, Any]:
    """Return a dry run as JSON values."""
    return {
        "run": str(directory),
        "groups": [{"model": g.model.object.name, "dataset": g.dataset.spec, "samples": kinds(g)} for g in plan.groups],
        "cells": [
            {
                "model": group.model.object.name,
                "dataset": group.dataset.spec,
                "explainer": cell.explainer.spec,
                "metrics": list(cell.metrics),
                "seconds": forecast.of_cell(cell.number),
                "forward": getattr(forecast.costs.get((cell.number, EXPLAIN)), "forward", None),
                "backward": getattr(forecast.costs.get((cell.number, EXPLAIN)), "backward", None),
            }
            for group, cell in plan.cells
            if cell.reason is None
        ],
        "protocols": judged_table(plan),
        "not_applicable": [entry.line for entry in entries(plan)],
        "too_few": list(few(plan)),
        "bytes": bytes_of(plan),
        "bytes_free": free_bytes(directory),
        "seconds": forecast.left,
    }
