"""What an ``.onnx`` file may ask for: bounded loops, nodes and tensors, and only files beside it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from faithface import limits
from faithface.errors import UsageError
from faithface.model.screen import read_proto
from tests.soak.seeds import networks

POOL = [helper.make_node("GlobalAveragePool", ["x"], ["p"]), helper.make_node("Flatten", ["p"], ["q"])]


def save(path: Path, nodes: Sequence[Any], weights: Sequence[TensorProto] = (), functions: Sequence[Any] = ()) -> Path:
    graph = helper.make_graph(
        [*POOL, *nodes],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 32, 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        list(weights),
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    path.write_bytes(
        helper.make_model(graph, opset_imports=opsets, functions=list(functions), ir_version=9).SerializeToString()
    )
    return path


def body(*inner: Any) -> onnx.GraphProto:
    """A loop's body that doubles its value."""
    return helper.make_graph(
        [
            helper.make_node("Identity", ["c"], ["c2"]),
            *(inner or [helper.make_node("Add", ["v", "v"], ["v2"])]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("c2", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v2", TensorProto.FLOAT, None),
        ],
    )


TRUE = helper.make_tensor("true", TensorProto.BOOL, [], [1])


def steps(name: str, count: int) -> TensorProto:
    return helper.make_tensor(name, TensorProto.INT64, [], [count])


def loop(count: str, inner: onnx.GraphProto, value: str = "q", out: str = "y") -> Any:
    return helper.make_node("Loop", [count, "true", value], [out], body=inner)


def test_a_sound_network_is_what_onnx_loads(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(networks()["net.onnx"])
    assert read_proto(path) == onnx.load(str(path))


# --- loops


def test_a_loop_runs_as_often_as_the_file_says_and_not_more(tmp_path: Path) -> None:
    read_proto(save(tmp_path / "a.onnx", [loop("m", body())], [TRUE, steps("m", limits.MAX_LOOP_STEPS)]))
    constant = helper.make_node("Constant", [], ["m"], value=steps("", 5))
    read_proto(save(tmp_path / "b.onnx", [constant, loop("m", body())], [TRUE]))
    for name, weights in (("", [TRUE]), ("m", [TRUE, steps("m", limits.MAX_LOOP_STEPS + 1)]), ("p", [TRUE])):
        with pytest.raises(UsageError, match="loop 'Loop' does not say how often it runs"):
            read_proto(save(tmp_path / "c.onnx", [loop(name, body())], weights))


def test_nested_loops_and_loops_in_functions_are_multiplied(tmp_path: Path) -> None:
    weights = [TRUE, steps("m", 101), steps("k", 99)]
    inner = body(loop("k", body(), "v", "v2"))
    read_proto(save(tmp_path / "a.onnx", [loop("k", inner)], weights))  # 99 · 99 = 9,801
    with pytest.raises(UsageError, match="more than 10,000 times"):
        read_proto(save(tmp_path / "b.onnx", [loop("m", inner)], [TRUE, steps("m", 102), steps("k", 99)]))
    function = helper.make_function(
        "own",
        "F",
        ["q"],
        ["y"],
        [helper.make_node("Loop", ["", "", "q"], ["y"], body=body())],
        [helper.make_opsetid("", 17)],
    )
    with pytest.raises(UsageError, match="how often"):
        read_proto(save(tmp_path / "c.onnx", [helper.make_node("F", ["q"], ["y"], domain="own")], [], [function]))


# --- nodes


def chain(count: int) -> list[Any]:
    names = ["q", *(f"t{i}" for i in range(count - 1)), "y"]
    return [helper.make_node("Identity", [names[i]], [names[i + 1]]) for i in range(count)]


def test_as_many_nodes_as_allowed_and_one_more(tmp_path: Path) -> None:
    read_proto(save(tmp_path / "a.onnx", chain(limits.MAX_NODES - 2)))
    with pytest.raises(UsageError, match="more than 20,000 nodes"):
        read_proto(save(tmp_path / "b.onnx", chain(limits.MAX_NODES - 1)))


def test_functions_that_call_functions_are_counted_as_they_unfold(tmp_path: Path) -> None:
    functions = []
    for i in range(20):
        inner, domain = ("Relu", "") if i == 19 else (f"F{i + 1}", "own")
        twice = [helper.make_node(inner, [a], [b], domain=domain) for a, b in (("a", "b"), ("b", "c"))]
        functions.append(helper.make_function("own", f"F{i}", ["a"], ["c"], twice, [helper.make_opsetid("own", 1)]))
    call = [helper.make_node("F0", ["q"], ["y"], domain="own")]
    with pytest.raises(UsageError, match="more than 20,000 nodes"):  # 2^20 of them, from 40 in the file
        read_proto(save(tmp_path / "a.onnx", call, [], functions))
    functions[19].node[0].op_type, functions[19].node[0].domain = "F0", "own"
    with pytest.raises(UsageError, match="calls itself"):
        read_proto(save(tmp_path / "b.onnx", call, [], functions))


def test_graphs_within_graphs_have_a_depth(tmp_path: Path) -> None:
    def nested(depth: int) -> onnx.GraphProto:
        return body(loop("k", nested(depth - 1), "v", "v2")) if depth else body()

    weights = [TRUE, steps("k", 1)]
    read_proto(save(tmp_path / "a.onnx", [loop("k", nested(limits.MAX_GRAPH_DEPTH - 1))], weights))
    with pytest.raises(UsageError, match="more than 8 deep"):
        read_proto(save(tmp_path / "b.onnx", [loop("k", nested(limits.MAX_GRAPH_DEPTH))], weights))


# --- tensors


def test_weights_that_are_declared_and_not_there(tmp_path: Path) -> None:
    use = [helper.make_node("MatMul", ["q", "w"], ["y"])]
    huge = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[100_000, 250_000])
    with pytest.raises(UsageError, match=r"tensor 'w': 93.1 GiB"):
        read_proto(save(tmp_path / "a.onnx", use, [huge]))
    short = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3, 10], raw_data=bytes(119))
    with pytest.raises(UsageError, match="'w' declares 120 bytes, but the file holds less"):
        read_proto(save(tmp_path / "b.onnx", use, [short]))
    for values in (np.zeros((3, 10), dtype=np.float32), np.zeros((3, 10), dtype=np.float16), np.zeros((3, 0))):
        read_proto(save(tmp_path / "c.onnx", use, [onnx.numpy_helper.from_array(values, "w")]))
    typed = helper.make_tensor("w", TensorProto.FLOAT16, [3, 10], np.zeros(30))  # in int32_data
    read_proto(save(tmp_path / "d.onnx", use, [typed]))


