"""What an explainer or a metric sees of a model: functions of images.

Place in the flow: implemented by ``model.OnnxModel`` and by doubles in tests. May call ``card``, ``tasks`` and its
siblings ``cache`` and ``running``.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import numpy as np

from faithface.card import ModelCard
from faithface.contract.cache import Cache
from faithface.contract.running import BatchingPolicy, DeviceFeed, HostFeed, Passes, is_out_of_memory, no_memory
from faithface.errors import NotApplicable
from faithface.lazy import torch
from faithface.tasks import Target

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import Tensor

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Activations:
    """The output of one layer: ``values`` N×C×h×w, ``gradients`` of the target (same shape) or None, ``layer``."""

    values: Tensor
    gradients: Tensor | None
    layer: str


MADE = 32  # images made at a time, unless a model overrides it


class FaceModel(ABC):
    """What an explainer or a metric sees of a model: functions of images, never a session.

    Images are float32 N×3×H×W, RGB, in [0, 1], at ``card.input.size``; the card's colour order, normalisation and
    layout are applied inside. Any batch size is accepted and split as needed.

    A model implements the abstract methods and sets ``card`` and ``device``. All else has a default: how it is run
    (:attr:`batching`, :meth:`feed`), what it cost (:attr:`passes`), and what is recorded of it.

    Attributes:
        card: the model's card.
        device: ``"cpu"`` or ``"cuda"``.
        fixed_batch: the only number of images in a pass that the network accepts; None: any.
        proto: the ONNX graph, for metrics that change weights; None where the model is not an ONNX file.
        sha256: of the model file (and those of its weights, where they lie beside it); "" without one.
        provider: what runs the network, as ONNX Runtime names it; "" without ONNX Runtime.
        notes: what the user should know, one line each.
        parity: largest relative difference between the twin's and the network's outputs, once it is known.
    """

    card: ModelCard
    device: str
    fixed_batch: int | None = None
    proto: ModelProto | None = None
    sha256: str = ""
    provider: str = ""
    notes: Sequence[str] = ()
    parity: float | None = None
    _passes: Passes = Passes()
    _batching: BatchingPolicy | None = None

    @cached_property
    def cache(self) -> Cache:
        """What others compute of this model, for as long as it lives (:meth:`cached`)."""
        return Cache()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the input."""
        return self.card.input.size

    def cached(self, function: Callable[Concatenate[FaceModel, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return ``function(self, *args, **kwargs)``, computed once for as long as this model lives."""
        return self.cache.get(self, function, *args, **kwargs)

    # --- what it costs

    @property
    def passes(self) -> Passes:
        """The meter behind ``cost@1``: images that went forward and backward so far. Read twice and subtract."""
        return self._passes

    def count(self, forward: int = 0, backward: int = 0) -> None:
        """Count passes that the model's own functions did not count.

        Those are passes of ``twin`` or of a feed that is called directly, and passes that several images
        share: they run once and are counted once for each image, so that the cost of an image does not depend on what
        else is in its batch.
        """
        self._passes += Passes(forward, backward)

    # --- how it is run

    @property
    def batching(self) -> BatchingPolicy:
        """Rows per pass and passes side by side: what the user set, or what suits the model; chosen at first use."""
        if self._batching is None:
            self._batching = self._choose_batching()
        return self._batching

    def use_batching(self, policy: BatchingPolicy) -> None:
        """Run by this policy from now on, for instance by that of a network with the same layers."""
        self._batching = policy

    def _choose_batching(self) -> BatchingPolicy:
        return BatchingPolicy(self.fixed_batch or MADE)

    def reduce_batch(self, policy: BatchingPolicy, error: Exception) -> BatchingPolicy:
        """Return a policy with half as many rows and keep it, after a pass by ``policy`` raised ``error``.

        Raises:
            error: it does not mean that memory ran out.
            RunError: memory ran out, and the batch cannot be made smaller.
        """
        if not is_out_of_memory(error):
            raise error
        if policy.batch == 1 or self.fixed_batch:
            raise no_memory(self.card.name, policy.batch) from error
        smaller = dataclasses.replace(policy, batch=policy.batch // 2)
        self.use_batching(smaller)
        return smaller

    def feed(self) -> HostFeed | DeviceFeed:
        """Return a way to run prepared rows; by default rows are pixels on the host, run by :meth:`outputs`."""
        return HostFeed(
            prepare=_pixels_on_host, run=lambda rows: self.outputs(torch.from_numpy(rows)), fixed_batch=self.fixed_batch
        )

    def with_weights(self, proto: ModelProto) -> FaceModel:
        """Return a model like this one whose ONNX graph is ``proto``: the same layers with other weights.

        Raises:
            NotApplicable: this model is not an ONNX file (``proto`` is None).
        """
        raise NotApplicable(f'model "{self.card.name}" is not an ONNX file: its weights cannot be changed')

    # --- what it computes

    @abstractmethod
    def outputs(self, images: Tensor) -> Tensor:
        """Return the raw outputs N×K, by ONNX Runtime, without gradient."""

    def outputs_of(self, count: int, make: Callable[[slice], Tensor]) -> Tensor:
        """Return the raw outputs count×K of images that are made a few at a time, when the network is ready for them.

        For the altered images of perturbation methods: they are scored while they are in the processor's cache, never
        held in memory all at once, and on a host with several cores some are made while others are scored.

        Args:
            count: how many images, at least 1.
            make: gets a slice of ``range(count)`` and returns those images, n×3×H×W on the model's device. It is called
                from several threads, in any order and with slices of any length, so it must not modify anything, and an
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

    def twin_for(self, images: Tensor) -> torch.nn.Module:
        """Return :attr:`twin` for whoever calls it directly, after it was compared with the network on real images.

        Args:
            images: unaltered images of the run, N×3×H×W.

        Raises:
            NotApplicable: there is no twin, or it differs from the network on these images.
        """
        return self.twin

    def explained(self, images: Tensor, target: Target) -> Tensor:
        """Return the explained scalar of each image, float32 N, by the twin; differentiable, and not counted.

        It is the target's score, except where float32 would leave nothing of its gradient but rounding: a class of
        probability 1 is explained by its log-odds, and a pair of equal embeddings has a gradient of 0.
        """
        return target.score(self.card, self.twin(images))


def _pixels_on_host(images: Tensor) -> np.ndarray:
    pixels: np.ndarray = images.to("cpu", torch.float32).contiguous().numpy()
    return pixels
