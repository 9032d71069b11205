"""Several audits as one: worlds or metrics that were examined separately, on other machines or at other times.

Place in the flow: ``cli.audit`` calls it. May call ``record`` and ``verdict``.
"""

from __future__ import annotations

from collections.abc import Sequence

from faithface.audit.record import AuditRecord, Evidence, Examined, Finding, World
from faithface.audit.verdict import Claim, verdict_of
from faithface.errors import UsageError

SAME = ("model", "sha256", "dataset", "revision", "subject")


def joined(records: Sequence[AuditRecord]) -> AuditRecord:
    """Return one record of all worlds and metrics, with the verdicts that follow from them together.

    A world may be in several records: of a metric that was examined there twice, the larger number of samples counts.

    Raises:
        UsageError: none, records of different versions or seeds, or one name for two different worlds.
    """
    if not records:
        raise UsageError("no records to join; give the folders of at least one audit")
    first = records[0]
    for other in records[1:]:
        if (other.faithface, other.seed) != (first.faithface, first.seed):
            raise UsageError(
                f"records of faithface {first.faithface}, seed {first.seed}, and of {other.faithface}, seed "
                f"{other.seed}, are not one audit; examine the worlds again with one version and seed"
            )
    worlds: dict[str, World] = {}
    for world in (world for record in records for world in record.worlds):
        worlds[world.name] = _one_world(worlds[world.name], world) if world.name in worlds else world
    exact = {world.name: world.exact for world in worlds.values()}
    metrics: dict[str, Examined] = {}
    for one in (one for record in records for one in record.metrics):
        metrics[one.metric] = _both(metrics[one.metric], one, exact) if one.metric in metrics else one
    return first.model_copy(
        update={
            "suite": "; ".join(dict.fromkeys(record.suite for record in records)),
            "samples": max(record.samples for record in records),
            "seconds": round(sum(record.seconds for record in records), 1),
            "processor": round(sum(record.processor for record in records), 1),
            "worlds": tuple(worlds.values()),
            "metrics": tuple(metrics.values()),
            "fills": tuple({(f.model, f.fill, f.kind): f for record in records for f in record.fills}.values()),
        }
    )


def _one_world(first: World, second: World) -> World:
    """Return a world that is in two records: figures of the larger, and what only the smaller has."""
    for what in SAME:
        if getattr(first, what) != getattr(second, what):
            raise UsageError(
                f'world "{first.name}" has {what} "{getattr(first, what)}" in one record and '
                f'"{getattr(second, what)}" in another; examine it again'
            )
    small, large = sorted((first, second), key=lambda world: world.n)
    table = {
        metric: {**small.kendall.get(metric, {}), **large.kendall.get(metric, {})}
        for metric in dict.fromkeys((*first.kendall, *second.kendall))
    }
    return large.model_copy(
        update={"kendall": table, "methods": tuple(dict.fromkeys((*large.methods, *small.methods)))}
    )


def _both(first: Examined, second: Examined, exact: dict[str, bool]) -> Examined:
    evidence: dict[str, Evidence] = dict(first.evidence)
    for world, one in second.evidence.items():
        if world not in evidence or one.n >= evidence[world].n:
            evidence[world] = one
    verdict, findings = verdict_of(
        Claim(first.family, first.better, first.bar), {name: (one, exact[name]) for name, one in evidence.items()}
    )
    refused: list[Finding] = [
        one
        for one in (*first.findings, *second.findings)
        if one.check == "applies" and one.world not in ("", *evidence)
    ]
    kept = tuple(dict.fromkeys(refused))
    return first.model_copy(update={"evidence": evidence, "verdict": verdict, "findings": (*findings, *kept)})
