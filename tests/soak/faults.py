"""Faults by number: the N-th write, flush or rename of a run fails, for N = 1, 2, … until a run passes undisturbed.

Place in the flow: ``python -m tests.soak.faults`` (``tox -e soak``) tries every N; ``tests/run/test_faults.py`` tries
some. Needs Linux and a C compiler.

A run is a command with two cells, kept maps, records, and the board that is built from them. It is disturbed once: by
an input/output error, a full disk, or SIGKILL. It must then end with one clear line (or by the signal); the same
command, undisturbed, must end well; and all that it leaves must be, byte for byte, what a run leaves that was never
disturbed. Explainers and metrics play no part, so an executor of our own makes up values from the samples' names.

Each run is a process of its own, forked from one that has imported everything.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import hashlib
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from faithface.plugins import Registry

NO_PLUGINS = Registry(explainers={}, models={}, datasets={}, metrics={}, suites={}, rows=())
HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LIBRARY = "FAITHFACE_FAULTS_LIBRARY"
WRITE, SYNC, RENAME = 1, 2, 4
KINDS = {"write": WRITE, "flush": SYNC, "rename": RENAME}
KILL = -1
ENDINGS = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC, "kill": KILL}
WELL, SAID, INTERNAL = 0, 3, 4  # exit codes of a run


@dataclass(frozen=True)
class Fault:
    """The ``number``-th operation of some kinds ends in an error, or the process there."""

    kinds: int
    number: int
    error: int


def build(folder: Path) -> Path:
    """Compile the library that fails operations."""
    made = folder / "faults.so"
    compiler = shutil.which("cc") or "gcc"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", made, HERE / "faults.c", "-ldl"], check=True)
    return made


def make_plan(folder: Path) -> Any:
    """Return a plan of two cells over 20 samples that exist in memory only."""
    from faithface.card import parse_card
    from faithface.contract import Dataset, Face, Sample
    from faithface.run import plan as planning
    from faithface.run.request import Request
    from tests.support.runs import MeanRelevance, Ramp

    def pixels(i: int) -> np.ndarray:
        return np.full((8, 8, 3), i / 32, dtype=np.float32)

    items = [Sample(f"s{i:02d}", Face(f"f{i:02d}", lambda i=i: pixels(i)), "ab"[i % 2]) for i in range(20)]  # type: ignore[misc]

    class Few(Dataset):
        name, task, classes = "few", "pad", ("a", "b")

        def items(self) -> list[Sample]:
            return items

    (folder / "net.onnx").write_bytes(b"no network is opened here")
    card = parse_card(
        {
            "model": {"name": "net", "task": "pad", "file": "net.onnx"},
            "input": {"size": [8, 8]},
            "output": {"kind": "logits", "classes": ["a", "b"], "positive": "b"},
        },
        folder / "net.toml",
    )
    request = Request((card,), (Few(),), (Ramp(), Ramp(2.0)), (MeanRelevance(),), keep_maps=True)
    return planning.make_plan(request, NO_PLUGINS)


def made_up(job: Any) -> Iterator[Any]:
    """An executor without a network: every value is a hash of its sample, cell and metric."""
    from faithface.run.results import CellShard, Curve, Opened, SampleFacts, ScoredValue, ShardSamples

    def number(*parts: object) -> float:
        return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big") / 2**32

    if not job.opened:
        yield Opened(job.group.number, None, {"sha256": "0" * 64, "batch": 1, "provider": "none", "notes": []})
    items = job.dataset.items()
    for shard, positions in sorted(job.shards.items()):
        wanted = [cell for cell in job.group.cells if shard in job.pending.get(cell.number, ())]
        if not wanted:
            continue
        ids = tuple(items[p].id for p in positions)
        facts = {"score": 0.5, "predicted": 0, "label": "a", "correct": True}
        yield ShardSamples(
            shard, tuple(SampleFacts(p, items[p].id, {**facts, "units": [items[p].id]}) for p in positions)
        )
        for cell in wanted:
            spec = cell.explainer.spec
            values = [
                ScoredValue(m, name, one, number(spec, m, name, one))
                for m, metric in cell.metrics.items()
                for name in metric.object.protocol.value_names
                for one in ids
            ]
            curves = [Curve(m, "twice", one, np.array([0.0, number(m, one)])) for m in cell.metrics for one in ids]
            maps = {"relevance": np.stack([np.full((8, 8), number(spec, one), np.float32) for one in ids])}
            yield CellShard(cell.number, shard, ids, values, curves, maps=maps)


class Trial:
    """Runs of one command in one folder, each in a process of its own."""

    def __init__(self, root: Path, plan: Any, library: ctypes.CDLL) -> None:
        self.root, self.plan, self.library = root, plan, library

    def run(self, fault: Fault | None) -> tuple[int, int]:
        """Run the command; return the exit code (negative: the signal) and how many operations were counted."""
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            code = INTERNAL
            try:
                os.close(reader)
                kinds, number, error = (fault.kinds, fault.number, fault.error) if fault else (7, 0, 0)
                self.library.faults_arm(os.fsencode(self.root.resolve()), kinds, number, error)
                code = self._command()
                os.write(writer, str(self.library.faults_seen()).encode())
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(writer)
        seen = os.read(reader, 64)
        os.close(reader)
        status = os.waitpid(child, 0)[1]
        return os.waitstatus_to_exitcode(status), int(seen or 0)

    def _command(self) -> int:
        """Run, and build the board: what two commands do."""
        from faithface.api import execute
        from faithface.boards.publish import add_runs
        from faithface.errors import FaithfaceError
        from faithface.run import driver

        driver.describe_environment = lambda *_: dict(ENVIRONMENT)  # type: ignore[assignment]
        try:
            execute(self.plan, self.root / "run", executor=made_up)
            add_runs([self.root / "run"], self.root / "board")
        except FaithfaceError as error:
            print(f"    said: {error}", file=sys.stderr)
            return SAID if len(str(error).splitlines()) == 1 else INTERNAL
        return WELL

    def left(self) -> dict[str, str]:
        """Return the digests of what a run leaves: records, maps, board, and every row of the store's values."""
        from faithface.run.store import open_run

        found = {}
        for path in sorted(self.root.rglob("*")):
            name = path.relative_to(self.root).as_posix()
            if path.is_file() and not name.startswith("run/run."):
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        with open_run(self.root / "run") as store:
            rows = [tuple(row) for cell in store.cells() for row in store.scores(cell["id"])]
            found["values"] = hashlib.sha256(repr(rows).encode()).hexdigest()
        return found


