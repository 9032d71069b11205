"""Kills by number: a run whose driver, worker or Ray worker is killed at a random moment ends as if it were not.

Place in the flow: ``python -m tests.soak.kills [--driver N] [--worker N] [--ray N]`` (``tox -e soak``);
``tests/run/test_kills.py`` kills a few. A run is that of a tiny network with three explainers and three metrics, the
records, and the board that is built from them. All that it leaves must be, byte for byte, what an undisturbed run
leaves. Times are the one thing that differs between two runs; they are set to zero as they come.

Drivers are forked from a process that has imported everything, and work without worker processes, or (every fifth) with
one; workers and Ray's are killed from a thread while the driver goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnxruntime  # noqa: F401 - so that no fork has to import it
import onnxscript.optimizer  # noqa: F401

import faithface.metrics
import faithface.run.executors.worker  # noqa: F401
from faithface.api import execute
from faithface.boards.publish import add_runs
from faithface.model._torchvision import import_onnx2pytorch
from faithface.plugins import load_registry
from faithface.run import driver
from faithface.run.executors import Job
from faithface.run.executors.local import run_group
from faithface.run.executors.processes import ProcessExecutor
from faithface.run.plan import Plan, make_plan
from faithface.run.request import Request
from faithface.run.results import CellShard, Event
from faithface.run.store import open_run
from tests.soak.faults import ENVIRONMENT
from tests.support.runs import write_card, write_folder

EXPLAINERS = ("grad-cam", "rise(masks=40)", "random")
METRICS = ("entropy@1", "gap@1(grid=8,points=5)", "deletion@1(grid=8)")


class Timeless:
    """An executor whose events say nothing of time."""

    def __init__(self, executor: Any) -> None:
        self.executor = executor

    def __call__(self, job: Job, /) -> Iterator[Event]:
        for event in self.executor(job):
            yield dataclasses.replace(event, seconds=0.0) if isinstance(event, CellShard) else event

    def __getattr__(self, name: str) -> Any:
        return getattr(self.executor, name)


def plan_in(folder: Path) -> Plan:
    """Return the plan of the run, whose files lie in a folder: what is installed, so that any process can run it."""
    card = write_card(folder)
    images = write_folder(folder / "faces", 40)
    asked = Request((str(card),), (f"folder:{images}",), EXPLAINERS, METRICS, batch_size=16, keep_maps=True)
    return make_plan(asked, load_registry())


def run(plan: Plan, root: Path, executor: Any = run_group) -> None:
    """Run, and build the board."""
    driver.describe_environment = lambda *_: dict(ENVIRONMENT)  # type: ignore[assignment]
    outcome, _ = execute(plan, root / "run", executor=Timeless(executor))
    if outcome.failures:
        raise RuntimeError("; ".join(outcome.failures))
    add_runs([root / "run"], root / "board")


def left(root: Path) -> dict[str, str]:
    """Return the digests of what a run leaves: records, maps, board, and every value."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_file() and not name.startswith(("run/run.", "run/logs/")):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    with open_run(root / "run") as store:
        # Not as a data frame: its library would start threads here, which forked drivers would wait for in vain.
        rows = [(cell["explainer"], *tuple(row)[1:]) for cell in store.cells() for row in store.scores(cell["id"])]
        found["values"] = hashlib.sha256(repr(sorted(rows, key=repr)).encode()).hexdigest()
    return found


def differing(wanted: dict[str, str], root: Path) -> str:
    found = left(root)
    wrong = [name for name in {**wanted, **found} if wanted.get(name) != found.get(name)]
    return f"these differ: {', '.join(wrong[:4])}" if wrong else ""


