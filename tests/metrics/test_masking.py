"""confidence-drop@1, retention@1, average-drop@1, average-increase@1 and road@1 against their slow versions, and what
must hold for them: direction, ties, order, batches, invalid maps, and the passes that their pages state."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from faithface.contract import Cache, Dataset, Face, FaceModel, Maps, Sample, Samples
from faithface.errors import NotApplicable
from faithface.loading import load_samples, read_face
from faithface.metrics._top_share import TopShare, published_mask, published_shift, shift
from faithface.metrics.average_drop import AverageDrop
from faithface.metrics.average_increase import AverageIncrease
from faithface.metrics.confidence_drop import ConfidenceDrop
from faithface.metrics.retention import Retention
from faithface.metrics.road import Road
from faithface.model import open_model
from faithface.reasons import ReasonCode
from tests.metrics.made import codes
from tests.reference import masking as reference
from tests.support.applies import check
from tests.support.networks import sample_batch, tiny

PASSES = {ConfidenceDrop(): 2, Retention(): 2, AverageDrop(): 1, AverageIncrease(): 1, Road(): 19}
METRICS = [*list(PASSES)[:-1], Road(points=4)]


def some_maps(samples: Samples, seed: int = 0) -> Maps:
    """Return random maps without ties: positive for pairs, signed for classifiers."""
    generator = torch.Generator().manual_seed(seed)
    size = samples.images.shape[-2:]
    if not samples.are_pairs:
        return Maps(relevance=torch.randn(len(samples), *size, generator=generator))
    both = torch.rand(2, len(samples), 2, *size, generator=generator)
    return Maps(similarity=both[0], dissimilarity=both[1])


def asker(model: FaceModel, samples: Samples, index: int):
    """Return the slow version's view of the network: one image at a time, scores worked out in numpy."""
    clean = samples.clean

    def outputs(image):
        return model.outputs(torch.as_tensor(image)[None])[0].numpy()

    if not samples.are_pairs:
        return reference.class_asker(outputs, int(clean.predicted[index]))
    return reference.pair_asker(outputs, clean.outputs[index, 1].numpy(), clean.threshold, bool(clean.predicted[index]))


@pytest.fixture(params=["classifier", "verifier"])
def batch(request: pytest.FixtureRequest) -> tuple[FaceModel, Samples]:
    model, samples = request.getfixturevalue(request.param)
    return model, samples.take(samples.where("genuine"))


def probe(samples: Samples, index: int) -> np.ndarray:
    image = samples.images[index]
    return (image[0] if samples.are_pairs else image).numpy()


def judged(maps: Maps, index: int) -> np.ndarray:
    return (maps.similarity[index, 0] if maps.are_pairs else maps.relevance[index]).numpy()


@pytest.mark.parametrize(
    "metric",
    [
        ConfidenceDrop(),
        Retention(),
        ConfidenceDrop(share=0.4, grid=5),
        ConfidenceDrop(grid=0),
        Retention(share=0.4, grid=0),
    ],
    ids=repr,
)
def test_drops_and_flips_of_mask_and_control_equal_the_slow_version(batch, metric) -> None:
    model, samples = batch
    maps = some_maps(samples)
    scores = metric.score(model, samples, maps)
    for i in range(len(samples)):
        expected = reference.confidence_drop(
            asker(model, samples, i),
            probe(samples, i),
            judged(maps, i),
            shift(samples, i, 16, 16),
            metric.share,
            keep=isinstance(metric, Retention),
            grid=metric.grid,
        )
        got = [scores.values[name][i] for name in ("", "flips", "control", "control-flips")]
        np.testing.assert_allclose(got, expected, atol=1e-4)


def test_a_binary_map_and_the_same_blurred_remove_the_same_cells(batch) -> None:
    """Ties of a binary map do not scatter: whole cells are removed, as many as it covers, whatever blurs its edge."""
    model, samples = batch
    size = samples.images.shape[-2:]
    hard = torch.zeros(size)
    hard[4:8, 4:8] = 1  # a sixteenth of the image: one cell of a 4×4 grid
    soft = torch.nn.functional.avg_pool2d(hard[None, None], 3, 1, 1)[0, 0]
    found = []
    for one in (hard, soft):
        maps = one.expand(len(samples), *size)
        both = maps[:, None].expand(-1, 2, -1, -1)
        chosen = Maps(similarity=both, dissimilarity=both) if samples.are_pairs else Maps(relevance=maps)
        found.append(ConfidenceDrop(share=1 / 16, grid=4).score(model, samples, chosen).values[""])
    np.testing.assert_array_equal(*found)
    assert np.abs(found[0]).max() > 0


