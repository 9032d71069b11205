"""Read and edit ONNX graphs: constants, attributes, and which tensors carry the image's values.

Place in the flow: used by ``prepare``, ``quantised``, ``dominators``, ``endings`` and ``batches``. Imports onnx only.
"""

from __future__ import annotations

from typing import Any

import onnx
from onnx import helper

# The output of these operators depends only on the shape of their first input, not on its values.
SHAPE_READERS = frozenset({"Shape", "Size", "ConstantOfShape", "EyeLike", "RandomNormalLike", "RandomUniformLike"})

FLOATS = frozenset(
    {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE}
)


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Return a node's attributes as Python values, by name."""
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def constants(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Return the tensors that do not depend on the input: initializers and ``Constant`` nodes, by name."""
    found = {t.name: t for t in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            value = attributes(node).get("value")
            if isinstance(value, onnx.TensorProto):
                found[node.output[0]] = value
    return found


def producers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """Return the node that makes each tensor, by the tensor's name."""
    return {name: node for node in graph.node for name in node.output if name}


def in_order(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Return the nodes so that each comes after those whose outputs it reads; as far as possible in their own order.

    ONNX requires that order, but some converters append nodes at the end, and ONNX Runtime accepts it.
    """
    made_by = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    done: set[int] = set()
    ordered = []
    for start in range(len(graph.node)):
        stack = [start]
        while stack:
            index = stack[-1]
            waits = [made_by[i] for i in graph.node[index].input if i in made_by and made_by[i] not in done]
            if index in done or not waits:
                stack.pop()
                if index not in done:
                    done.add(index)
                    ordered.append(graph.node[index])
            elif len(stack) > len(graph.node):
                return list(graph.node)  # a cycle, which ONNX Runtime refuses itself
            else:
                stack.append(waits[0])
    return ordered


def image_inputs(graph: onnx.GraphProto) -> list[str]:
    """Return the graph's inputs that are not initializers (before IR version 4, weights were listed as inputs)."""
    stored = {t.name for t in graph.initializer}
    return [entry.name for entry in graph.input if entry.name not in stored]


def value_path(graph: onnx.GraphProto, output: str) -> list[onnx.NodeProto]:
    """Return the nodes through which the image's *values* reach ``output``, in graph order.

    A tensor's shape also follows from the image, but not from its values: operators that read shapes end a path.
    """
    carries = set(image_inputs(graph))
    forward = []
    for node in in_order(graph):
        if node.op_type not in SHAPE_READERS and any(i in carries for i in node.input):
            carries.update(name for name in node.output if name)
            forward.append(node)
    wanted, path = {output}, []
    for node in reversed(forward):
        if any(name in wanted for name in node.output):
            wanted.update(i for i in node.input if i in carries)
            path.append(node)
    return path[::-1]


def opset(proto: onnx.ModelProto) -> int:
    """Return the version of the default operator set; 0 where none is imported."""
    return next((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), 0)


def all_graphs(graph: onnx.GraphProto) -> list[onnx.GraphProto]:
    """Return a graph and the subgraphs of its ``If``, ``Loop`` and ``Scan`` nodes."""
    found = [graph]
    for node in graph.node:
        for a in node.attribute:
            if a.type == onnx.AttributeProto.GRAPH:
                found += all_graphs(a.g)
            elif a.type == onnx.AttributeProto.GRAPHS:
                for inner in a.graphs:
                    found += all_graphs(inner)
    return found


def without_values(proto: onnx.ModelProto) -> bytes:
    """Return a network without the values of its floating-point weights, to be compared with another's."""
    bare = onnx.ModelProto()
    bare.CopyFrom(proto)
    for graph in all_graphs(bare.graph):
        stored = [*graph.initializer, *(a.t for node in graph.node for a in node.attribute if a.type == a.TENSOR)]
        for tensor in stored:
            if tensor.data_type in FLOATS:
                kept = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
                tensor.CopyFrom(kept)
    return bytes(bare.SerializeToString(deterministic=True))


def ancestors(graph: onnx.GraphProto, output: str) -> set[str]:
    """Return the names of all tensors that the given output depends on, itself included."""
    made_by = producers(graph)
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


def only(proto: onnx.ModelProto, output: str) -> onnx.ModelProto:
    """Return the graph of one output. What only other outputs need must not decide whether there is a twin."""
    if len(proto.graph.output) == 1:
        return proto
    kept = onnx.ModelProto()
    kept.CopyFrom(proto)
    wanted = ancestors(kept.graph, output)
    for entries, keep in (
        (kept.graph.output, lambda value: value.name == output),
        (kept.graph.node, lambda node: not wanted.isdisjoint(node.output)),
    ):
        remaining = [entry for entry in entries if keep(entry)]  # type: ignore[no-untyped-call]
        del entries[:]
        entries.extend(remaining)  # type: ignore[arg-type]
    return kept
