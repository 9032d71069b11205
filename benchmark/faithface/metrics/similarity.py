"""How alike are two maps? SSIM and Spearman's rank correlation of batches of maps, and the one rule that scales them.

Place in the flow: used by every metric that compares a map with another one (stability, geometry, randomisation,
training stability). May call ``perturb.ranking`` (a fast sort) and ``errors``: maps in, one number per map out.

Three rules hold wherever maps are compared:

* **Scale.** Each map is brought to [0, 1] by its own minimum and maximum before SSIM (:func:`normalised`), so that a
  map multiplied by 0.001 is the same map. SSIM's constants are relative to a data range of 1.
* **Constant maps** become all zero. Two constant maps are the same map: SSIM 1 and Spearman 1. A constant map orders
  nothing, so beside a map that is not constant its Spearman correlation, undefined in the books, is 0 here.
* **Invalid maps** (NaN or infinite values) give NaN, and nothing else does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from faithface.errors import UsageError
from faithface.lazy import torch
from faithface.perturb.ranking import stable_descending

if TYPE_CHECKING:
    from torch import Tensor

WINDOW = 7


def normalised(maps: Tensor) -> Tensor:
    """Bring each map to [0, 1] by its own minimum and maximum.

    Args:
        maps: N×H×W.

    Returns:
        float64 N×H×W; constant maps are all 0, maps with a value that is not finite are all NaN.

    Examples:
        >>> normalised(torch.tensor([[[1.0, 3.0]], [[2.0, 2.0]]])).tolist()
        [[[0.0, 1.0]], [[0.0, 0.0]]]
    """
    values = maps.to(torch.float64)
    low, high = values.amin(dim=(1, 2), keepdim=True), values.amax(dim=(1, 2), keepdim=True)
    span = high - low
    scaled = (values - low) / torch.where(span > 0, span, torch.ones_like(span))
    # NaN and infinity show in the extremes, which are N numbers and not N·H·W.
    return torch.where(torch.isfinite(span), scaled, torch.nan)


def eight_bit(maps: Tensor) -> Tensor:
    """Bring each map to the whole numbers 0 … 255 as maps stored in 8-bit image files: min-max, × 255, cut off.

    Returns:
        float64 N×H×W of whole numbers (NaN for invalid maps), so that the caller can filter and compare them.
    """
    return torch.floor(normalised(maps) * 255)


def ssim(a: Tensor, b: Tensor, data_range: float | None = None) -> np.ndarray:
    """Return the structural similarity of each pair of maps (Wang et al., 2004), as scikit-image computes it by
    default.

    Uniform windows of 7×7, sample covariances, K1 = 0.01, K2 = 0.03, the mean over all windows that lie wholly
    inside; on a 7×7 map that is one single window. Where a side is shorter than 7 (scikit-image refuses such maps)
    the window is that side; the variances of a single pixel are 0.

    Args:
        a, b: N×H×W each.
        data_range: None: both are brought to [0, 1] first (:func:`normalised`) and the range is 1. A number: the maps
            are taken as they are.

    Returns:
        float64 N in [-1, 1]. The best value is 1.0; NaN where a map is invalid.

    Raises:
        UsageError: the shapes differ or are not N×H×W.
    """
    _check_shapes(a, b)
    x, y = (normalised(a), normalised(b)) if data_range is None else (a.to(torch.float64), b.to(torch.float64))
    scale = 1.0 if data_range is None else float(data_range)
    window = (min(WINDOW, x.shape[1]), min(WINDOW, x.shape[2]))
    count = window[0] * window[1]
    unbiased = count / (count - 1) if count > 1 else 0.0
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = _window_means(torch.stack([x, y, x * x, y * y, x * y]), window)
    var_x = unbiased * (mean_xx - mean_x * mean_x)
    var_y = unbiased * (mean_yy - mean_y * mean_y)
    covariance = unbiased * (mean_xy - mean_x * mean_y)
    c1, c2 = (0.01 * scale) ** 2, (0.03 * scale) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (var_x + var_y + c2)
    # A value that is not finite makes every window over it NaN, and so the mean.
    values = (luminance * structure).mean(dim=(1, 2)).cpu().numpy()
    return np.asarray(np.clip(values, -1.0, 1.0), dtype=np.float64)


def spearman(a: Tensor, b: Tensor) -> np.ndarray:
    """Return Spearman's rank correlation of each pair of maps; tied pixels share their average rank.

    Args:
        a, b: N×H×W each; signs count (take the absolute values first to compare strengths).

    Returns:
        float64 N in [-1, 1]. 1 where both maps are constant, 0 where one is (see the module); NaN where a map is
        invalid.

    Raises:
        UsageError: the shapes differ or are not N×H×W.
    """
    _check_shapes(a, b)
    return rank_correlation(average_ranks(a), average_ranks(b))


def spearman_of_rows(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return Spearman's correlation of the rows of two N×K arrays, as :func:`spearman` does of maps."""
    return spearman(*(torch.from_numpy(np.ascontiguousarray(x, dtype=np.float64))[:, None] for x in (a, b)))


