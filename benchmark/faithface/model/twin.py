"""The differentiable torch twin of an ``.onnx`` file: derived, not written, and proven equal before it is used.

Place in the flow: built by ``onnx_model.py`` when a gradient or an activation is first needed. May call
``prepare``, ``operators``, ``layers``, ``suffix``, ``endings``, ``_torchvision``, ``card``, ``errors``. The steps:
prepare the graph (float32, dequantised, constants folded), convert it (onnx2pytorch), put the card's preprocessing in
front. ``parity.py`` compares the twin with ONNX Runtime.

Everything here takes images in [0, 1] RGB, N×3×H×W, and gives gradients with respect to those pixels.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from faithface.card import InputCard, ModelCard
from faithface.errors import NotApplicable, UsageError, nearest
from faithface.model import operators
from faithface.model._torchvision import import_onnx2pytorch
from faithface.model.endings import ending, softmax_axis_is_last
from faithface.model.graph import attributes, only, opset
from faithface.model.layers import Layer, candidates, choose
from faithface.model.prepare import prepare
from faithface.model.suffix import suffix
from faithface.reasons import ReasonCode

GREY = (0.299, 0.587, 0.114)


def preprocess(images: Tensor, card: InputCard) -> Tensor:
    """Apply a card's colour order, normalisation and layout to RGB images in [0, 1] (differentiable).

    Returns:
        N×C×H×W, or N×H×W×C for layout NHWC.
    """
    if card.color == "GRAY":
        images = (images * images.new_tensor(GREY)[:, None, None]).sum(dim=1, keepdim=True)
    elif card.color == "BGR":
        images = images.flip(1)
    mean = images.new_tensor(card.mean).reshape(-1, 1, 1)
    std = images.new_tensor(card.std).reshape(-1, 1, 1)
    images = (images - mean) / std
    return images.permute(0, 2, 3, 1) if card.layout == "NHWC" else images


class Twin(nn.Module):
    """A torch module that computes what the ``.onnx`` file computes, from images in [0, 1].

    Attributes:
        card: the model's card.
        network: the converted graph; its submodules' outputs are the candidates for CAM layers.
        fixed_batch: the only batch size that the file accepts; None: any.
        prepared: the ONNX network that was converted (see ``prepare.py``).
        before: the tensor before a final Softmax or Sigmoid; "" where the network ends otherwise.
        squashing: that final operator, or "".
    """

    def __init__(self, proto: onnx.ModelProto, card: ModelCard, output: str, fixed_batch: int | None) -> None:
        super().__init__()
        self.card = card
        self.fixed_batch = fixed_batch
        self.prepared = prepare(only(proto, output))
        self.network = _convert(self.prepared.proto)
        self.output = output
        end = ending(self.prepared.proto.graph, output)
        known = end.before in self.network.mapping and softmax_axis_is_last(self.prepared.proto.graph, end, output)
        self.before, self.squashing = (end.before, end.operator) if known else ("", "")
        self._output_index = self.network.output_names.index(output)
        self._layers: list[Layer] | None = None
        self._behind: dict[str, Any] = {}
        self.channels_last = False
        self.eval()
        for parameter in self.parameters():
            parameter.requires_grad_(False)

    def lay_out_for(self, device: str) -> Twin:
        """Move to a device; on the host into the memory layout that its convolution kernels prefer.

        Both weights and images: with unchanged weights, a network with wide layers loses more than it gains.
        """
        self.to(device)
        self.channels_last = device == "cpu" and self.card.input.layout == "NCHW"
        if self.channels_last:
            self.network.to(memory_format=torch.channels_last)
        return self

    @property
    def device(self) -> torch.device:
        tensor = next(iter(self.buffers()), None)
        tensor = next(iter(self.parameters()), None) if tensor is None else tensor
        return torch.device("cpu") if tensor is None else tensor.device

    def forward(self, images: Tensor) -> Tensor:
        x = preprocess(images, self.card.input)
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        batch = self.fixed_batch
        if batch is None or len(x) == batch:
            return self._run(x)
        parts = []
        for start in range(0, len(x), batch):
            part = x[start : start + batch]
            short = batch - len(part)
            padded = torch.cat([part, part[-1:].expand(short, *part.shape[1:])]) if short else part
            parts.append(self._run(padded)[: len(part)])
        return torch.cat(parts)

    def _run(self, x: Tensor) -> Tensor:
        out = self.network(x)
        out = out[self._output_index] if isinstance(out, (list, tuple)) else out
        return out.reshape(len(x), -1).to(torch.float32)

    # --- layers

    def layers(self) -> list[Layer]:
        """List the spatial layers, in graph order; found once, by a probe pass."""
        if self._layers is None:
            height, width = self.card.input.size
            probe = torch.full((self.fixed_batch or 1, 3, height, width), 0.5, device=self.device)
            shapes: dict[str, tuple[int, ...]] = {}

            def see(name: str, value: Tensor) -> None:
                # Patches on the batch axis have a grid of their own each; it is no grid of the image.
                if value.ndim and len(value) == len(probe):
                    shapes[name] = tuple(value.shape)

            with self.hooks(see), torch.no_grad():
                self(probe)
            self._layers = candidates(self.network.onnx_model.graph, self.output, shapes)
        return self._layers

    def find_layer(self, name: str | None) -> Layer:
        """Return a layer by tensor or node name, or the automatic choice for None or "".

        Raises:
            UsageError: no such layer; the nearest or all candidates are named.
            NotApplicable: the network has no spatial layer.
        """
        found = self.layers()
        if not found:
            raise NotApplicable(
                f'model "{self.card.name}" has no layer with a spatial grid: CAMs are not applicable',
                ReasonCode.NO_LAYER,
            )
        if name:
            for layer in found:
                if name in (layer.name, layer.node):
                    return layer
            near = nearest(name, [layer.name for layer in found])
            some = ", ".join(layer.name for layer in found[-6:])
            raise UsageError(f"model \"{self.card.name}\" has no layer '{name}'; {near} (the last ones: {some})")
        chosen = choose(found, self.network.onnx_model.graph, self.output)
        if chosen is None:
            some = ", ".join(layer.name for layer in found[-6:])
            raise NotApplicable(
                f'model "{self.card.name}" has no layer that every path from the image to the output passes, so none '
                f"can be chosen for CAMs; name one as explain.layer in the card (the last ones: {some})",
                ReasonCode.NO_LAYER,
            )
        return chosen

    def values(self, images: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """Return the output (under "") and the named inner tensors for images; inner ones as the graph lays them out.

        With a fixed batch, inner tensors keep the rows of whole batches, padding included.
        """
        caught: dict[str, list[Tensor]] = {name: [] for name in names}
        hooked = {name for name in names if name}

        def see(name: str, value: Tensor) -> None:
            if name in hooked:
                caught[name].append(value)

        with self.hooks(see):
            out = self(images)
        return {name: torch.cat(parts) for name, parts in caught.items() if parts} | {"": out}

    def behind(self, name: str) -> Callable[[Tensor], Tensor] | None:
        """Return the part of the network behind an inner tensor: from that tensor, N×…, to outputs N×K, float32.

        None where the output also depends on the image in other ways than through that tensor; then the whole network
        has to run. A network of a fixed batch takes that many rows at a time here too. Made once for each tensor.
        """
        if name not in self._behind:
            found = suffix(self.prepared.proto, name, self.output)
            network = None if found is None else _convert(found).eval().requires_grad_(False).to(self.device)
            if network is not None and self.channels_last:
                network.to(memory_format=torch.channels_last)
            self._behind[name] = network
        network = self._behind[name]
        return None if network is None else lambda value: network(value).reshape(len(value), -1).to(torch.float32)

    def hooks(self, see: Callable[[str, Tensor], Any], only: str | None = None) -> _Hooks:
        """Return a context in which ``see(tensor name, value)`` is called for each intermediate tensor (or ``only``
        one).

        A value that ``see`` returns takes the tensor's place.
        """
        return _Hooks(self.network, see, only)

    def grid(self, value: Tensor, layer: Layer) -> Tensor:
        """Return a layer's value as N×C×h×w, whatever its layout."""
        if layer.layout == "NTC":
            return value[:, layer.skip :].transpose(1, 2).unflatten(2, layer.grid)
        return value.permute(0, 3, 1, 2) if layer.layout == "NHWC" else value


