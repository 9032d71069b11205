"""part-swap@1: the slow version, fixed maps at exactly 0, oracle and faults, where the parts lie, and bad input."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from faithface.contract import Cache, Explainer, FaceModel, Maps, Method, Samples
from faithface.errors import NotApplicable, UsageError
from faithface.loading import load_samples
from faithface.metrics.part_swap import PARTS, PartSwap, part_masks, shares, soft_edges, swapped_pairs
from faithface.model import open_model
from faithface.perturb import fill_images
from faithface_plugins.datasets.planted import keys, sample_identities, sample_nuisance
from faithface_plugins.datasets.planted import part_masks as planted_masks
from faithface_plugins.datasets.planted.datasets import PlantedVerification
from faithface_plugins.explainers.controls import CentrePrior, Oracle, RandomMap
from tests.metrics.toy_explainers import Brightness, Changed, Constant, Counting, Gradient, Precomputed
from tests.metrics.toy_pairs import ToyPairs
from tests.reference.specific import slow_part_swap
from tests.support.applies import check
from tests.support.networks import tiny

METRIC = PartSwap()
FACE = ((0.36, 0.44), (0.64, 0.44), (0.5, 0.6), (0.4, 0.75), (0.6, 0.75))


@dataclass(frozen=True)
class Faces(ToyPairs):
    """Toy pairs whose blobs stand where ``landmarks`` put the parts of a face."""

    aligned_landmarks = FACE


@dataclass(frozen=True)
class Differs(Explainer):
    """Where a toy pair's two faces differ, or agree, pixel by pixel; genuine ones are dimmed to four fifths."""

    method = Method(name="toy-differs")

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        apart = (samples.images[:, 0] * 0.8 - samples.images[:, 1]).abs().sum(dim=1)
        both = torch.stack([apart, apart], dim=1)
        return Maps(similarity=(-20 * both).exp(), dissimilarity=both)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> tuple[FaceModel, Samples]:
    model = open_model(tiny("linear", "verification", tmp_path_factory.mktemp("m"), size=24))
    dataset = Faces(n=8, size=24)
    return model, load_samples(model, dataset.items(), threshold=0.5, dataset=dataset)


def score(model: FaceModel, samples: Samples, explainer: Explainer, metric: PartSwap = METRIC):
    unused = torch.zeros((len(samples), 2, *model.size))
    return metric.score(model, samples, Maps(similarity=unused, dissimilarity=unused), explainer)


def test_it_equals_the_slow_version_pair_by_pair(pairs: tuple[FaceModel, Samples]) -> None:
    model, samples = pairs
    masks = part_masks(model.size, METRIC.chosen, FACE)
    got = score(model, samples, Brightness())
    compared = 0
    for i in range(4):
        one = samples.take([i])
        if i in got.reasons:
            continue
        stranger = fill_images(model, one, "stranger")[0, 0].numpy().astype(np.float64)
        value, inside = slow_part_swap(model, one, Brightness(), stranger, masks)
        assert got.values[""][i] == pytest.approx(value, abs=1e-6)
        assert got.values["inside"][i] == pytest.approx(inside, abs=1e-6)
        assert got.values["inside"][i] - got.values["elsewhere"][i] == pytest.approx(value, abs=1e-6)
        compared += abs(value) > 1e-4
    assert compared >= 3


@pytest.mark.parametrize(
    "explainer", [CentrePrior(), RandomMap(), Constant()], ids=["centre-prior", "random", "constant"]
)
def test_maps_that_do_not_look_at_the_pixels_are_exactly_0(
    explainer: Explainer, pairs: tuple[FaceModel, Samples]
) -> None:
    model, samples = pairs
    for parts in (METRIC.parts, "eyes+nose+mouth+brows+cheeks"):
        got = score(model, samples, explainer, PartSwap(parts=parts))
        able = np.isfinite(got.values[""])
        assert able.sum() >= 5
        assert (got.values[""][able] == 0).all()
        assert (got.values["inside"][able] > 0).all()


