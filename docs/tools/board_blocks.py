"""The blocks of figures in README, the findings and the pages on papers: one function for each, by name.

Place in the flow: ``board_pages`` writes them between marks. Calls ``board_figures``, and ``board_models`` and
``board_papers`` for theirs. Each block ends with the records that it was made from.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from docs.tools.board_figures import (
    BOARDS,
    NOTHING,
    against_zero,
    cell,
    differences,
    first_class,
    markdown,
    ordered,
    published,
    row_of,
    samples_of,
    text_of,
    with_tests,
)
from docs.tools.board_models import all_families
from docs.tools.board_papers import ensemble_cam, ensemble_differences, fggb_table, figures_of_papers
from docs.tools.board_sources import (
    ADAPTIVE,
    ALIKE,
    CLASSIFIERS,
    CONTRIBUTION,
    DETECTORS,
    FIXED,
    GAP,
    GENUINE,
    IMPOSTOR,
    KINDS,
    LAYERS,
    PAIR_BOARDS,
    PART_SWAPS,
    SIGNED,
    UNALIKE,
    methods_of,
    number_of,
    passes_of,
    place,
    source,
    specs_of,
)
from faithface.boards.across import across_tables
from faithface.boards.board import Table
from faithface.boards.orders import rank_agreement

# --- README


def tops() -> str:
    """The best of each board: the first tie class of what ranks."""
    wanted = [(*one, metric) for one in (*CLASSIFIERS[:2], DETECTORS[0]) for metric in (GAP, "gap-specific@1")]
    wanted += [(*one, metric) for one in PAIR_BOARDS[:2] for metric in (IMPOSTOR, *PART_SWAPS.values())]
    rows = []
    for suite, model, dataset, metric in wanted:
        table = published(suite).table(model, dataset)
        rows.append(
            [f"[{suite}](leaderboards/{suite}/v1/README.md): {place(suite, model, dataset)}", f"`{metric}`",
             str(samples_of(table, metric)), _best(table, metric)]
        )  # fmt: skip
    return markdown(["board", "protocol", "n", "first tie class, best first"], rows) + "\n\n" + source(
        "pad", "synthetic", "real", "verification"
    )  # fmt: skip


def boards() -> str:
    """All published boards: what each is of, how large it is, and whether it may still change."""
    rows = []
    for folder in sorted(path for path in BOARDS.glob("*/v*") if (path / "records").is_dir()):
        suite, version = folder.parent.name, int(folder.name.removeprefix("v"))
        records = [one.record for one in published(suite, version).kept]
        samples = sorted({record.dataset.samples for record in records})
        rows.append(
            [
                f"[{suite} {folder.name}]({suite}/{folder.name}/README.md)",
                records[0].suite.description,
                f"{len({record.model.name for record in records})}",
                f"{len({record.explainer.spec for record in records})}",
                " to ".join(str(one) for one in dict.fromkeys((samples[0], samples[-1]))),
                "frozen" if (folder / "FROZEN").is_file() else "open: numbers may still change",
            ]
        )
    head = ["board", "what", "networks", "explainers and controls", "samples each", "state"]
    return markdown(head, rows) + "\n\n*From `leaderboards/*/v*/records`, by `python -m docs.tools.board_pages`.*"


def _best(table: Table, metric: str, most: int = 4) -> str:
    found = first_class(table, metric)
    if not found:
        return "too few to rank"
    methods = len(methods_of(table))
    if len(found) == methods:
        return f"all {methods} methods tied"
    shown = [f"`{row.title}` {text_of(number_of(row, metric), 2)}" for row in found[:most]]
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(shown) + more


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
        fixed = specs_of(table, ["random"])
        head = ["explainer", *(f"{kind} (n = {samples_of(table, p)})" for kind, p in wanted.items())]
        parts.append(
            f"{place(suite, model, dataset)}:\n\n"
            + markdown(head, with_tests(columns, names) + with_tests(columns, fixed))
        )
    return "\n\n".join([*parts, source("real", "verification")])


def mean_maps() -> str:
    """Own map against maps of other pairs and against the mean of all of them; every channel of FGGB."""
    path = BOARDS / "audit" / "real-pairs.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    found = {key.removeprefix("resnet29|"): one for key, one in record.items() if key.startswith("resnet29|")}
    names = sorted(found, key=lambda name: -found[name]["impostor"]["specific"]["mean"])
    rows = [
        [f"`{name}`", *(_with_error(found[name][kind][what]) for kind in KINDS for what in ("specific", "beyond mean"))]
        for name in (*(one for one in names if one not in FIXED), *(one for one in names if one in FIXED))
    ]
    head = ["explainer", *(f"{kind}: own − {other}" for kind in KINDS for other in ("two others'", "mean map"))]
    n = " and ".join(f"{found['fggb'][kind]['own']['n']} {kind}" for kind in KINDS)
    return (
        f"`resnet29` on photographs, {n} pairs:\n\n"
        + markdown(head, rows)
        + "\n\n*From `leaderboards/audit/real-pairs.json`, by `python -m training.measure_real_pairs`.*"
    )


def alikeness() -> str:
    """Is FGGB more specific where its channels are less alike? One line per network, the least alike first."""
    record = json.loads((BOARDS / "audit" / "real-pairs.json").read_text(encoding="utf-8"))
    found = {key.partition("|")[0]: one for key, one in record.items() if key.endswith(f"|{ADAPTIVE}")}
    found = {name: one for name, one in found.items() if f"{name}|xface" in record}
    order = sorted(found, key=lambda name: found[name]["note"]["channel_correlation"])
    rows = [
        [
            f"`{name}`",
            text_of(found[name]["note"]["channel_correlation"], 2),
            *(_with_error(record[f"{name}|{who}"][kind]["specific"]) for who in (ADAPTIVE, "xface") for kind in KINDS),
            " + ".join(str(found[name][kind]["own"]["n"]) for kind in KINDS),
        ]
        for name in order
    ]
    head = ["network", "`channel_correlation`", *(f"{who}, {kind}" for who in ("FGGB", "xFace") for kind in KINDS), "n"]
    return (
        "Own − two others', mean ± standard error; absolute FGGB with adaptive channels.\n\n"
        + markdown(head, rows)
        + "\n\n*From `leaderboards/audit/real-pairs.json`, by `python -m training.measure_real_pairs`.*"
    )


def _with_error(one: Mapping[str, float]) -> str:
    """Return mean ± standard error, over pairs."""
    if not one["se"]:
        return text_of(one["mean"], 4)
    return f"{text_of(one['mean'], 4, signed=True)} ± {text_of(one['se'], 4)}"


def whole_face() -> str:
    """The plain gap beside the centre prior's, which never saw the pair."""
    parts = []
    for suite, model, dataset in PAIR_BOARDS:
        table = published(suite).table(model, dataset)
        columns = {p: differences(table, methods_of(table), "centre-prior", p) for p in (ALIKE, UNALIKE)}
        shown = [row.title for row in ordered(table, ALIKE, lambda row: not row.control and bool(row.values))]
        head = [
            "explainer",
            *(
                f"gap minus centre prior's, {kind} (n = {samples_of(table, p)})"
                for kind, p in (("genuine", ALIKE), ("impostor", UNALIKE))
            ),
        ]
        parts.append(f"{place(suite, model, dataset)}:\n\n" + markdown(head, with_tests(columns, shown)))
    return "\n\n".join([*parts, source("real", "verification")])


