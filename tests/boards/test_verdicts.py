"""A board ranks only by what judges: what the audit decides, and that every form of a board keeps to it."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest

from faithface.boards.board import Board, Row, make_board
from faithface.boards.claims import claim
from faithface.boards.formats import latex
from faithface.boards.frozen import freeze
from faithface.boards.pairs import compare_records
from faithface.boards.publish import rebuild
from faithface.boards.record import RECORDS, Kept, Number, Record, write_records
from faithface.boards.render import markdown
from faithface.boards.show import shown
from faithface.boards.site import site_files
from faithface.boards.terminal import board_text
from faithface.boards.validate import validate_board
from faithface.boards.verdicts import (
    FILL,
    Against,
    Audit,
    Examined,
    Mark,
    Verdict,
    audit_for,
    examined,
    phrase,
    published,
    read_audit,
    standing,
)
from faithface.errors import UsageError
from tests.boards.made import made_board

PUBLISHED = Path(__file__).resolve().parents[2] / "leaderboards" / "audit" / "audit.json"
JUDGES, CARE, DESCRIBES, FAILS, NEW, GATE = (
    f"{n}@1" for n in ("judging", "careful", "describing", "failing", "new", "gate")
)
PROTOCOLS = (FAILS, DESCRIBES, JUDGES, CARE, NEW, GATE)
AUDIT: Audit = {
    JUDGES: Examined(Verdict.JUDGES),
    CARE: Examined(Verdict.WITH_CARE, (Against.ORDER,)),
    DESCRIBES: Examined(Verdict.DESCRIBES, (Against.ANOTHER, Against.MIRRORED)),
    FAILS: Examined(Verdict.FAILS, (Against.RANDOM,)),
    GATE: Examined(Verdict.FAILS, (Against.OPEN,)),
}
RANKED = {JUDGES, CARE, NEW}
WHY = {
    FAILS: "fails the audit: does not put a good map above a random one",
    DESCRIBES: "only describes maps: does not notice another sample's map or a mirrored map",
    CARE: "with care: does not order damaged maps by their quality",
    NEW: "not examined",
}


@pytest.fixture(scope="module")
def kept() -> list[Kept]:
    """Three methods far apart by every protocol, and a control; the gate has a bar that all pass."""
    noise = np.linspace(-0.01, 0.01, 24)
    levels = {"best": 0.9, "middle": 0.5, "worst": 0.1, "random": 0.0}
    values = {(name, p): level + noise for name, level in levels.items() for p in PROTOCOLS}
    made = made_board(values, {"random"}, lambda protocol: "gate" if protocol == GATE else "faithful")
    return [Kept(with_bar(one.record, -1.0), one.values) for one in made]


def with_bar(record: Record, bar: float) -> Record:
    numbers = (n.model_copy(update={"bar": bar}) if n.protocol == GATE else n for n in record.numbers)
    return record.model_copy(update={"numbers": tuple(numbers)})


def number(record: Record) -> Number:
    return next(n for n in record.numbers if n.protocol == GATE)


@pytest.fixture(scope="module")
def board(kept: list[Kept]) -> Board:
    return make_board(kept, AUDIT)


def row(board: Board, title: str) -> Row:
    return next(one for one in board.tables[0].rows if one.title == title)


# --- what decides


@pytest.mark.parametrize(
    ("family", "verdict", "judges", "mark"),
    [
        ("faithful", Verdict.JUDGES, True, Mark.NONE),
        ("specific", Verdict.WITH_CARE, True, Mark.CARE),
        ("truth", Verdict.NOT_EXAMINED, True, Mark.UNEXAMINED),
        ("truth", Verdict.DESCRIBES, False, Mark.DESCRIBES),
        ("", Verdict.FAILS, False, Mark.FAILS),
        ("description", Verdict.DESCRIBES, False, Mark.NONE),
        ("description", Verdict.JUDGES, False, Mark.NONE),
        ("cost", Verdict.NOT_EXAMINED, False, Mark.NONE),
        ("gate", Verdict.JUDGES, False, Mark.NONE),
        ("gate", Verdict.FAILS, False, Mark.FAILS),
    ],
)
def test_family_and_verdict_decide(family: str, verdict: Verdict, judges: bool, mark: Mark) -> None:
    found = standing("a@1", family, {"a@1": Examined(verdict)})
    assert (found.judges, found.mark) == (judges, mark)


def test_another_setting_has_the_worst_verdict_of_those_examined_and_with_care_at_best() -> None:
    audit = {
        "a@1(points=11)": Examined(Verdict.JUDGES),
        "b@1": Examined(Verdict.FAILS, (Against.SAME,)),
        "b@1(fill=mean)": Examined(Verdict.JUDGES),
        "c@1": Examined(Verdict.NOT_EXAMINED),
    }
    assert examined("a@1(points=11)", audit) == Examined(Verdict.JUDGES)
    assert examined("a@1", audit) == Examined(Verdict.WITH_CARE, (), "a@1(points=11)")
    assert examined("a@2", audit) == Examined()  # another version is another metric
    assert examined("b@1(fill=black)", audit) == Examined(Verdict.FAILS, (Against.SAME,), "b@1")
    assert examined("b@1(fill=mean)", audit) == Examined(Verdict.JUDGES)
    assert examined("c@1(fill=mean)", audit) == Examined()
    said = standing("b@1(fill=black)", "faithful", audit).why
    assert said == "fails the audit: tells no map from another; examined as b@1, not in this setting"


def test_reasons_are_read_from_the_record_of_an_audit_and_each_is_said_once() -> None:
    found = published()["average-drop@1"]
    assert found.verdict is Verdict.FAILS
    assert found.against == (Against.RANDOM, Against.INVERTED, Against.ORDER, Against.ANOTHER)
    assert Against.OTHER not in {one for entry in published().values() for one in entry.against}
    assert phrase((Against.RANDOM, Against.RANDOM.INVERTED)).count("; ") == 1


def test_every_metric_of_the_published_audit_has_the_verdict_of_its_record() -> None:
    from faithface.audit.record import read

    record = read(PUBLISHED)
    told = {k: str(v.verdict) for k, v in published().items() if not k.startswith(FILL)}
    assert {one.metric: one.verdict for one in record.metrics} == told


def test_a_fill_by_which_a_network_orders_otherwise_than_its_twin_marks_what_judges_by_it(tmp_path: Path) -> None:
    taus = [("strange", 0.63), ("strange", 0.95), ("strange", 0.85), ("fine", 0.9), ("fine", 1.0)]
    file = tmp_path / "audit.json"
    file.write_text(json.dumps({"metrics": [], "fills": [{"fill": f, "tau": tau, "tau_told": 0.5} for f, tau in taus]}))
    audit = {**AUDIT, **read_audit(file)}
    why = (
        "the fill strange gives an order that agrees with networks fine-tuned on such images to Kendall's τ of 0.63 to "
    )
    why += "0.95 (0.9 is asked), and to 0.50 over explainers that are told apart"

    found = standing(JUDGES, "faithful", audit, "strange")
    assert (found.judges, found.mark, found.why) == (True, Mark.CARE, f"with care: {why}")
    assert standing(CARE, "specific", audit, "strange").why == f"{WHY[CARE]}; {why}"
    assert standing(FAILS, "faithful", audit, "strange").why == WHY[FAILS]
    # A fill that is fine, none, and a metric that shows no altered image to the network.
    assert standing(JUDGES, "faithful", audit, "fine").mark is Mark.NONE
    assert standing(JUDGES, "faithful", audit).mark is Mark.NONE
    assert standing(JUDGES, "truth", audit, "strange").mark is Mark.NONE
    assert standing(GATE, "gate", audit, "strange").why == "fails the audit: passes a random map"


def test_a_board_and_a_comparison_know_the_fill_of_each_column(tmp_path: Path, kept: list[Kept]) -> None:
    """The fill comes from a number's parameters; ``auto`` is what the samples that are judged get."""
    care = {f"{FILL}partner": Examined(Verdict.WITH_CARE, (), "is strange")}
    given = {
        JUDGES: ({"fill": "auto"}, "impostor"),
        CARE: ({"fill": "auto"}, "genuine"),
        NEW: ({"fill": "partner"}, "all"),
    }

    def filled(number: Number) -> Number:
        parameters, which = given.get(number.protocol, ({}, number.which))
        return number.model_copy(update={"parameters": parameters, "which": which})

    kept = [
        Kept(one.record.model_copy(update={"numbers": tuple(map(filled, one.record.numbers))}), one.values)
        for one in kept
    ]
    (table,) = make_board(kept, {**AUDIT, **care}).tables
    said = {c.protocol: c.standing.why for c in table.columns}
    assert said[JUDGES] == "with care: the fill partner is strange"
    assert said[CARE] == WHY[CARE]
    assert said[NEW] == "not examined: the fill partner is strange"
    assert {c.protocol for c in table.columns if c.ranked} == RANKED
    assert f"{JUDGES}: the fill partner is strange" in markdown(make_board(kept, {**AUDIT, **care}))
    path = leaderboards(tmp_path, kept)
    audit = path.parents[1] / "audit" / "audit.json"
    audit.write_text(json.dumps({"metrics": [], "fills": [{"fill": "partner", "tau": 0.5}]}))
    by = {one.protocol: one for one in compare_records("best", "worst", path, path)}
    assert "the fill partner gives an order" in by[JUDGES].text().replace("\n", " ")
    assert "the fill partner" not in by[CARE].text()


