"""Measures of a map alone, and against a mask, written loop by loop from their definitions (slow, plain Python)."""

import math


def pixels(relevance):
    """Return the values of a 2-D map as a flat list of floats."""
    return [float(value) for row in relevance for value in row]


def spatial_entropy(relevance):
    """Entropy of |m| / Σ|m| in bits, over log2 of the number of pixels."""
    values = [abs(v) for v in pixels(relevance)]
    total = math.fsum(values)
    if total == 0:
        return 1.0
    entropy = 0.0
    for value in values:
        if value > 0:
            entropy -= value / total * math.log2(value / total)
    return entropy / math.log2(len(values))


def grey_levels(relevance):
    """The 8-bit values that Explain To Me stores: ReLU, min-max, times 255, truncated."""
    values = [max(0.0, v) for v in pixels(relevance)]
    low, high = min(values), max(values)
    return [int(255 * (v - low) / (high - low)) if high > low else 0 for v in values]


def histogram_entropy(levels):
    """Entropy of the frequencies of grey levels in bits, over log2 of the number of levels that could occur."""
    frequencies = {}
    for level in levels:
        frequencies[level] = frequencies.get(level, 0) + 1
    entropy = 0.0
    for count in frequencies.values():
        entropy -= count / len(levels) * math.log2(count / len(levels))
    return entropy / math.log2(min(256, len(levels)))


def gini(relevance):
    """Mean absolute difference of all pairs of pixels over twice the mean: the Gini index from its first definition."""
    values = [abs(v) for v in pixels(relevance)]
    total = math.fsum(values)
    if total == 0:
        return 0.0
    n = len(values)
    return math.fsum(abs(a - b) for a in values for b in values) / (2 * n * total)


def inside(relevance, truth):
    """Return (value, belongs to the truth) for every pixel."""
    return [
        (float(v), bool(t)) for row, mask in zip(relevance, truth, strict=True) for v, t in zip(row, mask, strict=True)
    ]


def hit(relevance, truth):
    """1 if the pixel of the largest value belongs to the truth (no ties)."""
    return float(max(inside(relevance, truth))[1])


def mass(relevance, truth):
    """Positive relevance inside the truth over all positive relevance."""
    both = inside(relevance, truth)
    return math.fsum(max(v, 0) for v, t in both if t) / math.fsum(max(v, 0) for v, _ in both)


def rank(relevance, truth):
    """Truth pixels among as many top pixels as the truth has (no ties)."""
    both = sorted(inside(relevance, truth), reverse=True)
    size = sum(t for _, t in both)
    return sum(t for _, t in both[:size]) / size


def auc(relevance, truth):
    """Share of (truth pixel, other pixel) pairs in which the truth pixel has the larger value, ties one half."""
    both = inside(relevance, truth)
    wins = [1.0 if a > b else 0.5 if a == b else 0.0 for a, s in both if s for b, t in both if not t]
    return sum(wins) / len(wins)
