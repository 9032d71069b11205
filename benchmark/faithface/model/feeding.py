"""An ONNX Runtime session as a :class:`~faithface.contract.Feed`: rows in the network's own space, run in place.

Place in the flow: ``onnx_model`` passes it to the perturbation engine. May call ``session``, ``twin`` (for
``preprocess``), ``card`` and the contract's feeds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from faithface.card import InputCard
from faithface.contract import DeviceFeed, HostFeed
from faithface.errors import UsageError
from faithface.model.session import TORCH_DTYPES, Session
from faithface.model.twin import preprocess


def session_feed(session: Session, card: InputCard, fixed_batch: int | None) -> HostFeed | DeviceFeed:
    """Return the feed of a session: on the host numpy's memory is read in place, on CUDA by IOBinding."""
    last = card.layout == "NHWC"
    if session.device == "cpu":
        return HostFeed(
            prepare=lambda images: prepare_on_host(images, card, session.dtype),
            run=lambda rows: torch.from_numpy(session.run(rows)),
            channels_last=last,
            fixed_batch=fixed_batch,
            counts=False,
            pool=session.pool if session.workers > 1 else None,
        )
    dtype = TORCH_DTYPES[session.dtype]
    return DeviceFeed(
        prepare=lambda images: preprocess(images.to(session.device), card).to(dtype).contiguous(),
        run=session.run_bound,
        channels_last=last,
        fixed_batch=fixed_batch,
        counts=False,
    )


def prepare_on_host(images: Tensor, card: InputCard, dtype: Any = np.float32) -> np.ndarray:
    """Return images in the network's space and layout, one by one into one array.

    One by one, because the temporaries of a single image stay in the cache, and those of a whole plan cost more than
    the composition of all its masked images.
    """
    if not len(images):
        raise UsageError("no images to prepare; expected at least one")
    prepared: np.ndarray | None = None
    for i in range(len(images)):
        one = preprocess(images[i : i + 1], card)[0].numpy()
        if prepared is None:
            prepared = np.empty((len(images), *one.shape), dtype=dtype)
        prepared[i] = one
    assert prepared is not None  # there is at least one image
    return prepared
