"""The conformance kit: does a plugin keep its contract, and is what it computes right?

Place in the flow: for authors of plugins, in their tests and at a prompt; ``faithface check`` prints it. Stands above
the runner and the boards, below the command line; nothing else of faithface imports it. ``pytest_plugin`` is loaded by
pytest in every environment that has faithface, so nothing heavy is imported before a name is asked for.

>>> from faithface.testing import check_explainer
>>> print(check_explainer(MyExplainer()))  # doctest: +SKIP

The whole test file of a plugin::

    from faithface.testing import plugin_tests

    globals().update(plugin_tests("my-package"))
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from faithface.model.torch_model import TorchModel as ModelDouble
    from faithface.testing.collecting import plugin_tests
    from faithface.testing.findings import Check, Finding, Outcome, Report, Severity
    from faithface.testing.of_datasets import check_dataset
    from faithface.testing.of_explainers import check_explainer
    from faithface.testing.of_fills import check_fill
    from faithface.testing.of_metrics import check_metric
    from faithface.testing.of_models import check_model
    from faithface.testing.of_suites import check_suite
    from faithface.testing.subjects import TinyDataset, tiny_double, tiny_model, tiny_samples

_HOMES = {
    "findings": ("Check", "Finding", "Outcome", "Report", "Severity"),
    "of_datasets": ("check_dataset",),
    "of_explainers": ("check_explainer",),
    "of_fills": ("check_fill",),
    "of_metrics": ("check_metric",),
    "of_models": ("check_model",),
    "of_suites": ("check_suite",),
    "collecting": ("plugin_tests",),
    "subjects": ("TinyDataset", "tiny_double", "tiny_model", "tiny_samples"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Check",
    "Finding",
    "ModelDouble",
    "Outcome",
    "Report",
    "Severity",
    "TinyDataset",
    "check_dataset",
    "check_explainer",
    "check_fill",
    "check_metric",
    "check_model",
    "check_suite",
    "plugin_tests",
    "tiny_double",
    "tiny_model",
    "tiny_samples",
]


def __getattr__(name: str) -> Any:
    if name == "ModelDouble":
        return importlib.import_module("faithface.model.torch_model").TorchModel
    if name not in _HOME_OF:
        raise AttributeError(f"module 'faithface.testing' has no attribute '{name}'")
    return getattr(importlib.import_module(f"faithface.testing.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
