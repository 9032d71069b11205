"""Named regions of a face as a partition of the input: every pixel belongs to exactly one region.

Place in the flow: the first step of every region answer. May call ``errors`` and scikit-image (when a face is
partitioned; what is declared here is light); touches no model.

The outlines are drawn once, in the coordinates of the ArcFace crop, and mapped to any other crop by a transform of
five landmarks (viewer's left eye, right eye, nose tip, left and right corner of the mouth). The vocabulary is that of
the Facial Identification Scientific Working Group (FISWG, *Facial Image Comparison Feature List for Morphological
Analysis*, 2018): hair, forehead, eyebrows, eyes, cheeks, nose, mouth, chin, jawline. What lies outside the face below
the hair (ears, neck, long hair, background) is ``border``: a fixed template cannot distinguish these.

Left and right are the viewer's, as in landmark files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from faithface.errors import UsageError, nearest

if TYPE_CHECKING:
    from skimage.transform import AffineTransform, SimilarityTransform

MOST_REGIONS = 14  # 16,384 passes per fill
LANDMARKS = ("left eye", "right eye", "nose tip", "left mouth corner", "right mouth corner")


@dataclass(frozen=True)
class Crop:
    """How a kind of crop places a face.

    Attributes:
        name: such as ``arcface``.
        size: side of the square crop in pixels at which ``landmarks`` are given.
        landmarks: five (x, y) in pixels, pixel centres at whole numbers, in the order of :data:`LANDMARKS`.
        source: where the numbers come from.
    """

    name: str
    size: int
    landmarks: tuple[tuple[float, float], ...]
    source: str


ARCFACE = Crop(
    "arcface",
    112,
    ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)),
    "the five-point template of ArcFace's 112×112 crops (Deng et al., CVPR 2019)",
)
# The similarity between the two crops was measured by registering nine photographs that are cropped both ways: scale
# 1.460 ± 0.006. It puts the eyes at (48.3, 45.5) and (99.7, 45.5). The midpoints of the eye corners of dlib's mean face
# shape at 25 % padding are (47.7, 47.1) and (100.3, 47.1): the two agree within 2 pixels.
DLIB = Crop(
    "dlib",
    150,
    ((48.3, 45.5), (99.7, 45.5), (74.0, 74.9), (52.7, 104.9), (95.3, 104.9)),
    "dlib's 150×150 face chip with 25 % padding (King, 2017); landmarks by registration with ArcFace crops",
)
CROPS: Mapping[str, Crop] = {crop.name: crop for crop in (ARCFACE, DLIB)}


def _mirror(half: Sequence[tuple[float, float]]) -> np.ndarray:
    """Close a half outline, drawn on the viewer's left from top to bottom, by its mirror image about x = 56."""
    left = np.array(half, dtype=np.float64)
    right = left[::-1] * [-1, 1] + [112, 0]
    return np.concatenate([left, right])


def _other_side(outline: np.ndarray) -> np.ndarray:
    return outline * [-1, 1] + [112, 0]


# Outlines in pixels of the ArcFace crop; they extend beyond it, because a dlib chip shows more of the chin.
_FACE_UPPER = [(56, 7), (43, 8), (32, 14), (25, 25), (21, 40), (20, 54)]
_FACE_LOWER = [(21.5, 70), (24, 84), (29.5, 99), (38, 111), (47, 119), (56, 120.5)]
FACE = _mirror([*_FACE_UPPER, *_FACE_LOWER])
BROWS = _mirror([(56, 41), (45, 37.5), (32, 36.5), (23, 40), (20.5, 47), (30, 45.8), (39, 45.2), (49, 47.5), (56, 48)])
LEFT_EYE = np.array(
    [(21.5, 51), (22.5, 46.8), (30, 45.8), (39, 45.2), (49, 47.5), (50.5, 52), (48, 57), (39, 60), (29, 58.5)]
)
NOSE = _mirror([(56, 48), (51, 48), (50.3, 57), (46, 66), (42.5, 72), (42, 78), (47, 81.5), (56, 83)])
MOUTH = _mirror([(56, 82.5), (47, 82.5), (41, 86.5), (36.5, 91.5), (40, 97.5), (47, 102), (56, 103)])
CHIN = _mirror([(56, 101), (46, 101), (42, 105), (39.5, 112), (38, 124), (56, 124)])
JAW = _mirror([(56, 99), (43, 99), (33, 89), (17, 71), (10, 130), (56, 130)])