@pytest.mark.parametrize("toward", ["black", "mean"])
def test_average_drop_and_increase_equal_the_slow_version(batch, toward: str) -> None:
    model, samples = batch
    maps = some_maps(samples)
    colour = (0, 0, 0) if toward == "black" else model.card.input.mean * 3
    drop = AverageDrop(toward=toward).score(model, samples, maps)
    rise = AverageIncrease(toward=toward).score(model, samples, maps)
    if toward == "black" and not samples.are_pairs:
        assert set(rise.values[""]) == {0, 1}  # so that the comparison below sees both
    for i in range(len(samples)):
        expected = reference.average_drop(asker(model, samples, i), probe(samples, i), judged(maps, i), colour)
        got = drop.values[""][i], drop.values["absolute"][i], rise.values[""][i]
        np.testing.assert_allclose(got, expected, atol=1e-4)


def test_road_equals_the_slow_version(batch) -> None:
    model, samples = batch
    maps = some_maps(samples)
    scores = Road().score(model, samples, maps)
    for i in range(2):
        noise = 0.01 * samples.rng(i, "road").standard_normal((3, 16, 16))
        curves = reference.road(asker(model, samples, i), probe(samples, i), judged(maps, i), noise)
        np.testing.assert_allclose(scores.curves["morf"][i], curves[0], atol=1e-4)
        np.testing.assert_allclose(scores.curves["lerf"][i], curves[1], atol=1e-4)
        areas = [reference.trapezoid(curve) for curve in curves]
        names = ("morf", "lerf", "morf-decision", "lerf-decision")
        np.testing.assert_allclose([scores.values[name][i] for name in names], areas, atol=1e-4)
        assert scores.values[""][i] == pytest.approx(areas[1] - areas[0], abs=1e-4)


def test_each_costs_the_forward_passes_that_it_states(batch) -> None:
    model, samples = batch
    for metric, passes in PASSES.items():
        before = dataclasses.replace(model.passes)
        metric.score(model, samples, some_maps(samples))
        assert model.passes.forward - before.forward == passes * len(samples)
        assert model.passes.backward == before.backward
        assert str(passes) in metric.cost
    maps = some_maps(samples)
    before = model.passes.forward
    AverageDrop().score(model, samples, maps)
    AverageIncrease().score(model, samples, maps)
    assert model.passes.forward - before == len(samples)


def test_an_increasing_transform_of_the_map_moves_no_ranking_metric(batch) -> None:
    model, samples = batch
    maps = some_maps(samples)
    changed = Maps(**{name: torch.exp(value) for name, value in maps.named().items()})
    # Means of cells are not the same after a transform that is not linear; the order of pixels is.
    for metric in (ConfidenceDrop(grid=0), Retention(grid=0), Road(points=4)):
        one, other = metric.score(model, samples, maps), metric.score(model, samples, changed)
        for name in metric.protocol.value_names:
            np.testing.assert_array_equal(one.values[name], other.values[name])


def test_scaling_the_map_moves_nothing(batch) -> None:
    model, samples = batch
    maps = some_maps(samples)
    changed = Maps(**{name: value * 1e-3 for name, value in maps.named().items()})
    for metric in METRICS:
        one, other = metric.score(model, samples, maps), metric.score(model, samples, changed)
        np.testing.assert_allclose(one.values[""], other.values[""], atol=1e-6)


def test_values_do_not_depend_on_the_batch(batch) -> None:
    model, samples = batch
    maps = some_maps(samples)
    for metric in METRICS:
        whole = metric.score(model, samples, maps)
        for i in range(len(samples)):
            alone = metric.score(model, samples.take([i]), maps.take([i]))
            for name in metric.protocol.value_names:
                assert alone.values[name][0] == pytest.approx(whole.values[name][i], abs=1e-5)


def test_values_stay_in_the_stated_range(batch) -> None:
    model, samples = batch
    for metric in METRICS:
        values = metric.score(model, samples, some_maps(samples, 3)).values[""]
        assert (values >= metric.range_on()[0]).all()
        assert (values <= metric.range_on()[1]).all()


