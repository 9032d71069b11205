"""The blocks of figures in README, the findings and the pages on papers: one function for each, by name.

Place in the flow: ``board_pages`` writes them between marks. Calls ``board_figures``. Each block ends with the records
that it was made from.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import numpy as np

from docs.tools.board_figures import (
    ALPHA,
    BOARDS,
    NOTHING,
    against_zero,
    cell,
    differences,
    first_class,
    markdown,
    ordered,
    permutation_p,
    published,
    row_of,
    samples_of,
    text_of,
    with_tests,
)
from faithface.boards.board import Row, Table, passed
from faithface.boards.orders import rank_agreement
from faithface.run.suite import load_suite

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
LAYERS = {"t70": "17×17", "t100": "8×8", "t133": "4×4", "t144": "2×2"}
SIGNED, ADAPTIVE = "fggb(reading=signed,norms=shared)", "fggb(channels=adaptive)"


def _source(*suites: str) -> str:
    named = ", ".join(f"`leaderboards/{suite}/v1/records`" for suite in suites)
    return f"*From {named}, by `python -m docs.tools.board_pages`.*"


def _place(suite: str, model: str, dataset: str) -> str:
    return f"`{model}` on {'photographs' if suite == 'real' else f'`{dataset}`'}"


def _methods(table: Table) -> list[str]:
    return [row.title for row in table.rows if not row.control and row.values]


def _specs(table: Table, wanted: Sequence[str]) -> list[str]:
    """Return rows by what users type: a record writes parameters in their order of names."""
    by_set = {_key(row.title): row.title for row in table.rows}
    return [by_set[_key(name)] for name in wanted if _key(name) in by_set]


def _key(spec: str) -> tuple[str, frozenset[str]]:
    name, _, rest = spec.rstrip(")").partition("(")
    return name, frozenset(rest.split(",")) if rest else frozenset()


# --- README


def tops() -> str:
    """The best of each board: the first tie class of what ranks."""
    wanted = [(*one, metric) for one in CLASSIFIERS for metric in (GAP, "gap-specific@1")]
    wanted += [(*one, metric) for one in PAIR_BOARDS for metric in (GENUINE, IMPOSTOR)]
    rows = []
    for suite, model, dataset, metric in wanted:
        table = published(suite).table(model, dataset)
        rows.append(
            [f"[{suite}](leaderboards/{suite}/v1/README.md): {_place(suite, model, dataset)}", f"`{metric}`",
             str(samples_of(table, metric)), _best(table, metric)]
        )  # fmt: skip
    return markdown(["board", "protocol", "n", "first tie class, best first"], rows) + "\n\n" + _source(
        "pad", "verification", "real"
    )  # fmt: skip


def _best(table: Table, metric: str, most: int = 4) -> str:
    found = first_class(table, metric)
    if not found:
        return "too few to rank"
    methods = len(_methods(table))
    if len(found) == methods:
        return f"all {methods} methods tied"
    shown = [f"`{row.title}` {text_of(_number(row, metric), 2)}" for row in found[:most]]
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(shown) + more


def _number(row: Row, metric: str, value_name: str = "") -> float | None:
    found = row.number(metric, value_name)
    return None if found is None else found.number


# --- findings


def pair_information() -> str:
    """Own map minus other pairs' maps, tested against 0."""
    parts = []
    for suite, model, dataset in PAIR_BOARDS:
        table = published(suite).table(model, dataset)
        wanted = {"genuine": GENUINE, "impostor": IMPOSTOR, **PART_SWAPS}
        wanted = {kind: protocol for kind, protocol in wanted.items() if samples_of(table, protocol)}
        columns = {protocol: against_zero(table, protocol) for protocol in wanted.values()}
        names = [row.title for row in ordered(table, IMPOSTOR, lambda row: not row.control and bool(row.values))]
        fixed = _specs(table, ["random"])
        head = ["explainer", *(f"{kind} (n = {samples_of(table, p)})" for kind, p in wanted.items())]
        parts.append(
            f"{_place(suite, model, dataset)}:\n\n"
            + markdown(head, with_tests(columns, names) + with_tests(columns, fixed))
        )
    return "\n\n".join([*parts, _source("real", "verification")])


def whole_face() -> str:
    """The plain gap beside the centre prior's, which never saw the pair."""
    parts = []
    for suite, model, dataset in PAIR_BOARDS:
        table = published(suite).table(model, dataset)
        columns = {p: differences(table, _methods(table), "centre-prior", p) for p in (ALIKE, UNALIKE)}
        shown = [row.title for row in ordered(table, ALIKE, lambda row: not row.control and bool(row.values))]
        head = [
            "explainer",
            *(
                f"gap minus centre prior's, {kind} (n = {samples_of(table, p)})"
                for kind, p in (("genuine", ALIKE), ("impostor", UNALIKE))
            ),
        ]
        parts.append(f"{_place(suite, model, dataset)}:\n\n" + markdown(head, with_tests(columns, shown)))
    return "\n\n".join([*parts, _source("real", "verification")])


