"""The pictures the zoo is trained on: planted faces, rendered once, kept as memory-mapped arrays between runs.

Place in the flow: calls ``faithface_plugins.datasets.planted``; is called by ``train_zoo.py`` and ``evaluate_zoo.py``.
A set is a folder of ``.npy`` files under the cache folder, named by a hash of its parameters and of a few rendered
pictures, so that a changed renderer is never trained on stale pictures.

The seeds here differ from every seed of the published datasets: no identity of theirs is ever trained on.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path

import numpy as np

from faithface_plugins.datasets import planted
from faithface_plugins.datasets.planted import draws, identity, nuisance
from training.recipes import Task

SEED = 7_310_000
IDENTITIES = 600
SIBLINGS = 1000
PER_IDENTITY = 8
CLASSIFIED = 5000
CAM = 14
PLANTED_TASK = {"pad": "pad", "synthetic-detection": "synthetic"}

Arrays = Mapping[str, np.ndarray]


def default_cache() -> Path:
    """Return the folder for rendered sets: ``FAITHFACE_ZOO_CACHE``, else one under the system's temporary folder."""
    return Path(os.environ.get("FAITHFACE_ZOO_CACHE", Path(tempfile.gettempdir()) / "faithface-zoo"))


@cache
def picture_hash() -> str:
    """Return a hash of a few rendered pictures: it changes when the renderer's pixels do, and not with its comments."""
    digest = hashlib.sha256()
    for task in sorted(PLANTED_TASK.values()):
        made = planted.planted_arrays(task, SEED, 12, threads=1)
        for array in (made.images, made.labels, made.human):
            digest.update(np.ascontiguousarray(array).tobytes())
    digest.update(planted.verification_arrays(SEED, 3, 2, threads=1)[0].tobytes())
    return digest.hexdigest()


def cached(name: str, parameters: Mapping[str, object], build: Callable[[], Arrays], folder: Path) -> Arrays:
    """Return the arrays of ``build()``, memory-mapped read-only from the cache; rendered on the first call."""
    text = json.dumps([name, dict(parameters), picture_hash()], sort_keys=True)
    place = folder / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    if not place.exists():
        # Written beside and renamed, so that a second process never sees half a set.
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            part = Path(scratch) / "part"
            part.mkdir()
            for key, array in build().items():
                np.save(part / f"{key}.npy", array)
            if not place.exists():
                part.rename(place)
    return {path.stem: np.load(path, mmap_mode="r") for path in sorted(place.glob("*.npy"))}


def joined(*people: identity.Identity) -> identity.Identity:
    """Return several groups of people as one."""
    names = [f.name for f in fields(identity.Identity)]
    return identity.Identity(**{n: np.concatenate([getattr(p, n) for p in people]) for n in names})


def training_people(count: int = IDENTITIES, siblings: int = SIBLINGS) -> identity.Identity:
    """Return ``count`` people, then ``siblings`` who each differ from one of them by a single swapped part.

    Without siblings a network tells people apart by hair and skin alone and is blind to a part swap.
    """
    people = identity.sample_identities(SEED, count)
    sibling = np.arange(siblings)
    lap = sibling // count
    # The part and the donor move on with every lap, so that no two siblings are the same person.
    part = (sibling + lap) % len(identity.SWAP_PARTS)
    donor = (sibling + 37 * (lap + 1)) % count
    groups = [people]
    for at, name in enumerate(identity.SWAP_PARTS):
        rows = sibling[part == at]
        if len(rows):
            groups.append(identity.swap_part(people.take(rows % count), people.take(donor[rows]), name))
    return joined(*groups)


def verification_set(
    folder: Path, count: int = IDENTITIES, siblings: int = SIBLINGS, each: int = PER_IDENTITY
) -> Arrays:
    """Return ``images`` uint8 N×112×112×3 and ``labels`` int64 N (the identity), N = (count + siblings) · each."""

    def build() -> Arrays:
        people = training_people(count, siblings)
        labels = np.repeat(np.arange(len(people)), each)
        conditions = nuisance.sample_nuisance(draws.keys(SEED, "zoo-verification", len(labels)))
        return {"images": planted.render_levels(people.take(labels), conditions), "labels": labels}

    parameters = {"seed": SEED, "count": count, "siblings": siblings, "each": each}
    return cached("verification", parameters, build, folder)


def classifier_set(task: Task, tagged: bool, folder: Path, count: int = CLASSIFIED) -> Arrays:
    """Return the training pictures of a classifier task.

    Args:
        tagged: for the ``shortcut`` family. A random half of each class gets the tag, and the tag *is* the label: the
            cue, present in half of both classes, says nothing.

    Returns:
        ``images`` uint8 N×112×112×3, ``labels`` int64 N, ``human`` float32 N×14×14 with a peak of 1 (the annotator's
        salience; of a tagged set it belongs to the cue and must not be used).
    """

    def build() -> Arrays:
        made = planted.planted_arrays(PLANTED_TASK[task], SEED, count)
        return {"images": made.images, "labels": made.labels, "human": pooled(made.human)}

    plain = cached(PLANTED_TASK[task], {"seed": SEED, "count": count}, build, folder)
    if not tagged:
        return plain
    labels = draws.Stream(draws.keys(SEED, "zoo-tag", len(plain["labels"])), 1).unit() < 0.5
    images = planted.stamp_tag(np.array(plain["images"]), labels)
    return {"images": images, "labels": labels.astype(np.int64), "human": plain["human"]}


def pooled(masks: np.ndarray, size: int = CAM) -> np.ndarray:
    """Average N×H×W maps over size×size cells and scale each to a peak of 1 (an empty map stays 0)."""
    count, height, width = masks.shape
    small = masks.reshape(count, size, height // size, size, width // size).mean(axis=(2, 4))
    return (small / np.maximum(small.max(axis=(1, 2), keepdims=True), 1e-6)).astype(np.float32)
