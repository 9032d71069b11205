"""The ladder of a plugin: *runs*, *conforms*, *documented*, *validated*. Computed, never declared.

Place in the flow: ``faithface check`` asks :func:`examine`; ``faithface plugins`` asks :func:`known_tier`, which only
reads what the last check of the same code found. May call the checks, ``plugins``, ``hashing``,
``boards.record`` and ``boards.attest``; of an audit it reads the JSON.

The rules are :data:`RULES` and the checks of the conformance kit; ``docs/tools/ladder_pages.py`` writes a page for each
tier from them. A tier includes those before it. What it is computed from is kept in the user's cache under the
fingerprints of all that the plugin registers, so that a change of its code, or of faithface, makes the tier unknown.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faithface.boards.attest import Level, read_attestations
from faithface.boards.record import RECORDS, read_records
from faithface.boards.tiers import Reached, Tier, write_tiers
from faithface.durable import write_whole
from faithface.errors import UsageError
from faithface.hashing import fingerprint_of
from faithface.plugins import CORE, Registered, Registry
from faithface.testing.collecting import check_object, objects_of, rows_of
from faithface.testing.findings import Finding, Outcome, Report, Severity

PASSING = ("judges", "with care", "describes")
DOCUMENTED = {"documented", "cites-source", "licensed", "card-complete", "named"}
"""The checks of what an object says of itself; the tier "documented" is made of them."""


ORDER = tuple(Tier)
PAGE = "reference/ladder/{}.md"
"""Of the documentation: the page with the rules of a tier."""


@dataclass(frozen=True)
class Rule:
    """What a tier asks beside the checks of the conformance kit.

    Attributes:
        of: what it is asked of.
        asks: the question, one sentence.
        advice: what to do where the answer is no.
    """

    tier: Tier
    name: str
    of: str
    asks: str
    advice: str


Entry = tuple[str, str, str, Level]
"""What stands on a board: kind, name, fingerprint of its code, and how far the numbers have been seen by others."""

RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule(
            Tier.RUNS,
            "loads",
            "each entry point",
            "Does the module import, is every hook spelt as documented, and does every hook return objects of its kind "
            "under names that nobody else has?",
            "run `FAITHFACE_TRACEBACK=1 faithface plugins`",
        ),
        Rule(Tier.RUNS, "registers", "the distribution", "Does it register anything?", "return objects from a hook"),
        Rule(
            Tier.DOCUMENTED,
            "distribution",
            "the distribution",
            "Is it installed as a distribution, with metadata?",
            "`faithface new-plugin` makes one",
        ),
        Rule(Tier.DOCUMENTED, "description", "the distribution", "Has it a description?", "write project.description"),
        Rule(Tier.DOCUMENTED, "licence", "the distribution", "Does it name a licence?", "write project.license"),
        Rule(Tier.DOCUMENTED, "readme", "the distribution", "Has it a README?", "write project.readme"),
        Rule(
            Tier.VALIDATED,
            "board-entry",
            "each explainer, model, dataset and fill",
            "Is there a board entry of the code that is installed now?",
            "publish a run; name its folder with --board",
        ),
        Rule(
            Tier.VALIDATED,
            "re-run",
            "that entry, and a suite's board",
            "Was it computed again by `faithface verify --attest`?",
            "have somebody else run `faithface verify BOARD --attest --independent`",
        ),
        Rule(
            Tier.VALIDATED,
            "audit",
            "each metric",
            "Has it passed the audit, with the verdict judges, with care or describes?",
            "run `faithface audit --metric METRIC`",
        ),
    )
}
"""By name."""


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
        objects: the tier of each by itself, with what the distribution lacks counted against all.
        version: of the distribution.
    """

    distribution: str
    tier: Tier
    missing: tuple[Missing, ...]
    reports: tuple[Report, ...]
    objects: tuple[Reached, ...] = ()
    version: str = ""

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
    broken = [_missing("loads", f"entry point {r.entry_point}", r.error, "") for r in rows if r.status != "ok"]
    found = objects_of(registry, distribution)
    if not found and not broken:
        broken = [_missing("registers", distribution, "registers nothing")]
    reports: list[Report] = []
    common = [*broken, *_about_distribution(rows[0].distribution)]
    missing = list(common)
    entries, verdicts = _entries(tuple(boards)), _verdicts(tuple(boards))
    reached = []
    for kind, entry in found:
        report = _report(
            kind, entry, registry, (paths or {}).get(entry.name, ""), (data or {}).get(entry.name, ""), max_examples
        )
        reports.append(report)
        tell(report)
        mine = _from_report(report)
        mine += [gap for gap in (_not_validated(kind, entry, entries, verdicts),) if gap is not None]
        missing += mine
        code = fingerprint_of(entry.object, entry.provenance.distribution)
        tier = _tier([*common, *mine])
        reached.append(Reached(kind=kind[:-1], name=entry.name, fingerprint=code, tier=tier))
    standing = Standing(distribution, _tier(missing), tuple(missing), tuple(reports), tuple(reached), rows[0].version)
    remember(registry, standing)
    return standing


