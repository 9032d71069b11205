"""The head without its features: outline, relief and light, skin, ears, neck and clothes.

Painters take columns of identity `p` and nuisance `n` and a `Frame`; they paint on the canvas in place. Calls
`geometry`; is called by `render` and, for the outlines, by `parts`.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from .geometry import SIZE, Frame, blend, bump, cover, darken, project, ramp, tile_noise, window


def outline(p: SimpleNamespace, f: Frame) -> np.ndarray:
    """Implicit outline of the head in the head plane: negative inside, about -1 at the middle. (N, H, W)."""
    t = f.v - 0.06
    low = np.maximum(t, 0) / (p.jaw_length - 0.06)
    high = np.minimum(t, 0) / (p.head_height + 0.06)
    low2 = low * low
    taper = p.jaw_taper * low2 * (0.45 + 0.55 * low)
    half_width = p.head_width * (1 - np.minimum(taper, 0.75))
    bulge = 0.018 * p.cheek * bump((np.abs(t - 0.16) * (1 / 0.3)) ** 2)  # cheekbones
    half_width = half_width + bulge
    low6 = low2 * low2 * low2
    high2 = high * high
    closing = low2 + p.jaw_square * 0.8 * (low6 - low2) + high2 + 0.45 * p.forehead * (high2 * high2 - high2)
    return (f.u / half_width) ** 2 + closing - 1


def relief(p: SimpleNamespace, n: SimpleNamespace, f: Frame) -> np.ndarray:
    """Height of the face in units: ellipsoid, sockets, cheeks, nose, lips, chin. (N, H, W)."""
    z = 0.62 * f.z
    # Every hill has compact support, so each is added only to the rows that it can reach.
    rows = slice(26, 90)
    fu, fv, part = f.fu[:, rows], f.fv[:, rows], z[:, rows]
    au = np.abs(fu)
    part -= 0.055 * bump(((au - p.eye_spacing) * (1 / 0.19)) ** 2 + ((fv - p.eye_height) * (1 / 0.13)) ** 2)
    part += (0.045 + 0.0135 * n.smile) * bump(((au - 0.30) * (1 / 0.26)) ** 2 + ((fv - 0.20) * (1 / 0.20)) ** 2)
    part += 0.022 * bump((fu * (1 / 0.45)) ** 2 + ((fv + 0.17) * (1 / 0.10)) ** 2)
    rows = slice(68, SIZE)
    fu, fv, part = f.fu[:, rows], f.fv[:, rows], z[:, rows]
    chin_v = p.jaw_length - 0.13
    part += (0.02 + 0.05 * p.chin_relief) * bump((fu * (1 / 0.19)) ** 2 + ((fv - chin_v) * (1 / 0.12)) ** 2)
    part -= 0.03 * p.chin_cleft * bump((fu * (1 / 0.035)) ** 2 + ((fv - chin_v) * (1 / 0.09)) ** 2)
    # nose: a ridge that rises from the root to the tip, a round tip and two wings, seen from the side when turned
    wx, wy = project(f, 0.05 * f.turn[1], np.full_like(p.nose_length, 0.13))
    w = window(wx, wy, 48, 40)
    fu, fv = w.read(f.fu), w.read(f.fv)
    tip_v = p.nose_length - 0.035
    along = np.clip((fv + 0.06) / (tip_v + 0.06), 0, 1)
    nu = fu - 0.10 * f.turn[1] * along
    fade = ramp(p.nose_length + 0.025, p.nose_length - 0.045, fv) * ramp(-0.14, 0.04, fv)
    ridge_width = p.nose_bridge + 0.030 + 0.03 * along
    nose = p.nose_relief * (0.035 + 0.085 * along) * fade * bump((nu / ridge_width) ** 2)
    tip = (nu / (p.nose_tip * 1.25)) ** 2 + ((fv - tip_v) / (p.nose_tip * 1.1)) ** 2
    nose += 0.075 * p.nose_relief * bump(tip)
    wing = ((np.abs(nu) - p.nose_width * 0.72) / (p.nose_width * 0.42)) ** 2 + (
        (fv - p.nose_length + 0.02) * (1 / 0.055)
    ) ** 2
    nose += 0.032 * p.nose_relief * bump(wing)
    w.write(z, w.read(z) + nose)
    return z


def light(z: np.ndarray, n: SimpleNamespace, f: Frame) -> tuple[np.ndarray, np.ndarray]:
    """Diffuse shade (about 0.4 to 1.1) and highlight (0 to 1) of a height field under the image's light. (N, H, W)
    each.
    """
    gx, gy = np.zeros_like(z), np.zeros_like(z)
    half = 0.5 * f.px
    gx[:, :, 1:-1] = (z[:, :, 2:] - z[:, :, :-2]) * half
    gy[:, 1:-1, :] = (z[:, 2:, :] - z[:, :-2, :]) * half
    np.clip(gx, -1.6, 1.6, out=gx)
    np.clip(gy, -1.6, 1.6, out=gy)
    lx, ly, lz = n.light
    inverse = 1 / np.sqrt(gx * gx + gy * gy + 1)
    diffuse = np.maximum((lz - lx * gx - ly * gy) * inverse, 0)
    hz = lz + 1
    norm = 1 / np.sqrt(lx * lx + ly * ly + hz * hz)
    half_way = np.maximum((hz - lx * gx - ly * gy) * inverse * norm, 0)
    s = half_way * half_way
    s = s * s
    s = s * s
    return n.ambient + (1.06 - n.ambient) * diffuse, s * s


def skin(p: SimpleNamespace, n: SimpleNamespace, f: Frame, shade: np.ndarray, shine: np.ndarray) -> list[np.ndarray]:
    """Lit skin colour of the whole frame: blush, blotches, freckles, moles, stubble. Three planes (N, H, W)."""
    fu, fv = f.fu, f.fv
    blotch = tile_noise(fu * 60 + 40 * p.hair_phase, fv * 60)
    blotch *= np.float32(0.012)
    rows = slice(34, 86)
    au = np.abs(fu[:, rows])
    blush = np.zeros_like(fu)
    blush[:, rows] = (0.04 + 0.10 * p.blush) * bump(
        ((au - 0.31) * (1 / 0.19)) ** 2 + ((fv[:, rows] - 0.20) * (1 / 0.17)) ** 2
    )
    chosen = np.flatnonzero(p.freckles[:, 0, 0] > 0)
    freckle = np.zeros_like(blush) if len(chosen) else None
    if freckle is not None:
        cu, cv = fu[chosen, rows], fv[chosen, rows]
        spots = tile_noise(cu * 190 + 255 * p.hair_phase[chosen], cv * 190 + 90)
        freckle[chosen, rows] = (
            p.freckles[chosen]
            * 0.30
            * np.clip(spots - 0.9, 0, 1)
            * bump((cu * (1 / 0.46)) ** 2 + ((cv - 0.14) * (1 / 0.26)) ** 2)
        )
    chosen = np.flatnonzero(p.beard[:, 0, 0] > 0)
    rows = slice(34, SIZE)
    if len(chosen):
        cu, cv = fu[chosen, rows], fv[chosen, rows]
        grain = tile_noise(cu * 480 + 100 * p.hair_phase[chosen], cv * 330)
        beard = np.clip(beard_cover(np.abs(cu), cv) * p.beard[chosen] * (0.80 + 0.10 * grain), 0, 0.93)
    out = []
    for c, (blush_gain, freckle_gain, depth) in enumerate(((-0.1, 0.75, 0.30), (1.0, 1.0, 0.0), (0.9, 1.1, -0.06))):
        base = blush * np.float32(-blush_gain)
        base += blotch
        base += np.float32(1)
        base *= p.skin_colour[c]
        if freckle is not None:
            base *= 1 - np.float32(freckle_gain) * freckle
        if len(chosen):
            shaved = base[chosen, rows]
            base[chosen, rows] = shaved + beard * (p.beard_colour[c][chosen] - shaved)
        # light that has passed under the skin comes back red: shadows lose less red than blue
        base *= shade * np.float32(1 - 0.45 * depth) + np.float32(0.45 * depth)
        base *= n.light_colour[c]
        gloss = 0.16 * shine
        if len(chosen):
            gloss[chosen, rows] *= 1 - 0.7 * beard
        base += gloss
        out.append(base)
    return out


def paint_moles(canvas: np.ndarray, p: SimpleNamespace, f: Frame) -> None:
    """Up to three moles, in place."""
    for k in range(3):
        if not (p.mole_size[k] > 0).any():
            continue
        cx, cy = project(f, p.mole_u[k], p.mole_v[k])
        w = window(cx, cy, 10, 10)
        r = np.sqrt((w.read(f.fu) - p.mole_u[k]) ** 2 + (w.read(f.fv) - p.mole_v[k]) ** 2) - p.mole_size[k]
        patch = w.read(canvas)
        darken(patch, 0.62 * cover(r * f.px) * (p.mole_size[k] > 0), (0.8, 1.0, 1.05))
        w.write(canvas, patch)


def beard_cover(au: np.ndarray, fv: np.ndarray) -> np.ndarray:
    """Where a beard grows: lower cheeks, chin and upper lip, not the lips; from |face u| and face v. In [0, 1]."""
    line = 0.50 - 0.50 * ramp(0.20, 0.54, au)  # rises towards the ears
    below = ramp(line - 0.05, line + 0.07, fv)
    lip = ramp(0.16, 0.10, np.abs(fv - 0.41) + 0.25 * au) * ramp(0.345, 0.375, fv) * ramp(0.30, 0.20, au)
    mouth = bump((au * (1 / 0.25)) ** 2 + ((fv - 0.50) * (1 / 0.105)) ** 2)
    return np.maximum(below * (1 - np.minimum(1.6 * mouth, 1)), lip * 0.9)


def paint_neck(canvas: np.ndarray, p: SimpleNamespace, n: SimpleNamespace, f: Frame) -> None:
    """Neck with the chin's shadow, shoulders, and the collar; the lower rows of the canvas, in place."""
    top = 70
    rows = slice(top, None)
    u, v = f.u[:, rows], f.v[:, rows]
    part = canvas[:, :, rows]
    au = np.abs(u)
    neck = cover((au - p.neck_width - 0.25 * np.maximum(v - 0.85, 0)) * f.px)
    across = np.clip(u / p.neck_width, -1, 1)
    shade = n.ambient + (1.02 - n.ambient) * np.maximum(
        n.light[2] * np.sqrt(1 - 0.85 * across * across) + n.light[0] * across, 0
    )
    chin_shadow = 1 - 0.48 * ramp(0.17, 0.02, v - p.jaw_length + 0.5 * au * au)
    tone = shade * chin_shadow
    lit = [p.skin_colour[c] * (tone + d * (1 - tone)) * n.light_colour[c] for c, d in enumerate((0.14, 0.0, -0.03))]
    blend(part, neck, lit)

    shoulder = 0.80 + 0.10 * np.abs(au - 0.30) + 0.32 * np.maximum(au - 0.30, 0)
    cloth = cover((shoulder - v) * f.px)
    v_neck, shirt = n.collar == 1, n.collar == 2
    depth = np.float32(0.93)
    one = shirt.astype(np.float32)
    wedge = (v - 1.12 + 0.12 * one) + au * (1 - 0.15 * one)
    opening = np.where(v_neck | shirt, wedge, np.sqrt(au * au + (v - 0.78) ** 2) - depth + 0.65)
    cloth = cloth * cover(-opening * f.px)
    fold = 1 + 0.05 * tile_noise(u * 16 + 50 * p.hair_phase, v * 22)
    cloth_shade = (0.62 + 0.34 * np.maximum(n.light[2] + 0.5 * n.light[0] * u, 0)) * fold
    band = cover((np.abs(opening - 0.045) - (0.042 + 0.033 * one)) * f.px)
    band = band * ramp(0.0, 0.02, cloth)
    colour = [(n.cloth_colour[c] + band * (n.collar_colour[c] - n.cloth_colour[c])) * cloth_shade for c in range(3)]
    blend(part, cloth, colour)
    edge = cover((np.abs(opening - 0.092 - 0.033 * one) - 0.008) * f.px) * cloth
    darken(part, 0.35 * edge, (1.0, 1.0, 1.0))


