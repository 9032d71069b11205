"""The curve metrics against the slow reference, image by image through the network."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from faithface import perturb
from faithface.contract import Dataset, Maps, Samples
from faithface.errors import NotApplicable, UsageError
from faithface.metrics.curves import METRICS
from faithface.model import open_model
from faithface.perturb.fills import fill_images
from faithface.perturb.linear import impute_linear
from faithface.perturb.ranking import tie_breaks
from faithface.reasons import ReasonCode
from faithface.specs import configure
from faithface.tasks import class_probabilities, pair_similarity
from tests.perturb.sets import class_set, load, pair_set
from tests.reference import curves as reference
from tests.support.applies import check
from tests.support.networks import tiny

SIZE = 16
BY_ID = {m.id: m for m in METRICS}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("curves")


@pytest.fixture(scope="module")
def classifier(folder):
    return open_model(tiny("cnn", "pad", folder, size=SIZE))


@pytest.fixture(scope="module")
def verifier(folder):
    return open_model(tiny("cnn", "verification", folder, size=SIZE))


def class_batch(model, n=3):
    samples = load(model, class_set(n, SIZE))
    return samples, Maps(relevance=random_maps((n, SIZE, SIZE)))


def pair_batch(model, n=4, threshold=None):
    first = load(model, pair_set(n, SIZE), threshold=0.0)
    # Halfway through the clean scores, so that decisions change along the curves.
    cut = float(first.clean.scores.median()) if threshold is None else threshold
    samples = load(model, pair_set(n, SIZE), threshold=cut)
    a, b = random_maps((n, 2, SIZE, SIZE), 1).abs(), random_maps((n, 2, SIZE, SIZE), 2).abs()
    return samples, Maps(similarity=a, dissimilarity=b)


def random_maps(shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def class_score(model, samples, i):
    def score(image):
        out = model.outputs(torch.from_numpy(image)[None].float())
        return float(class_probabilities(model.card, out)[0, samples.clean.predicted[i]])

    return score


def pair_score(model, samples, i):
    def score(image):
        out = model.embeddings(torch.from_numpy(image)[None].float())
        return float(pair_similarity(model.card, out[0], samples.clean.outputs[i, 1]))

    return score


def slow_curve(model, samples, i, direction, relevance, fill, grid, points):
    pairs = samples.are_pairs
    image = (samples.images[i, 0] if pairs else samples.images[i]).numpy()
    score = (pair_score if pairs else class_score)(model, samples, i)
    ties = tie_breaks(samples, grid * grid or SIZE * SIZE)[i]
    filled = fill_images(model, samples, fill)[i, 0].numpy()
    return reference.curve(direction, relevance.numpy(), image, filled, score, ties, grid, points)


@pytest.mark.parametrize(
    ("fill", "grid", "points"), [("blur", 0, 51), ("stranger", 4, 11), ("rise", 5, 51), ("black", 0, 7)]
)
def test_classifier_areas_and_gap_equal_the_slow_loop(classifier, fill, grid, points):
    samples, maps = class_batch(classifier)
    area = {}
    for direction, name in (("deletion", "deletion@1"), ("insertion", "insertion@1")):
        metric = type(BY_ID[name])(fill=fill, grid=grid, points=points)
        got = metric.score(classifier, samples, maps)
        slow = [slow_curve(classifier, samples, i, direction, maps.relevance[i], fill, grid, points) for i in range(3)]
        np.testing.assert_allclose(got.curves[direction], slow, atol=1e-5)
        area[direction] = np.array([reference.trapezoid(c) for c in slow])
        np.testing.assert_allclose(got.values[""], area[direction], atol=1e-5)
    gap = type(BY_ID["gap@1"])(fill=fill, grid=grid, points=points).score(classifier, samples, maps)
    np.testing.assert_allclose(gap.values[""], area["insertion"] - area["deletion"], atol=2e-5)


@pytest.mark.parametrize(
    ("kind", "form", "names"),
    [
        ("similarity", "decision", ("deletion-similarity@1", "insertion-similarity@1", "gap-similarity@1")),
        (
            "similarity",
            "score",
            ("deletion-similarity-score@1", "insertion-similarity-score@1", "gap-similarity-score@1"),
        ),
        ("dissimilarity", "decision", ("deletion-dissimilarity@1", "insertion-dissimilarity@1", "gap-dissimilarity@1")),
        (
            "dissimilarity",
            "score",
            ("deletion-dissimilarity-score@1", "insertion-dissimilarity-score@1", "gap-dissimilarity-score@1"),
        ),
    ],
)
def test_pair_areas_and_gaps_equal_the_slow_loop_with_their_default_fills(verifier, kind, form, names):
    everything, all_maps = pair_batch(verifier)
    metrics = {name.partition("-")[0]: BY_ID[name] for name in names}
    chosen = everything.where(metrics["gap"].judged_on)
    assert len(chosen) == 2
    samples, maps = everything.take(chosen), all_maps.take(chosen)
    area = {}
    for direction in ("deletion", "insertion"):
        fill = "stranger" if kind == "similarity" else "partner"
        slow = np.stack(
            [
                slow_curve(verifier, samples, i, direction, getattr(maps, kind)[i, 0], fill, 0, 51)
                for i in range(len(samples))
            ]
        )
        if form == "decision":
            slow = ((slow >= samples.threshold - 1e-5) == samples.genuine[:, None]).astype(float)
        got = metrics[direction].score(verifier, samples, maps)
        np.testing.assert_allclose(got.curves[direction], slow, atol=1e-5)
        area[direction] = np.array([reference.trapezoid(c) for c in slow])
        np.testing.assert_allclose(got.values[""], area[direction], atol=1e-5)
    sign = -1 if (kind, form) == ("dissimilarity", "score") else 1
    gap = metrics["gap"].score(verifier, samples, maps).values[""]
    np.testing.assert_allclose(gap, sign * (area["insertion"] - area["deletion"]), atol=2e-5)


def test_linear_fill_imputes_every_altered_image_with_the_samples_own_noise(classifier):
    samples, maps = class_batch(classifier, 2)
    got = perturb.curves(classifier, samples, maps, fill="linear", points=4, grid=4)
    for i in range(2):
        image, score = samples.images[i].numpy(), class_score(classifier, samples, i)
        units = reference.cells(SIZE, SIZE, 4)
        order = reference.ranked(
            np.array([np.mean([float(maps.relevance[i][p]) for p in u]) for u in units]), np.arange(16)
        )
        for j, count in enumerate([0, 5, 11, 16]):
            mask = np.zeros((SIZE, SIZE), dtype=bool)
            for unit in order[:count]:
                for p in units[unit]:
                    mask[p] = True
            deleted = score(impute_linear(image, mask, samples.rng(i, "linear")))
            inserted = score(impute_linear(image, ~mask, samples.rng(i, "linear")))
            assert got.scores["deletion"][i, j] == pytest.approx(deleted, abs=1e-5)
            assert got.scores["insertion"][i, j] == pytest.approx(inserted, abs=1e-5)


def test_alter_both_changes_each_image_by_its_own_map_at_the_same_fraction(verifier):
    samples, maps = pair_batch(verifier)
    got = perturb.curves(verifier, samples, maps, "similarity", "stranger", points=6, alter="both")
    fills = fill_images(verifier, samples, "stranger", sides=2).numpy()
    for i in range(len(samples)):
        ends = []
        for s, side in enumerate(("", "-b")):
            seen = []
            ties = tie_breaks(samples, SIZE * SIZE, side)[i]
            image, relevance = samples.images[i, s].numpy(), maps.similarity[i, s].numpy()
            reference.curve(
                "deletion", relevance, image, fills[i, s], lambda x, seen=seen: seen.append(x) or 0, ties, 0, 6
            )
            ends.append(verifier.embeddings(torch.from_numpy(np.stack(seen))))
        expected = pair_similarity(verifier.card, ends[0], ends[1])
        np.testing.assert_allclose(got.scores["deletion"][i], expected, atol=1e-5)


def test_pairs_parameter_chooses_the_pairs_and_the_direction_of_the_gap_stays_that_of_the_map(verifier):
    cls = type(BY_ID["gap-similarity@1"])
    assert [cls(pairs=p).judged_on for p in ("genuine", "impostor", "all")] == ["genuine", "impostor", "all"]
    assert type(BY_ID["gap-dissimilarity@1"])().judged_on == "impostor"
    samples, maps = pair_batch(verifier)
    found = cls(pairs="all", fill="black").score(verifier, samples, maps)
    area = {d: perturb.area(c) for d, c in found.curves.items()}
    np.testing.assert_allclose(found.values[""], area["insertion"] - area["deletion"])


@pytest.mark.parametrize("metric", METRICS, ids=lambda m: m.id)
@pytest.mark.parametrize("grid", [0, 5])
def test_values_stay_in_the_declared_range_and_name_their_curves(metric, grid, classifier, verifier):
    model, batch = (classifier, class_batch) if "pad" in metric.protocol.tasks else (verifier, pair_batch)
    samples, maps = batch(model)
    found = type(metric)(grid=grid).score(model, samples, maps)
    assert found.values[""].dtype == np.float64
    assert ((metric.range_on()[0] <= found.values[""]) & (found.values[""] <= metric.range_on()[1])).all()
    assert set(found.curves) == set(metric.row.directions)
    assert metric.best_on() in metric.range_on()


@pytest.mark.parametrize(
    "metric_id", ["gap@1", "gap-similarity@1", "gap-similarity-score@1", "gap-dissimilarity-score@1"]
)
@pytest.mark.parametrize("grid", [0, 4, 5, 7])
def test_inverting_a_map_without_ties_changes_the_sign_of_the_gap_and_nothing_else(
    metric_id, grid, classifier, verifier
):
    model, batch = (classifier, class_batch) if metric_id == "gap@1" else (verifier, pair_batch)
    samples, maps = batch(model)
    flipped = Maps(**{name: -m for name, m in maps.named().items()})
    metric = type(BY_ID[metric_id])(grid=grid)
    one, other = metric.score(model, samples, maps), metric.score(model, samples, flipped)
    np.testing.assert_allclose(one.values[""], -other.values[""], atol=1e-6)
    assert np.abs(one.values[""]).max() > 1e-4


def test_deleting_dissimilar_pixels_by_the_partners_ends_at_the_similarity_of_the_partner_to_itself(verifier):
    samples, maps = pair_batch(verifier)
    got = perturb.curves(verifier, samples, maps, "dissimilarity")
    np.testing.assert_allclose(got.scores["deletion"][:, -1], 1, atol=1e-5)
    np.testing.assert_allclose(got.scores["deletion"][:, 0], samples.clean.scores, atol=1e-6)


@pytest.mark.parametrize("fill", ["blur", "partner"])
def test_batches_of_1_and_32_and_loads_of_1_and_4_samples_agree(fill, folder, classifier, verifier):
    task, batch = ("verification", pair_batch) if fill == "partner" else ("pad", class_batch)
    found = []
    for batch_size in (1, 32):
        model = open_model(tiny("cnn", task, folder, size=SIZE), batch_size=batch_size)
        samples, maps = batch(model)
        found.append(perturb.curves(model, samples, maps, fill=fill).scores)
        one_by_one = [perturb.curves(model, samples.take([i]), maps.take([i]), fill=fill) for i in range(len(samples))]
        for direction, rows in found[-1].items():
            joined = np.concatenate([c.scores[direction] for c in one_by_one])
            np.testing.assert_allclose(joined, rows, atol=1e-5)
    for direction in found[0]:
        np.testing.assert_allclose(found[0][direction], found[1][direction], atol=1e-5)


def test_all_metrics_of_one_setting_cost_one_set_of_forward_passes(verifier):
    samples, maps = pair_batch(verifier)
    before = verifier.passes.forward
    for metric in METRICS:
        if "similarity" in metric.id and "dissimilarity" not in metric.id:
            type(metric)(pairs="all").score(verifier, samples, maps)
    assert verifier.passes.forward - before == len(samples) * (2 * 49 + 1)


def test_a_second_explainer_pays_for_its_masks_only_and_partner_costs_no_fill(verifier):
    samples, maps = pair_batch(verifier)
    perturb.curves(verifier, samples, maps, "similarity")
    before = verifier.passes.forward
    perturb.curves(verifier, samples, Maps(similarity=maps.dissimilarity), "similarity")
    assert verifier.passes.forward - before == len(samples) * 98
    before = verifier.passes.forward
    perturb.curves(verifier, samples, maps, "dissimilarity", directions=("deletion",))
    assert verifier.passes.forward - before == len(samples) * 49


def test_points_that_round_to_the_same_count_are_run_once(classifier):
    samples, maps = class_batch(classifier)
    before = classifier.passes.forward
    got = perturb.curves(classifier, samples, maps, grid=2, points=51)
    assert got.scores["deletion"].shape == (3, 51)
    assert classifier.passes.forward - before == 3 * (2 * 3 + 1)


def test_a_map_with_a_nan_or_infinity_is_invalid_with_a_reason_and_the_others_are_scored(classifier):
    samples, maps = class_batch(classifier)
    bad = maps.relevance.clone()
    bad[0, 3, 3], bad[2, 0, 0] = float("nan"), float("inf")
    got = BY_ID["gap@1"].score(classifier, samples, Maps(relevance=bad))
    good = BY_ID["gap@1"].score(classifier, samples, maps)
    assert np.isnan(got.values[""]).tolist() == [True, False, True]
    assert set(got.reasons) == {0, 2}
    assert got.values[""][1] == pytest.approx(good.values[""][1], abs=1e-6)


def test_a_batch_of_invalid_maps_only_has_reasons_and_no_values(verifier):
    samples, maps = pair_batch(verifier)
    broken = Maps(similarity=maps.similarity * float("nan"))
    got = type(BY_ID["gap-similarity@1"])(pairs="all").score(verifier, samples, broken)
    assert np.isnan(got.values[""]).all()
    assert len(got.reasons) == len(samples)


def test_a_constant_map_is_scored_and_flagged(classifier):
    samples, _ = class_batch(classifier)
    got = BY_ID["deletion@1"].score(classifier, samples, Maps(relevance=torch.ones(3, SIZE, SIZE)))
    assert np.isfinite(got.values[""]).all()
    assert {i: flag.code for i, flag in got.flags.items()} == dict.fromkeys(range(3), ReasonCode.CONSTANT_MAP)


def test_a_strictly_increasing_transform_of_the_map_moves_no_value(classifier):
    samples, maps = class_batch(classifier)
    stretched = Maps(relevance=torch.exp(2 * maps.relevance))
    for name in ("deletion@1", "insertion@1"):
        one, other = (BY_ID[name].score(classifier, samples, m).values[""] for m in (maps, stretched))
        np.testing.assert_array_equal(one, other)


def test_maps_of_the_wrong_kind_or_shape_are_refused_in_one_line(classifier):
    samples, _ = class_batch(classifier)
    with pytest.raises(UsageError, match="expected"):
        perturb.curves(classifier, samples, Maps(relevance=torch.zeros(3, SIZE, SIZE + 1)))
    with pytest.raises(UsageError, match='no "relevance"'):
        perturb.curves(classifier, samples, Maps(similarity=torch.zeros(3, 2, SIZE, SIZE)), kind="relevance")


def test_without_a_threshold_there_is_no_decision_but_a_similarity(verifier):
    samples, maps = pair_batch(verifier)
    bare = Samples(
        samples.items,
        samples.images,
        type(samples.clean)(samples.clean.outputs, samples.clean.scores, samples.clean.predicted),
        dataset=samples.dataset,
    )
    with pytest.raises(NotApplicable, match="threshold"):
        BY_ID["gap-similarity@1"].score(verifier, bare, maps)
    assert np.isfinite(BY_ID["gap-similarity-score@1"].score(verifier, bare, maps).values[""]).all()


@pytest.mark.parametrize("name", ["gap-similarity@1", "gap-dissimilarity@1"])
def test_an_unaligned_dataset_is_refused_before_the_run_starts(name, verifier):
    dataset = type(pair_set(2, SIZE))(is_aligned=False)
    with pytest.raises(NotApplicable, match="aligned"):
        check(BY_ID[name], verifier.card, dataset)
    check(type(BY_ID[name])(fill="blur"), verifier.card, dataset)


def test_a_task_that_does_not_fit_is_refused_before_the_run_starts(classifier):
    with pytest.raises(NotApplicable, match="verification"):
        check(BY_ID["gap-similarity@1"], classifier.card, class_set(2, SIZE))


@pytest.mark.parametrize("wrong", [{"grid": -1}, {"points": 1}])
def test_parameters_that_no_curve_can_have_are_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        type(BY_ID["gap@1"])(**wrong)


def test_curves_of_classifiers_judge_the_positive_class_unless_they_are_asked_for_another(classifier):
    samples, _ = class_batch(classifier)
    data = ThreeLabels()
    items = tuple(replace(item, label=label) for item, label in zip(samples.items, LABELS, strict=True))
    known = replace(samples, items=items, dataset=data)
    chosen = {which: known.where(type(BY_ID["gap@1"])(which=which).judged_on) for which in WHICH}
    assert {which: at.tolist() for which, at in chosen.items()} == {
        "positive": [0, 2],  # without a label, nothing says that it is of another class
        "negative": [1],
        "all": [0, 1, 2],
    }
    assert BY_ID["gap@1"].judged_on == BY_ID["deletion@1"].judged_on == "positive"
    # Without a dataset, or one that names no positive class, nothing is known to be negative.
    assert len(replace(known, dataset=None).where("positive")) == 3
    assert len(known.where("genuine")) == 3
    with pytest.raises(UsageError, match="expected one of"):
        configure(BY_ID["gap@1"], (("which", "bona-fide"),), "metric")


LABELS, WHICH = ("attack", "bona-fide", None), ("positive", "negative", "all")


class ThreeLabels(Dataset):
    name, task, classes, positive = "three", "pad", ("bona-fide", "attack"), "attack"

    def items(self):
        return ()
