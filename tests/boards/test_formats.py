"""Tables for papers and programs, and what names of others can do to them: nothing."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from faithface.boards.board import Board, make_board
from faithface.boards.datasheet import COLUMNS, export_board
from faithface.boards.escaping import latex as escaped
from faithface.boards.formats import bibtex, latex
from faithface.boards.outcomes import Decision
from faithface.boards.record import Kept, curves_of, read_records
from faithface.boards.render import board_files
from faithface.boards.show import shown
from faithface.boards.statistics.means import mean_interval
from faithface.boards.verdicts import Examined, Verdict
from faithface.errors import UsageError
from tests.boards.made import made_board

GAP, DELETION = "gap@1(grid=14)", "deletion@1(grid=14)"
LEVELS = {"first": 0.9, "second": 0.5, "third": 0.5, "random": 2.0}


@pytest.fixture(scope="module")
def kept() -> list[Kept]:
    noise = np.linspace(-0.1, 0.1, 20)
    values = {(name, protocol): level + noise for name, level in LEVELS.items() for protocol in (GAP, DELETION)}
    values["third", DELETION] = np.full(20, np.nan)
    made = made_board(values, controls={"random"})
    return [Kept(with_lower(one.record), one.values) for one in made]


def with_lower(record):  # type: ignore[no-untyped-def]
    numbers = tuple(n.model_copy(update={"better": "lower"}) if n.protocol == DELETION else n for n in record.numbers)
    return record.model_copy(update={"numbers": numbers})


@pytest.fixture(scope="module")
def board(kept: list[Kept]) -> Board:
    return make_board(kept, {protocol: Examined(Verdict.JUDGES) for protocol in (GAP, DELETION)})


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.removesuffix(r"\\").split("&")]


def test_latex_marks_best_and_second_among_methods_by_the_direction(board: Board) -> None:
    text = latex(board.tables[0])
    rows = {cells(line)[0]: cells(line)[1:] for line in text.splitlines() if "&" in line}
    assert rows["explainer"] == [r"gap@1(grid=14) $\uparrow$", r"deletion@1(grid=14) $\downarrow$"]
    assert rows["first"] == [r"\textbf{0.9000}", r"\underline{0.9000}"]
    assert rows["second"] == [r"\underline{0.5000}", r"\textbf{0.5000}"]
    assert rows["third"] == [r"\underline{0.5000}", "--"]  # equal numbers share the mark
    assert rows["random"] == ["2.000", "2.000"]  # a control has none
    assert text.index(r"\toprule") < text.index(r"\midrule") < text.index("controls") < text.index(r"\bottomrule")
    caption = re.search(r"\\caption\{(.*)\}", text)
    assert caption is not None
    assert "gap@1(grid=14) (n = 20), deletion@1(grid=14) (n = 0-20)" not in caption[1]
    assert "gap@1(grid=14) (n = 20), deletion@1(grid=14) (n = 20)" in caption[1]
    assert "net on made-faces, board made v1" in caption[1]


def test_json_and_csv_hold_the_numbers_of_the_records(board: Board, kept: list[Kept]) -> None:
    said = json.loads(shown(board, "json"))
    rows = {row["title"]: row for row in said["tables"][0]["rows"]}
    table = list(csv.DictReader(io.StringIO(shown(board, "csv"))))
    for one in kept:
        for number in one.record.numbers:
            (mine,) = [n for n in rows[one.record.explainer.spec]["numbers"] if n["protocol"] == number.protocol]
            assert (mine["number"], mine["low"], mine["n"]) == (number.number, number.low, number.n)
            (line,) = [
                row
                for row in table
                if (row["explainer"], row["protocol"]) == (one.record.explainer.spec, number.protocol)
            ]
            assert (line["number"] == "") == (number.number is None)
            assert number.number is None or float(line["number"]) == number.number
    assert rows["first"]["numbers"][0]["rank"] == [1, 1]


def test_some_columns_only_keep_their_ranks(board: Board) -> None:
    text = shown(board, "latex", (DELETION,))
    assert GAP not in text
    assert DELETION in text
    with pytest.raises(UsageError, match='did you mean "deletion@1'):
        shown(board, "text", ("deletion@1(grid=15)",))


def test_bibtex_has_one_entry_per_source_with_what_can_be_read_of_it(board: Board) -> None:
    records = [one.record for one in made_board({("a", GAP): np.arange(12.0)})]
    sources = [
        "Petsiuk et al. 2018, arXiv:1806.07421",
        "Fu et al. 2020, doi:10.1109/x_1",
        "control",
        "Fu & Li 2020, arXiv:2001.00001",
    ]
    made = [
        r.model_copy(update={"explainer": r.explainer.model_copy(update={"source": s})})
        for r in records
        for s in sources
    ]
    text = bibtex(made)
    assert text.count("@misc{") == 3
    first = next(entry for entry in text.split("@misc{") if entry.startswith("petsiuk2018,"))
    for field in ("author = {Petsiuk and others}", "year = {2018}", "eprint = {1806.07421}", "archiveprefix = {arXiv}"):
        assert field in first
    assert r"doi = {10.1109/x\_1}" in text
    assert {"fu2020", "fu2020-2"} <= set(re.findall(r"@misc\{([^,]+),", text))
    assert "author = {Fu and Li}" in text


# --- names of others

NAMES = [
    "a|b",
    "quo\"tes'",
    "<script>alert(1)</script>",
    "[x](javascript:alert(1))",
    "javascript:alert(1)",
    "smile \U0001f600",
    "x" * 300,
    "two\nlines\r\nand\ttabs",
    "=1+1",
    "50%_of#$&{all}~^\\input{x}",
    "\x1b[31mred",
]


@pytest.mark.parametrize("name", NAMES)
def test_no_name_breaks_a_table_or_is_more_than_text(name: str) -> None:
    kept = made_board({(name, GAP): np.arange(12.0), ("plain", GAP): np.arange(12.0) / 2})
    board = make_board(kept)
    files = board_files(board)
    page = files["README.md"]
    table = next(part for part in page.split("\n\n") if part.startswith("| explainer"))
    widths = {line.count("|") - line.count("\\|") for line in table.splitlines()}
    assert (len(table.splitlines()), widths) == (4, {3})  # two rows of two cells, and nothing beside them
    assert "<script" not in page
    assert "](javascript" not in page
    (table,) = [text for path, text in files.items() if path.endswith(".csv")]
    lines = list(csv.reader(io.StringIO(table)))
    assert len({len(line) for line in lines}) == 1
    assert len(lines) == 3
    assert not any(line[4].startswith(("=", "+", "-", "@")) for line in lines)
    text = latex(board.tables[0])
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert all(len(re.findall(r"(?<!\\)&", line)) == 1 for line in body)
    assert not re.search(r"(?<!\\)[#%_$](?!\\(up|down)arrow|-\$|\$)", re.sub(r"\$\^?\\\w+\$|\$-\$|^%.*", "", text))
    assert "\\input" not in text
    terminal = shown(board, "text")
    assert all(len(line) <= 80 for line in terminal.splitlines())
    assert "\x1b" not in terminal + page + table + text
    assert json.loads(shown(board, "json"))["tables"][0]["rows"][0]["title"] in (name, "plain")


def test_latex_text_is_text() -> None:
    assert escaped("a_b & 5 % {x} $y$ #1 ~^") == r"a\_b \& 5 \% \{x\} \$y\$ \#1 \textasciitilde{}\textasciicircum{}"
    assert escaped("\\") == r"\textbackslash{}"
    assert escaped("a\nb \U0001f600\x00") == "a b U+1F600"


# --- by the model's decision


def decided() -> list[Kept]:
    rng = np.random.default_rng(0)
    labels = ["genuine"] * 30 + ["impostor"] * 30
    right = [True] * 20 + [False] * 10 + [True] * 26 + [False] * 4
    people = [[f"p{a}", f"p{b}"] for a, b in rng.integers(0, 25, size=(60, 2))]
    return made_board({("a", GAP): rng.normal(size=60)}, labels=labels, correct=right, units=people)


def test_numbers_are_split_by_decision_where_each_has_enough_pairs() -> None:
    (kept,) = decided()
    (table,) = make_board([kept]).tables
    rows = {split.decision: split for split in table.splits}
    assert {decision: split.n for decision, split in rows.items()} == {
        Decision.TRUE_ACCEPT: 20,
        Decision.FALSE_REJECT: 10,
        Decision.TRUE_REJECT: 26,
        Decision.FALSE_ACCEPT: 4,
    }
    for decision, at in (
        (Decision.TRUE_ACCEPT, slice(0, 20)),
        (Decision.FALSE_REJECT, slice(20, 30)),
        (Decision.TRUE_REJECT, slice(30, 56)),
    ):
        values, units = kept.values["value"].to_numpy()[at], kept.values["units"].to_list()[at]
        assert rows[decision].number == pytest.approx(values.mean())
        spread = mean_interval(values, units)
        assert (rows[decision].low, rows[decision].high) == pytest.approx((spread.low, spread.high))
    few = rows[Decision.FALSE_ACCEPT]
    assert (few.number, few.low, few.high) == (None, None, None)


def test_the_split_is_on_the_page_and_in_a_csv_and_classifiers_have_none(kept: list[Kept]) -> None:
    files = board_files(make_board(decided()))
    assert "too few (n = 4)" in files["README.md"]
    (split,) = [text for name, text in files.items() if name.endswith("--decisions.csv")]
    assert len(split.splitlines()) == 5
    assert not [name for name in board_files(make_board(kept)) if "decisions" in name]


# --- the data set


def test_all_values_and_curves_are_exported_with_every_column_described(finished: Path, tmp_path: Path) -> None:
    kept = read_records(finished / "records")
    done = export_board(kept, tmp_path / "data")
    assert done.rows["values.parquet"] == sum(len(one.values) for one in kept)
    assert done.rows.get("curves.parquet", 0) == sum(len(curves_of(one)) for one in kept)
    frame = pl.read_parquet(tmp_path / "data" / "values.parquet")
    assert frame.columns == list(COLUMNS["values"])
    one = kept[-1]
    mine = frame.filter((pl.col("model") == one.record.model.name) & (pl.col("explainer") == one.record.explainer.spec))
    assert mine["value"].to_list() == one.values["value"].to_list()
    sheet = (tmp_path / "data" / "README.md").read_text()
    described = json.loads((tmp_path / "data" / "croissant.json").read_text())
    for records in described["recordSet"]:
        columns = pl.read_parquet_schema(tmp_path / "data" / f"{records['name']}.parquet")
        assert [field["name"] for field in records["field"]] == list(columns)
        assert all(f"| `{name}` |" in sheet for name in columns)
    for file in described["distribution"]:
        import hashlib

        assert hashlib.sha256((tmp_path / "data" / file["name"]).read_bytes()).hexdigest() == file["sha256"]


def test_nothing_to_export_is_one_line(finished: Path, tmp_path: Path) -> None:
    failed = [one for one in read_records(finished / "records") if one.record.status != "ok"]
    with pytest.raises(UsageError, match="have no values"):
        export_board(failed, tmp_path)
