"""Write the tables of checks into ``docs/reference/testing.md``: ``python -m docs.tools.check_tables``.

Place in the flow: a test holds the page against :func:`tables`. Reads the declarations of ``faithface.testing``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from faithface.testing import of_datasets, of_explainers, of_fills, of_metrics, of_models, of_suites

PAGE = Path(__file__).resolve().parents[1] / "reference" / "testing.md"
START, END = "<!-- checks: written by docs/tools/check_tables.py -->", "<!-- checks end -->"
KINDS: dict[str, Sequence[Any]] = {
    "explainers": of_explainers.CHECKS,
    "metrics": of_metrics.CHECKS,
    "models": of_models.CHECKS,
    "datasets": of_datasets.CHECKS,
    "fills": of_fills.CHECKS,
    "suites": of_suites.CHECKS,
}


def table(checks: Iterable[Any]) -> str:
    """Return checks as a table."""
    rows = [f"| `{c.name}` | {c.severity} | {c.asks} | {c.advice[:1].upper()}{c.advice[1:]}. |" for c in checks]
    return "\n".join(["| check | severity | asks | if it fails |", "| --- | --- | --- | --- |", *rows])


def tables() -> str:
    """Return a section with a table for each kind."""
    return "\n\n".join(f"## Checks of {kind}\n\n{table(checks)}" for kind, checks in KINDS.items())


def main() -> None:
    text = PAGE.read_text(encoding="utf-8")
    head, _, rest = text.partition(START)
    _old, _, tail = rest.partition(END)
    PAGE.write_text(f"{head}{START}\n\n{tables()}\n\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