def fggb_passes() -> str:
    """FGGB in its absolute reading (many backward passes) against cheaper gradients, on the same pairs."""
    parts = []
    for suite, model, dataset in PAIR_BOARDS:
        table = published(suite).table(model, dataset)
        (mine,) = _specs(table, [ADAPTIVE])
        rivals = _specs(table, [SIGNED, "xssab", "saliency"])
        columns = {}
        for protocol in (GENUINE, IMPOSTOR, ALIKE, UNALIKE):
            columns[protocol] = {
                other: found for other in rivals for found in differences(table, [mine], other, protocol).values()
            }
        body = with_tests(columns, rivals)
        cost = [_passes(row_of(table, other)) for other in rivals]
        head = [
            "absolute FGGB minus",
            "specific, genuine",
            "specific, impostor",
            "gap, genuine",
            "gap, impostor",
            "its passes, forward + backward",
        ]
        n = f"{samples_of(table, GENUINE)} genuine, {samples_of(table, IMPOSTOR)} impostor pairs"
        row = row_of(table, mine)
        note = row.record.explainer.note if row else {}
        alike, computed = text_of(note.get("channel_correlation"), 2), text_of(note.get("channels"), 0)
        facts = f"`channel_correlation` {alike}, channels computed {computed}, passes {_passes(row)}"
        parts.append(
            f"{_place(suite, model, dataset)} ({n}; {facts}):\n\n"
            + markdown(head, [[*r, c] for r, c in zip(body, cost, strict=True)])
        )
    return "\n\n".join([*parts, _source("real", "verification")])


def _passes(row: Row | None) -> str:
    """Return forward and backward passes of one explanation. Times depend on what else a machine does."""
    found = [None if row is None else _number(row, "cost@1", way) for way in ("forward", "backward")]
    return " + ".join(text_of(one, 0) for one in found)


def cam_layers() -> str:
    """Grad-CAM and HiResCAM at four layers, finest first."""
    if not (BOARDS / "cam-layers" / "v1").is_dir():
        return "No record: the board was not run. `faithface run cam-layers` runs it on your own pairs."
    table = published("cam-layers").table("resnet29", "pairs")
    names = [row.title for row in table.rows if "layer=" in row.title]
    columns = {p: against_zero(table, p) for p in (GENUINE, IMPOSTOR)}
    body = {line[0]: line for line in with_tests(columns, names)}
    rows = []
    for method in ("grad-cam", "hirescam"):
        for layer, cells in LAYERS.items():
            name = f"{method}(layer={layer})"
            row = row_of(table, name)
            rows.append(
                [*body[f"`{name}`"][:1], cells, *body[f"`{name}`"][1:], *(cell(row, p) for p in (ALIKE, UNALIKE))]
            )
    head = ["explainer", "cells", "specific, genuine", "specific, impostor", "gap, genuine", "gap, impostor"]
    beside = ", ".join(
        f"{cell(row_of(table, 'centre-prior'), p)} {kind}" for p, kind in ((ALIKE, "genuine"), (UNALIKE, "impostor"))
    )
    n = f"{samples_of(table, GENUINE)} genuine, {samples_of(table, IMPOSTOR)} impostor pairs"
    return (
        f"`resnet29` on photographs ({n}; gap of the centre prior: {beside}):\n\n"
        + markdown(head, rows)
        + "\n\n"
        + _source("cam-layers")
    )


def masking_metrics() -> str:
    """Which metrics put noise below methods, and which order methods as the exact contributions do."""
    table = published("pad").table("exact-pad-28-0", "planted-pad")
    kept = published("pad").kept
    taus = rank_agreement(table, kept)
    verdicts = {column.protocol: str(column.standing.examined.verdict) for column in table.columns}
    rows = []
    for protocol in (
        GAP,
        "gap-specific@1",
        "insertion@1(grid=14,points=11)",
        "deletion@1(grid=14,points=11)",
        "confidence-drop@1",
        "retention@1",
        "average-drop@1",
        "relevance-mass@1",
        "localisation-auc@1",
        "entropy@1",
    ):
        order = [row.title for row in ordered(table, protocol, lambda row: bool(row.values))]
        random = row_of(table, "random")
        better = (
            sum(1 for name in order[: order.index("random")] if name in _methods(table)) if "random" in order else 0
        )
        tau = taus.get((min(protocol, CONTRIBUTION), max(protocol, CONTRIBUTION)))
        shown = NOTHING if tau is None else f"{text_of(tau.tau, 2)} [{text_of(tau.low, 2)}, {text_of(tau.high, 2)}]"
        rows.append(
            [
                f"`{protocol}`",
                f"`{order[0]}`" if order else NOTHING,
                cell(random, protocol, 2),
                f"{better} of {len(_methods(table))}",
                shown,
                verdicts.get(protocol, NOTHING),
            ]
        )
    head = [
        "protocol",
        "best of all rows",
        "random map",
        "methods above the random map",
        "order of methods, Kendall's τ with exact contributions",
        "audit's verdict",
    ]
    n = samples_of(table, GAP)
    return (
        f"`exact-pad-28-0` on `planted-pad`, {n} attacks:\n\n"
        + markdown(head, rows)
        + "\n\n"
        + _source("pad")
        + " Verdicts: `leaderboards/audit/audit.json`."
    )


