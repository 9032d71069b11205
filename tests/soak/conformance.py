"""Every check of the conformance kit on every builtin explainer and metric: ``python -m tests.soak.conformance``.

A longer form of ``tests/testing/test_builtin.py``. Ends with exit code 1 where one does not conform.
"""

from __future__ import annotations

import sys
import time

from faithface.plugins import load_registry
from faithface.testing import check_explainer, check_metric
from tests.testing.builtin import EXPLAINERS, METRICS, NO_MAPS, explainer_named


def main(names: list[str]) -> int:
    registry = load_registry(only=[])
    bad = 0
    for name, entry in [*sorted(registry.explainers.items()), *sorted(registry.metrics.items())]:
        if name in NO_MAPS or (names and name not in names):
            continue
        start = time.perf_counter()
        if name in registry.explainers:
            report = check_explainer(explainer_named(registry, name), expected_failures=EXPLAINERS.get(name))
        else:
            report = check_metric(entry.object, expected_failures=METRICS.get(name))
        bad += not report.ok
        print(
            f"{time.perf_counter() - start:6.1f} s  {report}" if names or not report.ok else f"{name}: ok", flush=True
        )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
