"""An audit's record as a page: Markdown with tables, and one figure.

Place in the flow: ``cli.audit`` writes the page from the record alone. May call ``record``, ``verdict`` and matplotlib.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from faithface.audit.record import AuditRecord, Evidence, Examined, Finding, World
from faithface.audit.verdict import ENOUGH, MANY, MONOTONE, NOTICED, ORDERLESS, TOLD

PAGE, FIGURE = "README.md", "audit.png"
ORDER = ("judges", "with care", "describes", "fails", "not examined")
CHECKS = ("subject > random", "random > inverted", "another", "mirrored", "wrong kind", "untrained")


def write(record: AuditRecord, folder: Path) -> None:
    """Write the page and its figure into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PAGE).write_text(render(record), encoding="utf-8")
    draw(record, folder / FIGURE)


def sorted_metrics(record: AuditRecord) -> list[Examined]:
    """Return the metrics from the best verdict to the worst; within one, in the order of the record."""
    return sorted(record.metrics, key=lambda one: ORDER.index(one.verdict))


def render(record: AuditRecord) -> str:
    """Return the page's text, a pure function of the record."""
    parts = [
        "# Audit of the metrics",
        f"What was examined: {record.suite}; {record.samples} samples per world at most, seed {record.seed}, faithface "
        f"{record.faithface}, {record.processor / 60:.0f} minutes of processor time. Everything below follows from "
        "`audit.json`. "
        "The figures are of this size: with more samples a small difference can still become significant.",
        "## Verdicts",
        _verdicts(record),
        _bars(),
        f"![z values of the checks, by metric and world]({FIGURE})",
        "*z values of the checks: blue is right, red is wrong, white is undecided; values beyond ±10 have the full "
        "colour. A dash: the check does not apply.*",
        "## Worlds",
        _worlds(record),
    ]
    for world in record.worlds:
        found = [(one, one.evidence[world.name]) for one in sorted_metrics(record) if world.name in one.evidence]
        parts += [f"## {world.name}", _checks(found), _sensitivities(found)]
        if world.exact:
            parts.append(_quality(world))
    parts += ["## Why", _reasons(record)]
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _verdicts(record: AuditRecord) -> str:
    rows = [[f"`{one.metric}`", one.family, f"**{one.verdict}**", _short(one)] for one in sorted_metrics(record)]
    return _table(["metric", "family", "verdict", "what speaks against it"], rows)


def _short(one: Examined) -> str:
    """Return the failed checks in a few words."""
    against = [finding for finding in one.findings if not finding.passed]
    if one.verdict == "not examined":
        return against[0].detail if against else ""
    general = {"monotone": "order of damaged maps", "same": "tells no map from another", "samples": "few samples"}
    names = dict.fromkeys(general.get(one.check, one.detail) for one in against if one.check != "applies")
    return ", ".join(names)


def _bars() -> str:
    return (
        f"*Judges*: subject > random > inverted subject at z ≥ {TOLD:g}; every planted fault is noticed at z ≥ "
        f"{NOTICED:g}; where the subject is the model's own contributions, the mean values of it and its nine damaged "
        f"versions are in the order of their quality, ρ ≥ {MONOTONE:g}. *With care*: the order holds, something else "
        "does not. *Describes*: neither a mirrored map nor another sample's is noticed. *Fails*: the order does not "
        f"hold, no map is told from another, or ρ < {ORDERLESS:g}. A gate *judges* where the subject passes and the "
        f"random map does not. A metric has the worst verdict of all worlds with at least {ENOUGH} samples; where it "
        f"has no such world, it is *with care* at best. A metric of more than {MANY} forward passes per sample, over "
        "all maps, is examined on few samples. A z is the mean of paired differences over its standard error."
    )


def _worlds(record: AuditRecord) -> str:
    rows = [
        [
            world.name,
            str(world.n),
            f"`{world.subject}`",
            "the model's own" if world.exact else "not known",
            ", ".join(world.methods),
        ]
        for world in record.worlds
    ]
    return _table(["world", "samples", "subject", "truth", "other explainers"], rows)


def _checks(found: Sequence[tuple[Examined, Evidence]]) -> str:
    rows = [
        [
            f"`{one.metric}`",
            str(evidence.n),
            *(_z(z) for z in checks(evidence)),
            _number(evidence.monotone),
            _number(evidence.quality),
        ]
        for one, evidence in found
    ]
    return _table(["metric", "n", *CHECKS, "ρ strength", "ρ quality"], rows)


