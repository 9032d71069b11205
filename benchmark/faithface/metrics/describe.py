"""A metric's protocol as text.

Place in the flow: behind ``faithface metrics ID`` and the protocol pages; calls ``specs``.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
from typing import Any

from faithface.contract import Metric
from faithface.specs import format_value, parameters

ARROWS = {"higher": "↑", "lower": "↓"}


def protocol(metric: Metric) -> str:
    """Return the metric's docstring without its indentation: the protocol's own words."""
    return inspect.cleandoc(type(metric).__doc__ or "")


def facts(metric: Metric) -> list[tuple[str, str]]:
    """Return what can be said of a metric without running it, as (name, text) pairs."""
    low, high = metric.range
    told = [
        ("id", metric.id),
        ("better", f"{metric.better} {ARROWS[metric.better]}"),
        ("range", f"{_number(low)} to {_number(high)}"),
        ("best value", _number(metric.best)),
        ("tasks", ", ".join(sorted(metric.tasks))),
        ("pairs", metric.which if "verification" in metric.tasks else ""),
        ("needs", ", ".join(sorted(metric.needs)) or "maps only"),
    ]
    if metric.truth:
        told.append(("ground truth", " or ".join(metric.truth)))
    if len(metric.value_names) > 1:
        told.append(("values", ", ".join(_value(metric, name) for name in metric.value_names)))
    told += [("forward passes per sample", metric.forward_passes), ("source", metric.source)]
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
    head = f"{metric.id} ({metric.better} is better {ARROWS[metric.better]})"
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
    arrow = ARROWS[metric.directions.get(name, metric.better)]
    return f"{':' + name if name else '(headline)'} {arrow}"


def _allowed(hint: Any) -> str:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return f"one of: {', '.join(map(str, args))}"
    if origin is tuple:
        return "names joined by +"
    names: dict[Any, str] = {int: "whole number", float: "number", bool: "true or false"}
    return names.get(hint, "text")
