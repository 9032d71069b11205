"""Hair: the mass behind the head and the hair in front, with strands, curls and a shine band.

Calls `geometry`; is called by `render`, and `parts` uses the masks.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from .geometry import Frame, cover, line_noise, ramp, tile_noise


def silhouette(p: SimpleNamespace, f: Frame) -> np.ndarray:
    """Signed distance in pixels to the outside of the hair, negative inside, without the cut at its length. (N, H,
    W).
    """
    a, b = p.head_width + p.hair_side, p.head_height + p.hair_top
    lower = np.maximum(f.v, 0)
    long = ramp(0.3, 0.6, p.hair_length)
    a = a * (1 + long * (0.16 * np.minimum(lower, 0.6)) - (1 - long) * 0.5 * lower)
    k = np.sqrt((f.u / a) ** 2 + (np.minimum(f.v, 0) / b) ** 2)
    rough = 0.3 + 2.2 * p.hair_curl
    edge = rough * 0.55 * tile_noise(f.u * (34 + 26 * p.hair_curl) + 200 * p.hair_phase, f.v * (34 + 26 * p.hair_curl))
    return (k - 1) * np.minimum(a, b) * f.px + edge


def back_cover(p: SimpleNamespace, f: Frame, outside: np.ndarray) -> np.ndarray:
    """Coverage of the hair behind the neck: long styles only. (N, H, W)."""
    wave = 0.03 * tile_noise(f.u * 40 + 99 * p.hair_phase, f.v * 4)
    end = cover((f.v - p.hair_length + wave) * f.px)
    return cover(outside) * end * (p.hair_length > 0.3) * (p.hair_cover > 0.9)


def front_cover(p: SimpleNamespace, f: Frame, outside: np.ndarray) -> np.ndarray:
    """Coverage of the hair in front of head, ears and shoulders. (N, H, W)."""
    fu, fv = f.fu, f.fv
    long = ramp(0.3, 0.6, p.hair_length)
    du = fu - p.hair_part
    line = (
        p.hair_line
        + p.hair_curve * fu * fu
        - p.hair_sweep * 0.35 * np.clip(du * np.sign(p.hair_part), -0.1, 0.6) * np.sign(p.hair_sweep * p.hair_part)
    )
    line = line - 0.13 * p.hair_recede * ramp(0.10, 0.24, np.abs(fu))
    jag = 0.013 * line_noise(fu * 210 + 900 * p.hair_phase) * (0.5 + p.hair_curl)
    half = p.head_width * (0.93 - 0.10 * long - 0.05 * p.hair_curl)
    top_gap, side_gap = line + jag - fv, np.abs(fu) - half - 0.012 * tile_noise(fv * 60, 200 * p.hair_phase)
    # a rounded union of the fringe and the sides, so that the forehead has soft corners
    k = 0.10
    h = np.maximum(k - np.abs(top_gap - side_gap), 0) * (1 / k)
    gap = np.maximum(top_gap, side_gap) + h * h * k * 0.25
    inside = cover(-gap * f.px)
    end = cover(
        (f.v - np.minimum(p.hair_length, 1.5) - 0.03 * tile_noise(f.u * 60, f.v * 6 + 90 * p.hair_phase)) * f.px
    )
    return cover(outside) * inside * end * p.hair_cover


def colour(p: SimpleNamespace, n: SimpleNamespace, f: Frame) -> list[np.ndarray]:
    """Lit hair colour of the whole frame, three planes (N, H, W)."""
    fu, fv = f.fu, f.fv
    fan = 0.32 + 0.75 * np.clip(fv + 0.80, 0, 0.85)
    across = (fu - p.hair_part) / fan
    strand = line_noise(across * 150 + 512 + 800 * p.hair_phase + 14 * np.abs(fv))
    coarse = line_noise(across * 38 + 300 + 800 * p.hair_phase)
    curl = tile_noise(fu * 125 + 60 * p.hair_phase + 3 * strand, fv * 125)
    texture = (1 - p.hair_curl) * (0.17 * strand + 0.16 * coarse) + p.hair_curl * 0.12 * curl
    round_u, round_v = f.u / 0.72, (f.v + 0.1) / 0.85
    height = np.clip(1 - round_u * round_u - 0.7 * np.minimum(round_v, 0) ** 2, 0.05, 1)
    facing = n.light[2] * np.sqrt(height) + n.light[0] * round_u * 0.9 + n.light[1] * np.clip(round_v, -1, 0.2) * 0.9
    shade = 0.50 * n.ambient + 0.72 * np.maximum(facing, 0)
    band_at = -0.55 + 0.25 * fu * fu - 0.15 * n.light[1]
    band = np.clip(1 - np.abs(fv - band_at + 0.06 * coarse) * (1 / 0.16), 0, 1)
    shine = 0.13 * band * band * (1 - 0.7 * p.hair_curl) * (0.6 + 0.5 * strand) * np.clip(facing + 0.3, 0, 1)
    tone = shade * (1 + texture)
    return [(p.hair_colour[c] * tone + shine * (0.5 + p.hair_colour[c])) * n.light_colour[c] for c in range(3)]
