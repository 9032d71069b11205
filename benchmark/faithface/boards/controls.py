"""What a control on a board is: one sentence for each, to stand where controls are shown.

Place in the flow: ``terminal``, ``render`` and the site print :func:`controls_text`. Imports the standard library.
"""

from __future__ import annotations

from collections.abc import Iterable

KNOWN = {
    "oracle": "is what was planted (a trained network may use more)",
    "random": "is noise",
    "centre-prior": "marks the middle of every face",
    "edges": "marks contrast in the image",
}
INVERTED = "inverted:"
BLIND = ("random", "centre-prior", "edges")


def controls_text(titles: Iterable[str]) -> str:
    """Return what some controls are; "" without any that is known.

    Examples:
        >>> controls_text(["edges", "inverted:oracle", "random"])
        'Controls are references, not rivals: edges marks contrast in the image; random is noise; inverted:oracle is \
the map of oracle turned upside down. edges and random never look at the model.'
    """
    titles = list(dict.fromkeys(titles))
    said = [f"{title} {KNOWN[name]}" for title in titles if (name := _name(title)) in KNOWN]
    said += [f"{title} is the map of {title.removeprefix(INVERTED)} turned upside down" for title in _inverted(titles)]
    if not said:
        return ""
    blind = [title for title in titles if _name(title) in BLIND]
    never = f" {listed(blind)} never look{'s' if len(blind) == 1 else ''} at the model." if blind else ""
    if len(titles) == 1:
        return f"{said[0]}.{never}"
    return f"Controls are references, not rivals: {'; '.join(said)}.{never}"


def listed(names: list[str], most: int = 6) -> str:
    """Return names as text: ``a, b and c``; of many, the first ones and how many more."""
    shown = names[:most]
    if len(names) > most:
        return f"{', '.join(shown)} and {len(names) - most} more"
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _name(title: str) -> str:
    return title.partition("(")[0]


def _inverted(titles: list[str]) -> list[str]:
    return [title for title in titles if title.startswith(INVERTED)]
