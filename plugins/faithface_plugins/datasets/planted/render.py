"""The renderer: identities and conditions in, 112 x 112 RGB faces out, batch first.

    wall -> hair behind -> neck and clothes -> ears -> lit head -> nose, mouth, eyes, brows -> hair in front -> glasses
    -> camera

An image depends on its own row of `Identity` and `Nuisance` only, not on the batch it is in. Calls the painters
(`head`, `features`, `hair`, `scene`); is called by the datasets.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from . import features, hair, head, scene
from .draws import Stream
from .geometry import SIZE, Frame, blend, columns, cover_implicit, darken, frame, ramp
from .identity import Identity
from .nuisance import Nuisance

CHUNK = 8  # images painted together: their planes stay in a core's cache


@dataclass(frozen=True)
class Scene:
    """A painted batch before the camera: what an attack or artefact may alter.

    `canvas` is float32 (3, N, 112, 112), linear coverage-composited sRGB; `head` and `hair` are coverages (N, 112,
    112); `p` and `n` are the columns of identity and nuisance.
    """

    canvas: np.ndarray
    head: np.ndarray
    hair: np.ndarray
    frame: Frame
    p: SimpleNamespace
    n: SimpleNamespace

    def take(self, rows: np.ndarray) -> Scene:
        """These rows of the batch, copied."""

        def record(space: SimpleNamespace) -> SimpleNamespace:
            return SimpleNamespace(**{k: v[:, rows] if v.ndim == 4 else v[rows] for k, v in vars(space).items()})

        f = self.frame
        taken = Frame(
            f.x,
            f.y,
            f.u[rows],
            f.v[rows],
            f.fu[rows],
            f.fv[rows],
            f.z[rows],
            f.px[rows],
            tuple(v[rows] for v in f.affine),
            tuple(v[rows] for v in f.turn),
        )
        return Scene(self.canvas[:, rows], self.head[rows], self.hair[rows], taken, record(self.p), record(self.n))


Edit = Callable[[Scene, slice], np.ndarray]
Cue = Callable[[Scene, Stream], np.ndarray]  # an attack or artefact: see `attacks` and `artefacts`


def paint(people: Identity, conditions: Nuisance) -> Scene:
    """Paint a small batch (no camera). Row i of both arguments makes image i."""
    p, n = columns(people), columns(conditions)
    f = frame(n)
    canvas = np.empty((3, len(people), SIZE, SIZE), np.float32)
    scene.paint_wall(canvas, p, n, f)
    outside = hair.silhouette(p, f)
    hair_planes = hair.colour(p, n, f)
    if (p.hair_length > 0.3).any():
        behind = hair.back_cover(p, f, outside)
        blend(canvas, behind, [0.62 * plane for plane in hair_planes])
    shape = head.outline(p, f)
    head_cover = cover_implicit(shape)
    head.paint_neck(canvas, p, n, f)
    head.paint_ears(canvas, p, n, f)

    shade, shine = head.light(head.relief(p, n, f), n, f)
    front = hair.front_cover(p, f, outside)
    rim = ramp(-0.30, 0.02, shape)
    shade = shade * (1 - 0.20 * rim)
    blend(canvas, head_cover, head.skin(p, n, f, shade, shine))
    head.paint_moles(canvas, p, f)
    features.paint_age(canvas, p, n, f)
    features.paint_nose(canvas, p, n, f)
    features.paint_mouth(canvas, p, n, f, shade)
    features.paint_eyes(canvas, p, n, f, shade)
    features.paint_brows(canvas, p, n, f, shade)
    # Hair throws a soft shadow just below its edge.
    cast = np.zeros_like(front)
    cast[:, 2:] = front[:, :-2]
    cast[:, 5:] += front[:, :-5]
    darken(canvas, 0.13 * np.maximum(cast - 2 * front, 0) * head_cover)
    blend(canvas, front, hair_planes)
    scene.paint_glasses(canvas, n, f, head_cover)
    return Scene(canvas, head_cover, front, f, p, n)


def _workers(threads: int | None) -> int:
    return max(1, min(2, os.cpu_count() or 1) if threads is None else threads)


def in_chunks(count: int, work: Callable[[slice], None], threads: int | None = None) -> None:
    """Call `work` on slices of `CHUNK` rows, on a few threads (numpy lets go of the interpreter lock)."""
    slices = [slice(i, min(i + CHUNK, count)) for i in range(0, count, CHUNK)]
    if _workers(threads) == 1 or len(slices) == 1:
        for part in slices:
            work(part)
        return
    with ThreadPoolExecutor(_workers(threads)) as pool:
        for future in [pool.submit(work, part) for part in slices]:
            future.result()


def render_levels(
    people: Identity, conditions: Nuisance, edit: Edit | None = None, threads: int | None = None
) -> np.ndarray:
    """Render to 8-bit levels. uint8 (N, 112, 112, 3), RGB. See `render`."""
    return render_twins(people, conditions, edit, threads)[1] if edit else _render(people, conditions, threads)


def _render(people: Identity, conditions: Nuisance, threads: int | None) -> np.ndarray:
    _check(people, conditions)
    out = np.empty((len(people), SIZE, SIZE, 3), np.uint8)

    def work(rows: slice) -> None:
        s = paint(people.take(rows), conditions.take(rows))
        out[rows] = scene.photograph(s.canvas, s.n, scene.sensor_noise(s.n.key))

    in_chunks(len(people), work, threads)
    return out


def render_twins(
    people: Identity, conditions: Nuisance, edit: Edit, threads: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Render each image twice, clean and edited, with the same noise. Two uint8 (N, 112, 112, 3).

    `edit(scene, rows)` gets a painted chunk and the rows of the batch it holds, and returns the altered canvas.
    """
    _check(people, conditions)
    clean = np.empty((len(people), SIZE, SIZE, 3), np.uint8)
    edited = np.empty_like(clean)

    def work(rows: slice) -> None:
        s = paint(people.take(rows), conditions.take(rows))
        noise = scene.sensor_noise(s.n.key)
        clean[rows] = scene.photograph(s.canvas, s.n, noise)
        edited[rows] = scene.photograph(edit(s, rows), s.n, noise)

    in_chunks(len(people), work, threads)
    return clean, edited


def render(people: Identity, conditions: Nuisance, threads: int | None = None) -> np.ndarray:
    """Render faces. float32 (N, 112, 112, 3), RGB in [0, 1], exactly on 8-bit levels (the sensor's).

    Raises ValueError when the two arguments differ in length. `threads`: default two, or the number of cores if fewer.
    """
    return to_float(_render(people, conditions, threads))


def to_float(levels: np.ndarray) -> np.ndarray:
    """8-bit levels to float32 in [0, 1]."""
    return levels.astype(np.float32) * np.float32(1 / 255)


def _check(people: Identity, conditions: Nuisance) -> None:
    if len(people) != len(conditions):
        raise ValueError(
            f"got {len(people)} identities and {len(conditions)} conditions; expected one condition per identity: "
            "repeat rows with .take(indices)"
        )
