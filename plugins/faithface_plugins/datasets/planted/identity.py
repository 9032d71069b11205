"""Who a planted face is: the parameters that stay when the same person is rendered again.

Lengths are in face units: the eye line is v = 0 (v grows downwards), the chin near v = 0.74, half the head's width near
0.55; one unit is 61 pixels at scale 1. `PART_FIELDS` says which parameters belong to which part, and is what a part
swap exchanges. Calls `draws`; is called by `render`, `parts` and the datasets.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from . import draws
from .draws import Rows, single_precision

SWAP_PARTS = ("eyes", "brows", "nose", "mouth", "jaw")
PALETTES = ("standard", "shifted")

PART_FIELDS: dict[str, tuple[str, ...]] = {
    "eyes": (
        "eye_spacing",
        "eye_width",
        "eye_open",
        "eye_tilt",
        "eye_height",
        "iris_size",
        "iris_colour",
        "lid_crease",
        "eye_bag",
        "lash",
    ),
    "brows": ("brow_height", "brow_thickness", "brow_length", "brow_arch", "brow_slope", "brow_colour", "brow_gap"),
    "nose": ("nose_length", "nose_width", "nose_bridge", "nose_tip", "nose_relief", "nostril_size"),
    "mouth": ("mouth_height", "mouth_width", "lip_upper", "lip_lower", "lip_bow", "lip_colour", "mouth_corner"),
    "jaw": ("jaw_length", "jaw_taper", "jaw_square", "chin_relief", "chin_cleft", "beard", "beard_colour"),
}

# Skin, light to deep, in sRGB: knots of a piecewise linear ramp.
_SKIN = np.array(
    [
        (0.97, 0.83, 0.75),
        (0.92, 0.74, 0.63),
        (0.83, 0.63, 0.50),
        (0.70, 0.50, 0.37),
        (0.52, 0.35, 0.25),
        (0.36, 0.235, 0.175),
    ],
    dtype=np.float32,
)
_HAIR = np.array(
    [
        (0.08, 0.07, 0.07),
        (0.19, 0.125, 0.09),
        (0.33, 0.21, 0.13),
        (0.45, 0.21, 0.12),
        (0.60, 0.44, 0.25),
        (0.82, 0.67, 0.43),
        (0.62, 0.61, 0.60),
    ],
    dtype=np.float32,
)
_HAIR_SHIFTED = np.array(
    [
        (0.16, 0.24, 0.50),
        (0.10, 0.42, 0.42),
        (0.62, 0.20, 0.42),
        (0.42, 0.22, 0.56),
        (0.86, 0.86, 0.84),
        (0.25, 0.45, 0.22),
        (0.75, 0.35, 0.15),
    ],
    dtype=np.float32,
)
_IRIS = np.array(
    [
        (0.25, 0.14, 0.08),
        (0.40, 0.25, 0.12),
        (0.50, 0.42, 0.20),
        (0.33, 0.48, 0.28),
        (0.30, 0.50, 0.68),
        (0.50, 0.57, 0.62),
    ],
    dtype=np.float32,
)
_LIP = np.array(
    [(0.80, 0.40, 0.38), (0.70, 0.28, 0.30), (0.74, 0.14, 0.22), (0.60, 0.30, 0.28), (0.86, 0.52, 0.48)],
    dtype=np.float32,
)


@dataclass(frozen=True)
class Identity:
    """Parameters of N people: every field is float32, shape (N,), colours (N, 3) in sRGB [0, 1], moles (N, 3)."""

    # head
    head_width: np.ndarray
    head_height: np.ndarray
    forehead: np.ndarray
    cheek: np.ndarray
    neck_width: np.ndarray
    # jaw
    jaw_length: np.ndarray
    jaw_taper: np.ndarray
    jaw_square: np.ndarray
    chin_relief: np.ndarray
    chin_cleft: np.ndarray
    beard: np.ndarray
    beard_colour: np.ndarray
    # skin
    skin_colour: np.ndarray
    blush: np.ndarray
    freckles: np.ndarray
    age: np.ndarray
    mole_u: np.ndarray
    mole_v: np.ndarray
    mole_size: np.ndarray
    # eyes
    eye_spacing: np.ndarray
    eye_width: np.ndarray
    eye_open: np.ndarray
    eye_tilt: np.ndarray
    eye_height: np.ndarray
    iris_size: np.ndarray
    iris_colour: np.ndarray
    lid_crease: np.ndarray
    eye_bag: np.ndarray
    lash: np.ndarray
    # brows
    brow_height: np.ndarray
    brow_thickness: np.ndarray
    brow_length: np.ndarray
    brow_arch: np.ndarray
    brow_slope: np.ndarray
    brow_gap: np.ndarray
    brow_colour: np.ndarray
    # nose
    nose_length: np.ndarray
    nose_width: np.ndarray
    nose_bridge: np.ndarray
    nose_tip: np.ndarray
    nose_relief: np.ndarray
    nostril_size: np.ndarray
    # mouth
    mouth_height: np.ndarray
    mouth_width: np.ndarray
    lip_upper: np.ndarray
    lip_lower: np.ndarray
    lip_bow: np.ndarray
    lip_colour: np.ndarray
    mouth_corner: np.ndarray
    # ears
    ear_size: np.ndarray
    ear_out: np.ndarray
    ear_height: np.ndarray
    # hair
    hair_colour: np.ndarray
    hair_cover: np.ndarray
    hair_line: np.ndarray
    hair_curve: np.ndarray
    hair_top: np.ndarray
    hair_side: np.ndarray
    hair_length: np.ndarray
    hair_part: np.ndarray
    hair_sweep: np.ndarray
    hair_curl: np.ndarray
    hair_recede: np.ndarray
    hair_phase: np.ndarray

    def __post_init__(self) -> None:
        single_precision(self)

    def __len__(self) -> int:
        return len(self.head_width)

    def take(self, indices: Rows) -> Identity:
        """The people at these indices (with repeats, in this order)."""
        return Identity(**{f.name: getattr(self, f.name)[indices] for f in fields(self)})


def parameter_count() -> int:
    """How many scalar parameters one person has."""
    one = sample_identities(0, 1)
    return sum(int(np.prod(getattr(one, f.name).shape[1:], dtype=np.int64)) for f in fields(one))


def _ramp(knots: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Piecewise linear colour at t in [0, 1]. (K, 3), (N,) -> float32 (N, 3)."""
    place = np.clip(t, 0, 1) * (len(knots) - 1)
    low = np.minimum(place.astype(np.int64), len(knots) - 2)
    rest = (place - low).astype(np.float32)[:, None]
    return knots[low] * (1 - rest) + knots[low + 1] * rest