def classifier_methods() -> str:
    """In which tables each method is in the first tie class, by gap and by specific gap, and by exact contributions."""
    tables = [published(s).table(m, d) for s, m, d in CLASSIFIERS]
    wanted = [(t, p) for t in tables for p in (GAP, "gap-specific@1")]
    wanted += [(t, CONTRIBUTION) for t in tables if samples_of(t, CONTRIBUTION)]
    names = [name for name in _methods(tables[0]) if name != "contributions"]
    ranked = []
    for name in names:
        first = sum(any(row.title == name for row in first_class(t, p)) for t, p in wanted)
        rows = [row_of(t, name) for t in tables]
        gaps = [v for row in rows if row and (v := _number(row, GAP)) is not None]
        exact = [v for row in rows if row and (v := _number(row, CONTRIBUTION)) is not None]
        gates = [_gates(row) for row in rows if row]
        ranked.append(
            (
                first,
                float(np.mean(gaps)),
                [
                    f"`{name}`",
                    f"{first} of {len(wanted)}",
                    text_of(float(np.mean(gaps)), 2),
                    text_of(float(np.mean(exact)) if exact else None, 2),
                    f"{sum(a for a, _ in gates)} of {sum(b for _, b in gates)}",
                    _passes(rows[0]),
                ],
            )
        )
    ranked.sort(key=lambda one: (-one[0], -one[1]))
    head = [
        "explainer",
        "in the first tie class",
        "mean gap",
        "correlation with exact contributions",
        "gates passed",
        "passes a map, forward + backward",
    ]
    n = ", ".join(f"{samples_of(t, GAP)} on `{t.first.model.name}`" for t in tables)
    return markdown(head, [line for _f, _g, line in ranked]) + f"\n\nPositive images: {n}. " + _source("pad")


def _gates(row: Row) -> tuple[int, int]:
    results = [passed(n) for n in row.record.numbers if n.family == "gate" and n.value_name == ""]
    known = [one for one in results if one is not None]
    return sum(known), len(known)


# --- models

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
    return "\n\n".join([*parts, _source("models")])


# --- other studies


def in_distribution() -> str:
    """The order of explainers on a network and on its twin that was fine-tuned on masked images."""
    path = BOARDS / "audit" / "masked-twins.json"
    if not path.is_file():
        return "No record: the study was not run. `python -m training.masked_twins` runs it."
    rows = [
        [f"`{one['model']}`", str(one["fill"]), str(one["kind"]), str(one["n"]), text_of(one["tau"], 2)]
        for one in json.loads(path.read_text(encoding="utf-8"))
    ]
    head = ["network", "fill", "map", "n", "Kendall's τ of the two orders"]
    return (
        markdown(head, rows)
        + "\n\n*From `leaderboards/audit/masked-twins.json`, by `python -m training.masked_twins`.*"
    )


# --- papers


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
            f"{_place(suite, model, dataset)}, {samples_of(table, 'retention@1')} attacks:\n\n" + markdown(head, rows)
        )
    return "\n\n".join([*parts, _source("pad")])


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
            f"{_place(suite, model, dataset)}:\n\n"
            + markdown(["Ensemble-CAM minus", *columns], with_tests(columns, rivals, 2))
        )
    return "\n\n".join([*parts, _source("pad")])


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
        parts.append(f"{_place(suite, model, dataset)}, {n}:\n\n" + markdown(head, rows))
    return "\n\n".join([*parts, _source("real", "verification")])


BLOCKS: dict[str, Callable[[], str]] = {
    "tops": tops,
    "pair-information": pair_information,
    "whole-face": whole_face,
    "fggb-passes": fggb_passes,
    "cam-layers": cam_layers,
    "masking-metrics": masking_metrics,
    "classifier-methods": classifier_methods,
    "families": all_families,
    "in-distribution": in_distribution,
    "ensemble-cam": ensemble_cam,
    "ensemble-differences": ensemble_differences,
    "ensemble-published": lambda: figures_of_papers("pad", "pad"),
    "fggb-published": lambda: figures_of_papers("lfw-v1", "verification"),
    "fggb-table": fggb_table,
}
