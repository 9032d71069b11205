"""The channels of one face for FGGB: their weights, cotangents, gradient maps, and what the maps have in common.

Place in the flow: called by ``fggb`` and the modules of its cheaper forms; calls ``FaceModel.vjp`` and
``FaceModel.cached``. Registers nothing.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from faithface.contract import FaceModel
from faithface.lazy import torch
from faithface_plugins.explainers.pair_common import unit

if TYPE_CHECKING:
    from torch import Tensor

Embedding = Literal["normalised", "raw"]
Reading = Literal["absolute", "signed"]

# Bytes of gradient maps in memory at a time: all 512 channels at 112×112, a quarter of them at 224×224.
HELD = 128 * 2**20
# Channels that are reduced at a time, so that the temporaries stay in the cache.
REDUCED = 32
# Bytes of channel maps that a model caches for images that may recur: five images with 512 channels at 112×112.
KEPT = 128 * 2**20
# Cells per side on which channel maps are compared. The mean over a cell (16 pixels of 112) is about as smooth as a
# Gaussian of σ = 5, the smoothing of FGGB itself, and costs one pass over the maps.
CELLS = 7


@dataclass(frozen=True, eq=False)
class Portion:
    """Some consecutive channels of one face.

    Attributes:
        start: the first channel.
        maps: n×P, flat maps before normalisation: P = H·W (``absolute``) or 3·H·W (``signed``).
        norms: n, their Euclidean norms.
        cells: n×CELLS², the mean of |G_k| over colours and over the pixels of each cell.
    """

    start: int
    maps: Tensor
    norms: Tensor
    cells: Tensor


@dataclass(frozen=True)
class Facts:
    """What the channels of a face have in common.

    Attributes:
        norm_variation: standard deviation of the channels' norms over their mean.
        channel_correlation: mean Pearson correlation, over all pairs of channels, of |G_k| on CELLS×CELLS cells.
        weight_covered: the share of Σ |w_k − threshold / N| whose channels were computed.
        channels: how many were computed.
    """

    norm_variation: float
    channel_correlation: float
    weight_covered: float
    channels: int


def channel_weights(embeddings: Tensor, threshold: float) -> Tensor:
    """Return w_k − threshold / N of pairs of embeddings N×2×D: N×D, each row summing to cosine − threshold."""
    units = unit(embeddings)
    return units[:, 0] * units[:, 1] - threshold / embeddings.shape[-1]


def channel_cotangents(embedding: Tensor, which: Embedding) -> Tensor:
    """Return the N vectors whose products with the Jacobian are the channels' gradients.

    ``normalised``: the Jacobian of f / ‖f‖ is (I − e eᵀ) / ‖f‖ times that of f, so the transformation is applied to the
    vectors, before the one product with the network.
    """
    identity = torch.eye(len(embedding), dtype=torch.float32, device=embedding.device)
    if which == "raw":
        return identity
    e = unit(embedding)
    norm = torch.linalg.vector_norm(embedding)
    return (identity - torch.outer(e, e)) / torch.where(norm > 0, norm, 1.0)


def reduced(start: int, gradients: Tensor, reading: Reading) -> Portion:
    """Turn gradients n×3×H×W of consecutive channels into their maps."""
    absolute = gradients.abs().mean(dim=1)
    maps = (absolute if reading == "absolute" else gradients).flatten(1)
    cells = torch.nn.functional.adaptive_avg_pool2d(absolute[None], CELLS)[0].flatten(1)
    return Portion(start, maps, torch.linalg.vector_norm(maps, dim=1), cells)


def channel_portions(
    model: FaceModel, image: Tensor, embedding: Tensor, which: Embedding, reading: Reading
) -> Iterator[Portion]:
    """Yield all channels of one face (image 3×H×W, embedding D), a portion at a time.

    An image that recurs with the same embedding gets the cached result, for as long as it is
    cached; the meter counts its passes nevertheless, so that cost does not depend on the order of the samples.
    """
    kept = model.cached(kept_portions)
    key = _key(image, embedding, which, reading)
    found = kept.find(key)
    if found is not None:
        model.count(forward=1, backward=len(embedding))
        yield from found
        return
    whole = 4 * len(embedding) * (image.numel() if reading == "signed" else image[0].numel())
    fresh: list[Portion] = []
    cotangents = channel_cotangents(embedding, which)
    held = max(REDUCED, HELD // (4 * image.numel()))
    for start in range(0, len(cotangents), held):
        gradients = model.vjp(image[None], cotangents[None, start : start + held])[0]
        for first in range(0, len(gradients), REDUCED):
            portion = reduced(start + first, gradients[first : first + REDUCED], reading)
            if whole <= KEPT:
                fresh.append(portion)
            yield portion
    if fresh:
        kept.keep(key, tuple(fresh), whole)


class Kept:
    """Channel maps of the most recent images, at most :data:`KEPT` bytes of them."""

    def __init__(self) -> None:
        self._found: OrderedDict[bytes, tuple[tuple[Portion, ...], int]] = OrderedDict()

    def find(self, key: bytes) -> tuple[Portion, ...] | None:
        if key not in self._found:
            return None
        self._found.move_to_end(key)
        return self._found[key][0]

    def keep(self, key: bytes, portions: tuple[Portion, ...], size: int) -> None:
        self._found[key] = (portions, size)
        while sum(size for _, size in self._found.values()) > KEPT:
            self._found.popitem(last=False)

    def __len__(self) -> int:
        return len(self._found)


def kept_portions(model: FaceModel) -> Kept:
    """Return a new store; called through ``model.cached``, so that a model has one."""
    return Kept()


def _key(image: Tensor, embedding: Tensor, which: Embedding, reading: Reading) -> bytes:
    # Pixels, not ids: metrics explain altered images under the same id. The embedding too: it changes the cotangents,
    # and another batch may have rounded it differently.
    digest = hashlib.blake2b(f"{which} {reading}".encode(), digest_size=16)
    for part in (image, embedding):
        digest.update(part.detach().cpu().contiguous().numpy().tobytes())
    return digest.digest()


def facts_of(norms: Tensor, cells: Tensor, weights: Tensor, covered: Tensor) -> Facts:
    """Return what channels have in common, from norms n and cells n×c of those computed.

    Args:
        weights: D, of all channels.
        covered: n, the weights of those computed.
    """
    live = norms[norms > 0].double()
    variation = float(live.std(correction=0) / live.mean()) if len(live) else 0.0
    total = float(weights.abs().sum())
    share = float(covered.abs().sum()) / total if total else 1.0
    return Facts(variation, mean_correlation(cells), share, len(norms))


def mean_correlation(maps: Tensor) -> float:
    """Return the mean Pearson correlation over all pairs of rows of n×c; constant rows are ignored.

    Σ over all pairs of z_i · z_j = ‖Σ z_i‖² with centred unit rows z, so the n² correlations are never made. 0 where
    fewer than two rows vary.
    """
    centred = maps.double() - maps.double().mean(dim=1, keepdim=True)
    length = torch.linalg.vector_norm(centred, dim=1, keepdim=True)
    rows = (centred / torch.where(length > 0, length, 1.0))[length[:, 0] > 0]
    n = len(rows)
    return float((rows.sum(dim=0).square().sum() - n) / (n * (n - 1))) if n > 1 else 0.0
