"""The two calls that are timed against each other: curve metrics from scratch, and as many bare passes.

Place in the flow: used by the measurements of ``bench``; uses ``perturb`` as the metrics do, and the session as nobody
else does.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from faithface.bench.subjects import fresh
from faithface.contract import Maps, Samples
from faithface.model import OnnxModel
from faithface.model.session import TORCH_DTYPES
from faithface.model.twin import preprocess
from faithface.perturb import area, curves
from faithface.perturb.curves import DIRECTIONS, Direction

POINTS = 51


def maps_for(samples: Samples, relevance: Tensor) -> Maps:
    """Wrap maps N×H×W for classifiers or pairs."""
    if not samples.are_pairs:
        return Maps(relevance=relevance)
    return Maps(similarity=relevance.abs()[:, None].expand(-1, 2, -1, -1))


def metric_run(
    model: OnnxModel,
    samples: Samples,
    relevance: Tensor,
    fill: str,
    directions: tuple[Direction, ...] = DIRECTIONS,
    points: int = POINTS,
) -> Callable[[], dict[str, np.ndarray]]:
    """Return a call of ``deletion@1`` and ``insertion@1`` from scratch: ranking, fills, curves, areas."""

    def run() -> dict[str, np.ndarray]:
        batch, maps = fresh(samples), maps_for(samples, relevance)
        found = curves(model, batch, maps, fill=fill, points=points, directions=directions)
        return {d: area(c) for d, c in found.scores.items()}

    return run


def bare_run(model: OnnxModel, passes: int, batch: int) -> Callable[[], None]:
    """Return a call of so many bare forward passes on ready input: same session, same batch, as many side by side."""
    generator = np.random.default_rng(0)
    images = torch.from_numpy(generator.random((batch, 3, *model.size), dtype=np.float32)).to(model.device)
    session = model.session
    ready = preprocess(images, model.card.input).to(TORCH_DTYPES[session.dtype]).contiguous()
    on_host = None if model.device == "cuda" else np.ascontiguousarray(ready.numpy(), dtype=session.dtype)

    def some(left: int) -> None:
        while left > 0:
            rows = model.fixed_batch or min(batch, left)
            if on_host is None:
                session.run_bound(ready[:rows])
            else:
                session.run(on_host[:rows])
            left -= min(batch, left)

    def run() -> None:
        if session.workers == 1:
            some(passes)
            return
        shares = [len(range(first, passes, session.workers)) for first in range(session.workers)]
        list(session.pool.map(some, shares))

    return run


def passes_of(model: OnnxModel, run: Callable[[], object]) -> int:
    """Return the forward passes of one call."""
    before = model.passes.forward
    run()
    return model.passes.forward - before
