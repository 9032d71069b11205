"""The model's answer to altered probes: the score of the clean decision, and whether the decision still stands.

Place in the flow: used by the metrics here that alter images without the curves' engine; calls ``tasks`` and the
contract. The score is that of ``tasks``: the probability of the class predicted on the clean image, or the similarity
of the pair with its reference unaltered (protocol rule 4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from faithface.contract import FaceModel, Samples
from faithface.lazy import torch
from faithface.metrics._maps import to_numpy
from faithface.perturb.finite import require_finite
from faithface.reasons import Reason, ReasonCode
from faithface.tasks import accepted, pair_similarity

if TYPE_CHECKING:
    from torch import Tensor

NO_THRESHOLD = Reason(ReasonCode.NO_THRESHOLD, "no decision threshold is known, so that flips cannot be counted")


@dataclass(frozen=True)
class Answers:
    """float64 V×N: ``scores`` of V altered versions of N probes, and ``flipped``: 1 where the decision changed, else 0.

    ``flipped`` is NaN for pairs without a decision threshold.
    """

    scores: np.ndarray
    flipped: np.ndarray


def probes(samples: Samples) -> Tensor:
    """Return the images that are altered, N×3×H×W: the sample's image, or image A of the pair."""
    return samples.images[:, 0] if samples.are_pairs else samples.images


def unaltered_scores(samples: Samples) -> np.ndarray:
    """Return the score of the samples as they are, float64 N: no forward pass."""
    return to_numpy(samples.clean.scores)


def answers(model: FaceModel, samples: Samples, versions: list[Tensor], what: str) -> Answers:
    """Ask the model about V altered versions (N×3×H×W each) of the probes: V forward passes per sample, in one call.

    Args:
        what: how they were altered, for the message where the model gives no number.
    """
    count, n = len(versions), len(samples)
    images = torch.cat(versions)
    clean = samples.clean
    if samples.are_pairs:
        scores = pair_similarity(model.card, model.embeddings(images), clean.outputs[:, 1].repeat(count, 1))
        flips = torch.full_like(scores, torch.nan)
        if clean.threshold is not None:
            before = accepted(clean.scores, clean.threshold).repeat(count)
            flips = (accepted(scores, clean.threshold) != before).to(scores.dtype)
    else:
        probabilities = model.scores(images)
        expected = clean.predicted.repeat(count)
        scores = probabilities.gather(1, expected[:, None]).squeeze(1)
        flips = (probabilities.argmax(dim=1) != expected).to(scores.dtype)
    by_version = to_numpy(scores).reshape(count, n)
    require_finite(model, samples.ids, by_version.T, what)
    return Answers(by_version, to_numpy(flips).reshape(count, n))
