"""Regions: a partition, with every part of the face where published landmarks say it is."""

import numpy as np
import pytest
from skimage.transform import SimilarityTransform

from faithface.errors import UsageError
from faithface.regions.partition import ARCFACE, DLIB, PARTITIONS, Regions, regions_from_masks, regions_of

# dlib's mean face shape for five landmarks (dlib/image_transforms/interpolation.h): right and left eye, outer and inner
# corner, and the base of the nose; a chip pads it by a quarter on each side.
DLIB_MEAN = {
    "eyes": [
        (0.8595674595992, 0.2134981538014),
        (0.6460604764104, 0.2289674387677),
        (0.1205750620789, 0.2137274526848),
        (0.3340850613712, 0.2290642403242),
    ],
    "nose": [(0.4901123135679, 0.6277975316475)],
}


def at(regions: Regions, x: float, y: float) -> str:
    return regions.names[regions.labels[int(np.floor(y + 0.5)), int(np.floor(x + 0.5))]]


@pytest.mark.parametrize("partition", PARTITIONS)
@pytest.mark.parametrize("size", [112, 150])
def test_every_pixel_is_in_one_region_and_every_region_is_in_the_crop(partition: str, size: int) -> None:
    regions = regions_of((size, size), partition=partition)
    assert regions.names == PARTITIONS[partition]
    assert np.array_equal(np.unique(regions.labels), np.arange(len(regions.names)))
    assert regions.shares.sum() == pytest.approx(1)


def test_the_landmarks_of_the_arcface_template_lie_in_their_regions() -> None:
    regions = regions_of((112, 112), partition="sided")
    names = [at(regions, x, y) for x, y in ARCFACE.landmarks]
    assert names == ["left eye", "right eye", "nose", "mouth", "mouth"]


def test_the_landmarks_of_dlibs_mean_face_lie_in_their_regions() -> None:
    regions = regions_of((150, 150))
    for name, points in DLIB_MEAN.items():
        for x, y in points:
            assert at(regions, (0.25 + x) / 1.5 * 150, (0.25 + y) / 1.5 * 150) == name


@pytest.mark.parametrize("size", [112, 150])
def test_regions_lie_above_one_another_as_in_a_face(size: int) -> None:
    regions = regions_of((size, size))
    rows = {n: np.nonzero(regions.labels == i)[0].mean() for i, n in enumerate(regions.names)}
    upright = [rows[name] for name in ("forehead", "brows", "eyes", "nose", "mouth", "chin")]
    assert upright == sorted(upright)
    # A face is symmetric, and so are its regions, to the width of a pixel at their edges.
    assert (regions.labels == regions.labels[:, ::-1]).mean() > 0.93


def test_the_template_scales_with_the_crop() -> None:
    small, large = regions_of((112, 112)), regions_of((224, 224), crop="arcface")
    assert (np.kron(small.labels, np.ones((2, 2), dtype=int)) == large.labels).mean() > 0.96


def test_given_landmarks_move_the_regions() -> None:
    """A turned, smaller face: each pixel has the region that the template gives to where it comes from."""
    move = SimilarityTransform(scale=0.6, rotation=0.3, translation=(40, 10))
    moved = regions_of((112, 112), landmarks=move(np.array(ARCFACE.landmarks)))
    template = regions_of((112, 112))
    rows, columns = np.mgrid[:112, :112]
    back = move.inverse(np.stack([columns.ravel(), rows.ravel()], axis=1)).round().astype(int)
    inside = ((back >= 0) & (back < 112)).all(axis=1)
    want = np.array(template.names)[template.labels[back[inside, 1], back[inside, 0]]]
    got = np.array(moved.names)[moved.labels.ravel()[inside]]
    assert (want == got).mean() > 0.95
    assert at(moved, *move(ARCFACE.landmarks[2])[0]) == "nose"


def test_masks_make_a_partition_with_what_they_leave() -> None:
    left, right = np.zeros((4, 6), bool), np.zeros((4, 6), bool)
    left[:, :2], right[:2, 4:] = True, True
    regions = regions_from_masks({"l": left, "r": right}, (4, 6))
    assert regions.names == ("l", "r", "rest")
    assert regions.labels[0].tolist() == [0, 0, 2, 2, 1, 1]
    assert regions.labels[3].tolist() == [0, 0, 2, 2, 2, 2]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: regions_of((80, 80)), "no template is known for crops of 80×80"),
        (lambda: regions_of((112, 90)), "square"),
        (lambda: regions_of((112, 112), crop="arcfaec"), 'did you mean "arcface"'),
        (lambda: regions_of((112, 112), partition="pared"), 'did you mean "paired"'),
        (lambda: regions_of((112, 112), landmarks=np.zeros((5, 2)) + 50), "do not span a face"),
        (lambda: regions_of((112, 112), landmarks=np.array(DLIB.landmarks) * 2), "lies outside"),
        (lambda: regions_of((112, 112), landmarks=np.array(ARCFACE.landmarks)[::-1]), "do not span a face"),
        (lambda: regions_of((112, 112), landmarks=np.zeros((4, 2))), "expected five"),
        (lambda: regions_from_masks({"a": np.ones((3, 3))}, (4, 4)), "expected 4×4"),
        (lambda: regions_from_masks({"a": np.zeros((4, 4))}, (4, 4)), "empty"),
        (lambda: regions_from_masks({"a": np.ones((4, 4)), "b": np.eye(4)}, (4, 4)), '"a" and "b" overlap'),
        (lambda: regions_from_masks({"a": np.ones((4, 4))}, (4, 4)), "expected 2 to 14"),
    ],
)
def test_what_gives_no_regions_is_said_in_one_line(call, said: str) -> None:
    with pytest.raises(UsageError, match=said) as raised:
        call()
    assert "\n" not in str(raised.value)
