"""The arithmetic of class activation maps: activations and gradients to coarse maps, coarse maps to the input size.

Place in the flow: called by ``cams.py`` and its neighbours; pure functions of tensors, imports torch only.

Conventions: A are a layer's activations M×C×h×w and g the gradients of the explained scalar with respect to them, same
shape. A ``*_cam`` function returns the signed sum over channels, M×h×w, before any ReLU. Explaining the negated scalar
means calling it with −g; that is how pairs get their dissimilarity map.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from faithface.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

MINMAX_EPS = 1e-7  # pytorch-grad-cam's, so that maps can be compared number by number


def grad_cam(a: Tensor, g: Tensor) -> Tensor:
    """Σ_k mean(g_k)·A_k."""
    return (g.mean(dim=(2, 3), keepdim=True) * a).sum(dim=1)


def grad_cam_plus_plus(a: Tensor, g: Tensor) -> Tensor:
    """Σ_k (Σ_ij α_ij·ReLU(g_ij))·A_k with α = g² / (2g² + (Σ A)·g³ + 1e-6), α = 0 where g = 0."""
    square = g * g
    alpha = square / (2 * square + a.sum(dim=(2, 3), keepdim=True) * square * g + 1e-6)
    alpha = torch.where(g != 0, alpha, torch.zeros_like(alpha))
    return ((g.clamp(min=0) * alpha).sum(dim=(2, 3), keepdim=True) * a).sum(dim=1)


def hires_cam(a: Tensor, g: Tensor) -> Tensor:
    """Σ_k g_k ⊙ A_k."""
    return (g * a).sum(dim=1)


def xgrad_cam(a: Tensor, g: Tensor) -> Tensor:
    """Σ_k (Σ_ij g_ij·A_ij / (Σ_ij A_ij + 1e-7))·A_k."""
    weights = (g * a / (a.sum(dim=(2, 3), keepdim=True) + MINMAX_EPS)).sum(dim=(2, 3), keepdim=True)
    return (weights * a).sum(dim=1)


def layer_cam(a: Tensor, g: Tensor) -> Tensor:
    """Σ_k ReLU(g_k) ⊙ A_k."""
    return (g.clamp(min=0) * a).sum(dim=1)


def eigen_cam(a: Tensor) -> Tensor:
    """X̄·v_1: the centred (h·w)×C activations on their first right singular vector; the largest |value| is positive."""
    rows = a.flatten(2).transpose(1, 2).to(torch.float64)
    rows = rows - rows.mean(dim=1, keepdim=True)
    # The strongest direction from the smaller of the two Gram matrices: several times as fast as the whole
    # decomposition. Squaring costs accuracy in the weak directions only.
    if rows.shape[1] <= rows.shape[2]:
        values, vectors = torch.linalg.eigh(rows @ rows.transpose(1, 2))
        projection = vectors[..., -1] * values[..., -1:].clamp(min=0).sqrt()
    else:
        _, vectors = torch.linalg.eigh(rows.transpose(1, 2) @ rows)
        projection = (rows @ vectors[..., -1:])[..., 0]
    flip = projection.amin(dim=1).abs() > projection.amax(dim=1).abs()
    projection = torch.where(flip[:, None], -projection, projection)
    return projection.to(a.dtype).unflatten(1, a.shape[2:])


def finite(maps: Tensor) -> Tensor:
    """Replace what is not a number by 0: a quotient without a denominator is no evidence."""
    return torch.nan_to_num(maps, nan=0.0, posinf=0.0, neginf=0.0)


def min_max(maps: Tensor) -> Tensor:
    """Scale each map to [0, 1): (m − min) / (max(m − min) + 1e-7). A constant map becomes 0."""
    shifted = maps - maps.amin(dim=(-2, -1), keepdim=True)
    return shifted / (shifted.amax(dim=(-2, -1), keepdim=True) + MINMAX_EPS)


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize maps …×h×w bilinearly (half-pixel centres, as OpenCV; no anti-aliasing) to ``size``."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    flat = maps.reshape(-1, 1, *maps.shape[-2:])
    flat = torch.nn.functional.interpolate(flat, size=size, mode="bilinear", align_corners=False)
    return flat.reshape(*maps.shape[:-2], *size)


def classifier_maps(cam: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """ReLU, min-max, bilinear to ``size``, ReLU, min-max: pytorch-grad-cam's order.

    Returns:
        The maps M×H×W and, before resizing, M×h×w.
    """
    small = min_max(finite(cam).clamp(min=0))
    return min_max(resize(small, size).clamp(min=0)), small


def pair_maps(positive: Tensor, negative: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """ReLU both, divide both by the larger of their two maxima, bilinear to ``size``.

    One divisor per face keeps the proportion between the evidence for and against; scaling each to [0, 1] separately
    would make faint dissimilarity look as strong as the similarity beside it.

    Returns:
        Similarity and dissimilarity M×H×W, and similarity before resizing, M×h×w.
    """
    positive, negative = finite(positive).clamp(min=0), finite(negative).clamp(min=0)
    top = torch.maximum(positive.amax(dim=(1, 2)), negative.amax(dim=(1, 2)))[:, None, None]
    top = torch.where(top > 0, top, torch.ones_like(top))
    small = positive / top
    return resize(small, size), resize(negative / top, size), small