def test_the_oracle_is_near_1_and_the_difference_of_pixels_beats_its_faults(pairs: tuple[FaceModel, Samples]) -> None:
    model, samples = pairs
    oracle = score(model, samples, Oracle()).values[""]
    # A soft edge takes a share of the mass with it: parts of 24×24 pixels have little but edge.
    assert np.nanmin(oracle) > 0.5
    genuine = samples.take(samples.where("genuine"))
    good = np.nanmean(score(model, genuine, Differs()).values[""])
    mirrored = np.nanmean(score(model, genuine, Changed(Differs(), lambda m: m.flip(-1))).values[""])
    upside_down = Changed(Differs(), lambda m: m.amax(dim=(-2, -1), keepdim=True) - m)
    assert good > 0.5
    assert mirrored < good / 2
    assert np.nanmean(score(model, genuine, upside_down).values[""]) < 0
    # Another pair's map is the same whatever is exchanged on this one.
    others = Differs().explain(model, genuine).dissimilarity.roll(1, 0)
    other = score(model, genuine, Changed(Differs(), lambda _: others)).values[""]
    assert (other == 0).all()


def test_left_and_right_together_hide_a_mirror_which_sided_parts_show(pairs: tuple[FaceModel, Samples]) -> None:
    model, samples = pairs
    mirrored = Changed(Oracle(), lambda m: m.flip(-1))
    sided = PartSwap(parts="left-eye+right-eye+left-cheek+right-cheek")
    together = PartSwap(parts="eyes+nose+mouth+cheeks")
    assert np.nanmean(score(model, samples, mirrored, sided).values[""]) < 0
    assert np.nanmean(score(model, samples, mirrored, together).values[""]) > 0.3


def test_what_is_exchanged_is_the_part_with_a_soft_edge(pairs: tuple[FaceModel, Samples]) -> None:
    model, samples = pairs
    swapped = swapped_pairs(model, samples, METRIC.chosen)
    masks = part_masks(model.size, METRIC.chosen, FACE)
    genuine = samples.where("genuine")
    strangers = fill_images(model, samples.take(genuine), "stranger")[:, 0]
    for k, mask in enumerate(masks):
        weight = ndimage.gaussian_filter(mask.astype(np.float64), 0.02 * 24)
        np.testing.assert_allclose(swapped.weights[k].numpy(), weight, atol=1e-6)
        for i, pair in enumerate(samples):
            a, b = samples.images[i].double().numpy()
            source = strangers[list(genuine).index(i)].double().numpy() if pair.same else b
            expected = a * (1 - weight) + source * weight
            np.testing.assert_allclose(swapped.pairs[k].images[i, 0].numpy(), expected, atol=1e-6)
            np.testing.assert_array_equal(swapped.pairs[k].images[i, 1].numpy(), samples.images[i, 1].numpy())


def test_the_altered_pairs_are_scored_once_for_all_explainers(pairs: tuple[FaceModel, Samples]) -> None:
    model, samples = pairs
    fresh = replace(samples, cache=Cache())
    before = model.passes.forward
    counting = Counting(Constant())
    score(model, fresh, counting)
    score(model, fresh, Brightness())
    assert model.passes.forward - before == 4 * len(samples)
    assert [batch.ids for batch in counting.seen] == [samples.ids] * 4


def test_batch_and_order_do_not_matter(pairs: tuple[FaceModel, Samples]) -> None:
    model, samples = pairs
    whole = score(model, samples, Gradient()).values[""]
    for batch in ([7], [3, 0], [6, 5, 4, 2, 1]):
        items = [samples.items[i] for i in batch]
        loaded = load_samples(model, items, threshold=0.5, dataset=samples.dataset)
        np.testing.assert_allclose(score(model, loaded, Gradient()).values[""], whole[batch], atol=1e-6)


def test_the_share_of_a_map_does_not_depend_on_its_scale_and_an_empty_one_is_constant() -> None:
    weights = soft_edges(part_masks((112, 112), METRIC.chosen))
    maps = torch.rand((2, 112, 112), generator=torch.Generator().manual_seed(0))
    plain = shares(maps, weights)
    for scale in (1e-30, 1e30):
        np.testing.assert_allclose(shares(maps * scale, weights), plain, rtol=1e-5)
    flat = shares(torch.stack([torch.zeros(112, 112), torch.full((112, 112), 7.0)]), weights)
    np.testing.assert_allclose(flat[:, 0], weights.double().mean(dim=(1, 2)).numpy())
    np.testing.assert_array_equal(flat[:, 0], flat[:, 1])


