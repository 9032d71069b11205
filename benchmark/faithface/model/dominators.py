"""Which tensors lie on every path from the image to the output: the dominators of the output.

Place in the flow: called by ``layers.py``. Works on the ONNX graph; may call ``graph``.

A map that some path bypasses (the inside of one branch of a residual block) holds only part of what the network
decides by. The definition is computed in a short way: cut the graph at every point of its topological
order; where exactly one tensor crosses the cut, every path passes that tensor.
"""

from __future__ import annotations

import onnx

from faithface.model.graph import image_inputs, value_path


def dominators(graph: onnx.GraphProto, output: str) -> list[str]:
    """Return the tensors that every path of values from the image to ``output`` passes, from the image on.

    The image itself is not among them; ``output`` is the last one. Paths through an operator that only reads a shape
    do not count, since no value passes there.
    """
    path = value_path(graph, output)
    carried = set(image_inputs(graph)) | {name for node in path for name in node.output if name}
    last_use: dict[str, int] = {}
    for index, node in enumerate(path):
        for name in node.input:
            if name in carried:
                last_use[name] = index
    last_use[output] = len(path)
    alive = {name for name in image_inputs(graph) if name in last_use}
    found = []
    for index, node in enumerate(path):
        alive = {name for name in alive if last_use[name] > index}
        made = {name for name in node.output if last_use.get(name, -1) > index}
        alive |= made
        if len(alive) == 1 and made:
            found.append(next(iter(made)))
    return found