def _missing(rule: str, what: str, reason: str, advice: str | None = None) -> Missing:
    found = RULES[rule]
    return Missing(found.tier, what, reason, found.advice if advice is None else advice)


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
        return [_missing("distribution", name, "is no distribution")]
    found = []
    if not told.get("Summary"):
        found.append(_missing("description", name, "has no description"))
    if not (told.get("License-Expression") or told.get("License")):
        found.append(_missing("licence", name, "names no licence"))
    if not told.get_payload() and not told.get("Description"):
        found.append(_missing("readme", name, "has no README"))
    return found


# --- validated


def _not_validated(
    kind: str, entry: Registered[Any], entries: Sequence[Entry], verdicts: Mapping[str, set[str]]
) -> Missing | None:
    """Return what the tier *validated* needs of an object; None if nothing."""
    what = f"{kind[:-1]} {entry.name}"
    if kind == "metrics":
        mine = verdicts.get(entry.name, set())
        if not mine:
            return _missing("audit", what, "no audit of it was found", f"run `faithface audit --metric {entry.name}`")
        if not mine & set(PASSING):
            return _missing("audit", what, f"the audit's verdict is {', '.join(sorted(mine))}", "")
        return None
    code = "" if kind == "suites" else fingerprint_of(entry.object, entry.provenance.distribution)
    seen = [level for *which, level in entries if tuple(which) == (kind, entry.name, code)]
    if any(level is not Level.SELF_REPORTED for level in seen):
        return None
    if seen:
        return _missing("re-run", what, "its board entries are self-reported")
    none = "no board of it was found" if kind == "suites" else "no board entry of this code was found"
    return _missing("board-entry", what, none)


def _entries(boards: tuple[Path, ...]) -> list[Entry]:
    """Return (kind, name, fingerprint, level) of what stands in the records under some folders: explainers, models,
    datasets, the fills of metrics, and suites (without a fingerprint).

    The level of a record is that of its attestations. A board that cannot be read counts for nothing;
    ``faithface leaderboard validate`` says what is wrong with it.
    """
    found: list[Entry] = []
    for records in sorted(path for board in boards for path in board.rglob(RECORDS) if path.is_dir()):
        try:
            kept = read_records(records)
        except UsageError:
            continue
        attested = read_attestations(records.parent, kept)
        for record in (one.record for one in kept):
            level = attested.level(record)
            parts = [
                ("explainers", record.explainer.name, record.explainer.origin.fingerprint),
                ("models", record.model.name, record.model.origin.fingerprint),
                ("datasets", record.dataset.name, record.dataset.origin.fingerprint),
                ("suites", record.suite.name, ""),
                *(
                    (f"{parameter}s", number.parameters[parameter].partition("(")[0], origin.fingerprint)
                    for number in record.numbers
                    for parameter, origin in number.parts.items()
                ),
            ]
            found += [(*part, level) for part in parts]
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


def publish(standing: Standing, folder: Path) -> Path:
    """Write the tiers of what a distribution registers beside the boards in a folder, and return the file."""
    core = importlib.metadata.version(CORE)
    return write_tiers(folder, standing.distribution, standing.version, core, standing.objects)


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
