"""Galleries and views of runs: curves and pictures are those of the run, faces are shown only where they may be."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from faithface.api import execute
from faithface.boards.record import read_records
from faithface.boards.site import read_extras
from faithface.cli import main
from faithface.errors import UsageError
from faithface.gallery import HIDDEN, Wanted, band_of, choose, facts_of, write_gallery
from faithface.plugins import Registry, load_registry
from faithface.run.lock import RunLock
from faithface.run.plan import make_plan
from faithface.run.request import Request
from faithface.run.store import FILE, open_run
from faithface.view import VIEW, write_pages
from tests.support.runs import Interrupts, MeanRelevance, Ramp, with_extras, write_card, write_folder


def request_of(root: Path, explainers: Sequence[object]) -> Request:
    card, folder = str(write_card(root, name="net")), f"folder:{write_folder(root / 'faces', 6)}"
    return Request(
        (card,), (folder,), tuple(explainers), ("mean-relevance@1", "gap@1(grid=4,points=5)"), keep_maps=True
    )  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def registry() -> Registry:
    return with_extras(load_registry(), Ramp(), MeanRelevance())


@pytest.fixture(scope="module")
def run(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("gallery")
    execute(make_plan(request_of(root, ("ramp", "random")), registry), root / "run")
    return root / "run"


def test_curves_of_a_gallery_are_those_of_the_store_and_the_band_their_mean(
    run: Path, registry: Registry, tmp_path: Path
) -> None:
    kept = read_records(run / "records")
    assert write_gallery(run, kept, tmp_path, Wanted(2, "all"), lambda: registry) == ()
    extras = read_extras(tmp_path)
    with open_run(run) as store:
        cells = {cell["explainer"]: cell["id"] for cell in store.cells()}
        for one in kept:
            mine = extras.cell(one.record)
            for name in ("deletion", "insertion"):
                stored = store.curves(cells[one.record.explainer.spec], "gap@1(grid=4,points=5)", name)
                band = mine.bands["gap@1(grid=4,points=5)"][name]
                curves = np.stack([stored[s] for s in sorted(stored)]).astype(float)
                assert band.n == len(stored)
                assert band.mean == pytest.approx(curves.mean(axis=0), rel=1e-3)
                for sample, curve in mine.curves["gap@1(grid=4,points=5)"][name].items():
                    assert curve == pytest.approx(stored[sample], rel=1e-3)


def test_the_band_of_independent_samples_is_student_s_interval() -> None:
    rng = np.random.default_rng(1)
    curves = {f"s{i}": rng.normal(i % 3, 1, 4) for i in range(12)}
    band = band_of(curves, {name: [name] for name in curves})
    values = np.stack(list(curves.values()))
    half = stats.t.ppf(0.975, 11) * values.std(axis=0, ddof=1) / np.sqrt(12)
    assert band.mean == pytest.approx(values.mean(axis=0), rel=1e-3)
    assert band.low == pytest.approx(values.mean(axis=0) - half, rel=1e-3, abs=1e-3)
    assert band.high == pytest.approx(values.mean(axis=0) + half, rel=1e-3, abs=1e-3)


def test_faces_are_published_only_of_datasets_that_allow_it(run: Path, registry: Registry, tmp_path: Path) -> None:
    kept = read_records(run / "records")
    assert not any(one.record.dataset.publishable for one in kept)
    write_gallery(run, kept, tmp_path / "published", Wanted(2), lambda: registry)
    (gallery,) = read_extras(tmp_path / "published").galleries.values()
    assert gallery.hidden == HIDDEN
    assert [one.faces for one in gallery.samples] == [0, 0]
    assert not list((tmp_path / "published").rglob("face-*"))
    # The maps alone are there, without a face under them.
    pictures = sorted((tmp_path / "published").rglob("ramp.relevance.webp"))
    assert len(pictures) == 2
    assert Image.open(pictures[0]).size == (32, 32)
    allowed = []
    for one in kept:
        dataset = one.record.dataset.model_copy(update={"publishable": True})
        allowed.append(dataclasses.replace(one, record=one.record.model_copy(update={"dataset": dataset})))
    write_gallery(run, allowed, tmp_path / "allowed", Wanted(2), lambda: registry)
    faces = sorted((tmp_path / "allowed").rglob("face-a.webp"))
    assert len(faces) == 2
    assert Image.open(sorted((tmp_path / "allowed").rglob("ramp.relevance.webp"))[0]).size == (64, 32)


def test_a_face_in_the_gallery_is_the_image_that_was_explained(run: Path, registry: Registry, tmp_path: Path) -> None:
    write_gallery(run, read_records(run / "records"), tmp_path, Wanted(1, "all"), lambda: registry)
    with open_run(run) as store:
        (group,) = store.groups()
    item = registry.dataset(group["dataset"]).object.items()
    (face,) = tmp_path.rglob("face-a.webp")
    (shown,) = next(iter(read_extras(tmp_path).galleries.values())).samples
    (sample,) = [one for one in item if one.id == shown.sample]
    difference = np.abs(np.asarray(Image.open(face), dtype=float) / 255 - sample.faces[0].read())
    assert difference.mean() < 0.04  # WebP loses a little


def test_a_ramp_is_drawn_from_bright_to_dark(run: Path, registry: Registry, tmp_path: Path) -> None:
    write_gallery(run, read_records(run / "records"), tmp_path, Wanted(1), lambda: registry)
    (picture,) = tmp_path.rglob("ramp.relevance.webp")
    light = np.asarray(Image.open(picture).convert("L"), dtype=float).mean(axis=0)
    assert light[0] > 200 > 60 > light[-1]


def test_cells_of_an_earlier_run_stay_in_the_gallery(run: Path, registry: Registry, tmp_path: Path) -> None:
    kept = read_records(run / "records")
    ramp, other = sorted(kept, key=lambda one: one.record.explainer.spec != "ramp")
    write_gallery(run, [ramp], tmp_path, Wanted(2, "all"), lambda: registry)
    write_gallery(run, [other], tmp_path, Wanted(2, "all"), lambda: registry)
    extras = read_extras(tmp_path)
    for one in (ramp, other):
        cell = extras.cell(one.record)
        assert len(cell.pictures) == 2
        assert cell.bands
    assert len(list(tmp_path.rglob("ramp.relevance.webp"))) == 2


def test_samples_are_chosen_evenly_over_kinds_in_the_dataset_s_order() -> None:
    samples = [{"sample": f"s{i}", "position": i, "same": i < 7} for i in range(10)]
    assert [one["position"] for one in choose(samples, 4)] == [0, 1, 7, 8]
    assert [one["position"] for one in choose(samples, 20)] == list(range(10))
    assert choose(samples, 0) == []


def test_facts_say_what_the_store_knows(run: Path) -> None:
    record = read_records(run / "records")[0].record
    pair = {"same": False, "kind": "", "score": 0.25, "predicted": 1, "correct": False}
    assert facts_of(pair, record, 0.2) == {
        "truth": "impostor pair",
        "similarity": "0.2500",
        "decision": "accepted at 0.2000",
        "model": "wrong",
    }
    name = record.model.card["output"]["classes"][1]
    image = {"label": "attack", "score": 0.75, "predicted": 1, "correct": None}
    assert facts_of(image, record, None) == {"truth": "attack", "decision": f"{name}, probability 0.7500"}


# --- view


def test_a_finished_run_is_viewed_with_faces_and_all_its_cells(run: Path, registry: Registry) -> None:
    pages = write_pages(run, 2, lambda: registry)
    assert pages.first == run / VIEW / "site" / "index.html"
    assert not pages.going
    text = pages.first.read_text()
    assert "Not finished" not in text
    assert {p.stem for p in (run / VIEW / "site" / "cells").rglob("*.html")} == {"ramp", "random"}
    assert len(list((run / VIEW / "gallery").rglob("face-a.webp"))) == 2


def test_a_run_that_stopped_shows_the_cells_that_are_finished_and_names_the_others(
    registry: Registry, tmp_path: Path
) -> None:
    whole = with_extras(registry, Interrupts(10**6))
    plan = make_plan(request_of(tmp_path, ("ramp", "random", Interrupts(1))), whole)
    with pytest.raises(KeyboardInterrupt):
        execute(plan, tmp_path / "run")
    pages = write_pages(tmp_path / "run", 2, lambda: whole)
    text = pages.first.read_text()
    with open_run(tmp_path / "run") as store:
        done = {c["explainer"] for c in store.cells() if c["status"] != "pending"}
        before = {c["id"]: c["status"] for c in store.cells()}
    assert "Not finished" in text
    assert f"{len(done)} of 3 cells finished" in text
    cells = tmp_path / "run" / VIEW / "site" / "cells"
    assert {p.stem for p in cells.rglob("*.html")} == done
    assert "interrupts: " in text
    # Looking changes nothing in the run.
    with open_run(tmp_path / "run") as store:
        assert {c["id"]: c["status"] for c in store.cells()} == before
    assert not (tmp_path / "run" / "records").exists()


def test_watching_writes_the_pages_again_as_cells_finish(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stops = Interrupts(1)
    whole = with_extras(registry, stops)
    plan = make_plan(request_of(tmp_path, ("ramp", "random", stops)), whole)
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        execute(plan, run)
    monkeypatch.setattr("faithface.plugins.load_registry", lambda: whole)
    site = run / VIEW / "site"
    lock = RunLock(run)  # as another process holds it that resumes the run
    seen: list[tuple[str, set[str], int]] = []

    def look(_seconds: float) -> None:
        """Note what the pages say; the second time finish the run, the third time its writer ends."""
        nonlocal lock
        index = site / "index.html"
        cells = {page.stem for page in (site / "cells").rglob("*.html")}
        seen.append((index.read_text(), cells, index.stat().st_mtime_ns))
        assert len(seen) < 4, "nobody works on the run, and it is still watched"
        if len(seen) > 1:
            lock.release()
        if len(seen) == 2:
            execute(plan, run)
            lock = RunLock(run)

    # Of this command alone: waiting for a subprocess, such as git, sleeps too.
    monkeypatch.setattr("faithface.cli.view.time", SimpleNamespace(sleep=look))
    assert main(["view", str(run), "--watch", "--no-open", "--samples", "1"]) == 0
    (first, some, written), (_, _, unchanged), (after, every, _) = seen
    assert f"{len(some)} of 3 cells finished" in first
    assert 'http-equiv="refresh"' in first
    assert len(some) < 3
    assert unchanged == written, "nothing had finished"
    assert every == {"ramp", "random", "interrupts"}
    assert "Not finished" not in after
    last = (site / "index.html").read_text()
    assert "Not finished" not in last
    assert 'http-equiv="refresh"' not in last


def test_what_is_neither_a_run_nor_a_board_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither a run nor a board"):
        write_pages(tmp_path, 2, lambda: pytest.fail("plugins were loaded"))
    (tmp_path / FILE).write_text("no database")
    with pytest.raises(Exception, match="damaged"):
        write_pages(tmp_path, 2, lambda: pytest.fail("plugins were loaded"))


def test_the_commands_write_the_pages_and_say_where(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert main(["view", str(run), "--no-open", "--samples", "1"]) == 0
    assert capsys.readouterr().out.strip() == str(run.resolve() / VIEW / "site" / "index.html")
    assert opened == []
    assert main(["leaderboard", "build", str(run), "-o", str(tmp_path), "--samples", "2"]) == 0
    (board,) = (tmp_path / "adhoc").glob("v*")
    first = {p.relative_to(board): p.read_bytes() for p in board.rglob("*") if p.is_file()}
    assert {path.parts[0] for path in first} == {"README.md", "gallery", "records", "site", "tables", "trust.csv"}
    assert len([path for path in first if path.parts[:2] == ("site", "samples")]) == 2
    # A board is a function of what lies in its folder: made again, it is the same, byte for byte.
    assert main(["leaderboard", "build", str(board)]) == 0
    assert {p.relative_to(board): p.read_bytes() for p in board.rglob("*") if p.is_file()} == first
    capsys.readouterr()
    assert main(["view", str(board)]) == 0
    assert opened == [(board / "site" / "index.html").resolve().as_uri()]
    assert {p.relative_to(board): p.read_bytes() for p in board.rglob("*") if p.is_file()} == first