@pytest.mark.parametrize(
    ("node", "constant"),
    [
        (helper.make_node("ConstantOfShape", ["s"], ["y"]), np.array([100_000, 250_000])),
        (helper.make_node("Expand", ["q", "s"], ["y"]), np.array([10**6, 10**6, 3])),
        (helper.make_node("Tile", ["x", "s"], ["y"]), np.array([1, 1, 10**5, 10**4])),
        (helper.make_node("Pad", ["x", "s"], ["y"]), np.array([0, 0, 10**5, 10**5, 0, 0, 0, 0])),
        (helper.make_node("Resize", ["x", "", "", "s"], ["y"]), np.array([1, 3, 10**6, 10**6])),
        (helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[1, 1], pads=[60_000] * 4), np.array([0])),
    ],
    ids=lambda value: getattr(value, "op_type", ""),
)
def test_tensors_that_the_graph_would_make(tmp_path: Path, node: Any, constant: np.ndarray) -> None:
    weights = [onnx.numpy_helper.from_array(constant.astype(np.int64), "s")]
    with pytest.raises(UsageError, match=r"'y' has shape .*at most 4 GiB"):
        read_proto(save(tmp_path / "a.onnx", [node], weights))


# --- other files


def external(location: str, **more: str) -> TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3, 10], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


USE = [helper.make_node("MatMul", ["q", "w"], ["y"])]


def test_external_data_beside_the_file_are_read(tmp_path: Path) -> None:
    values = np.arange(30, dtype=np.float32)
    (tmp_path / "w.data").write_bytes(bytes(8) + values.tobytes())
    proto = read_proto(save(tmp_path / "a.onnx", USE, [external("w.data", offset="8", length="120")]))
    assert np.array_equal(onnx.numpy_helper.to_array(proto.graph.initializer[0]).ravel(), values)


@pytest.mark.parametrize("location", ["../secret", "{folder}/secret", "link", "sub/../../secret"])
def test_external_data_elsewhere_are_named_and_not_read(tmp_path: Path, location: str) -> None:
    home = tmp_path / "home"
    (home / "sub").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(bytes(120))
    (home / "link").symlink_to(tmp_path / "secret")
    path = save(home / "a.onnx", USE, [external(location.format(folder=tmp_path))])
    with pytest.raises(UsageError, match=r"a.onnx is refused: tensor 'w' keeps its data in .*, outside the folder"):
        read_proto(path)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"offset": "8"}, "from byte 8 of w.data, which has 120 bytes"),
        ({"length": "100"}, "needs 120 bytes"),
        ({"length": "9" * 30}, "which has 120 bytes"),
        ({"offset": "-1"}, "from byte -1"),
        ({"offset": "x"}, "not a number"),
    ],
)
def test_external_data_that_are_too_short(tmp_path: Path, more: dict[str, str], words: str) -> None:
    (tmp_path / "w.data").write_bytes(bytes(120))
    with pytest.raises(UsageError, match=words):
        read_proto(save(tmp_path / "a.onnx", USE, [external("w.data", **more)]))


def test_external_data_that_are_not_there_or_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a.onnx is refused: .*w.data: no such external data file"):
        read_proto(save(tmp_path / "a.onnx", USE, [external("w.data")]))
    os.mkfifo(tmp_path / "w.data")
    with pytest.raises(UsageError, match="a named pipe"):
        read_proto(save(tmp_path / "a.onnx", USE, [external("w.data")]))


# --- what is no ONNX file


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"root:x:0:0:root:/root:/bin/sh\n", "it is a text file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"PK\x03\x04\0\0\0", "PyTorch checkpoint"),
        (b"\x1c\0\0\0TFL3", "TensorFlow Lite"),
        (b"\x89HDF\r\n", "Keras"),
        (b"\x08\x09", "it holds no graph"),
    ],
)
def test_a_file_that_is_something_else_is_named_for_it(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(UsageError, match=rf"net\.onnx is not an ONNX file: .*{words}"):
        read_proto(tmp_path / "net.onnx")


def test_a_system_file_under_a_network_s_name(tmp_path: Path) -> None:
    shutil.copy("/etc/passwd", tmp_path / "net.onnx")
    with pytest.raises(UsageError, match="it is a text file"):
        read_proto(tmp_path / "net.onnx")
