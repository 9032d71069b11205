"""Align faces from five given landmarks to the ArcFace template. Finding landmarks is out of scope: bring them in a
CSV.

Place in the flow: called by the folder-like datasets when ``landmarks=CSV`` is given. Imports numpy, scikit-image,
``tables`` and ``errors``.

The CSV has the columns ``image`` (path relative to the set's root) and ``left_eye_x, left_eye_y, right_eye_x,
right_eye_y, nose_x, nose_y, left_mouth_x, left_mouth_y, right_mouth_x, right_mouth_y`` in pixels of the image; left
and right are the viewer's.
"""

from __future__ import annotations

import functools
import posixpath
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from faithface.errors import UsageError
from faithface.tables import read_table

# The five-point template of ArcFace's 112×112 crops (Deng et al., 2019): viewer's left eye, right eye, nose, left and
# right mouth corner.
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
TEMPLATE_SIZE = 112
POINTS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
COLUMNS = tuple(f"{point}_{axis}" for point in POINTS for axis in "xy")


def align_face(image: np.ndarray, points: np.ndarray, size: int = TEMPLATE_SIZE) -> np.ndarray:
    """Warp a face so that its landmarks lie on the template, by the least-squares similarity transform (Umeyama).

    Args:
        image: float32 H×W×3 in [0, 1].
        points: float 5×2, (x, y) in pixels, in the order of :data:`POINTS`.
        size: side of the square result; the template scales with it.

    Returns:
        float32 size×size×3 in [0, 1]; black where the image does not reach.

    Raises:
        UsageError: the points do not span a face (all at one point).
    """
    from skimage.transform import SimilarityTransform, warp

    target = TEMPLATE * (size / TEMPLATE_SIZE)
    transform = SimilarityTransform.from_estimate(np.asarray(points, dtype=np.float64), target)
    if not transform or not np.isfinite(transform.params).all() or transform.scale < 1e-6:
        raise UsageError(f"landmarks {np.asarray(points).tolist()} do not span a face; expected five distinct points")
    return warp(image, transform.inverse, output_shape=(size, size), order=1, mode="constant", cval=0.0).astype(
        np.float32
    )


def read_landmarks(path: Path) -> dict[str, np.ndarray]:
    """Read a landmark CSV: float 5×2 per image path.

    Raises:
        UsageError: no such file, a missing column, or a value that is not a finite number.
    """
    table = {}
    for line, row in read_table(path, ("image", *COLUMNS), "landmarks CSV").rows:
        try:
            values = np.array([float(row[column]) for column in COLUMNS]).reshape(5, 2)
        except ValueError:
            values = np.full((5, 2), np.nan)
        if not np.isfinite(values).all():
            raise UsageError(f"{path}, line {line}: landmarks of {row['image'][:100]} are not ten numbers")
        table[posixpath.normpath(row["image"].replace("\\", "/"))] = values
    return table


def aligned_reader(
    read: Callable[[], np.ndarray], name: str, landmarks: Mapping[str, np.ndarray] | None, size: int
) -> Callable[[], np.ndarray]:
    """Return a reader that aligns what ``read`` returns, or ``read`` itself where there are no landmarks.

    Raises (when it reads):
        UsageError: the CSV has no row for this image.
    """
    return read if landmarks is None else functools.partial(_read_aligned, read, name, landmarks, size)


def _read_aligned(
    read: Callable[[], np.ndarray], name: str, landmarks: Mapping[str, np.ndarray], size: int
) -> np.ndarray:
    if name not in landmarks:
        raise UsageError(f"no landmarks for image '{name}'; add a row to the landmarks CSV")
    return align_face(read(), landmarks[name], size)