def test_invalid_maps_have_a_reason_and_spoil_no_other(batch) -> None:
    model, samples = batch
    whole = some_maps(samples)
    maps = some_maps(samples)
    (maps.similarity[1, 0] if maps.are_pairs else maps.relevance[1])[2, 3] = torch.nan
    for metric in METRICS:
        scores, expected = metric.score(model, samples, maps), metric.score(model, samples, whole)
        assert codes(scores.reasons) == {1: ReasonCode.NON_FINITE_MAP}
        for name in metric.protocol.value_names:
            assert np.isnan(scores.values[name][1])
            np.testing.assert_allclose(
                np.delete(scores.values[name], 1), np.delete(expected.values[name], 1), atol=1e-5
            )


def test_constant_maps_are_scored_by_the_samples_own_order_and_flagged(batch) -> None:
    model, samples = batch
    size = samples.images.shape[-2:]
    shape = (len(samples), 2, *size) if samples.are_pairs else (len(samples), *size)
    names = ("similarity", "dissimilarity") if samples.are_pairs else ("relevance",)
    low, high = ({name: torch.full(shape, level) for name in names} for level in (0.0, 0.7))
    for metric in METRICS:
        one, other = metric.score(model, samples, Maps(**low)), metric.score(model, samples, Maps(**high))
        assert np.isfinite(one.values[""]).all()
        np.testing.assert_array_equal(one.values[""], other.values[""])
        assert set(one.flags) == set(range(len(samples)))


def test_maps_and_images_are_not_written_to(batch) -> None:
    model, samples = batch
    maps = some_maps(samples)
    before = samples.images.clone(), {name: value.clone() for name, value in maps.named().items()}
    for metric in METRICS:
        metric.score(model, samples, maps)
    assert torch.equal(samples.images, before[0])
    assert all(torch.equal(value, before[1][name]) for name, value in maps.named().items())


# --- a linear model, where the right answer is known ---------------------------------------------------------------


@pytest.fixture(scope="session")
def linear_case(tiny_folder):
    """A linear two-class model at 4×4, images of noise, and the exact weight of each value in the decision's logit."""
    model = open_model(tiny("linear", "pad", tiny_folder, size=4))
    noise = np.random.default_rng(5).random((6, 4, 4, 3), dtype=np.float32)
    items = [Sample(f"noise{i}", Face(f"noise{i}", lambda i=i: noise[i]), "attack") for i in range(6)]
    samples = load_samples(model, items)
    at_zero = model.outputs(torch.zeros(1, 3, 4, 4))
    basis = torch.eye(48).reshape(48, 3, 4, 4)
    weights = (model.outputs(basis) - at_zero).T.reshape(2, 3, 4, 4)
    margin = weights[samples.clean.predicted] - weights[1 - samples.clean.predicted]
    return model, samples, margin


def test_on_a_linear_model_no_mask_of_its_size_beats_the_exact_contributions(linear_case) -> None:
    from itertools import combinations

    model, samples, margin = linear_case
    exact = (margin * samples.images).sum(dim=1)
    share = 3 / 16
    for metric, sign in ((ConfidenceDrop(share=share, grid=0), 1), (Retention(share=share, grid=0), -1)):
        best = metric.score(model, samples, Maps(relevance=exact)).values[""]
        masks = torch.zeros(560, 4 * 4)
        for row, places in enumerate(combinations(range(16), 3)):
            masks[row, list(places)] = 1
        for i in range(len(samples)):
            tried = samples.take([i] * len(masks))
            every = metric.score(model, tried, Maps(relevance=masks.reshape(-1, 4, 4))).values[""]
            assert (sign * best[i] >= sign * every - 1e-6).all()
            assert (sign * best[i] > sign * every.mean()).all()


def test_on_a_linear_model_exact_beats_random_beats_inverted(linear_case) -> None:
    model, samples, margin = linear_case
    exact = (margin * samples.images).sum(dim=1)
    random = torch.rand(exact.shape, generator=torch.Generator().manual_seed(0))
    for metric in (ConfidenceDrop(share=0.25, grid=4), Retention(share=0.25, grid=4)):
        sign = 1 if metric.protocol.better == "higher" else -1
        good, chance, bad = (
            sign * metric.score(model, samples, Maps(relevance=m)).values[""].mean() for m in (exact, random, -exact)
        )
        assert good > chance > bad


