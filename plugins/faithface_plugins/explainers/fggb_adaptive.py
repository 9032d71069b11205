"""FGGB's absolute reading from the channels of largest weight: as many as the map needs.

Place in the flow: called by ``fggb``; calls the model's twin through ``model.products`` and
``fggb_channels``. Registers nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from faithface.contract import FaceModel
from faithface.lazy import torch
from faithface_plugins.explainers.fggb_channels import (
    Embedding,
    Facts,
    channel_cotangents,
    facts_of,
    mean_correlation,
    reduced,
)
from faithface_plugins.explainers.pair_common import smooth

if TYPE_CHECKING:
    from torch import Tensor


# Mean correlation between channel maps below which the mean map says nothing about a channel that was not computed.
# Where channels see places of their own (0.00 on a network of separate patches), successive maps agree long before they
# agree with the exact one, down to 0.89; at 0.6 and above (networks of convolutions) they do so to the tolerance.
ALIKE = 0.3


def largest_channels(
    model: FaceModel,
    image: Tensor,
    embedding: Tensor,
    weights: Tensor,
    which: Embedding,
    sigma: float,
    tolerance: float,
) -> tuple[Tensor, Facts]:
    """Return Σ_k Ĝ_k · weights[k], the channels of small weight replaced by the mean map of those computed.

    Channels are computed in the order of falling |weight|, one backward pass's worth at a time, until a further pass
    changes the rank order of both maps, the smoothed halves of S, by at most ``tolerance``; a half that is empty before
    and after has not changed. Where the maps of the channels computed by then correlate by less than :data:`ALIKE`,
    all channels are computed.

    Args:
        image: 3×H×W.
        embedding: D, of that image.
        weights: D.
        sigma: of the smoothing, in pixels.
        tolerance: on 1 − Spearman's correlation of two successive maps; 0: all channels are computed.

    Returns:
        S before it is split, H×W, and what is known of the channels.
    """
    from faithface.model.products import KeptGraph, rows_per_pass

    rows = rows_per_pass(image.device.type, getattr(model, "batch_given", None))
    order = torch.argsort(weights.abs(), descending=True, stable=True)
    cotangents, ordered = channel_cotangents(embedding, which)[order], weights[order]
    graph = KeptGraph(model.twin_for(image[None]), image[None], rows)
    exact, summed = weights.new_zeros(image[0].numel()), weights.new_zeros(image[0].numel())
    live, total = 0, exact
    before: list[np.ndarray] = []
    norms, cells = [], []
    for start in range(0, len(ordered), rows):
        part = reduced(start, graph.products(cotangents[None, start : start + rows])[0], "absolute")
        unit = part.maps / torch.where(part.norms > 0, part.norms, 1.0)[:, None]
        exact = exact + ordered[start : start + rows] @ unit
        summed = summed + unit.sum(dim=0)
        live += int((part.norms > 0).sum())
        norms.append(part.norms)
        cells.append(part.cells)
        total = exact + summed * (ordered[start + rows :].sum() / max(live, 1))
        if tolerance > 0:
            halves = ((sign * total).clamp(min=0).unflatten(0, tuple(image.shape[1:])) for sign in (1, -1))
            ranks = [_ranks(smooth(half, sigma)) for half in halves]
            if before and all(_stands(now, then, tolerance) for now, then in zip(ranks, before, strict=True)):
                if mean_correlation(torch.cat(cells)) >= ALIKE:
                    break
                tolerance = 0
            before = ranks
    done = torch.cat(norms)
    model.count(forward=1, backward=len(done))
    facts = facts_of(done, torch.cat(cells), weights, ordered[: len(done)])
    return total.unflatten(0, tuple(image.shape[1:])), facts


def _stands(now: np.ndarray, then: np.ndarray, tolerance: float) -> bool:
    """Whether two maps, as :func:`_ranks` gives them, agree: Spearman's correlation, or both constant."""
    return not (now.any() or then.any()) or 1 - float((now * then).sum()) <= tolerance


def _ranks(values: Tensor) -> np.ndarray:
    """Return the centred ranks of a map at unit length (a product of two is Spearman's correlation), or zeros."""
    from scipy.stats import rankdata

    ranks = rankdata(values.detach().cpu().numpy().ravel())
    ranks -= ranks.mean()
    # Sums, not products: a threaded BLAS spends more on waking its threads than a map of this size is worth.
    length = float((ranks * ranks).sum()) ** 0.5
    return ranks / length if length > 0 else ranks
