"""Curves in records: they are those of the run, they hold together with values and clean scores, and forgery shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from faithface.api import execute
from faithface.boards.findings import Check
from faithface.boards.inside import validate_inside
from faithface.boards.record import Kept, curves_of, read_records
from faithface.boards.validate import validate_records
from faithface.errors import UsageError
from faithface.plugins import load_registry
from faithface.run.plan import make_plan
from faithface.run.request import Request
from tests.support.runs import Ramp, with_extras, write_card, write_folder, write_pairs

SET = "(fill=blur,grid=4,points=5)"
KINDS = ("", "-similarity", "-similarity-score", "-dissimilarity", "-dissimilarity-score")
PAD = "(grid=4,points=5)"  # blur is what classifiers are filled with unless told otherwise
METRICS = tuple(f"{what}{kind}@1{SET}" for kind in KINDS for what in ("gap", "deletion", "insertion"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("curves")
    request = Request(
        models=(str(write_card(root)), str(write_card(root, "verification"))),
        datasets=(f"folder:{write_folder(root, 8)}", write_pairs(root, people=3)),
        explainers=("ramp",),
        metrics=METRICS,
        suite=("curves", 1),
    )
    execute(make_plan(request, with_extras(load_registry(), Ramp())), root / "run")
    return root / "run"


@pytest.fixture(scope="module")
def kept(run: Path) -> dict[str, Kept]:
    return {one.record.model.task: one for one in read_records(run / "records")}


def checks(kept: Kept, values: pl.DataFrame | None = None, curves: pl.DataFrame | None = None) -> set[Check]:
    made = Kept(
        kept.record,
        kept.values if values is None else values,
        made_curves=curves_of(kept) if curves is None else curves,
    )
    return {check for check, _detail in validate_inside(made)}


def test_records_with_curves_hold_and_every_protocol_has_its_own(run: Path, kept: dict[str, Kept]) -> None:
    found, findings = validate_records(run / "records")
    assert (len(found), findings) == (2, [])
    assert set(curves_of(kept["pad"])["protocol"].unique()) == {
        f"{what}@1{PAD}" for what in ("gap", "deletion", "insertion")
    }
    assert curves_of(kept["verification"])["protocol"].n_unique() == 12
    rows = curves_of(kept["pad"]).filter(pl.col("protocol") == f"gap@1{PAD}")
    assert set(rows["curve"].unique()) == {"deletion", "insertion"}
    assert set(rows["points"].list.len().unique()) == {5}


def test_the_ends_of_the_curves_are_the_clean_scores(kept: dict[str, Kept]) -> None:
    one = kept["pad"]
    scores = dict(one.values.select("sample", "score").unique().iter_rows())
    rows = curves_of(one).filter(pl.col("protocol") == f"gap@1{PAD}")
    assert len(rows) >= 8
    for _protocol, curve, sample, points in rows.iter_rows():
        assert points[0 if curve == "deletion" else -1] == pytest.approx(scores[sample], abs=1e-5)


@pytest.mark.parametrize("task", ["pad", "verification"])
def test_values_moved_alike_are_not_those_of_their_curves(kept: dict[str, Kept], task: str) -> None:
    one = kept[task]
    for protocol in curves_of(one)["protocol"].unique():
        moved = one.values.with_columns(
            value=pl.when(pl.col("protocol") == protocol).then(pl.col("value") + 0.01).otherwise("value")
        )
        assert {Check.CURVE, Check.RELATION} <= checks(one, moved), protocol


def test_a_gap_that_is_no_difference_is_caught_without_curves(kept: dict[str, Kept]) -> None:
    one = kept["verification"]
    moved = one.values.with_columns(
        value=pl.when(pl.col("protocol") == f"gap-dissimilarity-score@1{SET}").then(-pl.col("value")).otherwise("value")
    )
    assert Check.RELATION in checks(one, moved, curves_of(one).clear())


def test_curves_of_other_faces_do_not_begin_at_the_clean_score(kept: dict[str, Kept]) -> None:
    one = kept["pad"]
    other = one.values.with_columns(score=pl.col("score") * 0.9)
    assert Check.CURVE in checks(one, other)
    shifted = curves_of(one).with_columns(points=pl.col("points").list.eval(pl.element() + 0.1))
    assert Check.CURVE in checks(one, curves=shifted)


def test_curves_that_were_altered_or_are_gone_are_one_line(run: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(run / "records", tmp_path / "records")
    path = next((tmp_path / "records").rglob("*~curves.parquet"))
    frame = pl.read_parquet(path)
    frame.with_columns(points=pl.col("points").list.eval(pl.element() * np.float32(0.5))).write_parquet(path)
    _kept, findings = validate_records(tmp_path / "records")
    assert [one.check for one in findings] == [Check.UNREADABLE]
    path.unlink()
    found = read_records(tmp_path / "records")
    with pytest.raises(UsageError, match=r"~curves\.parquet is missing"):
        [curves_of(one) for one in found]
