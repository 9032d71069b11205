"""Around the face: wall, glasses, and the camera that turns a scene into an 8-bit image.

Calls `draws` and `geometry`; is called by `render`.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from . import draws
from .geometry import SIZE, Frame, blend, cover, darken, ramp


def paint_wall(canvas: np.ndarray, p: SimpleNamespace, n: SimpleNamespace, f: Frame) -> None:
    """The background: plain, gradient, stripes, dots or checks (all periods are well above a print's or screen's), in
    place.
    """
    cos, sin = np.cos(n.wall_angle), np.sin(n.wall_angle)
    along = f.x * cos + f.y * sin
    amount = np.clip(0.5 + (along - 56 * (cos + sin)) * (1 / 120), 0, 1) * (n.background == 1)
    chosen = np.flatnonzero(n.background[:, 0, 0] > 1)
    if len(chosen):
        period, kind = n.wall_period[chosen], n.background[chosen]
        a, b = along[chosen] / period, (f.y * cos[chosen] - f.x * sin[chosen]) / period
        ta, tb = np.abs(a - np.round(a)), np.abs(b - np.round(b))  # 0 at the middle of a cell, 0.5 at its edge
        soft = 1.2 / period
        stripes, across = ramp(0.25 - soft, 0.25 + soft, ta), ramp(0.25 - soft, 0.25 + soft, tb)
        dots = ramp(0.30 + soft, 0.30 - soft, np.sqrt(ta * ta + tb * tb))
        checks = np.minimum(stripes + across - 2 * stripes * across, 1)
        amount[chosen] = np.where(kind == 4, checks, np.where(kind == 3, dots, stripes))
    grid = np.arange(SIZE, dtype=np.float32) - 56
    vignette = 1 - np.float32(0.10 / 56**2) * (grid[None, :] ** 2 + grid[:, None] ** 2)
    for c in range(3):
        plane = canvas[c]
        np.multiply(amount, n.wall_accent[c] - n.wall_colour[c], out=plane)
        plane += n.wall_colour[c]
        plane *= vignette * n.light_colour[c]


def glasses_distance(n: SimpleNamespace, fu: np.ndarray, fv: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance in units to the lens outlines (negative inside a lens) and to bridge and temples. Shapes as fu."""
    au = np.abs(fu)
    wide, tall = n.glasses_size, n.glasses_size * 0.78
    corner = (0.35 + 0.62 * n.glasses_round) * tall
    qx = np.abs(au - 0.255) - wide + corner + 0.03
    qy = np.abs(fv - 0.025) - tall + corner
    lens = np.sqrt(np.maximum(qx, 0) ** 2 + np.maximum(qy, 0) ** 2) + np.minimum(np.maximum(qx, qy), 0) - corner
    bridge = np.maximum(np.abs(fv + 0.03 - 2.0 * au * au) - 0.013, au - 0.255 + wide - 0.03)
    temple = np.maximum(np.abs(fv + 0.03) - 0.015, 0.255 + wide - 0.035 - au)
    return lens, np.minimum(bridge, temple)


def paint_glasses(canvas: np.ndarray, n: SimpleNamespace, f: Frame, head: np.ndarray) -> None:
    """A frame with faint lenses, where the image has glasses, in place."""
    rows = slice(32, 76)
    worn = np.flatnonzero(n.glasses[:, 0, 0] > 0)
    if not len(worn):
        return
    fu, fv, px = f.fu[worn, rows], f.fv[worn, rows], f.px[worn]
    part = canvas[:, worn, rows]
    own = SimpleNamespace(glasses_size=n.glasses_size[worn], glasses_round=n.glasses_round[worn])
    lens, bars = glasses_distance(own, fu, fv)
    shadow = cover((np.abs(lens - 0.03) - 0.02) * px)
    darken(part, 0.10 * shadow)
    glare = cover(lens * px) * ramp(0.045, 0.0, np.abs((fu - n.light[0][worn] * 0.1) % 0.51 - 0.2 + 0.6 * fv))
    blend(part, 0.16 * glare, (0.95, 0.97, 1.0))
    rim = np.maximum(cover((np.abs(lens) - 0.0135) * px), cover(bars * px)) * head[worn, rows]
    blend(part, 0.96 * rim, n.glasses_colour[:, worn])
    canvas[:, worn, rows] = part


def blurred(canvas: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Gaussian blur with a 3-tap kernel, for the sub-pixel sigma of a lens in focus, (N, 1, 1); edges repeat. New
    array.
    """
    side = np.exp(-0.5 / (sigma * sigma))
    side = side / (1 + 2 * side)
    middle = 1 - 2 * side
    out = np.empty_like(canvas)
    for channel in range(3):  # one plane at a time stays in the cache
        source, plane = canvas[channel], out[channel]
        down = source * middle
        spread = source * side
        down[:, 1:] += spread[:, :-1]
        down[:, :-1] += spread[:, 1:]
        down[:, 0] += spread[:, 0]
        down[:, -1] += spread[:, -1]
        np.multiply(down, middle, out=plane)
        down *= side
        plane[:, :, 1:] += down[:, :, :-1]
        plane[:, :, :-1] += down[:, :, 1:]
        plane[:, :, 0] += down[:, :, 0]
        plane[:, :, -1] += down[:, :, -1]
    return out


def sensor_noise(key: np.ndarray) -> np.ndarray:
    """Noise of unit standard deviation, bell-shaped (the sum of two bytes). uint64 (N,) -> float32 (3, N, 112, 112)."""
    count = SIZE * SIZE * 3
    words = draws.bits(draws.derive(key, "sensor"), count // 4)
    data = words.view(np.uint8).reshape(len(key), 2, 3, SIZE, SIZE)
    total = data[:, 0].astype(np.float32) + data[:, 1]
    return (total.transpose(1, 0, 2, 3) - np.float32(255)) * np.float32(1 / 104.5)


def photograph(canvas: np.ndarray, n: SimpleNamespace, noise: np.ndarray) -> np.ndarray:
    """Exposure, lens blur, sensor noise and 8-bit levels. (3, N, 112, 112) -> uint8 (N, 112, 112, 3)."""
    image = blurred(canvas, n.blur)
    gain, spread = 255 * n.exposure, 255 * n.noise
    out = np.empty((image.shape[1], SIZE, SIZE, 3), np.uint8)
    for channel in range(3):
        plane = image[channel]
        plane *= gain
        plane += noise[channel] * spread
        plane += np.float32(0.5)
        np.clip(plane, 0, 255, out=plane)
        out[..., channel] = plane
    return out
