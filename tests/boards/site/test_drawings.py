"""What is drawn: dots and intervals at their places, curves, and figures that are the same every time."""

from __future__ import annotations

import re

import numpy as np
import pytest

from faithface.boards.board import Table, make_board
from faithface.boards.site.charts import charts_of
from faithface.boards.site.extras import Extras
from faithface.boards.site.figures import Drawn, Figures
from faithface.boards.site.marks import EDGE, WIDE, axis_of, curve_lines, interval_path
from faithface.boards.site.pages import distinct
from tests.support.boards import records


def test_dots_and_intervals_stand_where_their_numbers_are() -> None:
    rng = np.random.default_rng(0)
    numbers = rng.normal(0, 3, 20)
    low, high = numbers - rng.uniform(0.1, 1, 20), numbers + rng.uniform(0.1, 1, 20)
    axis = axis_of([*numbers, *low, *high, None, float("nan")])
    lo, hi = low.min(), high.max()
    for number, a, b in zip(numbers, low, high, strict=True):
        found = re.fullmatch(r"M([\d.]+) 6H([\d.]+)M([\d.]+) 6a.*", interval_path(axis, number, a, b))
        assert found is not None
        for text, value, shift in ((found[1], a, 0), (found[2], b, 0), (found[3], number, -2.6)):
            expected = EDGE + (value - lo) / (hi - lo) * (WIDE - 2 * EDGE) + shift
            assert float(text) == pytest.approx(expected, abs=0.051)


def test_a_column_of_equal_numbers_has_its_dots_in_the_middle() -> None:
    assert axis_of([2.0, 2.0]).place(2.0) == WIDE / 2
    assert axis_of([]).place(0.5) == WIDE / 2


def test_curves_share_an_axis_and_a_missing_point_breaks_the_line() -> None:
    lines = curve_lines({"a": [0, 5, 10], "b": [10, float("nan"), 0]}, wide=100, tall=50)
    assert lines is not None
    assert dict(lines.paths) == {"a": "M0 50L50 25L100 0", "b": "M0 0M100 50"}
    assert (lines.low, lines.high) == (0, 10)
    assert curve_lines({"point": [0.5]}) is None


def test_curves_of_the_areas_are_not_drawn_beside_those_of_their_gap() -> None:
    falling, rising = [1.0, 0.5, 0.0], [0.0, 0.5, 1.0]
    curves = {
        "gap": {"deletion": falling, "insertion": rising},
        "deletion": {"deletion": falling},
        "insertion": {"insertion": rising},
        "other": {"deletion": rising},
        "twin": {"deletion": falling, "insertion": rising},
    }
    assert distinct(curves) == ["gap", "other"]


def drawn(table: Table) -> list[Drawn]:
    return [Figures().drawn(chart, "") for chart in charts_of(table, Extras(), "salt")]


def test_figures_are_the_same_every_time_and_name_every_method() -> None:
    (table,) = make_board(records(models=("net-a",))).tables
    first, again = drawn(table), drawn(table)
    assert [chart.svg for chart in first] == [chart.svg for chart in again]
    assert [chart.title.split(" ")[0] for chart in first] == ["Cost", "Who", "Do"]
    for chart in first:
        assert not re.search(r"<metadata|\d{4}-\d\d-\d\dT", chart.svg)
        assert not re.search(r"#0[0-9a-f]0[0-9a-f]0[0-9a-f]\b", chart.svg), "a stand-in colour was left"
    for name in ("alpha", "beta", "gamma", "delta"):
        assert f">{name}<" in first[0].svg
        assert name in first[1].svg


def test_dots_of_the_scatter_are_in_the_order_of_their_costs_and_numbers() -> None:
    (table,) = make_board(records(models=("net-a",), controls=())).tables
    svg = drawn(table)[0].svg
    where = {name: tuple(map(float, at)) for name, at in _texts(svg)}
    order = ["alpha", "beta", "gamma", "delta"]
    # Costs rise by a factor of four, numbers fall; the vertical axis of SVG points down. Labels may move a little.
    assert sorted(order, key=lambda n: where[n][0]) == order
    assert sorted(order, key=lambda n: where[n][1]) == order


def _texts(svg: str) -> list[tuple[str, tuple[str, str]]]:
    """Return the texts of a figure with their places."""
    found = re.findall(
        r"<text[^>]*?(?:x=\"([\d.]+)\" y=\"([\d.]+)\"|translate\(([\d.]+) ([\d.]+)\))[^>]*>([^<]*)</text>", svg
    )
    return [(text, (a or c, b or d)) for a, b, c, d, text in found]


@pytest.mark.parametrize("name", ["$x^2$", "$", r"\frac{1}{2}", "<b>&\"'", "😀\n名", "x" * 300])
def test_a_name_in_a_figure_is_text(name: str) -> None:
    (table,) = make_board(records((name, "beta", "gamma"), models=("net-a",))).tables
    charts = drawn(table)
    assert len(charts) == 3
    flat = " ".join(name.split())[:39].replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert flat in charts[0].svg
    assert "<b>" not in charts[0].svg
