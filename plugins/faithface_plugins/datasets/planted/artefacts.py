"""Generator artefacts on a painted scene: what a face synthesiser gets wrong, planted in a known place.

Each function takes a `Scene` of n images and a `Stream` of n draws, and returns the altered canvas (3, n, 112, 112), as
`attacks` does. `allowed` says which artefacts fit a person (no checkerboard in the hair of the bald). Calls `draws`,
`geometry`, `features`, `head`; is called by `cues`.
"""

from __future__ import annotations

import numpy as np

from . import features, head
from .attacks import TAU, column, face_point, turned
from .draws import Stream
from .geometry import SIZE, cover, line_noise, ramp
from .identity import Identity
from .render import Cue, Scene
from .scene import glasses_distance


def warp(canvas: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Sample the canvas at pixel positions (x, y), bilinear, edges repeat. (3, n, H, W) and (n, H, W) -> new canvas."""
    x, y = np.clip(x, 0, SIZE - 1.001), np.clip(y, 0, SIZE - 1.001)
    left, top = x.astype(np.int64), y.astype(np.int64)
    rx, ry = (x - left).astype(np.float32), (y - top).astype(np.float32)
    i = np.arange(canvas.shape[1])[:, None, None]
    upper = canvas[:, i, top, left] * (1 - rx) + canvas[:, i, top, left + 1] * rx
    lower = canvas[:, i, top + 1, left] * (1 - rx) + canvas[:, i, top + 1, left + 1] * rx
    return upper * (1 - ry) + lower * ry


def iris(s: Scene, d: Stream) -> np.ndarray:
    """Highlights that contradict each other: a cyan and a magenta crescent on opposite sides of the two irises,
    bleeding out.
    """
    f, out = s.frame, s.canvas.copy()
    turn, flip = column(d.between(0, 6.28)), column(np.sign(d.unit() - 0.5))
    magenta, cyan = (1.0, 0.20, 0.85), (0.10, 1.0, 0.95)
    for side in (-1.0, 1.0):
        x, y, _, upper, lower = features.eye_shape(s.p, s.n, f.fu, f.fv, side)
        eye = cover(-np.minimum(y - upper + 0.008, lower + 0.012 - y) * f.px) * (np.abs(x) < 1.05 * s.p.eye_width)
        dx = x - side * s.n.gaze_x * 0.22 * s.p.eye_width
        dy = y - (s.n.gaze_y * 0.10 * s.p.eye_width - 0.008)
        r = np.sqrt(dx * dx + dy * dy)
        disc = cover((r - 1.60 * s.p.iris_size) * f.px)
        angle = turn + (np.float32(np.pi) if side > 0 else np.float32(0))
        facing = (np.cos(angle) * dx + np.sin(angle) * dy) / s.p.iris_size
        crescent = disc * ramp(-0.25, 0.15, facing) * ramp(0.25, 0.50, r / s.p.iris_size)
        warm, cold = (magenta, cyan) if side > 0 else (cyan, magenta)
        for c in range(3):
            colour = np.where(flip > 0, np.float32(warm[c]), np.float32(cold[c]))
            out[c] += eye * np.maximum(0.97 * crescent, 0.35 * disc) * (colour - out[c])
    return _under_glasses(s, out) if s.n.glasses.any() else out


def _under_glasses(s: Scene, altered: np.ndarray) -> np.ndarray:
    """Keep the painted frame of the glasses over an alteration of the eyes."""
    lens, bars = glasses_distance(s.n, s.frame.fu, s.frame.fv)
    rim = np.maximum(cover((np.abs(lens) - 0.0135) * s.frame.px), cover(bars * s.frame.px)) * s.n.glasses
    return altered + rim * (s.canvas - altered)


def checkerboard(s: Scene, d: Stream) -> np.ndarray:
    """The grid of a transposed convolution, in one patch of the hair."""
    f, canvas = s.frame, s.canvas
    u, v = column(d.between(-0.35, 0.35)), column(d.between(-0.68, -0.52))
    cx, cy = f.affine[0] + f.px * u, f.affine[1] + f.px * v
    radius = column(d.between(17, 23))
    r = np.sqrt((f.x - cx) ** 2 + (f.y - cy) ** 2)
    patch = ramp(radius, 0.6 * radius, r) * s.hair
    cell = np.sign(np.sin((f.x + 0.5) * (TAU / 4)) * np.sin((f.y + 0.5) * (TAU / 4)))
    grey = canvas.mean(0)
    return canvas + patch * cell * (0.07 + 0.24 * grey)


def melted(s: Scene, d: Stream) -> np.ndarray:
    """Dripping distortion of an ear, or of one side of the glasses where they are worn."""
    f, canvas = s.frame, s.canvas
    side = np.sign(d.unit() - 0.5).astype(np.float32)
    ear_l, ear_r = head.ear_centre(s.p, f, -1.0), head.ear_centre(s.p, f, 1.0)
    right, worn = column(side) > 0, s.n.glasses > 0
    lens_x, lens_y = face_point(s, column(side) * 0.27, 0.06)
    cx = np.where(worn, lens_x, np.where(right, ear_r[0], ear_l[0]))
    cy = np.where(worn, lens_y, np.where(right, ear_r[1], ear_l[1]) + 3)
    weight = ramp(1.0, 0.45, np.sqrt(((f.x - cx) / 14) ** 2 + ((f.y - cy) / 17) ** 2))
    phase = column(d.between(0, 6.28))
    sway = 3.0 * weight * np.sin(f.y * 0.55 + phase)
    out = np.empty_like(canvas)
    for c in range(3):  # each channel drips a little differently: coloured fringes
        drip = 0.5 + 0.5 * np.sin(f.x * 1.25 + phase + 0.9 * c + 0.10 * f.y)
        out[c] = warp(canvas[c : c + 1], f.x + sway * (1 + 0.35 * (c - 1)), f.y - 12.0 * weight * drip * drip)[0]
        out[c] *= 1 + 0.35 * weight * (2 * drip - 1)
    return out


def teeth(s: Scene, d: Stream) -> np.ndarray:
    """Too many, too dark, slanted seams across the teeth, running over the lips."""
    f, canvas = s.frame, s.canvas
    q, y, _, _, upper, lower = features.mouth_shape(s.p, s.n, f.fu, f.fv)
    zone = cover((np.abs(q) - 0.94) * s.p.mouth_width * f.px) * cover(
        -np.minimum(y - upper + 0.032, lower + 0.036 - y) * f.px
    )
    pitch, slant = column(d.between(3.0, 3.7)), column(d.between(-0.4, 0.4))
    a = (f.fu * f.px + slant * y * f.px) / pitch
    seam = 0.5 + 0.5 * np.cos(TAU * a)
    bright = canvas + 0.55 * (0.95 - canvas)
    striped = bright * (1 - 0.92 * seam)
    return canvas + zone * (striped - canvas)


def smeared(s: Scene, d: Stream) -> np.ndarray:
    """A corner of the background smeared into streaks that point at the head."""
    f, canvas = s.frame, s.canvas
    left = d.unit() < 0.5
    cx, cy = column(np.where(left, 12, SIZE - 13)), column(d.between(12, 34))
    r = np.sqrt((f.x - cx) ** 2 + ((f.y - cy) / 1.25) ** 2)
    free = (1 - s.head) * (1 - s.hair)
    blob = ramp(31.0, 19.0, r) * free * (f.y < 78)
    angle = column(np.where(left, d.between(0.3, 0.9), d.between(2.2, 2.8)))
    a, b = turned(f, cx, cy, angle)
    wobble = 2.0 * np.sin(a * 0.16)
    place = (b + wobble) * 20 + column(d.between(0, 1000))
    smear = warp(canvas, f.x - 14 * np.cos(angle) * blob, f.y - 14 * np.sin(angle) * blob)
    out = canvas.copy()
    for c in range(3):  # the streaks of the three channels do not quite agree
        streak = line_noise(place + 9 * c) + 0.5 * line_noise(0.4 * place + 300)
        out[c] += blob * (smear[c] * (1 + 0.95 * streak) + 0.10 * streak - out[c])
    return out


def droplet(s: Scene, d: Stream) -> np.ndarray:
    """Unseen kind: a water-drop blob on the skin."""
    f = s.frame
    cx, cy = face_point(s, column(d.between(-0.35, 0.35)), column(d.between(-0.3, 0.6)))
    dx, dy = f.x - cx, f.y - cy
    radius = column(d.between(7, 10))
    r = np.sqrt(dx * dx + dy * dy) / radius
    inside = ramp(1.0, 0.8, r)
    out = warp(s.canvas, f.x - 1.5 * dx * inside * (1 - r), f.y - 1.5 * dy * inside * (1 - r))
    ring = ramp(0.28, 0.0, np.abs(r - 0.85))
    shade = ring * np.clip((dx + dy) / radius, -1, 1)
    return out * (1 + 0.40 * shade) + 0.10 * inside


def bleeding(s: Scene, d: Stream) -> np.ndarray:
    """Unseen kind: colour channels that drift apart round the mouth or an eye."""
    f, canvas = s.frame, s.canvas
    place = np.array(((-0.24, 0.0), (0.24, 0.0), (0.0, 0.48)), np.float32)[d.choice(3)]
    cx, cy = face_point(s, column(place[:, 0]), column(place[:, 1]))
    weight = ramp(16.0, 9.0, np.sqrt((f.x - cx) ** 2 + (f.y - cy) ** 2))
    out = canvas.copy()
    out[0] += weight * (np.roll(canvas[0], 3, axis=2) - canvas[0])
    out[2] += weight * (np.roll(canvas[2], -3, axis=2) - canvas[2])
    return out


SYNTHETIC_KINDS: dict[str, Cue] = {
    "iris": iris,
    "checkerboard": checkerboard,
    "melted": melted,
    "teeth": teeth,
    "smeared": smeared,
}
SYNTHETIC_UNSEEN: dict[str, Cue] = {"droplet": droplet, "bleeding": bleeding}


def allowed(people: Identity, kind: np.ndarray) -> np.ndarray:
    """Whether each person's artefact can be seen on them. bool (N,)."""
    return (kind != "checkerboard") | (people.hair_cover > 0.9)
