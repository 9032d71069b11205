"""The builtin models, each an ``.onnx`` file and a card: the zoo, and the mechanism-exact networks.

Place in the flow: ``CARDS`` is what the hook ``faithface_models`` returns; calls ``load_card`` of the core only. They
are read when ``CARDS`` is first asked for, not when this module is imported. The training is in ``training/`` of the
repository, what the models can do in ``docs/models/zoo.md`` and ``docs/models/exact.md``.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from faithface.card import ModelCard

    CARDS: tuple[ModelCard, ...]
    ZOO_CARDS: tuple[ModelCard, ...]
    EXACT_CARDS: tuple[ModelCard, ...]

ZOO = Path(__file__).parent / "zoo"
EXACT = Path(__file__).parent / "exact"
FOLDERS = {"ZOO_CARDS": (ZOO,), "EXACT_CARDS": (EXACT,), "CARDS": (ZOO, EXACT)}


@cache
def _cards(folder: Path) -> tuple[ModelCard, ...]:
    from faithface.card import load_card

    return tuple(load_card(path) for path in sorted(folder.glob("*.toml")))


def __getattr__(name: str) -> Any:
    if name in FOLDERS:
        return tuple(card for folder in FOLDERS[name] for card in _cards(folder))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
