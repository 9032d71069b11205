"""What an explainer or a metric sees of a model: functions of images.

Place in the flow: implemented by ``model.OnnxModel`` and by doubles in tests. May call ``card`` and ``tasks``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from faithface.card import ModelCard
from faithface.contract.cache import Cache
from faithface.lazy import torch
from faithface.tasks import Target

if TYPE_CHECKING:
    from torch import Tensor

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Activations:
    """The output of one layer: ``values`` N×C×h×w, ``gradients`` of the target (same shape) or None, ``layer``."""

    values: Tensor
    gradients: Tensor | None
    layer: str


@dataclass
class Passes:
    """How many images went forward and backward through the network so far (a meter, so it is mutable)."""

    forward: int = 0
    backward: int = 0


MADE = 32  # images made at a time where a model does not say better


class FaceModel(ABC):
    """What an explainer or a metric sees of a model: functions of images, never a session.

    Images are float32 N×3×H×W, RGB, in [0, 1], at ``card.input.size``; the card's colour order, normalisation and
    layout are applied inside. Any batch size is accepted and split as needed.

    Attributes:
        card: the model's card.
        device: ``"cpu"`` or ``"cuda"``.
        passes: the meter behind ``cost@1``.
        cache: what others compute of this model, for as long as it lives.
    """

    card: ModelCard
    device: str
    passes: Passes
    cache: Cache

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the input."""
        return self.card.input.size

    def cached(self, function: Callable[Concatenate[FaceModel, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return ``function(self, *args, **kwargs)``, computed once for as long as this model lives."""
        return self.cache.get(self, function, *args, **kwargs)

    @abstractmethod
    def outputs(self, images: Tensor) -> Tensor:
        """Return the raw outputs N×K, by ONNX Runtime, without gradient."""

    def outputs_of(self, count: int, make: Callable[[slice], Tensor]) -> Tensor:
        """Return the raw outputs count×K of images that are made a few at a time, when the network is ready for them.

        For the altered images of perturbation methods: they are scored while they lie in the cache, never held all at
        once, and on a host with several cores some are made while others are scored.

        Args:
            count: how many images, at least 1.
            make: gets a slice of ``range(count)`` and returns those images, n×3×H×W on the model's device. It is called
                from several threads, in any order and with slices of any length, so it must change nothing, and an
                image must not depend on which others are made with it.
        """
        slices = [slice(start, min(start + MADE, count)) for start in range(0, count, MADE)]
        return torch.cat([self.outputs(make(part)) for part in slices])

    @abstractmethod
    def scores(self, images: Tensor) -> Tensor:
        """Classifiers: class probabilities N×C. Verification: NotApplicable (there are only embeddings)."""

    @abstractmethod
    def embeddings(self, images: Tensor) -> Tensor:
        """Verification: embeddings N×D as the network gives them (not normalised). Classifiers: NotApplicable."""

    @abstractmethod
    def gradient(self, images: Tensor, target: Target) -> Tensor:
        """Return the gradient N×3×H×W of each image's target score with respect to its pixels in [0, 1]."""

    @abstractmethod
    def vjp(self, images: Tensor, cotangents: Tensor) -> Tensor:
        """Return vector-Jacobian products with respect to the pixels.

        Args:
            images: N×3×H×W.
            cotangents: N×M×K: M vectors over the K raw outputs, for each image.

        Returns:
            float32 N×M×3×H×W: entry (n, m) is Σ_k cotangents[n, m, k] · ∂outputs[n, k] / ∂images[n].
        """

    @abstractmethod
    def activations(self, images: Tensor, target: Target | None = None, layer: str | None = None) -> Activations:
        """Return a layer's output, and the gradient of the target with respect to it where a target is given.

        Args:
            layer: a name of the twin; None: the card's ``explain.layer``, else the automatic choice.

        Raises:
            UsageError: the layer does not exist (the candidates are listed).
            NotApplicable: the model has no differentiable twin, or no spatial layer.
        """

    @property
    @abstractmethod
    def twin(self) -> torch.nn.Module:
        """The differentiable torch twin: maps images as above to raw outputs N×K. Raises NotApplicable if refused."""