def test_on_a_linear_model_road_prefers_what_differs_from_its_surroundings(linear_case) -> None:
    model, samples, margin = linear_case
    # Imputation brings a pixel back to about the mean: what is lost is the weight times the distance from it.
    away = (margin * (samples.images - samples.images.mean(dim=(2, 3), keepdim=True))).sum(dim=1)
    random = torch.rand(away.shape, generator=torch.Generator().manual_seed(0))
    good, chance, bad = (
        Road().score(model, samples, Maps(relevance=m)).values[""].mean() for m in (away, random, -away)
    )
    assert good > chance > bad


@given(st.integers(0, 1000))
@settings(max_examples=3, deadline=None)
def test_road_changes_its_sign_when_the_map_is_inverted(linear_case, seed: int) -> None:
    model, samples, _ = linear_case
    maps = torch.randn(len(samples), 4, 4, generator=torch.Generator().manual_seed(seed))
    up = Road().score(model, samples, Maps(relevance=maps))
    down = Road().score(model, samples, Maps(relevance=-maps))
    np.testing.assert_allclose(up.values[""], -down.values[""], atol=1e-6)
    np.testing.assert_allclose(up.values["morf"], down.values["lerf"], atol=1e-6)


def test_a_map_of_ones_but_one_pixel_is_nearly_perfect_for_average_drop(linear_case) -> None:
    model, samples, margin = linear_case
    exact = (margin * samples.images).sum(dim=1)
    maps = torch.ones_like(exact)
    least = exact.flatten(1).argmin(dim=1)
    maps.flatten(1)[torch.arange(len(maps)), least] = 0
    drop = AverageDrop().score(model, samples, Maps(relevance=maps)).values[""]
    worse = AverageDrop().score(model, samples, Maps(relevance=1 - maps)).values[""]
    assert drop.mean() < 0.05 < worse.mean()


def test_an_increase_by_a_rounding_is_none(classifier) -> None:
    model, samples = classifier
    maps = torch.ones(len(samples), 16, 16)
    maps[:, 0, 0] = 1 - 1e-7
    maps[:, 0, 1] = 0
    dark = dataclasses.replace(samples, images=samples.images.clone())
    dark.images[:, :, 0, :2] = 0  # hiding these pixels changes nothing
    scores = model.scores(dark.images)
    clean = dataclasses.replace(samples.clean, scores=scores.max(1).values - 1e-7, predicted=scores.argmax(1))
    dark = dataclasses.replace(dark, clean=clean, cache=Cache())
    assert AverageIncrease().score(model, dark, Maps(relevance=maps)).values[""].tolist() == [0.0] * len(samples)


# --- the published reading of Ensemble-CAM -------------------------------------------------------------------------


def test_the_published_mask_is_the_stretched_top_tenth_and_dilates_a_little() -> None:
    shares = []
    for seed in range(20):
        small = torch.rand(1, 1, 7, 7, generator=torch.Generator().manual_seed(seed))
        large = torch.nn.functional.interpolate(small, size=(224, 224), mode="bilinear")[0, 0].numpy()
        same = published_mask(large, 0.10, (224, 224))
        np.testing.assert_array_equal(same, large >= np.percentile(large, 90))
        shares.append(published_mask(large, 0.10, (300, 400)).mean())
    assert 0.104 < np.mean(shares) < 0.112


def test_the_published_mask_keeps_ties_and_is_empty_for_a_constant_map() -> None:
    tied = np.zeros((10, 10))
    tied[:4] = 1
    assert published_mask(tied, 0.10, (10, 10)).sum() == 40
    assert published_mask(np.full((10, 10), 0.3), 0.10, (10, 10)).sum() == 0


def test_the_published_shift_is_that_of_numpy_seeded_with_42() -> None:
    np.random.seed(42)  # noqa: NPY002
    expected = np.random.randint(-100, 100), np.random.randint(-80, 80)  # noqa: NPY002
    assert published_shift(100, 80) == expected


