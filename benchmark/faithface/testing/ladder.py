"""The ladder of a plugin: *runs*, *conforms*, *documented*, *validated*. Computed, never declared.

Place in the flow: ``faithface check`` asks :func:`examine`; ``faithface plugins`` asks :func:`known_tier`, which only
reads what the last check of the same code found. May call the checks, ``plugins``, ``hashing``, ``boards.record`` and
``audit.record``.

* **runs**: faithface loads it, and it registers something.
* **conforms**: no check of severity *error* fails on anything that it registers.
* **documented**: the checks of what it says of itself pass too, and its distribution names a licence and a description.
* **validated**: each explainer, model, dataset and fill has an entry on a board that was computed again (trust *re-run* or
  *independent*), with the code that is installed now; a suite has such a board; each metric has passed the audit.

A tier includes those before it. What it is computed from is kept in the user's cache under the fingerprints of all that
the plugin registers, so that a change of its code, or of faithface, makes the tier unknown.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from faithface.durable import write_whole
from faithface.errors import UsageError
from faithface.hashing import fingerprint_of
from faithface.plugins import CORE, Registered, Registry
from faithface.testing.collecting import check_object, objects_of, rows_of
from faithface.testing.findings import Finding, Outcome, Report, Severity

RERUN = ("re-run", "independent")
PASSING = ("judges", "with care", "describes")
DOCUMENTED = {"documented", "cites-source", "licensed", "card-complete", "named"}
"""The checks of what an object says of itself; the rule "documented" is made of them."""


class Tier(StrEnum):
    """How far up the ladder a plugin stands; ``fails`` is below it."""

    FAILS = "fails"
    RUNS = "runs"
    CONFORMS = "conforms"
    DOCUMENTED = "documented"
    VALIDATED = "validated"


ORDER = tuple(Tier)


@dataclass(frozen=True)
class Missing:
    """One thing that a tier needs and the plugin has not: what it is about, what is wrong, what to do."""

    tier: Tier
    what: str
    reason: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.what}: {self.reason}" + (f"; {self.advice}" if self.advice else "")


@dataclass(frozen=True)
class Standing:
    """Where a distribution stands.

    Attributes:
        tier: the highest of which nothing is missing.
        missing: all that is missing, of the tiers above too.
        reports: of each registered object.
    """

    distribution: str
    tier: Tier
    missing: tuple[Missing, ...]
    reports: tuple[Report, ...]

    @property
    def next(self) -> Tier | None:
        """The next tier; None at the top."""
        at = ORDER.index(self.tier) + 1
        return ORDER[at] if at < len(ORDER) else None

    @property
    def needed(self) -> tuple[Missing, ...]:
        """What the next tier needs."""
        return tuple(one for one in self.missing if one.tier is self.next)


def examine(
    distribution: str,
    registry: Registry,
    *,
    boards: Iterable[Path] = (),
    paths: Mapping[str, str] | None = None,
    data: Mapping[str, str] | None = None,
    max_examples: int = 10,
    tell: Callable[[Report], None] = lambda _report: None,
) -> Standing:
    """Check all that a distribution registers, and say where it stands.

    Args:
        boards: folders in which published records and audits are looked for.
        paths, data: as of :func:`~faithface.testing.collecting`.
        tell: receives each report as it is made.

    Raises:
        UsageError: no such distribution.
    """
    rows = rows_of(registry, distribution)
    broken = [Missing(Tier.RUNS, f"entry point {r.entry_point}", r.error) for r in rows if r.status != "ok"]
    found = objects_of(registry, distribution)
    if not found and not broken:
        broken = [Missing(Tier.RUNS, distribution, "registers nothing")]
    reports: list[Report] = []
    missing = list(broken)
    for kind, entry in found:
        report = _report(
            kind, entry, registry, (paths or {}).get(entry.name, ""), (data or {}).get(entry.name, ""), max_examples
        )
        reports.append(report)
        tell(report)
        missing += _from_report(report)
    missing += _about_distribution(rows[0].distribution)
    missing += [gap for kind, entry in found if (gap := _not_validated(kind, entry, tuple(boards))) is not None]
    standing = Standing(distribution, _tier(missing), tuple(missing), tuple(reports))
    remember(registry, standing)
    return standing


def _tier(missing: Iterable[Missing]) -> Tier:
    wanting = {one.tier for one in missing}
    reached = Tier.FAILS
    for tier in ORDER[1:]:
        if tier in wanting:
            break
        reached = tier
    return reached


def _report(kind: str, entry: Registered[Any], registry: Registry, path: str, data: str, max_examples: int) -> Report:
    try:
        return check_object(kind, entry, registry, max_examples=max_examples, path=path, data=data)
    except UsageError as error:
        failure = Finding("opens", "", Outcome.FAILED, Severity.ERROR, str(error), f"give --path {entry.name}=PATH")
        return Report(kind[:-1], entry.name, (failure,))


def _from_report(report: Report) -> list[Missing]:
    what = f"{report.kind} {report.name}"
    found = []
    for finding in report.findings:
        if finding.outcome is not Outcome.FAILED:
            continue
        case = f" [{finding.case}]" if finding.case else ""
        if finding.check in DOCUMENTED:
            found.append(Missing(Tier.DOCUMENTED, what, f"{finding.check}{case}: {finding.reason}", finding.advice))
        elif finding.severity is Severity.ERROR:
            found.append(Missing(Tier.CONFORMS, what, f"{finding.check}{case}: {finding.reason}", finding.advice))
    return found


def _about_distribution(name: str) -> list[Missing]:
    try:
        told: Any = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        return [Missing(Tier.DOCUMENTED, name, "is no distribution", "`faithface new-plugin` makes one")]
    found = []
    if not told.get("Summary"):
        found.append(Missing(Tier.DOCUMENTED, name, "has no description", "write project.description"))
    if not (told.get("License-Expression") or told.get("License")):
        found.append(Missing(Tier.DOCUMENTED, name, "names no licence", "write project.license"))
    if not told.get_payload() and not told.get("Description"):
        found.append(Missing(Tier.DOCUMENTED, name, "has no README", "write project.readme"))
    return found


# --- validated


def _not_validated(kind: str, entry: Registered[Any], boards: tuple[Path, ...]) -> Missing | None:
    """Return what the tier *validated* needs of an object; None if nothing."""
    what = f"{kind[:-1]} {entry.name}"
    if kind == "suites":
        seen = [trust for role, name, _code, trust in _entries(boards) if role == kind and name == entry.name]
        if any(trust in RERUN for trust in seen):
            return None
        return Missing(
            Tier.VALIDATED, what, "no board of it with entries that were run again was found", "publish a run"
        )
    code = fingerprint_of(entry.object, entry.provenance.distribution)
    if kind == "metrics":
        verdicts = _verdicts(boards).get(entry.name, set())
        if not verdicts:
            return Missing(Tier.VALIDATED, what, "no audit of it was found", f"faithface audit --metric {entry.name}")
        if not verdicts & set(PASSING):
            return Missing(Tier.VALIDATED, what, f"the audit's verdict is {', '.join(sorted(verdicts))}")
        return None
    mine = (kind, entry.name, code)
    seen = [trust for *which, trust in _entries(boards) if tuple(which) == mine]
    if any(trust in RERUN for trust in seen):
        return None
    if seen:
        return Missing(Tier.VALIDATED, what, "its board entries are self-reported", "have somebody else run it again")
    return Missing(
        Tier.VALIDATED, what, "no board entry of this code was found", "publish a run; name its folder with --board"
    )


def _entries(boards: tuple[Path, ...]) -> list[tuple[str, str, str, str]]:
    """Return (kind, name, fingerprint, trust) of what stands in the records under some folders: explainers, models,
    datasets, the fills of metrics, and suites (without a fingerprint).
    """
    found = []
    for path in sorted(p for board in boards for p in board.rglob("*.json") if "records" in p.parts):
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            for kind, role in (("explainers", "explainer"), ("models", "model"), ("datasets", "dataset")):
                part = told[role]
                found.append((kind, part["name"], part["origin"]["fingerprint"], str(told.get("trust", ""))))
            for number in told["numbers"]:
                for parameter, part in number.get("parts", {}).items():
                    name = number["parameters"][parameter].partition("(")[0]
                    found.append((f"{parameter}s", name, part["fingerprint"], str(told.get("trust", ""))))
            found.append(("suites", told["suite"]["name"], "", str(told.get("trust", ""))))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # `faithface leaderboard build` says what is wrong with a record
    return found


def _verdicts(boards: tuple[Path, ...]) -> dict[str, set[str]]:
    """Return the audit's verdicts by metric id, in all audits under some folders."""
    found: dict[str, set[str]] = {}
    for path in sorted(p for board in boards for p in board.rglob("audit.json")):
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        for one in told.get("metrics", ()):
            name = str(one.get("metric", one.get("id", ""))).partition("(")[0]
            found.setdefault(name, set()).add(str(one.get("verdict", "")))
    return found


