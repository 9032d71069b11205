"""The controls: random, centre prior, edges, inverted, oracle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from skimage import filters

from faithface.contract import Cache, Explainer, Maps, Method
from faithface.errors import NotApplicable, UsageError
from faithface.metrics.entropy import Entropy
from faithface.reasons import ReasonCode
from faithface.run.shard import CellWork, check_maps, run_cell
from faithface_plugins.explainers.controls import CentrePrior, Edges, Inverted, Oracle, RandomMap, sobel


def test_random_depends_on_seed_and_sample_only(opened: Callable[..., Any]) -> None:
    model, samples = opened("cnn", n=3)
    maps = RandomMap().explain(model, samples).relevance
    brighter = replace(samples, images=samples.images * 0.5, cache=Cache())
    assert torch.equal(maps, RandomMap().explain(model, brighter).relevance)
    assert torch.equal(maps[2:], RandomMap().explain(model, samples.take([2])).relevance)
    assert not torch.equal(maps, RandomMap().explain(model, replace(samples, seed=1, cache=Cache())).relevance)


def test_random_maps_of_a_pair_are_independent_of_each_other(opened: Callable[..., Any]) -> None:
    model, samples = opened("cnn", "verification", n=2)
    maps = RandomMap().explain(model, samples)
    rows = torch.cat([m.flatten(2).flatten(0, 1) for m in (maps.similarity, maps.dissimilarity)]).numpy()
    off_diagonal = np.corrcoef(rows) - np.eye(8)
    assert np.abs(off_diagonal).max() < 0.12  # 1024 pixels: standard deviation 0.03
    assert rows.mean() == pytest.approx(0.5, abs=0.013)  # four standard errors of 8,192 uniform numbers


def test_random_cells_are_constant_within_and_differ_between(opened: Callable[..., Any]) -> None:
    model, samples = opened("cnn", n=1)
    cells = RandomMap(grid=4).explain(model, samples).relevance[0].unfold(0, 8, 8).unfold(1, 8, 8).flatten(2)
    assert (cells.amax(2) == cells.amin(2)).all()
    assert len(cells[..., 0].unique()) == 16


def test_centre_prior_is_the_stated_hill_symmetric_and_highest_in_the_middle(opened: Callable[..., Any]) -> None:
    model, samples = opened("cnn", n=1)
    hill = CentrePrior(sigma=0.2).explain(model, samples).relevance[0].numpy()
    for y, x in [(0, 0), (3, 17), (16, 15)]:
        distance = ((y + 0.5) / 32 - 0.5) ** 2 + ((x + 0.5) / 32 - 0.5) ** 2
        assert hill[y, x] == pytest.approx(np.exp(-distance / (2 * 0.2**2)), rel=1e-5)
    np.testing.assert_allclose(hill, hill[::-1, ::-1], rtol=1e-5)
    assert hill.max() == hill[15:17, 15:17].max()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_edges_are_skimages_sobel_of_the_luminance(seed: int) -> None:
    image = np.random.default_rng(seed).random((11, 14, 3), dtype=np.float32)
    found = sobel(torch.from_numpy(image.transpose(2, 0, 1).copy())[None])[0]
    grey = image @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    np.testing.assert_allclose(found, filters.sobel(grey), atol=1e-6)


@pytest.mark.parametrize("explainer", [CentrePrior(), Edges()], ids=lambda e: e.name)
def test_controls_without_an_opinion_say_the_same_twice(opened: Callable[..., Any], explainer: Any) -> None:
    model, samples = opened("cnn", "verification")
    maps = explainer.explain(model, samples)
    assert torch.equal(maps.similarity, maps.dissimilarity)
    assert maps.similarity.std() > 0


@pytest.mark.parametrize("task", ["pad", "verification"])
def test_inverted_reverses_the_order_of_each_face_and_stays_nonnegative(opened: Callable[..., Any], task: str) -> None:
    model, samples = opened("cnn", task)
    inner = RandomMap()
    turned = Inverted().with_argument("random", {"random": inner}.__getitem__)
    straight, upside_down = inner.explain(model, samples), turned.explain(model, samples)
    for kind, maps in straight.named().items():
        for one, other in zip(maps.flatten(0, -3), upside_down.named()[kind].flatten(0, -3), strict=True):
            assert spearmanr(one.flatten(), other.flatten()).statistic == pytest.approx(-1)
            assert other.min() == 0


def test_inverted_takes_over_what_is_true_of_the_other_explainer(opened: Callable[..., Any]) -> None:
    turned = Inverted().with_argument("random(grid=7)", lambda text: {"random(grid=7)": RandomMap(grid=7)}[text])
    assert turned.name == "inverted:random(grid=7)"
    assert turned.info.seeded
    assert turned.info.needs == frozenset()


def test_inverted_turns_the_native_map_too(opened: Callable[..., Any]) -> None:
    class Fixed(Explainer):
        method = Method(
            name="fixed",
        )

        def explain(self, model: Any, samples: Any) -> Maps:
            native = torch.tensor([[[0.0, 2.0], [1.0, 0.5]]])
            return Maps(relevance=native.repeat_interleave(16, 1).repeat_interleave(16, 2), native=native)

    model, samples = opened("cnn", n=1)
    maps = Inverted().with_argument("fixed", lambda _: Fixed()).explain(model, samples)
    assert maps.native.tolist() == [[[2.0, 0.0], [1.0, 1.5]]]


def test_inverted_alone_is_refused(opened: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match="inverted:NAME"):
        Inverted().explain(*opened("cnn"))


def test_oracle_shows_the_ground_truth_resized_by_area(opened: Callable[..., Any]) -> None:
    model, samples = opened("cnn", n=1)
    mask = np.zeros((64, 64), dtype=bool)
    mask[:32, :31] = True
    known = replace(samples, items=(replace(samples.items[0], truth={"relevance": lambda: mask}),), cache=Cache())
    found = Oracle().explain(model, known).relevance[0]
    assert found[:16, :15].min() == 1
    assert found[0, 15] == pytest.approx(0.5)
    assert found[16:].max() == 0


def test_oracle_of_a_pair_gives_zeros_for_the_map_that_has_no_truth(opened: Callable[..., Any]) -> None:
    model, samples = opened("cnn", "verification", n=2)
    mask = np.zeros((2, 32, 32), dtype=bool)
    mask[0, 3], mask[1, 5] = True, True
    items = tuple(
        replace(item, truth={kind: lambda: mask})
        for item, kind in zip(samples.items, ("similarity", "dissimilarity"), strict=True)
    )
    maps = Oracle().explain(model, replace(samples, items=items, cache=Cache()))
    expected = torch.from_numpy(mask.astype(np.float32))
    assert torch.equal(maps.similarity, torch.stack([expected, torch.zeros(2, 32, 32)]))
    assert torch.equal(maps.dissimilarity, torch.stack([torch.zeros(2, 32, 32), expected]))


def test_a_sample_whose_truth_is_empty_has_no_oracle_and_a_reason(opened: Callable[..., Any]) -> None:
    model, samples = opened("cnn", n=3)
    masks = [np.zeros((32, 32), dtype=bool) for _ in range(3)]
    masks[0][4:9, 4:9] = masks[2][3, 3] = True
    items = tuple(
        replace(item, truth={"relevance": lambda mask=mask: mask})
        for item, mask in zip(samples.items, masks, strict=True)
    )
    known = replace(samples, items=items, cache=Cache())
    maps = Oracle().explain(model, known)
    assert list(maps.absent) == [1]
    assert check_maps(maps, known) == {1: maps.absent[1]}
    assert maps.absent[1].code is ReasonCode.NO_GROUND_TRUTH
    assert list(maps.take([2, 1]).absent) == [1]
    turned = Inverted().with_argument("oracle", lambda _: Oracle()).explain(model, known)
    assert check_maps(turned, known) == {1: maps.absent[1]}
    result = run_cell(model, known, CellWork(0, Oracle(), {"entropy@1": Entropy()}), 0)
    assert {value.sample: value.reason for value in result.values} == {
        known.ids[0]: None,
        known.ids[1]: maps.absent[1],
        known.ids[2]: None,
    }


def test_a_pair_has_no_oracle_if_its_own_kind_of_truth_marks_nothing(opened: Callable[..., Any]) -> None:
    model, samples = opened("cnn", "verification", n=4)
    mask, nothing = np.ones((2, 32, 32), dtype=bool), np.zeros((2, 32, 32), dtype=bool)
    assert samples.genuine.tolist() == [True, False, True, False]
    truths = [{"similarity": mask}, {"similarity": mask}, {"similarity": nothing}, {"dissimilarity": mask}]
    items = tuple(
        replace(item, truth={kind: lambda one=one: one for kind, one in truth.items()})
        for item, truth in zip(samples.items, truths, strict=True)
    )
    maps = Oracle().explain(model, replace(samples, items=items, cache=Cache()))
    assert sorted(maps.absent) == [1, 2]


@pytest.mark.parametrize("task", ["pad", "verification"])
def test_oracle_without_ground_truth_is_not_applicable(opened: Callable[..., Any], task: str) -> None:
    with pytest.raises(NotApplicable, match=r"it has: none"):
        Oracle().explain(*opened("cnn", task))


@pytest.mark.parametrize(("made", "wrong"), [(RandomMap, {"grid": -1}), (CentrePrior, {"sigma": 0.0})])
def test_parameters_out_of_range_are_refused(made: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        made(**wrong)
