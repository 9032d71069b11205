"""The only place where a network's raw outputs become what is explained, scored and decided, per task.

Place in the flow: called by the contract, the model layer, the perturbation engine, explainers and metrics; imports
only ``card`` and ``errors``. Functions work on torch tensors, keep gradients, and never change their input.

* classifiers: :func:`class_probabilities`; the explained scalar is the logit of a class (:class:`ClassTarget`);
* verification: :func:`pair_similarity`, the cosine or minus the Euclidean distance, is the pair's score everywhere:
  it is explained (:class:`PairTarget`), scored and compared with the threshold (:func:`threshold_on`,
  :func:`accepted`);
* :func:`score_range` gives the range of these scores, :func:`difference_range` that of their differences.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

import numpy as np

from faithface.card import ModelCard
from faithface.errors import NotApplicable, UsageError
from faithface.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

Task = Literal["verification", "pad", "synthetic-detection"]
TASKS: tuple[Task, ...] = ("verification", "pad", "synthetic-detection")

# The pair whose clean score set the threshold lies exactly on it; rounding must not decide the side.
ON_THRESHOLD = 1e-5

Values = TypeVar("Values", "Tensor", np.ndarray)


def class_probabilities(card: ModelCard, outputs: Tensor) -> Tensor:
    """Return class probabilities N×C from raw outputs N×K, in the order of ``card.output.classes``.

    ``logits``: softmax; ``probabilities``: as they are; ``logit``, ``probability``: one unit, the probability of the
    second class (after a sigmoid for ``logit``).
    """
    kind = card.output.kind
    if kind == "logits":
        return outputs.softmax(dim=1)
    if kind == "probabilities":
        return outputs
    if kind in ("logit", "probability"):
        p = outputs.reshape(len(outputs))
        p = p.sigmoid() if kind == "logit" else p
        return torch.stack([1 - p, p], dim=1)
    raise NotApplicable(f'model "{card.name}" gives {kind}s, not classes: it has no class probabilities')


SATURATED = 1e-5
"""Distance to 1 below which the gradient of a float32 probability p, which is p(1 − p), keeps less than two digits."""


def is_saturated(probabilities: Tensor) -> Tensor:
    """Return where probabilities are within :data:`SATURATED` of 1."""
    return 1 - probabilities <= SATURATED


def pair_similarity(card: ModelCard, a: Tensor, b: Tensor) -> Tensor:
    """Return the similarity of embeddings a, b (…×D each): the cosine, or minus the Euclidean distance.

    An embedding of norm 0 has cosine 0 with everything: finite, and no match.
    """
    if card.output.similarity == "euclidean":
        return -torch.linalg.vector_norm(a - b, dim=-1)
    return cosine(a, b)


def relative_distance(card: ModelCard, a: Tensor, b: Tensor) -> Tensor:
    """Return how far embeddings a, b (…×D each) are apart by what the card compares, relative to their size.

    For the cosine the length of the difference of the unit vectors, which is the angle where it is small; for distances
    the distance over the length of ``b``.
    """
    if card.output.similarity == "euclidean":
        return torch.linalg.vector_norm(a - b, dim=-1) / torch.linalg.vector_norm(b, dim=-1).clamp(min=1e-30)
    unit = torch.nn.functional.normalize
    return torch.linalg.vector_norm(unit(a, dim=-1) - unit(b, dim=-1), dim=-1)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Return the cosine along the last axis; 0 where a norm is 0."""
    return torch.nn.functional.cosine_similarity(a, b, dim=-1, eps=1e-12)


def threshold_on(card: ModelCard) -> float | None:
    """Return the card's threshold as a similarity: a Euclidean distance becomes its negative. None: not on the card."""
    out = card.output
    if out.threshold is None:
        return None
    return -out.threshold if out.similarity == "euclidean" else out.threshold


def accepted(similarity: Values, threshold: float) -> Values:
    """Return bool, of the same shape: whether pairs of these similarities are accepted as genuine.

    A similarity of at least the threshold is accepted; one up to 1e-5 below it counts as reaching it.
    """
    return similarity >= threshold - ON_THRESHOLD


def decided(similarity: Tensor, threshold: float | None) -> Tensor:
    """Return int64, of the same shape: 1 = accepted, 0 = rejected; 0 where there is no threshold to decide at."""
    if threshold is None:
        return torch.zeros_like(similarity, dtype=torch.long)
    return accepted(similarity, threshold).long()


def score_range(card: ModelCard | None) -> tuple[float, float]:
    """Return the smallest and largest possible score of a sample.

    Classifiers: 0 to 1. Pairs: −1 to 1 for the cosine, −∞ to 0 for minus the Euclidean distance. No card: a cosine,
    the widest of the bounded ones and the default of cards.
    """
    if card is None:
        return -1.0, 1.0
    if card.task != "verification":
        return 0.0, 1.0
    return (float("-inf"), 0.0) if card.output.similarity == "euclidean" else (-1.0, 1.0)