# --- what was found before


def code_of(registry: Registry, distribution: str) -> str:
    """Return a hash of all that a distribution registers, and of the version of faithface."""
    parts = [
        [kind, entry.name, fingerprint_of(entry.object, entry.provenance.distribution)]
        for kind, entry in objects_of(registry, distribution)
    ]
    return hashlib.sha256(json.dumps([importlib.metadata.version(CORE), distribution, parts]).encode()).hexdigest()


def _file() -> Path:
    from platformdirs import user_cache_path

    return Path(os.environ.get("FAITHFACE_CACHE") or user_cache_path("faithface", False)) / "tiers.json"


def _known() -> dict[str, str]:
    try:
        told = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(k): str(v) for k, v in told.items()} if isinstance(told, dict) else {}


def remember(registry: Registry, standing: Standing) -> None:
    """Keep a tier for :func:`known_tier`; where the cache cannot be written, it is not kept."""
    known = _known() | {code_of(registry, standing.distribution): str(standing.tier)}
    try:
        _file().parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(known, indent=1).encode()
        write_whole(_file(), lambda file: file.write(text))  # type: ignore[arg-type, return-value]
    except Exception:
        return


def known_tier(registry: Registry, distribution: str, status: str) -> str:
    """Return the tier that the last check of this code found; else ``runs`` or ``fails``, which loading tells."""
    if status != "ok":
        return str(Tier.FAILS) if status == "failed" else ""
    known = _known()
    return known.get(code_of(registry, distribution), str(Tier.RUNS)) if known else str(Tier.RUNS)
