"""The blocks of figures on the pages of papers: Ensemble-CAM's table, FGGB's layout, and what was published.

Place in the flow: ``board_blocks`` lists them. Calls ``board_figures``.
"""

from __future__ import annotations

from docs.tools.board_figures import (
    BOARDS,
    cell,
    differences,
    markdown,
    published,
    row_of,
    samples_of,
    text_of,
    with_tests,
)
from docs.tools.board_sources import CLASSIFIERS, GAP, PAIR_BOARDS, place, source
from faithface.run.suite import load_suite


def ensemble_cam() -> str:
    """Confidence drop, retention and flips of the CAMs and their shifted control."""
    parts = []
    for suite, model, dataset in CLASSIFIERS[:3]:
        table = published(suite).table(model, dataset)
        rows = []
        for name in ("ensemble-cam", "grad-cam", "hirescam", "grad-cam++", "oracle", "random"):
            row = row_of(table, name)
            rows.append(
                [
                    f"`{name}`",
                    *(
                        cell(row, protocol, 2, value)
                        for protocol in ("confidence-drop@1", "retention@1")
                        for value in ("", "control", "flips", "control-flips")
                    ),
                ]
            )
        head = [
            "explainer",
            *(
                f"{what}{value}"
                for what in ("drop", "retention")
                for value in ("", ", shifted", ": flips", ": flips, shifted")
            ),
        ]
        parts.append(
            f"{place(suite, model, dataset)}, {samples_of(table, 'retention@1')} attacks:\n\n" + markdown(head, rows)
        )
    return "\n\n".join([*parts, source("pad")])


def ensemble_differences() -> str:
    """Ensemble-CAM against its parts on the same images."""
    parts = []
    for suite, model, dataset in CLASSIFIERS[:3]:
        table = published(suite).table(model, dataset)
        rivals = ["grad-cam", "hirescam", "grad-cam++"]
        protocols = {
            "drop ↑": "confidence-drop@1",
            "retention ↓": "retention@1",
            "gap ↑": GAP,
            "mass on the attack ↑": "relevance-mass@1",
        }
        columns = {
            head: {
                other: found for other in rivals for found in differences(table, ["ensemble-cam"], other, p).values()
            }
            for head, p in protocols.items()
        }
        parts.append(
            f"{place(suite, model, dataset)}:\n\n"
            + markdown(["Ensemble-CAM minus", *columns], with_tests(columns, rivals, 2))
        )
    return "\n\n".join([*parts, source("pad")])


def figures_of_papers(suite: str, task: str) -> str:
    """The published figures that a suite lists."""
    path = BOARDS.parent / "benchmark" / "faithface" / "suites" / f"{suite}.toml"
    rows = [
        [one.explainer, f"`{one.protocol}`", text_of(one.value, 4), one.source, one.note]
        for one in load_suite(path).published
    ]
    return (
        markdown(["explainer", "nearest protocol here", "published", "read in", "differs"], rows)
        + f"\n\n*From `faithface suites {suite} --json`.*"
    )


FGGB_COLUMNS = (
    "deletion-similarity@1(fill=black,grid=14,points=11)",
    "insertion-similarity@1(fill=black,grid=14,points=11)",
    "deletion-dissimilarity@1(fill=black,grid=14,points=11)",
    "insertion-dissimilarity@1(fill=black,grid=14,points=11)",
)


def fggb_table() -> str:
    """The layout of FGGB's tables, for each network."""
    parts = []
    for suite, model, dataset in PAIR_BOARDS:
        table = published(suite).table(model, dataset)
        names = [row.title for row in table.rows if row.values]
        rows = [[f"`{name}`", *(cell(row_of(table, name), p, 3, rank=True) for p in FGGB_COLUMNS)] for name in names]
        head = ["explainer", "similarity: deletion ↓", "insertion ↑", "dissimilarity: deletion ↓", "insertion ↑"]
        n = f"{samples_of(table, FGGB_COLUMNS[0])} genuine and {samples_of(table, FGGB_COLUMNS[2])} impostor pairs"
        parts.append(f"{place(suite, model, dataset)}, {n}:\n\n" + markdown(head, rows))
    return "\n\n".join([*parts, source("real", "verification")])