PARTITIONS: Mapping[str, tuple[str, ...]] = {
    "paired": ("forehead", "brows", "eyes", "nose", "cheeks", "mouth", "chin", "jaw", "hair", "border"),
    "sided": (
        "forehead",
        "brows",
        "left eye",
        "right eye",
        "nose",
        "left cheek",
        "right cheek",
        "mouth",
        "chin",
        "jaw",
        "hair",
        "border",
    ),
}


@dataclass(frozen=True)
class Regions:
    """A partition of an H×W input into k named regions.

    Attributes:
        names: k names.
        labels: int64 H×W, 0 to k − 1: the region of each pixel; every region has at least one pixel.
        source: how the regions were placed, for the page.
    """

    names: tuple[str, ...]
    labels: np.ndarray
    source: str

    def __post_init__(self) -> None:
        counts = np.bincount(self.labels.ravel(), minlength=len(self.names))
        if len(counts) != len(self.names) or not counts.all():
            raise UsageError(f"{len(self.names)} region names for labels that use {int((counts > 0).sum())} numbers")
        if not 2 <= len(self.names) <= MOST_REGIONS:
            raise UsageError(
                f"{len(self.names)} regions; expected 2 to {MOST_REGIONS}, as all 2^k subsets are scored: join some"
            )

    @property
    def shares(self) -> np.ndarray:
        """Share of the pixels in each region, float64 k, summing to 1."""
        return np.bincount(self.labels.ravel(), minlength=len(self.names)) / self.labels.size


def regions_of(
    size: tuple[int, int],
    crop: str | None = None,
    landmarks: np.ndarray | None = None,
    partition: str = "paired",
) -> Regions:
    """Place the named regions on an aligned crop, or by five landmarks.

    Args:
        size: height and width of the model's input.
        crop: a name in :data:`CROPS`, scaled to ``size``; None: the crop whose size this is.
        landmarks: float 5×2, (x, y) in pixels of the input, in the order of :data:`LANDMARKS`; replaces
            ``crop``. The outlines follow the least-squares affine transform.
        partition: a name in :data:`PARTITIONS`: ``paired`` (10 regions) or ``sided`` (12).

    Raises:
        UsageError: an unknown name, an input that is not square or of no known crop, or landmarks that do not span a
        face.
    """
    if partition not in PARTITIONS:
        raise UsageError(f'partition "{partition}" is not known; {nearest(partition, PARTITIONS)}')
    to_template, source = _from_landmarks(landmarks, size) if landmarks is not None else _from_crop(crop, size)
    rows, columns = np.mgrid[: size[0], : size[1]]
    points = to_template(np.stack([columns.ravel(), rows.ravel()], axis=1).astype(np.float64))
    painted = np.array(_paint(points, partition), dtype=object)
    # A crop may show nothing of a region (a tight one has no hair); an absent region is not a player.
    names = tuple(name for name in PARTITIONS[partition] if (painted == name).any())
    labels = np.zeros(len(painted), dtype=np.int64)
    for number, name in enumerate(names):
        labels[painted == name] = number
    return Regions(names, labels.reshape(size), source)


def _paint(points: np.ndarray, partition: str) -> np.ndarray:
    """Name the region of each point (x, y) of the ArcFace crop: later outlines cover earlier ones."""
    from skimage.measure import points_in_poly

    left = points[:, 0] < 56
    face = points_in_poly(points, FACE)
    sided = partition == "sided"
    names = np.full(len(points), "border", dtype=object)
    names[~face & (points[:, 1] < 44)] = "hair"
    names[face & left] = "left cheek" if sided else "cheeks"
    names[face & ~left] = "right cheek" if sided else "cheeks"
    names[face & (points[:, 1] < 44)] = "forehead"
    names[face & points_in_poly(points, JAW)] = "jaw"
    names[face & points_in_poly(points, CHIN)] = "chin"
    names[face & points_in_poly(points, BROWS)] = "brows"
    names[points_in_poly(points, LEFT_EYE)] = "left eye" if sided else "eyes"
    names[points_in_poly(points, _other_side(LEFT_EYE))] = "right eye" if sided else "eyes"
    names[points_in_poly(points, MOUTH)] = "mouth"
    names[points_in_poly(points, NOSE)] = "nose"
    return names


