"""The tier of an explainer on boards: that of the code that was run, computed by a check, or "not computed"."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest

from faithface.boards.board import make_board
from faithface.boards.publish import rebuild
from faithface.boards.record import RECORDS, Kept, Origin, write_records
from faithface.boards.render import markdown
from faithface.boards.show import shown
from faithface.boards.site import site_files
from faithface.boards.tiers import Reached, Tier, tier_of, tiers_for, write_tiers
from faithface.boards.validate import validate_board
from faithface.errors import UsageError
from tests.boards.made import ORIGIN, made_board

OTHER = "e" * 64
EXPECTED = {"checked": "conforms", "changed-since": "not computed", "never-checked": "not computed"}


@pytest.fixture(scope="module")
def kept() -> list[Kept]:
    noise = np.linspace(-0.01, 0.01, 12)
    return made_board({(name, "gap@1"): level + noise for level, name in enumerate(EXPECTED)})


@pytest.fixture
def board(tmp_path: Path, kept: list[Kept]) -> Path:
    """A board beside which lie the tiers of the code of one explainer, and of other code of another."""
    folder = tmp_path / "leaderboards" / "made" / "v1"
    write_records(kept, folder / RECORDS)
    reached = [
        Reached(kind="explainer", name="checked", fingerprint=ORIGIN.fingerprint, tier=Tier.CONFORMS),
        Reached(kind="explainer", name="changed-since", fingerprint=OTHER, tier=Tier.VALIDATED),
        Reached(kind="dataset", name="never-checked", fingerprint=ORIGIN.fingerprint, tier=Tier.VALIDATED),
    ]
    write_tiers(tmp_path / "leaderboards", "extras", "1", "0.1.0", reached)
    return folder


def test_a_tier_belongs_to_a_name_and_its_code() -> None:
    known = {("a", "f" * 64): Tier.DOCUMENTED, ("b", ""): Tier.RUNS}
    assert tier_of("a", Origin(fingerprint="f" * 64), known) is Tier.DOCUMENTED
    assert tier_of("a", Origin(fingerprint=OTHER), known) is None
    assert tier_of("c", Origin(fingerprint="f" * 64), known) is None
    assert tier_of("b", Origin(), known) is None  # a record without a fingerprint names no code


def test_every_form_says_the_tier_or_that_it_was_not_computed(board: Path, kept: list[Kept]) -> None:
    made = make_board(kept, None, tiers_for(board))
    assert {row.title: row.tier and str(row.tier) for row in made.tables[0].rows} == {
        name: None if tier == "not computed" else tier for name, tier in EXPECTED.items()
    }
    lines = csv.DictReader(io.StringIO(shown(made, "csv")))
    assert {line["explainer"]: line["tier"] for line in lines} == EXPECTED
    (table,) = json.loads(shown(made, "json"))["tables"]
    assert {row["title"]: row["tier"] or "not computed" for row in table["rows"]} == EXPECTED
    folded = markdown(made).split("<summary>Explainers")[1].split("</details>")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in folded.splitlines() if line[:1] == "|"]
    assert {row[0]: row[-1] for row in rows[2:]} == EXPECTED
    files = {name: content.decode() for name, content in site_files(made) if name.endswith(".html")}
    for name, tier in EXPECTED.items():
        page = next(text for path, text in files.items() if path == f"explainers/{name}.html")
        assert re.search(r"<dt>tier</dt><dd>([\w ]+?) <span", page)[1] == tier  # type: ignore[index]
        line = next(p for p in files["index.html"].split("<tr") if f'data-name="{name}"' in p).split("</th>")[0]
        assert ('<span class="mark tier">conforms</span>' in line) == (name == "checked")
        assert "validated" not in line


def test_without_a_check_no_tier_is_shown(kept: list[Kept]) -> None:
    assert {row.tier for row in make_board(kept).tables[0].rows} == {None}


def test_tables_follow_the_tiers_beside_the_board(board: Path) -> None:
    rebuild(board)
    assert validate_board(board) == []
    path = board.parent.parent / "tiers" / "extras.json"
    path.write_text(path.read_text().replace("conforms", "validated"))
    assert {finding.path for finding in validate_board(board)} == {"README.md", "tables/net--made-faces.csv"}


def test_a_file_that_holds_no_tiers_is_one_line(board: Path) -> None:
    path = board.parent.parent / "tiers" / "extras.json"
    path.write_text(path.read_text().replace("conforms", "excellent"))
    with pytest.raises(UsageError, match=r"extras\.json does not hold tiers .*--tiers"):
        tiers_for(board)