@pytest.mark.parametrize("size", [112, 150])
def test_the_parts_lie_on_the_landmarks_of_the_usual_crops(size: int) -> None:
    masks = dict(zip(PARTS, part_masks((size, size), tuple(PARTS)), strict=True))
    eyes = {112: [(38.3, 51.7), (73.5, 51.5)], 150: [(48.3, 45.5), (99.7, 45.5)]}[size]
    for (x, y), name in zip(eyes, ("left-eye", "right-eye"), strict=True):
        assert masks[name][round(y), round(x)]
        assert masks["eyes"][round(y), round(x)]
    for name in ("nose", "mouth", "brows", "cheeks"):
        columns = np.nonzero(masks[name])[1]
        middle = {112: 56, 150: 74}[size]
        assert abs(columns.mean() - middle) < 1
    rows = {name: np.nonzero(mask)[0].mean() for name, mask in masks.items()}
    assert rows["forehead"] < rows["brows"] < rows["eyes"] < rows["nose"] < rows["mouth"] < rows["chin"]


def test_the_landmarks_of_planted_faces_put_the_parts_on_the_planted_parts() -> None:
    people, conditions = sample_identities(5, 60), sample_nuisance(keys(5, "here", 60), alignment="aligned")
    names = ("brows", "eyes", "nose", "mouth")
    drawn = {name: mask.mean(axis=0) for name, mask in planted_masks(people, conditions, names).items()}
    ours = dict(zip(names, part_masks((112, 112), names, PlantedVerification().aligned_landmarks), strict=True))
    by_size = dict(zip(names, part_masks((112, 112), names), strict=True))
    for name in names:
        inside = {other: drawn[name][ours[other]].sum() for other in names}
        assert max(inside, key=inside.__getitem__) == name
    # ArcFace's template would look for the mouth on the chin.
    assert drawn["mouth"][by_size["mouth"]].sum() < drawn["mouth"][ours["mouth"]].sum() / 2


def test_pairs_that_no_exchange_moves_have_no_value(pairs: tuple[FaceModel, Samples]) -> None:
    model, samples = pairs
    # Both faces one and the same: the reference's part changes nothing on an impostor pair.
    images = samples.images.clone()
    images[1, 0] = images[1, 1]
    outputs = samples.clean.outputs.clone()
    outputs[1, 0] = outputs[1, 1]
    scores = samples.clean.scores.clone()
    scores[1] = 1.0 + 1e-3
    still = replace(samples, images=images, clean=replace(samples.clean, outputs=outputs, scores=scores), cache=Cache())
    got = score(model, still, Brightness())
    assert str(got.reasons[1]) == "no part of the reference raises the similarity"
    assert np.isnan(got.values[""][1])
    whole = score(model, samples, Brightness())
    np.testing.assert_allclose(got.values[""][2:], whole.values[""][2:], atol=1e-6)


def test_maps_that_are_not_finite_have_no_value_and_constant_ones_a_flag(pairs: tuple[FaceModel, Samples]) -> None:
    model, samples = pairs

    def spoilt(maps: torch.Tensor) -> torch.Tensor:
        maps = maps.clone()
        maps[2, 0, 1, 1] = float("inf")
        return maps

    got = score(model, samples, Changed(Brightness(), spoilt))
    assert str(got.reasons[2]) == "a map of an altered image is not finite"
    flagged = score(model, samples, Constant())
    assert set(flagged.flags) == set(np.flatnonzero(np.isfinite(flagged.values[""])))


def test_what_cannot_apply_is_refused(pairs: tuple[FaceModel, Samples]) -> None:
    model, _ = pairs
    check(METRIC, model.card, Faces(), Gradient())
    with pytest.raises(NotApplicable, match="needs aligned faces"):
        check(METRIC, model.card, Faces(faces_aligned=False), Gradient())
    with pytest.raises(NotApplicable, match="explains altered images again"):
        check(METRIC, model.card, Faces(), Precomputed())
    with pytest.raises(NotApplicable, match="cannot place the parts: no template is known for crops of 24×24"):
        check(METRIC, model.card, ToyPairs(), Gradient())
    with pytest.raises(ValueError, match=r'parts holds "noes"; .*nose'):
        PartSwap(parts="eyes+noes")
    for parts in ("nose", "nose+nose"):
        with pytest.raises(ValueError, match="at least two different parts"):
            PartSwap(parts=parts)
    with pytest.raises(UsageError, match="five"):
        part_masks((112, 112), ("nose", "mouth"), FACE[:4])
