"""The whole test file of a plugin: one test for each object that a distribution registers.

Place in the flow: called in a test module of a third party; pytest collects what it returns. May call the checks,
``plugins`` and ``errors``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from faithface.errors import UsageError, nearest
from faithface.plugins import PluginRow, Registered, Registry, load_registry
from faithface.testing.findings import Report

KINDS = ("explainers", "models", "datasets", "metrics", "fills", "suites")


def plugin_tests(
    distribution: str,
    *,
    expected_failures: Mapping[str, str] | None = None,
    paths: Mapping[str, str] | None = None,
    data: Mapping[str, str] | None = None,
) -> dict[str, Callable[..., None]]:
    """Return test functions by name, for ``globals().update(...)`` in a test module.

    Args:
        distribution: the name in the plugin's ``pyproject.toml``; it must be installed (``pip install -e .``).
        expected_failures: checks that cannot pass, each with the reason. The key is a check's name, or ``name:check``
            where the distribution registers several objects. A check that passes all the same fails the test.
        paths: by dataset, what follows the colon in ``name:PATH``; one that needs a path and has none is skipped.
        data: by model, a dataset on which it should work, such as ``planted-pad`` or ``folder:tests/faces``.

    Returns:
        ``test_plugin_loads``, and one test for each object, such as ``test_explainer_cell_drop``. pytest's option
        ``--max-examples`` says how many inputs Hypothesis makes up for each.

    Raises:
        UsageError: the distribution is not installed, or registers nothing under the entry-point group ``faithface``;
            a key of ``expected_failures`` names nothing that it registers.
    """
    registry = load_registry()
    rows = rows_of(registry, distribution)
    found = objects_of(registry, distribution)
    expected = by_object(expected_failures or {}, [entry.name for _kind, entry in found])
    tests: dict[str, Callable[..., None]] = {"test_plugin_loads": _loads(rows)}
    for kind, entry in found:
        name = f"test_{kind[:-1]}_{re.sub(r'[^a-z0-9]+', '_', entry.name).strip('_')}"
        tests[name] = _checks(kind, entry, registry, expected.get(entry.name, {}), paths or {}, data or {})
    return tests


def rows_of(registry: Registry, distribution: str) -> list[PluginRow]:
    """Return the rows of a distribution's entry points.

    Raises:
        UsageError: there is none.
    """
    rows = [row for row in registry.rows if _normal(row.distribution) == _normal(distribution)]
    if not rows:
        known = {row.distribution for row in registry.rows}
        raise UsageError(
            f'no distribution "{distribution}" with an entry point in the group "faithface" is installed; '
            f"{nearest(distribution, known)} (in its folder: `python -m pip install -e .`)"
        )
    return rows


def objects_of(registry: Registry, distribution: str) -> list[tuple[str, Registered[Any]]]:
    """Return what a distribution registered, with its kind (``explainers``, …)."""
    return [
        (kind, entry)
        for kind in KINDS
        for _name, entry in sorted(getattr(registry, kind).items())
        if _normal(entry.provenance.distribution) == _normal(distribution)
    ]


def check_object(
    kind: str,
    entry: Registered[Any],
    registry: Registry,
    *,
    expected_failures: Mapping[str, str] | None = None,
    max_examples: int = 10,
    path: str = "",
    data: str = "",
) -> Report:
    """Check one registered object of any kind; the arguments are those of :func:`plugin_tests`.

    Raises:
        UsageError: a dataset that needs a path, without one.
    """
    thing, expected = entry.object, expected_failures
    if kind == "explainers":
        from faithface.testing.of_explainers import check_explainer

        return check_explainer(thing, expected_failures=expected, max_examples=max_examples)
    if kind == "metrics":
        from faithface.testing.of_metrics import check_metric

        return check_metric(thing, expected_failures=expected, max_examples=max_examples)
    if kind == "fills":
        from faithface.testing.of_fills import check_fill

        return check_fill(thing, expected_failures=expected)
    if kind == "models":
        from faithface.testing.of_models import check_model

        dataset = registry.dataset(data).object if data else None
        return check_model(thing, dataset=dataset, expected_failures=expected)
    if kind == "datasets":
        from faithface.testing.of_datasets import check_dataset

        return check_dataset(thing.with_argument(path) if path else thing, expected_failures=expected)
    from faithface.testing.of_suites import check_suite

    return check_suite(thing, registry=registry, expected_failures=expected)


def by_object(expected: Mapping[str, str], names: list[str]) -> dict[str, dict[str, str]]:
    """Return expected failures by object and check.

    Raises:
        UsageError: a key names an object that is not there, or names none where there are several.
    """
    found: dict[str, dict[str, str]] = {}
    for key, reason in expected.items():
        name, colon, check = key.rpartition(":")
        if not colon:
            if len(names) != 1:
                raise UsageError(
                    f'expected_failures names the check "{key}" and no object; write NAME:{key} ({", ".join(names)})'
                )
            name = names[0]
        if name not in names:
            raise UsageError(f'expected_failures names "{name}", which is not registered; {nearest(name, names)}')
        found.setdefault(name, {})[check] = reason
    return found


def _loads(rows: list[PluginRow]) -> Callable[..., None]:
    def test_plugin_loads() -> None:
        for row in rows:
            assert row.status == "ok", f"{row.distribution} ({row.entry_point}): {row.error}"

    return test_plugin_loads


def _checks(
    kind: str,
    entry: Registered[Any],
    registry: Registry,
    expected: Mapping[str, str],
    paths: Mapping[str, str],
    data: Mapping[str, str],
) -> Callable[..., None]:
    def test_object(request: Any) -> None:
        import pytest

        examples = request.config.getoption("--max-examples", default=None)
        needs_path = kind == "datasets" and _takes_path(entry.object) and entry.name not in paths
        if needs_path:
            pytest.skip(f"dataset {entry.name} needs a path; give plugin_tests(paths={{'{entry.name}': ...}})")
        report = check_object(
            kind,
            entry,
            registry,
            expected_failures=expected,
            max_examples=10 if examples is None else examples,
            path=paths.get(entry.name, ""),
            data=data.get(entry.name, ""),
        )
        print(report)
        report.raise_for_failures()

    return test_object


def _takes_path(dataset: Any) -> bool:
    from faithface.contract import Dataset

    return type(dataset).with_argument is not Dataset.with_argument


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip().lower())
