"""Small ONNX graphs, written node by node: operators and layouts that no exporter of torch would write.

Place in the flow: used by tests only. Weights are random, fixed by a seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from faithface.card import InputCard, ModelCard, OutputCard


class Graph:
    """A graph that grows by one node a call; methods return tensor names.

    Args:
        size: height = width of the input.
        channels: 1 or 3.
        batch: a number, or "N" for a dynamic axis.
        opset: of the default domain.
        layout: of the input.
        kind: the input's element type.
    """

    def __init__(
        self,
        size: int = 16,
        channels: int = 3,
        batch: int | str = "N",
        opset: int = 17,
        layout: str = "NCHW",
        kind: int = TensorProto.FLOAT,
        seed: int = 0,
    ) -> None:
        self.rng = np.random.default_rng(seed)
        self.size, self.channels, self.batch, self.opset, self.layout = size, channels, batch, opset, layout
        shape = [batch, channels, size, size] if layout == "NCHW" else [batch, size, size, channels]
        self.inputs = [helper.make_tensor_value_info("image", kind, shape)]
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.x = "image"
        self.domains: set[str] = set()

    def const(self, value: Any, dtype: Any = np.float32, name: str = "") -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name or f"w{len(self.weights)}"))
        return self.weights[-1].name

    def random(self, *shape: int, scale: float = 1.0, name: str = "") -> str:
        return self.const(self.rng.standard_normal(shape) * scale, name=name)

    def op(self, kind: str, *inputs: str, outputs: int = 1, out: str = "", domain: str = "", **attrs: Any) -> Any:
        names = [out] if out else [f"{kind.lower()}{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, domain=domain, **attrs))
        self.domains |= {domain} - {""}
        return names[0] if len(names) == 1 else names

    def conv(self, x: str, cin: int, cout: int, k: int = 3, bias: bool = True, **attrs: Any) -> str:
        weight = self.random(cout, cin // attrs.get("group", 1), k, k, scale=1.2 / np.sqrt(cin * k * k))
        inputs = [x, weight, *([self.random(cout, scale=0.3)] if bias else [])]
        if "auto_pad" not in attrs:
            attrs.setdefault("pads", [k // 2] * 4)
        return str(self.op("Conv", *inputs, kernel_shape=[k, k], **attrs))

    def head(self, x: str, channels: int, units: int = 4) -> str:
        flat = self.op("Flatten", self.op("GlobalAveragePool", x))
        weight, bias = self.random(units, channels), self.random(units, scale=0.1)
        return str(self.op("Gemm", flat, weight, bias, transB=1))

    def model(
        self, outputs: str | Sequence[str], units: int | None = 4, kind: int = TensorProto.FLOAT
    ) -> onnx.ModelProto:
        names = [outputs] if isinstance(outputs, str) else list(outputs)
        infos = [helper.make_tensor_value_info(n, kind, [self.batch, units or "K"]) for n in names]
        graph = helper.make_graph(self.nodes, "net", self.inputs, infos, self.weights)
        opsets = [helper.make_opsetid("", self.opset), *(helper.make_opsetid(d, 1) for d in sorted(self.domains))]
        made = helper.make_model(graph, opset_imports=opsets)
        made.ir_version = 9
        return made


def card_for(
    proto: onnx.ModelProto, folder: Path, name: str = "net", kind: str = "embedding", **card: Any
) -> ModelCard:
    """Save a graph and return its card, with pixels taken to ±1."""
    path = folder / f"{name}.onnx"
    onnx.save(proto, path)
    dims = [d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim]
    last = dims[-1] in (1, 3)
    channels, size = (dims[3], (dims[1], dims[2])) if last else (dims[1], (dims[2], dims[3]))
    pixels = InputCard(
        size=size, color="GRAY" if channels == 1 else "RGB", layout="NHWC" if last else "NCHW", mean=(0.5,), std=(0.5,)
    )
    if kind == "embedding":
        task, output = "verification", OutputCard(kind="embedding")
    else:
        task, output = "pad", OutputCard(kind=kind, classes=("bona-fide", "attack"), positive="attack")
    return ModelCard(name=name, task=task, file=path.name, root=folder, input=pixels, output=output, **card)
