"""The store at a million values: how long a resume with nothing to do takes, and ``faithface status``.

Place in the flow: ``python -m tests.soak.scale``. Writes a run of 62,500 samples with 16 named values each through the
driver, with the made-up executor of ``faults``, then measures both. The bars: 10 s and 1 s.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from faithface.contract import Dataset, Face, Metric, Protocol, Sample, Scores, Value
from faithface.run.driver import execute_plan
from faithface.run.executors import Job
from faithface.run.plan import make_plan
from faithface.run.store import Store, open_run
from tests.soak.faults import NO_PLUGINS, made_up
from tests.soak.faults import make_plan as small_plan

NAMES = 16
BARS = {"resume": 10.0, "status": 1.0}


class Many(Dataset):
    """Samples that exist in memory only, and offer the digest of their pixels."""

    name, task, classes = "many", "pad", ("a", "b")

    def __init__(self, count: int) -> None:
        faces = (Face(name, blank, digest=functools.partial(str, name)) for name in map("f{:06d}".format, range(count)))
        self._items = [Sample(f"s{i:06d}", face, "ab"[i % 2]) for i, face in enumerate(faces)]

    def items(self) -> Sequence[Sample]:
        return self._items


def blank() -> np.ndarray:
    return np.zeros((8, 8, 3), dtype=np.float32)


class ManyValues(Metric):
    """A metric with sixteen named values."""

    protocol = Protocol(id="many-values@1", values=(Value(), *(Value(f"v{i}") for i in range(1, NAMES))))

    def score(self, *_: Any) -> Scores:
        raise AssertionError("the executor makes the values up")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--values", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="faithface-scale-") as scratch:
        folder = Path(scratch)
        request = small_plan(folder).request
        request = dataclasses.replace(
            request,
            datasets=(Many(options.values // NAMES),),
            explainers=request.explainers[:1],
            metrics=(ManyValues(),),
        )
        plan = make_plan(dataclasses.replace(request, keep_maps=False), NO_PLUGINS)
        spent, busy = {}, {}
        for what, executor in (("write", made_up), ("resume", never)):
            start, used = time.perf_counter(), time.process_time()
            with unflushed() if what == "write" else contextlib.nullcontext():
                execute_plan(plan, folder / "run", executor=executor)
            spent[what], busy[what] = time.perf_counter() - start, time.process_time() - used
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "faithface", "--version"], check=True, stdout=subprocess.DEVNULL)
        empty = time.perf_counter() - start
        start, used = time.perf_counter(), of_children()
        subprocess.run([sys.executable, "-m", "faithface", "status", folder / "run"], check=True)
        spent["status"], busy["status"] = time.perf_counter() - start, of_children() - used
        with open_run(folder / "run") as store:
            values = store.execute("SELECT COUNT(*) FROM scores").fetchone()[0]
        size = (folder / "run" / "run.sqlite").stat().st_size / 2**20
    print(f"{values} values, {size:.0f} MiB")
    for what, seconds in spent.items():
        print(f"{what}: {seconds:.1f} s, of these {busy[what]:.1f} s of processor time")
    print(f"of the status, starting Python: {empty:.1f} s")
    return int(any(spent[what] > bar for what, bar in BARS.items()))


def of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextlib.contextmanager
def unflushed() -> Iterator[None]:
    """Write without waiting for the disk: what is measured is what comes after."""
    begin = Store.__init__

    def without(self: Store, *arguments: Any, **more: Any) -> None:
        begin(self, *arguments, **more)
        self.db.execute("PRAGMA synchronous=OFF")

    Store.__init__ = without  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Store.__init__ = begin  # type: ignore[method-assign]


def never(job: Job) -> Any:
    raise AssertionError("there is nothing to do")


if __name__ == "__main__":
    sys.exit(main())