def test_the_published_audit_holds_what_the_study_of_fills_found() -> None:
    from faithface.audit.record import read

    study = json.loads((PUBLISHED.parent / "masked-twins.json").read_text(encoding="utf-8"))
    kept = ("model", "fill", "kind", "n", "tau", "tau_told")
    assert [one.model_dump() for one in read(PUBLISHED).fills] == [{k: row[k] for k in kept} for row in study]


# --- the board


def test_what_does_not_judge_has_neither_rank_nor_class_and_stands_behind(board: Board) -> None:
    (table,) = board.tables
    assert {c.protocol for c in table.columns if c.ranked} == RANKED
    assert [c.protocol for c in table.columns] == [JUDGES, CARE, NEW, FAILS, DESCRIBES, GATE]
    for one in table.rows:
        assert set(one.places) == (set() if one.control else RANKED)
        assert set(one.beats) == (set() if one.control else RANKED)
    assert row(board, "best").rank(JUDGES) == "1"


def test_the_terminal_ranks_by_what_judges_and_says_why_not_by_the_rest(board: Board) -> None:
    text = board_text(board, wide=True)
    blocks = dict(zip(PROTOCOLS, (text.split(f"\n{p}, ")[1].split("\n\n")[0] for p in PROTOCOLS), strict=True))
    for protocol, block in blocks.items():
        line = next(line for line in block.splitlines() if " best " in line)
        assert line.split()[0] == ("1" if protocol in RANKED else "–"), protocol
    assert " ".join(blocks[FAILS].split()).endswith(f"Not ranked: the metric {WHY[FAILS]}.")
    compact = board_text(board)
    assert re.search(r"best +0\.9000 a +0\.9000 a\n", compact)  # with care, not examined
    assert re.search(r"not let judge \(not ranked\)\n.*\n *best +0\.9000 +0\.9000\n", compact)
    for line in ("† judges with care", "‡ not examined", "○ only describes", "✗ fails the audit"):
        assert compact.count(line) == 1
    assert max(map(len, compact.splitlines())) <= 80


