"""Progress: bars on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from faithface.cli import progress as progress_module
from faithface.cli.progress import Bars, Lines, make_reporter
from faithface.plugins import Provenance, Resolved
from faithface.reasons import Reason, ReasonCode, Status
from faithface.run.driver import Silent
from faithface.run.plan import Cell, Group
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


def tell(reporter: Any, group: Group, cells: list[Cell]) -> None:
    reporter.note("a [note]")
    reporter.group(group, 0.25)
    for cell in cells:
        reporter.start(group, cell, 1, 3)
    reporter.advance(cells[0], 2)
    reporter.end(cells[0], Status.OK, None)
    reporter.end(cells[1], Status.FAILED, Reason(ReasonCode.EXPLAINER_RAISED, "no [way]"))
    reporter.close()


def test_bars_show_counts_states_and_reasons(made: Any) -> None:
    reporter = Bars()
    out = io.StringIO()
    reporter.console = Console(file=out, force_terminal=True, width=120, color_system=None)
    tell(reporter, *group_and_cells(made))
    text = out.getvalue()
    assert "pad on folder:classes: 3 samples, decision threshold 0.2500" in text
    for part in ("a [note]", "first", "3/3", "second[x]", "failed: no [way]"):
        assert part in text


def test_lines_say_what_ended_and_how_fast(made: Any, capsys: pytest.CaptureFixture[str]) -> None:
    tell(Lines(), *group_and_cells(made))
    said = capsys.readouterr()
    assert said.out == ""
    assert "  first: 3/3, " in said.err
    assert "  second[x]: failed: no [way]" in said.err


def test_lines_tell_rate_and_time_left_every_ten_seconds(
    made: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    group, (cell, _) = group_and_cells(made)
    reporter = Lines()
    reporter.start(group, cell, 0, 100)
    for second in range(1, 21):
        now[0] = float(second)
        reporter.advance(cell, 2)
    said = capsys.readouterr().err.splitlines()
    assert said == ["  first: 20/100, 2.0/s, 40 s left", "  first: 40/100, 2.0/s, 30 s left"]


def test_the_reporter_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(make_reporter(quiet=True), Silent)
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
    assert isinstance(make_reporter(quiet=False), Lines)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert isinstance(make_reporter(quiet=False), Bars)
