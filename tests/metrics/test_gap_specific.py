"""gap-specific@1: the slow version, fixed maps at exactly 0, who the others are, what is kept, and bad input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from faithface.contract import Cache, Dataset, Explainer, Face, FaceModel, Maps, Method, Sample, Samples
from faithface.errors import NotApplicable
from faithface.loading import load_samples
from faithface.metrics import METRICS
from faithface.metrics._others import KeptMaps, circles
from faithface.metrics.gap_specific import GapSpecific
from faithface.model import open_model
from faithface.perturb import fill_images
from faithface.perturb.ranking import tie_breaks
from faithface.run.plan import choose
from faithface_plugins.explainers.controls import CentrePrior, RandomMap
from tests.metrics.toy_explainers import Brightness, Changed, Constant, Counting, Precomputed
from tests.metrics.toy_pairs import ToyPairs
from tests.reference.pairs_game import cosine
from tests.reference.specific import slow_gap, slow_others
from tests.support.applies import check
from tests.support.networks import faces, tiny

METRIC = GapSpecific(grid=5, points=6)


@dataclass(frozen=True)
class ToyClasses(Dataset):
    """n images, alternately bona fide and attack; two images in a row show one person."""

    n: int = 8
    name = "toy-classes"
    task = "pad"
    classes = ("bona-fide", "attack")
    positive = "attack"

    def items(self) -> Sequence[Sample]:
        made = faces(self.n, 16, 5)
        return [
            Sample(f"{self.classes[i % 2]}--{face.id}", Face(face.id, face.read, f"p{i // 4}"), self.classes[i % 2])
            for i, face in enumerate(made)
        ]


@dataclass(frozen=True)
class Sloped(Explainer):
    """The gradient's magnitude plus the image's brightness: no ties, and another map for every sample."""

    method = Method(name="toy-sloped")

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        views = samples.views()
        slope = model.gradient(views.images, views.target).abs().sum(dim=1) * 10 + views.images.sum(dim=1)
        if not samples.are_pairs:
            return Maps(relevance=slope - slope.mean())
        both = slope.unflatten(0, (len(samples), 2))
        return Maps(similarity=both, dissimilarity=both.square())


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> tuple[FaceModel, Samples]:
    model = open_model(tiny("arcface", "verification", tmp_path_factory.mktemp("m"), size=16))
    dataset = ToyPairs(n=10)
    return model, load_samples(model, dataset.items(), threshold=0.5, dataset=dataset)


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> tuple[FaceModel, Samples]:
    model = open_model(tiny("cnn", "pad", tmp_path_factory.mktemp("m"), size=16))
    dataset = ToyClasses(n=12)
    return model, load_samples(model, dataset.items(), dataset=dataset)


def run(metric: GapSpecific, model: FaceModel, samples: Samples, explainer: Explainer) -> np.ndarray:
    return metric.score(model, samples, explainer.explain(model, samples), explainer).values[""]


@pytest.mark.parametrize("which", ["pairs", "classes"])
def test_it_equals_the_slow_version(which: str, request: pytest.FixtureRequest) -> None:
    model, samples = request.getfixturevalue(which)
    got = METRIC.score(model, samples, Sloped().explain(model, samples), Sloped())
    items = samples.dataset.items()
    for i in (0, 1, 5, 6):
        one = samples.take([i])
        kind = "relevance" if which == "classes" else "similarity" if one.genuine[0] else "dissimilarity"
        fill = fill_images(
            model, one, {"relevance": "blur", "similarity": "stranger", "dissimilarity": "partner"}[kind]
        )
        probe = (one.images[0, 0] if which == "pairs" else one.images[0]).numpy().astype(np.float64)

        def score(image: np.ndarray, one: Samples = one) -> float:
            if which == "pairs":
                return cosine(model, image, one.images[0, 1].numpy().astype(np.float64))
            probabilities = model.scores(torch.from_numpy(image.astype(np.float32))[None])[0]
            return float(probabilities[int(one.clean.predicted[0])])

        gaps = []
        for item in [samples.items[i], *slow_others(items, samples.items[i], 2)]:
            alone = load_samples(model, [item], threshold=0.5 if which == "pairs" else None, dataset=samples.dataset)
            values = Sloped().explain(model, alone).named()[kind][0]
            values = values[0] if which == "pairs" else values
            ties = tie_breaks(one, 25)[0]
            gap = slow_gap(values.numpy(), probe, fill[0, 0].numpy(), score, ties, 5, 6)
            gaps.append(-gap if kind == "dissimilarity" else gap)
        assert got.values["own"][i] == pytest.approx(gaps[0], abs=2e-6)
        assert got.values["others"][i] == pytest.approx((gaps[1] + gaps[2]) / 2, abs=2e-6)
        assert got.values[""][i] == pytest.approx(gaps[0] - (gaps[1] + gaps[2]) / 2, abs=4e-6)
        assert abs(got.values[""][i]) > 1e-4  # so that the comparison above says something


@pytest.mark.parametrize("which", ["pairs", "classes"])
@pytest.mark.parametrize("explainer", [CentrePrior(), Constant()], ids=["centre-prior", "constant"])
@pytest.mark.parametrize("others", [2, 3])
def test_a_fixed_map_is_exactly_0(
    which: str, explainer: Explainer, others: int, request: pytest.FixtureRequest
) -> None:
    model, samples = request.getfixturevalue(which)
    got = GapSpecific(grid=5, points=6, others=others).score(
        model, samples, explainer.explain(model, samples), explainer
    )
    able = [i for i in range(len(samples)) if i not in got.reasons]
    assert len(able) > 3
    assert (got.values[""][able] == 0).all()
    assert np.abs(got.values["own"][able]).max() > 1e-3


def test_a_random_map_is_0_in_expectation(pairs: tuple[FaceModel, Samples]) -> None:
    model, samples = pairs
    drawn = []
    for seed in range(30):
        seeded = replace(samples, seed=seed, cache=Cache())
        drawn.append(run(METRIC, model, seeded, RandomMap()))
    means = np.array(drawn).mean(axis=1)
    assert means.std() > 1e-4
    assert abs(means.mean()) < 3 * means.std(ddof=1) / np.sqrt(len(means))


def test_the_own_gap_is_that_of_the_plain_metric(pairs: tuple[FaceModel, Samples]) -> None:
    model, samples = pairs
    for which, plain in (("genuine", "gap-similarity-score@1"), ("impostor", "gap-dissimilarity-score@1")):
        some = samples.take(samples.where(which))
        maps = Sloped().explain(model, some)
        metric = next(m for m in METRICS if m.id == plain)
        expected = replace(metric, grid=14, points=11).score(model, some, maps).values[""]
        got = GapSpecific().score(model, some, maps, Sloped()).values["own"]
        np.testing.assert_allclose(got, expected, atol=1e-6)


def test_maps_turned_upside_down_change_the_sign(pairs: tuple[FaceModel, Samples]) -> None:
    model, samples = pairs
    turned = Changed(Sloped(), lambda m: m.amax(dim=(-2, -1), keepdim=True) - m)
    np.testing.assert_allclose(run(METRIC, model, samples, turned), -run(METRIC, model, samples, Sloped()), atol=1e-6)


@pytest.mark.parametrize("which", ["pairs", "classes"])
def test_batch_and_order_do_not_matter(which: str, request: pytest.FixtureRequest) -> None:
    model, samples = request.getfixturevalue(which)
    whole = run(METRIC, model, samples, Sloped())
    for batch in ([7], [3, 0], [9, 8, 6, 5, 4, 2, 1]):
        model.cache.clear()
        threshold = samples.threshold
        items = [samples.items[i] for i in batch]
        loaded = load_samples(model, items, threshold=threshold, dataset=samples.dataset)
        np.testing.assert_allclose(run(METRIC, model, loaded, Sloped()), whole[batch], atol=2e-6)


def test_others_are_of_the_same_kind_show_other_people_and_serve_equally_often(
    pairs: tuple[FaceModel, Samples],
) -> None:
    model, samples = pairs
    ring = circles(model, samples.dataset, 0)
    served = []
    for item in samples:
        chosen = [ring.items[p] for p in ring.following(item, 2)]
        assert [c.id for c in chosen] == [c.id for c in slow_others(ring.items, item, 2)]
        assert all(c.same == item.same for c in chosen)
        served += [c.id for c in chosen]
    assert {served.count(item.id) for item in samples} == {2}
    assert served != [c.id for item in samples for c in slow_others(ring.items, item, 2, seed=1)]


def test_people_of_the_sample_are_passed_over(classes: tuple[FaceModel, Samples]) -> None:
    model, samples = classes
    ring = circles(model, samples.dataset, 0)
    for item in samples:
        chosen = [ring.items[p] for p in ring.following(item, 4)]
        assert len(chosen) == 4
        assert all(c.label == item.label and c.face.identity != item.face.identity for c in chosen)


def test_the_others_of_a_limited_run_are_in_it_or_next_to_it(pairs: tuple[FaceModel, Samples]) -> None:
    model, _ = pairs
    dataset = ToyPairs(n=40)
    items = dataset.items()
    ring = circles(model, dataset, 3)
    for limit in (12, 20):
        chosen = set(choose(items, limit, 3))
        met = {p for i in chosen for p in ring.following(items[i], 2)}
        # The circles of genuine and impostor pairs are left by two others each, those that follow the last.
        assert len(met - chosen) == 4


def test_each_other_is_explained_once_in_a_run(pairs: tuple[FaceModel, Samples]) -> None:
    model, samples = pairs
    model.cache.clear()
    counting = Counting(Sloped())
    for start in range(0, 10, 2):
        items = samples.items[start : start + 2]
        loaded = load_samples(model, items, threshold=0.5, dataset=samples.dataset)
        METRIC.score(model, loaded, Sloped().explain(model, loaded), counting)
    explained = [name for batch in counting.seen for name in batch.ids]
    assert sorted(explained) == sorted(samples.ids)


def test_maps_of_one_explainer_seed_or_threshold_do_not_serve_another(pairs: tuple[FaceModel, Samples]) -> None:
    model, samples = pairs
    model.cache.clear()
    alone = run(METRIC, model, samples, Brightness())
    run(METRIC, model, samples, Sloped())
    np.testing.assert_array_equal(run(METRIC, model, samples, Brightness()), alone)
    counting = Counting(Brightness())
    for changed in (samples, replace(samples, seed=1, cache=Cache()), samples):
        METRIC.score(model, changed, Brightness().explain(model, changed), counting)
    assert sum(len(batch) for batch in counting.seen) == 20


def test_what_is_kept_is_bounded_and_drops_what_was_not_asked_for_longest() -> None:
    kept = KeptMaps(capacity=3 * 400)
    for name in "abc":
        kept.put(name, torch.zeros(10, 10))
    assert kept.get("a") is not None
    kept.put("d", torch.ones(10, 10))
    assert len(kept) == 3
    assert kept.size == 1200
    assert kept.get("b") is None
    assert kept.get("d").sum() == 100  # type: ignore[union-attr]


def test_a_sample_without_enough_others_has_no_value(classes: tuple[FaceModel, Samples]) -> None:
    model, _ = classes
    dataset = ToyClasses(n=6)  # each class: two images of one person, one of another
    samples = load_samples(model, dataset.items(), dataset=dataset)
    got = METRIC.score(model, samples, Sloped().explain(model, samples), Sloped())
    finite = np.isfinite(got.values[""])
    np.testing.assert_array_equal(finite, [False] * 4 + [True] * 2)
    assert str(got.reasons[0]) == (
        '1 other sample of its kind ("bona-fide") without a person of this one; 2 are needed'
    )
    lonely = ToyClasses(n=1)
    one = load_samples(model, lonely.items(), dataset=lonely)
    none = METRIC.score(model, one, Sloped().explain(model, one), Sloped())
    assert "no other sample" in str(none.reasons[0])


def test_maps_that_are_not_finite_have_no_value_and_disturb_no_other_sample(pairs: tuple[FaceModel, Samples]) -> None:
    model, samples = pairs
    whole = run(METRIC, model, samples, Sloped())
    maps = Sloped().explain(model, samples)
    maps.similarity[0, 0, 3, 3] = float("nan")
    got = METRIC.score(model, samples, maps, Sloped())
    assert str(got.reasons[0]) == "the map is not finite"
    np.testing.assert_allclose(got.values[""][1:], whole[1:], atol=2e-6)
    broken = Changed(Sloped(), lambda m: torch.full_like(m, float("nan")))
    spoilt = METRIC.score(model, samples, Sloped().explain(model, samples), broken)
    assert {str(reason) for reason in spoilt.reasons.values()} == {"a map of another sample is not finite"}
    assert len(spoilt.reasons) == 10


def test_what_cannot_apply_is_refused(pairs: tuple[FaceModel, Samples], classes: tuple[FaceModel, Samples]) -> None:
    model, samples = pairs
    check(METRIC, model.card, ToyPairs(), Sloped())
    with pytest.raises(NotApplicable, match="needs aligned faces"):
        check(METRIC, model.card, ToyPairs(faces_aligned=False), Sloped())
    with pytest.raises(NotApplicable, match="explains altered images again"):
        check(METRIC, model.card, ToyPairs(), Precomputed())
    with pytest.raises(NotApplicable, match="partner"):
        check(GapSpecific(fill="partner"), classes[0].card, ToyClasses(), Sloped())
    bare = replace(samples, dataset=None, cache=Cache())
    maps = Sloped().explain(model, bare)
    with pytest.raises(NotApplicable, match="these belong to none"):
        METRIC.score(model, bare, maps, Sloped())
    for wrong in ({"others": 0}, {"grid": -1}, {"points": 1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            GapSpecific(**wrong)
