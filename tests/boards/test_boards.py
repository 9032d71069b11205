"""Records and boards: what a record holds, that it survives the disk, that tables depend on records alone."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from faithface.boards.board import make_board
from faithface.boards.publish import add_runs, rebuild
from faithface.boards.record import Kept, Record, read_record, read_records
from faithface.boards.render import cell_text, escape, figure, markdown
from faithface.errors import UsageError
from faithface.run.export import run_values
from faithface.run.store import FILE, Store, open_run


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def record_of(folder: Path, model: str, explainer: str) -> Path:
    (path,) = (folder / "records" / model).rglob(f"{explainer}.json")
    return path


# --- records


def test_a_record_says_who_what_where_and_how_much(finished: Path) -> None:
    record = read_record(record_of(finished, "tiny-pad-0", "ramp(slope=2.0)")).record
    assert record.suite.name == "tiny"
    assert record.suite.version == 3
    assert (record.explainer.name, record.explainer.parameters) == ("ramp", {"slope": "2.0"})
    assert (record.explainer.origin.distribution, record.explainer.origin.distribution_version) == ("extras", "1")
    assert len(record.model.sha256) == 64
    assert record.model.card["input"]["size"] == [32, 32]
    assert record.dataset.spec.startswith("folder:classes")
    assert record.dataset.revision
    assert (record.dataset.samples, record.dataset.size, record.dataset.limit) == (12, 20, 12)
    assert (record.where.device, record.where.provider) == ("cpu", "CPUExecutionProvider")
    assert record.where.versions["torch"]
    assert record.trust == "self-reported"
    number = record.numbers[0]
    assert (number.protocol, number.id, number.better) == ("mean-relevance@1", "mean-relevance@1", "higher")
    assert number.number == pytest.approx(1.0)
    assert (number.n, number.invalid) == (12, 0)
    assert number.low == pytest.approx(1.0)
    assert number.high == pytest.approx(1.0)
    assert number.range == (0.0, None)


def test_numbers_and_parquet_are_the_values_of_the_run(finished: Path) -> None:
    with open_run(finished) as store:
        values = run_values(store)
    for kept in read_records(finished / "records"):
        if kept.record.status != "ok":
            assert len(kept.values) == 0
            continue
        mine = values.filter(
            (pl.col("model") == kept.record.model.name) & (pl.col("explainer") == kept.record.explainer.spec)
        )
        for number in kept.record.numbers:
            if number.status != "ok":
                continue
            metric = f"{number.protocol}:{number.value_name}" if number.value_name else number.protocol
            column = mine.filter(pl.col("metric") == metric)["value"].to_numpy()
            finite = column[np.isfinite(column)]
            assert number.n == len(finite)
            assert number.invalid == len(column) - len(finite)
            summary = np.median(finite) if number.summary == "protocol" else finite.mean()
            assert number.number == pytest.approx(summary, rel=1e-8)
            assert number.low <= number.number <= number.high


def test_a_failed_cell_has_a_reason_and_no_number(finished: Path) -> None:
    record = read_record(record_of(finished, "tiny-pad-0", "fails")).record
    assert record.status == "failed"
    assert "ZeroDivisionError" in record.reason
    assert all(n.number is None and n.status == "failed" for n in record.numbers)
    assert record.values == ""


def test_a_failed_metric_has_a_reason_and_no_number_beside_those_that_have(finished: Path) -> None:
    record = read_record(record_of(finished, "tiny-pad-0", "ramp")).record
    by = {(n.protocol, n.value_name): n for n in record.numbers}
    assert by["fails-to-score@1", ""].number is None
    assert "no score today" in by["fails-to-score@1", ""].reason
    assert by["mean-relevance@1", "double"].number == pytest.approx(1.0)


def test_a_record_survives_the_disk_and_refuses_unknown_keys(finished: Path, tmp_path: Path) -> None:
    path = record_of(finished, "tiny-pad-0", "ramp")
    text = path.read_text()
    record = Record.model_validate_json(text)
    assert json.loads(text) == record.model_dump(mode="json")
    (tmp_path / "r.json").write_text(json.dumps({**json.loads(text), "mean": 1.0}))
    with pytest.raises(UsageError, match="is not a record of schema 2: mean"):
        read_record(tmp_path / "r.json")
    (tmp_path / "r.json").write_text("{")
    with pytest.raises(UsageError, match="is not a record"):
        read_record(tmp_path / "r.json")


def test_no_path_of_the_machine_is_in_a_record(finished: Path) -> None:
    for path in (finished / "records").rglob("*.json"):
        assert str(finished.parent) not in path.read_text()


def test_altered_values_are_noticed(board: Path) -> None:
    values = record_of(board, "tiny-pad-0", "ramp").with_suffix(".parquet")
    values.write_bytes(values.read_bytes() + b"\0")
    with pytest.raises(UsageError, match=r"ramp\.parquet is missing, or is not the file that its record was"):
        rebuild(board)


def test_an_unfinished_run_has_no_records(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run", ignore=shutil.ignore_patterns("records"))
    with pytest.raises(UsageError, match="not a finished run"):
        add_runs([tmp_path / "run"], tmp_path / "out")


def test_the_records_of_a_finished_run_that_was_taken_up_again_and_not_finished_are_refused(
    finished: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished, tmp_path / "run")
    store = Store(tmp_path / "run" / FILE, writable=True)
    store.put_meta("complete", False)
    store.close()
    with pytest.raises(UsageError, match=r"run is not finished: 6 of 8 cells .*; make the call that began it again"):
        add_runs([tmp_path / "run"], tmp_path / "out")


# --- boards


def test_a_rebuild_changes_no_byte(board: Path) -> None:
    before = tree(board)
    assert "README.md" in before
    assert any(name.startswith("tables/") for name in before)
    rebuild(board)
    assert tree(board) == before


def test_the_tables_do_not_depend_on_the_order_in_which_records_are_found(board: Path) -> None:
    kept = read_records(board / "records")
    from faithface.boards.render import board_files

    assert board_files(make_board(kept)) == board_files(make_board(kept[::-1]))


def test_a_table_that_no_record_accounts_for_is_removed(board: Path) -> None:
    (board / "tables" / "old.csv").write_text("stale")
    rebuild(board)
    assert not (board / "tables" / "old.csv").exists()


def test_a_failure_is_shown_as_failed_with_its_reason_and_never_as_a_number(board: Path) -> None:
    page = (board / "README.md").read_text()
    line = next(row for row in page.splitlines() if row.startswith("| fails"))
    assert [cell.strip() for cell in line.strip("|").split("|")] == ["fails", "failed", "failed", "failed"]
    assert "* `fails` failed: explainer raised ZeroDivisionError: a mistake" in page
    table = next((board / "tables").glob("tiny-pad-0--*.csv")).read_text()
    failed = [row for row in rows(table) if row["explainer"] == "fails"]
    assert failed
    assert all(row["status"] == "failed" and row["number"] == row["low"] == "" for row in failed)


def test_headings_carry_arrows_protocol_ids_n_and_intervals(board: Path) -> None:
    page = (board / "README.md").read_text()
    assert "| explainer " in page
    assert "mean-relevance@1 ↑" in page
    assert "median@1 ↓" in page
    assert "cost@1 ↓" in page
    tables = page.split("</details>", 1)[1]  # behind the summary over all tables
    line = next(row for row in tables.splitlines() if row.startswith("| ramp(slope=2.0) "))
    assert "1.000 [1.000, 1.000] · 1" in line
    judged = next(row for row in page.splitlines() if row.startswith("| median@1"))
    assert "| 11 " in judged or "| 10 " in judged  # some of the 12 ids end in 0
    assert "0 … ∞" in page
    assert "12 of 20 samples" in page
    assert "clean accuracy" in page


def test_a_bar_in_a_text_cannot_break_a_table() -> None:
    assert escape("a | b\nc \\ d") == "a \\| b c \\\\ d"


def test_rows_come_in_the_order_of_the_first_column(board: Path) -> None:
    table = rows(next((board / "tables").glob("tiny-pad-0--*.csv")).read_text())
    order = list(dict.fromkeys(row["explainer"] for row in table))
    assert order[0] == "ramp(slope=2.0)"
    assert order[1:] == ["ramp", "fails", "random"]  # a control stands at the foot, below a method that failed
    assert next(row["control"] for row in table if row["explainer"] == "random") == "yes"


def test_a_protocol_with_its_own_summary_has_no_rank(board: Path) -> None:
    table = rows(next((board / "tables").glob("tiny-pad-0--*.csv")).read_text())
    assert {row["rank"] for row in table if row["protocol"] == "median@1"} == {""}
    ranked = {
        row["explainer"]: row["rank"]
        for row in table
        if row["protocol"] == "mean-relevance@1" and not row["value_name"]
    }
    assert ranked["ramp(slope=2.0)"] == "1"
    assert ranked["fails"] == ""
    assert ranked["ramp"] == "2"  # of two methods: random is a control


def _as_runs(kept: list[Kept], family: str) -> list[Kept]:
    """Return the records as if their two models were two runs of one family."""
    runs = {"tiny-pad-0": 0, "kin-1": 1}
    found = []
    for one in kept:
        model = one.record.model.model_copy(update={"family": family, "run": runs[one.record.model.name]})
        found.append(dataclasses.replace(one, record=one.record.model_copy(update={"model": model})))
    return found


def test_runs_of_a_family_stand_side_by_side(board: Path) -> None:
    page = markdown(make_board(_as_runs(read_records(board / "records"), "kin")))
    assert "## Models by ramp on folder:classes" in page
    part = page.split("## Models by ramp on")[1]
    lines = [line for line in part.splitlines() if line.startswith("| ")]
    titles = [line.split("|")[1].strip() for line in lines[1:4]]
    assert titles == ["**kin** (mean of runs, min – max)", "tiny-pad-0", "kin-1"]


def test_networks_of_one_run_each_are_not_listed_again_by_explainer(board: Path) -> None:
    kept = read_records(board / "records")
    assert [table.kind for table in make_board(kept).tables] == ["explainers", "explainers"]
    assert "Models by" not in (board / "README.md").read_text()


def test_a_suite_of_one_explainer_and_many_models_is_a_board_of_models_only(board: Path) -> None:
    kept = [k for k in read_records(board / "records") if k.record.explainer.spec == "ramp"]
    assert [table.kind for table in make_board(kept).tables] == ["models"]


def test_a_record_of_the_same_cell_replaces_the_older_one(finished: Path, board: Path) -> None:
    count = len(tree(board))
    add_runs([finished], board.parents[1])
    assert len(tree(board)) == count


def test_records_of_two_versions_never_share_a_board(board: Path) -> None:
    path = record_of(board, "tiny-pad-0", "ramp")
    data = json.loads(path.read_text())
    data["suite"]["version"] = 4
    path.write_text(json.dumps(data))
    with pytest.raises(UsageError, match="tiny v3, tiny v4"):
        rebuild(board)


def test_records_of_another_model_file_do_not_share_a_table(board: Path) -> None:
    path = record_of(board, "tiny-pad-0", "ramp")
    data = json.loads(path.read_text())
    data["model"]["sha256"] = "f" * 64
    path.write_text(json.dumps(data))
    tables = [t for t in make_board(read_records(board / "records")).tables if t.kind == "explainers"]
    assert sorted(len(t.rows) for t in tables) == [1, 3, 4]
    rebuild(board)
    assert len(list((board / "tables").glob("tiny-pad-0--*.csv"))) == 2


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.0000"), (-0.00001, "0.0000"), (0.07128, "0.0713"), (12.3456, "12.35"), (1234.5, "1234.5"), (None, "–")],
)
def test_figures_have_a_fixed_format(value: float | None, text: str) -> None:
    assert figure(value) == text


def test_a_missing_number_is_a_dash() -> None:
    assert cell_text(None, None) == "–"


def test_a_protocol_that_fits_no_row_of_a_table_is_one_line_and_no_column(board: Path) -> None:
    for path in (board / "records" / "tiny-pad-0").rglob("*.json"):
        data = json.loads(path.read_text())
        if data["status"] == "ok":
            for number in data["numbers"]:
                if number["id"] == "median@1":
                    number.update(status="not applicable", reason="not for this task", number=None, low=None, high=None)
            path.write_text(json.dumps(data))
    rebuild(board)
    part = (board / "README.md").read_text().split("## tiny-pad-0 on")[1].split("## ")[0]
    assert part.count("median@1") == 1
    assert "* `median@1` not applicable: not for this task" in part
