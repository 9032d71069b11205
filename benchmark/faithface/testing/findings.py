"""What a check found, and how a list of checks is run: names, severities, outcomes, and what to do.

Place in the flow: the modules ``of_explainers``, ``of_metrics``, ``of_models``, ``of_datasets`` and ``of_suites``
declare
their checks as :class:`Check` values; :func:`run_checks` runs them and returns :class:`Finding` values, which a
:class:`Report` holds. Imports only ``errors``.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Generic, TypeVar

from faithface.errors import NotApplicable, UsageError, nearest

T = TypeVar("T")


class Severity(StrEnum):
    """How much a failed check weighs: an ``error`` fails the report, a ``warning`` and a ``note`` are printed."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class Outcome(StrEnum):
    """What came of a check."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    EXPECTED_FAILURE = "expected failure"


class CheckFailed(Exception):
    """Raised by a check: the text says what was got and what was expected."""


class CheckSkipped(Exception):
    """Raised by a check that has nothing to ask here: the text says why."""


@dataclass(frozen=True)
class Check(Generic[T]):
    """One question about a plugin's object.

    Attributes:
        name: unique within its kind, such as ``batch-independent``.
        asks: the question, one sentence.
        advice: what to do when it fails.
        run: gets the trial (the object and what it is tried on); returns a remark or None; raises
            :class:`CheckFailed` or :class:`CheckSkipped`.
        after: checks without which this one makes no sense; if one of them has failed, it is skipped.
        once: asked once, not once per task.
    """

    name: str
    asks: str
    advice: str
    run: Callable[[T], str | None]
    severity: Severity = Severity.ERROR
    after: tuple[str, ...] = ()
    once: bool = False


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        case: what it was tried on, such as a task; "" where there is only one case.
        reason: what was got and expected, why it was skipped, or a remark; one line.
        advice: what to do; "" unless it failed.
        seconds: wall time of the check.
    """

    check: str
    case: str
    outcome: Outcome
    severity: Severity
    reason: str = ""
    advice: str = ""
    seconds: float = 0.0

    @property
    def failed(self) -> bool:
        """Whether this finding fails the report."""
        return self.outcome is Outcome.FAILED and self.severity is Severity.ERROR

    def __str__(self) -> str:
        where = f" [{self.case}]" if self.case else ""
        told = f": {self.reason}" if self.reason else ""
        what = f"{self.outcome} ({self.severity})" if self.outcome is Outcome.FAILED else str(self.outcome)
        return f"{self.check}{where}: {what}{told}" + (f"; {self.advice}" if self.advice else "")


@dataclass(frozen=True)
class Report:
    """All findings about one object.

    Attributes:
        kind: ``explainer``, ``model``, ``dataset``, ``metric`` or ``suite``.
        name: of the object.
    """

    kind: str
    name: str
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether no check of severity ``error`` failed."""
        return not any(finding.failed for finding in self.findings)

    @property
    def failed(self) -> tuple[Finding, ...]:
        """The findings that fail the report."""
        return tuple(finding for finding in self.findings if finding.failed)

    def failed_checks(self) -> frozenset[str]:
        """Return the names of the checks that fail the report."""
        return frozenset(finding.check for finding in self.failed)

    def raise_for_failures(self) -> None:
        """Raise AssertionError with every failure on a line of its own, if there is one."""
        if not self.ok:
            lines = "\n".join(f"  {finding}" for finding in self.failed)
            raise AssertionError(f'{self.kind} "{self.name}" does not conform:\n{lines}')

    def __str__(self) -> str:
        passed = sum(finding.outcome is Outcome.PASSED for finding in self.findings)
        head = f"{self.kind} {self.name}: {passed} passed, {len(self.failed)} failed"
        told = [f for f in self.findings if f.outcome is not Outcome.PASSED or f.reason]
        return "\n".join([head, *(f"  {finding}" for finding in told)])


def run_checks(
    checks: Sequence[Check[T]], trial: T, case: str = "", before: Iterable[Finding] = ()
) -> tuple[Finding, ...]:
    """Run checks one after another on one trial.

    Args:
        before: findings of the same case so far; ``after`` looks there too.
    """
    bad = {f.check for f in before if f.outcome in (Outcome.FAILED, Outcome.SKIPPED)}
    found: list[Finding] = []
    for check in checks:
        if missing := [name for name in check.after if name in bad]:
            bad.add(check.name)
            reason = f"needs {', '.join(missing)}"
            found.append(Finding(check.name, case, Outcome.SKIPPED, check.severity, reason))
            continue
        finding = run_check(check, trial, case)
        if finding.outcome in (Outcome.FAILED, Outcome.SKIPPED):
            bad.add(check.name)
        found.append(finding)
    return tuple(found)


def run_check(check: Check[T], trial: T, case: str) -> Finding:
    """Run one check; whatever it raises becomes its outcome."""
    start = time.perf_counter()
    outcome, reason = Outcome.PASSED, ""
    try:
        reason = check.run(trial) or ""
    except (CheckSkipped, NotApplicable) as skipped:
        outcome, reason = Outcome.SKIPPED, one_line(skipped)
    except CheckFailed as failure:
        outcome, reason = Outcome.FAILED, one_line(failure)
    except Exception as error:
        outcome, reason = Outcome.FAILED, f"raised {type(error).__name__}: {one_line(error)}"
    advice = check.advice if outcome is Outcome.FAILED else ""
    return Finding(check.name, case, outcome, check.severity, reason, advice, time.perf_counter() - start)


def one_line(error: BaseException) -> str:
    """Return an exception's text as one line."""
    return " ".join(str(error).split())[:400]


def expect(findings: Iterable[Finding], expected: Mapping[str, str], known: Iterable[str]) -> tuple[Finding, ...]:
    """Turn failures that were expected into expected failures, and expected ones that did not happen into failures.

    Args:
        expected: by check name, the reason; a check counts as failed if it fails in any case.
        known: all names of checks.

    Raises:
        UsageError: an unknown check is expected to fail, or without a reason.
    """
    names = set(known)
    for name, reason in expected.items():
        if name not in names:
            raise UsageError(f'expected_failures names "{name}"; {nearest(name, names)}')
        if not reason.strip():
            raise UsageError(f'expected_failures["{name}"] has no reason; say why the check cannot pass')
    found = tuple(findings)
    failing = {f.check for f in found if f.outcome is Outcome.FAILED}
    changed = [
        replace(f, outcome=Outcome.EXPECTED_FAILURE, reason=f"{expected[f.check]} ({f.reason})", advice="")
        if f.check in expected and f.outcome is Outcome.FAILED
        else f
        for f in found
    ]
    for name in expected:
        if name not in failing:
            changed.append(
                Finding(
                    name, "", Outcome.FAILED, Severity.ERROR,
                    "was expected to fail, but did not", f'remove "{name}" from expected_failures',
                )
            )  # fmt: skip
    return tuple(changed)


def require(condition: Any, text: str) -> None:
    """Raise :class:`CheckFailed` with ``text`` unless the condition holds."""
    if not condition:
        raise CheckFailed(text)


def mentions(text: str, parameter: str) -> bool:
    """Say whether a docstring speaks of a parameter, written with dashes or underscores."""
    return re.search(rf"\b{re.escape(parameter).replace(chr(92) + '-', '[-_]')}\b", text) is not None
