"""Published records are those of the run's cells, all of them; texts of others are no markup and no formula."""

from __future__ import annotations

import csv
import io
import shutil
from pathlib import Path

import pytest

from faithface.api import execute
from faithface.boards import collect
from faithface.boards.board import make_board
from faithface.boards.escaping import csv_cell, markdown
from faithface.boards.publish import add_runs
from faithface.boards.record import read_records
from faithface.boards.render import board_files
from faithface.errors import UsageError
from faithface.plugins import Registry, load_registry
from faithface.run.plan import Plan, make_plan
from faithface.run.request import Request
from tests.support.runs import MeanRelevance, Ramp, with_extras, write_card, write_folder


@pytest.fixture(scope="module")
def registry() -> Registry:
    return with_extras(load_registry(), Ramp(), MeanRelevance())


@pytest.fixture
def plan(registry: Registry, tmp_path: Path) -> Plan:
    card, folder = str(write_card(tmp_path, name="net")), f"folder:{write_folder(tmp_path / 'faces', 6)}"
    return make_plan(Request((card,), (folder,), (Ramp(), Ramp(2.0), Ramp(3.0)), ("mean-relevance@1",)), registry)


def test_a_run_that_lacks_a_record_is_refused_and_the_same_command_brings_it_back(plan: Plan, tmp_path: Path) -> None:
    execute(plan, tmp_path / "r")
    records = sorted((tmp_path / "r" / "records").rglob("*.json"))
    assert len(records) == 3
    records[1].unlink()
    with pytest.raises(UsageError, match=r"1 of 3 records are missing or were altered \(.*ramp.*\.json\)"):
        add_runs([tmp_path / "r"], tmp_path / "boards")
    assert not (tmp_path / "boards").exists()
    execute(plan, tmp_path / "r")
    add_runs([tmp_path / "r"], tmp_path / "boards")
    assert len(list((tmp_path / "boards").rglob("records/**/*.json"))) == 3


def test_a_record_that_was_altered_is_refused(plan: Plan, tmp_path: Path) -> None:
    execute(plan, tmp_path / "r")
    path = min((tmp_path / "r" / "records").rglob("*.json"))
    path.write_text(path.read_text().replace("self-reported", "independent"))
    with pytest.raises(UsageError, match="1 of 3 records are missing or were altered"):
        add_runs([tmp_path / "r"], tmp_path / "boards")


def test_records_appear_all_at_once(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = collect.write_records

    def killed_after_one(kept: list, folder: Path) -> list[Path]:  # type: ignore[type-arg]
        written(kept[:1], folder)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(collect, "write_records", killed_after_one)
        with pytest.raises(KeyboardInterrupt):
            execute(plan, tmp_path / "r")
    assert not (tmp_path / "r" / "records").exists()
    with pytest.raises(UsageError, match="is not finished"):
        add_runs([tmp_path / "r"], tmp_path / "boards")
    execute(plan, tmp_path / "r")
    assert len(list((tmp_path / "r" / "records").rglob("*.json"))) == 3
    assert not (tmp_path / "r" / "records.new").exists()


def test_intervals_are_saved_one_by_one_and_not_computed_twice(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[int] = []
    real = collect.interval

    def counted(*arguments: object) -> object:
        computed.append(1)
        if len(computed) == 3:
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(collect, "interval", counted)
    with pytest.raises(KeyboardInterrupt):
        execute(plan, tmp_path / "r")  # two named values of one cell are done
    _outcome, first = execute(plan, tmp_path / "r")
    assert len(computed) == 3 + 4
    _outcome, again = execute(plan, tmp_path / "r")
    assert len(computed) == 3 + 4
    assert [kept.record for kept in again] == [kept.record for kept in first]


BAD = "<script>alert(1)</script> | [x](javascript:y) & more"


def test_no_text_of_a_record_is_html_a_link_or_a_formula(plan: Plan, tmp_path: Path) -> None:
    execute(plan, tmp_path / "r")
    shutil.copytree(tmp_path / "r" / "records", tmp_path / "copy")
    kept = read_records(tmp_path / "copy")
    spoilt = []
    for one in kept:
        record = one.record
        numbers = tuple(
            n.model_copy(update={"value_name": f"={n.value_name}", "source": BAD, "reason": f"+{BAD}"})
            for n in record.numbers
        )
        explainer = record.explainer.model_copy(update={"spec": f"-{record.explainer.spec}{BAD}"})
        dataset = record.dataset.model_copy(update={"spec": f"@{BAD}"})
        suite = record.suite.model_copy(update={"description": BAD})
        update = {"numbers": numbers, "explainer": explainer, "dataset": dataset, "suite": suite}
        spoilt.append(type(one)(record.model_copy(update=update), one.values))
    files = board_files(make_board(spoilt))
    page = files.pop("README.md")
    assert "alert(1)" in page
    assert "<script" not in page
    assert "](javascript" not in page
    (table,) = files.values()
    for row in csv.DictReader(io.StringIO(table)):
        for name, cell in row.items():
            if name not in ("number", "low", "high"):
                assert not cell.startswith(("=", "+", "-", "@")), (name, cell)
        assert row["value_name"].startswith("'=")


@pytest.mark.parametrize("start", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =1", "\r=1"])
def test_every_beginning_of_a_formula_is_quoted(start: str) -> None:
    assert csv_cell(start).startswith("'")


def test_plain_names_stay_as_they_are() -> None:
    for name in ("gap-specific@1(grid=14)", "rise(masks=20)", "Petsiuk et al., 2018", "0.12 [0.1, 0.2] · 1-3"):
        assert markdown(name) == name
        assert csv_cell(name) == name
