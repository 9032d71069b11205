"""Coordinates and brushes: where each pixel lies on the head, and how a shape becomes soft coverage.

Planes are float32 (N, 112, 112); per-image numbers are (N, 1, 1) so that they broadcast; a canvas is (3, N, 112, 112).
Small parts are painted in `Window`s (a fixed-size crop per image), because most of a frame is not an eye. Calls numpy
only; is called by every painter.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np

SIZE = 112
UNIT = 61.0  # pixels per face unit at scale 1
EYE_LINE = 51.5  # row of the eye line in the standard crop
_HEAD_RADII = (0.62, 0.84, 0.60)  # the ellipsoid that carries out-of-plane pose


def columns(record: Any) -> SimpleNamespace:
    """A dataclass of (N,) and (N, K) arrays as broadcastable float32: (N, 1, 1), and (K, N, 1, 1) for vectors."""
    out = {}
    for f in fields(record):
        value = getattr(record, f.name)
        if value.dtype == np.uint64:
            out[f.name] = value
        elif value.ndim == 1:
            out[f.name] = value.astype(np.float32)[:, None, None]
        else:
            out[f.name] = value.T.astype(np.float32)[:, :, None, None]
    return SimpleNamespace(**out)


@dataclass(frozen=True)
class Frame:
    """Pixel coordinates of a batch: `u`, `v` in the head plane, `fu`, `fv` on the face's surface (after yaw and
    pitch).
    """

    x: np.ndarray
    y: np.ndarray
    u: np.ndarray
    v: np.ndarray
    fu: np.ndarray
    fv: np.ndarray
    z: np.ndarray  # height of the head ellipsoid, 0 outside it
    px: np.ndarray  # pixels per unit, (N, 1, 1)
    affine: tuple[np.ndarray, ...]  # centre x, centre y, cos roll, sin roll, each (N, 1, 1)
    turn: tuple[np.ndarray, ...]  # cos yaw, sin yaw, cos pitch, sin pitch, each (N, 1, 1)


def frame(n: SimpleNamespace) -> Frame:
    """The frame of a batch of nuisance columns."""
    grid = np.arange(SIZE, dtype=np.float32)
    x, y = grid[None, None, :], grid[None, :, None]
    cx, cy = (SIZE - 1) / 2 + n.shift_x, EYE_LINE + n.shift_y
    px = np.float32(UNIT) * n.scale
    cos, sin = np.cos(n.roll), np.sin(n.roll)
    dx, dy = (x - cx) / px, (y - cy) / px
    u, v = cos * dx + sin * dy, cos * dy - sin * dx
    a, b, c = (np.float32(r) for r in _HEAD_RADII)
    z = c * np.sqrt(np.maximum(1 - (u * (1 / a)) ** 2 - ((v - 0.02) * (1 / b)) ** 2, 0))
    turn = (np.cos(n.yaw), np.sin(n.yaw), np.cos(n.pitch), np.sin(n.pitch))
    # Rotating the point (u, v, z) back by the pose says which point of the frontal face is seen in this pixel.
    fu = u * turn[0] - z * turn[1]
    fv = v * turn[2] - z * turn[3]
    return Frame(x, y, u, v, fu, fv, z, px, (cx, cy, cos, sin), turn)


def project(f: Frame, fu: np.ndarray, fv: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixel (x, y) of points of the face's surface; (N, 1, 1) in and out. Inverse of `frame` to within a pixel."""
    a, b, c = _HEAD_RADII
    z = c * np.sqrt(np.maximum(1 - (fu / a) ** 2 - ((fv - 0.02) / b) ** 2, 0))
    u, v = (fu + z * f.turn[1]) / f.turn[0], (fv + z * f.turn[3]) / f.turn[2]
    for _ in range(3):  # z is needed at the turned place, which depends on z: a few fixed-point steps settle it
        z = c * np.sqrt(np.maximum(1 - (u / a) ** 2 - ((v - 0.02) / b) ** 2, 0))
        u, v = (fu + z * f.turn[1]) / f.turn[0], (fv + z * f.turn[3]) / f.turn[2]
    cx, cy, cos, sin = f.affine
    return cx + f.px * (cos * u - sin * v), cy + f.px * (sin * u + cos * v)


@dataclass(frozen=True)
class Window:
    """A crop of `height` x `width` pixels per image, clamped into the frame."""

    flat: np.ndarray  # places in the flattened batch of planes, int64 (N, height, width)

    def read(self, plane: np.ndarray) -> np.ndarray:
        """The crop of a plane (N, H, W) or of a canvas (3, N, H, W); a copy."""
        if plane.ndim == 3:
            return plane.reshape(-1).take(self.flat)
        return plane.reshape(len(plane), -1).take(self.flat, axis=1)

    def write(self, plane: np.ndarray, patch: np.ndarray) -> None:
        """Put a crop back, in place. The plane or canvas must be contiguous."""
        if plane.ndim == 3:
            plane.reshape(-1)[self.flat] = patch
            return
        for flat_plane, part in zip(plane.reshape(len(plane), -1), patch, strict=True):
            flat_plane[self.flat] = part


