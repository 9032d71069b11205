"""The batch buffer and the network behind it, on the host and on a CUDA device.

Place in the flow: used by ``engine`` only. May call the model's session and ``preprocess``.

Both kinds hold the canvases in the network's own space (colour order, normalisation, layout applied once) and a buffer
whose rows are lanes. They offer the same three steps: :meth:`Feed.start` copies the base canvases into the rows,
:meth:`Feed.replace` writes the pixels that come next, :meth:`Feed.forward` runs the network on the first rows.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from faithface.card import InputCard
from faithface.contract import FaceModel
from faithface.lazy import torch
from faithface.model.session import TORCH_DTYPES, Session
from faithface.model.twin import preprocess
from faithface.perturb.plan import Plan

if TYPE_CHECKING:
    from torch import Tensor


class Feed(Protocol):
    """What the engine needs of a device. ``counts_passes``: the engine must count the passes itself."""

    counts_passes: bool

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
        """Forget the buffer (before a smaller one)."""
        ...


def feed_for(model: FaceModel, plan: Plan) -> list[Feed]:
    """Return the feed that is fastest for the model's device; several where passes run side by side."""
    session = getattr(model, "session", None)
    if not isinstance(session, Session):
        # A model that is no ONNX file, such as a function in a test: composed in pixel space, called as it is.
        pixels = plan.canvases.cpu().numpy()
        return [HostFeed(plan, pixels, False, lambda rows: model.outputs(torch.from_numpy(rows)), False)]
    fixed = getattr(model, "fixed_batch", None)
    card = model.card.input
    last = card.layout == "NHWC"
    if session.device == "cpu":
        canvases = prepare_on_host(plan.canvases, card, session.dtype)

        def run(rows: np.ndarray) -> Tensor:
            out = session.ort.run([session.output], {session.inputs[0].name: rows})[0]
            return torch.from_numpy(np.asarray(out, dtype=np.float32))

        feed = HostFeed(plan, canvases, last, run, True, fixed)
        return [feed, *(feed.beside() for _ in range(session.workers - 1))]
    return [DeviceFeed(plan, preprocess(plan.canvases.to(session.device), card), last, session, fixed)]


def prepare_on_host(canvases: Tensor, card: InputCard, dtype: Any = np.float32) -> np.ndarray:
    """Return the canvases in the network's space and layout, one by one into one array.

    One by one, because the temporaries of a single image stay in the cache, and those of a whole plan cost more than
    the composition of all its masked images.
    """
    prepared: np.ndarray | None = None
    for i in range(len(canvases)):
        one = preprocess(canvases[i : i + 1], card)[0].numpy()
        if prepared is None:
            prepared = np.empty((len(canvases), *one.shape), dtype=dtype)
        prepared[i] = one
    assert prepared is not None  # a plan with passes has canvases
    return prepared


class HostFeed:
    """numpy writes into the array that the network reads."""

    def __init__(
        self,
        plan: Plan,
        canvases: np.ndarray,
        channels_last: bool,
        run: Callable[[np.ndarray], Tensor],
        counts_passes: bool,
        fixed_batch: int | None = None,
    ) -> None:
        self.counts_passes = counts_passes
        self.shape = canvases.shape[1:]
        self.canvases = np.ascontiguousarray(canvases).reshape(len(canvases), -1)
        self.orders = plan.orders.cpu().numpy()
        self.run, self.fixed_batch = run, fixed_batch
        pixels = self.orders.shape[1]
        self.channels = self.canvases.shape[1] // pixels
        self.spread = _spread(pixels, self.channels, channels_last)
        self.buffer = np.zeros((0, self.canvases.shape[1]), dtype=canvases.dtype)

    def beside(self) -> HostFeed:
        """Return a feed with a buffer of its own on the same canvases and orders, for another thread."""
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
        # Indices are in range by construction; "clip" spares numpy the check and the buffer behind it.
        values = self.canvases.reshape(-1).take(inside + (other * row)[:, None, None], mode="clip")
        self.buffer.reshape(-1)[inside + (lanes * row)[:, None, None]] = values

    def forward(self, active: int) -> Tensor:
        rows = self.fixed_batch or active
        outputs = self.run(self.buffer[:rows].reshape(rows, *self.shape))
        return outputs.reshape(rows, -1)[:active]


class DeviceFeed:
    """torch writes into device memory that is bound to the session; outputs stay there until the plan is done."""

    counts_passes = True

    def __init__(
        self, plan: Plan, canvases: Tensor, channels_last: bool, session: Session, fixed_batch: int | None
    ) -> None:
        self.session, self.fixed_batch = session, fixed_batch
        self.shape = tuple(canvases.shape[1:])
        self.canvases = canvases.to(TORCH_DTYPES[session.dtype]).contiguous().reshape(len(canvases), -1)
        self.device = self.canvases.device
        self.orders = plan.orders.to(self.device)
        pixels = self.orders.shape[1]
        scale, offsets = _spread(pixels, self.canvases.shape[1] // pixels, channels_last)
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
        # Only four numbers per lane travel to the device.
        low_, high_, order_, other_ = self._put(np.stack([low, high, order, other]))
        steps = torch.arange(int((high - low).max()), device=self.device)
        columns = torch.minimum(low_[:, None] + steps, high_[:, None] - 1)
        inside = (self.orders[order_[:, None], columns] * self.scale)[:, None, :] + self.offsets[None, :, None]
        values = self.canvases.view(-1)[inside + (other_ * row)[:, None, None]]
        at = inside + (torch.arange(lanes, device=self.device) * row)[:, None, None]
        # Repeated places (the padding of short lanes) all carry the same value, so their order does not matter.
        self.buffer.view(-1)[at] = values

    def forward(self, active: int) -> Tensor:
        # cuDNN plans each convolution anew when the number of rows changes, which costs more than some surplus rows.
        rows = self.fixed_batch or (self.lanes if 2 * active >= self.lanes else active)
        outputs = bound_run(self.session, self.buffer[:rows].view(rows, *self.shape))
        return outputs.reshape(rows, -1)[:active]


def bound_run(session: Session, batch: Tensor) -> Tensor:
    """Run a session on device memory without a copy: the input by its pointer, the output left on the device."""
    binding = session.ort.io_binding()
    if batch.device.type == "cuda":
        # ONNX Runtime works on its own stream: what torch has queued must be done before it reads.
        torch.cuda.current_stream().synchronize()
    kind = batch.device.type
    binding.bind_input(session.inputs[0].name, kind, 0, session.dtype, tuple(batch.shape), batch.data_ptr())
    binding.bind_output(session.output, kind)
    session.ort.run_with_iobinding(binding)
    binding.synchronize_outputs()
    output = torch.utils.dlpack.from_dlpack(binding.get_outputs()[0]._ortvalue.to_dlpack())
    # A copy: the memory behind the view belongs to ONNX Runtime and goes with the binding.
    return output.to(torch.float32, copy=True)


def _spread(pixels: int, channels: int, channels_last: bool) -> tuple[int, np.ndarray]:
    """Return (scale, offsets): value c of pixel p lies at p · scale + offsets[c] of a flattened row."""
    if channels_last:
        return channels, np.arange(channels)
    return 1, np.arange(channels) * pixels
