"""The part of a network behind one tensor: what is left to compute once that tensor is known.

Place in the flow: called by ``twin.py``, for methods that change one layer many times over. Works on the ONNX graph;
may call ``graph``.
"""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from faithface.model.graph import attributes, image_inputs, in_order, producers


def suffix(proto: onnx.ModelProto, tensor: str, output: str) -> onnx.ModelProto | None:
    """Return the network from ``tensor`` (its only input, of any shape) to ``output``.

    None where the output depends on the image otherwise than through ``tensor``, its shape included, and for graphs
    with subgraphs of their own: there is no such network, and the whole one has to run.
    """
    made_by, images = producers(proto.graph), set(image_inputs(proto.graph))
    if tensor not in made_by or tensor == output:
        return None
    wanted, stack = {tensor}, [output]
    while stack:
        name = stack.pop()
        if name in wanted:
            continue
        wanted.add(name)
        if name in images:
            return None
        if name in made_by:
            stack.extend(made for made in made_by[name].input if made)
    last = made_by[tensor]
    nodes = [node for node in in_order(proto.graph) if node is not last and not wanted.isdisjoint(node.output)]
    if any(isinstance(value, onnx.GraphProto) for node in nodes for value in attributes(node).values()):
        return None
    graph = helper.make_graph(
        nodes,
        "suffix",
        [helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None)],
        [entry for entry in proto.graph.output if entry.name == output],
        [stored for stored in proto.graph.initializer if stored.name in wanted],
    )
    return helper.make_model(graph, opset_imports=proto.opset_import, ir_version=proto.ir_version)
