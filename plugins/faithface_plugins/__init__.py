"""The builtin explainers, models, datasets, metrics and suites, through the same hooks as any other plugin.

Place in the flow: loaded by the plugin host through the entry point ``builtin`` of the distribution ``faithface``.
Imports the core; the core never imports this package.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import faithface


@faithface.hookimpl
def faithface_explainers() -> Iterable[faithface.Explainer]:
    from faithface_plugins.explainers import EXPLAINERS

    return EXPLAINERS


@faithface.hookimpl
def faithface_models() -> Iterable[faithface.ModelCard]:
    from faithface_plugins.models import CARDS

    return CARDS


@faithface.hookimpl
def faithface_datasets() -> Iterable[faithface.Dataset]:
    from faithface_plugins.datasets import DATASETS

    return DATASETS


@faithface.hookimpl
def faithface_metrics() -> Iterable[faithface.Metric]:
    from faithface.metrics import METRICS
    from faithface_plugins import quantus_bridge

    return (*METRICS, *quantus_bridge.METRICS)


@faithface.hookimpl
def faithface_suites() -> Iterable[Path]:
    import faithface.suites

    return sorted(Path(faithface.suites.__file__).parent.glob("*.toml"))
