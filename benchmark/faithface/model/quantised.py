"""The dequantised network of a quantised one: the same weights and ranges without rounding, so that it has gradients.

Place in the flow: called by ``prepare``. Works on the ONNX graph; may call ``graph`` and ``errors``.

A quantised network rounds its activations, so its outputs are a step function, whose gradient is zero almost
everywhere. What gradients can explain is the network without the steps: integer weights become the numbers that they
represent, and every rounding becomes a clip to the range of its integers, whose gradient is 1 inside and 0 outside
(the straight-through estimator: Bengio et al. 2013, arXiv 1308.3432). Clips matter: a quantiser whose lowest integer
represents 0 is often the network's ReLU.

In what follows, a tensor of integers is replaced by the real numbers that it represents, scale · (q − zero point);
``held`` remembers scale and zero point of each, since every reader must use the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from faithface.errors import NotApplicable
from faithface.model.graph import attributes, constants, in_order, opset, value_path
from faithface.reasons import ReasonCode

# Operators that only move values, or choose among them, and so keep scale and zero point.
_MOVES = frozenset(
    {"Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "Identity", "Max", "MaxPool", "Min", "Reshape", "Slice"}
    | {"SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"}
)
_MARKS = ("QuantizeLinear", "DequantizeLinear", "Integer", "QLinear", "QGemm", "QAttention", "QEmbed", "QOrdered")
_MORE = frozenset({"DynamicQuantizeLSTM", "MatMulNBits", "MatMulBnb4", "MatMulFpQ4", "GatherBlockQuantized"})
_LIMITS: dict[int, tuple[int, int]] = {
    onnx.TensorProto.INT4: (-8, 7),
    onnx.TensorProto.UINT4: (0, 15),
    onnx.TensorProto.INT8: (-128, 127),
    onnx.TensorProto.UINT8: (0, 255),
    onnx.TensorProto.INT16: (-32768, 32767),
    onnx.TensorProto.UINT16: (0, 65535),
}


def quantising_operators(graph: onnx.GraphProto) -> list[str]:
    """Return the kinds of quantising operators in a graph, sorted; ``Round`` is listed where it acts on the image."""
    kinds = {n.op_type for n in graph.node if n.op_type in _MORE or any(m in n.op_type for m in _MARKS)}
    rounds = {n.op_type for name in graph.output for n in value_path(graph, name.name) if n.op_type == "Round"}
    return sorted(kinds | rounds)


def dequantise(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the dequantised network; the argument is left as it was.

    Raises:
        NotApplicable: it uses a quantising operator, or uses one in a way, that is not supported.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    work = _Rewriter(copy)
    for node in in_order(copy.graph):
        work.rewrite(node)
    del copy.graph.node[:]
    copy.graph.node.extend(work.nodes)
    del copy.graph.value_info[:]
    copy.graph.initializer.extend(work.made.values())
    return copy


def refuse(what: str) -> NotApplicable:
    return NotApplicable(
        f"quantised: {what}; gradients need the network before quantisation, or one in QDQ form", ReasonCode.QUANTISED
    )


@dataclass(frozen=True)
class _Scale:
    """The real numbers behind the integers of a tensor: scale · (q − zero), per tensor, or per channel along
    ``axis``."""

    scale: np.ndarray
    zero: np.ndarray
    axis: int = 1

    def same(self, other: _Scale) -> bool:
        return (
            self.scale.size == other.scale.size
            and np.array_equal(self.scale.ravel(), other.scale.ravel())
            and np.array_equal(self.zero.ravel(), other.zero.ravel())
            and (self.scale.size == 1 or self.axis == other.axis)
        )


@dataclass
class _Rewriter:
    """One pass over the graph, node by node; ``nodes`` and ``made`` are the new graph."""

    proto: onnx.ModelProto
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    made: dict[str, onnx.TensorProto] = field(default_factory=dict)
    held: dict[str, _Scale] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.constants = constants(self.proto.graph)
        graph = self.proto.graph
        self.on_path = {n.output[0] for out in graph.output for n in value_path(graph, out.name)}
        self.rules: dict[str, Callable[[onnx.NodeProto], None]] = {
            "QuantizeLinear": self.quantize,
            "DequantizeLinear": self.dequantize,
            "DynamicQuantizeLinear": self.dynamic,
            "MatMulInteger": lambda node: self.integer(node, "MatMul"),
            "ConvInteger": lambda node: self.integer(node, "Conv"),
            "QLinearConv": self.convolution,
            "QLinearMatMul": lambda node: self.binary(node, "MatMul"),
            "QLinearAdd": lambda node: self.binary(node, "Add"),
            "QLinearMul": lambda node: self.binary(node, "Mul"),
            "QGemm": self.gemm,
            "QLinearConcat": self.concat,
            "QLinearAveragePool": lambda node: self.unary(node, "AveragePool"),
            "QLinearGlobalAveragePool": lambda node: self.unary(node, "GlobalAveragePool"),
            "QLinearLeakyRelu": lambda node: self.unary(node, "LeakyRelu"),
            "QLinearSigmoid": lambda node: self.unary(node, "Sigmoid"),
            "QLinearSoftmax": lambda node: self.unary(node, "Softmax"),
            "DynamicQuantizeMatMul": self.dynamic_matmul,
        }
        self.kinds = set(quantising_operators(self.proto.graph))

    # --- pieces

    def rewrite(self, node: onnx.NodeProto) -> None:
        if node.op_type in self.rules:
            self.rules[node.op_type](node)
        elif node.op_type == "Round" and node.output[0] in self.on_path:
            self.put("Identity", [node.input[0]], node.output[0], node)
        elif node.op_type in self.kinds and node.op_type != "Round":
            raise refuse(f"operator {node.op_type} is not supported")
        else:
            self.move(node)

    def move(self, node: onnx.NodeProto) -> None:
        """Copy a node that does not quantise; integers may pass through it only where it moves them."""
        inside = [self.held[i] for i in node.input if i in self.held]
        if inside and node.op_type not in _MOVES and not all(s.scale.size == 1 and s.scale == 1 for s in inside):
            raise refuse(f"{node.op_type} computes with integers")
        if inside:
            if any(not s.same(inside[0]) for s in inside):
                raise refuse(f"{node.op_type} joins integers of different scales")
            if inside[0].scale.size > 1:
                raise refuse(f"{node.op_type} moves integers with a scale per channel")
            self.held.update({name: inside[0] for name in node.output if name and node.op_type in _MOVES})
        self.nodes.append(node)

    def put(self, kind: str, inputs: Sequence[str], output: str, like: onnx.NodeProto, **attrs: Any) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=f"{like.name or output}/{kind}", **attrs))
        return output

    def constant(self, name: str, value: Any) -> str:
        self.made[name] = numpy_helper.from_array(np.asarray(value, dtype=np.float32), name)
        return name

    def array(self, node: onnx.NodeProto, index: int, what: str, default: Any = None) -> np.ndarray:
        """Return a constant input as an array; ``default`` where it is omitted."""
        name = node.input[index] if index < len(node.input) else ""
        if not name and default is not None:
            return np.asarray(default)
        if name not in self.constants:
            raise refuse(f"the {what} of {node.op_type} '{node.output[0]}' is computed, not stored")
        return numpy_helper.to_array(self.constants[name])

    def scale_at(self, node: onnx.NodeProto, index: int, axis: int = 1) -> _Scale:
        """Return the scale and zero point at inputs ``index`` and ``index + 1``."""
        scale = self.array(node, index, "scale").astype(np.float32)
        zero = self.array(node, index + 1, "zero point", default=0).astype(np.float32)
        return _Scale(scale, zero, axis)

    def real(self, node: onnx.NodeProto, index: int, scale: _Scale, weight_axis: int | None = None) -> str:
        """Return the name of the real numbers behind an integer input that is read with ``scale``."""
        name = node.input[index]
        if name in self.held:
            if not self.held[name].same(scale):
                raise refuse(f"'{name}' is written with one scale and read with another")
            return name
        if name not in self.constants:
            raise refuse(f"'{name}' holds integers that no quantiser of this graph made")
        stored = numpy_helper.to_array(self.constants[name]).astype(np.float32)
        axis = scale.axis if weight_axis is None else weight_axis
        per = [1] * stored.ndim
        if scale.scale.size > 1 or scale.zero.size > 1:
            per[axis] = -1
        zero = scale.zero.reshape(per) if scale.zero.size > 1 else scale.zero.reshape(())
        factor = scale.scale.reshape(per) if scale.scale.size > 1 else scale.scale.reshape(())
        return self.constant(f"{node.output[0]}/real{index}", (stored - zero) * factor)

    def clip(self, source: str, node: onnx.NodeProto, zero_index: int, scale: _Scale, rank: int | None = None) -> None:
        """End a rewritten node: clip to the range of its integers, and store what they represent."""
        name = node.input[zero_index] if zero_index < len(node.input) else ""
        kind = self.constants[name].data_type if name in self.constants else onnx.TensorProto.UINT8
        if not name and attributes(node).get("output_dtype"):
            kind = attributes(node)["output_dtype"]
        if kind not in _LIMITS:
            raise refuse(f"{node.op_type} rounds to {onnx.TensorProto.DataType.Name(kind)}")
        low, high = _LIMITS[kind]
        ends = ((low - scale.zero) * scale.scale, (high - scale.zero) * scale.scale)
        out = node.output[0]
        if ends[0].size == 1:
            bottom, top = (float(np.asarray(e).ravel()[0]) for e in ends)
            if opset(self.proto) < 11:
                self.put("Clip", [source], out, node, min=bottom, max=top)
            else:
                names = [self.constant(f"{out}/low", bottom), self.constant(f"{out}/high", top)]
                self.put("Clip", [source, *names], out, node)
        elif source in self.constants and rank is None:
            per = [1] * len(self.constants[source].dims)
            per[scale.axis] = -1
            stored = numpy_helper.to_array(self.constants[source]).astype(np.float32)
            clipped = np.clip(stored, ends[0].reshape(per), ends[1].reshape(per))
            self.put("Identity", [self.constant(f"{out}/clipped", clipped)], out, node)
        else:
            raise refuse(f"activations of {node.op_type} '{out}' have a scale per channel")
        self.held[out] = scale

    # --- operators

    def quantize(self, node: onnx.NodeProto) -> None:
        axis = attributes(node).get("axis", 1)
        self.clip(node.input[0], node, 2, self.scale_at(node, 1, axis))

    def dequantize(self, node: onnx.NodeProto) -> None:
        if node.input[0] in self.constants:
            # onnx's own definition: it knows scales per axis and per block, and 4-bit integers.
            inputs = [self.constants[i] for i in node.input if i]
            named = {i: numpy_helper.to_array(t) for i, t in zip([i for i in node.input if i], inputs, strict=True)}
            values = [
                helper.make_tensor_value_info(i, t.data_type, list(t.dims)) for i, t in zip(named, inputs, strict=True)
            ]
            out = helper.make_tensor_value_info(node.output[0], onnx.TensorProto.FLOAT, None)
            bare = onnx.NodeProto()
            bare.CopyFrom(node)
            bare.domain = ""
            one = helper.make_model(
                helper.make_graph([bare], "one", values, [out]),
                opset_imports=[helper.make_opsetid("", max(opset(self.proto), 19))],
            )
            (value,) = ReferenceEvaluator(one).run(None, named)
            self.constant(node.output[0], value)
            return
        scale = self.scale_at(node, 1, attributes(node).get("axis", 1))
        self.put("Identity", [self.real(node, 0, scale)], node.output[0], node)

    def dynamic(self, node: onnx.NodeProto) -> None:
        values, scale, zero = node.output
        self.put("Identity", [node.input[0]], values, node)
        self.constant(scale, 1.0)
        self.constant(zero, 0.0)
        self.held[values] = _Scale(np.ones((), np.float32), np.zeros((), np.float32))
        self.constants[scale], self.constants[zero] = self.made[scale], self.made[zero]

    def integer(self, node: onnx.NodeProto, kind: str) -> None:
        """MatMulInteger and ConvInteger: their output is in units of the product of both scales."""
        sides = []
        for index in (0, 1):
            name = node.input[index]
            zero = self.array(node, index + 2, "zero point", default=0).astype(np.float32)
            held = self.held.get(name)
            if held is None:
                # Per column of a matrix, per output channel of a kernel.
                axis = (1 if kind == "MatMul" else 0) if index else 0
                sides.append(self.real(node, index, _Scale(np.ones(1, np.float32), zero), weight_axis=axis))
                continue
            if not np.array_equal(held.zero.ravel(), zero.ravel()) or held.scale.size > 1:
                raise refuse(f"'{name}' is written with one zero point and read with another")
            unit = held.scale.reshape(())
            if unit != 1:
                factor = self.constant(f"{node.output[0]}/unit{index}", unit)
                name = self.put("Div", [name, factor], f"{node.output[0]}/side{index}", node)
            sides.append(name)
        self.put(kind, sides, node.output[0], node, **attributes(node))

    def convolution(self, node: onnx.NodeProto) -> None:
        x, w, y = self.scale_at(node, 1), self.scale_at(node, 4, axis=0), self.scale_at(node, 6)
        inputs = [self.real(node, 0, x), self.real(node, 3, w, weight_axis=0)]
        if len(node.input) > 8 and node.input[8]:
            bias = self.array(node, 8, "bias").astype(np.float32) * x.scale.ravel() * w.scale.ravel()
            inputs.append(self.constant(f"{node.output[0]}/bias", bias))
        self.clip(self.put("Conv", inputs, f"{node.output[0]}/raw", node, **attributes(node)), node, 7, y, rank=4)

    def binary(self, node: onnx.NodeProto, kind: str) -> None:
        a, b, y = self.scale_at(node, 1), self.scale_at(node, 4), self.scale_at(node, 6)
        inputs = [self.real(node, 0, a), self.real(node, 3, b)]
        self.clip(self.put(kind, inputs, f"{node.output[0]}/raw", node), node, 7, y, rank=4)

    def gemm(self, node: onnx.NodeProto) -> None:
        attrs = attributes(node)
        per_row = 0 if attrs.get("transB", 0) else 1
        a, b = self.scale_at(node, 1), self.scale_at(node, 4, axis=per_row)
        inputs = [self.real(node, 0, a), self.real(node, 3, b, weight_axis=per_row)]
        if len(node.input) > 6 and node.input[6]:
            bias = self.array(node, 6, "bias").astype(np.float32) * a.scale.ravel() * b.scale.ravel()
            # The bias counts in units of both scales, so alpha, which multiplies the product alone, multiplies it too.
            inputs.append(self.constant(f"{node.output[0]}/bias", bias * attrs.get("alpha", 1.0)))
        keep = {k: v for k, v in attrs.items() if k in ("alpha", "transA", "transB")}
        if len(node.input) > 7 and node.input[7]:
            y = self.scale_at(node, 7)
            self.clip(self.put("Gemm", inputs, f"{node.output[0]}/raw", node, **keep), node, 8, y, rank=2)
        else:
            self.put("Gemm", inputs, node.output[0], node, **keep)

    def unary(self, node: onnx.NodeProto, kind: str) -> None:
        attrs = attributes(node)
        if attrs.pop("channels_last", 0):
            raise refuse(f"{node.op_type} with channels last is not supported")
        if kind == "Softmax":
            attrs.pop("opset", None)
        x, y = self.scale_at(node, 1), self.scale_at(node, 3)
        raw = self.put(kind, [self.real(node, 0, x)], f"{node.output[0]}/raw", node, **attrs)
        self.clip(raw, node, 4, y, rank=4)

    def concat(self, node: onnx.NodeProto) -> None:
        y = self.scale_at(node, 0)
        parts = [self.real(node, i, self.scale_at(node, i + 1)) for i in range(2, len(node.input), 3)]
        raw = self.put("Concat", parts, f"{node.output[0]}/raw", node, axis=attributes(node)["axis"])
        self.clip(raw, node, 1, y, rank=4)

    def dynamic_matmul(self, node: onnx.NodeProto) -> None:
        """com.microsoft's DynamicQuantizeMatMul: A, B, scale of B, zero point of B, bias."""
        scale = self.array(node, 2, "scale").astype(np.float32)
        zero = self.array(node, 3, "zero point", default=0).astype(np.float32)
        weight = self.real(node, 1, _Scale(scale, zero), weight_axis=1)
        biased = len(node.input) > 4 and bool(node.input[4])
        target = f"{node.output[0]}/raw" if biased else node.output[0]
        self.put("MatMul", [node.input[0], weight], target, node)
        if biased:
            self.put("Add", [target, node.input[4]], node.output[0], node)
