"""Names with parameters: ``fggb(reading=signed)``, ``deletion@1(fill=black,grid=14)``, ``inverted:rise(masks=200)``.

Place in the flow: the command line, suite files and records write explainers and metrics as such texts; ``plugins``
turns them into objects with :func:`configure`. Imports only ``errors``.

A registered explainer or metric is a frozen dataclass; its parameters are its dataclass fields. A spec names the
object and overrides some of them. :func:`canonical` is the inverse, with only the parameters that differ from the
registered defaults, in alphabetical order, so that two spellings of the same thing have one identity.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from typing import Any

from faithface.errors import UsageError, nearest

Named = typing.Mapping[type, typing.Callable[[str, tuple[str, ...]], Any]]


@dataclasses.dataclass(frozen=True)
class Spec:
    """A parsed name: ``name``, the text after a colon (``argument``), and parameters as text."""

    name: str
    argument: str | None = None
    params: tuple[tuple[str, str], ...] = ()


def parse_spec(text: str) -> Spec:
    """Parse ``name``, ``name(k=v,…)``, ``name:argument`` or ``name:argument(k=v,…)``.

    With a colon before the first parenthesis, all that follows is the argument: the object named may parse it
    itself (``inverted:rise(masks=200)``, ``pairs:DIR/pairs.csv@ROOT(aligned=false)``).

    Raises:
        UsageError: the text is empty or its parentheses or parameters are malformed.

    Examples:
        >>> parse_spec("fggb(reading=signed)")
        Spec(name='fggb', argument=None, params=(('reading', 'signed'),))
        >>> parse_spec("inverted:rise(masks=2)")
        Spec(name='inverted', argument='rise(masks=2)', params=())
    """
    text = text.strip()
    colon, paren = text.find(":"), text.find("(")
    if colon >= 0 and (paren < 0 or colon < paren):
        name, argument = text[:colon].strip(), text[colon + 1 :].strip()
        if not name or not argument:
            raise UsageError(f"'{text}' is not a name with an argument; write NAME:ARGUMENT, such as inverted:rise")
        return Spec(name, argument)
    name, params = split_params(text)
    return Spec(name, None, params)


def split_params(text: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Split ``head(k=v,k2=v2)`` into the head and its parameters; values may hold balanced parentheses."""
    text = text.strip()
    if "(" not in text:
        if ")" in text or not text:
            raise UsageError(f"'{text}' is not a name; write NAME or NAME(parameter=value,…)")
        return text, ()
    head, _, rest = text.partition("(")
    if not rest.endswith(")") or not head.strip():
        raise UsageError(
            f"'{text}' is malformed; write NAME(parameter=value,…) with one closing parenthesis at the end"
        )
    parts: list[str] = []
    depth, start, body = 0, 0, rest[:-1]
    for i, ch in enumerate(body):
        depth += (ch == "(") - (ch == ")")
        if depth < 0:
            raise UsageError(f"'{text}' has unbalanced parentheses")
        if ch == "," and depth == 0:
            parts.append(body[start:i])
            start = i + 1
    parts.append(body[start:])
    if depth:
        raise UsageError(f"'{text}' has unbalanced parentheses")
    params: list[tuple[str, str]] = []
    for part in parts:
        if not part.strip():
            continue
        key, eq, value = part.partition("=")
        if not eq or not key.strip():
            raise UsageError(f"'{part.strip()}' in '{text}' is not a parameter; write parameter=value")
        if key.strip() in dict(params):
            raise UsageError(f"parameter '{key.strip()}' is given twice in '{text}'")
        params.append((key.strip(), value.strip()))
    return head.strip(), tuple(params)


