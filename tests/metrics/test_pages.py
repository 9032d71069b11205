"""Every registered metric has a page that says what its docstring says and costs what it states."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faithface.contract import Metric
from faithface.metrics import METRICS, describe
from faithface.metrics._example import Good, Opposite, load_example
from faithface.metrics._figures import draw, figure_name
from faithface.metrics.entropy import Entropy
from faithface.metrics.pages import World, example_task, main, measure, page_name, render, render_index, to_markdown
from faithface.metrics.relevance_mass import RelevanceMass
from faithface.metrics.road import Road

PAGES = Path(__file__).resolve().parents[2] / "docs" / "protocols"
AGAIN = "write it again with: python -m faithface.metrics.pages docs/protocols"
each = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.id)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("example"))


@each
def test_its_page_is_what_docstring_and_measured_cost_make_of_it(metric: Metric, world: World) -> None:
    page = PAGES / page_name(metric)
    assert page.is_file(), f"no page for {metric.id}; {AGAIN}"
    measured = measure(metric, world)
    assert page.read_text(encoding="utf-8") == render(metric, measured), f"{page.name} is out of date; {AGAIN}"
    # The stated cost is what was measured: of a second explainer, where passes are shared.
    if "out-of-set" in metric.protocol.needs:
        return  # its one-off part depends on the size of two datasets; see the test below
    for cost in measured:
        assert re.search(rf"(?<![\d.]){cost.further:g}(?![\d.])", metric.cost), (metric.cost, cost)
        assert (cost.explanations > 0) == ("explanation" in metric.cost)
        assert cost.backward == 0 or "backward" in metric.cost


def test_out_of_set_shift_costs_one_pass_per_sample_and_two_per_out_of_set_sample(world: World) -> None:
    metric = next(m for m in METRICS if m.id == "out-of-set-shift@1")
    _, dataset = world.open("pad")
    (cost,) = measure(metric, world)
    assert cost.forward == cost.explanations == 1 + 2 * len(dataset.out_of_set().items()) / 2


@each
def test_its_figure_is_there_and_small(metric: Metric) -> None:
    path = PAGES / "figures" / f"{figure_name(metric)}.png"
    assert path.is_file(), f"no figure for {metric.id}; {AGAIN}"
    assert path.stat().st_size < 60_000
    with Image.open(path) as image:
        assert np.asarray(image.convert("L")).std() > 20


def test_there_is_no_page_or_figure_of_a_metric_that_is_gone() -> None:
    assert {p.name for p in PAGES.glob("*.md")} == {page_name(m) for m in METRICS} | {"index.md"}
    assert {p.stem for p in (PAGES / "figures").glob("*")} == {figure_name(m) for m in METRICS}


def test_the_index_lists_every_metric() -> None:
    text = (PAGES / "index.md").read_text(encoding="utf-8")
    assert text == render_index(METRICS), AGAIN
    assert all(f"({page_name(metric)})" in text for metric in METRICS)


def test_ids_are_unique_and_carry_a_version() -> None:
    ids = [metric.id for metric in METRICS]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z][a-z-]*@[1-9]\d*", one) for one in ids)


@each
def test_its_attributes_are_complete_and_agree_with_each_other(metric: Metric) -> None:
    low, high = metric.range_on()
    assert low < high
    assert metric.best_on() == (high if metric.protocol.better == "higher" else low)
    assert metric.protocol.value_names[0] == ""
    assert len(set(metric.protocol.value_names)) == len(metric.protocol.values)
    assert metric.protocol.source
    text = " ".join((type(metric).__doc__ or "").split())
    for section in ("Question", "Formula", "Range and direction", "Known weaknesses", "Cost", "Source"):
        assert section in text
    better = {"higher": "igher is better", "lower": "ower is better"}[metric.protocol.better]
    assert better in text
    assert f"The best value is {metric.best_on():.1f}".replace("-", "−").rstrip("0") in text.replace("-", "−")


@each
def test_describe_tells_protocol_range_direction_and_parameters(metric: Metric) -> None:
    text = describe(metric)
    assert text.splitlines()[0].startswith(f"{metric.id} ({metric.protocol.better} is better")
    assert " ".join((type(metric).__doc__ or "").split()[:6]) in " ".join(text.split())
    assert "range " in text
    assert "best value" in text


def test_describe_lists_defaults_and_allowed_values() -> None:
    assert "  noise = 0.01  (number)" in describe(Road())
    assert "  truth = relevance+similarity+dissimilarity  (names joined by +)" in describe(RelevanceMass())
    gap = next(metric for metric in METRICS if metric.id == "gap@1")
    assert "  fill = blur  (one of: stranger, blur, black, mean, rise, linear)" in describe(gap)


def test_the_command_writes_pages_and_removes_those_that_no_metric_has(tmp_path: Path, monkeypatch) -> None:
    from faithface.metrics import pages

    monkeypatch.setattr(pages, "METRICS", (Entropy(),))
    (tmp_path / "gone-1.md").write_text("old")
    main([str(tmp_path)])
    assert {p.name for p in tmp_path.glob("*.md")} == {"entropy-1.md", "index.md"}
    assert {p.name for p in (tmp_path / "figures").iterdir()} == {"entropy.png"}
    assert "# `entropy@1`" in (tmp_path / "entropy-1.md").read_text(encoding="utf-8")


def test_markdown_makes_headings_and_lists_and_hides_nothing_in_tags() -> None:
    text = "Formula\n    a < b\n\nValues\n    (headline): the fall,\n    in full.\n    ``:flips``: how many."
    expected = "## Formula\n\na &lt; b\n\n## Values\n\n* (headline): the fall,\n  in full.\n* `:flips`: how many."
    assert to_markdown(text) == expected


def test_a_figure_shows_what_the_metric_says_of_the_example(world: World, tmp_path: Path) -> None:
    metric = RelevanceMass()
    draw(metric, world.open(example_task(metric, world)), tmp_path / "one.png")
    assert (tmp_path / "one.png").stat().st_size > 5_000


def test_in_the_example_the_right_answer_beats_its_opposite_wherever_truth_is_asked(world: World) -> None:
    for task in ("pad", "verification"):
        model, dataset = world.open(task)
        for metric in METRICS:
            faithful = metric.id.partition("@")[0].startswith(("gap", "road", "relevance", "localisation"))
            if not faithful or task not in metric.protocol.tasks:
                continue
            samples = load_example(model, dataset, metric.judged_on, limit=3)
            good, bad = (
                metric.score(model, samples, explainer.explain(model, samples)).values[""]
                for explainer in (Good(), Opposite())
            )
            assert np.nanmean(good) > np.nanmean(bad), metric.id
