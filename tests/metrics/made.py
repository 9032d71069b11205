"""Batches made by hand for metrics that look at maps alone: no network, no files. Used by tests only."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from faithface.contract import Clean, Face, Maps, Pair, Sample, Samples
from faithface.reasons import Reason, ReasonCode


def codes(given: Mapping[int, Reason | str]) -> dict[int, ReasonCode]:
    """Return the codes of a metric's reasons or flags, by sample; a bare text among them is an error."""
    return {i: reason.code for i, reason in given.items()}  # type: ignore[union-attr]


def grey(size: tuple[int, int]) -> Face:
    return Face("grey", lambda: np.full((*size, 3), 0.5, np.float32))


def classifier_samples(n: int, size: tuple[int, int], truths: list[dict] | None = None, seed: int = 0) -> Samples:
    """Return n samples at H×W; ``truths`` holds a mapping from kind to array for each."""
    known = truths or [{}] * n
    items = tuple(
        Sample(f"s{i}", grey(size), "attack", {kind: (lambda mask=mask: mask) for kind, mask in known[i].items()})
        for i in range(n)
    )
    clean = Clean(torch.zeros(n, 2), torch.full((n,), 0.5), torch.zeros(n, dtype=torch.long))
    return Samples(items, torch.full((n, 3, *size), 0.5), clean, seed)


def pair_samples(same: list[bool], size: tuple[int, int], truths: list[dict] | None = None) -> Samples:
    """Return one pair per entry of ``same``."""
    known = truths or [{}] * len(same)
    items = tuple(
        Pair(f"p{i}", grey(size), grey(size), s, {kind: (lambda mask=mask: mask) for kind, mask in known[i].items()})
        for i, s in enumerate(same)
    )
    n = len(same)
    clean = Clean(torch.ones(n, 2, 4), torch.ones(n), torch.ones(n, dtype=torch.long), 0.5)
    return Samples(items, torch.full((n, 2, 3, *size), 0.5), clean)


def relevance(values: np.ndarray) -> Maps:
    """Return classifier maps from N×H×W numbers."""
    return Maps(relevance=torch.as_tensor(np.asarray(values, dtype=np.float32)))


def score_map(metric, values: np.ndarray, truth: np.ndarray | None = None, kind: str = "relevance"):
    """Return the Scores of one classifier map H×W, held against ``truth`` where there is one."""
    values = np.asarray(values, dtype=np.float32)
    samples = classifier_samples(1, values.shape, [{} if truth is None else {kind: truth}])
    return metric.score(None, samples, relevance(values[None]))


def value_of(metric, values: np.ndarray, truth: np.ndarray | None = None) -> float:
    """Return the headline of one classifier map."""
    return float(score_map(metric, values, truth).values[""][0])
