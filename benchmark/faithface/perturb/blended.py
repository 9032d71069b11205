"""Many versions of an image, partly replaced by a colour, made in the array that the network reads.

Place in the flow: called by perturbation explainers (RISE, LIME, occlusion and their kin), whose masks have little in
common from one pass to the next; what changes step by step along a map is ``engine``'s. May call the model's
:class:`~faithface.contract.Feed` and ``threads``.

Normalisation is affine in each pixel, so it commutes with blending: image and colour are prepared once, and each row is
one product and one sum in place. On a device that is not the host, and for models without a host feed, the model makes
the images itself (``FaceModel.outputs_of``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from threading import local
from typing import TYPE_CHECKING

import numpy as np

from faithface.contract import FaceModel, HostFeed
from faithface.contract.running import BatchingPolicy
from faithface.lazy import torch
from faithface.threads import one_thread

if TYPE_CHECKING:
    from torch import Tensor

Window = tuple[int, int, int, int]
"""Top, left, bottom (excluded), right (excluded)."""
Write = Callable[[int, slice, np.ndarray], None]


def blended_outputs(
    model: FaceModel, image: Tensor, color: Tensor, count: int, masks: Callable[[slice], Tensor]
) -> Tensor:
    """Return the outputs of color + mask · (image − color) for ``count`` masks.

    Args:
        image: float32 3×H×W in [0, 1].
        color: float32, 3×1×1.
        count: how many masks.
        masks: called with slices of ``range(count)``, from several threads; returns n×H×W, float32 in [0, 1].

    Returns:
        float32 count×K, as :meth:`~faithface.contract.FaceModel.outputs`.
    """
    return blended_outputs_of_several(model, image[None], color, count, lambda _, part: masks(part))[0]


def blended_outputs_of_several(
    model: FaceModel, images: Tensor, color: Tensor, count: int, masks: Callable[[int, slice], Tensor]
) -> Tensor:
    """Return the outputs of several images under ``count`` masks each, as :func:`blended_outputs` gives them.

    No thread waits at the end of an image, which counts where an image has few masks.

    Args:
        images: float32 N×3×H×W in [0, 1].
        color, count: as for one image.
        masks: called with the index of an image and a slice of its ``range(count)``, from several threads; returns
            n×H×W, float32 in [0, 1].

    Returns:
        float32 N×count×K.
    """
    _ = model.batching  # first: choosing it may open the session anew
    feed = model.feed()
    if not isinstance(feed, HostFeed):

        def made(view: int, image: Tensor) -> Callable[[slice], Tensor]:
            return lambda part: torch.addcmul(color, masks(view, part)[:, None].to(image), image - color)

        return torch.stack([model.outputs_of(count, made(view, image)) for view, image in enumerate(images)])
    with one_thread():
        prepared = feed.prepare(torch.cat([images, color.expand_as(images[:1])]).cpu())
    hidden = prepared[-1]
    base, differences = torch.from_numpy(hidden), torch.from_numpy(prepared[:-1] - hidden)

    def write(view: int, part: slice, rows: np.ndarray) -> None:
        mask = masks(view, part).cpu().to(base.dtype)
        mask = mask[..., None] if feed.channels_last else mask[:, None]
        # One pass over the rows, where numpy would make two.
        torch.addcmul(base, mask, differences[view], out=torch.from_numpy(rows))

    return _run(model, feed, hidden, (len(images), count), write).to(images.device)


def covered_outputs(model: FaceModel, image: Tensor, color: Tensor, windows: Sequence[Window]) -> Tensor:
    """Return the outputs of an image with one window each replaced by a colour; arguments and result as above."""
    _ = model.batching
    feed = model.feed()
    if not isinstance(feed, HostFeed):

        def make(part: slice) -> Tensor:
            covered = image.repeat(part.stop - part.start, 1, 1, 1)
            for one, (top, left, bottom, right) in zip(covered, windows[part], strict=True):
                one[:, top:bottom, left:right] = color
            return covered

        return model.outputs_of(len(windows), make)
    with one_thread():
        shown, hidden = feed.prepare(torch.stack([image, color.expand_as(image)]).cpu())

    def write(_: int, part: slice, rows: np.ndarray) -> None:
        rows[:] = shown
        for row, (top, left, bottom, right) in zip(rows, windows[part], strict=True):
            if feed.channels_last:
                row[top:bottom, left:right] = hidden[top:bottom, left:right]
            else:
                row[:, top:bottom, left:right] = hidden[:, top:bottom, left:right]

    return _run(model, feed, shown, (1, len(windows)), write)[0].to(image.device)


def _run(model: FaceModel, feed: HostFeed, like: np.ndarray, shape: tuple[int, int], write: Write) -> Tensor:
    """Write and run the rows of each view by the model's batching policy; half as many at once when memory runs out."""
    policy = model.batching
    while True:
        try:
            outputs = _run_by(policy, feed, like, shape, write)
        except Exception as error:  # ONNX Runtime and torch raise unrelated classes when memory runs out
            policy = model.reduce_batch(policy, error)
            continue
        if not feed.counts:
            model.count(forward=shape[0] * shape[1])
        return outputs.unflatten(0, shape)


def _run_by(policy: BatchingPolicy, feed: HostFeed, like: np.ndarray, shape: tuple[int, int], write: Write) -> Tensor:
    views, count = shape
    most = feed.fixed_batch or min(policy.batch, -(-count // policy.workers))
    own = local()

    def forward(view: int, part: slice) -> Tensor:
        if not hasattr(own, "rows"):
            # Fresh memory for each batch would cost more, in page faults, than writing it.
            own.rows = np.zeros((most, *like.shape), dtype=like.dtype)
        n = part.stop - part.start
        write(view, part, own.rows[:n])
        return feed.run(own.rows[: feed.fixed_batch or n])[:n]

    # A batch never holds rows of two views: values do not depend on the company of an image.
    parts = [(view, slice(start, min(start + most, count))) for view in range(views) for start in range(0, count, most)]
    if policy.workers == 1 or len(parts) == 1:
        return torch.cat([forward(*part) for part in parts])

    def alone(part: tuple[int, slice]) -> Tensor:
        with one_thread():  # the other cores have passes of their own
            return forward(*part)

    # Threads that live longer than this call have torch's and the network's state ready.
    with nullcontext(feed.pool) if feed.pool else ThreadPoolExecutor(policy.workers) as pool:
        return torch.cat(list(pool.map(alone, parts)))
