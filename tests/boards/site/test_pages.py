"""The site's pages as files: what they say, that they hang together, and that no text of a record is markup."""

from __future__ import annotations

import html
import random
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest

from faithface.boards.board import make_board
from faithface.boards.render import figure
from faithface.boards.site import Progress, read_extras, site_files, write_site
from faithface.boards.site.extras import FILE, GALLERY, Extras, Gallery
from faithface.boards.site.pages import ranks
from faithface.boards.statistics import rank
from faithface.boards.verdicts import Against, Examined, Verdict
from faithface.errors import RunError, UsageError
from tests.support.boards import AUDIT, METHODS, records, write_made_gallery


class Page(HTMLParser):
    """The elements of a page: (name, attributes), the text, and the rows of its tables as texts of cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.rows: list[list[str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th") and self.rows:
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data

    def row(self, name: str, cells: int) -> list[str]:
        """Return the first row of a name with so many cells, each with single blanks."""
        flat = [[" ".join(cell.split()) for cell in row] for row in self.rows]
        return next(row for row in flat if len(row) == cells and row[0] == name)


def pages(folder: Path) -> dict[str, Page]:
    found = sorted((folder / "site").rglob("*.html"))
    return {p.relative_to(folder / "site").as_posix(): Page(p.read_text(encoding="utf-8")) for p in found}


@pytest.fixture(scope="module")
def read(made: Path) -> dict[str, Page]:
    return pages(made)


# --- what the pages say


def test_every_kind_of_page_is_there(read: dict[str, Page]) -> None:
    kinds = {name.split("/")[0]: sum(other.startswith(name.split("/")[0]) for other in read) for name in read}
    assert kinds == {"index.html": 1, "tables": 2, "explainers": 7, "cells": 14, "samples": 6}


def test_a_table_says_the_numbers_intervals_and_ranks_of_the_records(read: dict[str, Page]) -> None:
    kept = [k for k in records() if k.record.model.name == "net-a"]
    columns, units = {}, {}
    for one in kept:
        if not one.record.explainer.control:
            mine = one.values.filter(one.values["protocol"] == "metric-0@1(grid=14)")
            columns[one.record.explainer.spec] = dict(zip(mine["sample"], mine["value"], strict=True))
            units.update(dict(zip(mine["sample"], mine["units"].to_list(), strict=True)))
    places = {p.name: p.text.replace("-", "–") for p in rank(columns, units, True)}
    page = read["tables/net-a--faces-pad.html"]
    labels = [a["aria-label"] for tag, a in page.elements if tag == "svg" and a.get("class") == "dot"]
    for one in kept:
        number = one.record.numbers[0]
        shown = page.row(one.record.explainer.spec, 5)[1]
        expected = f"{places[one.record.explainer.spec]} " if not one.record.explainer.control else ""
        assert shown == f"{expected}{figure(number.number)}"
        assert f"95 % interval {figure(number.low)} to {figure(number.high)}" in labels


def test_methods_stand_best_first_in_every_family_and_controls_at_the_foot(read: dict[str, Page]) -> None:
    text = (read["tables/net-a--faces-pad.html"]).rows
    names = [" ".join(row[0].split()) for row in text if row and row[0].split()]
    first = names.index("Controls, not ranked")
    assert names[first - 4 : first] == list(METHODS)
    assert names[first + 1 : first + 4] == ["oracle", "random", "inverted: oracle".replace(": ", ":")]


def test_descriptions_have_no_rank_and_no_shade(made: Path) -> None:
    text = (made / "site" / "tables" / "net-a--faces-pad.html").read_text()
    part = text.split('data-family="description"')[1].split("</section>")[0]
    assert 'class="rank"' not in part
    assert " t1" not in part
    assert 'class="rank"' in text.split('data-family="faithful"')[1].split("</section>")[0]


def test_the_overall_order_counts_only_metrics_that_the_audit_lets_judge(read: dict[str, Page]) -> None:
    page = read["index.html"]
    assert "Faithful (metric-0@1(grid=14)); Known answers (metric-1@1(grid=14))." in " ".join(page.text.split())
    # Each method is ahead of the next by three standard deviations of its noise, by both metrics.
    overall = [row for row in page.rows if len(row) == 4 and row[0].strip() in METHODS and "." in row[1]]
    assert [row[0].strip() for row in overall[:4]] == list(METHODS)
    assert [row[1] for row in overall[:4]] == ["1.00", "2.00", "3.00", "4.00"]


def test_without_a_metric_that_judges_there_is_no_overall_order() -> None:
    described = {f"metric-{k}@1(grid=14)": Examined(Verdict.DESCRIBES) for k in range(6)}
    for audit in ({}, described):
        index = dict(site_files(make_board(records(models=("net-a",)), audit)))["index.html"].decode()
        assert "No overall order: the audit lets none of the metrics here judge" in index


def test_a_cell_lists_its_samples_with_their_ranks(read: dict[str, Page]) -> None:
    one = next(k for k in records() if (k.record.model.name, k.record.explainer.spec) == ("net-a", "beta"))
    page = read["cells/net-a/faces-pad/beta.html"]
    for protocol, better in (("metric-0@1(grid=14)", "higher"), ("metric-1@1(grid=14)", "lower")):
        mine = one.values.filter(one.values["protocol"] == protocol)
        values = dict(zip(mine["sample"], mine["value"], strict=True))
        ahead = sum((v > values["sample-001"]) == (better == "higher") for s, v in values.items() if s != "sample-001")
        cell = page.row("sample-001", 7)[1 + int(protocol[7])]
        assert cell == f"{figure(values['sample-001'])} {ahead + 1}/24"


def test_ranks_of_samples_against_counting() -> None:
    rng = np.random.default_rng(3)
    values = {f"s{i}": float(v) for i, v in enumerate(rng.integers(0, 5, 30))}
    for higher in (True, False):
        for sample, (place, of) in ranks(values, higher).items():
            better = [v for v in values.values() if (v > values[sample] if higher else v < values[sample])]
            assert (place, of) == (1 + len(better), 30)


def test_the_citation_names_the_record_by_its_digest(read: dict[str, Page]) -> None:
    text = read["cells/net-a/faces-pad/beta.html"].text
    assert "faithface leaderboard made, version 1: beta on net-a, faces-pad (revision 1, 24 samples, seed 0)" in text
    digests = re.findall(r"Record sha256 ([0-9a-f]{64})", text)
    assert len(set(digests)) == 1
    assert len(digests) == 2
    assert "@misc{faithface-made-v1-beta-net-a," in text


def test_a_run_that_goes_on_says_so_on_every_page() -> None:
    progress = Progress(3, 14, True, ("net-b on faces: beta: 1 of 2 shards",), refresh=5)
    files = dict(site_files(make_board(records(models=("net-a",))), progress=progress))
    for name, content in files.items():
        if name.endswith(".html"):
            text = content.decode()
            assert "3 of 14 cells finished" in text
            assert '<meta http-equiv="refresh" content="5">' in text
            assert "net-b on faces: beta: 1 of 2 shards" in text


# --- that they hang together


def test_every_link_leads_to_a_page_and_every_anchor_to_an_element(made: Path, read: dict[str, Page]) -> None:
    ids = {name: {a["id"] for _tag, a in page.elements if "id" in a} for name, page in read.items()}
    for name, page in read.items():
        for tag, attributes in page.elements:
            for key in ("href", "src", "data-href"):
                address = attributes.get(key, "")
                if not address or (tag == "link" and address == "data:,") or (tag == "use"):
                    continue
                parts = urlsplit(address)
                assert not parts.scheme, f"{name} leads to {address}"
                assert not parts.netloc, f"{name} leads to {address}"
                target = (made / "site" / name).parent / unquote(parts.path) if parts.path else made / "site" / name
                assert target.resolve().is_file(), f"{name} leads to {address}, which is not there"
                if parts.fragment:
                    other = target.resolve().relative_to((made / "site").resolve()).as_posix()
                    assert parts.fragment in ids[other], f"{name} leads to {address}, and nothing has that id"


def test_no_id_is_used_twice(read: dict[str, Page]) -> None:
    for name, page in read.items():
        ids = [a["id"] for _tag, a in page.elements if "id" in a]
        assert len(ids) == len(set(ids)), name


def test_nothing_is_asked_of_anywhere(made: Path) -> None:
    for path in (made / "site").rglob("*"):
        if path.suffix in (".html", ".css"):
            text = path.read_text(encoding="utf-8")
            found = [a for a in re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"')\s>]+)""", text) if "//" in a]
            assert found == [], path
    script = (made / "site" / "assets" / "site.js").read_text()
    assert not re.search(r"fetch|XMLHttpRequest|import\(|WebSocket|sendBeacon|innerHTML", script)


