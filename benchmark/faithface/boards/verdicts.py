"""What the metrics' audit lets a protocol do on a board: rank, rank with a mark, or only be shown.

Place in the flow: ``board`` gives each column what :func:`standing` decides; every form of a board reads it there and
decides nothing of its own. Reads the record of an audit as JSON, since ``audit`` stands above ``boards``. Imports the
standard library.

    judges                      ranks
    with care                   ranks, and carries a mark
    not examined                ranks, and carries a mark: nothing is known against it, and nothing for it
    describes, fails            is shown, and does not rank
    a gate, description, cost   is shown, and does not rank, whatever its verdict; a gate that fails carries a mark

A metric that judges by images with a fill that is itself *with care* carries the mark too: a network that was
fine-tuned on such images orders explainers otherwise (docs/explanation/fills.md).

A protocol is looked up by its whole text. In a setting that was not examined it has the worst verdict of the settings
that were, and *with care* at best, so that no parameter makes a metric that fails rank again.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from faithface.errors import UsageError

APART = ("gate", "description", "cost")
"""Families that are shown and never ranked, in the order of their columns, which come after those that judge."""
FILE = "audit.json"
FOLDER = "audit"


class Verdict(StrEnum):
    """What an audit finds of a metric."""

    JUDGES = "judges"
    WITH_CARE = "with care"
    DESCRIBES = "describes"
    FAILS = "fails"
    NOT_EXAMINED = "not examined"


WORST = (Verdict.FAILS, Verdict.DESCRIBES, Verdict.WITH_CARE, Verdict.JUDGES)


class Against(StrEnum):
    """What speaks against a metric, as a reader is told."""

    RANDOM = "does not put a good map above a random one"
    INVERTED = "does not put a random map above an inverted one"
    ORDER = "does not order damaged maps by their quality"
    ANOTHER = "does not notice another sample's map"
    MIRRORED = "does not notice a mirrored map"
    KIND = "does not notice a map of the wrong kind"
    UNTRAINED = "does not notice the map of an untrained network"
    SAME = "tells no map from another"
    SAMPLES = "was examined on few samples"
    GATE = "does not pass a good map"
    OPEN = "passes a random map"
    OTHER = "another check of the audit failed"


CHECKS = {
    ("order", "subject over random"): Against.RANDOM,
    ("order", "random over inverted"): Against.INVERTED,
    ("monotone", ""): Against.ORDER,
    ("same", ""): Against.SAME,
    ("samples", ""): Against.SAMPLES,
    ("gate", "subject"): Against.GATE,
    ("gate", "random"): Against.OPEN,
    **{
        (check, fault): one
        for check in ("place", "fault")
        for fault, one in (
            ("another", Against.ANOTHER),
            ("mirrored", Against.MIRRORED),
            ("wrong kind", Against.KIND),
            ("untrained", Against.UNTRAINED),
        )
    },
}
"""By a finding's check and detail; of some checks the detail says nothing more."""


@dataclass(frozen=True)
class Examined:
    """What an audit found of one setting of a metric.

    Attributes:
        against: what speaks against it, each once.
        setting: the setting that was examined, where it is another one than that asked for.
    """

    verdict: Verdict = Verdict.NOT_EXAMINED
    against: tuple[Against, ...] = ()
    setting: str = ""


Audit = Mapping[str, Examined]
"""By the text of a metric with its parameters; a fill, by ``FILL`` and its name, only if it is *with care*."""
FILL = "fill "
AGREES = 0.9
"""Kendall's τ of the orders by a network and by its twin that knows masked images, from which on a fill is fine."""


class Mark(StrEnum):
    """What a board says of a column beside its name."""

    NONE = ""
    CARE = "with care"
    UNEXAMINED = "not examined"
    DESCRIBES = "only describes maps"
    FAILS = "fails the audit"


SIGNS = {Mark.NONE: "", Mark.CARE: "†", Mark.UNEXAMINED: "‡", Mark.DESCRIBES: "○", Mark.FAILS: "✗"}
"""A mark in one letter, where there is no room for words."""
LEGEND = {
    Mark.CARE: "judges with care: it or its fill passes the audit with a reservation, or another setting was examined",
    Mark.UNEXAMINED: "not examined by the audit: whether it tells good maps from bad is not known",
    Mark.DESCRIBES: "only describes maps, says the audit, and does not judge them: not ranked",
    Mark.FAILS: "fails the audit of the metrics: not ranked",
}


@dataclass(frozen=True)
class Standing:
    """What a column may do.

    Attributes:
        judges: whether its numbers say which method is better; only then they may be ranked.
        mark: what is said beside its name.
        examined: what the audit found.
        fill: what speaks against the fill that its images have; "" where nothing does.
    """

    judges: bool
    mark: Mark
    examined: Examined
    fill: str = ""

    @property
    def why(self) -> str:
        """The reason of the mark in one line, such as ``fails the audit: tells no map from another``; "" without."""
        if self.mark is Mark.NONE:
            return ""
        said = [phrase(self.examined.against)] if self.examined.against else []
        said += [f"examined as {self.examined.setting}, not in this setting"] if self.examined.setting else []
        said += [self.fill] if self.fill else []
        return f"{self.mark}: {'; '.join(said)}" if said else str(self.mark)


def fill_of(parameters: Mapping[str, str], which: str) -> str:
    """Return the fill of a protocol's images by its parameters and the samples that it judges; "" where it has none.

    Examples:
        >>> fill_of({"fill": "auto"}, "impostor"), fill_of({"fill": "black"}, "positive"), fill_of({}, "all")
        ('partner', 'black', '')
    """
    fill = parameters.get("fill", "")
    return {"genuine": "stranger", "impostor": "partner"}.get(which, "blur") if fill == "auto" else fill


