"""Mutations of files: of bytes, of text by its words, and of ONNX graphs by their parts.

Place in the flow: used by ``mutations``. Every function gets a generator and a content and returns another content.
"""

from __future__ import annotations

import numpy as np
import onnx

_ODD = (
    *(b"\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\x80"),
    *(b"\xff\xff\xff\x7f", b"\n", b"\xef\xbb\xbf"),
)
_WORDS = (
    *("nan", "inf", "-inf", "-1", "0", "1e999", "1e-320", "9" * 30, "9" * 5000, "true", "''", '""', "[]", "{}", "[[]]"),
    *("\n", "\r", ",", ",,,", ";", "\t", '"', "'", "=", "#", "[", "]", "[model]", "[suite]", "../../etc/passwd"),
    *("/dev/zero", "\\", "%s", "{0}", "张伟", "\u202e", "\x00", "x" * 3000, "[" * 3000, "a.b.c", "1.0", "same"),
    "~root",
)
_NUMBERS = (0, 1, -1, 2, 3, 7, 255, 4096, 10**6, 2**31 - 1, -(2**31), 2**62, -(2**63))


def mutate_bytes(rng: np.random.Generator, data: bytes) -> bytes:
    """Flip, overwrite, delete, insert, repeat, cut or exchange some bytes."""
    made = bytearray(data)
    at, size = int(rng.integers(len(made) + 1)), int(2 ** rng.integers(0, 7))
    match rng.integers(7):
        case 0:
            for place in rng.integers(0, max(len(made), 1), size=min(size, len(made))):
                made[place] ^= 1 << int(rng.integers(8))
        case 1:
            made[at : at + size] = rng.bytes(size)
        case 2:
            del made[at : at + size]
        case 3:
            made[at:at] = rng.bytes(size)
        case 4:
            made[at:at] = made[at : at + size] * int(rng.integers(1, 20))
        case 5:
            del made[at:]
        case _:
            odd = _ODD[int(rng.integers(len(_ODD)))]
            made[at : at + len(odd)] = odd
    return bytes(made)


def mutate_text(rng: np.random.Generator, data: bytes) -> bytes:
    """Exchange a word or line for an odd one, repeat or drop lines; sometimes as :func:`mutate_bytes`."""
    if rng.random() < 0.2:
        return mutate_bytes(rng, data)
    lines = data.decode("utf-8", "replace").split("\n")
    at, odd = int(rng.integers(len(lines))), _WORDS[int(rng.integers(len(_WORDS)))]
    match rng.integers(5):
        case 0:
            lines[at] = odd
        case 1:
            lines[at:at] = [lines[at]] * int(rng.integers(1, 30))
        case 2:
            del lines[at]
        case 3:
            place = int(rng.integers(len(lines[at]) + 1))
            lines[at] = lines[at][:place] + odd + lines[at][place:]
        case _:
            head, mark, _tail = lines[at].partition("=" if "=" in lines[at] else ",")
            lines[at] = f"{head}{mark} {odd}"
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def mutate_graph(rng: np.random.Generator, data: bytes) -> bytes:
    """Change a node, an attribute, a tensor, a port or the version of an ONNX graph."""
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except Exception:  # an earlier mutation
        return mutate_bytes(rng, data)
    graph = proto.graph
    number = _NUMBERS[int(rng.integers(len(_NUMBERS)))]
    node = graph.node[int(rng.integers(len(graph.node)))] if graph.node else None
    tensor = graph.initializer[int(rng.integers(len(graph.initializer)))] if graph.initializer else None
    match rng.integers(12):
        case 0 if node is not None:
            operators = ("Relu", "Conv", "Loop", "If", "Scan", "Reshape", "Softmax", "Gemm", "Resize", "Pad", "Nothing")
            node.op_type = operators[int(rng.integers(len(operators)))]
        case 1 if node is not None and node.attribute:
            attribute = node.attribute[int(rng.integers(len(node.attribute)))]
            attribute.i, attribute.f = number, float(number)
            for place in range(len(attribute.ints)):
                attribute.ints[place] = number
        case 2 if node is not None and node.input:
            names = [name for other in graph.node for name in other.output] or [""]
            node.input[int(rng.integers(len(node.input)))] = names[int(rng.integers(len(names)))]
        case 3 if node is not None:
            graph.node.remove(node)
        case 4 if node is not None:
            graph.node.append(node)
        case 5 if tensor is not None and tensor.dims:
            tensor.dims[int(rng.integers(len(tensor.dims)))] = number
        case 6 if tensor is not None:
            tensor.data_type = int(rng.integers(0, 30))
        case 7 if tensor is not None:
            tensor.raw_data = mutate_bytes(rng, tensor.raw_data)
        case 8 if tensor is not None:
            tensor.data_location = onnx.TensorProto.EXTERNAL
            places = ("../x", "/etc/passwd", "net.onnx", "", "\0", "a" * 5000, "nowhere")
            for key, value in (("location", places[int(rng.integers(len(places)))]), ("offset", str(number))):
                tensor.external_data.add(key=key, value=value)
        case 9:
            ports = [*graph.input, *graph.output]
            if ports:
                kind = ports[int(rng.integers(len(ports)))].type.tensor_type
                kind.shape.dim.add(dim_value=number)
        case 10 if proto.opset_import:
            proto.opset_import[0].version = number
        case _:
            graph.output[0].name = "nowhere" if graph.output and rng.random() < 0.5 else graph.output[0].name
            proto.ir_version = number
    return proto.SerializeToString()
