"""What worker processes and the store cost: a suite's run with one worker against the same run in one process.

Place in the flow: ``python -m tests.soak.cost [--suite NAME] [--limit N] [--repeats N]`` (``tox -e soak``). Compares
processor time of all processes, since other work on the machine moves the clock far more than it moves that; both are
printed. The runs alternate, and the ratio is that of the smallest times.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from faithface.run.executors.descendants import adopt

BAR = 1.05


def measure(arguments: list[str], workers: int, out: Path) -> tuple[float, float]:
    """Return seconds of processor time, of the run and all its processes, and of the clock."""
    command = [sys.executable, "-m", "faithface", "run", *arguments, "--workers", str(workers), "--out", str(out)]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([*command, "--quiet"], stdout=subprocess.DEVNULL, check=False)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()  # the server of workers, whose time counts when it is waited for
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}")
    spent = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    return spent, time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suite", default="demo")
    parser.add_argument("--limit", type=int, help="samples per dataset; default: the suite's")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("more", nargs="*", help="further options of faithface run, after --")
    options = parser.parse_args()
    adopt()  # the server of workers outlives the run by a moment
    # One thread, and batches that are not measured: both runs then do the same work.
    os.environ["OMP_NUM_THREADS"] = "1"
    arguments = [options.suite, "--batch-size", "16", *options.more]
    arguments += ["--limit", str(options.limit)] if options.limit else []
    spent: dict[int, list[tuple[float, float]]] = {0: [], 1: []}
    with tempfile.TemporaryDirectory(prefix="faithface-cost-") as scratch:
        for repeat in range(options.repeats):
            for workers in (0, 1) if repeat % 2 == 0 else (1, 0):
                found = measure(arguments, workers, Path(scratch) / f"{workers}-{repeat}")
                spent[workers].append(found)
                print(f"workers {workers}: {found[0]:.1f} s of processor time, {found[1]:.1f} s", flush=True)
    ratios = [min(one[i] for one in spent[1]) / min(one[i] for one in spent[0]) for i in (0, 1)]
    print(f"one worker against none: {ratios[0]:.3f} of the processor time, {ratios[1]:.3f} of the time; bar {BAR}")
    return int(ratios[0] > BAR)


if __name__ == "__main__":
    sys.exit(main())
