"""Where the processor time of a run goes: explaining and scoring, holding plugins to what they share, and the store.

Place in the flow: ``python -m tests.soak.shares [--suite NAME] [--limit N] [--model NAME --dataset NAME]``, beside
``cost``. One process and one thread, so that its processor time can be divided; what worker processes add to it is
measured by ``cost``.
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any


def timed(owner: Any, name: str, spent: Counter[str], what: str) -> None:
    """Add the processor time within a function to a total; within another timed one, to the inner one alone."""
    whole = getattr(owner, name)

    @functools.wraps(whole)
    def wrapper(*arguments: Any, **options: Any) -> Any:
        start, inner = time.process_time(), spent.total()
        try:
            return whole(*arguments, **options)
        finally:
            spent[what] += time.process_time() - start - (spent.total() - inner)

    setattr(owner, name, wrapper)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suite", default="demo")
    parser.add_argument("--limit", type=int, default=16)
    parser.add_argument("--model", help="one model of the suite")
    parser.add_argument("--dataset", help="the dataset for it")
    options = parser.parse_args()
    from faithface.api import execute
    from faithface.cli.run import make_request
    from faithface.plugins import load_registry
    from faithface.run import driver, guard
    from faithface.run.plan import make_plan
    from faithface.run.resume import Basis
    from faithface.run.store import Store

    spent: Counter[str] = Counter()
    hold = guard.Guard
    for name in ("__init__", "hold", "_changed", "_left_running"):
        timed(hold, name, spent, "holding plugins to what they share")
    timed(guard.Seals, "add", spent, "holding plugins to what they share")
    for name in ("put_shard", "put_samples", "open_group", "written_by_others"):
        timed(Store, name, spent, "the store")
    for name in ("of_shard", "contents"):
        timed(Basis, name, spent, "digests of inputs")
    timed(driver, "prepare", spent, "digests of inputs")
    registry = load_registry()
    lists = {
        "models": [options.model] if options.model else None,
        "datasets": [options.dataset] if options.dataset else None,
        "explainers": None,
        "metrics": None,
    }
    asked = make_request(
        registry, options.suite, lists, {"limit": options.limit, "seed": None, "device": "cpu", "batch_size": 16}
    )
    with tempfile.TemporaryDirectory(prefix="faithface-shares-") as scratch:
        plan = make_plan(asked, registry)
        start = time.process_time()
        execute(plan, Path(scratch) / "run")
        whole = time.process_time() - start
    rest = whole - spent.total()
    print(f"{whole:.1f} s of processor time, of which {rest:.1f} s are explanations, scores and records")
    for what, seconds in spent.most_common():
        print(f"{what}: {seconds:.2f} s, {seconds / rest:.2%} of that")
    return int(spent.total() / rest > 0.05)


if __name__ == "__main__":
    sys.exit(main())
