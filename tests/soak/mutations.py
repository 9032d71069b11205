"""Files with seeded mutations: every reader must read them or refuse them in one line, in bounded time and memory.

Place in the flow: ``python -m tests.soak.mutations [--kind KIND] [--count N] [--start N] [--seconds S]`` is the long
form (``tox -e soak``); ``tests/files/test_mutations.py`` runs a few hundred cases. Calls the readers as a run does.

Cases run in forked children, a few in each, so that a crash or a hang costs one case and is laid at its door. Case N of
a kind is the same on every machine, and ``--start N --count 1`` runs it alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from faithface.errors import FaithfaceError
from faithface.limits import GIB
from tests.soak import seeds
from tests.soak.mutate import mutate_bytes, mutate_graph, mutate_text

SECONDS, MEMORY = 20.0, 2 * GIB  # SECONDS: of processor time
WAIT = 15 * SECONDS  # by the clock: other work may leave a case little of the processor
READ, REFUSED, CAUGHT = "read", "refused", "caught"


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Attributes:
        seeds: returns the sound files by name, which are mutated in turn.
        mutate: (generator, content) → content.
        read: reads a file as a run does.
        count: cases of the long form.
        batch: cases in one child.
    """

    seeds: Callable[[], dict[str, bytes]]
    mutate: Callable[[np.random.Generator, bytes], bytes]
    read: Callable[[Path], object]
    count: int
    batch: int = 50


KINDS: dict[str, Kind] = {
    "images": Kind(seeds.images, mutate_bytes, seeds.read_image_file, 2000),
    "cards": Kind(seeds.cards, mutate_text, seeds.read_card_file, 1000),
    "suites": Kind(seeds.suites, mutate_text, seeds.read_suite_file, 1000),
    "csv": Kind(seeds.tables, mutate_text, seeds.read_pairs_file, 1000),
    "csv-bytes": Kind(seeds.tables, mutate_bytes, seeds.read_pairs_file, 500),
    "bin": Kind(seeds.bins, mutate_bytes, seeds.read_bin_file, 1000),
    "npz": Kind(seeds.npz_files, mutate_bytes, seeds.read_npz_file, 1000),
    "records": Kind(seeds.records, mutate_text, seeds.read_record_file, 1000),
    "parquet": Kind(seeds.value_tables, mutate_bytes, seeds.read_values_file, 1000),
    "stores": Kind(seeds.stores, mutate_bytes, seeds.read_store_file, 1000),
    "onnx-bytes": Kind(seeds.networks, mutate_bytes, seeds.inspect_network, 2000, 10),
    "onnx-graphs": Kind(seeds.networks, mutate_graph, seeds.inspect_network, 2000, 10),
}


@dataclass
class Tally:
    """What became of the cases of a kind.

    Attributes:
        counts: by outcome: ``read``, ``refused``; ``caught``: an error of a library that ``inspect`` turns into a line.
        faults: (case, what went wrong): a crash, a hang, an unexpected exception, a message of several lines, too much
            memory.
        slowest: seconds of processor time of the slowest case; ``largest``: bytes that a child took beyond its start.
    """

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[tuple[int, str]] = field(default_factory=list)
    slowest: float = 0.0
    largest: int = 0


def run_kind(name: str, count: int, start: int = 0, seconds: float = math.inf) -> Tally:
    """Run cases ``start`` to ``start + count`` of a kind, after its sound files, which must be read.

    After so many ``seconds`` no further child is started, so that fewer cases are run.
    """
    begun = time.monotonic()
    kind, tally, number = KINDS[name], Tally(), start
    files = sorted(kind.seeds().items())
    sound = Tally()
    _run_child(name, dataclasses.replace(kind, mutate=lambda _rng, content: content), files, range(len(files)), sound)
    if sound.counts[READ] != len(files):
        tally.faults.append((-1, f"sound files are not all read: {dict(sound.counts)} {sound.faults}"))
    while number < start + count and time.monotonic() - begun < seconds:
        number = _run_child(name, kind, files, range(number, min(number + kind.batch, start + count)), tally)
    return tally


