"""Presentation attacks on a painted scene: print, replay, mask, partial; and two kinds excluded from training.

Each function takes a `Scene` of n images and a `Stream` of n draws, and returns the altered canvas (3, n, 112, 112).
The camera runs afterwards, on the clean and on the altered canvas with the same noise, so the truth is what differs.
Calls `draws`, `geometry`, `features`; is called by `cues`.
"""

from __future__ import annotations

import numpy as np

from .draws import Stream
from .geometry import Frame, cover, project, ramp
from .render import Cue, Scene

TAU = np.float32(2 * np.pi)


def column(values: np.ndarray) -> np.ndarray:
    """(N,) -> float32 (N, 1, 1)."""
    return np.asarray(values, np.float32)[:, None, None]


def turned(
    f: Frame, cx: np.ndarray | np.float32, cy: np.ndarray | np.float32, angle: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pixel coordinates relative to (cx, cy), turned by an angle."""
    dx, dy = f.x - cx, f.y - cy
    return np.cos(angle) * dx + np.sin(angle) * dy, np.cos(angle) * dy - np.sin(angle) * dx


def halftone(canvas: np.ndarray, f: Frame, pitch: np.ndarray, angle: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """Ink dots whose size follows the darkness below, with strength `amount` (n, H, W). New canvas."""
    a, b = turned(f, np.float32(0), np.float32(0), angle)
    screen = np.cos(TAU / pitch * a) * np.cos(TAU / pitch * b)
    grey = canvas.mean(0)
    ink = np.clip(0.5 + 1.6 * (screen - (1.3 * grey - 0.45)), 0, 1)
    return canvas * (1 + amount * (0.20 - 0.75 * ink))


def face_point(s: Scene, fu: float | np.ndarray, fv: float | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixel position of a point of each image's face. (n, 1, 1) each."""
    zero = np.zeros_like(s.n.roll)
    return project(s.frame, zero + fu, zero + fv)


def print_(s: Scene, d: Stream) -> np.ndarray:
    """A paper photograph: its white edge with a shadow, and halftone dots in the band that is in focus (paper
    curls).
    """
    f, canvas = s.frame, s.canvas
    cx, cy = face_point(s, 0.0, 0.08)
    angle = column(d.between(-0.10, 0.10))
    a, b = turned(f, cx, cy, angle)
    wide, tall = column(d.between(44, 49)), column(d.between(44, 49))
    edge = np.maximum(np.abs(a) - wide, np.abs(b) - tall)
    band_angle, band_width = column(d.between(-1.57, 1.57)), column(d.between(13, 19))
    along, _ = turned(f, cx + column(d.between(-10, 10)), cy + column(d.between(-12, 12)), band_angle)
    band = ramp(band_width, 0.55 * band_width, np.abs(along)) * cover(edge + 2)
    out = halftone(canvas, f, column(d.between(3.4, 4.3)), column(d.between(0.4, 1.1)), band)
    paper = cover(np.abs(edge) - 1.3)
    shadow = ramp(6.0, 1.0, edge) * (edge > 0)
    out = out * (1 - 0.45 * shadow)
    return out + paper * (0.94 - out)


def replay(s: Scene, d: Stream) -> np.ndarray:
    """A screen: its pixel grid with coloured moire where the camera is in focus, and a streak of glare."""
    f, canvas = s.frame, s.canvas
    cx, cy = face_point(s, column(d.between(-0.25, 0.25)), column(d.between(-0.25, 0.50)))
    a, b = turned(f, cx, cy, column(d.between(-0.12, 0.12)))
    radius = column(d.between(25, 32))
    focus = ramp(radius, 0.6 * radius, np.sqrt(a * a + b * b))
    pitch = column(d.between(2.6, 3.3))
    grid = 0.5 * (np.cos(TAU / pitch * a) + np.cos(TAU / pitch * b))
    slow_x, slow_y, phase = column(d.between(0.10, 0.22)), column(d.between(-0.2, 0.2)), column(d.between(0, 6.28))
    out = canvas * (1 + 0.26 * focus * grid)
    for c in range(3):
        out[c] += 0.085 * focus * np.cos(slow_x * a * 2 + slow_y * b * 2 + phase + 2.1 * c)
    gx, gy = face_point(s, column(d.between(-0.45, 0.45)), column(d.between(-0.5, 0.5)))
    ga, gb = turned(f, gx, gy, column(d.between(0.3, 1.2)))
    glare = np.exp(-((ga / column(d.between(12, 20))) ** 2) - (gb / column(d.between(2.2, 4.0))) ** 2)
    return out + 0.75 * glare * np.maximum(1.0 - out, 0)


def mask(s: Scene, d: Stream) -> np.ndarray:
    """A worn mask: cut-out edges round both eyes and the mouth, a dark gap inside a light lip of material."""
    f, out = s.frame, s.canvas.copy()
    thick = column(d.between(1.5, 2.2))
    eye_wide, eye_tall = column(d.between(0.165, 0.19)), column(d.between(0.095, 0.115))
    mouth_wide, mouth_tall = 1.22 * s.p.mouth_width, column(d.between(0.115, 0.14))
    holes = [(side * s.p.eye_spacing, s.p.eye_height, eye_wide, eye_tall) for side in (-1.0, 1.0)]
    holes.append((np.zeros_like(s.p.mouth_height), s.p.mouth_height + 0.012, mouth_wide, mouth_tall))
    for hole_u, hole_v, wide, tall in holes:
        r = np.sqrt(((f.fu - hole_u) / wide) ** 2 + ((f.fv - hole_v) / tall) ** 2)
        distance = (r - 1) * np.sqrt(wide * tall) * f.px
        gap = ramp(thick + 1.8, 0.4, -distance) * (distance < 0) * s.head
        rim = cover(np.abs(distance - 0.9) - 0.55 * thick) * s.head
        out *= 1 - 0.62 * gap
        out += 0.62 * rim * (np.array([0.93, 0.86, 0.80], np.float32)[:, None, None, None] - out)
    return out


_REGIONS = ((-0.25, 0.0), (0.25, 0.0), (0.0, 0.20), (0.0, 0.48), (-0.28, 0.28), (0.28, 0.28), (0.0, -0.22))


def partial(s: Scene, d: Stream) -> np.ndarray:
    """A printed patch over one region of the face: shifted content, halftone, a white cut edge and its shadow."""
    f, canvas = s.frame, s.canvas
    place = np.array(_REGIONS, np.float32)[d.choice(len(_REGIONS))]
    cx, cy = face_point(s, column(place[:, 0]), column(place[:, 1]))
    a, b = turned(f, cx, cy, column(d.between(-0.3, 0.3)))
    wide, tall = column(d.between(13, 18)), column(d.between(8.5, 12))
    edge = np.maximum(np.abs(a) - wide, np.abs(b) - tall)
    inside = cover(edge)
    moved = np.roll(canvas, (2, 2), axis=(2, 3))
    printed = halftone(0.12 + 0.80 * moved, f, column(d.between(3.0, 3.8)), column(d.between(0.4, 1.1)), 0.8 * inside)
    out = canvas * (1 - 0.40 * ramp(3.0, 0.3, edge) * (edge > 0))
    out = out + inside * (printed - out)
    return out + cover(np.abs(edge + 0.6) - 0.8) * (0.92 - out)


def banding(s: Scene, d: Stream) -> np.ndarray:
    """Unseen kind: dark bars of a display's refresh, rolling over part of the face."""
    f = s.frame
    _, cy = face_point(s, 0.0, column(d.between(-0.2, 0.45)))
    bars = 0.5 + 0.5 * np.cos(TAU * (f.y - cy) / column(d.between(7, 10)))
    window = ramp(column(d.between(20, 26)), 10.0, np.abs(f.y - cy)) * np.ones_like(f.u)
    out = s.canvas * (1 - 0.42 * window * bars * bars)
    out[1] *= 1 + 0.10 * window[:]
    return out


def sticker(s: Scene, d: Stream) -> np.ndarray:
    """Unseen kind: a camouflage sticker of bold colour cells on cheek, forehead or chin."""
    f, canvas = s.frame, s.canvas
    spots = np.array(((-0.28, 0.26), (0.28, 0.26), (0.0, -0.24), (0.0, 0.62)), np.float32)
    place = spots[d.choice(4)]
    cx, cy = face_point(s, column(place[:, 0]), column(place[:, 1]))
    a, b = turned(f, cx, cy, column(d.between(-1.5, 1.5)))
    radius = column(d.between(9, 12))
    inside = cover(np.sqrt(a * a + b * b) - radius)
    cells = np.sign(np.sin(a * 0.9) * np.sin(b * 0.9))
    hue = column(d.unit())
    out = canvas.copy()
    for c in range(3):
        colour = 0.5 + 0.42 * np.cos(TAU * (hue + c / 3) + cells)
        out[c] += 0.9 * inside * (colour - out[c])
    return out


PAD_KINDS: dict[str, Cue] = {"print": print_, "replay": replay, "mask": mask, "partial": partial}
PAD_UNSEEN: dict[str, Cue] = {"banding": banding, "sticker": sticker}