def checks(evidence: Evidence) -> list[float | None]:
    """Return the z values in the order of :data:`CHECKS`."""
    return [
        evidence.real_over_random,
        evidence.random_over_inverted,
        *(evidence.faults.get(fault) for fault in CHECKS[2:]),
    ]


def _sensitivities(found: Sequence[tuple[Examined, Evidence]]) -> str:
    head = [
        "metric", "τ other seed", "τ 6 points", "τ fill mean", "largest difference alone / in a batch",
        "τ with contributions", "samples for z = 3", "passes", "ms",
    ]  # fmt: skip
    rows = []
    for one, e in found:
        batch = "–" if e.batch is None else f"{e.batch:.0e}" if e.batch else "0"
        stable = "never" if e.stable is None else str(e.stable)
        agreement = map(_number, (e.seed, e.points, e.fill))
        cost = (f"{e.passes:.0f}", f"{1000 * e.seconds:.1f}")
        rows.append([f"`{one.metric}`", *agreement, batch, _number(e.with_truth), stable, *cost])
    return _table(head, rows)


def _quality(world: World) -> str:
    rows = [
        [name, _number(value), _number(world.by_patch.get(name))]
        for name, value in sorted(world.quality.items(), key=lambda item: -item[1])
    ]
    head = ["version of the subject", "quality over 14×14 cells", "over patches"]
    return "Quality of the damaged versions: the mean correlation with the undamaged map.\n\n" + _table(head, rows)


def _reasons(record: AuditRecord) -> str:
    lines = []
    for one in sorted_metrics(record):
        told = [_sentence(finding) for finding in one.findings if not finding.passed]
        lines.append(f"* `{one.metric}` **{one.verdict}**" + (": " + "; ".join(told) if told else "") + ".")
    return "\n".join(lines)


def _sentence(finding: Finding) -> str:
    place = f" ({finding.world})" if finding.world else ""
    if finding.check == "applies":
        return f"{finding.detail}{place}"
    what = {
        "order": f"{finding.detail} at z",
        "fault": f"{finding.detail} map noticed at z",
        "place": f"{finding.detail} map moves it by z",
        "same": "largest difference between maps, z",
        "monotone": "ten maps ordered by quality with ρ",
        "gate": f"{finding.detail}",
        "samples": "number of samples",
    }[finding.check]
    bar = "" if finding.bar is None else f", bar {finding.bar:g}"
    value = f"{finding.value:g}" if finding.check == "samples" else _number(finding.value)
    return f"{what} = {value}{bar}{place}"


def _z(value: float | None) -> str:
    return "–" if value is None else f"{value:+.1f}".replace("-", "−")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}".replace("-", "−")


def draw(record: AuditRecord, path: Path) -> None:
    """Draw the z values of all checks: one panel per world, one row per metric."""
    import matplotlib as mpl
    import numpy as np
    from matplotlib.figure import Figure

    metrics = [one for one in sorted_metrics(record) if one.evidence]
    worlds = [world.name for world in record.worlds]
    figure = Figure(figsize=(2.6 + 2.9 * len(worlds), 1.6 + 0.24 * len(metrics)), layout="constrained")
    axes = figure.subplots(1, len(worlds), sharey=True, squeeze=False)[0]
    colours = mpl.colormaps["RdBu"].with_extremes(bad="#eeeeee")
    for axis, world in zip(axes, worlds, strict=True):
        table = np.full((len(metrics), len(CHECKS)), np.nan)
        for row, one in enumerate(metrics):
            if world in one.evidence:
                table[row] = [np.nan if z is None else z for z in checks(one.evidence[world])]
        axis.imshow(np.ma.masked_invalid(table), cmap=colours, vmin=-10, vmax=10, aspect="auto")
        for (row, column), z in np.ndenumerate(table):
            text = "–" if np.isnan(z) else f"{z:.0f}".replace("-", "−")
            axis.text(column, row, text, ha="center", va="center", fontsize=6, color="white" if abs(z) > 6 else "black")
        axis.set_xticks(range(len(CHECKS)), CHECKS, rotation=40, ha="right", fontsize=7)
        axis.set_title(world.replace(" · ", "\n"), fontsize=8)
        axis.tick_params(length=0)
    axes[0].set_yticks(range(len(metrics)), [f"{one.metric}  {one.verdict}" for one in metrics], fontsize=7)
    figure.savefig(path, dpi=110, metadata={"Software": None})


__all__ = ["CHECKS", "FIGURE", "PAGE", "checks", "draw", "render", "sorted_metrics", "write"]