def test_the_same_records_in_any_order_give_the_same_bytes(made: Path) -> None:
    kept = records()
    random.Random(5).shuffle(kept)
    files = dict(site_files(make_board(kept, AUDIT), read_extras(made), downloads=False))
    there = {p.relative_to(made / "site").as_posix(): p.read_bytes() for p in (made / "site").rglob("*") if p.is_file()}
    assert files.keys() == there.keys()
    assert [name for name in files if files[name] != there[name]] == []


def test_what_no_record_accounts_for_is_removed_and_a_strange_folder_is_refused(tmp_path: Path) -> None:
    write_site(make_board(records()), tmp_path / "site")
    (tmp_path / "site" / "cells" / "old.html").write_text("old")
    write_site(make_board(records(models=("net-a",))), tmp_path / "site")
    assert not (tmp_path / "site" / "cells" / "old.html").exists()
    assert not (tmp_path / "site" / "cells" / "net-b").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match="not a site"):
        write_site(make_board(records(models=("net-a",))), tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"


def test_a_large_board_has_a_first_page_below_a_megabyte_with_links_to_the_rest() -> None:
    names = [f"method-with-a-name-{i}(parameter=value)" for i in range(60)]
    board = make_board(records(names, models=[f"net-{m}" for m in range(5)], metrics=12, n=5))
    files = {}
    for name, content in site_files(board):
        if name == "index.html" or name.startswith("assets/"):
            files[name] = content
        if name == "index.html":
            break
    loaded = ("assets/site.css", "assets/site.js", "assets/simple-datatables.js", "index.html")
    assert 300_000 < sum(len(files[name]) for name in loaded) < 1_000_000
    page = Page(files["index.html"].decode())
    tables = {a["href"] for tag, a in page.elements if tag == "a" and a.get("href", "").startswith("tables/")}
    assert len(tables) == 5


# --- bad input

NASTY = [
    '"><script>alert(1)</script>',
    "' onmouseover='alert(1)",
    "</title></style></script><img src=x onerror=alert(1)>",
    "javascript:alert(1)",
    "a|b\nc\r\nd\te",
    "$x^2_{}$ \\frac & % # ~ {{ 7*7 }} {% raw %}",
    "😀 名前 \u202eevil",
    "x" * 300,
    "../../../../etc/passwd",
    "--><!-- ]]>",
    "con",
    " ",
]


@pytest.fixture(scope="module")
def nasty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("nasty")
    texts = dict.fromkeys(("description", "reason", "source", "sample"), NASTY[0] + NASTY[2])
    kept = records(NASTY, models=(NASTY[0], NASTY[2]), metrics=2, n=8, dataset=NASTY[1], **texts)
    kept = [k for k in kept if k.record.explainer.spec != "random"]
    write_made_gallery(kept, root, shown=1)
    board = make_board(kept, {f"metric-0@1({NASTY[2]})": Examined(Verdict.WITH_CARE, (Against.ORDER,))})
    write_site(board, root / "site", read_extras(root), downloads=False)
    return root


def test_bad_names_are_text_and_never_markup(nasty: Path) -> None:
    read = pages(nasty)
    assert len(read) > 30
    for name, page in read.items():
        scripts = [a for tag, a in page.elements if tag == "script"]
        assert [a.get("src", "").rpartition("/")[2] for a in scripts] == ["", "simple-datatables.js", "site.js"], name
        for tag, attributes in page.elements:
            assert not [key for key in attributes if key.startswith("on")], (name, tag, attributes)
            for key in ("href", "src", "data-href", "action", "formaction"):
                assert not attributes.get(key, "").strip().lower().startswith("javascript"), (name, attributes)
            if tag == "img":
                assert "gallery/" in attributes["src"], (name, attributes)
    text = read["index.html"].text
    for bad in NASTY:
        flat = " ".join(bad.split()).encode("utf-8", "replace").decode()
        assert flat in " ".join(text.split()) or flat == "", bad


def test_pages_of_bad_names_stay_in_the_site_and_their_links_work(nasty: Path) -> None:
    inside = {p for p in nasty.rglob("*") if p.is_file()}
    assert {p.relative_to(nasty).parts[0] for p in inside} == {"site", GALLERY}
    test_every_link_leads_to_a_page_and_every_anchor_to_an_element(nasty, pages(nasty))


def test_bad_names_stay_inside_their_braces_in_bibtex(nasty: Path) -> None:
    for path in (nasty / "site" / "cells").rglob("*.html"):
        entry = html.unescape(re.search(r"<pre[^>]*>(.*?)</pre>", path.read_text(), re.DOTALL)[1])  # type: ignore[index]
        bare = entry.replace(r"\{", "").replace(r"\}", "")
        depth = [0]
        for sign in bare:
            depth.append(depth[-1] + (sign == "{") - (sign == "}"))
        assert min(depth) == 0
        assert depth[-1] == 0
        assert depth.index(0, 1 + bare.index("{")) == len(depth) - 1, "the entry ends where it ends, and not before"


# --- galleries


def test_curves_and_pictures_of_other_values_are_not_shown(tmp_path: Path) -> None:
    kept = records(models=("net-a",))
    write_made_gallery(kept, tmp_path)
    others = make_board(records(models=("net-a",), seed=1))
    files = dict(site_files(others, read_extras(tmp_path)))
    assert "gallery/net-a/faces-pad/sample-001/beta" not in files["samples/net-a/faces-pad/sample-001.html"].decode()
    assert "Mean curves" not in files["cells/net-a/faces-pad/beta.html"].decode()
    same = dict(site_files(make_board(kept), read_extras(tmp_path)))
    assert "gallery/net-a/faces-pad/sample-001/beta" in same["samples/net-a/faces-pad/sample-001.html"].decode()
    assert "Mean curves" in same["cells/net-a/faces-pad/beta.html"].decode()


def test_a_gallery_cannot_point_outside_its_folder(tmp_path: Path) -> None:
    kept = records(models=("net-a",), sample="../../../../secret")
    write_made_gallery(kept, tmp_path)
    for name, content in site_files(make_board(kept), read_extras(tmp_path)):
        for address in re.findall(r'src="([^"]*gallery[^"]*)"', content.decode("utf-8", "replace")):
            target = (tmp_path / "site" / name).parent / unquote(address)
            assert target.resolve().is_relative_to((tmp_path / GALLERY).resolve())


@pytest.mark.parametrize("text", ["", "{", "[]", '{"gallery_schema": 2}', '{"samples": [{"sample": "a", "faces": 7}]}'])
def test_half_a_gallery_is_one_clear_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / GALLERY / "net" / "faces" / FILE
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(UsageError, match="is not a gallery"):
        read_extras(tmp_path)


def test_an_empty_gallery_is_none() -> None:
    record = records(models=("net-a",))[0].record
    assert Extras().of(record) == Gallery()
    assert Extras().cell(record).pictures == {}
