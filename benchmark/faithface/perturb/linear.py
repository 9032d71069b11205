"""Noisy linear imputation: removed pixels are rebuilt from the rest of the image (ROAD, arXiv:2202.00449).

Place in the flow: one of the fills of ``perturb/fills.py``, and the way ``road@1`` removes pixels. Imports only numpy
and scipy; runs on the host.

Each removed pixel is set to the weighted mean of its eight neighbours, 1/6 for the four direct and 1/12 for the four
diagonal ones; neighbours outside the image drop out and the remaining weights are scaled to sum 1. A removed neighbour
is itself unknown, so all removed pixels of an image are one sparse linear system, solved directly. Without the noise a
network could recognise the mask by its smooth inside.
"""

from __future__ import annotations

import numpy as np

from faithface.errors import UsageError

_WEIGHTS = {
    (-1, 0): 1 / 6,
    (0, -1): 1 / 6,
    (0, 1): 1 / 6,
    (1, 0): 1 / 6,
    (-1, -1): 1 / 12,
    (-1, 1): 1 / 12,
    (1, -1): 1 / 12,
    (1, 1): 1 / 12,
}


def impute_linear(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator, noise: float = 0.01) -> np.ndarray:
    """Return the image with its removed pixels imputed from the others.

    Args:
        image: float C×H×W in [0, 1].
        mask: bool H×W, True = removed.
        rng: source of the noise. A whole C×H×W field is drawn whatever the mask, so that two masks with equally seeded
            generators share the noise of the pixels they have in common.
        noise: standard deviation of the normal noise added to imputed pixels, in units of [0, 1].

    Returns:
        float32 C×H×W; kept pixels are unchanged, imputed ones clipped to [0, 1]. Where nothing is removed, the image;
        where everything is removed there is nothing to impute from, and each channel takes its mean over the image.

    Raises:
        UsageError: image and mask do not fit.
    """
    if image.ndim != 3 or mask.shape != image.shape[1:]:
        raise UsageError(
            f"impute_linear got an image of shape {image.shape} and a mask of shape {mask.shape}; "
            "expected C×H×W and H×W: put the channels first"
        )
    field = rng.standard_normal(image.shape)
    removed = np.asarray(mask, dtype=bool)
    filled = np.array(image, dtype=np.float32)
    if not removed.any():
        return filled
    values = solve_linear(np.asarray(image, dtype=np.float64), removed)
    filled[:, removed] = np.clip(values + noise * field[:, removed], 0.0, 1.0)
    return filled


def solve_linear(image: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """Return the noise-free values of the removed pixels, float64 C×R, in raster order.

    The system is symmetric positive definite: with w the weight of a pair of neighbours, row i says
    (Σ_j w_ij) x_i − Σ_(j removed) w_ij x_j = Σ_(j kept) w_ij image_j, over the neighbours j inside the image.
    """
    from scipy import sparse
    from scipy.sparse.linalg import splu

    count = int(removed.sum())
    if count == removed.size:
        return np.repeat(image.reshape(len(image), -1).mean(axis=1, keepdims=True), count, axis=1)
    height, width = removed.shape
    number = np.full((height, width), -1)
    number[removed] = np.arange(count)
    y, x = np.nonzero(removed)
    total = np.zeros(count)
    known = np.zeros((count, len(image)))
    rows, columns, entries = [], [], []
    for (dy, dx), weight in _WEIGHTS.items():
        ny, nx = y + dy, x + dx
        inside = (ny >= 0) & (ny < height) & (nx >= 0) & (nx < width)
        total[inside] += weight
        here, ny, nx = np.flatnonzero(inside), ny[inside], nx[inside]
        unknown = removed[ny, nx]
        known[here[~unknown]] += weight * image[:, ny[~unknown], nx[~unknown]].T
        rows.append(here[unknown])
        columns.append(number[ny[unknown], nx[unknown]])
        entries.append(np.full(int(unknown.sum()), -weight))
    diagonal = np.arange(count)
    system = sparse.csc_matrix(
        (
            np.concatenate([*entries, total]),
            (np.concatenate([*rows, diagonal]), np.concatenate([*columns, diagonal])),
        ),
        shape=(count, count),
    )
    # The matrix is symmetric and diagonally dominant: an ordering for A+Aᵀ without pivoting is stable, and about
    # three times as fast as the general one.
    factors = splu(system, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    return factors.solve(known).T