def _from_crop(name: str | None, size: tuple[int, int]) -> tuple[SimilarityTransform, str]:
    from skimage.transform import SimilarityTransform

    if size[0] != size[1]:
        raise UsageError(
            f"the input is {size[0]}×{size[1]}; the templates are for square crops: give five landmarks, or masks"
        )
    if name is None:
        found = [crop for crop in CROPS.values() if crop.size == size[0]]
        if not found:
            known = ", ".join(f"{crop.name} ({crop.size}×{crop.size})" for crop in CROPS.values())
            raise UsageError(
                f"no template is known for crops of {size[0]}×{size[1]}; name the one that the crops follow ({known}), "
                "or give five landmarks, or masks"
            )
        crop = found[0]
    elif name in CROPS:
        crop = CROPS[name]
    else:
        raise UsageError(f'crop "{name}" is not known; {nearest(name, CROPS)}')
    # Scaling keeps the edges of the image, not the centres of its corner pixels.
    scaled = (np.array(crop.landmarks) + 0.5) * (size[0] / crop.size) - 0.5
    placed = SimilarityTransform.from_estimate(scaled, np.array(ARCFACE.landmarks))
    assert isinstance(placed, SimilarityTransform)  # the templates' own landmarks span a face
    return placed, crop.source


def _from_landmarks(landmarks: np.ndarray, size: tuple[int, int]) -> tuple[AffineTransform, str]:
    from skimage.transform import AffineTransform

    points = np.asarray(landmarks, dtype=np.float64)
    if points.shape != (5, 2) or not np.isfinite(points).all():
        raise UsageError(f"landmarks have shape {points.shape}; expected five (x, y): {', '.join(LANDMARKS)}")
    outside = (points < 0) | (points > np.array(size)[::-1] - 1)
    if outside.any():
        which = LANDMARKS[int(outside.any(axis=1).argmax())]
        raise UsageError(
            f"the {which} lies outside the {size[0]}×{size[1]} input; landmarks are in pixels of the input"
        )
    target = np.array(ARCFACE.landmarks)
    transform = AffineTransform.from_estimate(points, target)
    eyes = np.linalg.norm(target[1] - target[0])
    if (
        not transform
        or points[:2, 1].mean() >= points[3:, 1].mean()  # upside down: the order is wrong
        or np.linalg.det(transform.params[:2, :2]) <= 0
        or np.sqrt(((transform(points) - target) ** 2).sum(axis=1).mean()) > 0.2 * eyes
    ):
        raise UsageError(
            f"these landmarks do not span a face; expected, in this order and as the viewer sees them: "
            f"{', '.join(LANDMARKS)} (for a profile, give masks)"
        )
    return transform, "ArcFace's template, moved by five given landmarks (affine)"


def regions_of_grid(size: tuple[int, int], cells: int) -> Regions:
    """Divide an H×W input into cells×cells parts: pixel row r belongs to cell row ⌊r·cells/H⌋, columns alike.

    Raises:
        UsageError: too few or too many cells.
    """
    rows, columns = (np.arange(n) * cells // n for n in size)
    names = tuple(f"row {row + 1}, column {column + 1}" for row in range(cells) for column in range(cells))
    return Regions(names, rows[:, None] * cells + columns[None], f"a grid of {cells}×{cells} cells")


def regions_from_masks(masks: Mapping[str, np.ndarray], size: tuple[int, int]) -> Regions:
    """Build a partition from masks of the user's; pixels that none covers become the region ``rest``.

    Args:
        masks: bool H×W by region name, at the model's input size, without overlap.

    Raises:
        UsageError: a mask of another size, an empty one, or two that overlap.
    """
    labels = np.full(size, -1, dtype=np.int64)
    for number, (name, mask) in enumerate(masks.items()):
        mask = np.asarray(mask).astype(bool)
        if mask.shape != tuple(size):
            raise UsageError(f'mask "{name}" is {mask.shape}; expected {size[0]}×{size[1]}, the model\'s input')
        if not mask.any():
            raise UsageError(f'mask "{name}" is empty; expected at least one pixel above half of the range')
        taken = labels[mask]
        if (taken >= 0).any():
            other = list(masks)[int(taken.max())]
            raise UsageError(f'masks "{other}" and "{name}" overlap; a pixel may belong to one region only')
        labels[mask] = number
    names = tuple(masks)
    if (labels < 0).any():
        if "rest" in masks:
            raise UsageError('a mask is called "rest", the name of what no mask covers; give it another name')
        labels[labels < 0] = len(names)
        names = (*names, "rest")
    return Regions(names, labels, "masks given by the user")
