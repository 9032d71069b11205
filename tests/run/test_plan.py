"""What a run will do, what cannot apply, which samples it uses, and what makes a command the same command."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faithface.contract import Face, Pair, Sample
from faithface.errors import UsageError
from faithface.plugins import Registry
from faithface.run.paths import safe, short
from faithface.run.plan import Request, choose, default_directory, from_suite, make_plan
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


def test_a_metric_that_fits_one_task_is_left_out_of_the_other_with_a_reason(
    registry: Registry, pad_card: str, pair_card: str, folder: str, pairs: str
) -> None:
    plan = make_plan(request([pad_card, pair_card], [folder, pairs], metrics=["gap@1", "entropy@1"]), registry)
    pad, verification = (group.cells[0] for group in plan.groups)
    assert list(pad.metrics) == ["gap@1", "entropy@1"]
    assert not pad.skipped
    assert list(verification.metrics) == ["entropy@1"]
    assert "verification" in verification.skipped["gap@1"]


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        (["gap-similarity@1"], "is for verification"),
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


def test_of_a_changed_suite_what_fits_nowhere_is_left_out_with_a_reason(
    registry: Registry, pad_card: str, folder: str
) -> None:
    plan = make_plan(suite_of_both_tasks(models=(pad_card,), datasets=(folder,)), registry)
    fggb, random = plan.groups[0].cells
    assert fggb.reason == 'explainer "fggb" is for verification; tiny-pad-0 is pad'
    assert not random.reason
    assert list(random.metrics) == ["gap@1", "entropy@1"]
    assert random.skipped == {
        "gap-similarity-score@1": 'metric "gap-similarity-score@1" is for verification; tiny-pad-0 is pad'
    }


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({"explainers": ("fggb", "random")}, '^explainer "fggb" is for verification; tiny-pad-0 is pad$'),
        ({"metrics": ("gap-similarity-score@1", "gap@1")}, '^metric "gap-similarity-score@1" is for verification; t'),
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
    with pytest.raises(UsageError, match=r'left to run: metric "gap-similarity-score@1" .*; give --metric too'):
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
    with pytest.raises(UsageError, match=r'^explainer "fggb" is for verification'):
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


# --- identity and paths


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


@given(st.text(min_size=1, max_size=200))
@settings(max_examples=60)
def test_a_safe_name_is_one_part_of_a_path(text: str) -> None:
    name = safe(text)
    assert name
    assert "/" not in name
    assert "\\" not in name
    assert "\x00" not in name
    assert ":" not in name
    assert name not in (".", "..")
    assert not name.startswith((".", "-", " "))
    assert len(name.encode()) < 255


def test_different_texts_have_different_safe_names() -> None:
    texts = ["pairs:a/pairs.csv@x", "pairs:b/pairs.csv@x", "pairs-a", "rise(masks=2)", "rise(masks=3)", "inverted:rise"]
    assert len({safe(t) for t in texts}) == len(texts)
    assert safe("rise(masks=2)") == "rise(masks=2)"


@pytest.mark.parametrize(
    ("spec", "published"),
    [
        ("pairs:/home/me/faces/pairs.csv@/home/me/150", "pairs:pairs.csv@150"),
        ("folder:../faces/", "folder:faces"),
        ("inverted:rise(masks=20)", "inverted:rise(masks=20)"),
        ("deletion@1(fill=black,grid=14)", "deletion@1(fill=black,grid=14)"),
        ("folder:faces(human=/secret/masks)", "folder:faces(human=masks)"),
    ],
)
def test_a_published_name_holds_no_folders(spec: str, published: str) -> None:
    assert short(spec) == published
