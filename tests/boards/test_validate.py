"""What the validator finds: forged records and boards, each caught by the check that is about it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from faithface.boards.findings import Check
from faithface.boards.publish import rebuild
from faithface.boards.record import Kept, curves_of, read_record, read_records, write_records
from faithface.boards.validate import validate_board, validate_records
from faithface.errors import UsageError
from faithface.reasons import Status
from tests.boards.test_boards import record_of

Change = Callable[[pl.DataFrame], pl.DataFrame]


def checks(board: Path) -> set[Check]:
    return {one.check for one in validate_board(board)}


def rewrite(path: Path, change: Change | None = None, curves: Change | None = None, **update: object) -> None:
    """Forge a record as somebody would who knows the format: all digests are taken anew."""
    kept = read_record(path)
    values = change(kept.values) if change else kept.values
    lines = curves(curves_of(kept)) if curves else curves_of(kept)
    record = kept.record.model_copy(update=update)
    write_records([Kept(record, values, made_curves=lines)], path.parents[2])


def ramp(board: Path) -> Path:
    return record_of(board, "tiny-pad-0", "ramp")


def test_a_board_that_was_built_is_without_findings(board: Path) -> None:
    assert validate_board(board) == []


def test_one_mean_changed_is_caught_by_its_values(board: Path) -> None:
    numbers = list(read_record(ramp(board)).record.numbers)
    numbers[0] = numbers[0].model_copy(update={"number": numbers[0].number + 1e-6})
    rewrite(ramp(board), numbers=tuple(numbers))
    rebuild(board)
    (found,) = validate_board(board)
    assert found.check is Check.MEAN
    assert "mean of its 12 values" in found.detail


def test_a_value_changed_with_its_mean_left_is_caught(board: Path) -> None:
    rewrite(
        ramp(board),
        lambda v: v.with_columns(
            pl.when(pl.col("sample") == v["sample"][0]).then(9.0).otherwise("value").alias("value")
        ),
    )
    assert Check.MEAN in checks(board)


def test_a_record_edited_without_its_digest_is_caught(board: Path) -> None:
    path = ramp(board)
    path.write_text(path.read_text().replace('"version": "1"', '"version": "2"'))
    assert {Check.DIGEST} <= checks(board)


def test_a_record_written_in_another_form_is_caught(board: Path) -> None:
    path = ramp(board)
    path.write_text(json.dumps(json.loads(path.read_text())))
    assert checks(board) == {Check.FORM}


def test_a_trust_level_written_by_hand_is_no_record(board: Path) -> None:
    path = ramp(board)
    path.write_text(path.read_text().replace('"self-reported"', '"independent"'))
    assert checks(board) == {Check.UNREADABLE}


def test_a_board_edited_by_hand_is_caught(board: Path) -> None:
    page = board / "README.md"
    page.write_text(page.read_text().replace("1.000", "1.001", 1))
    table = next((board / "tables").glob("*.csv"))
    table.write_text(table.read_text() + "extra\n")
    (board / "tables" / "mine.csv").write_text("x")
    found = validate_board(board)
    assert {one.path for one in found} == {"README.md", f"tables/{table.name}", "tables/mine.csv"}
    assert {one.check for one in found} == {Check.TABLES}


def test_rows_of_another_dataset_are_caught(board: Path) -> None:
    rewrite(ramp(board), lambda v: v.with_columns(pl.col("sample") + "-x"))
    assert Check.SAMPLES in checks(board)


def test_rows_of_other_people_under_the_same_names_are_caught(board: Path) -> None:
    rewrite(ramp(board), lambda v: v.with_columns(pl.lit(["someone"], dtype=pl.List(pl.String)).alias("units")))
    assert Check.SAMPLES in checks(board)


def test_a_protocol_renamed_without_its_values_is_caught(board: Path) -> None:
    numbers = [
        n.model_copy(update={"protocol": n.protocol.replace("@1", "@2"), "id": n.id.replace("@1", "@2")})
        for n in read_record(ramp(board)).record.numbers
    ]
    rewrite(ramp(board), numbers=tuple(numbers))
    assert Check.ROWS in checks(board)


def test_a_protocols_text_that_is_not_its_id_is_caught(board: Path) -> None:
    numbers = [n.model_copy(update={"id": "other@1"}) for n in read_record(ramp(board)).record.numbers]
    rewrite(ramp(board), numbers=tuple(numbers))
    assert Check.NAMES in checks(board)


def test_a_record_in_the_place_of_another_is_caught(board: Path) -> None:
    shutil.copy(ramp(board), ramp(board).with_name("gramp.json"))
    found = checks(board)
    assert {Check.PLACE, Check.SAME_CELL} <= found
    with pytest.raises(UsageError, match=r"gramp\.json and .*ramp\.json are records of the same model"):
        read_records(board / "records")


def test_values_outside_the_range_are_caught(board: Path) -> None:
    rewrite(ramp(board), lambda v: v.with_columns(value=pl.col("value") - 5))
    assert Check.RANGE in checks(board)


def test_counts_intervals_rows_and_statuses_are_checked(board: Path) -> None:
    numbers = list(read_record(ramp(board)).record.numbers)
    forged = numbers[0].model_copy(update={"n": 11, "low": numbers[0].low - 0.1})
    rewrite(ramp(board), numbers=(forged, *numbers[1:]))
    assert {Check.COUNT, Check.INTERVAL} <= checks(board)
    rewrite(ramp(board), lambda v: pl.concat([v, v.head(1)]), numbers=tuple(numbers))
    assert Check.ROWS in checks(board)
    rewrite(ramp(board), lambda v: v.head(len(v) - 1).with_columns(reason=pl.lit("")), numbers=tuple(numbers))
    assert {Check.ROWS, Check.COUNT} & checks(board)


def test_a_failed_number_with_values_is_caught(board: Path) -> None:
    numbers = list(read_record(ramp(board)).record.numbers)
    numbers[0] = numbers[0].model_copy(update={"status": Status.FAILED, "reason": "so"})
    rewrite(ramp(board), numbers=tuple(numbers))
    assert Check.STATUS in checks(board)


def test_protocol_bounds_are_those_of_the_installed_protocol(board: Path) -> None:
    from tests.support.runs import MeanRelevance

    numbers = list(read_record(ramp(board)).record.numbers)
    numbers[0] = numbers[0].model_copy(update={"range": (0.0, 9.0), "tolerance": 99.0})
    rewrite(ramp(board), numbers=tuple(numbers))
    rebuild(board)
    known = {"mean-relevance@1": MeanRelevance()}
    found = validate_board(board, known.get)
    assert {one.check for one in found} == {Check.BOUNDS}
    assert len(found) == 2
    assert validate_board(board) == []  # nothing is known of the protocol here


def test_an_own_summary_is_computed_anew_where_the_protocol_is_installed(board: Path) -> None:
    from tests.boards.conftest import Median

    numbers = list(read_record(ramp(board)).record.numbers)
    at = next(i for i, n in enumerate(numbers) if n.id == "median@1")
    numbers[at] = numbers[at].model_copy(update={"number": 0.5})
    rewrite(ramp(board), numbers=tuple(numbers))
    rebuild(board)
    known = {"median@1": Median()}
    assert {one.check for one in validate_board(board, known.get)} == {Check.MEAN}


# --- bad input


def test_an_empty_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    for folder in (tmp_path, tmp_path / "records"):
        with pytest.raises(UsageError, match="holds no"):
            validate_board(folder)


def test_half_a_record_is_one_finding_and_the_others_are_checked(board: Path) -> None:
    path = ramp(board)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found = validate_board(board)
    assert [one.check for one in found if one.path.endswith("/ramp.json") and "tiny-pad-0" in one.path] == [
        Check.UNREADABLE
    ]
    assert all("\n" not in str(one) for one in found)
    with pytest.raises(UsageError, match=r"ramp\.json is not a record of schema 2"):
        rebuild(board)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet at all"])
def test_a_corrupt_parquet_is_one_line(board: Path, content: bytes) -> None:
    path = ramp(board)
    values = path.with_suffix(".parquet")
    values.write_bytes(content)
    (found, *_rest) = validate_board(board)
    assert found.check is Check.UNREADABLE
    # The same with a digest that fits: it is no Parquet file all the same.
    from faithface.boards.record import record_bytes, record_digest
    from faithface.hashing import file_hash

    record = json.loads(path.read_text())
    from faithface.boards.record import Record

    forged = Record.model_validate(record).model_copy(update={"values_sha256": file_hash(values)})
    path.write_bytes(record_bytes(forged.model_copy(update={"digest": record_digest(forged)})))
    with pytest.raises(UsageError, match="no readable Parquet file") as error:
        read_record(path)
    assert "\n" not in str(error.value)


def test_a_parquet_of_other_columns_is_one_line(board: Path) -> None:
    path = ramp(board)
    kept = read_record(path)
    values = path.with_suffix(".parquet")
    kept.values.drop("units").write_parquet(values)
    from faithface.boards.record import record_bytes, record_digest
    from faithface.hashing import file_hash

    forged = kept.record.model_copy(update={"values_sha256": file_hash(values)})
    path.write_bytes(record_bytes(forged.model_copy(update={"digest": record_digest(forged)})))
    with pytest.raises(UsageError, match="other columns than a record's: units"):
        read_record(path)


def test_values_named_outside_the_folder_are_no_record(board: Path) -> None:
    path = ramp(board)
    path.write_text(path.read_text().replace('"values": "ramp.parquet"', '"values": "../ramp.parquet"'))
    with pytest.raises(UsageError, match="values"):
        read_record(path)


def test_stray_files_are_named(board: Path) -> None:
    (ramp(board).parent / "notes.txt").write_text("x")
    (found,) = validate_board(board)
    assert found.check is Check.STRAY


def test_a_run_is_checked_as_a_board_is(finished: Path) -> None:
    kept, found = validate_records(finished / "records")
    assert len(kept) == 8
    assert found == []
