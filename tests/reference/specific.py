"""Slow re-derivations of ``gap-specific@1`` and ``part-swap@1`` from their pages: one sample, one map, one pixel at a
time.

The deletion and insertion curves are those of ``tests/reference/curves.py``; nothing of ``faithface.metrics`` or
``faithface.perturb`` is used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage

from faithface.contract import Explainer, FaceModel, Pair, Sample, Samples
from tests.reference.curves import curve, trapezoid
from tests.reference.pairs_game import cosine, explained


def slow_seed(seed: int, sample_id: str, purpose: str) -> int:
    digest = hashlib.blake2b(f"{seed}\x1f{sample_id}\x1f{purpose}".encode(), digest_size=8).digest()
    return sum(byte << (8 * k) for k, byte in enumerate(digest)) >> 1


def slow_others(
    items: Sequence[Sample] | Sequence[Pair], item: Sample | Pair, count: int, seed: int = 0
) -> list[Sample | Pair]:
    """Return the next ``count`` samples on the circle of the item's kind that show none of its people."""

    def kind(one: Sample | Pair) -> tuple[object, ...]:
        return (one.label,) if isinstance(one, Sample) else (one.same, one.kind)

    def people(one: Sample | Pair) -> set[str]:
        """All faces that a chain of shared names or genuine pairs connects with this sample's."""
        known = {face.id for face in one.faces}
        while True:
            more = set(known)
            for other in items:
                ids = {face.id for face in other.faces}
                if isinstance(other, Pair) and other.same and ids & more:
                    more |= ids
                for face in other.faces:
                    for mine in (f for o in items for f in o.faces if f.id in more):
                        if face.identity is not None and face.identity == mine.identity:
                            more.add(face.id)
            if more == known:
                return known
            known = more

    ring = sorted((one for one in items if kind(one) == kind(item)), key=lambda one: slow_seed(seed, one.id, "limit"))
    start = [one.id for one in ring].index(item.id)
    following = ring[start + 1 :] + ring[:start]
    mine = people(item)
    return [one for one in following if not {face.id for face in one.faces} & mine][:count]


def slow_gap(
    relevance: np.ndarray,
    image: np.ndarray,
    fill: np.ndarray,
    score: Callable[[np.ndarray], float],
    ties: np.ndarray,
    grid: int,
    points: int,
) -> float:
    """Return area(insertion) − area(deletion) of one map of one sample."""
    areas = [
        trapezoid(curve(direction, relevance, image, fill, score, ties, grid, points))
        for direction in ("insertion", "deletion")
    ]
    return areas[0] - areas[1]


def slow_part_swap(
    model: FaceModel, sample: Samples, explainer: Explainer, stranger: np.ndarray, masks: np.ndarray
) -> tuple[float, float]:
    """Return the headline and the mass inside of one pair; ``masks`` bool P×H×W, without the soft edges."""
    a, b = sample.images[0].numpy().astype(np.float64)
    same = bool(sample.genuine[0])
    source = stranger if same else b
    height, width = masks.shape[1:]
    soft = [ndimage.gaussian_filter(mask.astype(np.float64), 0.02 * min(height, width)) for mask in masks]
    before = cosine(model, a, b)
    effects, mass = [], []
    for weight in soft:
        altered = a.copy()
        for y in range(height):
            for x in range(width):
                altered[:, y, x] += weight[y, x] * (source[:, y, x] - a[:, y, x])
        after = cosine(model, altered, b)
        effects.append(max(0.0, before - after if same else after - before))
        similarity, dissimilarity = explained(model, sample, explainer, altered, b, same)
        values = (dissimilarity if same else similarity)[0].astype(np.float64)
        total = sum(float(values[y, x]) for y in range(height) for x in range(width))
        mass.append(
            [
                sum(float(other[y, x] * values[y, x]) for y in range(height) for x in range(width)) / total
                for other in soft
            ]
        )
    value = inside = 0.0
    for k, effect in enumerate(effects):
        differences = [mass[k][k] - mass[j][k] for j in range(len(soft)) if j != k]
        value += effect * sum(differences) / len(differences)
        inside += effect * mass[k][k]
    return value / sum(effects), inside / sum(effects)
