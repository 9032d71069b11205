"""Find the layers of a network that a CAM can use, and choose one.

Place in the flow: called by ``twin.py``; works on the ONNX graph and on shapes that a probe pass recorded. May call
``dominators`` and ``graph``.

A *candidate* is an intermediate tensor with a spatial grid, in one of three layouts:

* ``NCHW``: the output of a convolution, or of something that keeps the grid (activation, normalisation, pooling,
  element-wise arithmetic, concatenation, resize, pad) applied to such a tensor. Attention matrices, which are also
  4-dimensional, never qualify, because no operator in that list makes one. A transpose moves a grid between layouts.
* ``NTC``: tokens, batch × T × channels, where T is the patch grid h·w of the network's own patch embedding, with or
  without extra leading tokens (class token, registers).
* ``NHWC``: a grid with channels last, between layers that keep it so (Swin, ConvNeXt): normalised states and residual
  sums.

The automatic choice is the last grid whose extent is at least 7 (a 2×2 map shows nothing), or else the largest, among
the grids that every path from the image to the output passes: a map inside one branch of a block holds only what that
branch contributes.
Networks that have only tokens after the patch embedding get the last token grid that still sends its patch tokens to
the output: with a class token, what follows the last attention no longer does, so the choice is the last token grid
before the last softmax.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from faithface.model.dominators import dominators
from faithface.model.graph import ancestors

MIN_EXTENT = 7

# fmt: off
_KEEPS_GRID = frozenset({
    "Abs", "Add", "AveragePool", "BatchNormalization", "Cast", "Celu", "Clip", "Concat", "Conv", "ConvTranspose",
    "DepthToSpace", "Div", "Dropout", "Elu", "Erf", "Gelu", "GroupNormalization", "HardSigmoid", "HardSwish",
    "Identity", "InstanceNormalization", "LRN", "LeakyRelu", "LpPool", "Max", "MaxPool", "Min", "Mish", "Mul",
    "Neg", "PRelu", "Pad", "Pow", "Relu", "Resize", "Selu", "Sigmoid", "Slice", "Softplus", "Softsign",
    "SpaceToDepth", "Split", "Sqrt", "Sub", "Sum", "Swish", "Tanh", "Upsample", "Where",
})
_KEEPS_LAST = frozenset({"LayerNormalization", "MatMul", "Gemm", "Gelu"})
# fmt: on
MAX_EXTRA_TOKENS = 8  # class token and registers


@dataclass(frozen=True)
class Layer:
    """A tensor with a spatial grid.

    Attributes:
        name: the tensor's name in the ONNX graph.
        node: the name of the node that makes it.
        layout: ``NCHW``, ``NTC`` or ``NHWC``.
        grid: height and width.
        skip: leading tokens that are not patches (``NTC`` only).
    """

    name: str
    node: str
    layout: str
    grid: tuple[int, int]
    skip: int = 0

    @property
    def extent(self) -> int:
        return min(self.grid)


def candidates(graph: onnx.GraphProto, output: str, shapes: Mapping[str, tuple[int, ...]]) -> list[Layer]:
    """List the spatial layers on the way to ``output``, in graph order.

    Args:
        graph: the (folded) ONNX graph.
        output: the graph output that matters.
        shapes: the shape of each intermediate tensor in a probe pass; tensors without one are skipped.
    """
    wanted = ancestors(graph, output)
    constants = {t.name for t in graph.initializer}
    layouts: dict[str, str] = {}
    found: list[Layer] = []
    patches: tuple[int, int] | None = None
    for node in graph.node:
        name, shape = node.output[0], shapes.get(node.output[0])
        if shape is None:
            continue
        if len(shape) == 3:
            extra = shape[1] - patches[0] * patches[1] if patches else -1
            if patches and 0 <= extra <= MAX_EXTRA_TOKENS and _is_token_state(node, constants) and name in wanted:
                found.append(Layer(name, node.name, "NTC", patches, extra))
            continue
        layout = _layout(node, layouts) if len(shape) == 4 else None
        if layout is None:
            continue
        layouts[name] = layout
        grid = (shape[2], shape[3]) if layout == "NCHW" else (shape[1], shape[2])
        patches = grid if node.op_type == "Conv" else patches
        usable = node.op_type in _KEEPS_GRID if layout == "NCHW" else _is_token_state(node, constants)
        if usable and name in wanted and min(grid) > 1:
            found.append(Layer(name, node.name, layout, grid))
    return found


def _layout(node: onnx.NodeProto, layouts: Mapping[str, str]) -> str | None:
    """Return the layout of a 4-dimensional output, or None where it is not a grid of image positions."""
    if node.op_type in ("Conv", "ConvTranspose"):
        return "NCHW"
    known = next((layouts[i] for i in node.input if i in layouts), None)
    if node.op_type == "Transpose":
        perm = next((list(a.ints) for a in node.attribute if a.name == "perm"), None)
        return {("NCHW", (0, 2, 3, 1)): "NHWC", ("NHWC", (0, 3, 1, 2)): "NCHW"}.get((known or "", tuple(perm or ())))
    if node.op_type in _KEEPS_GRID or (known == "NHWC" and node.op_type in _KEEPS_LAST):
        return known
    return None


def _is_token_state(node: onnx.NodeProto, constants: set[str]) -> bool:
    """Whether a node makes the state of a block (its normalised input or a residual sum), not an inner projection.

    A bias is an Add too; a residual sum has no constant operand.
    """
    if node.op_type == "LayerNormalization":
        return True
    return node.op_type == "Add" and not any(i in constants for i in node.input)


def choose(found: list[Layer], graph: onnx.GraphProto, output: str) -> Layer | None:
    """Return the automatic choice among the candidates, or None where there is none that every path passes."""
    if not found:
        return None
    if found[-1].layout == "NTC":
        return _choose_tokens([layer for layer in found if layer.layout == "NTC"], graph)
    passed = set(dominators(graph, output))
    grids = [layer for layer in found if layer.layout != "NTC" and layer.name in passed]
    if not grids:
        return None
    big = [layer for layer in grids if layer.extent >= MIN_EXTENT]
    if big:
        return big[-1]
    largest = max(layer.extent for layer in grids)
    return [layer for layer in grids if layer.extent == largest][-1]


def _choose_tokens(tokens: list[Layer], graph: onnx.GraphProto) -> Layer:
    """Return the last token grid; with a class token, the last one before the last attention (see the module)."""
    softmaxes = [node for node in graph.node if node.op_type == "Softmax"]
    if any(layer.skip for layer in tokens) and softmaxes:
        before = ancestors(graph, softmaxes[-1].output[0])
        feeding = [layer for layer in tokens if layer.name in before]
        if feeding:
            return feeding[-1]
    return tokens[-1]
