"""What was not applicable in a run, one item each, and the few lines in which a person reads it.

Place in the flow: ``outcome`` makes the items, the command line prints :func:`fold` of them (``--json`` prints every
item's own line). Imports only ``reasons``. A line begins with the place it is about, and a detail does not repeat
that place, so that equal reasons are equal texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from faithface.reasons import Reason, ReasonCode

FEW = 4  # lines or names of one kind that a reader still wants one by one
AXES = ("metric", "explainer", "model", "dataset")  # in this order lines are folded

SAME_EVERYWHERE = {
    ReasonCode.NO_TWIN: "the model has no differentiable twin",
    ReasonCode.QUANTISED: "the model is quantised",
    ReasonCode.NO_LAYER: "the model has no layer for it",
}
"""Codes that say enough when the details of several models differ."""


@dataclass(frozen=True)
class Entry:
    """A metric or an explainer that is not applicable to a model on a dataset.

    Attributes:
        explainer: "" if the metric is applicable to no explainer there.
        metric: "" if the explainer itself is not applicable.
        nowhere: whether it was applicable to no model and dataset of the run.
    """

    model: str
    dataset: str
    explainer: str
    metric: str
    reason: Reason
    nowhere: bool = False

    @property
    def line(self) -> str:
        return f"{' / '.join(filter(None, (self.model, self.dataset, self.explainer, self.metric)))}: {self.reason}"


def fold(items: Sequence[Entry]) -> list[str]:
    """Return the items in few lines: those with one reason that differ only in a name are one."""
    # A suite of several tasks holds a lot that nobody expects to apply; one line says so. What is of no use to any task
    # of the run is still named.
    other = [item for item in items if item.reason.code is ReasonCode.OTHER_TASK and not item.nowhere]
    counted = other if len(other) > FEW else []
    lines = [_line(alike) for alike in _alike([item for item in items if item not in counted])]
    if counted:
        lines.append(f"{len(counted)} protocols and explainers for other tasks (--json lists them)")
    return lines


def _alike(items: Iterable[Entry]) -> list[list[Entry]]:
    """Group the items of one reason, axis by axis, so that a group holds every combination of its names."""
    groups = [[item] for item in items]
    for axis in AXES:
        found: dict[object, list[Entry]] = {}
        for group in groups:
            rest = tuple(frozenset(_names(group, other)) for other in AXES if other != axis)
            found.setdefault((_same(group[0].reason), rest), []).extend(group)
        groups = list(found.values())
    return groups


def _names(group: Sequence[Entry], axis: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(getattr(item, axis) for item in group))


def _same(reason: Reason) -> tuple[ReasonCode, str]:
    """Return what two reasons have in common if one line may say both."""
    return reason.code, "" if reason.code in SAME_EVERYWHERE else reason.detail


def _line(group: Sequence[Entry]) -> str:
    """Return the line of items that are alike; a long list of names is their number."""
    shown: dict[str, str] = {}
    for axis in AXES:
        names = _names(group, axis)
        shown[axis] = ", ".join(names) if len(names) <= FEW else f"{len(names)} {axis}s"
    where = " / ".join(filter(None, (shown[axis] for axis in ("model", "dataset", "explainer", "metric"))))
    details = {item.reason.detail for item in group}
    what = details.pop() if len(details) == 1 else SAME_EVERYWHERE[group[0].reason.code]
    shortened = bool(details) or any(len(_names(group, axis)) > FEW for axis in AXES)
    return f"{where}: {what}{' (--json lists them)' if shortened else ''}"
