"""Several audits as one: worlds that were examined separately, on other machines or at other times.

Place in the flow: ``cli.audit`` calls it. May call ``record`` and ``verdict``.
"""

from __future__ import annotations

from collections.abc import Sequence

from faithface.audit.record import AuditRecord, Evidence, Examined, Finding
from faithface.audit.verdict import Claim, verdict_of
from faithface.errors import UsageError


def joined(records: Sequence[AuditRecord]) -> AuditRecord:
    """Return one record of all worlds, with the verdicts that follow from them together.

    Raises:
        UsageError: none, a world that is in two of them, or records of different versions or seeds.
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
    worlds = [world for record in records for world in record.worlds]
    twice = sorted({world.name for world in worlds if sum(world.name == one.name for one in worlds) > 1})
    if twice:
        raise UsageError(f'world "{twice[0]}" is in two of the records; join each world once')
    exact = {world.name: world.exact for world in worlds}
    metrics: dict[str, Examined] = {}
    for one in (one for record in records for one in record.metrics):
        metrics[one.metric] = _both(metrics[one.metric], one, exact) if one.metric in metrics else one
    return first.model_copy(
        update={
            "suite": "; ".join(dict.fromkeys(record.suite for record in records)),
            "samples": max(record.samples for record in records),
            "seconds": round(sum(record.seconds for record in records), 1),
            "worlds": tuple(worlds),
            "metrics": tuple(metrics.values()),
        }
    )


def _both(first: Examined, second: Examined, exact: dict[str, bool]) -> Examined:
    evidence: dict[str, Evidence] = {**first.evidence, **second.evidence}
    verdict, findings = verdict_of(
        Claim(first.family, first.better, first.bar), {name: (one, exact[name]) for name, one in evidence.items()}
    )
    refused: list[Finding] = [
        one for one in (*first.findings, *second.findings) if one.check == "applies" and one.world
    ]
    return first.model_copy(update={"evidence": evidence, "verdict": verdict, "findings": (*findings, *refused)})
