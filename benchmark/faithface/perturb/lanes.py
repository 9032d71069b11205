"""The batch buffer whose rows are lanes, on the host and on a CUDA device.

Place in the flow: used by ``engine`` only. May call the model's :class:`~faithface.contract.Feed` and ``masking_plan``.

Both kinds hold the canvases in the network's own space (colour order, normalisation, layout applied once) and a buffer
whose rows are lanes. They offer the same three steps: :meth:`LaneBuffer.start` copies the base canvases into the rows,
:meth:`LaneBuffer.replace` writes the pixels that come next, :meth:`LaneBuffer.forward` runs the network on the first
rows.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Protocol

import numpy as np

from faithface.contract import DeviceFeed, HostFeed
from faithface.lazy import torch
from faithface.perturb.masking_plan import MaskingPlan

if TYPE_CHECKING:
    from torch import Tensor


class LaneBuffer(Protocol):
    """What the engine needs of a device."""

    def start(self, base: np.ndarray, batch: int) -> None:
        """Give each lane its base canvas."""
        ...

    def replace(self, low: np.ndarray, high: np.ndarray, order: np.ndarray, other: np.ndarray) -> None:
        """Write pixels ``low`` to ``high`` of each lane's order from its other canvas into its row."""
        ...

    def forward(self, active: int) -> Tensor:
        """Return the outputs active×K of the first ``active`` rows."""
        ...

    def reset(self) -> None:
        """Release the buffer (before a smaller one)."""
        ...


def lane_buffers(plan: MaskingPlan, feed: HostFeed | DeviceFeed, workers: int) -> list[LaneBuffer]:
    """Return a buffer where the feed's rows are; on the host one for each pass that runs side by side."""
    if isinstance(feed, HostFeed):
        first = HostLanes(plan, feed)
        return [first, *(first.beside() for _ in range(workers - 1))]
    return [DeviceLanes(plan, feed)]


class HostLanes:
    """numpy writes into the array that the network reads."""

    def __init__(self, plan: MaskingPlan, feed: HostFeed) -> None:
        canvases = feed.prepare(plan.canvases)
        self.feed = feed
        self.shape = canvases.shape[1:]
        self.canvases = np.ascontiguousarray(canvases).reshape(len(canvases), -1)
        self.orders = plan.orders.cpu().numpy()
        pixels = self.orders.shape[1]
        self.channels = self.canvases.shape[1] // pixels
        self.spread = _spread(pixels, self.channels, feed.channels_last)
        self.buffer = np.zeros((0, self.canvases.shape[1]), dtype=canvases.dtype)

    def beside(self) -> HostLanes:
        """Return lanes with a buffer of their own on the same canvases and orders, for another thread."""
        other = copy(self)
        other.buffer = self.buffer[:0].copy()
        return other

    def reset(self) -> None:
        self.buffer = self.buffer[:0]

    def start(self, base: np.ndarray, batch: int) -> None:
        if len(self.buffer) != batch:
            self.buffer = np.zeros((batch, self.canvases.shape[1]), dtype=self.canvases.dtype)
        np.take(self.canvases, base, axis=0, out=self.buffer[: len(base)])

    def replace(self, low: np.ndarray, high: np.ndarray, order: np.ndarray, other: np.ndarray) -> None:
        row = self.canvases.shape[1]
        scale, offsets = self.spread
        columns = np.minimum(low[:, None] + np.arange(int((high - low).max())), high[:, None] - 1)
        pixels = self.orders[order[:, None], columns] * scale
        inside = pixels[:, None, :] + offsets[None, :, None]
        lanes = np.arange(len(low))
        # Indices are in range by construction; "clip" saves numpy the check and its buffer.
        values = self.canvases.reshape(-1).take(inside + (other * row)[:, None, None], mode="clip")
        self.buffer.reshape(-1)[inside + (lanes * row)[:, None, None]] = values

    def forward(self, active: int) -> Tensor:
        rows = self.feed.fixed_batch or active
        outputs = self.feed.run(self.buffer[:rows].reshape(rows, *self.shape))
        return outputs.reshape(rows, -1)[:active]


class DeviceLanes:
    """torch writes into device memory that is bound to the session; outputs stay there until the plan is done."""

    def __init__(self, plan: MaskingPlan, feed: DeviceFeed) -> None:
        canvases = feed.prepare(plan.canvases)
        self.feed = feed
        self.shape = tuple(canvases.shape[1:])
        self.canvases = canvases.reshape(len(canvases), -1)
        self.device = self.canvases.device
        self.orders = plan.orders.to(self.device)
        pixels = self.orders.shape[1]
        scale, offsets = _spread(pixels, self.canvases.shape[1] // pixels, feed.channels_last)
        self.scale, self.offsets = scale, torch.from_numpy(offsets).to(self.device)
        self.buffer = self.canvases.new_zeros((0, self.canvases.shape[1]))
        self.lanes = 0

    def reset(self) -> None:
        self.buffer = self.buffer[:0].clone()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _put(self, numbers: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(numbers)).to(self.device, non_blocking=True)

    def start(self, base: np.ndarray, batch: int) -> None:
        if len(self.buffer) != batch:
            self.buffer = self.canvases.new_zeros((batch, self.canvases.shape[1]))
        self.buffer[: len(base)] = self.canvases[self._put(base)]
        self.lanes = len(base)

    def replace(self, low: np.ndarray, high: np.ndarray, order: np.ndarray, other: np.ndarray) -> None:
        row, lanes = self.canvases.shape[1], len(low)
        # Only four numbers per lane are transferred to the device.
        low_, high_, order_, other_ = self._put(np.stack([low, high, order, other]))
        steps = torch.arange(int((high - low).max()), device=self.device)
        columns = torch.minimum(low_[:, None] + steps, high_[:, None] - 1)
        inside = (self.orders[order_[:, None], columns] * self.scale)[:, None, :] + self.offsets[None, :, None]
        values = self.canvases.view(-1)[inside + (other_ * row)[:, None, None]]
        at = inside + (torch.arange(lanes, device=self.device) * row)[:, None, None]
        # Repeated places (the padding of short lanes) all carry the same value, so their order does not matter.
        self.buffer.view(-1)[at] = values

    def forward(self, active: int) -> Tensor:
        # cuDNN plans each convolution again when the number of rows changes, which costs more than some surplus rows.
        rows = self.feed.fixed_batch or (self.lanes if 2 * active >= self.lanes else active)
        outputs = self.feed.run(self.buffer[:rows].view(rows, *self.shape))
        return outputs.reshape(rows, -1)[:active]


def _spread(pixels: int, channels: int, channels_last: bool) -> tuple[int, np.ndarray]:
    """Return (scale, offsets): value c of pixel p lies at p · scale + offsets[c] of a flattened row."""
    if channels_last:
        return channels, np.arange(channels)
    return 1, np.arange(channels) * pixels
