"""A metric's protocol as text.

Place in the flow: behind ``faithface metrics ID`` and the protocol pages; calls ``specs``.
"""

from __future__ import annotations

import dataclasses
import inspect
import textwrap
import typing
from typing import Any

from faithface.contract import Metric
from faithface.specs import format_value, parameters

ARROWS = {"higher": "↑", "lower": "↓"}


def protocol(metric: Metric) -> str:
    """Return the metric's docstring without its indentation: the protocol's own words."""
    head, _, rest = inspect.cleandoc(type(metric).__doc__ or "").partition("\n")
    question = textwrap.fill(metric.protocol.question, 112, initial_indent="    ", subsequent_indent="    ")
    return f"{head}\n\nQuestion\n{question}\n{rest}"


def facts(metric: Metric) -> list[tuple[str, str]]:
    """Return what can be said of a metric without running it, as (name, text) pairs."""
    low, high = metric.range_on()
    told = [
        ("id", metric.id),
        ("better", f"{metric.protocol.better} {ARROWS[metric.protocol.better]}"),
        ("range", f"{_number(low)} to {_number(high)}"),
        ("best value", _number(metric.best_on())),
        ("tasks", ", ".join(sorted(metric.protocol.tasks))),
        ("pairs", metric.judged_on if "verification" in metric.protocol.tasks else ""),
        ("needs", ", ".join(sorted(metric.protocol.needs)) or "maps only"),
    ]
    if metric.protocol.truth:
        told.append(("ground truth", " or ".join(metric.protocol.truth)))
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


def _value(metric: Metric, name: str) -> str:
    arrow = ARROWS[metric.protocol.direction(name)]
    return f"{':' + name if name else '(headline)'} {arrow}"


def _allowed(hint: Any) -> str:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return f"one of: {', '.join(map(str, args))}"
    if origin is tuple:
        return "names joined by +"
    names: dict[Any, str] = {int: "whole number", float: "number", bool: "true or false"}
    return names.get(hint, "text")
