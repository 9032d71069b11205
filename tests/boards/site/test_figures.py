"""Figures are drawn where they must be, and only there; what was tampered with is found by drawing all anew."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from faithface.boards.board import make_board
from faithface.boards.check import Step, check_boards
from faithface.boards.record import Kept, read_records
from faithface.boards.site import drawing, figures, read_extras, write_site
from faithface.boards.site.check import site_findings
from faithface.boards.site.figures import MANIFEST
from faithface.boards.verdicts import audit_for
from tests.support.boards import records, write_made_gallery

ROOT = Path(__file__).resolve().parents[3]
DEMO = ROOT / "leaderboards" / "demo" / "v0"
ALL = 8  # figures of the made board: four of each of its two tables


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the figures that are drawn from now on."""
    names: list[str] = []
    really = drawing.draw

    def noted(shows: drawing.Shows, name: str, label: str) -> str:
        names.append(name)
        return really(shows, name, label)

    monkeypatch.setattr(drawing, "draw", noted)
    return names


@pytest.fixture(scope="module")
def kept() -> list[Kept]:
    return records()


@pytest.fixture(scope="module")
def built(kept: list[Kept], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A board's folder with a gallery and the site that belongs to it."""
    folder = tmp_path_factory.mktemp("built")
    write_made_gallery(kept, folder)
    write_site(make_board(kept), folder / "site", read_extras(folder))
    return folder


@pytest.fixture
def board(built: Path, tmp_path: Path) -> Path:
    return shutil.copytree(built, tmp_path / "board")


def build(kept: list[Kept], board: Path, redraw: bool = False) -> dict[str, bytes]:
    write_site(make_board(kept), board / "site", read_extras(board), redraw=redraw)
    return files(board)


def files(board: Path) -> dict[str, bytes]:
    site = board / "site"
    return {p.relative_to(site).as_posix(): p.read_bytes() for p in sorted(site.rglob("*")) if p.is_file()}


def table_pages(board: Path) -> list[Path]:
    return sorted((board / "site" / "tables").glob("*.html"))


def manifest(board: Path) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = json.loads((board / "site" / MANIFEST).read_bytes())["figures"]
    return found


def test_nothing_is_drawn_and_nothing_changes_where_nothing_changed(
    kept: list[Kept], board: Path, drawn: list[str]
) -> None:
    before = files(board)
    assert len(manifest(board)) == ALL
    assert build(kept, board) == before
    assert drawn == []


def test_the_manifest_holds_the_digest_of_every_figure_on_the_pages(board: Path) -> None:
    found = {}
    for page in table_pages(board):
        for part in page.read_text("utf-8").split("<svg data-figure=")[1:]:
            name = part.split('"')[1]
            svg = "<svg data-figure=" + part.split("</svg>")[0] + "</svg>"
            found[name] = hashlib.sha256(svg.encode()).hexdigest()
    assert found == {name: one["svg"] for name, one in manifest(board).items()}


def test_only_the_figures_whose_data_changed_are_drawn(kept: list[Kept], board: Path, drawn: list[str]) -> None:
    one = kept[0]
    seconds = (one.record.seconds_per_sample or 0) * 2
    slower = Kept(one.record.model_copy(update={"seconds_per_sample": seconds}), one.values, one.folder)
    changed = [slower, *kept[1:]]
    build(changed, board)
    assert len(drawn) == 1
    assert drawn[0].endswith("-cost")
    assert site_findings(board, changed) == []


def _edit(board: Path) -> None:
    page = table_pages(board)[0]
    text = page.read_text("utf-8")
    at = text.index('<svg data-figure="')
    page.write_text(text[:at] + text[at:].replace(">alpha<", ">omega<", 1), "utf-8")


def _lose_the_page(board: Path) -> None:
    table_pages(board)[0].unlink()


def _cut_the_page(board: Path) -> None:
    page = table_pages(board)[0]
    text = page.read_text("utf-8")
    page.write_text(text[: text.index('<svg data-figure="') + 300], "utf-8")


def _lose_the_manifest(board: Path) -> None:
    (board / "site" / MANIFEST).unlink()


def _break_the_manifest(board: Path) -> None:
    (board / "site" / MANIFEST).write_bytes(b'{"drawn_by": {"code": "')


def _other_form(board: Path) -> None:
    path = board / "site" / MANIFEST
    held = json.loads(path.read_bytes())
    held["figures"] = {name: [one["shows"], 3] for name, one in held["figures"].items()}
    path.write_text(json.dumps(held))


@pytest.mark.parametrize(
    ("damage", "count"),
    [
        (_edit, 1),
        (_lose_the_page, 4),
        (_cut_the_page, 4),
        (_lose_the_manifest, ALL),
        (_break_the_manifest, ALL),
        (_other_form, ALL),
    ],
)
def test_a_figure_that_was_altered_or_lost_is_drawn_again(
    kept: list[Kept], board: Path, drawn: list[str], damage: Callable[[Path], None], count: int
) -> None:
    before = files(board)
    damage(board)
    assert files(board) != before
    assert build(kept, board) == before
    assert len(drawn) == count


@pytest.mark.parametrize("part", ["code", "matplotlib"])
def test_other_drawing_code_or_another_matplotlib_draws_all(
    kept: list[Kept], board: Path, drawn: list[str], monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    other = {**figures.drawn_by(), part: "other"}
    monkeypatch.setattr(figures, "drawn_by", lambda: other)
    build(kept, board)
    assert len(drawn) == ALL
    assert json.loads((board / "site" / MANIFEST).read_bytes())["drawn_by"] == other


def test_the_drawing_code_depends_on_no_other_module_of_faithface() -> None:
    # Its own source and matplotlib's version stand for all that decides how a figure looks.
    text = Path(drawing.__file__).read_text("utf-8")
    assert "import faithface" not in text
    assert "from faithface" not in text
    assert figures.drawn_by()["code"] == hashlib.sha256(text.encode()).hexdigest()


def test_all_figures_can_be_drawn_anew(kept: list[Kept], board: Path, drawn: list[str]) -> None:
    before = files(board)
    assert build(kept, board, redraw=True) == before
    assert len(drawn) == ALL


def _forge(board: Path) -> str:
    """Alter a figure everywhere, and the manifest with it; return the page."""
    page = table_pages(board)[0]
    text = page.read_text("utf-8")
    at = text.index('<svg data-figure="')
    end = text.index("</svg>", at) + len("</svg>")
    svg = text[at:end]
    name = svg.split('"')[1]
    forged = svg.replace(">alpha<", ">omega<", 1)
    assert forged != svg
    for path in (page, board / "site" / "index.html"):
        path.write_text(path.read_text("utf-8").replace(svg, forged), "utf-8")
    path = board / "site" / MANIFEST
    held = json.loads(path.read_bytes())
    held["figures"][name]["svg"] = hashlib.sha256(forged.encode()).hexdigest()
    path.write_text(json.dumps(held, indent=1) + "\n")
    return page.relative_to(board).as_posix()


def test_who_alters_a_figure_and_the_manifest_is_found_out_by_check(
    kept: list[Kept], board: Path, drawn: list[str]
) -> None:
    assert site_findings(board, kept) == []
    page = _forge(board)
    build(kept, board)
    drawn.clear()
    found = site_findings(board, kept)
    assert [one.path for one in found] == ["site/assets/figures.json", "site/index.html", page]
    assert len(drawn) == ALL
    build(kept, board, redraw=True)
    assert site_findings(board, kept) == []


def test_check_names_pages_that_are_missing_edited_or_made_from_nothing(kept: list[Kept], board: Path) -> None:
    site = board / "site"
    (site / "explainers" / "alpha.html").unlink()
    (site / "explainers" / "omega.html").write_text("<p>best")
    index = site / "index.html"
    index.write_text(index.read_text("utf-8").replace("alpha", "omega"), "utf-8")
    found = {one.path: one.detail for one in site_findings(board, kept)}
    assert set(found) == {"site/explainers/alpha.html", "site/explainers/omega.html", "site/index.html"}
    assert "missing" in found["site/explainers/alpha.html"]
    assert "from nothing" in found["site/explainers/omega.html"]
    assert "differs" in found["site/index.html"]


def test_check_says_that_another_matplotlib_drew_the_figures(kept: list[Kept], board: Path) -> None:
    path = board / "site" / MANIFEST
    held = json.loads(path.read_bytes())
    held["drawn_by"]["matplotlib"] = "0.99"
    path.write_text(json.dumps(held, indent=1) + "\n")
    (one,) = site_findings(board, kept)
    assert "drawn by matplotlib 0.99" in one.detail


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """A copy of the published demo board, with the audit beside it."""
    copy = tmp_path / "leaderboards"
    shutil.copytree(DEMO.parent, copy / "demo")
    audit = DEMO.parent.parent / "audit"
    if audit.is_dir():
        shutil.copytree(audit, copy / "audit")
    return copy / "demo" / "v0"


def test_building_the_demo_board_draws_nothing_and_imports_nothing_heavy(demo: Path) -> None:
    code = (
        "import sys; from faithface.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "print([name for name in ('torch', 'onnxruntime', 'matplotlib', 'captum', 'onnx') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, "leaderboard", "build", str(demo)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert files(demo) == files(DEMO)


def test_check_draws_the_figures_of_a_published_board_and_finds_a_forged_one(demo: Path) -> None:
    def site_step() -> tuple[bool, tuple[str, ...]]:
        (one,) = [one for one in check_boards([demo]) if one.step is Step.SITE]
        return one.passed, one.lines

    kept = read_records(demo / "records")
    write_site(make_board(kept, audit_for(demo)), demo / "site", read_extras(demo))
    assert site_step() == (True, ())
    page = next((demo / "site" / "tables").glob("*pad*.html"))
    text = page.read_text("utf-8")
    at = text.index("<svg data-figure")
    page.write_text(text[:at] + text[at:].replace("hirescam", "smoothest", 1), "utf-8")
    passed, lines = site_step()
    assert not passed
    assert page.name in lines[0]