def average_ranks(maps: Tensor) -> Tensor:
    """Return each pixel's rank within its map, from 0, centred on the mean rank; ties share their average.

    Returns:
        float64 N×HW; a constant map is all 0, an invalid one all NaN.
    """
    flat = maps.flatten(1)
    order = stable_descending(flat).flip(1) if flat.dtype == torch.float32 else flat.argsort(dim=1)
    values = flat.gather(1, order)
    n = values.shape[1]
    place = torch.arange(n, device=flat.device).expand_as(values)
    edge = values[:, 1:] != values[:, :-1]
    first = last = place
    if not edge.all():
        wall = torch.ones_like(values[:, :1], dtype=torch.bool)
        first = torch.where(torch.cat([wall, edge], dim=1), place, 0).cummax(dim=1).values
        last = torch.where(torch.cat([edge, wall], dim=1), place, n - 1).flip(1).cummin(dim=1).values.flip(1)
    middle = ((first + last) - (n - 1)).to(torch.float64) / 2
    ranks = torch.empty_like(middle).scatter_(1, order, middle)
    # In ascending order, what is not finite stands at an end.
    finite = torch.isfinite(values[:, [0, -1]]).all(dim=1, keepdim=True)
    return torch.where(finite, ranks, torch.nan)


def rank_correlation(a: Tensor, b: Tensor) -> np.ndarray:
    """Return :func:`spearman` from the :func:`average_ranks` of both sides, where one side is compared many times."""
    norm_a, norm_b = (a * a).sum(dim=1).sqrt(), (b * b).sum(dim=1).sqrt()
    flat_a, flat_b = norm_a == 0, norm_b == 0
    safe = torch.where(flat_a | flat_b, torch.ones_like(norm_a), norm_a * norm_b)
    values = (a * b).sum(dim=1) / safe
    values = torch.where(flat_a & flat_b, torch.ones_like(values), values.clamp(-1.0, 1.0))
    return values.cpu().numpy().astype(np.float64)


def _check_shapes(a: Tensor, b: Tensor) -> None:
    if a.ndim != 3 or a.shape != b.shape or not a.numel():
        raise UsageError(
            f"maps of shapes {tuple(a.shape)} and {tuple(b.shape)} cannot be compared; expected N×H×W twice, with at "
            "least one pixel"
        )


def _window_means(stack: Tensor, window: tuple[int, int]) -> Tensor:
    """Return the mean of every window that lies inside the map, one axis after the other; stack: K×N×H×W."""
    for axis, side in ((-2, window[0]), (-1, window[1])):
        # Sums of shifted maps: for windows this small several times faster than torch's pooling.
        places = stack.shape[axis] - side + 1
        total = stack.narrow(axis, 0, places).clone()
        for start in range(1, side):
            total += stack.narrow(axis, start, places)
        stack = total / side
    return stack
