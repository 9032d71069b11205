"""The builtin explainers, metrics, models, datasets and suites pass the kit, or have a reason why not.

Here each explainer and metric is tried on one task, by the checks that take no more than moments;
``tests.soak.conformance`` runs all checks on all tasks. Of models there is one of each family.
"""

from __future__ import annotations

import pytest

from faithface.card import ModelCard
from faithface.plugins import load_registry
from faithface.testing import (
    check_dataset,
    check_explainer,
    check_metric,
    check_model,
    check_suite,
    of_explainers,
    of_metrics,
)
from tests.testing.builtin import DOWNLOADS, EXPLAINERS, METRICS, MODELS, NEEDS_PATH, NO_MAPS, explainer_named

REGISTRY = load_registry(only=[])
SLOW = {"memory-released", "any-image", "any-map", "flip", "company-independent", "seeded-as-declared"}
QUICK = [c.name for c in of_explainers.CHECKS if c.name not in SLOW]
QUICK_METRICS = [c.name for c in of_metrics.CHECKS if c.name not in SLOW]
FEW = (*of_explainers.VALID, "not-negative", "informative", "right-sign", "beats-random")
FEW_METRICS = (*of_metrics.VALID, "in-range")
COSTLY = {"minplus", "xface", "fame", "rise", "corrrise", "road@1", "degradation@1", "geometry@1", "noise-stability@1"}
"""What takes thousands of passes for a map or value is asked the first questions only."""


def task_of(name: str, names: list[str]) -> str:
    """Classifiers and pairs in turn, so that both are tried."""
    return ("pad", "verification")[names.index(name) % 2]


NAMES = sorted(set(REGISTRY.explainers) - NO_MAPS)
METRIC_NAMES = sorted(REGISTRY.metrics)


@pytest.mark.parametrize("name", NAMES)
def test_a_builtin_explainer_conforms(name: str) -> None:
    explainer = explainer_named(REGISTRY, name)
    task = task_of(name, NAMES)
    tasks = [task if task in explainer.info.tasks else min(explainer.info.tasks)]
    only = FEW if name in COSTLY else QUICK
    expected = {check: why for check, why in EXPLAINERS.get(name, {}).items() if check in only}
    check_explainer(explainer, expected_failures=expected, only=only, tasks=tasks).raise_for_failures()


@pytest.mark.parametrize("name", METRIC_NAMES)
def test_a_builtin_metric_conforms(name: str) -> None:
    metric = REGISTRY.metrics[name].object
    task = task_of(name, METRIC_NAMES)
    tasks = [task if task in metric.protocol.tasks else min(metric.protocol.tasks)]
    only = FEW_METRICS if name in COSTLY else QUICK_METRICS
    expected = {check: why for check, why in METRICS.get(name, {}).items() if check in only}
    check_metric(metric, expected_failures=expected, only=only, tasks=tasks).raise_for_failures()


@pytest.mark.parametrize("name", sorted(set(REGISTRY.datasets) - NEEDS_PATH - DOWNLOADS))
def test_a_builtin_dataset_conforms(name: str) -> None:
    check_dataset(REGISTRY.datasets[name].object, limit=2).raise_for_failures()


def test_datasets_that_need_a_path_say_so() -> None:
    from faithface.errors import UsageError

    for name in sorted(NEEDS_PATH):
        with pytest.raises(UsageError, match="needs a path"):
            check_dataset(REGISTRY.datasets[name].object)


@pytest.mark.parametrize("name", sorted(REGISTRY.suites))
def test_a_builtin_suite_conforms(name: str) -> None:
    check_suite(REGISTRY.suites[name].object, registry=REGISTRY).raise_for_failures()


FAMILIES: dict[str, ModelCard] = {}
for _name, _entry in sorted(REGISTRY.models.items()):
    FAMILIES.setdefault(_entry.object.family or _name, _entry.object)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_builtin_model_conforms(family: str) -> None:
    """Without a dataset: what the models can do is measured and tested elsewhere."""
    card = FAMILIES[family]
    check_model(card, expected_failures=MODELS.get(card.name)).raise_for_failures()
