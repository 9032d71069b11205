"""Train the zoo: ``python -m training.train_zoo [--only PATTERN] [--runs 0 1 …] [--jobs 2] [--out FOLDER]``.

Place in the flow: the entry point of a training; calls ``data.py``, ``loops.py`` and ``export.py``. ``--jobs``
processes of one thread share the work; the rendered pictures are shared through the cache folder. Minutes per model on
one CPU core; nothing is downloaded.

Afterwards: ``python -m training.evaluate_zoo`` measures what came out.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from training.recipes import EXACT_RECIPES, RECIPES, Recipe

ROOT = Path(__file__).resolve().parent.parent
ZOO = ROOT / "plugins" / "faithface_plugins" / "models" / "zoo"
RECORD = "training.json"

# glibc gives large blocks back to the system at every step and takes them again, page by page; keeping them saves a
# third of the time of a step.
MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": str(4 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(8 << 30),
    "MALLOC_TOP_PAD_": str(256 << 20),
}


def chosen(only: Sequence[str], runs: Sequence[int], recipes: Sequence[Recipe] = RECIPES) -> list[Recipe]:
    """Return the recipes whose name matches a pattern of ``only``, of the ``runs`` (empty: all)."""
    patterns = [p if any(c in p for c in "*?[") else f"*{p}*" for p in only] or ["*"]
    return [r for r in recipes if any(fnmatch.fnmatch(r.name, p) for p in patterns) and (not runs or r.run in runs)]


def train(recipe: Recipe, out: Path, cache: Path) -> dict[str, object]:
    """Train, export and verify one model; return what is worth remembering of it."""
    import torch

    from training import data, export, loops

    torch.set_num_threads(1)
    if not recipe.epochs:
        export.export(loops.written(recipe), recipe, out)
        return {"seconds": 0.0, "images": 0, "epochs": 0}
    if recipe.task == "verification":
        arrays = data.verification_set(cache)
        start = time.process_time()
        network = loops.train_verifier(recipe, arrays["images"], arrays["labels"])
    else:
        arrays = data.classifier_set(recipe.task, recipe.tagged, cache)
        start = time.process_time()
        network = loops.train_classifier(recipe, arrays["images"], arrays["labels"], arrays["human"])
    seconds = time.process_time() - start
    export.export(network, recipe, out)
    return {"seconds": round(seconds, 1), "images": len(arrays["images"]), "epochs": recipe.epochs}


def render(recipes: Sequence[Recipe], cache: Path) -> None:
    """Render what the recipes need, once, before processes that would all render the same start."""
    from training import data

    for task, tagged in sorted({(r.task, r.tagged) for r in recipes if r.epochs}):
        print(f"pictures for {task}{' (tagged)' if tagged else ''}", flush=True)
        if task == "verification":
            data.verification_set(cache)
        else:
            data.classifier_set(task, tagged, cache)


def remember(out: Path, name: str, facts: dict[str, object]) -> None:
    """Add the facts of a training to the folder's record, sorted by name."""
    path = out / RECORD
    record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    record[name] = facts
    path.write_text(json.dumps(dict(sorted(record.items())), indent=1) + "\n", encoding="utf-8")


def _work(recipes: Sequence[Recipe], out: Path, cache: Path, lock: threading.Lock) -> list[str]:
    """Train recipes one after another in a process of its own; return the names of those that came out."""
    command = [sys.executable, "-m", "training.train_zoo", "--out", str(out), "--cache", str(cache), "--worker"]
    environment = {**os.environ, **MALLOC, "OMP_NUM_THREADS": "1"}
    done = []
    with subprocess.Popen(
        [*command, *(r.name for r in recipes)], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            if line.startswith("{"):
                facts = json.loads(line)
                done.append(facts.pop("name"))
                with lock:
                    remember(out, done[-1], facts)
    return done


def main(
    arguments: Sequence[str] | None = None,
    known: Sequence[Recipe] = RECIPES,
    out: Path = ZOO,
    prog: str = "python -m training.train_zoo",
) -> int:
    """Parse the command line and train; exit code 1 where a training failed.

    Args:
        known: the recipes to choose from.
        out: the folder for files where the command line names none.
        prog: the command, as the help writes it.
    """
    from training.data import default_cache

    parser = argparse.ArgumentParser(prog=prog, description="Train, export and verify small networks.")
    parser.add_argument("--only", nargs="*", default=[], help="names, families or patterns, such as pad-guided")
    parser.add_argument("--runs", nargs="*", type=int, default=[], help="training runs, such as 0 1")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time, one thread each")
    parser.add_argument("--out", type=Path, default=out, help="folder for .onnx files and cards")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="folder for rendered pictures")
    parser.add_argument("--list", action="store_true", help="list the recipes and stop")
    parser.add_argument("--worker", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        for name in options.worker:
            (recipe,) = (r for r in (*RECIPES, *EXACT_RECIPES) if r.name == name)
            print(json.dumps({"name": name, **train(recipe, options.out, options.cache)}), flush=True)
        return 0
    recipes = chosen(options.only, options.runs, known)
    if options.list or not recipes:
        print("\n".join(r.name for r in (recipes or known)))
        return 0 if recipes else 2
    render(recipes, options.cache)
    jobs, lock = max(1, options.jobs), threading.Lock()
    with ThreadPoolExecutor(jobs) as pool:
        shares = [recipes[at::jobs] for at in range(jobs) if recipes[at::jobs]]
        done = list(pool.map(lambda share: _work(share, options.out, options.cache, lock), shares))
    failed = sorted({r.name for r in recipes} - {name for names in done for name in names})
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
