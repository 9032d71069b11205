"""An ONNX Runtime session as a :class:`~faithface.contract.Feed`: rows in the network's own space, run in place.

Place in the flow: ``onnx_model`` hands it to the perturbation engine. May call ``session``, ``twin`` (for
``preprocess``), ``card`` and the contract's ``Feed``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from faithface.card import InputCard
from faithface.contract import Feed
from faithface.errors import UsageError
from faithface.model.session import TORCH_DTYPES, Session
from faithface.model.twin import preprocess


def session_feed(session: Session, card: InputCard, fixed_batch: int | None) -> Feed:
    """Return the feed of a session: on the host numpy's memory is read where it lies, on CUDA by IOBinding."""
    dtype, on_host = TORCH_DTYPES[session.dtype], session.device == "cpu"

    def prepare(images: Tensor) -> Tensor:
        if on_host:
            return prepare_on_host(images, card, dtype)
        return preprocess(images.to(session.device), card).to(dtype).contiguous()

    return Feed(prepare, session.run_tensor, session.device, card.layout == "NHWC", fixed_batch, counts=False)


def prepare_on_host(images: Tensor, card: InputCard, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return images in the network's space and layout, one by one into one tensor.

    One by one, because the temporaries of a single image stay in the cache, and those of a whole plan cost more than
    the composition of all its masked images.
    """
    if not len(images):
        raise UsageError("no images to prepare; expected at least one")
    prepared: Tensor | None = None
    for i in range(len(images)):
        one = preprocess(images[i : i + 1].to("cpu"), card)[0]
        if prepared is None:
            prepared = torch.empty((len(images), *one.shape), dtype=dtype)
        prepared[i] = one
    assert prepared is not None  # there is at least one image
    return prepared
