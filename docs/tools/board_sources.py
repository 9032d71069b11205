"""What the blocks of figures have in common: which boards they read, how they name a row, and where figures come from.

Place in the flow: ``board_blocks``, ``board_models`` and ``board_papers`` call it. Calls ``board_figures``.
"""

from __future__ import annotations

from collections.abc import Sequence

from docs.tools.board_figures import text_of
from faithface.boards.board import Row, Table

GENUINE, IMPOSTOR = "gap-specific@1(pairs=genuine)", "gap-specific@1(pairs=impostor)"
PART_SWAPS = {f"part swap, {kind}": f"part-swap@1(pairs={kind})" for kind in ("genuine", "impostor")}
ALIKE, UNALIKE = "gap-similarity-score@1(grid=14,points=11)", "gap-dissimilarity-score@1(grid=14,points=11)"
GAP = "gap@1(grid=14,points=11)"
CONTRIBUTION = "contribution-correlation@1"
PAIR_BOARDS = (
    ("real", "resnet29", "pairs"),
    ("verification", "planted-mobile-0", "planted-verification"),
    ("verification", "exact-verifier-28-0", "planted-verification"),
)
CLASSIFIERS = (
    ("pad", "planted-pad-traditional-0", "planted-pad"),
    ("pad", "planted-pad-guided-0", "planted-pad"),
    ("pad", "exact-pad-28-0", "planted-pad"),
)
DETECTORS = (
    ("synthetic", "planted-synthetic-guided-0", "planted-synthetic"),
    ("synthetic", "exact-synthetic-28-0", "planted-synthetic"),
)
KINDS = ("genuine", "impostor")
FIXED = ("centre-prior", "random")
LAYERS = {"t70": "17×17", "t100": "8×8", "t132": "4×4", "t144": "2×2"}
SIGNED, ADAPTIVE = "fggb(reading=signed,norms=shared)", "fggb(channels=adaptive)"


def source(*suites: str) -> str:
    named = ", ".join(f"`leaderboards/{suite}/v1/records`" for suite in suites)
    return f"*From {named}, by `python -m docs.tools.board_pages`.*"


def place(suite: str, model: str, dataset: str) -> str:
    return f"`{model}` on {'photographs' if suite == 'real' else f'`{dataset}`'}"


def methods_of(table: Table) -> list[str]:
    return [row.title for row in table.rows if not row.control and row.values]


def specs_of(table: Table, wanted: Sequence[str]) -> list[str]:
    """Return rows by what users type: a record writes parameters in their order of names."""
    by_set = {_key(row.title): row.title for row in table.rows}
    return [by_set[_key(name)] for name in wanted if _key(name) in by_set]


def _key(spec: str) -> tuple[str, frozenset[str]]:
    name, _, rest = spec.rstrip(")").partition("(")
    return name, frozenset(rest.split(",")) if rest else frozenset()


def number_of(row: Row, metric: str, value_name: str = "") -> float | None:
    found = row.number(metric, value_name)
    return None if found is None else found.number


def passes_of(row: Row | None) -> str:
    """Return forward and backward passes of one explanation. Times depend on what else a machine does."""
    found = [None if row is None else number_of(row, "cost@1", way) for way in ("forward", "backward")]
    return " + ".join(text_of(one, 0) for one in found)
