"""Where the parts of a rendered face are: masks from the same geometry that painted it.

A part's region holds every pixel that the part's parameters can reach, its soft shadows included: exchanging one part
changes pixels only inside the regions of the old and the new part (a test says so). Calls `geometry`, `head`, `hair`,
`features`; is called by the datasets.
"""

from __future__ import annotations

import numpy as np

from . import features, hair, head
from .geometry import SIZE, columns, cover_implicit, frame, ramp
from .identity import SWAP_PARTS, Identity
from .nuisance import Nuisance
from .render import in_chunks

PART_NAMES = (*SWAP_PARTS, "hair", "ears", "face")


def part_masks(
    people: Identity, conditions: Nuisance, names: tuple[str, ...] = PART_NAMES, threads: int | None = None
) -> dict[str, np.ndarray]:
    """Masks by part name, each bool (N, 112, 112): eyes, brows, nose, mouth, jaw, hair, ears, face.

    `face` is the visible head with its ears (not hair, neck or glasses' arms); the five swap parts may overlap a
    little, as their shadows do. Raises ValueError for an unknown name.
    """
    unknown = set(names) - set(PART_NAMES)
    if unknown:
        raise ValueError(f"part: got {sorted(unknown)[0]!r}, expected one of {', '.join(PART_NAMES)}")
    out = {name: np.zeros((len(people), SIZE, SIZE), bool) for name in names}

    def work(rows: slice) -> None:
        for name, mask in _masks(people.take(rows), conditions.take(rows)).items():
            if name in out:
                out[name][rows] = mask

    in_chunks(len(people), work, threads)
    return out


def _masks(people: Identity, conditions: Nuisance) -> dict[str, np.ndarray]:
    p, n = columns(people), columns(conditions)
    f = frame(n)
    fu, fv, au = f.fu, f.fv, np.abs(f.fu)
    shape = head.outline(p, f)
    skull = cover_implicit(shape) > 0.5
    strands = hair.front_cover(p, f, hair.silhouette(p, f))
    front, hidden = strands > 0.5, strands > 0.95

    eyes = ((au - p.eye_spacing) / 0.225) ** 2 + ((fv - p.eye_height + 0.005) / 0.160) ** 2 < 1
    middle = features.brow_height(p, n)
    along = (au - 0.245 - p.brow_gap) / p.brow_length
    lift = -p.brow_arch * (1 - (along - 0.25) ** 2) - p.brow_slope * 0.12 * along + 0.02
    brows = (np.abs(along) < 1.2) & (np.abs(fv - middle - lift) < p.brow_thickness * 1.7 + 0.030)
    # the nose widens from its root to its wings, and its shadow falls on the lip
    t = np.clip((fv + 0.06) / (p.nose_length + 0.06), 0, 1)
    nu = np.abs(fu - 0.10 * f.turn[1] * t)
    half = np.maximum(p.nose_bridge + 0.075 + 0.035 * t, (p.nose_width * 1.18 + 0.075) * ramp(0.30, 0.85, t))
    nose = (nu < half) & (fv > -0.17) & (fv < p.nose_length + 0.10)
    q, y, _, arch, upper, lower = features.mouth_shape(p, n, fu, fv)
    root = np.sqrt(arch)
    mouth = (
        (np.abs(q) < 1.36) & (y > upper - 1.15 * p.lip_upper * root - 0.065) & (y < lower + p.lip_lower * root + 0.08)
    )
    # the jaw: the lower outline and a margin outside it, the beard's ground, and the shadow under the chin
    rise = 0.46 - 0.52 * ramp(0.16, 0.54, au)
    reach = shape < 0.14
    shadow = (np.abs(f.u) < p.neck_width + 0.12) & (f.v > p.jaw_length - 0.12) & (f.v < p.jaw_length + 0.20)
    lips = (np.abs(q) < 0.98) & (y > upper - 0.6 * p.lip_upper * root) & (y < lower + 0.6 * p.lip_lower * root)
    moustache = (au < 0.32) & (fv > 0.335)
    hill = (fu / 0.20) ** 2 + ((fv - p.jaw_length + 0.13) / 0.135) ** 2 < 1  # the chin's relief also shades the lips
    jaw = (((reach & ((fv > rise) | moustache)) | shadow) & ~lips | hill) & ~hidden
    ears = np.zeros_like(skull)
    for side in (-1.0, 1.0):
        cx, cy = head.ear_centre(p, f, side)
        wide, tall = (0.085 + 0.35 * p.ear_out) * f.px, p.ear_size * f.px
        ears |= ((f.x - cx) / wide) ** 2 + ((f.y - cy) / tall) ** 2 < 1
    ears &= ~front & ~skull
    return {
        "eyes": eyes & ~hidden,
        "brows": brows & ~hidden,
        "nose": nose,
        "mouth": mouth,
        "jaw": jaw,
        "hair": front,
        "ears": ears,
        "face": (skull | ears) & ~front,
    }