def test_markdown_has_ranks_for_what_judges_only_and_a_legend(board: Board) -> None:
    page = markdown(board)
    best = [line for line in page.splitlines() if line.startswith("| best ") and "0.9000" in line]
    cells = [cell.strip() for line in best for cell in line.strip("|").split("|")[1:]]
    heads = [
        cell.strip().split()[0]
        for line in page.splitlines()
        if line.startswith("| explainer ") and "@1" in line
        for cell in line.strip("|").split("|")[1:]
    ]
    assert dict(zip(heads, (cell.rpartition("]")[2] for cell in cells), strict=True)) == {
        **{p: " · 1" if p in RANKED else "" for p in PROTOCOLS if p != GATE},
        GATE: "passed (0.9000)",
    }
    assert f"{FAILS} ↑ (fails the audit)" in page
    assert f"{GATE} ↑ (gate, fails the audit)" in page
    assert f"{CARE} ↑ †" in page
    for protocol in (FAILS, DESCRIBES, CARE):
        assert f"  * {protocol}: {WHY[protocol].partition(': ')[2]}".replace("_", r"\_") in page


def test_csv_and_json_have_verdict_and_reason_and_no_rank_of_a_metric_that_fails(board: Board) -> None:
    lines = list(csv.DictReader(io.StringIO(shown(board, "csv"))))
    assert len(lines) == 4 * len(PROTOCOLS)
    for line in lines:
        ranked = line["protocol"] in RANKED and line["control"] == "no"
        assert (line["rank"] != "", line["tie_class"] != "") == (ranked, ranked)
        assert line["audit"] == str(AUDIT.get(line["protocol"], Examined()).verdict)
        assert line["audit_reason"] == WHY.get(line["protocol"], line["audit_reason"])
    (table,) = json.loads(shown(board, "json"))["tables"]
    told = {one["protocol"]: one for one in table["protocols"]}
    assert {p for p, one in told.items() if one["ranked"]} == RANKED
    assert told[FAILS]["audit"] == {
        "verdict": "fails", "examined_as": None, "mark": "fails the audit", "against": [str(Against.RANDOM)],
    }  # fmt: skip
    for one in table["rows"]:
        for number in one["numbers"]:
            ranked = number["protocol"] in RANKED and not one["control"]
            assert (number["rank"] is not None, number["tie_class"] is not None) == (ranked, ranked)


