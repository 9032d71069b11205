"""Read an ``.onnx`` file that may come from anyone: what it demands is checked before anything computes with it.

Place in the flow: behind ``session.load_proto``, before ONNX Runtime or the converter see the file. Imports onnx,
``files``, ``limits`` and ``errors``.

A few bytes can demand an endless loop, a tensor of 100 GB, two calls of a function that calls two, thirty deep, or
the content of another file. All of that is visible in the protobuf and is checked against ``limits`` here, in time
linear in the file, without running anything.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import onnx
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper
from onnx.external_data_helper import load_external_data_for_model

from faithface.errors import UsageError
from faithface.files import check_file, is_inside, read_file, shorten
from faithface.limits import (
    MAX_GRAPH_DEPTH,
    MAX_LOOP_STEPS,
    MAX_MODEL_BYTES,
    MAX_NODES,
    MAX_TENSOR_BYTES,
    MAX_WEIGHT_BYTES,
    readable_size,
)

_BEGINNINGS = (
    (b"version https://git-lfs", "a Git LFS pointer; fetch the file itself (git lfs pull)"),
    (b"PK\x03\x04", "a zip archive, perhaps a PyTorch checkpoint; export the network with torch.onnx.export"),
    (b"\x80\x02", "a pickle, perhaps a PyTorch checkpoint; export the network with torch.onnx.export"),
    (b"\x80\x04", "a pickle; export the network to ONNX"),
    (b"\x89HDF", "HDF5, perhaps a Keras model; export it with tf2onnx"),
    (b"%PDF", "a PDF"),
    (b"\x89PNG", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"\x7fELF", "a program"),
)
_SMALL = 1024  # bytes of a constant that may be a shape
_BITS = {TensorProto.INT4: 4, TensorProto.UINT4: 4, TensorProto.FLOAT4E2M1: 4} | {
    getattr(TensorProto, name): 2 for name in ("INT2", "UINT2") if hasattr(TensorProto, name)
}


class _Refused(Exception):
    """A graph demands too much; the text gives the reason."""


def read_proto(path: Path) -> ModelProto:
    """Read an ``.onnx`` file and its external data, within the limits.

    Raises:
        UsageError: it is not there, not a regular file, truncated, not ONNX, beyond a limit, or keeps data outside its
            own folder.
    """
    data = read_file(path, MAX_MODEL_BYTES, "ONNX network")
    proto = ModelProto()
    try:
        proto.ParseFromString(data)
    except Exception:  # protobuf's DecodeError has no public base but Exception
        raise UsageError(f"{path} is not an ONNX file: {_what_else(data)}") from None
    if not proto.graph.node or not proto.graph.output:
        raise UsageError(f"{path} is not an ONNX file: {_what_else(data, 'it holds no graph')}")
    screen(proto, path)
    try:
        load_external_data_for_model(proto, str(path.parent))
    except Exception as error:  # onnx's own checks, and what the system raises
        raise UsageError(f"{path}: its external data cannot be read ({_first_line(error)})") from None
    return proto


def _what_else(data: bytes, otherwise: str = "it is truncated or something else") -> str:
    if not data:
        return "it is empty"
    if data[4:8] == b"TFL3":
        return "it is a TensorFlow Lite model; export the network with tf2onnx"
    found = next((what for start, what in _BEGINNINGS if data.startswith(start)), "")
    if found:
        return f"it is {found}"
    head = data[:512]
    if all(byte in b"\t\n\r" or byte >= 32 for byte in head) and b"\x7f" not in head:
        return "it is a text file"
    return otherwise


def screen(proto: ModelProto, path: Path) -> None:
    """Refuse a network that demands more than the limits allow (see the module); external data are not needed yet.

    Raises:
        UsageError: one line with the path and what is too much.
    """
    try:
        _check_nodes(proto)
        _check_weights(proto, path)
        _check_loops(proto)
        _check_shapes(proto)
    except _Refused as error:
        raise UsageError(f"{path} is refused: {error}") from None


# --- walking


def _subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            yield from attribute.graphs


def _bodies(proto: ModelProto) -> Iterator[GraphProto | FunctionProto]:
    """Yield the graph, its functions, and every graph inside a node of these."""
    stack: list[tuple[GraphProto | FunctionProto, int]] = [(proto.graph, 0)]
    stack += [(function, 0) for function in proto.functions]
    while stack:
        body, depth = stack.pop()
        if depth > MAX_GRAPH_DEPTH:
            raise _Refused(f"graphs lie more than {MAX_GRAPH_DEPTH} deep in one another")
        yield body
        for node in body.node:
            stack += [(inner, depth + 1) for inner in _subgraphs(node)]


def _tensors(proto: ModelProto) -> Iterator[TensorProto]:
    for body in _bodies(proto):
        if isinstance(body, GraphProto):
            yield from body.initializer
            for sparse in body.sparse_initializer:
                yield sparse.values
                yield sparse.indices
        for node in body.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors
                sparse_tensors = list(attribute.sparse_tensors)
                if attribute.HasField("sparse_tensor"):
                    sparse_tensors.append(attribute.sparse_tensor)
                for sparse in sparse_tensors:
                    yield sparse.values
                    yield sparse.indices


# --- how many nodes


def _check_nodes(proto: ModelProto) -> None:
    functions = {(f.domain, f.name): f for f in proto.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size(nodes: Iterable[NodeProto], calls: tuple[tuple[str, str], ...], depth: int) -> int:
        if len(calls) > MAX_GRAPH_DEPTH * 4 or depth > MAX_GRAPH_DEPTH:
            raise _Refused(f"graphs or functions lie more than {MAX_GRAPH_DEPTH} deep in one another")
        total = 0
        for node in nodes:
            key = (node.domain, node.op_type)
            if key in calls:
                raise _Refused(f"its function {shorten(node.op_type)} calls itself")
            if key in functions and key not in sizes:
                sizes[key] = size(functions[key].node, (*calls, key), 0)
            total += sizes.get(key, 1)
            total += sum(size(graph.node, calls, depth + 1) for graph in _subgraphs(node))
            if total > MAX_NODES:
                raise _Refused(f"it has more than {MAX_NODES:,} nodes, functions and subgraphs included")
        return total

    size(proto.graph.node, (), 0)
    for key, function in functions.items():
        if key not in sizes:
            sizes[key] = size(function.node, (key,), 0)


# --- weights


def _check_weights(proto: ModelProto, path: Path) -> None:
    total = 0
    for tensor in _tensors(proto):
        name = shorten(tensor.name)
        if any(d < 0 for d in tensor.dims):
            raise _Refused(f"tensor {name} has shape {list(tensor.dims)}")
        count = math.prod(tensor.dims)
        declared = -(-count * _bits(tensor.data_type) // 8)
        total += declared
        if total > MAX_WEIGHT_BYTES:
            raise _Refused(
                f"its weights declare more than {readable_size(MAX_WEIGHT_BYTES)} (tensor {name}: "
                f"{readable_size(declared)})"
            )
        if tensor.data_location == TensorProto.EXTERNAL:
            _check_external(tensor, declared, path)
        elif not _is_filled(tensor, count, declared):
            raise _Refused(f"tensor {name} declares {readable_size(declared)}, but the file holds less of it")


def _bits(data_type: int) -> int:
    if data_type in _BITS:
        return _BITS[data_type]
    try:
        return 8 * int(onnx.helper.tensor_dtype_to_np_dtype(data_type).itemsize)
    except (KeyError, TypeError, ValueError):
        return 8  # strings, and types that this onnx does not know


def _is_filled(tensor: TensorProto, count: int, declared: int) -> bool:
    if tensor.raw_data:
        return len(tensor.raw_data) >= declared
    fields = (
        tensor.float_data,
        tensor.int32_data,
        tensor.int64_data,
        tensor.double_data,
        tensor.uint64_data,
        tensor.string_data,
    )
    # Numbers of fewer than 8 bits share an entry.
    share = 8 // _BITS.get(tensor.data_type, 8)
    return max(map(len, fields)) * share >= count


def _check_external(tensor: TensorProto, declared: int, path: Path) -> None:
    given = {entry.key: entry.value for entry in tensor.external_data}
    name, location = shorten(tensor.name), given.get("location", "")
    target = path.parent / location
    if not location:
        raise _Refused(f"tensor {name} keeps its data in another file, but names none")
    if "\0" in location or os.path.isabs(location) or not is_inside(target, path.parent):
        raise _Refused(
            f"tensor {name} keeps its data in {shorten(location, 200)}, outside the folder of the file; a network may "
            "only read files beside it"
        )
    try:
        size = check_file(target, MAX_WEIGHT_BYTES, "external data file")
    except UsageError as error:
        raise _Refused(f"tensor {name} keeps its data in another file: {error}; keep it beside the network") from None
    try:
        offset, length = int(given.get("offset") or 0), int(given.get("length") or declared)
    except ValueError:
        raise _Refused(f"tensor {name}: offset or length of its external data is not a number") from None
    if offset < 0 or length < declared or offset + length > size:
        raise _Refused(
            f"tensor {name} needs {readable_size(max(declared, length))} from byte {offset} of {target.name}, which "
            f"has {readable_size(size)}"
        )


# --- loops


def _constants(proto: ModelProto) -> dict[str, TensorProto]:
    """Return the small constants of all graphs by name; of several with one name the largest first value counts."""
    found: dict[str, TensorProto] = {}
    for body in _bodies(proto):
        tensors = [(t.name, t) for t in body.initializer] if isinstance(body, GraphProto) else []
        for node in body.node:
            if node.op_type == "Constant" and node.output:
                tensors += [(node.output[0], a.t) for a in node.attribute if a.HasField("t")]
                tensors += [
                    (node.output[0], onnx.helper.make_tensor("", TensorProto.INT64, [], [a.i]))
                    for a in node.attribute
                    if a.name == "value_int"
                ]
        for name, tensor in tensors:
            if math.prod(tensor.dims) == 1 and (name not in found or _number(tensor) > _number(found[name])):
                found[name] = tensor
    return found


def _number(tensor: TensorProto | None) -> float:
    if tensor is None or tensor.data_location == TensorProto.EXTERNAL:
        return math.inf
    try:
        return float(numpy_helper.to_array(tensor).reshape(-1)[0])
    except Exception:  # a damaged constant
        return math.inf


def _check_loops(proto: ModelProto) -> None:
    constants = _constants(proto)
    functions = {(f.domain, f.name): f for f in proto.functions}
    stack: list[tuple[Iterable[NodeProto], float]] = [(proto.graph.node, 1.0)]
    seen: dict[tuple[str, str], float] = {}
    while stack:
        nodes, steps = stack.pop()
        for node in nodes:
            inner = steps
            if node.op_type == "Loop" and node.domain in ("", "ai.onnx"):
                inner = steps * _steps(node, constants)
                if inner > MAX_LOOP_STEPS:
                    raise _Refused(
                        f"its loop {shorten(node.name or node.op_type)} does not say how often it runs, or more than "
                        f"{MAX_LOOP_STEPS:,} times; export the network without loops"
                    )
            key = (node.domain, node.op_type)
            if key in functions and seen.get(key, 0) < steps:
                seen[key] = steps
                stack.append((functions[key].node, steps))
            stack += [(graph.node, inner) for graph in _subgraphs(node)]


def _steps(node: NodeProto, constants: Mapping[str, TensorProto]) -> float:
    return max(_number(constants.get(node.input[0])), 1.0) if node.input and node.input[0] else math.inf


# --- sizes of what the graph makes


def _check_shapes(proto: ModelProto) -> None:
    """Infer the shapes of all tensors without their contents, and refuse one that is too large."""
    skeleton = ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import, functions=proto.functions)
    graph = skeleton.graph
    graph.node.extend(proto.graph.node)
    graph.input.extend(proto.graph.input)
    graph.output.extend(proto.graph.output)
    graph.value_info.extend(proto.graph.value_info)
    for tensor in proto.graph.initializer:
        # Shapes are made from small constants; of the others the shape is enough.
        small = tensor.ByteSize() <= _SMALL
        graph.initializer.append(
            tensor if small else TensorProto(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type)
        )
    # A graph with a mistake is named by ONNX Runtime; its own declarations are checked nevertheless.
    with contextlib.suppress(Exception):
        skeleton = onnx.shape_inference.infer_shapes(skeleton, data_prop=True)
    for body in _bodies(skeleton):
        if isinstance(body, GraphProto):
            for value in (*body.input, *body.output, *body.value_info):
                kind = value.type.tensor_type
                dims = [d.dim_value for d in kind.shape.dim if d.HasField("dim_value")]
                size = math.prod(max(d, 1) for d in dims) * _bits(kind.elem_type) // 8
                if size > MAX_TENSOR_BYTES:
                    raise _Refused(
                        f"value {shorten(value.name)} has shape {shorten(dims)}, {readable_size(size)}; at most "
                        f"{readable_size(MAX_TENSOR_BYTES)} are allowed"
                    )


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__)[:300]
