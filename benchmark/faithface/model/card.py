"""Read model cards: TOML beside the ``.onnx`` file. Every mistake is one line with the file, the key and what is
allowed.

Place in the flow: the first thing that a run does with a model; imports ``card`` and ``errors``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from faithface.card import ExplainCard, InputCard, ModelCard, OutputCard
from faithface.errors import UsageError, nearest
from faithface.files import check_file, is_inside, shorten
from faithface.limits import MAX_MODEL_BYTES
from faithface.toml_files import read_toml

_SECTIONS: dict[str, Any] = {"model": ModelCard, "input": InputCard, "output": OutputCard, "explain": ExplainCard}
_MODEL_KEYS = ("name", "task", "file", "family", "run", "licence", "source", "sha256")


def load_card(path: str | Path, allow_outside: bool = False) -> ModelCard:
    """Read a card from a TOML file; ``file`` in it is relative to the card.

    Args:
        path: the card.
        allow_outside: a network outside the card's folder (by ``..``, an absolute path or a link) may be opened. A card
            may come from anybody; without this it cannot have other files read.

    Raises:
        UsageError: no such file, not TOML, an unknown section or key (the nearest is suggested), a missing or wrong
            value, or the ``.onnx`` file is not there or outside the card's folder.
    """
    path = Path(path)
    data = read_toml(path, "model card", "[model], [input] and [output]")
    card = parse_card(data, path)
    if not allow_outside and not is_inside(card.path, card.root):
        raise UsageError(
            f"{path}: model.file is {shorten(card.file, 200)}, which lies outside the card's folder; put the network "
            "beside the card, or give --allow-outside if you trust the card"
        )
    if not card.path.exists():
        raise UsageError(f"{path}: model.file is '{card.file}', but {card.path} is not there; put the weights there")
    check_file(card.path, MAX_MODEL_BYTES, "ONNX network")
    return card


def parse_card(data: dict[str, Any], path: Path) -> ModelCard:
    """Build a card from parsed TOML (sections ``model``, ``input``, ``output``, ``explain``)."""
    for section, value in data.items():
        if section not in _SECTIONS:
            raise UsageError(f"{path}: unknown section [{section[:80]}]; {nearest(section, _SECTIONS)}")
        if not isinstance(value, dict):
            raise UsageError(f"{path}: {section} is {shorten(value)}; expected a section [{section}]")
        known = _MODEL_KEYS if section == "model" else tuple(_SECTIONS[section].model_fields)
        for key in value:
            if key not in known:
                raise UsageError(f"{path}: unknown key '{key[:80]}' in [{section}]; {nearest(key, known)}")
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
    shown = f" (got {shorten(got)})" if isinstance(got, (str, int, float, list, tuple)) else ""
    return f"{where}: {message}{shown}" if where else message
