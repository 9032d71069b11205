"""Bring an ONNX network into the form from which a differentiable twin can be made: float32, dequantised, folded.

Place in the flow: called by ``twin.py``. May call ``graph``, ``quantised``, ``errors``. The prepared network is itself
an ONNX network; ``parity.py`` runs it in ONNX Runtime to read its inner values.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from enum import Enum

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from faithface.errors import NotApplicable
from faithface.model.graph import all_graphs, constants, in_order
from faithface.model.quantised import dequantise, quantising_operators
from faithface.reasons import ReasonCode

_OTHER_FLOATS = (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
_TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype", "stash_type")


class Arithmetic(Enum):
    """In which numbers a file computes, and how far its outputs may be from those of its float32 copy (relative)."""

    FLOAT32 = 1e-4
    HALF = 2e-2
    """float16 or bfloat16 inside: 10 or 7 bits of mantissa."""
    QUANTISED = 2e-1
    """Rounded activations: 8 bits at most between the extremes of a layer."""

    @property
    def tolerance(self) -> float:
        return float(self.value)


@dataclass(frozen=True)
class Prepared:
    """What a twin is made of.

    Attributes:
        proto: float32, without quantising operators, constants folded.
        arithmetic: in which numbers the file itself computes.
        rounding: the quantising operators of the file.
    """

    proto: onnx.ModelProto
    arithmetic: Arithmetic
    rounding: tuple[str, ...] = ()

    @property
    def origin(self) -> str:
        """Whose gradients the twin has, where they are not those of the file itself; else ""."""
        if self.arithmetic is Arithmetic.QUANTISED:
            kinds = ", ".join(self.rounding)
            whose = "those of the dequantised network (straight through)"
            return f"is quantised ({kinds}): gradients and activations are {whose}"
        if self.arithmetic is Arithmetic.HALF:
            return "computes in float16: gradients and activations are those of its float32 copy"
        return ""


def arithmetic_of(proto: onnx.ModelProto) -> Arithmetic:
    """Return the arithmetic of a file."""
    if quantising_operators(proto.graph):
        # Also where only weights are stored as integers: ONNX Runtime then rounds the activations of a MatMul itself.
        return Arithmetic.QUANTISED
    half = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
    for graph in all_graphs(proto.graph):
        if any(t.data_type in half for t in graph.initializer):
            return Arithmetic.HALF
        if any(a.name == "to" and a.i in half for node in graph.node for a in node.attribute):
            return Arithmetic.HALF
    return Arithmetic.FLOAT32


def prepare(proto: onnx.ModelProto) -> Prepared:
    """Return the network in the form that can be converted; the argument is unchanged.

    Raises:
        NotApplicable: the network is quantised in a way that is not supported.
    """
    import onnxscript.optimizer

    arithmetic, rounding = arithmetic_of(proto), tuple(quantising_operators(proto.graph))
    if quantising_operators(proto.graph):
        try:
            proto = dequantise(proto)
        except NotApplicable:
            raise
        except Exception as error:  # a file may use an operator in ways that its definition does not allow
            text = f"quantised: it cannot be dequantised ({type(error).__name__}: {error})"
            raise NotApplicable(text, ReasonCode.QUANTISED) from None
    proto = without_training(to_float32(proto))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folded = onnxscript.optimizer.optimize(proto)
    for step in (with_order, with_distinct_names, with_plain_operands):
        folded = step(folded)
    return Prepared(folded, arithmetic, rounding)


def to_float32(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the network with every float16, bfloat16 and float64 tensor as float32; the same object if it has none."""
    if not any(_has_other_floats(graph) for graph in all_graphs(proto.graph)):
        return proto
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for graph in all_graphs(copy.graph):
        for tensor in graph.initializer:
            _widen(tensor)
        for entry in (*graph.input, *graph.output):
            kind = entry.type.tensor_type
            if kind.elem_type in _OTHER_FLOATS:
                kind.elem_type = TensorProto.FLOAT
        del graph.value_info[:]
        for node in graph.node:
            for a in node.attribute:
                if a.type == onnx.AttributeProto.TENSOR:
                    _widen(a.t)
                elif a.name in _TYPE_ATTRIBUTES and a.i in _OTHER_FLOATS:
                    a.i = TensorProto.FLOAT
    return copy


def without_training(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the network with every Dropout as in evaluation; the same object if that changes nothing.

    Files whose outputs are random are refused on opening: ONNX Runtime ignores what remains of training mode.
    """
    if not any(node.op_type == "Dropout" and len(node.input) > 2 for node in proto.graph.node):
        return proto
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for node in copy.graph.node:
        if node.op_type == "Dropout":
            del node.input[2:]
    return copy


def _has_other_floats(graph: onnx.GraphProto) -> bool:
    tensors = [*graph.initializer, *(a.t for n in graph.node for a in n.attribute if a.type == a.TENSOR)]
    if any(t.data_type in _OTHER_FLOATS for t in tensors):
        return True
    if any(e.type.tensor_type.elem_type in _OTHER_FLOATS for e in (*graph.input, *graph.output)):
        return True
    return any(a.name in _TYPE_ATTRIBUTES and a.i in _OTHER_FLOATS for n in graph.node for a in n.attribute)


def _widen(tensor: TensorProto) -> None:
    if tensor.data_type in _OTHER_FLOATS:
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(np.asarray(numpy_helper.to_array(tensor), dtype=np.float32), name))


def with_order(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Sort the nodes as ONNX requires; the converter runs them in the given order."""
    ordered = [onnx.NodeProto.FromString(node.SerializeToString()) for node in in_order(proto.graph)]
    del proto.graph.node[:]
    proto.graph.node.extend(ordered)
    return proto


def with_plain_operands(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Put an Identity before constants that the converter would mistake for the weights of a linear layer.

    It reads every MatMul with a constant as x · W, and the sum after it as its bias: right only for a matrix on the
    right-hand side and a bias of one axis.
    """
    stored = constants(proto.graph)
    nodes: list[onnx.NodeProto] = []
    previous = ""
    for node in proto.graph.node:
        shield: list[int] = []
        if node.op_type == "MatMul":
            left, right = (stored.get(name) for name in node.input)
            shield = [0] if left is not None else [1] if right is not None and len(right.dims) != 2 else []
        elif node.op_type == "Add" and previous == "MatMul":
            shield = [i for i, name in enumerate(node.input) if name in stored and len(stored[name].dims) != 1]
        for index in shield:
            name = f"{node.output[0]}/operand{index}"
            nodes.append(helper.make_node("Identity", [node.input[index]], [name], name=name))
            node.input[index] = name
        nodes.append(node)
        previous = node.op_type
    copied = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del proto.graph.node[:]
    proto.graph.node.extend(copied)
    return proto


def with_distinct_names(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Give initializers new names where the converter would confuse two: it replaces ``.`` by ``_`` in names.

    Names of activations, by which layers are known, stay.
    """
    taken: set[str] = set()
    renamed: dict[str, str] = {}
    for tensor in proto.graph.initializer:
        name, count = tensor.name, 0
        while name.replace(".", "_") in taken:
            count += 1
            name = f"{tensor.name}__{count}"
        taken.add(name.replace(".", "_"))
        if name != tensor.name:
            renamed[tensor.name] = name
            tensor.name = name
    if renamed:
        for graph in all_graphs(proto.graph):
            for node in graph.node:
                for index, source in enumerate(node.input):
                    if source in renamed:
                        node.input[index] = renamed[source]
            for entry in graph.output:
                entry.name = renamed.get(entry.name, entry.name)
    return proto
