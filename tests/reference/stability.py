"""Slow re-derivations of the metrics that explain altered images again: one sample, one pixel, one level at a time.

The explainer and the network are the real ones, called on a single sample; everything around them is written from the
papers: Explain To Me (arXiv:2303.11969) for noise, geometry and degradation, Yeh et al. (2019) for max-sensitivity.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from faithface.contract import Clean, Explainer, FaceModel, Samples
from tests.reference.map_similarity import slow_spearman, slow_ssim

LEVELS = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0)


def one_map(model: FaceModel, sample: Samples, explainer: Explainer, image: np.ndarray | None = None) -> np.ndarray:
    """Return the judged map H×W of a batch of one, explained for the class (or pair) of the clean image."""
    if image is not None:
        face = torch.from_numpy(image.astype(np.float32))[None]
        if sample.are_pairs:
            outputs = torch.stack([model.outputs(face)[0], sample.clean.outputs[0, 1]])[None]
            pixels = torch.stack([face[0], sample.images[0, 1]])[None]
        else:
            outputs, pixels = model.outputs(face), face
        clean = Clean(outputs, sample.clean.scores, sample.clean.predicted, sample.clean.threshold)
        sample = Samples(sample.items, pixels, clean, sample.seed, sample.dataset)
    maps = explainer.explain(model, sample)
    if not sample.are_pairs:
        return maps.relevance[0].numpy()  # type: ignore[index]
    kind = "similarity" if sample.items[0].same else "dissimilarity"  # type: ignore[union-attr]
    return getattr(maps, kind)[0, 0].numpy()


def probe(sample: Samples) -> np.ndarray:
    """Return the image that is altered, 3×H×W."""
    return (sample.images[0, 0] if sample.are_pairs else sample.images[0]).numpy()


def score(model: FaceModel, sample: Samples, image: np.ndarray) -> float:
    """Return the probability of the clean image's class by softmax, or the cosine to the reference's embedding."""
    out = model.outputs(torch.from_numpy(image.astype(np.float32))[None])[0].double().numpy()
    if sample.are_pairs:
        other = sample.clean.outputs[0, 1].double().numpy()
        return float(out @ other / (math.sqrt(out @ out) * math.sqrt(other @ other)))
    e = np.exp(out - out.max())
    return float(e[int(sample.clean.predicted[0])] / e.sum())


def salt_and_pepper(image: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Return the image with noise on single colour values: one number decides whether, a second one whether salt."""
    hits = [rng.random() for _ in range(image.size)]
    kinds = [rng.random() for _ in range(image.size)]
    out = image.ravel().tolist()
    for i in range(len(out)):
        if hits[i] < amount:
            out[i] = 1.0 if kinds[i] < 0.5 else 0.0
    return np.array(out).reshape(image.shape)


def slow_noise_stability(model: FaceModel, sample: Samples, explainer: Explainer) -> dict[str, list[float]]:
    """Return SSIM, Spearman and fall of the score at each level."""
    image = probe(sample)
    clean = one_map(model, sample, explainer)
    found: dict[str, list[float]] = {"ssim": [], "spearman": [], "score-fall": []}
    for level in LEVELS:
        noisy = salt_and_pepper(image, level, sample.rng(0, "salt-and-pepper"))
        again = one_map(model, sample, explainer, noisy)
        found["ssim"].append(slow_ssim(clean, again))
        found["spearman"].append(slow_spearman(clean, again))
        found["score-fall"].append(score(model, sample, image) - score(model, sample, noisy))
    return found


