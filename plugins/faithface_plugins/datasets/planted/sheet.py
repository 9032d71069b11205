"""Contact sheets for the datasheet: ``python -m faithface_plugins.datasets.planted.sheet [FOLDER]`` (default
docs/images).

Writes planted-faces.png, planted-verification.png, planted-pad.png, planted-synthetic.png and planted-shortcuts.png.
Calls the array functions and Pillow; nothing calls it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from . import draws
from .arrays import planted_arrays, verification_arrays
from .cues import kinds
from .identity import SWAP_PARTS, sample_identities, swap_part
from .nuisance import sample_nuisance
from .parts import part_masks
from .render import render_levels
from .shortcuts import THINGS, draw_things, plan_faces, render_things


def tiled(images: np.ndarray, across: int) -> np.ndarray:
    """Images in rows of `across`. uint8 (N, H, W, 3) -> uint8 (rows * H, across * W, 3); a last short row is left
    away.
    """
    rows = len(images) // across
    _, h, w, c = images.shape
    grid = images[: rows * across].reshape(rows, across, h, w, c)
    return np.ascontiguousarray(grid.transpose(0, 2, 1, 3, 4)).reshape(rows * h, across * w, c)


def outlined(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Images greyed outside the mask. uint8 (N, H, W, 3), bool (N, H, W) -> uint8."""
    grey = (images.mean(-1, keepdims=True) * 0.35 + 20).astype(np.uint8)
    return np.where(masks[..., None], images, np.broadcast_to(grey, images.shape))


def faces(seed: int = 5, count: int = 32) -> np.ndarray:
    """Many people, one image each, eight in a row."""
    people = sample_identities(seed, count)
    return tiled(render_levels(people, sample_nuisance(draws.keys(seed, "sheet", count), "aligned")), 8)


def verification(seed: int = 12) -> np.ndarray:
    """Two people, seven images each; then each part swap: before, after, and the part's region."""
    images, _ = verification_arrays(seed, 2, 9)
    count = len(SWAP_PARTS)
    people, donors = sample_identities(seed, np.full(count, 5)), sample_identities(seed, np.full(count, 9))
    conditions = sample_nuisance(draws.keys(seed, "sheet-swap", np.zeros(count, np.int64)), glasses=0.0)
    cells = [render_levels(people.take([0]), conditions.take([0]))]
    cells.append(render_levels(donors.take([0]), conditions.take([0])))
    blank = np.full_like(cells[0], 255)
    after = []
    for k, part in enumerate(SWAP_PARTS):
        one = swap_part(people.take([k]), donors.take([k]), part)
        image = render_levels(one, conditions.take([k]))
        cells.append(image)
        after.append(outlined(image, part_masks(one, conditions.take([k]), (part,))[part]))
    row_a = [*cells, blank, blank]
    row_b = [blank, blank, *after, blank, blank]
    return np.concatenate([tiled(images, 9), tiled(np.concatenate([*row_a, *row_b]), 9)])


def cued(task: str, seed: int = 21, examples: int = 2) -> np.ndarray:
    """A row per kind: clean, altered and truth, for a few images; the annotator's mask last."""
    rows = []
    for unseen in (False, True):
        for kind in kinds(task, unseen):
            sample = planted_arrays(task, seed, 2 * examples, only=(kind,), unseen=unseen)
            odd = np.arange(1, 2 * examples, 2)
            truth = outlined(sample.images[odd], sample.truth[odd])
            human = np.repeat((sample.human[odd[:1]] * 255).astype(np.uint8)[..., None], 3, -1)
            cells = np.stack([sample.twins[odd], sample.images[odd], truth], 1).reshape(-1, *sample.images.shape[1:])
            rows.append(tiled(np.concatenate([cells, human]), 3 * examples + 1))
    return np.concatenate(rows)


def shortcuts(seed: int = 2, count: int = 6) -> np.ndarray:
    """A row per face: as it is, then with one thing changed."""
    plan, present = plan_faces(seed, count), draw_things(seed, count)
    cells = [render_things(plan, present)]
    for thing in range(len(THINGS)):
        changed = present.copy()
        changed[:, thing] ^= True
        cells.append(render_things(plan, changed))
    return tiled(np.stack(cells, 1).reshape(-1, *cells[0].shape[1:]), len(THINGS) + 1)


def write(folder: Path) -> list[Path]:
    """Write all sheets as 256-colour PNGs under 300 kB each; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    sheets = {
        "faces": faces(),
        "verification": verification(),
        "pad": cued("pad"),
        "synthetic": cued("synthetic"),
        "shortcuts": shortcuts(),
    }
    paths = []
    for name, sheet in sheets.items():
        path = folder / f"planted-{name}.png"
        Image.fromarray(sheet).quantize(256, kmeans=3).save(path, optimize=True)
        paths.append(path)
    return paths


if __name__ == "__main__":
    for written in write(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images")):
        print(f"{written} {written.stat().st_size} bytes")
