"""The scalar whose gradient is taken, also where float32 would leave only rounding errors of it.

Place in the flow: called by ``onnx_model.py``. May call ``tasks`` and ``card``; torch only.

Two cases, both at the limit of the network's own precision:

* A class whose probability is within 1e-5 of 1 (``ClassTarget.saturated``): the gradient of a saturated softmax is
  p(1 − p) times that of the log-odds, and underflows or is rounded away. Its log-odds, computed from the values before
  the Softmax or Sigmoid, have a gradient of exactly the same direction.
* A pair whose embeddings are equal but for rounding: the cosine is at its maximum, its gradient is zero, and what is
  computed is noise. It is set to zero, so that maps are constant, and flagged as such.
"""

from __future__ import annotations

import torch
from torch import Tensor

from faithface.card import ModelCard
from faithface.tasks import ClassTarget, PairTarget, Target, relative_distance

# Twice the known difference of twin and network, and never less than what float32 sums of some hundred terms lose.
NOISE, FLOOR = 2.0, 1e-5


def needs_before(target: Target | None) -> bool:
    """Whether a target needs the values before a final Softmax or Sigmoid."""
    return isinstance(target, ClassTarget) and target.saturated is not None and bool(target.saturated.any())


def explained_scalar(
    target: Target, card: ModelCard, outputs: Tensor, before: Tensor | None, squashing: str, difference: float
) -> Tensor:
    """Return the explained scalars M of raw outputs M×K; differentiable.

    Args:
        before: M×K, before the final ``squashing`` (Softmax or Sigmoid); None where there is none.
        difference: the relative difference between twin and network.
    """
    scalar = target.score(card, outputs)
    if isinstance(target, ClassTarget) and needs_before(target) and before is not None:
        assert target.saturated is not None
        odds = _log_odds(target.classes.to(outputs.device), before, squashing)
        return torch.where(target.saturated.to(outputs.device), odds, scalar)
    if isinstance(target, PairTarget):
        equal = _are_equal(card, outputs.detach(), target.reference.to(outputs.device), max(FLOOR, NOISE * difference))
        return torch.where(equal, scalar.detach(), scalar) if bool(equal.any()) else scalar
    return scalar


def _log_odds(classes: Tensor, before: Tensor, squashing: str) -> Tensor:
    """Return log(p / (1 − p)) of a class, from the values before Softmax (M×K) or Sigmoid (M×K, or M×1)."""
    before = before.reshape(len(classes), -1)
    if before.shape[1] == 1:
        return torch.where(classes == 1, before[:, 0], -before[:, 0])
    own = before.gather(1, classes[:, None]).squeeze(1)
    if squashing == "Sigmoid":
        return own
    others = before.masked_fill(torch.nn.functional.one_hot(classes, before.shape[1]).bool(), float("-inf"))
    return own - others.logsumexp(dim=1)


def _are_equal(card: ModelCard, a: Tensor, b: Tensor, limit: float) -> Tensor:
    """Whether embeddings are equal to a relative ``limit``: in direction for the cosine, in value for distances."""
    return relative_distance(card, a, b) <= limit