def fggb_passes() -> str:
    """FGGB in its absolute reading (many backward passes) against cheaper gradients, on the same pairs."""
    parts = []
    for suite, model, dataset in PAIR_BOARDS:
        table = published(suite).table(model, dataset)
        (mine,) = specs_of(table, [ADAPTIVE])
        rivals = specs_of(table, [SIGNED, "xssab", "saliency"])
        columns = {}
        for protocol in (GENUINE, IMPOSTOR, ALIKE, UNALIKE):
            columns[protocol] = {
                other: found for other in rivals for found in differences(table, [mine], other, protocol).values()
            }
        body = with_tests(columns, rivals)
        cost = [passes_of(row_of(table, other)) for other in rivals]
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
        facts = f"`channel_correlation` {alike}, channels computed {computed}, passes {passes_of(row)}"
        parts.append(
            f"{place(suite, model, dataset)} ({n}; {facts}):\n\n"
            + markdown(head, [[*r, c] for r, c in zip(body, cost, strict=True)])
        )
    return "\n\n".join([*parts, source("real", "verification")])


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
        + source("cam-layers")
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
            sum(1 for name in order[: order.index("random")] if name in methods_of(table)) if "random" in order else 0
        )
        tau = taus.get((min(protocol, CONTRIBUTION), max(protocol, CONTRIBUTION)))
        shown = NOTHING if tau is None else f"{text_of(tau.tau, 2)} [{text_of(tau.low, 2)}, {text_of(tau.high, 2)}]"
        rows.append(
            [
                f"`{protocol}`",
                f"`{order[0]}`" if order else NOTHING,
                cell(random, protocol, 2),
                f"{better} of {len(methods_of(table))}",
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
        + source("pad")
        + " Verdicts: `leaderboards/audit/audit.json`."
    )


def classifier_methods(boards: Sequence[tuple[str, str, str]]) -> str:
    """Who is in the first tie class how often, as the board says it, with the figures that help to choose."""
    tables = [published(s).table(m, d) for s, m, d in boards]
    (across,) = across_tables(tables)
    rows = []
    for line in across.lines:
        found = [row for table in tables if (row := row_of(table, line.title)) is not None]
        gaps, specific, exact = (
            [v for row in found if (v := number_of(row, protocol)) is not None]
            for protocol in (GAP, "gap-specific@1", CONTRIBUTION)
        )
        means = [text_of(float(np.mean(values)) if values else None, 2) for values in (gaps, specific, exact)]
        rows.append([f"`{line.title}`", str(line.columns), *means, str(line.gates), passes_of(found[0])])
    head = [
        "explainer",
        "in the first tie class",
        "mean gap",
        "mean specific gap",
        "correlation with exact contributions",
        "gates passed",
        "passes a map, forward + backward",
    ]
    n = ", ".join(f"{samples_of(t, GAP)} on `{t.first.model.name}`" for t in tables)
    suites = dict.fromkeys(suite for suite, _model, _dataset in boards)
    return markdown(head, rows) + f"\n\nPositive images: {n}. " + source(*suites)


# --- other studies


def in_distribution() -> str:
    """The order of explainers on a network and on its twin that was fine-tuned on masked images."""
    path = BOARDS / "audit" / "masked-twins.json"
    if not path.is_file():
        return "No record: the study was not run. `python -m training.masked_twins` runs it."
    rows = [
        [
            f"`{one['model']}`",
            str(one["fill"]),
            str(one["kind"]),
            str(one["n"]),
            *(text_of(one[key], 2) for key in ("tau", "tau_told", "tau_halves")),
        ]
        for one in json.loads(path.read_text(encoding="utf-8"))
    ]
    head = ["network", "fill", "map", "n", "Kendall's τ of the two orders", "pairs told apart only", "two halves"]
    return (
        markdown(head, rows)
        + "\n\n*From `leaderboards/audit/masked-twins.json`, by `python -m training.masked_twins`.*"
    )


BLOCKS: dict[str, Callable[[], str]] = {
    "tops": tops,
    "boards": boards,
    "pair-information": pair_information,
    "mean-maps": mean_maps,
    "alikeness": alikeness,
    "whole-face": whole_face,
    "fggb-passes": fggb_passes,
    "cam-layers": cam_layers,
    "masking-metrics": masking_metrics,
    "classifier-methods": lambda: classifier_methods(CLASSIFIERS),
    "detector-methods": lambda: classifier_methods(DETECTORS),
    "families": all_families,
    "in-distribution": in_distribution,
    "ensemble-cam": ensemble_cam,
    "ensemble-differences": ensemble_differences,
    "ensemble-published": lambda: figures_of_papers("pad", "pad"),
    "fggb-published": lambda: figures_of_papers("lfw-v1", "verification"),
    "fggb-table": fggb_table,
}
