"""Slow re-derivations of the metrics that explain altered images again: one sample, one pixel, one level at a time.

The explainer and the network are the real ones, called on a single sample; everything around them is written from the
papers: Explain To Me (arXiv:2303.11969) for noise, geometry and degradation, Yeh et al. (2019) for max-sensitivity.
"""

from __future__ import annotations

import math

import numpy as np
import torch

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
