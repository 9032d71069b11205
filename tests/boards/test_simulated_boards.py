"""A small run of the simulation behind the page on statistics, with bounds that other tests do not keep.

The bounds are the promise and about three standard errors of the simulation; the seeds are fixed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from faithface.boards.statistics.design import make_design, make_units
from training import simulate_statistics as simulation
from training.simulate_statistics import OURS, Setting

INDEPENDENT, OLD, JACKKNIFE = "independent t", "pigeonhole bootstrap", "person jackknife"
BETTER = (1.1, *[0.0] * 7)


@pytest.mark.parametrize(
    "setting",
    [Setting(0, 0.0, 12), Setting(13, 0.3, 100), Setting(40, 0.3, 48), Setting(40, 0.1, 100, heavy=True)],
    ids=lambda s: f"{s.people}-{s.effect}-{s.samples}",
)
def test_false_claims_stay_below_the_promise(setting: Setting) -> None:
    assert simulation.family_wise_error(setting, 400)[OURS] <= 0.06 + 0.03


def test_where_people_matter_independent_tests_are_wrong_on_most_boards() -> None:
    found = simulation.family_wise_error(Setting(13, 0.3, 300), 200, (OURS, INDEPENDENT))
    assert found[OURS] <= 0.06 + 0.05
    assert found[INDEPENDENT] > 0.6


@pytest.mark.parametrize(("samples", "least"), [(12, 0.17), (24, 0.57), (48, 0.95)])
def test_true_differences_are_found_as_often_as_by_the_jackknife(samples: int, least: float) -> None:
    setting = Setting(40, 0.0, samples, gains=BETTER)
    found = simulation.power(setting, 200, (OURS, JACKKNIFE, OLD))
    assert found[OURS] >= least
    assert found[OURS] >= found[JACKKNIFE]
    assert found[OLD] < found[JACKKNIFE]


def test_all_true_ranks_lie_in_their_intervals() -> None:
    gains = tuple(-0.3 * k for k in range(8))
    covered, width = simulation.rank_coverage(Setting(40, 0.3, 300, gains=gains), 300)
    assert covered >= 0.94 - 0.03
    assert 0.2 < width < 4


def test_two_seeds_of_one_explainer_are_not_called_different() -> None:
    alone, on_board = simulation.same_explainer(Setting(40, 0.0, 48), 300)
    assert 0.0 < alone <= 0.05 + 0.035
    assert on_board <= 0.02


def test_simulated_boards_have_the_spread_and_the_people_they_say() -> None:
    setting = Setting(13, 0.5, 400, gains=(1.0, *[0.0] * 7))
    made = next(simulation.draw(setting, 25))
    assert made.values.shape == (25, 400, 8)
    assert all(len(set(one)) == 2 for one in made.names)
    assert len({name for one in made.names for name in one}) == 13
    gap = made.values[..., 0] - made.values[..., 1]
    # Two people per sample: with the effect of one, the deviation would be 9 % smaller. Its own error is about 1.5 %.
    assert gap.std() == pytest.approx(np.sqrt(2 * (1 + 2 * 0.25)), rel=0.05)
    # A board's mean varies by 0.39 (13 people, weights of about 2/13), the mean of 25 boards by 0.08: three of these.
    assert gap.mean() == pytest.approx(np.sqrt(3), abs=0.25)


def test_the_boards_test_is_that_of_ranking() -> None:
    from faithface.boards.statistics.ranking import Designs, pairwise

    made = next(simulation.draw(Setting(40, 0.3, 48), 5))
    together = simulation.ours(made, make_design(make_units(made.names)))
    for board, adjusted in zip(made.values, together, strict=True):
        np.testing.assert_allclose(pairwise(board, Designs(make_units(made.names))).adjusted, adjusted, rtol=1e-9)


def test_tables_replace_what_stands_between_their_markers(tmp_path: Path) -> None:
    page = "x <!-- same -->\nold\n<!-- end same --> y"
    assert simulation.replace(page, "same", "new") == "x <!-- same -->\nnew\n<!-- end same --> y"
    with pytest.raises(ValueError, match="lacks the markers <!-- ranks -->"):
        simulation.replace(page, "ranks", "new")


def test_the_page_has_a_place_for_every_table() -> None:
    page = (Path(__file__).parents[2] / simulation.PAGE).read_text("utf-8")
    for name in ("methods", "errors", *simulation.SHORT):
        assert simulation.replace(page, name, "")
