"""Read model cards: TOML beside the ``.onnx`` file. Every mistake is one line with the file, the key and what is
allowed.

Place in the flow: the first thing that a run does with a model; imports ``card`` and ``errors``.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from faithface.card import ContributionsCard, ExplainCard, InputCard, ModelCard, OutputCard
from faithface.errors import UsageError, nearest

_SECTIONS: dict[str, Any] = {
    "model": ModelCard,
    "input": InputCard,
    "output": OutputCard,
    "explain": ExplainCard,
    "contributions": ContributionsCard,
}
_MODEL_KEYS = ("name", "task", "file", "family", "run", "licence", "source", "sha256")


def load_card(path: str | Path) -> ModelCard:
    """Read a card from a TOML file; ``file`` in it is relative to the card.

    Raises:
        UsageError: no such file, not TOML, an unknown section or key (the nearest is suggested), a missing or wrong
            value, or the ``.onnx`` file is not there.
    """
    path = Path(path)
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(
            f"{path}: no such model card; expected a TOML file with [model], [input] and [output]"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a TOML file ({error}); expected [model], [input] and [output]") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    card = parse_card(data, path)
    if not card.path.is_file():
        raise UsageError(f"{path}: model.file is '{card.file}', but {card.path} is not there; put the weights there")
    return card


def parse_card(data: dict[str, Any], path: Path) -> ModelCard:
    """Build a card from parsed TOML (sections ``model``, ``input``, ``output``, ``explain``, ``contributions``)."""
    for section, value in data.items():
        if section not in _SECTIONS:
            raise UsageError(f"{path}: unknown section [{section}]; {nearest(section, _SECTIONS)}")
        if not isinstance(value, dict):
            raise UsageError(f"{path}: {section} is {value!r}; expected a section [{section}]")
        known = _MODEL_KEYS if section == "model" else tuple(_SECTIONS[section].model_fields)
        for key in value:
            if key not in known:
                raise UsageError(f"{path}: unknown key '{key}' in [{section}]; {nearest(key, known)}")
    for section in ("model", "input", "output"):
        if section not in data:
            raise UsageError(f"{path}: section [{section}] is missing; expected [model], [input] and [output]")
    parts = {k: v for k, v in data.items() if k != "model"}
    try:
        return ModelCard(**data["model"], **parts, root=path.resolve().parent)
    except ValidationError as error:
        raise UsageError(f"{path}: {_first_problem(error)}") from None


def _first_problem(error: ValidationError) -> str:
    """Say the first problem of a validation in one line: key, what was got, what was expected."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if where and not where.startswith(tuple(_SECTIONS)):
        where = f"model.{where}"
    if first["type"] == "missing":
        return f"{where} is missing"
    message = first["msg"].removeprefix("Value error, ")
    got = first.get("input")
    shown = f" (got {got!r})" if isinstance(got, (str, int, float, list, tuple)) else ""
    return f"{where}: {message}{shown}" if where else message
