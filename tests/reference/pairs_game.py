"""Slow re-derivations of the two games on pairs: patch replacement (arXiv:2304.13409) and inpainting
(arXiv:2008.00916).

One pair, one share and one pixel at a time; the network is called on single images. Maps hold no equal values here,
so that a plain sort is the order.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from faithface.contract import Clean, Explainer, FaceModel, Pair, Samples


def cosine(model: FaceModel, image: np.ndarray, other: np.ndarray) -> float:
    """Return the cosine of two images' embeddings; float64 3×H×W each."""
    a, b = (model.outputs(torch.from_numpy(x.astype(np.float32))[None])[0].double().numpy() for x in (image, other))
    return float(a @ b / math.sqrt((a @ a) * (b @ b)))


def explained(
    model: FaceModel, sample: Samples, explainer: Explainer, a: np.ndarray, b: np.ndarray, same: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the similarity and the dissimilarity map, 2×H×W each, of a pair of images."""
    images = torch.from_numpy(np.stack([a, b]).astype(np.float32))
    outputs = model.outputs(images)[None]
    score = torch.tensor([cosine(model, a, b)])
    item = sample.items[0]
    assert isinstance(item, Pair)
    clean = Clean(outputs, score, (score >= sample.threshold).long(), sample.threshold)
    pair = Pair(item.id, item.a, item.b, same)
    maps = explainer.explain(model, Samples((pair,), images[None], clean, sample.seed, sample.dataset))
    return maps.similarity[0].numpy(), maps.dissimilarity[0].numpy()  # type: ignore[index]


def slow_patch_replacement(
    model: FaceModel, sample: Samples, explainer: Explainer, stranger: np.ndarray
) -> tuple[list[int], list[int]]:
    """Return whether the decision is wrong at each replaced share, for the map and for random pixels."""
    a, b = sample.images[0].numpy().astype(np.float64)
    same = bool(sample.genuine[0])
    side = a.shape[1]
    patch = max(1, round(16 * side / 112))
    rng = sample.rng(0, "patch-replacement")
    patched = a.copy()
    for _ in range(27):
        top, left = rng.integers(side - patch + 1), rng.integers(side - patch + 1)
        for y in range(top, top + patch):
            for x in range(left, left + patch):
                patched[:, y, x] = (stranger if same else b)[:, y, x]
    plus, minus = explained(model, sample, explainer, patched, b, same)
    balance = plus[0].astype(np.float64) - minus[0]
    places = [(y, x) for y in range(side) for x in range(side)]
    rejected = cosine(model, patched, b) < sample.threshold
    by_map = sorted(places, key=lambda p: balance[p] if rejected else -balance[p])
    shuffled = [places[i] for i in sample.rng(0, "patch-replacement/control").permutation(side * side)]
    found = []
    for order in (by_map, shuffled):
        errors = []
        for percent in range(0, 100, 5):
            mended = patched.copy()
            for y, x in order[: round(percent * side * side / 100)]:
                mended[:, y, x] = a[:, y, x]
            errors.append(int((cosine(model, mended, b) >= sample.threshold) != same))
        found.append(errors)
    return found[0], found[1]


def slow_inpainting_game(
    model: FaceModel,
    sample: Samples,
    explainer: Explainer,
    non_mate: np.ndarray,
    region: np.ndarray,
    points: int,
) -> tuple[float, float]:
    """Return the areas from the non-mate to the mate by dissimilarity, and back by similarity; the nearer one wins."""
    probe, mate = sample.images[0].numpy().astype(np.float64)
    s_mate, s_other = cosine(model, probe, mate), cosine(model, probe, non_mate)
    side = probe.shape[1]
    areas = []
    for start, end, target in ((non_mate, mate, s_mate), (mate, non_mate, s_other)):
        back = start is mate
        plus, minus = explained(model, sample, explainer, probe, start, back)
        order = sorted(np.ndindex(side, side), key=lambda p, m=plus[1] if back else minus[1]: -float(m[p]))
        xs, ys = [], []
        for k in range(points):
            count = round(k * side * side / (points - 1))
            x = start.copy()
            for at in order[:count]:
                x[:, at[0], at[1]] = end[:, at[0], at[1]]
            s = cosine(model, probe, x)
            ys.append(float(abs(s - target) <= abs(s - (s_other if target == s_mate else s_mate))))
            xs.append(sum(not region[at] for at in order[:count]) / sum(not r for r in region.ravel()))
        areas.append(sum((xs[k + 1] - xs[k]) * (ys[k + 1] + ys[k]) / 2 for k in range(points - 1)))
    return areas[0], areas[1]