def forked(action: Callable[[], None], after: float | None = None) -> int:
    """Do something in a process of its own, killed after some seconds if it has not ended; return how it ended."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setpgid(0, 0)
            action()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    if after is not None:
        time.sleep(after)
        with contextlib.suppress(OSError):
            os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def with_a_worker(plan: Plan, root: Path) -> None:
    pool = ProcessExecutor(logs=root / "run")
    try:
        run(plan, root, pool)
    finally:
        pool.close()


def driver_kills(plan: Plan, wanted: dict[str, str], scratch: Path, count: int, draw: random.Random) -> Iterator[str]:
    """Kill drivers; yield what went wrong with each, "" if nothing did."""
    longest = {}
    for number in range(count):
        root = scratch / f"driver-{number}"
        root.mkdir()
        action = with_a_worker if number % 5 == 4 else run
        if action not in longest:
            start = time.monotonic()
            forked(lambda root=root, action=action: action(plan, root))  # type: ignore[misc]
            longest[action] = time.monotonic() - start
            shutil.rmtree(root)
            root.mkdir()
        moment = draw.uniform(0, longest[action])
        code = forked(lambda root=root, action=action: action(plan, root), moment)  # type: ignore[misc]
        if code not in (0, -signal.SIGKILL):
            yield f"driver {number}: killed after {moment:.2f} s, it ended with {code}"
            continue
        code = forked(lambda root=root, action=action: action(plan, root))  # type: ignore[misc]
        wrong = f"the same command then ended with {code}" if code else differing(wanted, root)
        yield f"driver {number}, killed after {moment:.2f} s: {wrong}" if wrong else ""
        shutil.rmtree(root)


def disturbed(
    plan: Plan, root: Path, executor: Any, victims: Callable[[], list[int]], moments: list[float]
) -> tuple[int, str]:
    """Run while a thread kills a process at some moments; return how many were killed, and what went wrong."""
    over, killed = threading.Event(), 0
    begun = time.monotonic()

    def kill() -> None:
        nonlocal killed
        for moment in sorted(moments):
            if over.wait(max(0.0, begun + moment - time.monotonic())):
                return
            if found := victims():
                with contextlib.suppress(OSError):
                    os.kill(found[0], signal.SIGKILL)
                    killed += 1

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        run(plan, root, executor)
    except Exception as error:
        return killed, f"the run ended with {type(error).__name__}: {error}"
    finally:
        over.set()
        thread.join()
    return killed, ""


def worker_kills(plan: Plan, wanted: dict[str, str], scratch: Path, count: int, draw: random.Random) -> Iterator[str]:
    """Kill worker processes, up to three in a run; yield what went wrong with each run."""
    root = scratch / "worker-first"
    start = time.monotonic()
    with_a_worker(plan, root)
    longest = time.monotonic() - start
    done = number = 0
    while done < count:
        number += 1
        root = scratch / f"worker-{number}"
        pool = ProcessExecutor(logs=root / "run", retries=3)

        def victims(pool: ProcessExecutor = pool) -> list[int]:
            return [child.process.pid for child in pool.children if child.alive()]

        moments = [draw.uniform(0, longest) for _ in range(min(3, count - done))]
        try:
            killed, wrong = disturbed(plan, root, pool, victims, moments)
        finally:
            pool.close()
        wrong = wrong or differing(wanted, root)
        for _ in range(killed):
            yield f"worker run {number}, {len(moments)} kills: {wrong}" if wrong else ""
        done += killed
        shutil.rmtree(root)


def ray_workers() -> list[int]:
    """Return the processes of Ray's actors."""
    found = []
    for path in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if path.name.isdecimal() and (path / "cmdline").read_bytes().startswith(b"ray::_Worker"):
                found.append(int(path.name))
    return found


def ray_kills(plan: Plan, wanted: dict[str, str], scratch: Path, count: int, draw: random.Random) -> Iterator[str]:
    """Kill Ray's workers, up to three in a run; yield what went wrong with each run."""
    from faithface.run.executors.ray import RayExecutor

    executor = RayExecutor(workers=2)
    try:
        start = time.monotonic()
        run(plan, scratch / "ray-first", executor)
        longest = time.monotonic() - start
        done = number = 0
        while done < count:
            number += 1
            root = scratch / f"ray-{number}"
            moments = [draw.uniform(0, longest) for _ in range(min(3, count - done))]
            killed, wrong = disturbed(plan, root, executor, ray_workers, moments)
            wrong = wrong or differing(wanted, root)
            for _ in range(killed):
                yield f"Ray run {number}, {len(moments)} kills: {wrong}" if wrong else ""
            done += killed
            shutil.rmtree(root)
    finally:
        executor.close()


WAYS = {"driver": driver_kills, "worker": worker_kills, "ray": ray_kills}


def kills(ways: dict[str, int], seed: int = 0, tell: Callable[[str], Any] = print) -> int:
    """Kill so many of each; return how many were not survived."""
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="faithface-kills-") as folder:
        scratch = Path(folder)
        plan = plan_in(scratch)
        # In a process of its own: one that has run a network has threads, and cannot be forked.
        if forked(lambda: run(plan, scratch / "whole")):
            raise SystemExit("an undisturbed run failed")
        wanted = left(scratch / "whole")
        for way, count in ways.items():
            done = 0
            for problem in WAYS[way](plan, wanted, scratch, count, random.Random(f"{seed} {way}")):
                done += 1
                if problem:
                    wrong += 1
                    tell(problem)
                if done % 10 == 0:
                    tell(f"{way}: {done} of {count}")
            tell(f"{way}: {done} kills")
    return wrong


def main() -> int:
    if os.environ.get("OMP_NUM_THREADS") != "1":
        # Making the network's file starts the threads of torch, for which a forked driver would wait in vain.
        os.environ["OMP_NUM_THREADS"] = "1"
        os.execv(sys.executable, [sys.executable, "-m", "tests.soak.kills", *sys.argv[1:]])
    import_onnx2pytorch()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--driver", type=int, default=50)
    parser.add_argument("--worker", type=int, default=50)
    parser.add_argument("--ray", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    ways = {way: getattr(given, way) for way in WAYS if getattr(given, way)}
    wrong = kills(ways, given.seed, lambda line: print(line, flush=True))
    print(f"{sum(ways.values())} kills asked for, {wrong} not survived")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
