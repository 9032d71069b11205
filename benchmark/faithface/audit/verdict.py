"""From evidence to a verdict: a pure function, so that a bar that is moved needs no new exam.

Place in the flow: ``audit`` asks for each metric. May call ``record``.

In each world, in this order:

0. A gate **judges** if the subject passes it and the random map does not, else it **fails**. What states costs
   **describes**. A world of fewer than 30 samples is shown and gives no verdict, where another one does; where none
   does, a metric is **with care** at best.
1. **fails** if it tells no map from another (all |z| below 2); a description **describes**.
2. **describes** if neither a mirrored map nor another sample's map is noticed (|z| below 2): whatever it says, it does
   not say where. A metric that claims more than a description must still put the subject above random, else it
   **fails**.
3. **fails** unless subject > random > inverted subject, each at z ≥ 2.
4. **judges** if every fault is noticed at z ≥ 3 and, where the truth is exact, the mean values of the subject and its
   nine damaged versions are in the order of their quality with ρ ≥ 0.98. Else **with care**; below ρ = 0.5 it
   **fails**.

The verdict over all worlds is the worst one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from faithface.audit.record import Evidence, Finding, Verdict

TOLD = 2.0  # z from which two maps are told apart
NOTICED = 3.0  # z from which a planted fault is noticed
MONOTONE, ORDERLESS = 0.98, 0.5
ENOUGH = 30  # samples from which a world's verdict counts
MANY = 5000  # forward passes per sample, over all candidates, above which a metric is scored on the first batch only
PLACES = ("another", "mirrored")  # faults that keep the map's values and move them
WORST = tuple(reversed(get_args(Verdict)[:4]))  # fails, describes, with care, judges


@dataclass(frozen=True)
class Claim:
    """What a metric says of itself: its family, its direction and, if it is a gate, its bar."""

    family: str
    better: str = "higher"
    bar: float | None = None


def verdict_of(claim: Claim, worlds: Mapping[str, tuple[Evidence, bool]]) -> tuple[Verdict, tuple[Finding, ...]]:
    """Return the verdict over all worlds, and why.

    Args:
        worlds: by name: the evidence, and whether the truth is exact there.
    """
    if not worlds:
        return "not examined", (Finding(check="applies", passed=False, detail="it applies to no world of the audit"),)
    found: list[Finding] = []
    verdicts: list[Verdict] = []
    counted = {name: one for name, one in worlds.items() if one[0].n >= ENOUGH} or worlds
    for name, (evidence, exact) in counted.items():
        one, findings = _in_world(claim, evidence, exact, name)
        verdicts.append(one)
        found += findings
        if evidence.n < ENOUGH:
            verdicts.append("with care" if one == "judges" else one)
            found.append(Finding(check="samples", passed=False, world=name, value=evidence.n, bar=ENOUGH))
    return min(verdicts, key=WORST.index), tuple(found)


def _gate(claim: Claim, evidence: Evidence, world: str) -> tuple[Verdict, list[Finding]]:
    """Return whether the subject passes a gate that the random map does not pass."""
    findings = []
    for name, expected in (("subject", True), ("random", False)):
        mean = evidence.means.get(name, float("nan"))
        through = mean >= (claim.bar or 0.0) if claim.better == "higher" else mean <= (claim.bar or 0.0)
        findings.append(
            Finding(check="gate", passed=through == expected, world=world, detail=name, value=mean, bar=claim.bar)
        )
    return ("judges" if all(one.passed for one in findings) else "fails"), findings


def _in_world(claim: Claim, evidence: Evidence, exact: bool, world: str) -> tuple[Verdict, list[Finding]]:
    if claim.family == "cost":
        return "describes", []
    if claim.bar is not None:
        return _gate(claim, evidence, world)
    order = {
        "subject over random": evidence.real_over_random,
        "random over inverted": evidence.random_over_inverted,
    }
    told = max(map(abs, [*order.values(), *evidence.faults.values()]))
    if told < TOLD:
        described = claim.family == "description"
        return ("describes" if described else "fails"), [
            Finding(check="same", passed=False, world=world, detail="all maps", value=told, bar=TOLD)
        ]
    findings = [
        Finding(check="order", passed=z >= TOLD, world=world, detail=which, value=z, bar=TOLD)
        for which, z in order.items()
    ]
    places = {fault: evidence.faults[fault] for fault in PLACES if fault in evidence.faults}
    if places and max(map(abs, places.values())) < TOLD:
        blind = [
            Finding(check="place", passed=False, world=world, detail=fault, value=z, bar=TOLD)
            for fault, z in places.items()
        ]
        fits = claim.family == "description" or findings[0].passed
        return ("describes" if fits else "fails"), [*findings, *blind]
    findings += [
        Finding(check="fault", passed=z >= NOTICED, world=world, detail=fault, value=z, bar=NOTICED)
        for fault, z in evidence.faults.items()
    ]
    rho = evidence.quality
    if exact:
        good = rho is not None and rho >= MONOTONE
        findings.append(Finding(check="monotone", passed=good, world=world, value=rho, bar=MONOTONE))
    if not all(finding.passed for finding in findings if finding.check == "order"):
        return "fails", findings
    if exact and (rho is None or rho < ORDERLESS):
        return "fails", findings
    return ("judges" if all(finding.passed for finding in findings) else "with care"), findings
