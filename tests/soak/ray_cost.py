"""What a driver spends on a shard that Ray's workers do: shards are empty, so that nothing else is measured.

Place in the flow: ``python -m tests.soak.ray_cost [--shards N] [--workers N]`` (``tox -e soak``). Two runs, of N and of
2 N shards; what the second takes longer is the cost of N shards, and a million take as many times that.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from typing import Any

from faithface.plugins import Provenance, Resolved
from faithface.run.executors import Job
from faithface.run.executors import ray as executors_ray
from faithface.run.executors.orders import Order
from faithface.run.executors.ray import RayExecutor
from faithface.run.plan import Cell, Group
from faithface.run.request import Request
from faithface.run.results import CellShard, Event, Opened, ShardSamples
from tests.support.runs import Ramp


class Empty:
    """A worker that says at once that a shard is done."""

    def __init__(self, _data: bytes, _reports: object, _process: int) -> None: ...

    def opened(self) -> Opened:
        return Opened(0, None, {})

    def run(self, order: Order) -> Iterator[Event]:
        yield ShardSamples(order.number, ())
        for cell in order.cells:
            yield CellShard(cell, order.number, ())


def job(shards: int) -> Job:
    def found(thing: Any) -> Resolved[Any]:
        return Resolved("none", thing, Provenance("none", "0", ""))

    cell = Cell(0, found(Ramp()), {}, {})
    group = Group(0, found(None), found(None), (0,), (cell,))
    pending = {0: frozenset(range(shards))}
    request = Request((), (), (), ())
    return Job(group, None, request, pending, shards=dict.fromkeys(range(shards), (0,)))  # type: ignore[arg-type]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=int, default=50_000)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    executors_ray._Worker = Empty  # type: ignore[assignment, misc]
    executor = RayExecutor(workers=options.workers)
    spent = []
    try:
        for count in (10, options.shards, 2 * options.shards):  # the first one starts Ray
            start, begun = time.process_time(), time.perf_counter()
            done = sum(isinstance(event, CellShard) for event in executor(job(count)))
            assert done == count
            spent.append((time.process_time() - start, time.perf_counter() - begun))
            print(
                f"{count} shards: {spent[-1][0]:.1f} s of the driver's processor time, {spent[-1][1]:.1f} s", flush=True
            )
    finally:
        executor.close()
    each = [(spent[2][i] - spent[1][i]) / options.shards for i in (0, 1)]
    print(f"each shard: {1000 * each[0]:.2f} ms of processor time, {1000 * each[1]:.2f} ms")
    print(f"a million: {1e6 * each[0] / 60:.0f} minutes of processor time, if they go on as these do")
    return 0


if __name__ == "__main__":
    sys.exit(main())
