"""What a person reads on a terminal: width, order, claims; and two explainers compared."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from faithface.boards.board import Board, Column, Row, Table, make_board
from faithface.boards.claims import claim
from faithface.boards.pairs import compare_records
from faithface.boards.record import Number, Origin, Record, read_records
from faithface.boards.render import table_markdown
from faithface.boards.statistics import Place
from faithface.boards.terminal import board_text, compact_lines, table_text
from faithface.boards.verdicts import Examined, Verdict, standing
from faithface.cli import main
from faithface.errors import UsageError


def number(protocol: str = "gap@1", value: float = 0.5, better: str = "higher") -> Number:
    facts = {"protocol": protocol, "id": protocol, "value_name": "", "status": "ok", "better": better, "best": 1.0}
    facts |= {"number": value, "low": value - 0.1, "high": value + 0.1, "n": 30, "range": (-1.0, 1.0), "which": "all"}
    return Number(**facts, summary="mean", parameters={}, source="", origin=Origin())


def column(protocol: str, sample: Number | None = None) -> Column:
    """Return a column of a metric that judges."""
    sample = sample or number(protocol)
    return Column(protocol, sample, standing(protocol, sample.family, {protocol: Examined(Verdict.JUDGES)}))


@pytest.fixture
def record(board: Path) -> Record:
    return read_records(board / "records")[0].record


def row(record: Record, title: str, place: Place | None, beats: frozenset[str] | None, control: bool = False) -> Row:
    explainer = record.explainer.model_copy(update={"spec": title, "control": control})
    mine = record.model_copy(update={"explainer": explainer, "numbers": (number(value=place.mean if place else 0.1),)})
    return Row(title, mine, {"gap@1": place} if place else {}, {} if beats is None else {"gap@1": beats})


def table(record: Record, *places: tuple[str, float, int | None], needed: int | None = None) -> Table:
    """Return a table of methods (name, mean, tie class) that beat no control, and the control ``random``."""
    rows = [
        row(record, name, Place(name, mean, k and 1, k and len(places), k, needed), frozenset())
        for name, mean, k in places
    ]
    rows.append(row(record, "random", None, None, control=True))
    return Table("explainers", (column("gap@1"),), tuple(rows))


def test_no_line_is_wider_than_the_terminal(board: Path) -> None:
    made = make_board(read_records(board / "records"))
    for width in (60, 80, 100):
        assert max(len(line) for line in board_text(made, width).splitlines()) <= width
    assert board_text(made, 20) == board_text(made, 60)


def test_every_explainer_and_protocol_of_the_table_is_there_and_controls_stand_apart(board: Path) -> None:
    text = board_text(make_board(read_records(board / "records")), wide=True)
    for name in ("ramp(slope=2.0)", "ramp", "fails", "mean-relevance@1", "median@1", "cost@1"):
        assert name in text
    block = text.split("mean-relevance@1")[1].split("@1")[0]
    assert block.index("controls, not ranked") < block.index("random")
    assert block.index("ramp(slope=2.0)") < block.index("controls, not ranked")


def test_a_failure_is_a_reason_and_never_a_number(board: Path) -> None:
    text = board_text(make_board(read_records(board / "records")))
    line = next(line for line in text.splitlines() if line.split()[:1] == ["fails"])
    assert "raised ZeroDivisionError" in line


@pytest.mark.parametrize(
    ("places", "said"),
    [
        ((("a", 0.9, 1), ("b", 0.5, 2)), "Of the methods, a is significantly better than every other."),
        ((("a", 0.9, 1), ("b", 0.8, 1)), "Of the methods, a has the best number, but is not told apart from b."),
        ((("a", 0.9, 1), ("b", 0.8, 1), ("c", 0.7, 1)), "is not told apart from b and c."),
        (
            (("a", 0.9, None), ("b", 0.8, None)),
            "Too few samples or people to rank, which takes 10 samples that count as 10 independent people",
        ),
        ((("a", 0.9, 1),), "a is the only method."),
    ],
)
def test_the_sentence_claims_what_the_classes_allow(
    record: Record, places: tuple[tuple[str, float, int | None], ...], said: str
) -> None:
    assert said in claim(table(record, *places), column("gap@1"))


def test_a_method_that_beats_no_control_is_said_to(record: Record) -> None:
    made = table(record, ("a", 0.9, 1), ("b", 0.5, 2))
    said = claim(made, made.columns[0])
    assert "Of the controls, it is not significantly better than random." in said
    assert "paired by sample and corrected for the number of comparisons" in said
    better = dataclasses.replace(made.rows[0], beats={"gap@1": frozenset({"random"})})
    made = dataclasses.replace(made, rows=(better, *made.rows[1:]))
    assert "control" not in claim(made, made.columns[0])


@pytest.mark.parametrize(
    ("size", "samples", "said"),
    [
        (40, 40, "would take about 57 samples like these 30; the dataset has about 30."),  # 30 of 40 are judged
        (76, 40, "would take about 57 samples like these 30."),  # 76 · 30 / 40 = 57
        (75, 40, "the dataset has about 56."),
    ],
)
def test_the_samples_needed_are_said_and_whether_the_dataset_has_them(
    record: Record, size: int, samples: int, said: str
) -> None:
    data = record.dataset.model_copy(update={"size": size, "samples": samples})
    made = table(record.model_copy(update={"dataset": data}), ("a", 0.9, 1), ("b", 0.8, 1), needed=57)
    assert said in claim(made, made.columns[0])


def test_methods_too_few_to_rank_are_marked_where_others_have_a_letter(record: Record) -> None:
    made = table(record, ("a", 0.9, None), ("b", 0.8, None))
    text = table_text(dataclasses.replace(made, columns=(column("other@1"), *made.columns)))
    few = [line.split() for line in text.splitlines() if line.split()[:1] in (["a"], ["b"], ["random"])]
    assert few == [["a", "0.9000", "–"], ["b", "0.8000", "–"], ["random", "0.1000"]]
    assert "–: too few to rank" in text
    whole = table(record, ("a", 0.9, 1), ("b", 0.8, 2))
    text = table_text(dataclasses.replace(whole, columns=(column("other@1"), *whole.columns)))
    assert "too few" not in text
    assert ["b", "0.8000", "b"] in [line.split() for line in text.splitlines()]


def test_controls_are_apart_in_every_table_and_say_what_they_are_once(record: Record) -> None:
    rows = [row(record, "a", Place("a", 0.9, 1, 1, 1, None), frozenset())]
    rows += [row(record, name, None, None, control=True) for name in ("edges", "inverted:oracle", "mine")]
    columns = (column("gap@1"), column("gap@1"))
    made = Table("explainers", columns, tuple(rows))
    board = Board("s", 1, "", (made, made), ())
    text = board_text(board)
    lines = [line.strip() for line in text.splitlines()]
    for part in text.split("gap@1, higher")[1:]:
        assert part.index("controls, not ranked") < part.index("inverted:oracle")
    assert [line for line in lines if line.startswith("a ")]
    legend = " ".join(text.rsplit("\n\n", 1)[1].split())
    assert legend == (
        "Controls are references, not rivals: edges marks contrast in the image; inverted:oracle is the map of oracle "
        "turned upside down. edges never looks at the model."
    )
    assert text.count("upside down") == 1
    compact = compact_lines(made, made.columns[:1], 80, "also")
    assert [line.split()[0] for line in compact[-5:]] == ["a", "controls", "edges", "inverted:oracle", "mine"]


def test_long_protocol_names_break_at_hyphens_and_stay_in_their_columns(record: Record) -> None:
    name = "gap-dissimilarity-score@1(grid=14,points=11)"
    lines = compact_lines(table(record, ("a", 0.9, 1)), [column(name)], 80, "also")
    words = [word for line in lines[1:] for word in line.split()]
    assert words[words.index("gap-") :][:5] == ["gap-", "dissimilarity", "score", "grid=14", "points=11"]
    assert max(map(len, lines)) <= 80


def test_two_explainers_are_compared_on_the_samples_that_both_have(board: Path) -> None:
    (one, *_) = compare_records("ramp(slope=2.0)", "ramp", board, board, ["mean-relevance@1"])
    found = [k for k in read_records(board / "records") if k.record.model.name == one.model]

    def values(spec: str) -> dict[str, float]:
        frame = next(k.values for k in found if k.record.explainer.spec == spec)
        mine = frame.filter((frame["protocol"] == "mean-relevance@1") & (frame["value_name"] == ""))
        return dict(mine.select("sample", "value").iter_rows())

    a, b = values("ramp(slope=2.0)"), values("ramp")
    common = sorted(a.keys() & b.keys())
    assert one.result.n == len(common) == 12
    assert one.result.difference == pytest.approx(sum(a[s] - b[s] for s in common) / len(common))
    assert one.winner in ("", "ramp(slope=2.0)")


def test_an_unknown_explainer_or_protocol_gets_the_nearest(board: Path) -> None:
    with pytest.raises(UsageError, match=r'no explainer "rmp".*did you mean "ramp"'):
        compare_records("rmp", "random", board, board)
    with pytest.raises(UsageError, match=r'no protocol mean-relevanc@1 in common.*did you mean "mean-relevance@1"'):
        compare_records("ramp", "random", board, board, ["mean-relevanc@1"])


def test_the_command_prints_text_or_json(board: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "ramp", "random", "--in", str(board)]) == 0
    text = capsys.readouterr().out
    assert max(len(line) for line in text.splitlines()) <= 80
    assert main(["compare", "ramp", "random", "--in", str(board), "--json"]) == 0
    assert '"protocol": "mean-relevance@1"' in capsys.readouterr().out
    assert main(["compare", "ramp", "random", "--in", str(board / "nowhere")]) == 2


def family_table(record: Record, **numbers: Number) -> Table:
    """Return a table with one method and a column per number."""
    explainer = record.explainer.model_copy(update={"spec": "one", "control": False})
    mine = record.model_copy(update={"explainer": explainer, "numbers": tuple(numbers.values()), "status": "ok"})
    columns = tuple(column(one.protocol, one) for one in numbers.values())
    return Table("explainers", columns, (Row("one", mine, {}),))


@pytest.mark.parametrize(
    ("better", "bar", "value", "word"),
    [("higher", 0.9, 0.9, "passed"), ("higher", 0.9, 0.89, "failed"), ("lower", 0.5, 0.5, "passed"),
     ("lower", 0.5, 0.51, "failed")],
)  # fmt: skip
def test_a_gate_is_passed_or_failed_and_what_does_not_judge_stands_apart(
    record: Record, better: str, bar: float, value: float, word: str
) -> None:
    made = {"gap@1": {"family": "faithful"}, "cut@1": {"family": "gate", "bar": bar, "better": better}}
    made |= {"entropy@1": {"family": "description"}, "cost@1": {"family": "cost"}}
    numbers = {name: number(name, value).model_copy(update=facts) for name, facts in made.items()}
    shown = family_table(record, **numbers)
    assert [column.ranked for column in shown.columns] == [True, False, False, False]
    text = table_text(shown)
    headings = [line for line in text.splitlines() if "not ranked" in line]
    assert [line.split()[0] for line in headings] == ["gates", "descriptions", "cost"]
    gate = text.split("gates (")[1].split("descriptions")[0]
    assert word in gate
    assert claim(shown, shown.columns[1]) == f"A gate, not ranked: {int(word == 'passed')} of 1 methods pass."
    assert f"{word} ({value:.4f})" in table_markdown(shown)
    assert "cut@1" in table_markdown(shown).split("(gate)")[0].rsplit("|", 1)[1]
    assert "failed" not in text.replace(gate, "")


def test_a_description_is_never_ranked_and_stands_behind_what_judges(board: Path) -> None:
    kept = read_records(board / "records")

    def described(one: Number) -> Number:
        return one.model_copy(update={"family": "description"}) if one.protocol == "mean-relevance@1" else one

    changed = [
        dataclasses.replace(k, record=k.record.model_copy(update={"numbers": tuple(map(described, k.record.numbers))}))
        for k in kept
    ]
    before, after = make_board(kept).tables[0], make_board(changed).tables[0]
    assert any("mean-relevance@1" in row.places for row in before.rows)
    assert not any("mean-relevance@1" in row.places for row in after.rows)
    names = [column.protocol for column in after.columns]
    assert names.index("median@1") < names.index("mean-relevance@1") < names.index("cost@1")
