"""What was not applicable is read in few lines, and nothing is lost or invented in them."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from faithface.reasons import Reason, ReasonCode
from faithface.run.not_applicable import Entry, fold

NO_TRUTH = Reason(ReasonCode.NO_GROUND_TRUTH, "needs tag ground truth; the dataset has none")
OTHER_TASK = Reason(ReasonCode.OTHER_TASK, "for verification only; the model is for pad")


def no_truth(model: str, dataset: str, metric: str) -> Entry:
    return Entry(model, dataset, "ramp", metric, NO_TRUTH)


def test_one_item_is_its_own_line() -> None:
    item = no_truth("net", "folder:faces", "mass@1(truth=tag)")
    assert fold([item]) == [item.line]
    assert item.line == ("net / folder:faces / ramp / mass@1(truth=tag): needs tag ground truth; the dataset has none")


def test_items_that_differ_only_in_the_metric_are_one_line() -> None:
    items = [no_truth("net", "folder:faces", metric) for metric in ("mass@1(truth=tag)", "rank@1", "pointing@1")]
    assert fold(items) == [f"net / folder:faces / ramp / mass@1(truth=tag), rank@1, pointing@1: {NO_TRUTH}"]


def test_items_that_differ_only_in_the_dataset_are_one_line() -> None:
    items = [no_truth("net", dataset, "mass@1") for dataset in ("planted-pad", "folder:faces")]
    assert fold(items) == [f"net / planted-pad, folder:faces / ramp / mass@1: {NO_TRUTH}"]


def test_items_that_differ_only_in_the_model_are_one_line_and_many_names_a_number() -> None:
    items = [no_truth(f"net-{i}", "faces", "mass@1") for i in range(15)]
    assert fold(items[:2]) == [f"net-0, net-1 / faces / ramp / mass@1: {NO_TRUTH}"]
    assert fold(items) == [f"15 models / faces / ramp / mass@1: {NO_TRUTH} (--json lists them)"]


def test_models_without_a_twin_are_one_line_though_each_says_it_in_its_own_words() -> None:
    def without_twin(name: str, i: int) -> Entry:
        reason = Reason(ReasonCode.NO_TWIN, f'model "{name}" has an operator that {i} cannot do')
        return Entry(name, "faces", "grad-cam", "", reason)

    items = [without_twin(f"net-{i}", i) for i in (1, 2)]
    assert fold(items) == ["net-1, net-2 / faces / grad-cam: the model has no differentiable twin (--json lists them)"]
    assert fold(items[:1]) == [items[0].line]


def test_different_reasons_stay_apart_and_so_do_different_codes_of_one_text() -> None:
    codes = (ReasonCode.NO_SAMPLES, ReasonCode.NO_SAMPLES, ReasonCode.UNDEFINED)
    details = ("no impostor pairs", "no genuine pairs", "no genuine pairs")
    reasons = [Reason(code, detail) for code, detail in zip(codes, details, strict=True)]
    items = [Entry("net", "faces", "ramp", f"m{i}@1", reason) for i, reason in enumerate(reasons)]
    assert fold(items) == [item.line for item in items]


def for_another_task(i: int, nowhere: bool) -> Entry:
    return Entry("net", "faces", "", f"m{i}@1", OTHER_TASK, nowhere)


def test_parts_for_other_tasks_of_the_run_are_counted_and_those_for_none_of_them_named() -> None:
    items = [*(for_another_task(i, False) for i in range(5)), *(for_another_task(i, True) for i in (5, 6))]
    assert fold(items) == [
        f"net / faces / m5@1, m6@1: {OTHER_TASK}",
        "5 protocols and explainers for other tasks (--json lists them)",
    ]


def test_a_text_about_tasks_with_another_code_is_not_counted_among_them() -> None:
    reason = Reason(ReasonCode.NOT_APPLICABLE, 'metric "m@1" is for verification; net is pad')
    items = [Entry("net", "faces", "", f"m{i}@1", reason) for i in range(5)]
    assert fold(items) == [f"net / faces / 5 metrics: {reason} (--json lists them)"]


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
        assert reason == NO_TRUTH.detail
        models, datasets, _explainer, metrics = (part.split(", ") for part in where.split(" / "))
        found.extend(product(models, datasets, metrics))
    assert sorted(found) == sorted(wanted)
