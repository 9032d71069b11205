"""The block of figures on families of networks: Explain To Me's measures, run by run.

Place in the flow: ``board_blocks`` lists it. Calls ``board_figures``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from docs.tools.board_figures import ALPHA, NOTHING, markdown, permutation_p, published, text_of
from docs.tools.board_sources import source

MEASURES = (
    ("histogram-entropy@1", "", "entropy of the map's grey levels", "lower"),
    ("out-of-set-shift@1", "", "shift on out-of-set samples", "higher"),
    ("noise-stability@1(levels=headline)", "", "stability under noise", "higher"),
    ("geometry@1", "", "follows transformations", "higher"),
    ("training-stability@1", "", "stability across runs", "higher"),
    ("degradation@1", "", "reaction to guided degradation", "higher"),
    ("relevance-mass@1", "", "mass on the cue", "higher"),
    ("relevance-mass@1(truth=tag)", "", "mass on the tag", ""),
)
FAMILIES = ("traditional", "guided", "shortcut")


def _runs(task: str, dataset: str, family: str, protocol: str) -> list[float]:
    """Return the numbers of a family's runs."""
    found = []
    for one in published("models").board.records:
        if one.model.family == f"planted-{task}-{family}" and one.dataset.spec == dataset:
            for number in one.numbers:
                if (number.protocol, number.value_name) == (protocol, "") and number.number is not None:
                    found.append(number.number)
    return found


def families(task: str, tag: bool) -> str:
    """The measures by family: mean over runs, least and greatest; guided against traditional by an exact test."""
    dataset = f"planted-{task}" + ("(tag=class)" if tag else "")
    rows = []
    for protocol, _value, what, _better in MEASURES:
        runs = {family: _runs(task, dataset, family, protocol) for family in FAMILIES}
        if not any(runs.values()):
            continue
        cells = [_spread(runs[family]) for family in FAMILIES]
        tests = [
            _test(runs["guided"], runs["traditional"], protocol),
            _test(runs["shortcut"], runs["traditional"], protocol),
        ]
        rows.append([f"{what} `{protocol}`", *cells, *tests])
    head = ["measure", *FAMILIES, "guided − traditional", "shortcut − traditional"]
    record = next(r for r in published("models").board.records if r.dataset.spec == dataset)
    return f"`{dataset}`, {record.dataset.samples} images, five runs each:\n\n" + markdown(head, rows)


def _spread(runs: Sequence[float]) -> str:
    if not runs:
        return NOTHING
    return f"{text_of(float(np.mean(runs)), 3)} ({text_of(min(runs), 3)} to {text_of(max(runs), 3)})"


def _test(a: Sequence[float], b: Sequence[float], protocol: str) -> str:
    if len(a) < 2 or len(b) < 2 or protocol.startswith("training-stability"):
        gap = float(np.mean(a) - np.mean(b)) if a and b else None
        return text_of(gap, 3, signed=True)
    p = permutation_p(a, b)
    shown = f"{text_of(float(np.mean(a) - np.mean(b)), 3, signed=True)}, p = {p:.3f}"
    return f"**{shown}**" if p < ALPHA else shown


def all_families() -> str:
    parts = [families(task, tag) for task in ("pad", "synthetic") for tag in (False, True)]
    return "\n\n".join([*parts, source("models")])
