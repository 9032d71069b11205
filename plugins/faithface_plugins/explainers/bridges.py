"""Bridges: any attribution of captum, and any class of pytorch-grad-cam, benchmarked as it is.

Place in the flow: registered by the package: ``captum:Name(arguments)``; ``grad-cam:Name`` opens the second one through
``cams.GradCam``. Calls the contract, ``explained_scalar`` and ``common``. captum is a dependency of faithface;
pytorch-grad-cam is the extra ``bridges``.

The libraries see the model's torch twin with pixels in [0, 1] as its input, and the explained scalar as its output: the
logit of the predicted class, or the cosine to the partner. What they return is not scaled, smoothed or clipped here.
"""

from __future__ import annotations

import ast
import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from faithface.contract import Explainer, FaceModel, Maps, Method, Samples
from faithface.errors import NotApplicable, UsageError, nearest
from faithface.lazy import torch
from faithface.specs import split_params

if TYPE_CHECKING:
    from torch import Tensor

Arguments = tuple[tuple[str, Any], ...]


def arguments_of(text: str, what: str) -> tuple[str, Arguments]:
    """Return the class's name and its keyword arguments of ``Name(key=value,…)``; values are Python literals.

    Raises:
        UsageError: it is malformed.
    """
    name, params = split_params(text)
    found = []
    for key, value in params:
        try:
            found.append((key, ast.literal_eval(value)))
        except (ValueError, SyntaxError):
            found.append((key, value))
    if not name.isidentifier():
        raise UsageError(f'"{name}" is no name of a class of {what}')
    return name, tuple(found)


def pick(module: Any, name: str, base: type, what: str) -> type:
    """Return a class of a library by name.

    Raises:
        UsageError: there is none; the nearest is suggested.
    """
    known = [k for k, v in vars(module).items() if inspect.isclass(v) and issubclass(v, base) and v is not base]
    if name not in known:
        raise UsageError(f'{what} has no class "{name}"; {nearest(name, known)}')
    found: type = getattr(module, name)
    return found


def accepted(function: Callable[..., Any], arguments: Arguments) -> dict[str, Any]:
    """Return those arguments that a function takes."""
    names = inspect.signature(function).parameters
    return {key: value for key, value in arguments if key in names}