def test_latex_marks_no_best_number_by_a_metric_that_does_not_judge(board: Board) -> None:
    text = latex(board.tables[0])
    split = [
        [cell.strip() for cell in line.removesuffix(r" \\").split("&")] for line in text.splitlines() if "&" in line
    ]
    heads, best = split[0], next(line for line in split if line[0] == "best")
    signs = {JUDGES: "", CARE: r"$^\dagger$", NEW: r"$^\ddagger$", FAILS: r"$^\times$", DESCRIBES: r"$^\circ$"}
    for protocol, sign in signs.items():
        at = next(k for k, head in enumerate(heads) if head.startswith(protocol))
        assert heads[at].endswith(rf"$\uparrow${sign}")
        assert best[at] == (r"\textbf{0.9000}" if protocol in RANKED else "0.9000")
    assert rf"$^\times${WHY[FAILS]} (failing@1, gate@1)" not in text  # a gate fails for another reason
    assert rf"$^\times${WHY[FAILS]} ({FAILS})." in text


def test_the_site_shades_and_ranks_by_what_judges_only(board: Board) -> None:
    files = {name: content.decode() for name, content in site_files(board) if name.endswith(".html")}
    index = files["index.html"]
    head = next(part for part in index.split("<section") if "data-family=" in part)
    order = re.findall(r'<span class="protocol">([\w@<>.]+?)&nbsp;', head)
    names = [name.replace("<wbr>", "") for name in order]
    line = next(part for part in head.split("<tr") if 'data-name="best"' in part)
    cells = re.findall(r'<td class="num( t\d)?" data-order="0.9\d*">(<span class="rank">1</span>)?', line)
    assert names == [JUDGES, CARE, NEW, FAILS, DESCRIBES]
    assert [bool(tie) for tie, _rank in cells] == [name in RANKED for name in names]
    assert [bool(rank) for _tie, rank in cells] == [name in RANKED for name in names]
    for kind, mark in (("fails", Mark.FAILS), ("describes", Mark.DESCRIBES), ("care", Mark.CARE)):
        assert f'<span class="mark {kind}">{mark}</span>' in head
    assert f"Not ranked: the metric {WHY[FAILS]}." in index.replace("&#39;", "'")
    cell = next(text for name, text in files.items() if name.endswith("/best.html") and name.startswith("cells"))
    rows = {}
    for part in cell.replace("<wbr>", "").split("<tr>")[1:]:
        if found := re.match(r'<th scope="row">([\w@]+) ', part):
            rows[found[1]] = re.findall(r'<td class="num[^"]*">(.*?)</td>', part)[2]
    assert rows == {p: "1" if p in RANKED else "–" for p in PROTOCOLS}


def test_a_gate_is_passed_or_failed_on_every_page_and_its_bar_is_drawn(kept: list[Kept]) -> None:
    barred = [Kept(with_bar(one.record, 0.3), one.values) for one in kept]
    files = {name: content.decode() for name, content in site_files(make_board(barred, AUDIT))}
    section = next(part for part in files["index.html"].split("<section") if 'data-family="gate"' in part)
    lines = {part.split('"')[0]: part.split("</tr>")[0] for part in section.split('data-name="')[1:]}
    said = {name: re.findall(r'<span class="gate (\w+)">', line) for name, line in lines.items()}
    assert said == {"best": ["passed"], "middle": ["passed"], "worst": ["failed"], "random": ["failed"]}
    # The axis goes from the lowest to the highest end of an interval; random's lies lowest.
    ends = [n for one in barred for n in (number(one.record).low, number(one.record).high)]
    share = (0.3 - min(ends)) / (max(ends) - min(ends))
    assert f'<path class="zero" d="M{round(4 + share * 88, 1)} 0V12"/>' in lines["best"]
    for name, (word,) in said.items():
        cell = next(text for path, text in files.items() if path.startswith("cells") and path.endswith(f"/{name}.html"))
        assert re.findall(r'<span class="gate (\w+)">', cell) == [word]


def test_no_figure_that_decides_between_methods_is_of_a_metric_that_fails(kept: list[Kept]) -> None:
    def pages(audit: Audit) -> str:
        return next(content.decode() for name, content in site_files(make_board(kept, audit)) if name == "index.html")

    assert "Critical-difference diagram of judging@1" in pages(AUDIT)
    unfit = {protocol: Examined(Verdict.FAILS) for protocol in PROTOCOLS}
    assert "Critical-difference diagram" not in pages(unfit)
    assert "Do the metrics agree" in pages(unfit)


