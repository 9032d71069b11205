"""PAD and synthetic arrays: exact truth, balanced decoys, tags, unseen kinds, bad input."""

from __future__ import annotations

import numpy as np
import pytest

from faithface_plugins.datasets.planted import kinds, pad_arrays, planted_arrays, stamp_tag, synthetic_arrays, tag_mask
from faithface_plugins.datasets.planted.annotate import THRESHOLD, human_cue

TASKS = ("pad", "synthetic")
N = 80


@pytest.fixture(scope="module", params=TASKS)
def task(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def data(task):
    return planted_arrays(task, 4, N)


def test_shapes_types_and_ranges(data):
    images, labels, truth, human = data
    assert (images.dtype, images.shape) == (np.uint8, (N, 112, 112, 3))
    assert labels.dtype == np.int64
    assert labels.tolist() == [0, 1] * (N // 2)
    assert (truth.dtype, truth.shape) == (bool, (N, 112, 112))
    assert (human.dtype, human.shape) == (np.float32, (N, 112, 112))
    assert human.min() >= 0
    assert human.max() <= 1


def test_the_same_seed_gives_the_same_arrays_and_a_prefix_is_a_prefix(task, data):
    few = planted_arrays(task, 4, 7, threads=1)
    assert np.array_equal(few.images, data.images[:7])
    assert np.array_equal(few.truth, data.truth[:7])
    assert np.array_equal(few.human, data.human[:7])
    assert not np.array_equal(planted_arrays(task, 5, 7).images, few.images)


def test_the_truth_is_exactly_the_pixels_that_differ_from_the_twin(data):
    difference = np.abs(data.images.astype(int) - data.twins.astype(int)).max(-1)
    assert np.array_equal(data.truth, difference >= THRESHOLD)
    positive = data.labels == 1
    assert data.truth[positive].any(axis=(1, 2)).all()
    assert not data.truth[~positive].any()
    assert np.array_equal(data.images[~positive], data.twins[~positive])


@pytest.mark.parametrize(
    ("of", "kind", "unseen"), [(t, k, u) for t in TASKS for u in (False, True) for k in kinds(t, u)]
)
def test_every_kind_leaves_a_local_and_visible_cue(of, kind, unseen):
    one = planted_arrays(of, 7, 16, only=(kind,), unseen=unseen)
    assert set(one.kind) == {kind}
    positive = one.labels == 1
    area = one.truth[positive].mean(axis=(1, 2))
    assert (area > 0.005).all()
    assert (area < 0.55).all()
    change = np.abs(one.images.astype(float) - one.twins)[positive].max(-1)[one.truth[positive]]
    assert change.mean() > 12  # levels


def test_decoys_are_the_same_in_both_classes(data):
    negative, positive = data.labels == 0, data.labels == 1
    assert set(data.decoys) == {"glasses", "background", "collar", "collar_contrast", "moles"}
    for name, values in data.decoys.items():
        assert np.array_equal(values[negative], values[positive]), name
        assert len(np.unique(values)) > 1, name
    assert np.array_equal(data.kind[negative], data.kind[positive])
    assert np.array_equal(data.person[negative], data.person[positive])


def test_the_two_classes_have_alike_edges_outside_the_cue(data):
    """An edge detector finds as much in the twins of one class as in the images of the other."""
    grey = data.twins.astype(float).mean(-1)
    edges = np.abs(np.diff(grey, axis=1)).mean(axis=(1, 2))
    negative, positive = edges[data.labels == 0], edges[data.labels == 1]
    spread = np.sqrt(edges.var() * 2 / len(negative))
    assert abs(negative.mean() - positive.mean()) < 3 * spread


def test_the_human_mask_covers_the_cue_or_the_face(data):
    for truth, human, label in zip(data.truth, data.human, data.labels, strict=True):
        assert human.max() > 0.9
        if label:
            assert human[truth].mean() > 2 * human[~truth].mean()
        else:
            assert human[50:75, 45:67].mean() > 0.6
            assert human[:8].max() < 0.05


def test_human_cue_of_an_empty_mask_is_zero():
    assert human_cue(np.zeros((1, 112, 112), bool)).max() == 0


def test_cues_do_not_appear_without_the_option(task):
    bare = planted_arrays(task, 4, 8, cue=False, tag="class")
    assert not bare.truth.any()
    where = tag_mask()
    assert np.array_equal(bare.tagged, bare.labels == 1)
    full = planted_arrays(task, 4, 8)
    assert np.array_equal(bare.images[:, ~where], full.twins[:, ~where])
    assert not np.array_equal(bare.images[1][where], full.twins[1][where])


def test_a_tag_is_in_its_corner_only_and_never_part_of_the_truth(task):
    plain, tagged = (planted_arrays(task, 4, 40, tag=tag, corner="top-left") for tag in ("none", "random"))
    assert not plain.tagged.any()
    assert 5 < tagged.tagged.sum() < 35
    assert np.array_equal(tagged.tag, tag_mask("top-left"))
    assert np.array_equal(plain.images[:, ~tagged.tag], tagged.images[:, ~tagged.tag])
    assert np.array_equal(plain.images[~tagged.tagged], tagged.images[~tagged.tagged])
    assert np.array_equal(plain.truth, tagged.truth)


def test_stamp_tag_means_the_same_for_bytes_and_floats():
    rows = np.array([True, False])
    levels = stamp_tag(np.full((2, 112, 112, 3), 128, np.uint8), rows)
    floats = stamp_tag(np.full((2, 112, 112, 3), 128 / 255, np.float32), rows)
    assert np.abs(levels / 255 - floats).max() < 1 / 255
    assert (levels[0] != 128).any(axis=-1).sum() == tag_mask().sum()
    assert (levels[1] == 128).all()


def test_unseen_kinds_are_other_kinds(task):
    assert not set(kinds(task)) & set(kinds(task, unseen=True))
    assert set(planted_arrays(task, 1, 30, unseen=True).kind) == set(kinds(task, unseen=True))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pad_arrays(0, 0), "n: got 0, expected at least 1"),
        (lambda: synthetic_arrays(0, -3), "n: got -3"),
        (lambda: pad_arrays(0, 2, only=("laser",)), "kind: got 'laser', expected one of print, replay, mask, partial"),
        (lambda: synthetic_arrays(0, 2, only=("print",)), "kind: got 'print', expected one of iris"),
        (lambda: pad_arrays(0, 2, tag="always"), "tag: got 'always', expected one of none, class, random"),
        (lambda: pad_arrays(0, 2, corner="middle"), "corner: got 'middle'"),
        (lambda: pad_arrays(0, 2, palette="neon"), "palette: got 'neon'"),
        (lambda: planted_arrays("gait", 0, 2), "task: got 'gait', expected one of pad, synthetic"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
