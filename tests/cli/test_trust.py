"""Commands on files that may come from anybody: limits on inspecting, and what ``datasets`` says."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from faithface import guarded
from faithface.errors import RunError, UsageError
from tests.soak.seeds import CARD, prepare


def network(path: Path, nodes: list[onnx.NodeProto], weights: list[TensorProto]) -> Path:
    """Write a network of 24×24 images with two logits, behind nodes that make ``r`` from ``x``."""
    head = [
        helper.make_node("GlobalAveragePool", ["x"], ["p"]),
        helper.make_node("Flatten", ["p"], ["q"]),
        helper.make_node("Gemm", ["q", "w"], ["f"]),
        helper.make_node("Add", ["f", "r"], ["y"]),
    ]
    graph = helper.make_graph(
        [*nodes, *head],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 24, 24])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [*weights, onnx.numpy_helper.from_array(np.ones((3, 2), dtype=np.float32), "w")],
    )
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
    )
    (path.parent / "card.toml").write_text(CARD)
    return path.parent / "card.toml"


def test_memory_that_only_the_run_of_a_network_asks_for_ends_the_child_and_not_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The shape is computed from the input's values: no look at the file can know it. 12 · 10^9 bytes.
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0),
        helper.make_node("Ceil", ["m"], ["one"]),
        helper.make_node("Cast", ["one"], ["i"], to=TensorProto.INT64),
        helper.make_node("Mul", ["i", "k"], ["s"]),
        helper.make_node("ConstantOfShape", ["s"], ["z"]),
        helper.make_node("ReduceMax", ["z"], ["r"], keepdims=0),
    ]
    card = network(tmp_path / "net.onnx", nodes, [onnx.numpy_helper.from_array(np.array([3 * 10**9]), "k")])
    with pytest.raises(
        UsageError,
        match=r"card.toml is refused: computing it took more than 2 GiB of memory",
    ):
        guarded.inspect_guarded(card)


def test_time_that_a_network_takes_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # 10,000 products of 768×768 matrices: a number of steps that is allowed, and minutes of work.
    step = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("MatMul", ["v", "v"], ["v2"])],
        "step",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, [768, 768]),
        ],
        [
            helper.make_tensor_value_info("c2", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v2", TensorProto.FLOAT, [768, 768]),
        ],
    )
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0),
        helper.make_node("Expand", ["m", "size"], ["v0"]),
        helper.make_node("Loop", ["steps", "true", "v0"], ["v1"], body=step),
        helper.make_node("ReduceMax", ["v1"], ["r"], keepdims=0),
    ]
    weights = [
        onnx.numpy_helper.from_array(np.array([768, 768]), "size"),
        onnx.numpy_helper.from_array(np.array(10_000), "steps"),
        onnx.numpy_helper.from_array(np.array(True), "true"),
    ]
    monkeypatch.setattr(guarded, "INSPECT_SECONDS", 1)
    with pytest.raises(UsageError, match=r"card.toml is refused: computing it took more than 1 s of processor time"):
        guarded.inspect_guarded(network(tmp_path / "net.onnx", nodes, weights))


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        (-signal.SIGKILL, UsageError, "more than 15 s of processor time or 2 GiB of memory"),
        (-signal.SIGSEGV, RunError, "ended the process .signal SIGSEGV"),
        (3, RunError, "ended the process .exit code 3"),
    ],
)
def test_how_the_child_ended_is_told(code: int, error: type[Exception], words: str) -> None:
    found = guarded._ended(Path("net.onnx"), code, 15, 2 << 30)
    assert type(found) is error
    assert re.search(words, str(found))


def test_inspect_says_the_same_through_the_child(faithface: Callable, tmp_path: Path) -> None:
    from faithface.model.inspect import inspect_model

    prepare(tmp_path)
    here = inspect_model(tmp_path / "card.toml")
    assert faithface("inspect", str(tmp_path / "card.toml")).out.strip() == here.text()
    said = json.loads(faithface("inspect", str(tmp_path / "card.toml"), "--json").out)
    assert said == json.loads(json.dumps(here.as_dict()))
    said = faithface("inspect", str(tmp_path / "nowhere.toml"))
    assert said.code == 2
    assert "no such model card" in said.error


def test_a_network_outside_its_card_s_folder_by_every_command(faithface: Callable, tmp_path: Path) -> None:
    prepare(tmp_path)
    (tmp_path / "cards").mkdir()
    card = tmp_path / "cards" / "c.toml"
    card.write_text(CARD.replace("net.onnx", "../net.onnx"))
    folder = tmp_path / "faces"
    for label in ("bona-fide", "attack"):
        (folder / label).mkdir(parents=True)
        Image.open(tmp_path / "a.png").save(folder / label / "a.png")
    metric = ("--dataset", f"folder:{folder}(aligned=false)", "--metric", "sparseness@1", "--out", str(tmp_path / "r"))
    for command in (
        ("inspect", str(card)),
        (
            "explain",
            str(tmp_path / "a.png"),
            "--model",
            str(card),
            "--explainer",
            "random",
            "-o",
            str(tmp_path / "f.png"),
        ),
        ("run", "--model", str(card), "--explainer", "random", *metric),
    ):
        said = faithface(*command)
        assert said.code == 2
        assert "outside the card's folder" in said.error
        assert faithface(*command, "--allow-outside").code == 0


# --- datasets before a run


def test_a_described_dataset_is_counted_and_its_notes_are_lines(faithface: Callable, tmp_path: Path) -> None:
    prepare(tmp_path)
    (tmp_path / "p.csv").write_text("image_a,image_b,same\na.png,b.png,1\nb.png,a.png,1\na.png,x.png,0\n")
    said = faithface("datasets", f"pairs:{tmp_path}/p.csv")
    assert said.code == 0
    lines = said.out.splitlines()
    assert any(line.split() == ["samples", "3"] for line in lines)
    assert any(line.split(maxsplit=1) == ["kinds", "genuine=2, impostor=1"] for line in lines)
    assert [line.split()[1] for line in lines if line.startswith("notes")] == ["1", "1"]
    as_json = json.loads(faithface("datasets", f"pairs:{tmp_path}/p.csv", "--json").out)
    assert as_json["kinds"] == {"genuine": 2, "impostor": 1}
    assert len(as_json["notes"]) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image_a,image_b,same\na.png,b.png,perhaps\n", "expected 1 or 0"),
        ("image_a,image_b,same\n", "no pairs"),
        ("image_a,image_b,same\nx.png,y.png,1\n", "none of its 2 images"),
        ("image_a,image_b,same\nbad.png,bad2.png,1\n", "can be read"),
        ("image_a,image_b,same\n/etc/passwd,a.png,1\n", "outside"),
        ("image_a,image_b,same\na.png,b.png,1\na.png,b.png,1\n", "repeats line 2"),
    ],
)
def test_what_a_run_refuses_is_refused_before_it(faithface: Callable, tmp_path: Path, text: str, words: str) -> None:
    prepare(tmp_path)
    (tmp_path / "bad.png").write_bytes(b"x")
    (tmp_path / "bad2.png").write_bytes(b"x")
    (tmp_path / "p.csv").write_text(text)
    said = faithface("datasets", f"pairs:{tmp_path}/p.csv")
    assert said.code == 2
    assert words in said.error


def test_a_run_tells_what_its_dataset_has_to_tell(faithface: Callable, tmp_path: Path) -> None:
    prepare(tmp_path)
    (tmp_path / "faces" / "attack").mkdir(parents=True)
    Image.open(tmp_path / "a.png").save(tmp_path / "faces" / "attack" / "a.png")
    (tmp_path / "faces" / "attack" / "b.tif").write_bytes(b"x")
    said = faithface(
        *("run", "--model", str(tmp_path / "card.toml"), "--dataset", f"folder:{tmp_path}/faces(aligned=false)"),
        *(
            "--explainer",
            "random",
            "--metric",
            "sparseness@1",
            "--metric",
            "gap@1(points=3)",
            "--out",
            str(tmp_path / "r"),
        ),
    )
    assert said.code == 0, said.err  # one class is enough for these
    assert "not read: 1 .tif" in said.err
    assert "only one class, attack" in said.err
