"""How close the curve metrics come to the bare network: ``bench``'s first table.

Place in the flow: called by ``suite``; uses ``perturb`` as the metrics do, and the session as nobody else does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from faithface.bench import rivals
from faithface.bench.subjects import Subject, fresh, random_maps, random_samples
from faithface.bench.timing import paired
from faithface.contract import Maps, Samples
from faithface.model import OnnxModel
from faithface.model.session import TORCH_DTYPES
from faithface.model.twin import preprocess
from faithface.perturb import area, curves
from faithface.perturb.batching import batch_for
from faithface.perturb.curves import DIRECTIONS, Direction
from faithface.perturb.feed import bound_run

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
                bound_run(session, ready[:rows])
            else:
                session.ort.run([session.output], {session.inputs[0].name: on_host[:rows]})
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


def measure_subject(subject: Subject, images: int, repeats: int, whole: bool = True) -> dict[str, Any]:
    """Return the row of one network: rates, efficiency, and the ratios to other libraries.

    With ``whole``, Quantus is also timed with steps of as many values as ours have pixels.
    """
    model = subject.model
    samples = random_samples(model, images)
    relevance = random_maps(samples)
    batch = batch_for(model)
    run = metric_run(model, samples, relevance, "blur")
    passes = passes_of(model, run)
    found = paired(bare_run(model, passes, batch), run, repeats)
    row: dict[str, Any] = {
        "role": subject.role,
        "network": subject.name,
        "input": list(model.size),
        "batch": batch,
        "side_by_side": model.session.workers,
        "images": images,
        "passes": passes,
        "bare_passes_per_second": round(passes / found.seconds_a, 1),
        "metric_passes_per_second": round(passes / found.seconds_b, 1),
        "metric_images_per_second": round(images / found.seconds_b, 2),
        "efficiency": found.as_dict(),
    }
    row["quantus"] = rivals.against_quantus(subject, samples, relevance, repeats)
    if whole:
        row["quantus_by_pixels"] = rivals.against_quantus(subject, samples, relevance, 1, by_pixels=True)
    row["torchcam"] = rivals.against_torchcam(subject, samples, relevance, repeats)
    return row
