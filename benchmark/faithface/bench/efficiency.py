"""How close the curve metrics come to the bare network: ``bench``'s first table.

Place in the flow: called by ``suite``; calls ``work`` and ``rivals``.
"""

from __future__ import annotations

from typing import Any

from faithface.bench import rivals
from faithface.bench.subjects import Subject, random_maps, random_samples
from faithface.bench.timing import paired
from faithface.bench.work import bare_run, metric_run, passes_of


def measure_subject(subject: Subject, images: int, repeats: int, whole: bool = True) -> dict[str, Any]:
    """Return the row of one network: rates, efficiency, and the ratios to other libraries.

    With ``whole``, Quantus is also timed with steps of as many values as ours have pixels.
    """
    model = subject.model
    samples = random_samples(model, images)
    relevance = random_maps(samples)
    policy = model.batching
    run = metric_run(model, samples, relevance, "blur")
    passes = passes_of(model, run)
    found = paired(bare_run(model, passes, policy.batch), run, repeats)
    row: dict[str, Any] = {
        "role": subject.role,
        "network": subject.name,
        "input": list(model.size),
        "batch": policy.batch,
        "side_by_side": policy.workers,
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