def standing(protocol: str, family: str, audit: Audit, fill: str = "") -> Standing:
    """Return what a protocol may do on a board: the one place that decides.

    Args:
        protocol: its text with parameters.
        family: of its metric; "" where it states none.
        audit: what is known of metrics.
        fill: of its images; "": none, or it does not matter here.
    """
    found = examined(protocol, audit)
    if family in APART:
        failed = family == "gate" and found.verdict is Verdict.FAILS
        return Standing(False, Mark.FAILS if failed else Mark.NONE, found)
    marks = {
        Verdict.JUDGES: Mark.NONE,
        Verdict.WITH_CARE: Mark.CARE,
        Verdict.DESCRIBES: Mark.DESCRIBES,
        Verdict.FAILS: Mark.FAILS,
        Verdict.NOT_EXAMINED: Mark.UNEXAMINED,
    }
    judges, mark = found.verdict not in (Verdict.DESCRIBES, Verdict.FAILS), marks[found.verdict]
    care = audit.get(f"{FILL}{fill}") if judges and family != "truth" else None
    if care is None:
        return Standing(judges, mark, found)
    return Standing(judges, Mark.CARE if mark is Mark.NONE else mark, found, f"the fill {fill} {care.setting}")


def examined(protocol: str, audit: Audit) -> Examined:
    """Return what an audit says of a protocol, by another setting of the metric where this one was not examined."""
    if protocol in audit:
        return audit[protocol]
    name = protocol.partition("(")[0]
    others = [
        (text, one)
        for text, one in audit.items()
        if text.partition("(")[0] == name and one.verdict is not Verdict.NOT_EXAMINED
    ]
    if not others:
        return Examined()
    text, worst = min(others, key=lambda other: (WORST.index(other[1].verdict), other[0]))
    return Examined(Verdict.WITH_CARE if worst.verdict is Verdict.JUDGES else worst.verdict, worst.against, text)


def phrase(against: Iterable[Against]) -> str:
    """Return reasons as text; those that begin alike share the beginning.

    Examples:
        >>> phrase([Against.RANDOM, Against.ANOTHER, Against.MIRRORED])
        "does not put a good map above a random one; does not notice another sample's map or a mirrored map"
    """
    said: list[str] = []
    notice = "does not notice "
    for one in against:
        if said and said[-1].startswith(notice) and one.startswith(notice):
            said[-1] += f" or {one.removeprefix(notice)}"
        else:
            said.append(str(one))
    return "; ".join(said)


# --- audits on disk


def audit_for(board: Path | None = None, record: Path | None = None) -> Audit:
    """Return what is known of metrics where a board or run lies: later ones of these go before earlier ones.

    The audit that comes with faithface; the one beside the board, such as ``leaderboards/audit/audit.json``; the one
    that is given.

    Args:
        board: the folder of a board, such as ``leaderboards/demo/v0``, or of a run.
        record: of an audit, as ``faithface audit`` writes it.

    Raises:
        UsageError: a file is not a record of an audit.
    """
    found = dict(published())
    if board is not None:
        beside = board.resolve().parent.parent / FOLDER / FILE
        found |= read_audit(beside) if beside.is_file() else {}
    if record is not None:
        found |= read_audit(record)
    return found


@functools.cache
def published() -> Audit:
    """Return the audit that comes with faithface.

    Raises:
        UsageError: it is not there, or was altered.
    """
    package = Path(__file__).resolve().parents[1]
    places = (package / "audit" / "published.json", package.parents[1] / "leaderboards" / FOLDER / FILE)
    return read_audit(next((path for path in places if path.is_file()), places[0]))


def read_audit(path: Path) -> Audit:
    """Read the verdicts of an audit's record.

    Raises:
        UsageError: no such file, or not a record of an audit.
    """
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return {str(one["metric"]): _examined(one) for one in told["metrics"]} | _fills(told.get("fills", ()))
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file; expected the record that `faithface audit` writes") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        first = str(error).splitlines()[0]
        raise UsageError(f"{path}: not a record of an audit ({first}); run `faithface audit` again") from None


def _examined(one: Mapping[str, Any]) -> Examined:
    against = [CHECKS.get((f["check"], f["detail"])) or CHECKS.get((f["check"], "")) or Against.OTHER
               for f in one["findings"] if not f["passed"] and f["check"] != "applies"]  # fmt: skip
    order = list(Against)
    return Examined(Verdict(one["verdict"]), tuple(sorted(set(against), key=order.index)))


def _fills(checks: Iterable[Mapping[str, Any]]) -> dict[str, Examined]:
    """Return the fills with which some network orders explainers otherwise than its twin that knows masked images."""
    taus: dict[str, list[float]] = {}
    told: dict[str, list[float]] = {}
    for one in checks:
        taus.setdefault(str(one["fill"]), []).append(float(one["tau"]))
        if one.get("tau_told") is not None:
            told.setdefault(str(one["fill"]), []).append(float(one["tau_told"]))
    return {
        f"{FILL}{fill}": Examined(Verdict.WITH_CARE, (), _agreeing(found, told.get(fill, [])))
        for fill, found in taus.items()
        if min(found) < AGREES
    }


def _agreeing(taus: list[float], told: list[float]) -> str:
    said = f"gives an order that agrees with networks fine-tuned on such images to Kendall's τ of {_range(taus)}"
    of_told = f", and to {_range(told)} over explainers that are told apart" if told else ""
    return f"{said} ({AGREES} is asked){of_told}"


def _range(values: Iterable[float]) -> str:
    shown = [f"{value:.2f}" for value in sorted(values)]
    return shown[0] if shown[0] == shown[-1] else f"{shown[0]} to {shown[-1]}"