def paint_ears(canvas: np.ndarray, p: SimpleNamespace, n: SimpleNamespace, f: Frame) -> None:
    """Both ears, behind the head, in place."""
    for side in (-1.0, 1.0):
        # A turned head shows more of the ear it turns away from.
        out = 0.012 + p.ear_out - side * 0.10 * f.turn[1]
        centre_u = side * (p.head_width + out - 0.02)
        cx, cy, cos, sin = f.affine
        wx = cx + f.px * (cos * centre_u - sin * p.ear_height)
        wy = cy + f.px * (sin * centre_u + cos * p.ear_height)
        w = window(wx, wy, 34, 26)
        u, v = w.read(f.u), w.read(f.v)
        eu, ev = side * (u - centre_u), v - p.ear_height
        eu = eu - 0.18 * ev * -1.0  # leans outwards at the top
        wide, tall = 0.075 + 0.35 * p.ear_out, p.ear_size
        k = np.sqrt((eu / wide) ** 2 + (ev / tall) ** 2)
        ear = cover((k - 1) * wide * f.px)
        rim = ramp(0.95, 0.60, k)
        inner = np.sqrt(((eu + 0.01) / (0.5 * wide)) ** 2 + ((ev + 0.01) / (0.55 * tall)) ** 2)
        hollow = ramp(1.0, 0.5, inner)
        tone = np.clip(n.ambient + (1.0 - n.ambient) * (0.75 + 0.45 * side * n.light[0]), 0.3, 1.05)
        tone = tone * (1.0 - 0.16 * rim) * (1 - 0.36 * hollow)
        patch = w.read(canvas)
        blend(patch, ear, [p.skin_colour[c] * tone * g * n.light_colour[c] for c, g in enumerate((1.0, 0.93, 0.90))])
        w.write(canvas, patch)


def ear_centre(p: SimpleNamespace, f: Frame, side: float) -> tuple[np.ndarray, np.ndarray]:
    """Pixel (x, y) of an ear's centre; side -1 is the image's left. (N, 1, 1) each."""
    centre_u = side * (p.head_width + p.ear_out - side * 0.10 * f.turn[1])
    cx, cy, cos, sin = f.affine
    return cx + f.px * (cos * centre_u - sin * p.ear_height), cy + f.px * (sin * centre_u + cos * p.ear_height)
