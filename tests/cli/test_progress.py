"""Progress: bars on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from faithface.cli import progress as progress_module
from faithface.cli.preview import takes
from faithface.cli.progress import Bars, Lines, make_reporter
from faithface.plugins import Provenance, Resolved
from faithface.reasons import Reason, ReasonCode, Status
from faithface.run.driver import Silent
from faithface.run.forecast import Forecast, Work
from faithface.run.plan import Cell, Group
from faithface.run.results import CellShard, Measured, ShardFailure, Step, StepCost
from faithface.run.results import Progress as Now
from tests.support.runs import Ramp


def group_and_cells(made: Any) -> tuple[Group, list[Cell]]:
    from faithface.card import load_card
    from faithface.plugins import load_registry

    origin = Provenance("x", "1", "x")
    cells = [Cell(i, Resolved(name, Ramp(), origin), {}, {}) for i, name in enumerate(("first", "second[x]"))]
    card = load_card(made / "pad.toml")
    data = load_registry().dataset(f"folder:{made / 'classes'}")
    return Group(
        0, Resolved("pad", card, origin), Resolved("folder:classes", data.object, origin), (0, 1, 2), tuple(cells)
    ), cells


def works(cells: list[Cell]) -> list[Work]:
    return [Work(0, cell.number, cell.explainer.spec, 2, {"m@1": 2}) for cell in cells]


def refresh(reporter: Any) -> None:
    """Have bars drawn now, which they are ten times a second otherwise."""
    if isinstance(reporter, Bars):
        assert reporter.bars is not None
        reporter.bars.refresh()


def tell(reporter: Any, group: Group, cells: list[Cell]) -> None:
    reporter.note("a [note]")
    assert reporter.begin(works(cells)) is True
    reporter.progress(Now(Step("threshold"), 7))
    reporter.measured(Measured(0, {0: StepCost(1.0, 4.0), 1: StepCost(2.0)}, {"m@1": StepCost(3.0)}))
    reporter.group(group, 0.25)
    for cell in cells:
        reporter.start(group, cell, 1, 3)
    reporter.progress(Now(Step("explain", 0, 0), 4))
    refresh(reporter)
    shard = CellShard(0, 0, ("a", "b"), seconds=2.0, scored={"m@1": 4.0})
    shard.metric_failures["n@1"] = ShardFailure(Status.FAILED, Reason(ReasonCode.METRIC_RAISED, "metric raised"))
    reporter.timed(shard)
    reporter.advance(cells[0], 2)
    refresh(reporter)
    reporter.end(cells[0], Status.OK, None)
    reporter.end(cells[1], Status.FAILED, Reason(ReasonCode.EXPLAINER_RAISED, "no [way]"))
    reporter.close()


def test_bars_show_the_run_the_cell_and_what_has_ended(made: Any) -> None:
    reporter = Bars()
    out = io.StringIO()
    reporter.console = Console(file=out, force_terminal=True, width=120, color_system=None)
    group, cells = group_and_cells(made)
    tell(reporter, group, cells)
    text = out.getvalue()
    assert "pad on folder:classes: 3 samples, decision threshold 0.2500" in text
    assert "the run takes about 18 s: second[x] 10 s, first 8 s" in text
    for part in ("a [note]", "run", "first", "explaining", "18 s left", "2/4 maps", "10 s left"):
        assert part in text
    assert "first: 3/3, explained in 2 s, scored in 4 s, ok" in text
    assert reporter.told == {
        "pad / folder:classes / first / n@1: metric raised",
        "pad / folder:classes / second[x]: no [way]",
    }


@pytest.mark.parametrize("width", [60, 80, 200])
def test_no_bar_is_wider_than_the_terminal(made: Any, width: int) -> None:
    reporter = Bars()
    out = io.StringIO()
    reporter.console = Console(file=out, force_terminal=True, width=width, color_system=None)
    tell(reporter, *group_and_cells(made))
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
    assert max(cell_len(line) for line in re.split(r"[\r\n]", plain)) <= width


def test_lines_say_what_ended_and_each_failure_once(made: Any, capsys: pytest.CaptureFixture[str]) -> None:
    tell(Lines(), *group_and_cells(made))
    said = capsys.readouterr()
    assert said.out == ""
    assert "  first: 3/3, explained in 2 s, scored in 4 s, ok" in said.err
    assert said.err.count("second[x]: no [way]") == 1
    assert said.err.count("faithface: failed: pad / folder:classes / first / n@1: metric raised") == 1


def test_lines_tell_every_half_minute_also_within_a_batch(
    made: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    group, (cell, _) = group_and_cells(made)
    reporter = Lines()
    reporter.begin([Work(0, 0, "first", 100)])
    reporter.measured(Measured(0, {0: StepCost(1.0)}, {}))
    reporter.start(group, cell, 0, 100)
    for second in range(1, 71):
        now[0] = float(second)
        reporter.progress(Now(Step("explain", 0, 0), second))
        if second == 40:
            reporter.timed(CellShard(0, 0, tuple("x" * 16), seconds=40.0))
            reporter.advance(cell, 16)
    said = capsys.readouterr().err.splitlines()
    assert said.pop(0) == "  the run takes about 2 min: first 2 min"
    assert said[0] == "  first: 0/100, explaining; 0/100 maps, 1 min left"  # 100 s less 16, of which the batch is late
    assert said[1].startswith("  first: 16/100, explaining; 16/100 maps, ")
    assert len(said) == 2


def test_nothing_to_do_is_known(made: Any) -> None:
    reporter = Lines()
    assert reporter.begin([]) is False
    assert reporter.nothing


def test_the_reporter_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(make_reporter(quiet=True), Silent)
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
    assert isinstance(make_reporter(quiet=False), Lines)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert isinstance(make_reporter(quiet=False), Bars)


def test_many_passes_are_told_with_the_time() -> None:
    forecast = Forecast([Work(0, 0, "fggb", 60), Work(0, 1, "cam", 60)])
    forecast.measured(Measured(0, {0: StepCost(100.0, 2, 2048), 1: StepCost(1.0, 1, 1)}, {}))
    expected = "about 1 h 41 min: fggb 1 h 40 min (2 forward and 2048 backward passes a sample), cam 1 min"
    assert takes(forecast) == expected