def split_argument(argument: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Split what follows the colon in ``folder:PATH(k=v)`` into the path and the parameters.

    A path may hold parentheses, commas and equals signs: only a last group in parentheses of which every part is
    ``parameter=value`` is parameters. A path that ends in such a group is written in double quotes. What is quoted
    stays quoted in the result (see ``files.user_path``).

    Examples:
        >>> split_argument("faces (1)")
        ('faces (1)', ())
        >>> split_argument("faces (1)(aligned=false)")
        ('faces (1)', (('aligned', 'false'),))
        >>> split_argument('"faces(n=2)"(aligned=false)')
        ('"faces(n=2)"', (('aligned', 'false'),))
        >>> split_argument('"faces(n=2)"')
        ('"faces(n=2)"', ())

    Raises:
        UsageError: the parameters are malformed, or there is no path.
    """
    argument = argument.strip()
    if not argument.endswith(")"):
        return argument, ()
    depth = 0
    for start in range(len(argument) - 1, -1, -1):
        depth += (argument[start] == ")") - (argument[start] == "(")
        if depth == 0:
            break
    else:
        return argument, ()
    head, group = argument[:start], argument[start:]
    if not head.strip() or not re.fullmatch(r"\(\s*(\w[\w-]*\s*=.*)?\)", group, re.DOTALL):
        return argument, ()
    return head.strip(), split_params(f"x{group}")[1]


def parameters(obj: Any) -> dict[str, Any]:
    """Return the parameters of a registered object: its public dataclass fields (``_`` read as ``-``), in order.

    Fields with ``metadata={"parameter": False}`` are internal, not parameters.
    """
    if not dataclasses.is_dataclass(obj) or isinstance(obj, type):
        return {}
    return {
        f.name.replace("_", "-"): getattr(obj, f.name)
        for f in dataclasses.fields(obj)
        if f.init and not f.name.startswith("_") and f.metadata.get("parameter", True)
    }


def configure(obj: Any, params: typing.Iterable[tuple[str, str]], what: str, named: Named | None = None) -> Any:
    """Return ``obj`` with parameters replaced by values parsed to the type of each field.

    Args:
        obj: a frozen dataclass instance, the registered default.
        params: (name, text) pairs; ``-`` and ``_`` are the same.
        what: how to name the object in an error, such as ``explainer "fggb"``.
        named: by type, how a parameter of ``Literal[…] | type`` finds what a text names that is none of the words; it
            receives the text and the words.

    Raises:
        UsageError: an unknown parameter (the nearest is suggested) or a value of the wrong type. A ``ValueError``
            from the object's own ``__post_init__`` is passed on as UsageError.
    """
    params = list(params)
    if not params:
        return obj
    known = parameters(obj)
    hints = typing.get_type_hints(type(obj)) if known else {}
    changes: dict[str, Any] = {}
    for key, text in params:
        dashed = key.replace("_", "-")
        if dashed not in known:
            raise UsageError(f'{what} has no parameter "{key}"; {nearest(dashed, known)}')
        field = dashed.replace("-", "_")
        changes[field] = _parse_value(text, hints[field], f'parameter "{dashed}" of {what}', named or {})
    try:
        return dataclasses.replace(obj, **changes)
    except ValueError as error:
        raise UsageError(f"{what}: {error}") from error


def _parse_value(text: str, hint: Any, what: str, named: Named) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        for choice in args:
            if text == str(choice):
                return choice
        raise UsageError(f"{what} is '{text}'; expected one of: {', '.join(map(str, args))}")
    if origin in (typing.Union, types.UnionType):
        if type(None) in args and text.lower() in ("none", ""):
            return None
        first = next(a for a in args if a is not type(None))
        words = typing.get_args(first) if typing.get_origin(first) is typing.Literal else ()
        for kind in args:
            if kind in named and text not in words:
                return named[kind](text, words)
        return _parse_value(text, first, what, named)
    if origin is tuple:
        return tuple(_parse_value(part.strip(), args[0], what, named) for part in text.split("+") if part.strip())
    if hint is bool:
        if text.lower() in ("true", "yes", "1"):
            return True
        if text.lower() in ("false", "no", "0"):
            return False
        raise UsageError(f"{what} is '{text}'; expected true or false")
    if hint in (int, float):
        try:
            return hint(text)
        except ValueError:
            kind = "a whole number" if hint is int else "a number"
            raise UsageError(f"{what} is '{text}'; expected {kind}") from None
    return text


def canonical(name: str, obj: Any, default: Any) -> str:
    """Return the spec text of ``obj``: its name and the parameters that differ from the registered ``default``."""
    base = parameters(default)
    changed = {k: v for k, v in parameters(obj).items() if k not in base or base[k] != v}
    if not changed:
        return name
    return f"{name}({','.join(f'{k}={format_value(v)}' for k, v in sorted(changed.items()))})"


def format_value(value: Any) -> str:
    """Write a parameter's value as :func:`configure` reads it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return "+".join(format_value(v) for v in value)
    return "none" if value is None else str(value)
