"""Each fill against its definition, and who may stand in for whom."""

import numpy as np
import pytest
import torch
from scipy import ndimage, signal

from faithface.contract import Face, Pair, Sample
from faithface.errors import NotApplicable, UsageError
from faithface.model import open_model
from faithface.perturb.fills import FILLS, check_fill, fill_images, gaussian_blur, rise_kernel
from faithface.perturb.strangers import build_index, draw_strangers
from tests.perturb.sets import InMemory, class_set, load, pair_set
from tests.support.networks import faces, tiny


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return open_model(tiny("cnn", "pad", tmp_path_factory.mktemp("fills")))


@pytest.fixture(scope="module")
def verifier(tmp_path_factory):
    return open_model(tiny("cnn", "verification", tmp_path_factory.mktemp("fills")))


@pytest.mark.parametrize("shape", [(32, 32), (15, 40)])
def test_blur_is_scipys_gaussian_filter_at_eight_percent_of_the_shorter_side(shape):
    images = torch.rand(2, 3, *shape, generator=torch.Generator().manual_seed(1))
    sigma = 0.08 * min(shape)
    expected = [[ndimage.gaussian_filter(c, sigma, mode="reflect") for c in image] for image in images.double().numpy()]
    np.testing.assert_allclose(gaussian_blur(images, sigma).numpy(), expected, atol=1e-6)


def test_rise_kernel_is_nearly_a_box_as_its_construction_makes_it():
    kernel = rise_kernel()
    assert kernel.shape == (11, 11)
    assert kernel.sum() == pytest.approx(1)
    impulse = np.zeros((11, 11))
    impulse[5, 5] = 1
    np.testing.assert_allclose(kernel, ndimage.gaussian_filter(impulse, 5), atol=1e-7)  # RISE's own construction
    assert kernel[5, 5] / kernel[0, 0] == pytest.approx(1.1417, abs=1e-4)


def test_rise_fill_is_a_zero_padded_convolution_in_normalised_space(classifier):
    samples = load(classifier, class_set())
    card = classifier.card.input
    normalised = (samples.images.double().numpy() - card.mean[0]) / card.std[0]
    blurred = [[signal.convolve2d(c, rise_kernel(), mode="same") for c in image] for image in normalised]
    expected = np.array(blurred) * card.std[0] + card.mean[0]
    np.testing.assert_allclose(fill_images(classifier, samples, "rise")[:, 0].numpy(), expected, atol=1e-5)


def test_black_is_zero_and_mean_is_the_images_own_colour(classifier):
    samples = load(classifier, class_set())
    assert not fill_images(classifier, samples, "black").any()
    mean = fill_images(classifier, samples, "mean")[:, 0]
    np.testing.assert_allclose(mean[:, :, 3, 4], samples.images.mean(dim=(2, 3)), atol=1e-6)
    assert (mean == mean[:, :, :1, :1]).all()


def test_partner_is_the_other_image_of_the_pair_for_either_side(verifier):
    samples = load(verifier, pair_set(), threshold=0.5)
    both = fill_images(verifier, samples, "partner", sides=2)
    assert torch.equal(both[:, 0], samples.images[:, 1])
    assert torch.equal(both[:, 1], samples.images[:, 0])


def test_stranger_of_a_pair_is_neither_person_and_a_third_one_for_the_second_side(verifier):
    dataset = pair_set()
    samples = load(verifier, dataset, threshold=0.5)
    for pair, (first, second) in zip(samples, draw_strangers(build_index(dataset), samples, 2), strict=True):
        people = {pair.a.identity, pair.b.identity}
        assert first.identity not in people
        assert second.identity not in people | {first.identity}


def test_stranger_does_not_depend_on_batch_or_order(verifier):
    dataset = pair_set()
    whole = fill_images(verifier, load(verifier, dataset, threshold=0.5), "stranger")
    some = fill_images(verifier, load(verifier, dataset, [4, 1], threshold=0.5), "stranger")
    assert torch.equal(some[0], whole[4])
    assert torch.equal(some[1], whole[1])


def test_without_identities_a_stranger_is_never_linked_by_a_chain_of_genuine_pairs(verifier):
    made = [Face(f.id, f.read) for f in faces(6, 32)]
    genuine = [(0, 1), (1, 2), (2, 3)]  # one person in four images, linked only through a chain
    pairs = [Pair(f"g{i}", made[i], made[j], same=True) for i, j in genuine]
    pairs += [Pair("x", made[0], made[4], same=False), Pair("y", made[5], made[4], same=False)]
    dataset = InMemory(tuple(pairs))
    index = build_index(dataset)
    for seed in range(20):
        samples = load(verifier, dataset, [0], threshold=0.5)
        samples = type(samples)(samples.items, samples.images, samples.clean, seed, dataset)
        ((face,),) = draw_strangers(index, samples)
        assert face.id in {made[4].id, made[5].id}


def test_a_dataset_of_one_person_has_no_stranger_and_says_so(verifier):
    made = faces(2, 32)
    dataset = InMemory((Pair("g", made[0], made[1], same=True),))
    with pytest.raises(NotApplicable, match="no face of another person"):
        fill_images(verifier, load(verifier, dataset, threshold=0.5), "stranger")


def test_stranger_of_a_classifiers_sample_is_of_the_other_class(classifier):
    dataset = class_set(8)
    samples = load(classifier, dataset)
    labels = {item.face.id: item.label for item in dataset.items()}
    for item, (face,) in zip(samples, draw_strangers(build_index(dataset), samples), strict=True):
        assert labels[face.id] != item.label
        assert face.identity != item.face.identity


def test_stranger_of_a_set_with_one_class_is_another_sample(classifier):
    made = faces(4, 32)
    dataset = InMemory(tuple(Sample(f.id, f, "attack") for f in made))
    samples = load(classifier, dataset)
    for item, (face,) in zip(samples, draw_strangers(build_index(dataset), samples), strict=True):
        assert face.id != item.face.id


@pytest.mark.parametrize("fill", ["stranger", "partner"])
def test_fills_that_need_aligned_faces_refuse_a_set_without_them(fill):
    with pytest.raises(NotApplicable, match="aligned"):
        check_fill(fill, InMemory(is_aligned=False), pairs=True)


def test_partner_refuses_classifiers_and_stranger_refuses_samples_without_a_dataset():
    with pytest.raises(NotApplicable, match="pair"):
        check_fill("partner", InMemory(), pairs=False)
    with pytest.raises(NotApplicable, match="dataset"):
        check_fill("stranger", None, pairs=True)


def test_an_unknown_fill_is_an_error_that_suggests_the_nearest():
    with pytest.raises(UsageError, match="blur"):
        check_fill("blurr", None, pairs=False)


def test_a_fill_is_made_once_per_batch_for_all_explainers(classifier):
    samples = load(classifier, class_set())
    for fill in FILLS:
        if fill not in ("partner", "linear"):
            assert fill_images(classifier, samples, fill) is fill_images(classifier, samples, fill)