def difference_range(card: ModelCard | None) -> tuple[float, float]:
    """Return the range of the difference of two scores."""
    low, high = score_range(card)
    return low - high, high - low


def unit_similarity(card: ModelCard, similarity: np.ndarray) -> np.ndarray:
    """Return similarities on a scale from 0 to 1 that keeps their order: (1 + cosine) / 2, or 1 / (1 + distance)."""
    if card.output.similarity == "euclidean":
        return 1 / (1 - similarity)
    return (1 + similarity) / 2


class Target(Protocol):
    """One scalar per image: what an explanation explains."""

    def score(self, card: ModelCard, outputs: Tensor) -> Tensor:
        """Return the scalars M from raw outputs M×K; differentiable."""
        ...

    def take(self, indices: Tensor | slice) -> Target:
        """Return the targets of some of the images."""
        ...


@dataclass(frozen=True)
class ClassTarget:
    """The logit of a given class of each image (int64 M).

    Networks that end in probabilities are explained by the probability itself; for one-unit outputs, class 0 is the
    negated logit (or one minus the probability).

    Attributes:
        classes: int64 M.
        saturated: bool M: where the probability on the unaltered image is so close to 1 that its gradient is lost to
            rounding; models then explain its log-odds, whose gradient has the same direction. None: nowhere. It is a
            property of the sample, not of an altered image, so that one map has one scalar.
    """

    classes: Tensor
    saturated: Tensor | None = None

    def score(self, card: ModelCard, outputs: Tensor) -> Tensor:
        kind = card.output.kind
        classes = self.classes.to(outputs.device)
        if kind in ("logits", "probabilities"):
            return outputs.gather(1, classes[:, None]).squeeze(1)
        one = outputs.reshape(len(outputs))
        return torch.where(classes == 1, one, -one if kind == "logit" else 1 - one)

    def take(self, indices: Tensor | slice) -> ClassTarget:
        return ClassTarget(self.classes[indices], None if self.saturated is None else self.saturated[indices])


@dataclass(frozen=True)
class PairTarget:
    """The similarity of each image's embedding to a fixed reference (float32 M×D, no gradient through it)."""

    reference: Tensor

    def score(self, card: ModelCard, outputs: Tensor) -> Tensor:
        return pair_similarity(card, outputs, self.reference.to(outputs.device))

    def take(self, indices: Tensor | slice) -> PairTarget:
        return PairTarget(self.reference[indices])


def equal_error_threshold(scores: np.ndarray, same: np.ndarray) -> float:
    """Return the threshold at the equal-error point: pairs with score >= threshold are accepted.

    Candidates are the distinct scores in descending order; the first minimum of |FMR − FNMR| wins, so that the largest
    wins a tie.

    Args:
        scores: N similarities of unaltered pairs.
        same: N bools, True for genuine.

    Raises:
        UsageError: only genuine or only impostor pairs, so that there is no equal-error point.

    Examples:
        >>> equal_error_threshold(np.array([0.9, 0.8, 0.3, 0.2]), np.array([True, True, False, False]))
        0.8
    """
    scores, same = np.asarray(scores, dtype=np.float64), np.asarray(same, dtype=bool)
    n_genuine, n_impostor = int(same.sum()), int((~same).sum())
    if not n_genuine or not n_impostor:
        raise UsageError(
            f"an equal-error threshold needs genuine and impostor pairs; got {n_genuine} genuine and {n_impostor} "
            "impostor: give the card a threshold, or add pairs"
        )
    candidates = np.unique(scores)[::-1]
    genuine, impostor = np.sort(scores[same]), np.sort(scores[~same])
    fnmr = np.searchsorted(genuine, candidates, side="left") / n_genuine
    fmr = 1 - np.searchsorted(impostor, candidates, side="left") / n_impostor
    return float(candidates[int(np.argmin(np.abs(fmr - fnmr)))])


def equal_error_rate(scores: np.ndarray, same: np.ndarray) -> tuple[float, float]:
    """Return the equal-error rate, in [0, 1], and the threshold of :func:`equal_error_threshold` that it belongs to.

    The rate is the mean of the false match and the false non-match rate at that threshold.

    Args:
        scores: N similarities of unaltered pairs.
        same: N bools, True for genuine.

    Raises:
        UsageError: only genuine or only impostor pairs.
    """
    scores, same = np.asarray(scores, dtype=np.float64), np.asarray(same, dtype=bool)
    threshold = equal_error_threshold(scores, same)
    matched = scores >= threshold
    return float(matched[~same].mean() + (~matched[same]).mean()) / 2, threshold


def auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Return the probability that a positive sample scores higher than a negative one; ties count one half.

    Args:
        scores: N numbers, all finite.
        positive: N bools, neither all True nor all False.
    """
    # In sorted order the negatives below a positive, and those at it, are counted by two searches. Boards need this
    # number, and a statistics library would take them longer to import than all else they do.
    negatives = np.sort(scores[~positive])
    below, up_to = (np.searchsorted(negatives, scores[positive], side=side) for side in ("left", "right"))
    return float((below + up_to).mean()) / (2 * len(negatives))
