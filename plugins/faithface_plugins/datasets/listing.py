"""What the datasets of files share: links that lead elsewhere, masks, and notes about a folder.

Place in the flow: called by ``folder``, ``generators``, ``pairs``, ``pad_layouts`` and ``faceforensics``. May call
``images`` and ``files`` of the core, and ``content``.
"""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from faithface.contract import Mask
from faithface.errors import UsageError
from faithface.files import is_inside, user_path
from faithface.images import OTHER_SUFFIXES, is_system_name, list_images, read_image
from faithface_plugins.datasets.content import FileDigest


def class_folders(root: Path) -> list[Path]:
    """Return the folders directly below a root, sorted, without the system's."""
    return sorted(path for path in root.iterdir() if path.is_dir() and not is_system_name(path.name))


def refuse_outside(paths: Iterable[Path], root: Path, allowed: bool, what: str) -> None:
    """Refuse files that lie outside a dataset's folder when links and ``..`` are followed, unless that is allowed.

    Raises:
        UsageError: some do; the first is named.
    """
    if allowed:
        return
    real_root = Path(os.path.realpath(root))
    inside: dict[str, bool] = {}
    for path in paths:
        parent = os.path.dirname(path)
        if parent not in inside:
            inside[parent] = Path(os.path.realpath(parent)).is_relative_to(real_root)
        if not inside[parent] or (os.path.islink(path) and not is_inside(path, real_root)):
            raise UsageError(
                f"dataset {what}: {path} leads to {os.path.realpath(path)}, outside {root}; write "
                "allow-outside=true as a parameter of the dataset if that is intended"
            )


def read_mask(path: Path) -> np.ndarray:
    """Return a salience mask as float32 H×W in [0, 1] (the mean of the channels of a colour file)."""
    return read_image(path).mean(axis=2)


def human_masks(folder: str | None, name: str) -> tuple[Mapping[str, Mask], FileDigest | None]:
    """Return the human-salience mask of an image in a folder with the same tree, and its digest, if it exists."""
    if not folder:
        return {}, None
    root = user_path(folder)
    path = root / f"{name}.png"
    if not os.path.isfile(path) or not is_inside(path, root):
        return {}, None
    return {"human": functools.partial(read_mask, path)}, FileDigest((path,))


def not_read(root: Path) -> tuple[str, ...]:
    """Return one line about images in formats that are not read, or nothing."""
    others = Counter(path.suffix.lower() for _name, path in list_images(root, OTHER_SUFFIXES))
    if not others:
        return ()
    kinds = ", ".join(f"{count} {suffix}" for suffix, count in sorted(others.items()))
    return (f"not read: {kinds} in {root}; convert them to PNG, JPEG, BMP or WebP",)