ENVIRONMENT = {
    "device": "cpu", "device_name": "none", "threads": 1, "batch": 0, "system": "none", "versions": {}, "commit": "",
}  # fmt: skip


def trials(short: bool, seed: int, only: Sequence[str] | None = None) -> Iterator[tuple[str, str]]:
    """Try faults; yield what was tried and what went wrong with it ("" if nothing did)."""
    library = ctypes.CDLL(os.environ[LIBRARY])
    library.faults_seen.restype = ctypes.c_long
    library.faults_arm.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_long, ctypes.c_int]
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="faithface-faults-") as scratch:
        top = Path(scratch)
        (top / "net").mkdir()
        plan = make_plan(top / "net")
        whole = Trial(top / "whole", plan, library)
        whole.root.mkdir()
        code, _ = whole.run(None)
        if code != WELL:
            yield "an undisturbed run", f"it ended with {code}"
            return
        wanted = whole.left()
        counts = {}
        for kind, mask in KINDS.items():
            other = Trial(top / f"count-{kind}", plan, library)
            other.root.mkdir()
            counts[kind] = other.run(Fault(mask, 0, 0))[1]
        for kind, ending, number in [(only[0], only[1], int(only[2]))] if only else chosen(counts, short, draw):
            what = f"{kind} {number} of {counts[kind]}: {ending}"
            trial = Trial(top / "trial", plan, library)
            shutil.rmtree(trial.root, ignore_errors=True)
            trial.root.mkdir()
            yield what, disturbed(trial, Fault(KINDS[kind], number, ENDINGS[ending]), wanted)


def chosen(counts: dict[str, int], short: bool, draw: random.Random) -> list[tuple[str, str, int]]:
    """Return (kind, ending, number): all of them, or a few of each, the first and last among them."""
    found = []
    for kind, count in counts.items():
        for ending in ENDINGS:
            numbers = list(range(1, count + 1))
            if short:
                few = 3 if ending == "kill" else 1
                numbers = sorted({1, count, *draw.sample(numbers, min(few, count))})
            found += [(kind, ending, number) for number in numbers]
    return found


def disturbed(trial: Trial, fault: Fault, wanted: dict[str, str]) -> str:
    """Disturb a run, run it again, and say what is wrong with what it leaves; "" if nothing is."""
    code, _ = trial.run(fault)
    if fault.error == KILL and code >= 0:
        return f"it was to be killed, and ended with {code}"
    if code == INTERNAL:
        return "it ended with an internal error"
    code, _ = trial.run(None)
    if code != WELL:
        return f"the same command then ended with {code}"
    found = trial.left()
    wrong = [name for name in {**wanted, **found} if wanted.get(name) != found.get(name)]
    return f"these differ: {', '.join(wrong[:4])}" if wrong else ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="a few of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbose", action="store_true", help="say each fault")
    parser.add_argument("--only", nargs=3, metavar=("KIND", "ENDING", "NUMBER"), help="one fault, such as: write EIO 7")
    options = parser.parse_args()
    if LIBRARY not in os.environ:
        with tempfile.TemporaryDirectory(prefix="faithface-faults-") as folder:
            library = build(Path(folder))
            again = [sys.executable, "-m", "tests.soak.faults", *sys.argv[1:]]
            more = {LIBRARY: str(library), "LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1"}
            return subprocess.run(again, env={**os.environ, **more}, cwd=ROOT).returncode
    wrong = done = 0
    for what, problem in trials(options.short, options.seed, options.only):
        done += 1
        if options.verbose:
            print(f"{what}: {problem or 'survived'}", file=sys.stderr, flush=True)
        if problem:
            wrong += 1
            print(f"{what}: {problem}", flush=True)
    if options.verbose:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(f"{used.ru_utime + used.ru_stime:.1f} s of processor time in runs", file=sys.stderr)
    print(f"{done} faults, {wrong} not survived")
    return 1 if wrong or not done else 0


if __name__ == "__main__":
    sys.exit(main())