def sample_identities(seed: int, people: int | np.ndarray, palette: str = "standard") -> Identity:
    """People of a seed: `people` is a count or an array of person numbers; person k is the same in every call.

    `palette="shifted"` is the out-of-set variant: dyed hair and other lip colours on the same geometry.
    Raises ValueError for a count below 1 or an unknown palette.
    """
    if isinstance(people, (int, np.integer)) and people < 1:
        raise ValueError(f"people: got {people}, expected at least 1 (or an array of person numbers)")
    if palette not in PALETTES:
        raise ValueError(f"palette: got {palette!r}, expected one of {', '.join(PALETTES)}")
    d = draws.Stream(draws.keys(seed, "identity", people))
    tone = d.unit()
    skin = _ramp(_SKIN, tone) + np.stack([d.between(-0.02, 0.03), d.between(-0.02, 0.015), d.between(-0.03, 0.02)], 1)

    hair_pick = d.unit() ** (1.0 + 1.6 * (tone > 0.55))  # deeper skin mostly goes with darker hair
    hair = _ramp(_HAIR_SHIFTED if palette == "shifted" else _HAIR, hair_pick)
    hair = np.clip(hair * d.between(0.85, 1.15)[:, None], 0.03, 0.95)
    iris_pick = d.unit() ** (1.0 + 1.5 * (tone > 0.5))
    iris = _ramp(_IRIS, iris_pick) * d.between(0.85, 1.2)[:, None]
    lip = _LIP[d.choice(len(_LIP))]
    if palette == "shifted":
        lip = lip[:, [0, 2, 1]] * np.float32(0.9)
    lip_weight = d.between(0.25, 0.75)[:, None]
    lip = lip * lip_weight + skin * np.array([0.86, 0.66, 0.66], np.float32) * (1 - lip_weight)

    style = d.choice(6)  # 0 short, 1 side part, 2 long, 3 fringe, 4 curly, 5 cropped or bald
    long_hair = np.isin(style, (2, 3)) | ((style == 4) & (d.unit() < 0.4))
    pick = lambda table: np.array(table, np.float32)[style]  # noqa: E731  one value per style
    length = np.where(long_hair, d.between(0.55, 1.25), d.between(-0.12, 0.16)).astype(np.float32)
    bald = (style == 5) & (d.unit() < 0.45)
    beard_likely = np.where(long_hair, 0.12, 0.55)
    beard = ((d.unit() < beard_likely) * d.between(0.25, 1.0)).astype(np.float32)
    side = np.sign(d.unit() - 0.5).astype(np.float32)
    mole_on = np.stack([d.chance(0.45), d.chance(0.35), d.chance(0.25)], 1)
    return Identity(
        head_width=d.bell(0.49, 0.60),
        head_height=d.bell(0.66, 0.76),
        forehead=d.between(0.0, 0.5),
        cheek=d.between(0.0, 1.0),
        neck_width=d.between(0.27, 0.37),
        jaw_length=d.between(0.67, 0.82),
        jaw_taper=d.between(0.04, 0.42),
        jaw_square=d.between(0.0, 0.85),
        chin_relief=d.between(0.0, 1.0),
        chin_cleft=d.chance(0.25) * d.between(0.4, 1.0),
        beard=beard,
        beard_colour=(hair * np.float32(0.75)).astype(np.float32),
        skin_colour=np.clip(skin, 0.05, 1.0).astype(np.float32),
        blush=d.between(0.0, 1.0),
        freckles=d.chance(0.3) * (tone < 0.6) * d.between(0.4, 1.0),
        age=d.unit() ** 2,
        mole_u=np.stack([d.between(-0.42, 0.42) for _ in range(3)], 1),
        mole_v=np.stack([d.between(0.05, 0.35), d.between(0.12, 0.4), d.between(0.2, 0.62)], 1),
        mole_size=mole_on * np.stack([d.between(0.014, 0.024) for _ in range(3)], 1),
        eye_spacing=d.between(0.215, 0.272),
        eye_width=d.between(0.115, 0.152),
        eye_open=d.between(0.38, 0.60),
        eye_tilt=d.between(-0.14, 0.26),
        eye_height=d.between(-0.025, 0.03),
        iris_size=d.between(0.052, 0.068),
        iris_colour=np.clip(iris, 0, 1).astype(np.float32),
        lid_crease=d.between(0.0, 1.0),
        eye_bag=d.between(0.0, 1.0),
        lash=d.between(0.5, 1.0),
        brow_height=d.between(0.130, 0.200),
        brow_thickness=d.between(0.016, 0.046),
        brow_length=d.between(0.115, 0.165),
        brow_arch=d.between(0.0, 0.060),
        brow_slope=d.between(-0.25, 0.14),
        brow_gap=d.between(-0.02, 0.03),
        brow_colour=np.clip(hair * d.between(0.5, 0.95)[:, None], 0.03, 0.6).astype(np.float32),
        nose_length=d.between(0.245, 0.345),
        nose_width=d.between(0.085, 0.150),
        nose_bridge=d.between(0.035, 0.065),
        nose_tip=d.between(0.055, 0.090),
        nose_relief=d.between(0.6, 1.25),
        nostril_size=d.between(0.6, 1.2),
        mouth_height=d.between(0.455, 0.515),
        mouth_width=d.between(0.140, 0.220),
        lip_upper=d.between(0.022, 0.056),
        lip_lower=d.between(0.032, 0.074),
        lip_bow=d.between(0.0, 1.0),
        lip_colour=np.clip(lip, 0, 1).astype(np.float32),
        mouth_corner=d.between(-0.02, 0.03),
        ear_size=d.between(0.115, 0.165),
        ear_out=d.between(0.0, 0.06),
        ear_height=d.between(0.02, 0.14),
        hair_colour=hair.astype(np.float32),
        hair_cover=np.where(bald, 0.0, np.where(style == 5, d.between(0.35, 0.85), 1.0)).astype(np.float32),
        hair_line=pick([-0.43, -0.42, -0.47, -0.235, -0.40, -0.47]) + d.between(-0.05, 0.05),
        hair_curve=pick([0.9, 0.7, 1.3, 0.35, 0.6, 1.1]) + d.between(-0.2, 0.3),
        hair_top=pick([0.07, 0.09, 0.05, 0.05, 0.12, 0.0]) + d.between(0.0, 0.07) * (style != 5),
        hair_side=pick([0.005, 0.01, 0.06, 0.06, 0.10, 0.0]) + d.between(0.0, 0.06) * (style != 5),
        hair_length=length,
        hair_part=side * d.between(0.0, 0.28),
        hair_sweep=side * pick([0.35, 1.0, 0.6, 0.0, 0.0, 0.0]) * d.between(0.4, 1.0),
        hair_curl=np.where(style == 4, 1.0, d.between(0.0, 0.35)).astype(np.float32),
        hair_recede=d.chance(0.35) * d.between(0.2, 1.0) * (~long_hair),
        hair_phase=d.between(0.0, 1.0),
    )


def swap_part(people: Identity, donors: Identity, part: str) -> Identity:
    """The same people with one part's parameters from the donors (row by row); every other parameter is unchanged.

    Raises ValueError for an unknown part or for different counts.
    """
    if part not in PART_FIELDS:
        raise ValueError(f"part: got {part!r}, expected one of {', '.join(PART_FIELDS)}")
    if len(people) != len(donors):
        raise ValueError(f"donors: got {len(donors)} identities for {len(people)} people; give one donor per person")
    return replace(people, **{name: getattr(donors, name) for name in PART_FIELDS[part]})
