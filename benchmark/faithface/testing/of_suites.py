"""The checks of suites.

Place in the flow: ``check_suite`` is what plugin authors call, through ``faithface.testing``. Makes the suite's plan
and
runs nothing. May call ``findings`` and the core.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from faithface.errors import FaithfaceError
from faithface.plugins import Registry, load_registry
from faithface.run.plan import Plan, make_plan
from faithface.run.request import from_suite
from faithface.run.suite import Suite, load_suite
from faithface.testing.findings import Check, CheckFailed, CheckSkipped, Report, Severity, expect, require, run_checks


@dataclass
class Trial:
    """A suite file, and the plugins that its names are looked up in."""

    path: Path
    registry: Registry

    @cached_property
    def suite(self) -> Suite:
        return load_suite(self.path)

    @cached_property
    def plan(self) -> Plan:
        if not self.suite.models or not self.suite.datasets:
            raise CheckSkipped("models or datasets are left to the user")
        return make_plan(from_suite(self.suite), self.registry)


def reads(trial: Trial) -> str | None:
    try:
        _ = trial.suite
    except FaithfaceError as error:
        raise CheckFailed(str(error)) from None
    return None


def named(trial: Trial) -> str | None:
    require(trial.suite.description, "description is empty")
    name, stem = trial.suite.name, trial.path.stem
    require(name == stem, f'the suite is named "{name}" and its file "{stem}.toml"; users type the file\'s name')
    return None


def resolves(trial: Trial) -> str | None:
    wrong = []
    for what in ("model", "dataset", "explainer", "metric"):
        for text in getattr(trial.suite, f"{what}s"):
            try:
                getattr(trial.registry, what)(text)
            except FaithfaceError as error:
                wrong.append(f"{text}: {error}")
    require(not wrong, f"{wrong[0]}; {len(wrong)} in all" if wrong else "")
    return None


def plans(trial: Trial) -> str | None:
    try:
        cells = trial.plan.cells
    except FaithfaceError as error:
        raise CheckFailed(str(error)) from None
    return f"{sum(cell.reason is None for _group, cell in cells)} cells"


def has_controls(trial: Trial) -> str | None:
    missing = {"random", "centre-prior", "edges"} - {text.partition("(")[0] for text in trial.suite.explainers}
    require(not missing, f"no {', '.join(sorted(missing))} among the explainers")
    return None


def limited(trial: Trial) -> str | None:
    require(trial.suite.seed >= 0, f"seed is {trial.suite.seed}; expected 0 or more")
    twice = [text for text in trial.suite.explainers if trial.suite.explainers.count(text) > 1]
    twice += [text for text in trial.suite.metrics if trial.suite.metrics.count(text) > 1]
    require(not twice, f"{twice[0]} is listed twice" if twice else "")
    return None


CHECKS: tuple[Check[Trial], ...] = (
    Check("reads", "Is it a valid suite file?", "`faithface suites demo --json` shows one", reads),
    Check("named", "Has it a description, and the name of its file?", "rename one of them", named, after=("reads",)),
    Check(
        "resolves",
        "Is every name registered, and every parameter known?",
        "correct the name, or depend on the distribution that brings it",
        resolves,
        after=("reads",),
    ),
    Check(
        "plans",
        "Can every explainer and metric be used somewhere?",
        "remove it, or add a model or dataset of its task",
        plans,
        after=("reads", "resolves"),
    ),
    Check("listed-once", "Is everything listed once?", "remove one of the two", limited, after=("reads",)),
    Check(
        "has-controls",
        "Are the controls on the board?",
        "add random, centre-prior and edges: without them a number says little",
        has_controls,
        Severity.WARNING,
        after=("reads",),
    ),
)


def check_suite(
    suite: str | Path,
    *,
    registry: Registry | None = None,
    expected_failures: Mapping[str, str] | None = None,
    only: Sequence[str] | None = None,
) -> Report:
    """Read a suite file and make its plan.

    Args:
        suite: the file's path.
        registry: the plugins; None: those that are installed.
        expected_failures: as of :func:`~faithface.testing.check_explainer`.
        only: likewise.
    """
    path = Path(suite)
    chosen = [check for check in CHECKS if only is None or check.name in only]
    found = run_checks(chosen, Trial(path, registry or load_registry()))
    return Report("suite", path.stem, expect(found, expected_failures or {}, [c.name for c in CHECKS]))
