"""Operators of the twin that the converter lacks, or implements differently from ONNX's definition.

Place in the flow: inserted by ``twin.py``. Torch modules; know nothing of cards, sessions or graphs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from faithface.errors import NotApplicable


class PRelu(nn.Module):
    """PReLU as one product, x · (1 where x > 0, else the slope).

    The converter writes clamp + clamp · slope, whose gradient at exactly 0 is 1 + slope, and which costs half of a
    MobileFaceNet's backward pass.
    """

    def forward(self, x: Tensor, slope: Tensor) -> Tensor:
        return x * torch.where(x > 0, torch.ones_like(slope), slope)


def with_contiguous_gradient(_module: nn.Module, _inputs: Any, value: Tensor) -> None:
    """Forward hook: give the module's backward pass a gradient in plain memory order.

    For one image, torch 2.13 on a CPU reads a gradient stored channels last in the wrong order in the backward pass
    of an instance normalisation, and gives a wrong gradient without an error.
    """
    if value.requires_grad:
        value.register_hook(lambda gradient: gradient.contiguous())


def resizes_as_torch(attributes: Mapping[str, Any], opset: int) -> bool:
    """Whether a Resize node's attributes mean what ``torch.nn.functional.interpolate`` does."""
    if opset < 11:
        return True  # the converter has the older definition itself
    mode = _text(attributes, "mode", "nearest")
    where = _text(attributes, "coordinate_transformation_mode", "half_pixel")
    if attributes.get("antialias") or attributes.get("axes") or attributes.get("exclude_outside"):
        return False
    if mode == "linear":
        return where in ("half_pixel", "align_corners")
    if mode == "cubic":
        return where in ("half_pixel", "align_corners") and attributes.get("cubic_coeff_a", -0.75) == -0.75
    return where == "asymmetric" and _text(attributes, "nearest_mode", "round_prefer_floor") == "floor"


class Resize(nn.Module):
    """ONNX's Resize by its definition (opset 11 on): one matrix of interpolation weights per resized axis.

    Source: the operator's specification, https://onnx.ai/onnx/operators/onnx__Resize.html
    """

    def __init__(self, attributes: Mapping[str, Any]) -> None:
        super().__init__()
        self.mode = _text(attributes, "mode", "nearest")
        self.where = _text(attributes, "coordinate_transformation_mode", "half_pixel")
        self.nearest = _text(attributes, "nearest_mode", "round_prefer_floor")
        self.cubic = float(attributes.get("cubic_coeff_a", -0.75))
        self.axes = list(attributes.get("axes") or [])
        self.inside_only = bool(attributes.get("exclude_outside", 0))
        unknown = [
            k for k in ("antialias", "keep_aspect_ratio_policy") if attributes.get(k) not in (None, 0, b"stretch")
        ]
        if unknown or self.where == "tf_crop_and_resize":
            raise NotApplicable(f"Resize with {unknown[0] if unknown else self.where} is not supported")

    def forward(
        self, x: Tensor, roi: Tensor | None = None, scales: Tensor | None = None, sizes: Tensor | None = None
    ) -> Tensor:
        axes = self.axes or list(range(x.dim()))
        factors: Sequence[float]
        if sizes is not None and sizes.numel():
            targets = [int(s) for s in sizes]
            factors = [t / x.shape[a] for a, t in zip(axes, targets, strict=True)]
        elif scales is not None and scales.numel():
            factors = [float(s) for s in scales]
            targets = [
                int(np.floor(np.float32(x.shape[a]) * np.float32(f))) for a, f in zip(axes, factors, strict=True)
            ]
        else:
            raise NotApplicable("a Resize has neither scales nor sizes")
        for axis, target, factor in zip(axes, targets, factors, strict=True):
            if target != x.shape[axis] or factor != 1:
                weights = torch.from_numpy(self.weights(x.shape[axis], target, factor)).to(x.device, x.dtype)
                x = torch.tensordot(x, weights, dims=([axis], [1])).movedim(-1, axis)
        return x

    def weights(self, size: int, target: int, factor: float) -> np.ndarray:
        """Return the weights of ``size`` inputs in each of ``target`` outputs along one axis: float32 target×size."""
        # float32 as in ONNX Runtime, so that a coordinate on an edge falls on the same side.
        at, scale = np.arange(target, dtype=np.float32), np.float32(factor)
        half = np.float32(0.5)
        if self.where == "align_corners":
            x = at * np.float32(size - 1) / np.float32(target - 1) if target > 1 else at * 0
        elif self.where == "asymmetric":
            x = at / scale
        elif self.where == "tf_half_pixel_for_nn":
            x = (at + half) / scale
        elif self.where == "pytorch_half_pixel" and target == 1:
            x = at * 0
        elif self.where == "half_pixel_symmetric":
            adjust = np.float32(target) / (scale * np.float32(size))
            centre = np.float32(size) / 2
            x = centre * (1 - adjust) + (at + half) / scale - half
        else:
            x = (at + half) / scale - half
        rows = np.arange(target)
        weights = np.zeros((target, size), dtype=np.float32)
        if self.mode == "nearest":
            weights[rows, np.clip(self._nearest(x), 0, size - 1)] = 1
            return weights
        if self.mode == "linear":
            x = np.clip(x, 0, size - 1)
            low = np.floor(x).astype(int)
            np.add.at(weights, (rows, low), 1 - (x - low))
            np.add.at(weights, (rows, np.minimum(low + 1, size - 1)), x - low)
            return weights
        low = np.floor(x).astype(int)
        taps = np.arange(-1, 3)
        share = _keys(x[:, None] - (low[:, None] + taps), self.cubic)
        index = low[:, None] + taps
        if self.inside_only:
            share = np.where((index >= 0) & (index < size), share, 0)
            share = share / share.sum(axis=1, keepdims=True)
        np.add.at(weights, (rows[:, None], np.clip(index, 0, size - 1)), share.astype(np.float32))
        return weights

    def _nearest(self, x: np.ndarray) -> np.ndarray:
        low = np.floor(x)
        rounded = {
            "floor": low,
            "ceil": np.ceil(x),
            "round_prefer_floor": np.where(x - low == 0.5, low, np.floor(x + np.float32(0.5))),
            "round_prefer_ceil": np.floor(x + np.float32(0.5)),
        }[self.nearest]
        return rounded.astype(int)


def _keys(distance: np.ndarray, a: float) -> np.ndarray:
    """Return the cubic convolution kernel of Keys (1981) with coefficient ``a``."""
    d = np.abs(distance).astype(np.float64)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = a * (((d - 5) * d + 8) * d - 4)
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


def _text(attributes: Mapping[str, Any], key: str, default: str) -> str:
    value = attributes.get(key, default)
    return value.decode() if isinstance(value, bytes) else str(value)
