"""ROAD's imputation written out pixel by pixel from the paper's equation, as one dense linear system (slow)."""

import numpy as np


def impute(image, removed):
    """Return image C×H×W with removed pixels = the weighted mean of their neighbours (no noise, no clipping)."""
    channels, height, width = image.shape
    unknowns = [(y, x) for y in range(height) for x in range(width) if removed[y, x]]
    a = np.zeros((len(unknowns), len(unknowns)))
    b = np.zeros((len(unknowns), channels))
    for row, (y, x) in enumerate(unknowns):
        neighbours = []
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                if (dy, dx) != (0, 0) and 0 <= y + dy < height and 0 <= x + dx < width:
                    neighbours.append((y + dy, x + dx, 1 / 6 if 0 in (dy, dx) else 1 / 12))
        whole = sum(weight for _, _, weight in neighbours)
        a[row, row] = 1
        for ny, nx, weight in neighbours:
            if removed[ny, nx]:
                a[row, unknowns.index((ny, nx))] -= weight / whole
            else:
                b[row] += weight / whole * image[:, ny, nx]
    filled = image.astype(np.float64).copy()
    for (y, x), value in zip(unknowns, np.linalg.solve(a, b), strict=True):
        filled[:, y, x] = value
    return filled
