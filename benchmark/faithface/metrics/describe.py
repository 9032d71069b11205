"""A metric's protocol as text, from its docstring and its :class:`~faithface.contract.Protocol`.

Place in the flow: behind ``faithface metrics ID`` and the protocol pages (``docs/tools``); calls ``specs``.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
import types
import typing
from dataclasses import dataclass
from typing import Any

from faithface.contract import Fill, Metric
from faithface.specs import format_value, parameters

ARROWS = {"higher": "↑", "lower": "↓"}
HEADINGS = (
    "Question",
    "Formula",
    "The other samples",
    "The parts",
    "Parameters",
    "Values",
    "Range and direction",
    "Which maps",
    "Passed or failed",
    "Needs",
    "Special cases",
    "Differs from other libraries",
    "Known weaknesses",
    "Cost",
    "Source",
)
ITEM = r"(?:``[^`\n]+``|\(?headline\)?)(?:, ``[^`\n]+``)*(?: \([^)\n]*\))?: "


@dataclass(frozen=True)
class Section:
    """A section of a protocol: its heading, and its paragraphs and items, each on one line."""

    heading: str
    paragraphs: tuple[str, ...]


def title(metric: Metric) -> str:
    """Return the protocol's first paragraph on one line."""
    return " ".join(inspect.cleandoc(type(metric).__doc__ or "").partition("\n\n")[0].split())


def sections(metric: Metric) -> list[Section]:
    """Return the sections of a metric's docstring, its question first, in the order of :data:`HEADINGS`.

    A heading is a line that opens an indented block. Lines are joined; a blank line, a formula's ``value =``, and a
    name with its explanation (``fill``: …) begin a new paragraph. What a base class says under one of
    :data:`HEADINGS` holds for all metrics built on it: it is added to the metric's own section.
    """
    found = {"Question": [metric.protocol.question]}
    for cls in type(metric).__mro__:
        for heading, body in _written(cls).items():
            if cls is type(metric) or (heading in HEADINGS and issubclass(cls, Metric)):
                found.setdefault(heading, []).extend(_paragraphs(body))
    known = [heading for heading in found if heading in HEADINGS]
    others = [heading for heading in found if heading not in HEADINGS]
    return [Section(heading, tuple(found[heading])) for heading in sorted(known, key=HEADINGS.index) + others]


def _written(cls: type) -> dict[str, list[str]]:
    """Return the stripped lines under each heading of a class's own docstring."""
    lines = inspect.cleandoc(cls.__dict__.get("__doc__") or "").splitlines()
    found: dict[str, list[str]] = {}
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if line and not line.startswith(" ") and following.startswith("    "):
            body = found[line] = []
        elif found and (line.startswith(" ") or not line):
            body.append(line.strip())
    return {heading: body for heading, body in found.items() if any(body)}


def is_item(paragraph: str) -> bool:
    """Say whether a paragraph explains a name: of a parameter, of a value, or of the headline."""
    return re.match(ITEM, paragraph) is not None


def _paragraphs(body: list[str]) -> list[str]:
    marked = "\n".join(body)
    # Names that follow each other within a paragraph begin a line of their own; so do curves.
    marked = re.sub(rf"(?<=[.)])\s+(?={ITEM}|Curves(?: over|:))", "\n\n", marked)
    marked = re.sub(rf"\n(?={ITEM}|Curves(?: over|:)|value = )", "\n\n", marked)
    return [" ".join(part.split()) for part in re.split(r"\n{2,}", marked) if part.strip()]


def protocol(metric: Metric, width: int = 80) -> str:
    """Return the metric's protocol as plain text: the docstring's own words, its lines joined and filled again."""

    def fill(paragraph: str) -> str:
        hanging = "      " if is_item(paragraph) else "    "
        return textwrap.fill(paragraph, width, initial_indent="    ", subsequent_indent=hanging, break_on_hyphens=False)

    parts = [textwrap.fill(title(metric), width, break_on_hyphens=False)]
    parts += ["\n".join([section.heading, *map(fill, section.paragraphs)]) for section in sections(metric)]
    return "\n\n".join(parts)


def facts(metric: Metric) -> list[tuple[str, str]]:
    """Return what can be said of a metric without running it, as (name, text) pairs."""
    low, high = metric.range_on()
    pairs, side = metric.judged_on.split("+")[0], metric.judged_on.split("+")[-1]
    told = [
        ("id", metric.id),
        ("better", f"{metric.protocol.better} {ARROWS[metric.protocol.better]}"),
        ("family", metric.protocol.family),
        ("range", f"{_number(low)} to {_number(high)}"),
        ("best value", _number(metric.best_on())),
        ("passed from", "" if metric.protocol.bar is None else _bar(metric)),
        ("tasks", ", ".join(sorted(metric.protocol.tasks))),
        ("pairs", pairs if "verification" in metric.protocol.tasks else ""),
        ("judged class", side if side in ("positive", "negative") else ""),
        ("needs", ", ".join(sorted(metric.protocol.needs)) or "maps only"),
    ]
    if metric.ground_truth:
        told.append(("ground truth", " or ".join(metric.ground_truth)))
    if len(metric.protocol.value_names) > 1:
        told.append(("values", ", ".join(_value(metric, name) for name in metric.protocol.value_names)))
    told += [("forward passes per sample", metric.cost), ("source", metric.protocol.source)]
    return [(name, text) for name, text in told if text]


def parameter_rows(metric: Metric) -> list[tuple[str, str, str]]:
    """Return (name, default, values that it may take) of each parameter."""
    hints: dict[str, Any] = typing.get_type_hints(type(metric)) if dataclasses.is_dataclass(metric) else {}
    return [
        (name, format_value(value), _allowed(hints[name.replace("-", "_")]))
        for name, value in parameters(metric).items()
    ]


def describe(metric: Metric) -> str:
    """Return the protocol, range, direction and parameters of a metric as plain text.

    Examples:
        >>> from faithface.metrics.entropy import Entropy
        >>> print(describe(Entropy()).splitlines()[0])
        entropy@1 (lower is better ↓)
    """
    head = f"{metric.id} ({metric.protocol.better} is better {ARROWS[metric.protocol.better]})"
    lines = [head, "", protocol(metric), ""]
    shown = facts(metric)[2:]
    width = max(len(name) for name, _ in shown)
    lines += [f"{name:<{width}}  {text}" for name, text in shown]
    own = parameter_rows(metric)
    if own:
        lines += ["", "parameters", *(f"  {name} = {default}  ({allowed})" for name, default, allowed in own)]
    return "\n".join(lines)


def _number(value: float) -> str:
    return "∞" if value == float("inf") else "−∞" if value == float("-inf") else f"{value:g}"


def _bar(metric: Metric) -> str:
    word = "at least" if metric.protocol.better == "higher" else "at most"
    return f"{word} {_number(metric.protocol.bar or 0.0)}"


def _value(metric: Metric, name: str) -> str:
    arrow = ARROWS[metric.protocol.direction(name)]
    return f"{':' + name if name else '(headline)'} {arrow}"


def _allowed(hint: Any) -> str:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return f"one of: {', '.join(map(str, args))}"
    if origin in (types.UnionType, typing.Union) and Fill in args:
        return f"{_allowed(args[0])}, or a fill of a plugin"
    if origin is tuple:
        return "names joined by +"
    names: dict[Any, str] = {int: "whole number", float: "number", bool: "true or false"}
    return names.get(hint, "text")