@pytest.mark.parametrize(
    "metric", [ConfidenceDrop(grid=0, reading="published"), Retention(grid=0, reading="published")]
)
def test_the_published_reading_alters_the_image_at_its_own_size(classifier, metric) -> None:
    model, samples = classifier
    pixels = [np.random.default_rng(i).random((40, 30, 3), dtype=np.float32) for i in range(4)]
    items = tuple(
        dataclasses.replace(item, face=Face(f"large{i}", lambda i=i: pixels[i])) for i, item in enumerate(samples.items)
    )
    large = load_samples(model, items)
    maps = some_maps(large)
    scores = metric.score(model, large, maps)
    for i in range(4):
        mask = published_mask(maps.relevance[i].numpy(), 0.10, (40, 30))
        assert 0.05 < mask.mean() < 0.5
        ask = asker(model, large, i)
        before = ask(large.images[i].numpy())[0]
        for name, where in (("", mask), ("control", reference.shifted(mask, *published_shift(40, 30)))):
            gone = ~where if isinstance(metric, Retention) else where
            black = Face("black", lambda gone=gone, i=i: np.where(gone[..., None], np.float32(0), pixels[i]))
            after = ask(read_face(black, model.size).numpy())[0]
            assert scores.values[name][i] == pytest.approx(before - after, abs=1e-4)


def test_the_published_reading_fills_with_black_only() -> None:
    with pytest.raises(ValueError, match="fills with black"):
        ConfidenceDrop(grid=0, reading="published", fill="blur")


# --- parameters, edges and refusals --------------------------------------------------------------------------------


def test_the_control_is_never_the_mask_itself(classifier) -> None:
    _, samples = classifier
    many = samples.take([0, 1, 2, 3])
    assert {shift(many, i, 1, 2) for i in range(4)} == {(0, 1)}
    assert shift(many, 0, 1, 1) == (0, 0)


def test_another_fill_gives_another_drop(classifier) -> None:
    model, samples = classifier
    maps = some_maps(samples)
    values = [ConfidenceDrop(fill=fill).score(model, samples, maps).values[""] for fill in ("black", "mean", "blur")]
    assert not np.allclose(values[0], values[1])
    assert not np.allclose(values[1], values[2])


def test_a_stranger_is_refused_where_faces_are_not_aligned(classifier) -> None:
    class Askew(Dataset):
        name = "askew"
        task = "pad"
        aligned = False

        def items(self):
            return []

    model, _ = classifier
    with pytest.raises(NotApplicable, match="aligned"):
        check(ConfidenceDrop(fill="stranger"), model.card, Askew())
    check(ConfidenceDrop(), model.card, Askew())


def test_a_clean_score_that_is_not_positive_has_no_relative_drop(verifier) -> None:
    model, samples = verifier
    outputs = samples.clean.outputs.clone()
    outputs[0, 1] = -outputs[0, 0]
    similarity = samples.clean.scores.clone()
    similarity[0] = -1
    clean = dataclasses.replace(samples.clean, outputs=outputs, scores=similarity)
    odd = dataclasses.replace(samples, clean=clean, cache=Cache())
    scores = AverageDrop().score(model, odd, some_maps(odd))
    assert np.isnan(scores.values[""][0])
    assert codes(scores.reasons) == {0: ReasonCode.UNDEFINED}
    assert np.isfinite(AverageIncrease().score(model, odd, some_maps(odd)).values[""]).all()


def test_without_a_threshold_drops_have_values_and_flips_a_reason(verifier) -> None:
    model, samples = verifier
    odd = dataclasses.replace(samples, clean=dataclasses.replace(samples.clean, threshold=None), cache=Cache())
    for metric, named in ((ConfidenceDrop(), "flips"), (Road(points=3), "morf-decision")):
        scores = metric.score(model, odd, some_maps(odd))
        assert np.isfinite(scores.values[""]).all()
        assert np.isnan(scores.values[named]).all()
        assert set(scores.reasons) == set(range(len(odd)))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ConfidenceDrop(share=0.0), "share is 0.0"),
        (lambda: Retention(share=1.0), "share is 1.0"),
        (lambda: Retention(reading="published"), "got grid=14"),
        (lambda: Road(points=1), "points is 1"),
        (lambda: Road(noise=-0.1), "noise is -0.1"),
        (lambda: Road(grid=-2), "grid is -2"),
    ],
)
def test_impossible_parameters_are_refused(make, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


def test_one_pixel_images_are_scored(tiny_folder) -> None:
    model = open_model(tiny("linear", "pad", tiny_folder, size=1))
    samples = sample_batch(model, 2)
    maps = Maps(relevance=torch.ones(2, 1, 1))
    for metric in METRICS:
        if isinstance(metric, TopShare):
            metric = dataclasses.replace(metric, grid=1)
        scores = metric.score(model, samples, maps)
        assert np.isfinite(scores.values[""]).all()
        assert set(scores.flags) == {0, 1}
