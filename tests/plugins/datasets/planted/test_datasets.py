"""The datasets of the contract: identities, classes, truth, twins and triplets, read lazily."""

from __future__ import annotations

import re

import numpy as np
import pytest

from faithface_plugins.datasets.planted import pad_arrays, synthetic_arrays
from faithface_plugins.datasets.planted.annotate import differs
from faithface_plugins.datasets.planted.datasets import DATASETS, PlantedPad, PlantedSynthetic, PlantedVerification
from faithface_plugins.datasets.planted.identity import SWAP_PARTS


def levels(face) -> np.ndarray:
    return np.round(face.read() * 255).astype(np.uint8)


@pytest.mark.parametrize("dataset", DATASETS, ids=lambda d: d.name)
def test_items_are_light_stable_and_safely_named(dataset):
    first, again = dataset.items(), dataset.items()
    assert [item.id for item in first] == [item.id for item in again]
    assert len({item.id for item in first}) == len(first) == dataset.n
    assert all(re.fullmatch(r"[a-z0-9-]+", item.id) for item in first)
    kinds = {kind for item in first for kind in item.truth}
    assert kinds == dataset.truths()
    face = first[3].faces[0]
    image = face.read()
    assert (image.dtype, image.shape) == (np.float32, (112, 112, 3))
    assert 0 <= image.min() < image.max() <= 1
    assert np.array_equal(image, again[3].faces[0].read())


@pytest.mark.parametrize(
    ("dataset", "arrays"), [(PlantedPad(n=12, seed=5), pad_arrays), (PlantedSynthetic(n=12, seed=5), synthetic_arrays)]
)
def test_samples_agree_with_the_arrays(dataset, arrays):
    bulk = arrays(5, 12)
    for i, sample in enumerate(dataset.items()):
        assert np.array_equal(levels(sample.face), bulk.images[i])
        assert sample.label == dataset.classes[bulk.labels[i]]
        assert np.array_equal(sample.truth["relevance"](), bulk.truth[i])
        assert np.allclose(sample.truth["human"](), bulk.human[i], atol=1e-6)
        if sample.label == dataset.positive:
            assert np.array_equal(levels(sample.others["twin"]), bulk.twins[i])
            assert np.array_equal(
                differs(levels(sample.face)[None], levels(sample.others["twin"])[None])[0], bulk.truth[i]
            )
        else:
            assert not sample.others


def test_tags_are_a_truth_of_their_own():
    tagged = PlantedPad(n=6, tag="class", cue=False).items()
    for sample in tagged:
        assert sample.truth["tag"]().any() == (sample.label == "attack")
        assert not sample.truth["relevance"]().any()
    assert "tag" not in PlantedPad(n=6).items()[1].truth


def test_out_of_set_variants_have_other_people_and_unseen_kinds():
    for dataset in (PlantedPad(n=20), PlantedSynthetic(n=20)):
        other = dataset.out_of_set()
        assert other.unseen
        assert other.palette == "shifted"
        assert other.out_of_set() is None
        assert not {s.face.identity for s in dataset.items()} & {s.face.identity for s in other.items()}
    assert PlantedVerification().out_of_set().palette == "shifted"
    assert PlantedVerification(palette="shifted").out_of_set() is None


@pytest.fixture(scope="module")
def pairs():
    return PlantedVerification(n=40, people=12, seed=8).items()


def test_pair_labels_and_identities_agree(pairs):
    assert sum(pair.same for pair in pairs) == 20
    for pair in pairs:
        assert pair.same == (pair.a.identity == pair.b.identity)
        assert pair.kind == {"g": "genuine", "d": "different", "s": "part-swap"}[pair.id[0]]
    kinds = [pair.kind for pair in pairs]
    assert kinds.count("different") == kinds.count("part-swap") == 10
    swaps = {pair.b.identity.split("+")[1].split("-of-")[0] for pair in pairs if pair.kind == "part-swap"}
    assert swaps == set(SWAP_PARTS)


def test_a_part_swap_names_both_people_and_has_both_truths(pairs):
    for pair in (pair for pair in pairs if pair.kind == "part-swap"):
        owner, _, donor = re.fullmatch(r"(.+)\+(\w+)-of-(.+)", pair.b.identity).groups()
        assert pair.a.identity == owner
        assert donor != owner
        part, rest = pair.truth["dissimilarity"](), pair.truth["similarity"]()
        assert part.shape == rest.shape == (2, 112, 112)
        assert part.dtype == rest.dtype == bool
        assert part.any(axis=(1, 2)).all()
        assert not (part & rest).any()
        assert rest.sum() > part.sum()


def test_truth_of_ordinary_pairs_is_the_head(pairs):
    for pair in pairs[:6]:
        kind = "similarity" if pair.same else "dissimilarity"
        if pair.kind != "part-swap":
            head = pair.truth[kind]()
            assert ("similarity" in pair.truth) != ("dissimilarity" in pair.truth)
            assert 0.2 < head.mean() < 0.8


def test_the_two_images_of_a_pair_have_their_own_conditions(pairs):
    for pair in pairs[:8]:
        assert differs(levels(pair.a)[None], levels(pair.b)[None]).mean() > 0.3


def test_a_triplets_non_mate_differs_from_the_mate_in_the_masked_region_only(pairs):
    for pair in (pair for pair in pairs[:20] if pair.same):
        non_mate, mask = pair.others["non-mate"], pair.truth["inpainted"]()
        assert non_mate.identity != pair.b.identity
        assert np.array_equal(mask[1], differs(levels(pair.b)[None], levels(non_mate)[None])[0])
        assert mask.any(axis=(1, 2)).all()
        assert mask.mean() < 0.3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PlantedPad(n=0), "n is 0; expected at least 1"),
        (lambda: PlantedVerification(n=0), "n is 0; expected at least 1"),
        (lambda: PlantedVerification(people=1), "people is 1; expected at least 2"),
    ],
)
def test_bad_parameters_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
