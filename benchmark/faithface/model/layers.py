"""Find the layers of a network that a CAM can use, and choose one.

Place in the flow: called by ``twin.py``; works on the ONNX graph and on shapes that a probe pass recorded. Imports onnx only.

A *candidate* is an intermediate tensor with a spatial grid, in one of three layouts:

* ``NCHW``: the output of a convolution, or of something that keeps the grid (activation, normalisation, pooling,
  element-wise arithmetic, concatenation, resize, pad) applied to such a tensor. Attention matrices, which are also
  4-dimensional, never qualify, because nothing in that list makes one.
* ``NTC``: tokens, batch × T × channels, where T is the patch grid h·w of the network's own patch embedding, with or
  without extra leading tokens (class token, registers).
* ``NHWC``: a grid with channels last, between layers that keep it so (Swin).

The automatic choice is the last ``NCHW`` candidate whose extent is at least 7, as DESIGN's layer rule has it. Networks that have only tokens
after the patch embedding get the last token grid that still sends its patch tokens to the output: with a class token, what
follows the last attention no longer does, so the choice is the last token grid before the last softmax.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx

MIN_EXTENT = 7

_KEEPS_GRID = frozenset(
    "Conv ConvTranspose Relu PRelu LeakyRelu Elu Selu Celu Clip Sigmoid HardSigmoid HardSwish Mish Softplus Softsign Tanh "
    "Gelu Swish Erf Identity Dropout BatchNormalization InstanceNormalization GroupNormalization LRN MaxPool AveragePool "
    "Add Sub Mul Div Sum Concat Resize Upsample Pad Neg Abs Sqrt Pow Max Min Cast LpPool DepthToSpace SpaceToDepth Split "
    "Slice Where".split()
)
_TOKEN_OPS = frozenset("Add LayerNormalization MatMul Gemm Gelu Concat Mul".split())


@dataclass(frozen=True)
class Layer:
    """A tensor with a spatial grid.

    Attributes:
        name: the tensor's name in the ONNX graph.
        node: the name of the node that makes it.
        layout: ``NCHW``, ``NTC`` or ``NHWC``.
        grid: height and width.
        skip: leading tokens that are no patches (``NTC`` only).
    """

    name: str
    node: str
    layout: str
    grid: tuple[int, int]
    skip: int = 0

    @property
    def extent(self) -> int:
        return min(self.grid)


def ancestors(graph: onnx.GraphProto, output: str) -> set[str]:
    """Return the names of all tensors that the given output depends on, itself included."""
    made_by = {name: node for node in graph.node for name in node.output if name}
    seen: set[str] = set()
    stack = [output]
    while stack:
        name = stack.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in made_by:
            stack.extend(i for i in made_by[name].input if i)
    return seen


def candidates(graph: onnx.GraphProto, output: str, shapes: Mapping[str, tuple[int, ...]]) -> list[Layer]:
    """List the spatial layers on the way to ``output``, in graph order.

    Args:
        graph: the (folded) ONNX graph.
        output: the graph output that matters.
        shapes: the shape of each intermediate tensor in a probe pass; tensors without one are passed over.
    """
    wanted = ancestors(graph, output)
    spatial: set[str] = {i.name for i in graph.input}
    learned = False
    found: list[Layer] = []
    patch_grid: tuple[int, int] | None = None
    for node in graph.node:
        name = node.output[0]
        shape = shapes.get(name)
        if node.op_type == "Conv":
            learned = True
        if shape is None:
            # A shape can be unknown only for what the twin does not run as a module; the grid is then lost, not guessed.
            continue
        if len(shape) == 4 and node.op_type in _KEEPS_GRID and any(i in spatial for i in node.input):
            spatial.add(name)
            if learned and name in wanted and min(shape[2:]) > 1:
                found.append(Layer(name, node.name, "NCHW", (shape[2], shape[3])))
                patch_grid = (shape[2], shape[3]) if node.op_type == "Conv" else patch_grid
        elif len(shape) == 3 and patch_grid and node.op_type in _TOKEN_OPS and name in wanted:
            extra = shape[1] - patch_grid[0] * patch_grid[1]
            if 0 <= extra <= 8:
                found.append(Layer(name, node.name, "NTC", patch_grid, extra))
        elif (
            len(shape) == 4
            and patch_grid
            and node.op_type in ("LayerNormalization", "Add")
            and name in wanted
            and shape[1] == shape[2] > 1
            and shape[3] > shape[1]
        ):
            found.append(Layer(name, node.name, "NHWC", (shape[1], shape[2])))
    return found


def choose(found: list[Layer], graph: onnx.GraphProto) -> Layer | None:
    """Return the automatic choice among the candidates, or None where there are none."""
    if not found:
        return None
    grids = [c for c in found if c.layout == "NCHW"]
    late = [c for c in found if c.layout != "NCHW"]
    convs_after = {c.grid for c in grids[-3:]}
    if late and len(late) > len(grids) / 2 and found[-1].layout != "NCHW" and len(convs_after) <= 2:
        return _choose_tokens(late, graph)
    big = [c for c in grids if c.extent >= MIN_EXTENT]
    if big:
        return big[-1]
    if grids:
        largest = max(c.extent for c in grids)
        return [c for c in grids if c.extent == largest][-1]
    return _choose_tokens(late, graph)


def _choose_tokens(late: list[Layer], graph: onnx.GraphProto) -> Layer:
    if late[-1].layout == "NTC" and any(c.skip for c in late):
        softmaxes = [node for node in graph.node if node.op_type == "Softmax"]
        if softmaxes:
            before = ancestors(graph, softmaxes[-1].output[0])
            feeding = [c for c in late if c.name in before and c.layout == "NTC" and _is_norm_or_sum(c, graph)]
            if feeding:
                return feeding[-1]
    big = [c for c in late if c.extent >= MIN_EXTENT]
    return (big or late)[-1]


def _is_norm_or_sum(layer: Layer, graph: onnx.GraphProto) -> bool:
    """Whether a token layer is a block's normalised input or residual sum, not one of its inner projections."""
    made_by = {node.output[0]: node for node in graph.node}
    node = made_by[layer.name]
    if node.op_type == "LayerNormalization":
        return True
    # A bias is an Add too; a residual sum has no constant operand.
    constants = {t.name for t in graph.initializer}
    return node.op_type == "Add" and not any(i in constants for i in node.input)
