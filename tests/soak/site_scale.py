"""How long the tables and the site of a large board take, and how fast its filters answer in a browser.

Place in the flow: run by hand, ``python -m tests.soak.site_scale [EXPLAINERS MODELS METRICS]``; 200, 50 and 20 unless
given. Prints seconds, sizes, and the milliseconds from a choice in the filter bar to the next painted frame.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from faithface.boards.board import make_board
from faithface.boards.render import board_files
from faithface.boards.site import Extras, write_site
from tests.support.boards import records

SAMPLES = 24
CHOICES = ("family=truth", "uses=scores", "uses=gradients", "name=method-1", "cost=1", "uses=")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
TIMED = """choice => new Promise(done => {
  const [key, value] = choice.split("=");
  const field = document.querySelector(`#filters [name=${key}]`);
  if (!field || (field.tagName === "SELECT" && ![...field.options].some(o => o.value === value))) { done(-1); return; }
  const begun = performance.now();
  field.value = value;
  field.dispatchEvent(new Event(field.type === "search" ? "input" : "change", {bubbles: true}));
  const script = performance.now() - begun;
  requestAnimationFrame(() => setTimeout(() => done([script, performance.now() - begun]), 0));
})"""


def main(explainers: int, models: int, metrics: int) -> None:
    """Make a board of that size, write its site, and measure."""
    names = [f"method-{i}(steps={i})" for i in range(explainers - 3)]
    begun = time.perf_counter()
    kept = records(names, models=[f"net-{m}" for m in range(models)], metrics=metrics, n=SAMPLES)
    print(f"{len(kept)} records made up in {time.perf_counter() - begun:.1f} s", flush=True)
    begun, worked = time.perf_counter(), time.process_time()
    board = make_board(kept)
    ranked = time.process_time() - worked
    tables = board_files(board)
    spent = time.process_time() - worked
    print(f"tables: {time.perf_counter() - begun:.1f} s, {spent:.1f} s of processor, {ranked:.1f} s of it to rank")
    print(f"{len(tables)} files, {sum(map(len, tables.values())) / 1e6:.0f} MB", flush=True)
    # On disk a record's digest is that of its file; here there is none.
    extras = Extras(digests={one.record.stem.as_posix(): "0" * 64 for one in kept})
    folder = Path(tempfile.mkdtemp(prefix="faithface-site-"))
    try:
        for name in ("site", "site again, figures unchanged"):
            begun, worked = time.perf_counter(), time.process_time()
            first = write_site(board, folder / "site", extras)
            spent = time.process_time() - worked
            print(f"{name}: {time.perf_counter() - begun:.1f} s, {spent:.1f} s of processor", flush=True)
        files = [path for path in folder.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)
        print(f"{len(files)} files, {size / 1e6:.0f} MB; the first page {first.stat().st_size / 1e3:.0f} kB")
        in_a_browser(first, sorted((folder / "site" / "tables").iterdir())[0])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def in_a_browser(*pages: Path) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        for path in pages:
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(path.as_uri())
            page.wait_for_selector("html[data-ready=yes]", state="attached", timeout=120_000)
            page.wait_for_timeout(2000)
            for choice in CHOICES:
                found = [page.evaluate(TIMED, choice) for _ in range(5)]
                if found[0] == -1:
                    continue
                script, painted = (statistics.median(part) for part in zip(*found, strict=True))
                print(f"{path.name}: {choice}: {script:.0f} ms of script, {painted:.0f} ms to the next frame")
        browser.close()


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:]] or [200, 50, 20]
    main(*given)
