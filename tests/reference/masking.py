"""Metrics that alter images, written image by image and pixel by pixel from the papers (slow).

``ask(image)`` stands for the network: it returns (score of the clean decision, whether the decision still stands) for
one float image C×H×W; nothing of faithface is used here.
"""

from itertools import pairwise

import numpy as np

from tests.reference import linear


def class_asker(outputs, predicted):
    """Return ``ask`` for a classifier: softmax probability of the class predicted on the clean image."""

    def ask(image):
        logits = np.asarray(outputs(image), dtype=np.float64)
        odds = np.exp(logits - logits.max())
        return odds[predicted] / odds.sum(), int(logits.argmax()) == predicted

    return ask


def pair_asker(outputs, reference, threshold, accepted):
    """Return ``ask`` for a pair: cosine to the reference's embedding, accepted at the threshold as before."""

    def ask(image):
        a, b = np.asarray(outputs(image), dtype=np.float64), np.asarray(reference, dtype=np.float64)
        cosine = float(a @ b / np.sqrt((a @ a) * (b @ b)))
        return cosine, (cosine >= threshold) == accepted

    return ask


def ranked(relevance):
    """Return the places (y, x) from the most to the least relevant (no ties)."""
    height, width = relevance.shape
    places = [(y, x) for y in range(height) for x in range(width)]
    return sorted(places, key=lambda place: -relevance[place])


def mask_of(places, shape):
    mask = np.zeros(shape, dtype=bool)
    for place in places:
        mask[place] = True
    return mask


def shifted(mask, dy, dx):
    """Return the mask moved down by dy and right by dx, what leaves at one side coming back at the other."""
    height, width = mask.shape
    moved = np.zeros_like(mask)
    for y in range(height):
        for x in range(width):
            moved[(y + dy) % height, (x + dx) % width] = mask[y, x]
    return moved


def black(image, removed):
    out = image.copy()
    for y, x in zip(*np.nonzero(removed), strict=True):
        out[:, y, x] = 0
    return out


def top_cells(relevance, share, grid):
    """Return the mask of the top share of the cells of a grid, by their means; row r lies in cell row r * grid // H."""
    height, width = relevance.shape
    cells = {}
    for y in range(height):
        for x in range(width):
            cells.setdefault((y * grid // height, x * grid // width), []).append((y, x))
    means = {cell: np.mean([relevance[place] for place in places]) for cell, places in cells.items()}
    best = sorted(cells, key=lambda cell: -means[cell])[: round(share * grid * grid)]
    return mask_of([place for cell in best for place in cells[cell]], relevance.shape)


def confidence_drop(ask, image, relevance, shift, share=0.1, keep=False, grid=0):
    """Return Ensemble-CAM's drop and flip, for the top pixels (or cells) and for the shifted mask."""
    count = round(share * relevance.size)
    top = mask_of(ranked(relevance)[:count], relevance.shape)
    if grid:
        top = top_cells(relevance, share, grid)
    before = ask(image)[0]
    told = []
    for mask in (top, shifted(top, *shift)):
        after, stands = ask(black(image, ~mask if keep else mask))
        told += [before - after, float(not stands)]
    return told


def average_drop(ask, image, relevance, colour=(0, 0, 0)):
    """Return Grad-CAM++'s (relative drop, absolute drop, increase) for the image times its map."""
    low, high = relevance.min(), relevance.max()
    out = image.copy()
    for y in range(relevance.shape[0]):
        for x in range(relevance.shape[1]):
            weight = (relevance[y, x] - low) / (high - low)
            for c in range(3):
                out[c, y, x] = image[c, y, x] * weight + colour[c] * (1 - weight)
    before, after = ask(image)[0], ask(out)[0]
    return max(0, before - after) / before, max(0, before - after), float(after > before + 1e-6)


def road(ask, image, relevance, noise):
    """Return ROAD's curves (MoRF scores, LeRF scores, MoRF decisions, LeRF decisions) at 0, 10, … 100 %.

    ``noise`` is the field C×H×W that is added to imputed pixels.
    """
    places = ranked(relevance)
    curves = [[], [], [], []]
    for tenth in range(11):
        count = round(tenth * len(places) / 10)
        for side, order in enumerate((places, places[::-1])):
            removed = mask_of(order[:count], relevance.shape)
            if removed.all():
                altered = np.repeat(
                    np.repeat(image.mean((1, 2))[:, None, None], removed.shape[0], 1), removed.shape[1], 2
                )
            else:
                altered = linear.impute(image, removed)
            altered = np.where(removed[None], np.clip(altered + noise, 0, 1), image)
            score, stands = ask(altered.astype(np.float32))
            curves[side].append(score)
            curves[2 + side].append(float(stands))
    return curves


def trapezoid(values):
    """Area under equally spaced values on [0, 1]."""
    return sum((a + b) / 2 for a, b in pairwise(values)) / (len(values) - 1)
