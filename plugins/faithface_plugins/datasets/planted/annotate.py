"""Ground truth and what a person would draw: differing pixels, the human mask, and the corner tag.

Arrays only; calls `geometry` and scipy's Gaussian; is called by `cues`, `arrays` and `datasets`.
"""

from __future__ import annotations

import numpy as np

from .geometry import SIZE, UNIT, columns, project
from .geometry import frame as frame_of
from .nuisance import Nuisance

THRESHOLD = 3  # 8-bit levels: the smallest difference that counts as evidence
TAG_SIZE = 10
TAG_MARGIN = 2
TAGS = ("none", "class", "random")
CORNERS = ("top-left", "top-right", "bottom-left", "bottom-right")


def differs(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Pixels whose levels differ by at least `THRESHOLD` in any channel. uint8 (N, H, W, 3) twice -> bool (N, H, W)."""
    return (np.maximum(one, other) - np.minimum(one, other) >= THRESHOLD).any(-1)


def human_cue(mask: np.ndarray, sigma: float = 4.0) -> np.ndarray:
    """An annotator's brush over a cue: the mask blurred and scaled to a peak of 1. bool (N, H, W) -> float32, in [0,
    1].
    """
    from scipy.ndimage import gaussian_filter

    soft = gaussian_filter(mask.astype(np.float32), (0, sigma, sigma), mode="constant", truncate=3.0)
    peak = soft.max(axis=(1, 2), keepdims=True)
    return soft / np.maximum(peak, np.float32(1e-6))


def human_face(conditions: Nuisance) -> np.ndarray:
    """An annotator's brush over a face with nothing wrong: a soft oval over eyes, nose and mouth. float32 (N, 112,
    112).
    """
    n = columns(conditions)
    f = frame_of(n)
    cx, cy = project(f, np.zeros_like(n.roll), np.full_like(n.roll, 0.20))
    r2 = ((f.x - cx) / (0.42 * UNIT)) ** 2 + ((f.y - cy) / (0.52 * UNIT)) ** 2
    return np.exp(-0.5 * (r2 * 1.6) ** 1.5).astype(np.float32)


def tag_mask(corner: str = "bottom-right") -> np.ndarray:
    """Where the tag goes. bool (112, 112). Raises ValueError for an unknown corner."""
    if corner not in CORNERS:
        raise ValueError(f"corner: got {corner!r}, expected one of {', '.join(CORNERS)}")
    near, far = slice(TAG_MARGIN, TAG_MARGIN + TAG_SIZE), slice(SIZE - TAG_MARGIN - TAG_SIZE, SIZE - TAG_MARGIN)
    mask = np.zeros((SIZE, SIZE), bool)
    mask[near if corner.startswith("top") else far, near if corner.endswith("left") else far] = True
    return mask


def stamp_tag(images: np.ndarray, rows: np.ndarray, corner: str = "bottom-right") -> np.ndarray:
    """Stamp a yellow and black tag on the images where `rows` is true; in place, and returned.

    uint8 or float32 (N, 112, 112, 3), bool (N,).
    """
    mask = tag_mask(corner)
    half = TAG_SIZE // 2
    tag = np.zeros((TAG_SIZE, TAG_SIZE, 3), np.float32)
    tag[:half, :half] = tag[half:, half:] = (1.0, 0.84, 0.10)
    tag[:half, half:] = tag[half:, :half] = (0.06, 0.06, 0.08)
    if images.dtype == np.uint8:
        tag = np.round(tag * 255)
    images[np.asarray(rows)[:, None, None] & mask] = np.tile(tag.reshape(-1, 3), (int(np.sum(rows)), 1)).astype(
        images.dtype
    )
    return images