def slow_geometry(model: FaceModel, sample: Samples, explainer: Explainer) -> list[tuple[float, float]]:
    """Return SSIM and Spearman for two flips, eight shifts and two quarter turns of a square image.

    Every transformation is a rule that says from which pixel of the original each new pixel comes; bringing a map
    back is following that rule, for the pixels of the original that are still in the picture.
    """
    image = probe(sample)
    side = image.shape[1]
    s = max(1, round(16 / 224 * side))
    steps = [(dy, dx) for dy in (-s, 0, s) for dx in (-s, 0, s) if (dy, dx) != (0, 0)]
    rules: list[Callable[[int, int], tuple[int, int]]] = [
        lambda y, x: (y, side - 1 - x),
        lambda y, x: (side - 1 - y, x),
        *[lambda y, x, d=d: (y - d[0], x - d[1]) for d in steps],  # type: ignore[misc]
        lambda y, x: (side - 1 - x, y),  # clockwise: what was at the bottom left comes to the top left
        lambda y, x: (x, side - 1 - y),
    ]
    clean = one_map(model, sample, explainer)
    found = []
    for rule in rules:
        moved = np.zeros_like(image)
        goes_to: dict[tuple[int, int], tuple[int, int]] = {}
        for y in range(side):
            for x in range(side):
                sy, sx = rule(y, x)
                moved[:, y, x] = image[:, min(max(sy, 0), side - 1), min(max(sx, 0), side - 1)]
                if 0 <= sy < side and 0 <= sx < side:
                    goes_to[sy, sx] = (y, x)
        again = one_map(model, sample, explainer, moved)
        rows = sorted({y for y, _ in goes_to})
        columns = sorted({x for _, x in goes_to})
        here = np.array([[clean[y, x] for x in columns] for y in rows])
        there = np.array([[again[goes_to[y, x]] for x in columns] for y in rows])
        found.append((slow_ssim(here, there), slow_spearman(here, there)))
    return found


def slow_max_sensitivity(
    model: FaceModel, sample: Samples, explainer: Explainer, radius: float, draws: int
) -> list[float]:
    """Return the distance of the clean and each noisy map, each divided by its own norm."""
    image = probe(sample)

    def unit(values: np.ndarray) -> list[float]:
        flat = [float(v) for v in values.ravel()]
        norm = math.sqrt(math.fsum(v * v for v in flat))
        return [v / norm if norm else 0.0 for v in flat]

    clean = unit(one_map(model, sample, explainer))
    found = []
    for draw in range(draws):
        rng = sample.rng(0, f"max-sensitivity/{draw}")
        noisy = [min(1.0, max(0.0, float(v) + rng.uniform(-radius, radius))) for v in image.ravel()]
        again = unit(one_map(model, sample, explainer, np.array(noisy).reshape(image.shape)))
        found.append(math.sqrt(math.fsum((p - q) ** 2 for p, q in zip(clean, again, strict=True))))
    return found


def slow_training_stability(maps: list[np.ndarray]) -> list[float]:
    """Return the SSIM of each pair of maps, stored as 8-bit grey images are."""
    stored = []
    for values in maps:
        low, high = float(values.min()), float(values.max())
        grey = [int((float(v) - low) / (high - low) * 255) if high > low else 0 for v in values.ravel()]
        stored.append(np.array(grey).reshape(values.shape))
    pairs = [(i, j) for i in range(len(maps)) for j in range(i + 1, len(maps))]
    return [slow_ssim(stored[i], stored[j], data_range=255) for i, j in pairs]


def slow_degradation(model: FaceModel, sample: Samples, explainer: Explainer, high: bool) -> tuple[float, float]:
    """Return the score of the degraded image and the SSIM of its map, by the published steps, pixel by pixel."""
    image = probe(sample).astype(np.float64)
    side = min(image.shape[1:])
    clean = one_map(model, sample, explainer)
    positive = np.maximum(clean, 0)  # what speaks against the class is no salience
    low, top = float(positive.min()), float(positive.max())
    grey = np.zeros(clean.shape, dtype=np.uint8)
    for at in np.ndindex(clean.shape):
        grey[at] = int((float(positive[at]) - low) / (top - low) * 255) if top > low else 0
    smooth = gaussian_filter(255 - grey if high else grey, 5 * side / 224)
    out = np.zeros_like(image)
    blurs: dict[float, np.ndarray] = {}
    for y, x in np.ndindex(clean.shape):
        v = round(10 * float(smooth[y, x]) / max(float(smooth.max()), 1.0), 1)
        sigma = (10 - v) ** 4 / 1000 * side / 224
        if sigma not in blurs:
            blurs[sigma] = np.stack([gaussian_filter(channel, sigma) if sigma > 0 else channel for channel in image])
        out[:, y, x] = blurs[sigma][:, y, x]
    again = one_map(model, sample, explainer, out)
    return score(model, sample, out), slow_ssim(clean, again)
