"""Speed is measured only when asked for: ``pytest tests/speed --benchmark-only``. The ordinary suite times nothing."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--benchmark-only", default=False):
        return
    gone = [item for item in items if HERE in item.path.parents]
    if gone:
        config.hook.pytest_deselected(items=gone)
        items[:] = [item for item in items if item not in gone]
