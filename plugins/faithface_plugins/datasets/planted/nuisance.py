"""What changes from one photograph to the next: pose, expression, gaze, light, clothes, background, camera, glasses.

Fields are drawn per image from that image's own key, so an image is the same in any batch. The decoys of the datasets
(glasses, patterned backgrounds, high-contrast collars) live here, independent of any class label. Calls `draws`;
is called by `render` and the datasets.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from . import draws
from .draws import Rows, single_precision

ALIGNMENTS = ("aligned", "loose")
BACKGROUNDS = ("plain", "gradient", "stripes", "dots", "checks")

_WALL = np.array(
    [
        (0.62, 0.68, 0.74),
        (0.78, 0.76, 0.70),
        (0.45, 0.50, 0.52),
        (0.70, 0.60, 0.52),
        (0.86, 0.87, 0.88),
        (0.32, 0.38, 0.46),
        (0.55, 0.62, 0.50),
        (0.66, 0.52, 0.56),
    ],
    dtype=np.float32,
)
_WALL_SHIFTED = np.array(
    [(0.85, 0.45, 0.30), (0.25, 0.65, 0.60), (0.80, 0.75, 0.25), (0.55, 0.30, 0.65)], dtype=np.float32
)


@dataclass(frozen=True)
class Nuisance:
    """Conditions of N images: float32 (N,), colours and the light direction (N, 3); `key` uint64 (N,) seeds pixel
    noise.
    """

    key: np.ndarray
    shift_x: np.ndarray  # pixels
    shift_y: np.ndarray  # pixels
    scale: np.ndarray  # 1 is the standard crop
    roll: np.ndarray  # radians
    yaw: np.ndarray  # radians, positive turns to the image's right
    pitch: np.ndarray  # radians, positive looks down
    smile: np.ndarray  # -0.3 .. 1
    mouth_open: np.ndarray  # 0 .. 1
    brow_raise: np.ndarray  # -1 .. 1
    squint: np.ndarray  # 0 .. 1
    gaze_x: np.ndarray  # -1 .. 1
    gaze_y: np.ndarray
    light: np.ndarray  # unit vector towards the light, x right, y down, z to the camera
    light_colour: np.ndarray
    ambient: np.ndarray
    background: np.ndarray  # index into BACKGROUNDS
    wall_colour: np.ndarray
    wall_accent: np.ndarray
    wall_period: np.ndarray  # pixels
    wall_angle: np.ndarray  # radians
    collar: np.ndarray  # 0 crew, 1 V-neck, 2 shirt collar; high contrast with `collar_contrast`
    collar_contrast: np.ndarray
    cloth_colour: np.ndarray
    collar_colour: np.ndarray
    glasses: np.ndarray  # 0 or 1
    glasses_size: np.ndarray
    glasses_round: np.ndarray
    glasses_colour: np.ndarray
    blur: np.ndarray  # Gaussian sigma in pixels
    noise: np.ndarray  # standard deviation of the sensor noise, in [0, 1] pixel units
    exposure: np.ndarray

    def __post_init__(self) -> None:
        single_precision(self)

    def __len__(self) -> int:
        return len(self.key)

    def take(self, indices: Rows) -> Nuisance:
        """The conditions at these indices (with repeats, in this order)."""
        return Nuisance(**{f.name: getattr(self, f.name)[indices] for f in fields(self)})

    def with_key(self, key: np.ndarray) -> Nuisance:
        """The same conditions with other pixel noise."""
        return replace(self, key=np.asarray(key, dtype=np.uint64))


def sample_nuisance(
    key: np.ndarray, alignment: str = "aligned", palette: str = "standard", glasses: float = 0.2
) -> Nuisance:
    """Conditions for images with these keys. uint64 (N,) -> Nuisance of N.

    `alignment="aligned"` leaves the small residue an aligner leaves (1 pixel, 2 degrees); `"loose"` is a detector's
    crop. `glasses` is the probability of glasses. Raises ValueError for an unknown alignment or palette.
    """
    if alignment not in ALIGNMENTS:
        raise ValueError(f"alignment: got {alignment!r}, expected one of {', '.join(ALIGNMENTS)}")
    if palette not in ("standard", "shifted"):
        raise ValueError(f"palette: got {palette!r}, expected one of standard, shifted")
    key = np.asarray(key, dtype=np.uint64)
    d = draws.Stream(draws.derive(key, "nuisance"))
    loose = np.float32(1.0 if alignment == "loose" else 0.0)
    azimuth, height = d.between(-0.95, 0.95), d.between(-0.75, 0.05)
    light = np.stack([np.sin(azimuth), np.sin(height) - 0.12, np.cos(azimuth) * np.cos(height)], 1)
    light = (light / np.linalg.norm(light, axis=1, keepdims=True)).astype(np.float32)
    warmth = d.between(-0.06, 0.06)
    walls = _WALL_SHIFTED if palette == "shifted" else _WALL
    wall = walls[d.choice(len(walls))] * d.between(0.75, 1.12)[:, None]
    accent = wall * d.between(0.55, 0.85)[:, None] + d.between(0.0, 0.1)[:, None]
    cloth = np.stack([d.between(0.08, 0.8), d.between(0.08, 0.75), d.between(0.1, 0.8)], 1)
    contrast = d.chance(0.4)
    dark_cloth = cloth.mean(1) < 0.42
    stark = np.where(dark_cloth, 0.95, 0.06).astype(np.float32)[:, None] * np.ones(3, np.float32)
    open_chance = d.unit()
    return Nuisance(
        key=key,
        shift_x=d.between(-1, 1) * (1.0 + 4.0 * loose),
        shift_y=d.between(-1, 1) * (1.0 + 4.0 * loose),
        scale=1.0 + d.between(-1, 1) * (0.02 + 0.08 * loose),
        roll=d.between(-1, 1) * (0.035 + 0.12 * loose),
        yaw=d.bell(-1, 1) * (0.30 + 0.08 * loose),
        pitch=d.bell(-1, 1) * 0.14,
        smile=d.between(-0.15, 0.9),
        mouth_open=np.where(open_chance < 0.35, d.between(0.3, 1.0), 0.0).astype(np.float32),
        brow_raise=d.bell(-1, 1),
        squint=d.unit() ** 2 * np.float32(0.45),
        gaze_x=d.bell(-1, 1),
        gaze_y=d.bell(-1, 1),
        light=light,
        light_colour=np.stack([1 + warmth, np.ones_like(warmth), 1 - warmth], 1),
        ambient=d.between(0.40, 0.62),
        background=np.where(d.unit() < 0.5, d.choice(2), 2 + d.choice(3)).astype(np.int64),
        wall_colour=np.clip(wall, 0, 1).astype(np.float32),
        wall_accent=np.clip(accent, 0, 1).astype(np.float32),
        wall_period=d.between(9, 18),
        wall_angle=d.between(-1.57, 1.57),
        collar=d.choice(3),
        collar_contrast=contrast,
        cloth_colour=cloth,
        collar_colour=np.where(contrast[:, None] > 0, stark, cloth * np.float32(0.72)).astype(np.float32),
        glasses=d.chance(glasses),
        glasses_size=d.between(0.165, 0.20),
        glasses_round=d.between(0.0, 1.0),
        glasses_colour=d.between(0.03, 0.30)[:, None]
        * np.stack([np.ones(len(key)), d.between(0.6, 1), d.between(0.5, 1)], 1).astype(np.float32),
        blur=d.between(0.25, 0.55),
        noise=d.between(0.003, 0.012),
        exposure=d.between(0.90, 1.08),
    )
