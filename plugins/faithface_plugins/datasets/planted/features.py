"""Eyes, brows, nose and mouth, each painted in its own window on the lit skin.

Painters take columns of identity `p` and nuisance `n`, a `Frame`, the canvas and the skin's `shade`; they paint in
place. Calls `geometry`; is called by `render`, and `parts` uses the same centres.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from .geometry import Frame, blend, bump, cover, darken, line_noise, project, ramp, window


def eye_shape(
    p: SimpleNamespace, n: SimpleNamespace, fu: np.ndarray, fv: np.ndarray, side: float
) -> tuple[np.ndarray, ...]:
    """One eye in its own coordinates: x (towards the ear), y, q = x / half width, upper lid, lower lid (as y)."""
    x = side * fu - p.eye_spacing
    y = fv - p.eye_height + p.eye_tilt * x
    q = x / p.eye_width
    arch = 1 - q * q
    smile = np.maximum(n.smile, 0)
    opening = p.eye_width * p.eye_open * (1 - 0.75 * n.squint - 0.12 * smile)
    upper = -opening * arch * (1 - 0.22 * q)  # highest towards the nose
    lower = 0.62 * opening * arch * (1 + 0.20 * q) * (1 - 0.10 * smile)
    return x, y, q, upper, lower


def paint_eyes(canvas: np.ndarray, p: SimpleNamespace, n: SimpleNamespace, f: Frame, shade: np.ndarray) -> None:
    """Sockets, lids, lashes, sclera, iris, pupil and highlight of both eyes, in place."""
    for side in (-1.0, 1.0):
        cx, cy = project(f, side * p.eye_spacing, p.eye_height)
        w = window(cx, cy, 32, 30)
        fu, fv, lit = w.read(f.fu), w.read(f.fv), w.read(shade)
        patch = w.read(canvas)
        x, y, q, upper, lower = eye_shape(p, n, fu, fv, side)
        socket = bump((x * (1 / 0.20)) ** 2 + ((y + 0.01) * (1 / 0.13)) ** 2)
        darken(patch, 0.15 * socket)
        bag = bump((q * (1 / 1.1)) ** 2 + ((y - lower - 0.035) * (1 / 0.030)) ** 2)
        darken(patch, (0.05 + 0.20 * p.eye_bag) * bag)
        crease_at = upper - (0.020 + 0.028 * p.lid_crease)
        crease = cover((np.abs(y - crease_at) - 0.007) * f.px) * ramp(1.15, 0.75, np.abs(q))
        darken(patch, (0.10 + 0.42 * p.lid_crease) * crease)

        inside = np.minimum(y - upper, lower - y) * f.px
        eye = cover(-inside)
        gx, gy = side * n.gaze_x * 0.22 * p.eye_width, n.gaze_y * 0.10 * p.eye_width - 0.008
        dx, dy = x - gx, y - gy
        r = np.sqrt(dx * dx + dy * dy)
        white = 0.93 - 0.30 * ramp(0.040, 0.0, y - upper) - 0.16 * ramp(0.55, 1.0, np.abs(q))
        colour = [white * g * (0.55 + 0.42 * lit) for g in (1.0, 0.97, 0.95)]
        caruncle = ramp(-0.78, -0.98, q)
        iris = cover((r - p.iris_size) * f.px)
        ring = ramp(0.72, 1.0, r / p.iris_size)
        glow = 0.85 + 0.45 * np.clip((dy * -n.light[1] * -1 - dx * side * n.light[0]) / p.iris_size, -0.6, 1)
        pupil = cover((r - 0.44 * p.iris_size) * f.px)
        lid_shadow = 1 - 0.45 * ramp(0.05, 0.0, y - upper)
        for c in range(3):
            colour[c] = colour[c] + caruncle * ((0.72, 0.42, 0.40)[c] * (0.6 + 0.4 * lit) - colour[c])
            tint = p.iris_colour[c] * glow * (1 - 0.62 * ring) * (0.62 + 0.42 * lit) * lid_shadow
            colour[c] = colour[c] + iris * (tint - colour[c])
            colour[c] = colour[c] + pupil * (0.025 - colour[c])
        hx, hy = side * n.light[0] * 0.022, n.light[1] * 0.026 - 0.006
        spot = cover((np.sqrt((dx - hx) ** 2 + (dy - hy) ** 2) - 0.017) * f.px)
        for c in range(3):
            colour[c] = colour[c] + 0.95 * spot * (1.0 - colour[c])
        blend(patch, eye, colour)
        # The lash line sits on the upper lid, thickest towards the ear; the lower one is a hint.
        thick = (0.008 + 0.012 * p.lash) * (0.8 + 0.35 * np.clip(q, -1, 1))
        line = cover((np.abs(y - upper + 0.006) - thick) * f.px) * ramp(1.22, 1.0, np.abs(q))
        blend(patch, line * (0.60 + 0.36 * p.lash), (0.07, 0.05, 0.05))
        under = cover((np.abs(y - lower) - 0.006) * f.px) * ramp(1.1, 0.9, np.abs(q))
        darken(patch, 0.38 * under)
        w.write(canvas, patch)


def brow_height(p: SimpleNamespace, n: SimpleNamespace) -> np.ndarray:
    """v of the middle of the brows after the expression. (N, 1, 1)."""
    return -p.brow_height - 0.022 * n.brow_raise


def paint_brows(canvas: np.ndarray, p: SimpleNamespace, n: SimpleNamespace, f: Frame, shade: np.ndarray) -> None:
    """Both brows: an arched stroke that tapers outwards, with hairs, in place."""
    middle = brow_height(p, n)
    for side in (-1.0, 1.0):
        cx, cy = project(f, side * (0.245 + p.brow_gap), middle)
        w = window(cx, cy, 22, 34)
        fu, fv, lit = w.read(f.fu), w.read(f.fv), w.read(shade)
        patch = w.read(canvas)
        x = (side * fu - 0.245 - p.brow_gap) / p.brow_length
        y = fv - middle
        centre = -p.brow_arch * (1 - (x - 0.25) ** 2) - p.brow_slope * 0.12 * x + 0.02
        thick = p.brow_thickness * (1 - 0.40 * np.clip(x, -1, 1)) * ramp(1.08, 0.55, np.abs(x)) ** 0.5
        hair = line_noise((x + 0.9 * (y - centre) / p.brow_length) * 95 + 700 * p.hair_phase + 300 * side)
        stroke = ramp(1.15, 0.55, np.abs(y - centre) / (thick + 1e-3)) * (np.abs(x) < 1.08)
        alpha = np.clip(stroke * (0.86 + 0.45 * hair), 0, 0.97)
        blend(patch, alpha, [p.brow_colour[c] * (0.55 + 0.5 * lit) for c in range(3)])
        w.write(canvas, patch)


def nose_tip(p: SimpleNamespace, f: Frame) -> tuple[np.ndarray, np.ndarray]:
    """Face coordinates (u, v) of the middle of the nose's base; it moves sideways when the head turns. (N, 1, 1)
    each.
    """
    return 0.10 * f.turn[1], p.nose_length


def paint_nose(canvas: np.ndarray, p: SimpleNamespace, n: SimpleNamespace, f: Frame) -> None:
    """Nostrils, wing creases and the shadow under the tip; the relief has shaded the rest. In place."""
    base_u, base_v = nose_tip(p, f)
    cx, cy = project(f, base_u, base_v)
    w = window(cx, cy, 26, 34)
    x, y = w.read(f.fu) - base_u, w.read(f.fv) - base_v
    patch = w.read(canvas)
    ax = np.abs(x)
    cast_x = x + 0.04 * n.light[0]
    cast = bump((cast_x / (p.nose_width * 1.05)) ** 2 + ((y - 0.022) * (1 / 0.05)) ** 2) * ramp(-0.012, 0.012, y)
    darken(patch, 0.34 * cast)
    wing_u = p.nose_width * 0.80
    ring = np.sqrt(((ax - wing_u + 0.030) * (1 / 0.042)) ** 2 + ((y + 0.018) * (1 / 0.046)) ** 2)
    crease = cover((np.abs(ring - 1) - 0.17) * 0.045 * f.px) * ramp(wing_u - 0.035, wing_u - 0.005, ax)
    darken(patch, 0.27 * crease * ramp(-0.055, -0.02, y))
    hole = np.sqrt(
        ((ax - 0.46 * p.nose_width) / (0.032 * p.nostril_size)) ** 2
        + ((y + 0.002 - 0.25 * (ax - 0.46 * p.nose_width)) / (0.0175 * p.nostril_size)) ** 2
    )
    nostril = cover((hole - 1) * 0.020 * f.px)
    darken(patch, 0.72 * nostril, (0.92, 1.0, 1.0))
    w.write(canvas, patch)


def mouth_shape(p: SimpleNamespace, n: SimpleNamespace, fu: np.ndarray, fv: np.ndarray) -> tuple[np.ndarray, ...]:
    """The mouth in its own coordinates: q = u / half width, y, half width, arch, upper and lower edge of the opening
    (as y).
    """
    smile = np.maximum(n.smile, 0)
    half = p.mouth_width * (1 + 0.14 * smile - 0.06 * n.mouth_open)
    q = fu / half
    arch = np.clip(1 - q * q, 0, 1)
    curve = (-0.048 * n.smile - p.mouth_corner) * q * q
    y = fv - p.mouth_height - curve
    gap = n.mouth_open * 0.062
    return q, y, half, arch, -0.25 * gap * arch, gap * arch


def paint_mouth(canvas: np.ndarray, p: SimpleNamespace, n: SimpleNamespace, f: Frame, shade: np.ndarray) -> None:
    """Lips with a bow, and teeth and a dark cavity when open, in place."""
    cx, cy = project(f, np.zeros_like(p.mouth_height), p.mouth_height)
    w = window(cx, cy, 30, 40)
    fu, fv, lit = w.read(f.fu), w.read(f.fv), w.read(shade)
    patch = w.read(canvas)
    smile = np.maximum(n.smile, 0)
    q, y, half, arch, upper_open, lower_open = mouth_shape(p, n, fu, fv)
    aq = np.abs(q)
    bow = p.lip_bow * 0.32 * ramp(0.20, 0.0, aq)
    peak = 0.80 + 0.30 * ramp(0.0, 0.24, aq) * ramp(0.75, 0.24, aq)
    root = np.sqrt(arch)
    top = upper_open - p.lip_upper * root * (peak - bow) * (1 - 0.25 * smile)
    bottom = lower_open + p.lip_lower * root * (1 - 0.15 * smile)
    under = bump((q * (1 / 0.75)) ** 2 + ((y - bottom - 0.028) * (1 / 0.032)) ** 2)
    darken(patch, 0.20 * under)
    fold = bump(((aq - 1.10) * (1 / 0.16)) ** 2 + (y * (1 / 0.05)) ** 2)
    darken(patch, (0.08 + 0.12 * smile) * fold)
    inside_x = (1.0 - aq) * half
    lips = cover(-np.minimum(np.minimum(y - top, bottom - y), inside_x) * f.px)
    is_lower = ramp(-0.006, 0.006, y - 0.5 * (lower_open + upper_open))
    ridge = 0.88 + 0.18 * is_lower
    gloss = bump(
        ((q + 0.25 * -n.light[0]) * (1 / 0.55)) ** 2
        + ((y - lower_open - 0.42 * p.lip_lower) / (0.40 * p.lip_lower)) ** 2
    )
    tone = (0.30 + 0.72 * lit) * ridge
    blend(patch, lips, [p.lip_colour[c] * tone + 0.15 * gloss * is_lower for c in range(3)])
    # closed: a dark line; open: cavity with the upper teeth
    line = cover((np.abs(y - 0.5 * (lower_open + upper_open)) - 0.0075) * f.px) * ramp(0.98, 0.80, aq)
    darken(patch, 0.62 * line, (0.9, 1.0, 1.0))
    cavity = cover(-np.minimum(np.minimum(y - upper_open, lower_open - y), inside_x - 0.004) * f.px) * (
        n.mouth_open > 0
    )
    teeth_bottom = upper_open + 0.68 * (lower_open - upper_open)
    teeth = cover(-np.minimum(y - upper_open, teeth_bottom - y) * f.px) * ramp(0.96, 0.80, aq)
    seam = ramp(0.30, 0.04, np.abs(fu * (1 / 0.046) - np.round(fu * (1 / 0.046)))) * 0.13
    white = (0.93 - 0.40 * aq * aq - seam) * (0.55 + 0.42 * lit)
    for c in range(3):
        mouth = (0.20, 0.06, 0.06)[c] + teeth * (white * (1.0, 0.97, 0.91)[c] - (0.20, 0.06, 0.06)[c])
        patch[c] += cavity * (mouth - patch[c])
    w.write(canvas, patch)


def paint_age(canvas: np.ndarray, p: SimpleNamespace, n: SimpleNamespace, f: Frame) -> None:
    """Folds from the nose to the mouth's corners, deeper with age and smile; full frame, in place."""
    rows = slice(58, 90)
    au, fv = np.abs(f.fu[:, rows]), f.fv[:, rows]
    along = (fv - 0.27) * (1 / 0.24)
    at = 0.135 + 0.125 * along
    fold = ramp(0.030, 0.004, np.abs(au - at)) * bump((along * 2 - 0.9) ** 2)
    part = canvas[:, :, rows]
    darken(part, (0.06 + 0.16 * p.age + 0.12 * np.maximum(n.smile, 0)) * fold)
