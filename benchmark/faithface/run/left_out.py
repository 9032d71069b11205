"""What did not apply in a run, one item each, and the few lines in which a person reads it.

Place in the flow: ``outcome`` makes the items, the command line prints :func:`fold` of them (``--json`` prints every
item's own line). Imports nothing of the package.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

OTHER_TASK = re.compile(r"\bis for [\w, -]+; \S+ is \S+$")
FEW = 4  # lines or names of one kind that a reader still wants one by one
AXES = ("metric", "explainer", "model", "dataset")  # in this order lines are folded


@dataclass(frozen=True)
class LeftOut:
    """A metric or an explainer that did not apply to a model on a dataset.

    Attributes:
        explainer: "" if the metric applies to no explainer there.
        metric: "" if the explainer itself does not apply.
        nowhere: whether it applied to no model and dataset of the run.
    """

    model: str
    dataset: str
    explainer: str
    metric: str
    reason: str
    nowhere: bool = False

    @property
    def line(self) -> str:
        return f"{' / '.join(filter(None, (self.model, self.dataset, self.explainer, self.metric)))}: {self.reason}"


def fold(items: Sequence[LeftOut]) -> list[str]:
    """Return the items in few lines: those that differ only in a name, and in that name in the reason, are one."""
    # A suite of several tasks leaves out a lot that nobody expects to apply; one line says so. What is of no use to
    # any task of the run is still named.
    other = [item for item in items if OTHER_TASK.search(item.reason) and not item.nowhere]
    counted = other if len(other) > FEW else []
    lines = [_line(alike) for alike in _alike([item for item in items if item not in counted])]
    if counted:
        lines.append(f"{len(counted)} protocols and explainers for other tasks (--json lists them)")
    return lines


def _alike(items: Iterable[LeftOut]) -> list[list[LeftOut]]:
    """Group the items of one reason, axis by axis, so that a group holds every combination of its names."""
    groups = [[item] for item in items]
    for axis in AXES:
        found: dict[object, list[LeftOut]] = {}
        for group in groups:
            rest = tuple(frozenset(_names(group, other)) for other in AXES if other != axis)
            found.setdefault((_pattern(group[0]), rest), []).extend(group)
        groups = list(found.values())
    return groups


def _names(group: Sequence[LeftOut], axis: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(getattr(item, axis) for item in group))


def _pattern(item: LeftOut) -> str:
    """Return the reason without the item's own names."""
    text = item.reason
    for axis in AXES:
        text = _without(text, axis, getattr(item, axis))
    return text


def _without(reason: str, axis: str, name: str) -> str:
    """Replace a name in a reason by "each metric", "the dataset" and so on."""
    if not name:
        return reason
    # Reasons give the bare name: "gap@1" of "gap@1(grid=14)", "folder" of "folder:faces".
    either = "|".join(re.escape(one) for one in (name, re.split(r"[(:]", name)[0]))
    quoted = rf'(?:{axis} )?"(?:{either})"'
    # Only a model is named without quotes; other names, such as "random", may be words of the reason.
    pattern = rf"{quoted}|(?<![\w.-])(?:{either})(?![\w.-])" if axis == "model" else quoted
    return re.sub(pattern, lambda found: f"{'the' if found.start() else 'each'} {axis}", reason)


def _line(group: Sequence[LeftOut]) -> str:
    """Return the line of items that are alike; a long list of names is their number."""
    reason = group[0].reason
    shown: dict[str, str] = {}
    for axis in AXES:
        names = _names(group, axis)
        shown[axis] = ", ".join(names) if len(names) <= FEW else f"{len(names)} {axis}s"
        if len(names) > 1 and len({item.reason for item in group}) > 1:
            reason = _without(reason, axis, names[0])
    counted = any(len(_names(group, axis)) > FEW for axis in AXES)
    where = " / ".join(filter(None, (shown[axis] for axis in ("model", "dataset", "explainer", "metric"))))
    return f"{where}: {reason}{' (--json lists them)' if counted else ''}"
