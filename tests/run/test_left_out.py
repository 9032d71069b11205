"""What did not apply is read in few lines, and nothing is lost or invented in them."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from faithface.run.left_out import LeftOut, fold


def no_truth(model: str, dataset: str, metric: str) -> LeftOut:
    """What a metric says of a dataset without ground truth; reasons give bare names."""
    bare, data = metric.partition("(")[0], dataset.partition(":")[0]
    return LeftOut(model, dataset, "ramp", metric, f'metric "{bare}" needs tag ground truth; dataset "{data}" has none')


def test_one_item_is_its_own_line() -> None:
    item = no_truth("net", "folder:faces", "mass@1(truth=tag)")
    assert fold([item]) == [item.line]
    assert item.line == (
        'net / folder:faces / ramp / mass@1(truth=tag): metric "mass@1" needs tag ground truth; '
        'dataset "folder" has none'
    )


def test_items_that_differ_only_in_the_metric_are_one_line() -> None:
    items = [no_truth("net", "folder:faces", metric) for metric in ("mass@1(truth=tag)", "rank@1", "pointing@1")]
    assert fold(items) == [
        "net / folder:faces / ramp / mass@1(truth=tag), rank@1, pointing@1: each metric needs tag ground truth; "
        'dataset "folder" has none'
    ]


def test_items_that_differ_only_in_the_dataset_are_one_line() -> None:
    items = [no_truth("net", dataset, "mass@1") for dataset in ("planted-pad", "folder:faces")]
    assert fold(items) == [
        'net / planted-pad, folder:faces / ramp / mass@1: metric "mass@1" needs tag ground truth; the dataset has none'
    ]


def test_items_that_differ_only_in_the_model_are_one_line_and_many_names_a_number() -> None:
    items = [no_truth(f"net-{i}", "faces", "mass@1") for i in range(15)]
    reason = 'metric "mass@1" needs tag ground truth; dataset "faces" has none'
    assert fold(items[:2]) == [f"net-0, net-1 / faces / ramp / mass@1: {reason}"]
    assert fold(items) == [f"15 models / faces / ramp / mass@1: {reason} (--json lists them)"]


def test_a_model_is_named_without_quotes_in_a_reason_and_no_other_word_is_taken_for_a_name() -> None:
    reason = 'explainer "random" is for verification at random; net-{} is pad'
    items = [LeftOut(f"net-{i}", "faces", "random", "", reason.format(i), nowhere=True) for i in (1, 2)]
    assert fold(items) == [
        'net-1, net-2 / faces / random: explainer "random" is for verification at random; the model is pad'
    ]


def test_different_reasons_stay_apart() -> None:
    items = [LeftOut("net", "faces", "ramp", "gap@1", reason) for reason in ("no impostor pairs", "no genuine pairs")]
    assert fold(items) == [item.line for item in items]


def for_another_task(i: int, nowhere: bool) -> LeftOut:
    return LeftOut("net", "faces", "", f"m{i}@1", f'metric "m{i}@1" is for verification; net is pad', nowhere)


def test_parts_for_other_tasks_of_the_run_are_counted_and_those_for_none_of_them_named() -> None:
    items = [*(for_another_task(i, False) for i in range(5)), *(for_another_task(i, True) for i in (5, 6))]
    assert fold(items) == [
        "net / faces / m5@1, m6@1: each metric is for verification; net is pad",
        "5 protocols and explainers for other tasks (--json lists them)",
    ]


@given(
    st.sets(
        st.tuples(
            st.sampled_from(["net-1", "net-2", "net-3"]), st.sampled_from("de"), st.sampled_from(["a@1", "b@1(x=1)"])
        ),
        min_size=1,
    )
)
def test_the_lines_hold_exactly_the_items(wanted: set[tuple[str, str, str]]) -> None:
    found: list[tuple[str, ...]] = []
    for line in fold([no_truth(*names) for names in sorted(wanted)]):
        where, _, reason = line.partition(": ")
        assert reason.endswith("has none")
        models, datasets, _explainer, metrics = (part.split(", ") for part in where.split(" / "))
        found.extend(product(models, datasets, metrics))
    assert sorted(found) == sorted(wanted)
