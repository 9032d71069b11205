"""The renderer: same seed, same pixels, in any batch; identities; part regions; bad input."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from faithface_plugins.datasets.planted import (
    keys,
    part_masks,
    render,
    render_levels,
    sample_identities,
    sample_nuisance,
    swap_part,
    verification_arrays,
)
from faithface_plugins.datasets.planted.annotate import differs
from faithface_plugins.datasets.planted.identity import PART_FIELDS, SWAP_PARTS, Identity, parameter_count
from faithface_plugins.datasets.planted.render import CHUNK

N = 2 * CHUNK + 3


@pytest.fixture(scope="module")
def people() -> Identity:
    return sample_identities(3, N)


@pytest.fixture(scope="module")
def conditions():
    return sample_nuisance(keys(3, "test", N), "loose", glasses=0.5)


@pytest.fixture(scope="module")
def images(people, conditions) -> np.ndarray:
    return render_levels(people, conditions)


def test_the_same_seed_gives_the_same_pixels(people, conditions, images):
    again = render_levels(sample_identities(3, N), sample_nuisance(keys(3, "test", N), "loose", glasses=0.5))
    assert np.array_equal(images, again)


def test_an_image_does_not_depend_on_its_batch_or_threads(people, conditions, images):
    alone = np.concatenate([render_levels(people.take([i]), conditions.take([i])) for i in range(N)])
    assert np.array_equal(images, alone)
    backwards = np.arange(N)[::-1]
    turned = render_levels(people.take(backwards), conditions.take(backwards), threads=1)
    assert np.array_equal(images[::-1], turned)


def test_a_person_does_not_depend_on_how_many_are_drawn():
    few, many, chosen = sample_identities(9, 3), sample_identities(9, 50), sample_identities(9, np.array([2, 0]))
    for f in fields(Identity):
        assert np.array_equal(getattr(few, f.name), getattr(many, f.name)[:3])
        assert np.array_equal(getattr(chosen, f.name), getattr(many, f.name)[[2, 0]])


def test_render_gives_float32_on_8_bit_levels(people, conditions, images):
    got = render(people, conditions)
    assert got.dtype == np.float32
    assert got.shape == (N, 112, 112, 3)
    assert got.min() >= 0
    assert got.max() <= 1
    assert np.array_equal(np.round(got * 255).astype(np.uint8), images)


def test_pixels_are_neither_flat_nor_clipped(images):
    levels = images.astype(float)
    assert (levels.std(axis=(1, 2, 3)) > 20).all()
    assert ((levels == 0) | (levels == 255)).mean() < 0.05


def test_identity_has_at_least_25_parameters_and_each_varies():
    assert parameter_count() >= 25
    crowd = sample_identities(1, 400)
    for f in fields(Identity):
        assert getattr(crowd, f.name).dtype == np.float32
        assert (getattr(crowd, f.name).std(axis=0) > 0).all(), f.name


# Parameters that only some people show (a cleft, stubble, moles) are tried on someone who shows them.
SHOWN = {"freckles": 1.0, "chin_cleft": 1.0, "beard": 0.8, "hair_cover": 1.0, "hair_recede": 0.9, "hair_curl": 0.9}


@pytest.mark.parametrize("name", [f.name for f in fields(Identity)])
def test_every_identity_parameter_changes_pixels(name):
    count = 12
    people = sample_identities(17, count)
    shown = {key: np.full(count, value, np.float32) for key, value in SHOWN.items()}
    people = replace(people, mole_size=np.full((count, 3), 0.02, np.float32), **shown)
    other = getattr(sample_identities(18, count), name)
    conditions = sample_nuisance(keys(17, "test", count), glasses=0.0)
    changed = render_levels(replace(people, **{name: other}), conditions)
    assert differs(render_levels(people, conditions), changed).any()


def test_a_part_swap_changes_only_that_parts_parameters(people):
    donors = sample_identities(4, N)
    for part, names in PART_FIELDS.items():
        swapped = swap_part(people, donors, part)
        for f in fields(Identity):
            expected = donors if f.name in names else people
            assert np.array_equal(getattr(swapped, f.name), getattr(expected, f.name))


def test_the_parts_share_no_parameter():
    names = [name for part in PART_FIELDS.values() for name in part]
    assert len(names) == len(set(names))
    assert set(PART_FIELDS) == set(SWAP_PARTS)


@pytest.mark.parametrize("part", SWAP_PARTS)
def test_a_part_swap_touches_only_the_part(part):
    """With the same conditions, pixels differ only in the regions of the old and the new part (and a pixel of blur)."""
    count = 40
    people, donors = sample_identities(5, count), sample_identities(6, count)
    conditions = sample_nuisance(keys(5, "test", count), "aligned")
    swapped = swap_part(people, donors, part)
    changed = differs(render_levels(people, conditions), render_levels(swapped, conditions))
    region = part_masks(people, conditions, (part,))[part] | part_masks(swapped, conditions, (part,))[part]
    wide = np.zeros_like(region)
    for dy in (-2, -1, 0, 1, 2):
        for dx in (-2, -1, 0, 1, 2):
            wide |= np.roll(region, (dy, dx), (1, 2))
    assert changed.any(axis=(1, 2)).all()
    assert not (changed & ~wide).any()
    assert (changed & ~region).sum() < 0.02 * changed.sum()
    assert region.mean() < 0.30


def test_part_masks_lie_where_the_parts_are(people, conditions):
    masks = part_masks(people, conditions)
    rows = np.arange(112)[None, :, None]
    height = {name: (mask * rows).sum() / mask.sum() for name, mask in masks.items()}
    assert height["brows"] < height["eyes"] < height["nose"] < height["mouth"] < height["jaw"]
    for name, mask in masks.items():
        assert mask.dtype == bool
        assert mask.shape == (N, 112, 112), name
    assert not (masks["face"] & masks["hair"]).any()


def test_verification_arrays_group_images_by_person():
    images, labels = verification_arrays(2, 3, 4)
    assert images.shape == (12, 112, 112, 3)
    assert images.dtype == np.uint8
    assert labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert len(np.unique(images.reshape(12, -1), axis=0)) == 12
    more, names = verification_arrays(2, 2, 4, first_identity=1)
    assert np.array_equal(more, images[4:])
    assert names.tolist() == [1] * 4 + [2] * 4
    other, _ = verification_arrays(3, 3, 4)
    assert not np.array_equal(images, other)


def test_the_shifted_palette_changes_colours_and_not_geometry():
    plain, shifted = sample_identities(1, 20), sample_identities(1, 20, "shifted")
    assert np.array_equal(plain.jaw_length, shifted.jaw_length)
    assert not np.allclose(plain.hair_colour, shifted.hair_colour)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sample_identities(0, 0), "got 0, expected at least 1"),
        (lambda: sample_identities(0, 2, "neon"), "got 'neon', expected one of standard, shifted"),
        (lambda: sample_nuisance(keys(0, "x", 1), "sideways"), "got 'sideways', expected one of aligned, loose"),
        (lambda: sample_nuisance(keys(0, "x", 1), palette="neon"), "got 'neon'"),
        (
            lambda: swap_part(sample_identities(0, 1), sample_identities(1, 1), "chin"),
            "got 'chin', expected one of eyes",
        ),
        (lambda: swap_part(sample_identities(0, 1), sample_identities(1, 2), "nose"), "got 2 identities for 1 people"),
        (
            lambda: render(sample_identities(0, 2), sample_nuisance(keys(0, "x", 1))),
            "got 2 identities and 1 conditions",
        ),
        (lambda: verification_arrays(0, 0, 3), "identities: got 0"),
        (lambda: verification_arrays(0, 3, 0), "images_per_identity: got 0"),
        (lambda: part_masks(sample_identities(0, 1), sample_nuisance(keys(0, "x", 1)), ("tail",)), "got 'tail'"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
