"""Agreement between a table's protocols and between fills, and the overall order, from the records of a board."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

from faithface.boards.board import Table, make_board
from faithface.boards.orders import diagram, fill_agreement, fit_protocols, overall_order, rank_agreement, table_values
from faithface.boards.record import Kept, Number, record_digest
from tests.boards.made import made_board

LEVELS = {"a": 0.9, "b": 0.6, "c": 0.5, "d": 0.1}


@pytest.fixture(scope="module")
def kept() -> list[Kept]:
    """Four methods and a control by five protocols, on 40 samples; ``mass@1`` has the opposite order of ``gap@1``."""
    rng = np.random.default_rng(0)
    orders = {
        "gap@1(fill=blur,grid=14)": 1,
        "gap@1(fill=black,grid=14)": 1,
        "gap@1(fill=black,grid=7)": 1,
        "mass@1": -1,
        "entropy@1": -1,
    }
    values = {
        (name, protocol): sign * level + 0.3 * rng.normal(size=40)
        for name, level in {**LEVELS, "random": 0.0}.items()
        for protocol, sign in orders.items()
    }
    families = {"mass@1": "truth", "entropy@1": "description"}
    return made_board(values, controls={"random"}, family=lambda protocol: families.get(protocol, "faithful"))


@pytest.fixture(scope="module")
def table(kept: list[Kept]) -> Table:
    (found,) = make_board(kept).tables
    return found


def means(kept: list[Kept], protocol: str) -> list[float]:
    found = []
    for one in kept:
        if not one.record.explainer.control:
            found.append(one.values.filter(pl.col("protocol") == protocol)["value"].mean())
    return found  # type: ignore[return-value]


def test_agreement_is_scipys_tau_of_the_methods_means_without_controls(table: Table, kept: list[Kept]) -> None:
    found = rank_agreement(table, kept, replicates=200)
    assert all("entropy@1" not in pair for pair in found)  # what describes maps orders nothing
    assert len(found) == 6
    for (a, b), got in found.items():
        assert got.tau == pytest.approx(stats.kendalltau(means(kept, a), means(kept, b)).statistic)
        assert got.rivals == 4
        assert got.low <= got.tau <= got.high
    assert found["gap@1(fill=blur,grid=14)", "mass@1"].tau == -1.0


def test_fills_are_compared_where_nothing_else_differs(table: Table, kept: list[Kept]) -> None:
    found = fill_agreement(table, kept, replicates=50)
    assert list(found) == [("gap@1(fill=black,grid=14)", "gap@1(fill=blur,grid=14)")]


def test_the_overall_order_is_by_families_of_what_is_fit(table: Table) -> None:
    fit = {"gap@1(fill=blur,grid=14)", "mass@1", "entropy@1"}
    found = overall_order(table, fit)
    assert set(found.metrics) == {"faithful", "truth"}  # entropy is fit, but says nothing of right and wrong
    assert [round(rank, 6) for _name, rank, _by in found.rows] == [2.5] * 4  # the two orders are opposite
    assert "random" not in {name for name, _rank, _by in found.rows}
    assert found.unfit == ("gap@1(fill=black,grid=14)", "gap@1(fill=black,grid=7)")
    one = overall_order(table, {"gap@1(fill=blur,grid=14)"})
    assert [name for name, _rank, _by in one.rows] == ["a", "b", "c", "d"]


def test_the_diagram_is_that_of_the_column(table: Table, kept: list[Kept]) -> None:
    found = diagram(table, kept, "gap@1(fill=blur,grid=14)")
    assert [name for name, _rank in found.positions] == ["a", "b", "c", "d"]
    assert found.samples == 40


def test_values_of_other_tables_are_not_used(table: Table, kept: list[Kept]) -> None:
    other = [dataclasses.replace(one, record=with_number(one, 0.5)) for one in kept]
    values, _units = table_values(table, other, ["mass@1"])
    assert values == {"mass@1": {}}
    values, units = table_values(table, kept, ["mass@1"], controls=True)
    assert set(values["mass@1"]) == {*LEVELS, "random"}
    assert len(units) == 40


def with_number(kept: Kept, threshold: float):  # type: ignore[no-untyped-def]
    model = kept.record.model.model_copy(update={"threshold": threshold})
    record = kept.record.model_copy(update={"model": model})
    return record.model_copy(update={"digest": record_digest(record)})


def test_only_what_passed_the_exam_is_fit() -> None:
    verdicts = {"gap@1": "judges", "mass@1": "with care", "entropy@1": "fails"}
    assert fit_protocols(verdicts, ["gap@1", "mass@1", "entropy@1", "new@1"]) == {"gap@1"}
    assert fit_protocols(verdicts, ["gap@1", "mass@1"], ("judges", "with care")) == {"gap@1", "mass@1"}


def test_numbers_of_records_say_their_family_and_tolerance(finished: Path) -> None:
    from faithface.boards.record import read_records

    for one in read_records(finished / "records"):
        found: dict[str, Number] = {number.id: number for number in one.record.numbers}
        assert found["mean-relevance@1"].family == "description"
        assert found["cost@1"].family == "cost"
        assert found["cost@1"].tolerance is None
        assert found["mean-relevance@1"].tolerance == 1e-3