@dataclass(frozen=True)
class CaptumBridge(Explainer):
    """An attribution of captum on the torch twin: ``captum:IntegratedGradients(n_steps=20)``.

    Arguments go to the class, or to its ``attribute``, by name. The three colours are summed, so that the sign and the
    total stay. Layer attributions are not supported: their result is no map of the pixels.

    Parameters:
        attribution: the class and its arguments, such as ``InputXGradient``.

    Source: captum 0.8, Kokhlikyan et al. 2020, arXiv:2009.07896. Cost: that of the class; passes are counted.
    """

    attribution: str = ""

    needs_argument = True
    method = Method(
        name="captum",
        needs=frozenset({"gradients"}),
        source="Kokhlikyan et al. 2020, arXiv:2009.07896",
    )

    def with_argument(self, argument: str, resolve: Callable[[str], Explainer]) -> Explainer:
        made = CaptumBridge(argument)
        made.chosen()
        return made

    def chosen(self) -> tuple[type, Arguments]:
        """Return the class and its arguments.

        Raises:
            UsageError: no such class, or an argument that it does not take.
        """
        import captum.attr

        if not self.attribution:
            raise UsageError("captum needs the name of an attribution: write captum:NAME, captum:IntegratedGradients")
        name, arguments = arguments_of(self.attribution, "captum.attr")
        kind: Any = pick(captum.attr, name, captum.attr.Attribution, "captum.attr")
        if issubclass(kind, (captum.attr.LayerAttribution, captum.attr.NeuronAttribution)):
            raise UsageError(f'captum\'s "{name}" attributes to a layer or neuron, not to pixels; choose another class')
        known = {*inspect.signature(kind).parameters, *inspect.signature(kind.attribute).parameters}
        for key, _value in arguments:
            if key not in known:
                raise UsageError(f'captum\'s "{name}" has no argument "{key}"; {nearest(key, known)}')
        return kind, arguments

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        from faithface_plugins.explainers.explained_scalar import ExplainedScalar

        kind, arguments = self.chosen()
        views = samples.views()
        scalar = ExplainedScalar(model, views)
        made: Any = kind(scalar, **accepted(kind, arguments))
        options = accepted(made.attribute, arguments)
        parts = []
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore", UserWarning)  # captum announces what it asks of its input
            for i in range(len(views.images)):
                rows = torch.full((1,), i, device=views.images.device)
                image = views.images[i : i + 1].detach()
                torch.manual_seed(samples.seeds("captum")[i // (2 if samples.are_pairs else 1)] % 2**31)
                parts.append(made.attribute(image, additional_forward_args=(rows,), **options).detach())
        return Maps.from_views(torch.cat(parts).sum(dim=1).to(torch.float32), samples)


@dataclass(frozen=True)
class GradCamBridge(Explainer):
    """A class of pytorch-grad-cam on the torch twin: ``grad-cam:EigenGradCAM``.

    The library scales every map to [0, 1], which loses its sign and size. For pairs its similarity map explains the
    cosine, and its dissimilarity map the negated cosine.

    Parameters:
        cam: the class and its arguments.
        layer: name of the layer ("" = the card's, else automatic).

    Source: Gildenblat et al., pytorch-grad-cam 1.5. Cost: that of the class; its passes are not counted.
    """

    cam: str = ""
    layer: str = ""
    batch_size: int = field(default=32, metadata={"parameter": False})

    method = Method(
        name="grad-cam-library",
        needs=frozenset({"gradients", "activations"}),
        source="Gildenblat et al. 2021, github.com/jacobgil/pytorch-grad-cam",
    )

    def chosen(self) -> tuple[type, Arguments]:
        """Return the class and its arguments.

        Raises:
            UsageError: pytorch-grad-cam is not installed, or has no such class.
        """
        from faithface.model._torchvision import import_onnx2pytorch

        import_onnx2pytorch()  # makes torchvision importable, which the library imports
        try:
            import pytorch_grad_cam
        except ImportError:
            raise UsageError('pytorch-grad-cam is not installed: python -m pip install "faithface[bridges]"') from None
        from pytorch_grad_cam.base_cam import BaseCAM

        name, arguments = arguments_of(self.cam, "pytorch_grad_cam")
        return pick(pytorch_grad_cam, name, BaseCAM, "pytorch_grad_cam"), arguments

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        kind, arguments = self.chosen()
        twin: Any = model.twin
        layer = twin.find_layer(self.layer or model.card.explain.layer)
        if layer.layout not in (None, "", "NCHW"):
            raise NotApplicable(f"{self.cam} needs a layer of feature maps; '{layer.name}' holds {layer.layout}")
        module = getattr(twin.network, twin.network.mapping[layer.name])
        views = samples.views()

        def run(sign: int) -> Tensor:
            targets = [_Target(model, views.target, i, sign) for i in range(len(views.images))]
            with kind(model=twin, target_layers=[module], **dict(arguments)) as cam:
                # The twin's weights ask for no gradients, so its input must.
                found = cam(input_tensor=views.images.detach().clone().requires_grad_(True), targets=targets)
            return torch.as_tensor(found, dtype=torch.float32)

        if not samples.are_pairs:
            return Maps(relevance=run(1), note={"layer": layer.name})
        shape = (len(samples), 2)
        return Maps(
            similarity=run(1).clamp(min=0).unflatten(0, shape),
            dissimilarity=run(-1).clamp(min=0).unflatten(0, shape),
            note={"layer": layer.name},
        )


class _Target:
    """The explained scalar of one view, as the library wants it: a function of one row of outputs."""

    def __init__(self, model: FaceModel, target: Any, index: int, sign: int) -> None:
        self.card, self.target, self.sign = model.card, target.take(slice(index, index + 1)), sign

    def __call__(self, output: Tensor) -> Tensor:
        score: Tensor = self.target.score(self.card, output.reshape(1, -1))[0]
        return self.sign * score


EXPLAINERS = (CaptumBridge(),)

__all__ = ["EXPLAINERS", "CaptumBridge", "GradCamBridge"]
