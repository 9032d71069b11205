"""Peak memory and time against the number of samples, each measured in its own process.

Place in the flow: called by ``suite``; runs itself as ``python -m faithface.bench.memory N``, because the peak of a
process never falls again. The work is what a run does: load a shard, rank random maps, take both curves, keep the
areas.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

SHARD = 16
POINTS = 11  # enough to exercise everything; 51 would take five times as long


def growth(counts: list[int]) -> list[dict[str, Any]]:
    """Return seconds and peak memory (MiB) for each number of samples."""
    from faithface.bench.subjects import Small, export, with_random_weights

    rows = []
    with TemporaryDirectory(prefix="faithface-bench-") as folder:
        # Exported once, here: an export takes more memory than what is measured.
        card = export(with_random_weights(Small()), "small-random", Path(folder))
        for count in counts:
            command = [sys.executable, "-m", "faithface.bench.memory", str(count), str(card.path)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                rows.append({"samples": count, "failed": (done.stderr.strip().splitlines() or ["no message"])[-1]})
            else:
                rows.append(json.loads(done.stdout.strip().splitlines()[-1]))
    return rows


def score_many(count: int, path: Path) -> dict[str, Any]:
    """Score that many samples of the stand-in network at ``path``, shard by shard, in this process."""
    from faithface.bench.subjects import card_for, random_maps, random_samples
    from faithface.bench.work import maps_for
    from faithface.model import open_model
    from faithface.perturb import area, curves, prefetch

    # A named batch, so that a measured one cannot make the difference between two processes.
    model = open_model(card_for(path), batch_size=32)
    areas = []
    start = time.perf_counter()
    for samples in prefetch(
        lambda first: random_samples(model, min(SHARD, count - first), first), range(0, count, SHARD)
    ):
        found = curves(model, samples, maps_for(samples, random_maps(samples)), points=POINTS)
        areas.append({d: area(c) for d, c in found.scores.items()})
    taken = time.perf_counter() - start
    return {"samples": count, "seconds": round(taken, 3), "peak_mib": round(peak_mib(), 1)}


def peak_mib() -> float:
    """Return the peak memory of this process so far, in MiB."""
    status = Path("/proc/self/status")
    if status.is_file():
        # Not getrusage: on Linux a child's peak there starts at the size of the parent that started it.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    print(json.dumps(score_many(int(sys.argv[1]), Path(sys.argv[2]))))
