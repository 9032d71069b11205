"""The model's answer to altered probes: the score of the clean decision, and whether the decision still stands.

Place in the flow: used by the metrics here that alter images without the curves' engine; calls ``tasks`` and the
contract. The score is the probability of the class predicted on the clean image, or the cosine of the pair with its
reference unaltered (protocol rule 4); a network whose pairs are compared by Euclidean distance decides by distance, and
is scored by cosine like all others, so that scores stay between −1 and 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from faithface.contract import FaceModel, Samples
from faithface.lazy import torch
from faithface.metrics._maps import to_numpy
from faithface.tasks import cosine, pair_similarity

if TYPE_CHECKING:
    from torch import Tensor

# The pair whose clean score set the threshold lies exactly on it; a rounding must not decide on which side.
ON_THRESHOLD = 1e-5
NO_THRESHOLD = "no decision threshold is known, so that flips cannot be counted"


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


def clean_scores(samples: Samples) -> np.ndarray:
    """Return the score of the unaltered samples, float64 N: no forward pass."""
    if not samples.are_pairs:
        return to_numpy(samples.clean.scores)
    return to_numpy(cosine(samples.clean.outputs[:, 0], samples.clean.outputs[:, 1]))


def answers(model: FaceModel, samples: Samples, versions: list[Tensor]) -> Answers:
    """Ask the model about V altered versions (N×3×H×W each) of the probes: V forward passes per sample, in one call."""
    count, n = len(versions), len(samples)
    images = torch.cat(versions)
    clean = samples.clean
    if samples.are_pairs:
        reference = clean.outputs[:, 1].repeat(count, 1)
        embedded = model.embeddings(images)
        scores = cosine(embedded, reference)
        flips = torch.full_like(scores, torch.nan)
        if clean.threshold is not None:
            least = clean.threshold - ON_THRESHOLD
            accepted = pair_similarity(model.card, embedded, reference) >= least
            flips = (accepted != (clean.scores >= least).repeat(count)).to(scores.dtype)
    else:
        probabilities = model.scores(images)
        expected = clean.predicted.repeat(count)
        scores = probabilities.gather(1, expected[:, None]).squeeze(1)
        flips = (probabilities.argmax(dim=1) != expected).to(scores.dtype)
    return Answers(to_numpy(scores).reshape(count, n), to_numpy(flips).reshape(count, n))
