"""The builtin models: the zoo, small networks trained on planted faces, each an ``.onnx`` file and a card.

Place in the flow: ``CARDS`` is what the hook ``faithface_models`` returns; calls ``load_card`` of the core only. They
are read when ``CARDS`` is first asked for, not when this module is imported. The training is in ``training/`` of the
repository, what the models can do in ``docs/models/zoo.md``.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from faithface.card import ModelCard

    CARDS: tuple[ModelCard, ...]

ZOO = Path(__file__).parent / "zoo"


@cache
def _cards() -> tuple[ModelCard, ...]:
    from faithface.card import load_card

    return tuple(load_card(path) for path in sorted(ZOO.glob("*.toml")))


def __getattr__(name: str) -> Any:
    if name == "CARDS":
        return _cards()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