def mutated(name: str, kind: Kind, files: list[tuple[str, bytes]], number: int) -> tuple[str, bytes]:
    """Return the file of one case: its name and its content."""
    rng = np.random.default_rng([number, *name.encode()])
    file, content = files[number % len(files)]
    for _ in range(int(rng.choice([1, 1, 1, 2, 4]))):
        content = kind.mutate(rng, content)
    return file, content


def _run_child(name: str, kind: Kind, files: list[tuple[str, bytes]], numbers: range, tally: Tally) -> int:
    """Run cases in a child; return the number of the next case, which is sooner where the child ended early."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _child(name, kind, files, numbers, writing)
        os._exit(0)
    os.close(writing)
    said, next_number, begun, used = b"", numbers.start, time.monotonic(), _processor_time(child)
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        while next_number < numbers.stop:
            ready, _, _ = select.select([pipe], [], [], SECONDS)
            if not ready and not _is_over(child, used, begun):
                continue
            part = pipe.read(1 << 16) if ready else b""
            if not part:
                break
            *lines, said = (said + part).split(b"\n")
            for line in lines:
                outcome, words, grown = json.loads(line)
                now = _processor_time(child)
                tally.slowest = max(tally.slowest, now - used)
                tally.largest = max(tally.largest, grown)
                if grown > MEMORY:
                    tally.faults.append((next_number, f"took {grown / GIB:.1f} GiB"))
                tally.counts[outcome] += 1
                if outcome not in (READ, REFUSED, CAUGHT):
                    tally.faults.append((next_number, words))
                next_number, begun, used = next_number + 1, time.monotonic(), now
    if next_number < numbers.stop:
        hung = _is_over(child, used, begun)
        if hung:
            os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        tally.counts["hung" if hung else "crashed"] += 1
        tally.faults.append((next_number, "took more than 20 s" if hung else f"ended its process ({status})"))
        return next_number + 1
    os.waitpid(child, 0)
    return next_number


def _processor_time(child: int) -> float:
    """Return the seconds of processor time that a child has used; 0 once it has ended."""
    try:
        fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _is_over(child: int, used: float, begun: float) -> bool:
    """Say whether a case has had its time: of the processor, or by the clock where it waits for something."""
    return _processor_time(child) - used >= SECONDS or time.monotonic() - begun >= WAIT


def _child(name: str, kind: Kind, files: list[tuple[str, bytes]], numbers: range, writing: int) -> None:
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    with tempfile.TemporaryDirectory() as folder:
        seeds.prepare(Path(folder))
        for number in numbers:
            file, content = mutated(name, kind, files, number)
            path = Path(folder) / file
            path.write_bytes(content)
            outcome, words = _read(kind, path)
            grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start)
            os.write(writing, json.dumps([outcome, words, grown]).encode() + b"\n")


def _read(kind: Kind, path: Path) -> tuple[str, str]:
    try:
        kind.read(path)
    except FaithfaceError as error:
        text = str(error)
        return (REFUSED, "") if "\n" not in text and 0 < len(text) < 1500 else ("untidy", text[:2000])
    except seeds.Caught:
        return CAUGHT, ""
    except BaseException:
        return "raised", traceback.format_exc()[-2000:]
    return READ, ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kind", choices=sorted(KINDS), action="append", help="default: all")
    parser.add_argument("--count", type=int, help="cases of each kind; default: the long form's")
    parser.add_argument("--start", type=int, default=0, help="the first case")
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop each kind after this time")
    given = parser.parse_args()
    seeds.warm_up(given.kind or list(KINDS))
    faults = 0
    for name in given.kind or KINDS:
        begun = time.monotonic()
        tally = run_kind(name, given.count or KINDS[name].count, given.start, given.seconds)
        faults += len(tally.faults)
        counts = ", ".join(f"{what} {count}" for what, count in sorted(tally.counts.items()))
        print(
            f"{name}: {counts}; slowest {tally.slowest:.1f} s, largest {tally.largest / GIB:.2f} GiB, "
            f"{time.monotonic() - begun:.0f} s in all",
            flush=True,
        )
        for number, words in tally.faults:
            print(f"  case {number}: {words}", flush=True)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