def test_a_claim_names_no_best_method_by_a_metric_that_fails(board: Board) -> None:
    columns = {column.protocol: column for column in board.tables[0].columns}
    said = {protocol: claim(board.tables[0], column) for protocol, column in columns.items()}
    assert said[JUDGES] == (
        "Of the methods, best is significantly better than every other. Tests are paired by sample and corrected for "
        "the number of comparisons; intervals of rows are not."
    )
    assert said[CARE] == f"{said[JUDGES]} The metric judges {WHY[CARE]}."
    assert said[NEW] == f"{said[JUDGES]} The audit has not examined this metric."
    assert said[FAILS] == f"Not ranked: the metric {WHY[FAILS]}."
    assert said[GATE] == "A gate, not ranked: 3 of 3 methods pass. The metric fails the audit: passes a random map."


def test_a_claim_asks_for_more_samples_only_for_two_that_are_not_told_apart() -> None:
    """The second is told from the first; the third, lower still, scatters so much that it is not."""
    small, wide = np.linspace(-0.01, 0.01, 24), np.resize([1.0, -1.0], 24) * np.linspace(1.5, 2.0, 24)
    values = {("best", JUDGES): 0.9 + small, ("second", JUDGES): 0.8 - small, ("wide", JUDGES): 0.7 + wide}
    (table,) = make_board(made_board(values, set(), lambda _protocol: "faithful"), AUDIT).tables
    said = claim(table, table.columns[0])
    assert said.startswith(
        "Of the methods, best has the best number, but is not told apart from wide. Tests are paired"
    )


# --- on disk


def leaderboards(root: Path, kept: list[Kept]) -> Path:
    """Write a board with an audit beside it, in which ``judging@1`` fails, and return the board's folder."""
    board = root / "leaderboards" / "made" / "v1"
    write_records(kept, board / RECORDS)
    failed = {"check": "same", "passed": False, "detail": "all maps"}
    metrics = [{"metric": JUDGES, "verdict": "fails", "findings": [failed]}]
    (root / "leaderboards" / "audit").mkdir()
    (root / "leaderboards" / "audit" / "audit.json").write_text(json.dumps({"metrics": metrics}))
    return board


def test_compare_calls_nobody_better_by_a_metric_that_fails(tmp_path: Path, kept: list[Kept]) -> None:
    board = leaderboards(tmp_path, kept)
    by = {one.protocol: one for one in compare_records("best", "worst", board, board)}
    assert by[CARE].winner == "best"  # not in this audit
    assert by[JUDGES].winner == ""
    text = " ".join(by[JUDGES].text().split())
    assert "is significantly better" not in text
    assert "✗ The metric: fails the audit: tells no map from another." in text


def test_tables_follow_the_audit_beside_the_board_and_validate_holds_them_to_it(
    tmp_path: Path, kept: list[Kept]
) -> None:
    board = leaderboards(tmp_path, kept)
    rebuild(board)
    assert validate_board(board) == []
    assert "judging@1 ↑ (fails the audit)" in (board / "README.md").read_text()
    (tmp_path / "leaderboards" / "audit" / "audit.json").unlink()
    assert {finding.path for finding in validate_board(board)} == {"README.md", "tables/net--made-faces.csv"}


def test_a_frozen_board_keeps_its_tables_and_the_suites_page_names_what_they_should_not_rank_by(
    tmp_path: Path, kept: list[Kept]
) -> None:
    board = leaderboards(tmp_path, kept)
    audit = tmp_path / "leaderboards" / "audit" / "audit.json"
    today = audit.read_text()
    audit.unlink()
    rebuild(board)
    freeze(board)
    audit.write_text(today)
    before = {path: path.read_bytes() for path in [board / "README.md", *(board / "tables").iterdir()]}
    rebuild(board)
    assert {path: path.read_bytes() for path in before} == before
    page = (board.parent / "README.md").read_text()
    assert "Ranks in its tables do not count for:\n\n* `judging@1` fails the audit: tells no map from another" in page


def test_an_audit_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "audit.json"
    with pytest.raises(UsageError, match="no such file; expected the record"):
        read_audit(path)
    for text in ("{", "[]", '{"metrics": [{"metric": "a@1", "verdict": "excellent", "findings": []}]}'):
        path.write_text(text)
        with pytest.raises(UsageError, match="not a record of an audit"):
            audit_for(None, path)