class _Hooks:
    """Forward hooks on the converted graph, removed on leaving, also after an exception."""

    def __init__(self, network: Any, see: Callable[[str, Tensor], Any], only: str | None) -> None:
        self.network, self.see, self.only = network, see, only
        self.handles: list[Any] = []

    def __enter__(self) -> None:
        for tensor, module_name in self.network.mapping.items():
            module = getattr(self.network, module_name)
            if not isinstance(module, nn.Module) or (self.only is not None and tensor != self.only):
                continue
            self.handles.append(module.register_forward_hook(self._hook(tensor)))

    def _hook(self, tensor: str) -> Callable[[nn.Module, Any, Any], Any]:
        def hook(_module: nn.Module, _inputs: Any, value: Any) -> Any:
            if isinstance(value, Tensor):
                return self.see(tensor, value)
            # Operators with optional outputs (MaxPool's indices) give a tuple; the first entry is the tensor.
            if isinstance(value, (tuple, list)) and value and isinstance(value[0], Tensor):
                seen = self.see(tensor, value[0])
                return None if seen is None else type(value)([seen, *value[1:]])
            return None

        return hook

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()


def _convert(prepared: onnx.ModelProto) -> Any:
    copy = onnx.ModelProto()  # the converter fuses nodes of its input graph
    copy.CopyFrom(prepared)
    # The converter's modules draw initial weights before they get those of the file.
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        network = import_onnx2pytorch().ConvertModel(copy)
    for node in copy.graph.node:
        if node.op_type == "Resize" and not operators.resizes_as_torch(attributes(node), opset(copy)):
            setattr(network, network.mapping[node.output[0]], operators.Resize(attributes(node)))
    for tensor, name in list(network.mapping.items()):
        operator = getattr(network, name)
        if not isinstance(operator, nn.Module):
            # Only modules can be hooked, and a concatenation (DenseNet) is a good layer for a CAM.
            network.mapping[tensor] = f"call_{len(network._modules)}"
            network.add_module(network.mapping[tensor], _Call(operator))
    for name, module in list(network.named_children()):
        if type(module).__name__ == "PRelu":
            setattr(network, name, operators.PRelu())
    for module in network.modules():
        # The converter's wrapper calls the forward function of what it wraps, which no hook sees.
        if isinstance(getattr(module, "inu", module), nn.modules.instancenorm._InstanceNorm):
            module.register_forward_hook(operators.with_contiguous_gradient)
        # An in-place activation would overwrite the very tensor that a hook has just handed out.
        if hasattr(module, "inplace"):
            module.inplace = False
    return network


class _Call(nn.Module):
    """A converted operator that is a plain function, as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function
        self.takes_list = getattr(function, "func", None) is torch.cat

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(inputs) if self.takes_list else self.function(*inputs)
