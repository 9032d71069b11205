"""What a run will do, what cannot apply, which samples it uses, and what makes a command the same command."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faithface.contract import Face, Pair, Sample
from faithface.errors import UsageError
from faithface.plugins import Registry
from faithface.reasons import Reason, ReasonCode
from faithface.run.choice import choose
from faithface.run.plan import default_directory, make_plan
from faithface.run.request import Request, from_suite
from faithface.run.suite import Suite


def request(
    models: Any, datasets: Any, explainers: Any = ("random",), metrics: Any = ("entropy@1",), **more: Any
) -> Request:
    return Request(tuple(models), tuple(datasets), tuple(explainers), tuple(metrics), **more)


def face(name: str) -> Face:
    return Face(name, lambda: None)  # type: ignore[arg-type, return-value]


def test_every_model_meets_every_dataset_of_its_task_and_no_other(
    registry: Registry, pad_card: str, pair_card: str, folder: str, pairs: str
) -> None:
    plan = make_plan(request([pad_card, pair_card], [folder, pairs], ["random", "edges"]), registry)
    assert [(g.model.object.task, g.dataset.object.name, len(g.cells)) for g in plan.groups] == [
        ("pad", "folder", 2),
        ("verification", "pairs", 2),
    ]
    assert [cell.number for _, cell in plan.cells] == [0, 1, 2, 3]


def test_a_metric_for_one_task_is_not_applicable_to_the_other_with_a_reason(
    registry: Registry, pad_card: str, pair_card: str, folder: str, pairs: str
) -> None:
    plan = make_plan(request([pad_card, pair_card], [folder, pairs], metrics=["gap@1", "entropy@1"]), registry)
    pad, verification = (group.cells[0] for group in plan.groups)
    assert list(pad.metrics) == ["gap@1", "entropy@1"]
    assert not pad.not_applicable
    assert list(verification.metrics) == ["entropy@1"]
    assert verification.not_applicable["gap@1"] == Reason(
        ReasonCode.OTHER_TASK, "for pad, synthetic-detection only; the model is for verification"
    )


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        (["gap-similarity@1"], "for verification only"),
        (["relevance-mass@1"], "ground truth"),
        (["entropy@1", "training-stability@1"], "family"),
    ],
)
def test_a_metric_that_fits_nowhere_is_a_usage_error(
    registry: Registry, pad_card: str, folder: str, metrics: list[str], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        make_plan(request([pad_card], [folder], metrics=metrics), registry)


def test_an_explainer_that_fits_nowhere_is_a_usage_error(registry: Registry, pad_card: str, folder: str) -> None:
    with pytest.raises(UsageError, match="needs ground truth"):
        make_plan(request([pad_card], [folder], ["random", "oracle"]), registry)


def suite_of_both_tasks(**changes: Any) -> Request:
    """A suite for verification and PAD, with parts that fit one of them only, changed by options."""
    suite = Suite(
        name="both",
        version=1,
        models=("nobody-asks",),
        datasets=("nobody-asks",),
        explainers=("fggb", "random"),
        metrics=("gap-similarity-score@1", "gap@1", "entropy@1"),
    )
    return from_suite(suite, **changes)


def test_of_a_changed_suite_what_applies_nowhere_is_not_applicable_with_a_reason(
    registry: Registry, pad_card: str, folder: str
) -> None:
    plan = make_plan(suite_of_both_tasks(models=(pad_card,), datasets=(folder,)), registry)
    fggb, random = plan.groups[0].cells
    other_task = Reason(ReasonCode.OTHER_TASK, "for verification only; the model is for pad")
    assert fggb.reason == other_task
    assert not random.reason
    assert list(random.metrics) == ["gap@1", "entropy@1"]
    assert random.not_applicable == {"gap-similarity-score@1": other_task}


@pytest.mark.parametrize(
    ("named", "words"),
    [
        (
            {"explainers": ("fggb", "random")},
            '^explainer "fggb" is not applicable to tiny-pad-0 on folder:.*: for verification only; the model',
        ),
        (
            {"metrics": ("gap-similarity-score@1", "gap@1")},
            '^metric "gap-similarity-score@1" is not applicable to tiny-pad-0 on .*: for verification only',
        ),
    ],
)
def test_what_the_user_named_is_refused_if_it_fits_nowhere_though_a_suite_gave_the_rest(
    registry: Registry, pad_card: str, folder: str, named: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        make_plan(suite_of_both_tasks(models=(pad_card,), datasets=(folder,), **named), registry)


def test_a_suite_of_which_nothing_is_left_is_refused(registry: Registry, pad_card: str, folder: str) -> None:
    where = {"models": (pad_card,), "datasets": (folder,)}
    suite = Suite(name="s", version=1, explainers=("fggb",), metrics=("entropy@1", "gap-similarity-score@1"))
    with pytest.raises(UsageError, match=r'nothing of the suite is left to run: explainer "fggb" .*; give --explainer'):
        make_plan(from_suite(suite, **where), registry)
    with pytest.raises(UsageError, match=r"left to run: .*; give --explainer too"):
        make_plan(from_suite(suite, **where, metrics=("entropy@1",)), registry)
    with pytest.raises(
        UsageError, match=r"left to run: .*no metric applies; gap-similarity-score@1: for .*; give --metric too"
    ):
        make_plan(
            from_suite(suite.model_copy(update={"metrics": suite.metrics[1:]}), **where, explainers=("random",)),
            registry,
        )


def test_a_suite_as_it_is_must_fit_itself(registry: Registry, pad_card: str, folder: str) -> None:
    suite = Suite(
        name="s",
        version=1,
        models=(pad_card,),
        datasets=(folder,),
        explainers=("fggb", "random"),
        metrics=("entropy@1",),
    )
    with pytest.raises(UsageError, match=r'^explainer "fggb" is not applicable to .*: for verification only'):
        make_plan(from_suite(suite, limit=4), registry)


def test_a_model_without_a_dataset_of_its_task_is_a_usage_error(registry: Registry, pad_card: str, pairs: str) -> None:
    with pytest.raises(UsageError, match="is for pad; no such dataset was given"):
        make_plan(request([pad_card], [pairs]), registry)


@pytest.mark.parametrize("missing", ["models", "datasets", "explainers", "metrics"])
def test_a_request_without_one_of_its_lists_says_which(
    registry: Registry, pad_card: str, folder: str, missing: str
) -> None:
    lists: dict[str, Any] = {
        "models": [pad_card],
        "datasets": [folder],
        "explainers": ["random"],
        "metrics": ["entropy@1"],
    }
    with pytest.raises(UsageError, match=f"no {missing} to run; give at least one --{missing[:-1]}"):
        make_plan(request(**{**lists, missing: []}), registry)


def test_a_name_given_twice_is_one_cell_and_two_spellings_too(registry: Registry, pad_card: str, folder: str) -> None:
    texts = ["rise(masks=20)", "rise( masks = 20 )", "rise(masks=20,cells=8)"]
    plan = make_plan(request([pad_card], [folder], texts), registry)
    assert [cell.explainer.spec for _, cell in plan.cells] == ["rise(masks=20)"]


# --- which samples


def pairs_of(genuine: int, other: int, swaps: int) -> list[Pair]:
    kinds = [("", True)] * genuine + [("different", False)] * other + [("swap", False)] * swaps
    return [Pair(f"pair{i}", face(f"a{i}"), face(f"b{i}"), same, kind=kind) for i, (kind, same) in enumerate(kinds)]


def test_a_limit_takes_genuine_and_impostor_pairs_in_turn_and_within_them_each_kind() -> None:
    items = pairs_of(30, 60, 60)
    chosen = [items[i] for i in choose(items, 12, seed=0)]
    assert sum(p.same for p in chosen) == 6
    assert sorted(p.kind for p in chosen if not p.same) == ["different"] * 3 + ["swap"] * 3


def test_a_limit_takes_the_classes_in_turn() -> None:
    items = [Sample(f"s{i}", face(f"f{i}"), "rare" if i >= 96 else "common") for i in range(100)]
    chosen = [items[i] for i in choose(items, 20, seed=0)]
    assert [s.label for s in chosen].count("rare") == 4  # all there are
    assert len(chosen) == 20


@given(st.integers(1, 30), st.integers(0, 20), st.integers(0, 20), st.integers(0, 5), st.integers(1, 60), st.randoms())
def test_the_choice_is_nested_in_dataset_order_and_independent_of_the_order_of_files(
    genuine: int, other: int, swaps: int, seed: int, limit: int, random: Any
) -> None:
    items = pairs_of(genuine, other, swaps)
    chosen = choose(items, limit, seed)
    assert list(chosen) == sorted(set(chosen))
    assert len(chosen) == min(limit, len(items))
    assert set(chosen) <= set(choose(items, limit + 3, seed))
    shuffled = list(items)
    random.shuffle(shuffled)
    assert {items[i].id for i in chosen} == {shuffled[i].id for i in choose(shuffled, limit, seed)}


def test_another_seed_makes_another_choice() -> None:
    items = pairs_of(50, 50, 0)
    assert choose(items, 10, seed=0) != choose(items, 10, seed=1)


# --- identity


def test_the_same_command_finds_its_directory_and_any_other_does_not(
    registry: Registry, pad_card: str, folder: str
) -> None:
    def directory(**more: Any) -> str:
        return str(default_directory(make_plan(request([pad_card], [folder], **more), registry)))

    same = directory()
    assert same == directory()
    changed = [{"limit": 3}, {"seed": 1}, {"metrics": ["cost@1"]}, {"explainers": ["edges"]}, {"keep_maps": True}]
    others = [directory(**more) for more in changed]
    assert len({same, *others}) == len(changed) + 1
