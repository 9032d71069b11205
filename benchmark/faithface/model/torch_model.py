"""A torch module as a :class:`~faithface.contract.FaceModel`: no file, no ONNX Runtime, no twin to derive.

Place in the flow: for tests of plugins (``testing.ModelDouble``) and for :func:`faithface.score`, whose users have a
module and no harness. A run opens ``.onnx`` files only (``onnx_model``). May call the contract, ``tasks`` and
``errors``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from faithface.card import ModelCard
from faithface.contract import Activations, FaceModel
from faithface.errors import NotApplicable
from faithface.lazy import torch
from faithface.tasks import Target, class_probabilities

if TYPE_CHECKING:
    from torch import Tensor, nn


class TorchModel(FaceModel):
    """A torch module behind the interface that explainers and metrics see.

    Args:
        module: maps images N×3×H×W in [0, 1] to raw outputs N×K. It is put into evaluation mode.
        card: what the outputs are, and the input size.
        layer: the module that :meth:`activations` reads; None: the last convolution.
    """

    def __init__(self, module: nn.Module, card: ModelCard, layer: nn.Module | None = None, device: str = "cpu") -> None:
        self.module, self.card, self.device = module.eval().to(device), card, device
        self.module.requires_grad_(False)
        self.layer = layer

    def outputs(self, images: Tensor) -> Tensor:
        self.count(forward=len(images))
        with torch.no_grad():
            found: Tensor = self.module(images).flatten(1)
        return found

    def scores(self, images: Tensor) -> Tensor:
        if self.card.task == "verification":
            raise NotApplicable(f'model "{self.card.name}" gives embeddings: it has no class probabilities')
        return class_probabilities(self.card, self.outputs(images))

    def embeddings(self, images: Tensor) -> Tensor:
        if self.card.task != "verification":
            raise NotApplicable(f'model "{self.card.name}" is a classifier: it has no embeddings')
        return self.outputs(images)

    def gradient(self, images: Tensor, target: Target) -> Tensor:
        def one(outputs: Tensor) -> Tensor:
            return target.score(self.card, outputs).sum()

        return self._backward(images, one)

    def vjp(self, images: Tensor, cotangents: Tensor) -> Tensor:
        parts = []
        for weights in cotangents.unbind(dim=1):

            def weighted(outputs: Tensor, weights: Tensor = weights) -> Tensor:
                return (outputs * weights).sum()

            parts.append(self._backward(images, weighted))
        return torch.stack(parts, dim=1)

    def _backward(self, images: Tensor, scalar: Callable[[Tensor], Tensor]) -> Tensor:
        self.count(forward=len(images), backward=len(images))
        with torch.enable_grad():
            leaf = images.detach().clone().requires_grad_(True)
            (found,) = torch.autograd.grad(scalar(self.module(leaf).flatten(1)), leaf)
        return found

    def activations(self, images: Tensor, target: Target | None = None, layer: str | None = None) -> Activations:
        kept: list[Tensor] = []
        at = self.layer or self._last_convolution()
        handle = at.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
        try:
            with torch.enable_grad():
                outputs = self.module(images.detach().clone().requires_grad_(True)).flatten(1)
                values = kept[-1]
                gradients = None
                if target is not None:
                    (gradients,) = torch.autograd.grad(target.score(self.card, outputs).sum(), values)
        finally:
            handle.remove()
        self.count(forward=len(images), backward=len(images) if target is not None else 0)
        return Activations(values.detach(), gradients, layer or "last")

    def _last_convolution(self) -> Any:
        found = [m for m in self.module.modules() if isinstance(m, torch.nn.Conv2d)]
        if not found:
            raise NotApplicable(f'model "{self.card.name}" has no spatial layer')
        return found[-1]

    @property
    def twin(self) -> nn.Module:
        return self.module