def window(x: np.ndarray, y: np.ndarray, height: int, width: int) -> Window:
    """A window centred on pixel (x, y) of each image; x, y are (N, 1, 1)."""
    left = np.clip(np.round(x).astype(np.int64) - width // 2, 0, SIZE - width)
    top = np.clip(np.round(y).astype(np.int64) - height // 2, 0, SIZE - height)
    corner = (np.arange(len(left))[:, None, None] * SIZE + top) * SIZE + left
    return Window(corner + (np.arange(height)[:, None] * SIZE + np.arange(width)))


def cover(distance: np.ndarray) -> np.ndarray:
    """Coverage in [0, 1] of a shape whose signed distance in pixels is negative inside: one pixel of soft edge."""
    out = np.asarray(np.float32(0.5) - distance)
    return np.clip(out, 0, 1, out=out)


def cover_implicit(value: np.ndarray) -> np.ndarray:
    """Coverage of {value < 0} for any smooth function on the full pixel grid: divides by its slope per pixel."""
    slope = np.empty_like(value)
    gx = value[:, :, 2:] - value[:, :, :-2]
    gy = value[:, 2:, :] - value[:, :-2, :]
    slope[:, 1:-1, 1:-1] = np.sqrt(gx[:, 1:-1] ** 2 + gy[:, :, 1:-1] ** 2)
    slope[:, 0], slope[:, -1], slope[:, :, 0], slope[:, :, -1] = (
        slope[:, 1],
        slope[:, -2],
        slope[:, :, 1],
        slope[:, :, -2],
    )
    return np.clip(np.float32(0.5) - value / (np.float32(0.5) * slope + np.float32(1e-4)), 0, 1)


def ramp(low: Any, high: Any, value: np.ndarray) -> np.ndarray:
    """Smoothstep from 0 at `low` to 1 at `high`."""
    scale = 1 / (high - low)
    t = np.asarray(value * np.asarray(scale, np.float32) - np.asarray(low * scale, np.float32))
    np.clip(t, 0, 1, out=t)
    square = t * t
    t *= np.float32(-2)
    t += np.float32(3)
    return t * square


def bump(r2: np.ndarray) -> np.ndarray:
    """A round hill of compact support: (1 - r**2)**2 inside the unit circle, exactly 0 outside."""
    t = np.asarray(np.float32(1) - r2)
    np.maximum(t, 0, out=t)
    return np.multiply(t, t, out=t)


def blend(canvas: np.ndarray, alpha: np.ndarray, colour: Any) -> None:
    """Paint `colour` (3 planes or 3 broadcastable numbers) over the canvas with coverage alpha, in place."""
    for channel in range(3):
        change = colour[channel] - canvas[channel]
        change *= alpha
        canvas[channel] += change


def darken(canvas: np.ndarray, amount: np.ndarray, tint: tuple[float, float, float] = (0.8, 1.0, 1.05)) -> None:
    """Multiply by 1 - amount, a little less in red (as shaded skin does), in place."""
    for channel in range(3):
        canvas[channel] *= np.float32(1) - np.float32(tint[channel]) * amount


@cache
def noise_line() -> np.ndarray:
    """1024 values of smooth periodic noise in [-1, 1]: strands of hair. Read-only float32."""
    rng = np.random.Generator(np.random.PCG64(20240501))
    spectrum = np.zeros(513, np.complex128)
    k = np.arange(1, 257)
    spectrum[1:257] = np.exp(2j * np.pi * rng.random(256)) / np.sqrt(1 + (k / 96.0) ** 2)
    line = np.fft.irfft(spectrum, 1024)
    line = (line / np.abs(line).max()).astype(np.float32)
    line.setflags(write=False)
    return line


@cache
def noise_tile() -> np.ndarray:
    """A 256 x 256 periodic tile of smooth noise, unit variance, features of about 6 texels. Read-only float32."""
    rng = np.random.Generator(np.random.PCG64(20240502))
    f = np.fft.fftfreq(256)[:, None] ** 2 + np.fft.rfftfreq(256)[None, :] ** 2
    tile = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((256, 256))) * np.exp(-f / (2 * 0.06**2)), (256, 256))
    tile = ((tile - tile.mean()) / tile.std()).astype(np.float32)
    tile.setflags(write=False)
    return tile


def line_noise(position: np.ndarray) -> np.ndarray:
    """Strand noise at a position in table steps (any real number; periodic in 1024)."""
    return np.take(noise_line(), position.astype(np.int32) & 1023)


def tile_noise(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Tile noise at (x, y) in texels (any real numbers; periodic in 256)."""
    return np.take(noise_tile(), ((y.astype(np.int32) & 255) << 8) + (x.astype(np.int32) & 255))
