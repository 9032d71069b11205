"""The layer for CAMs: the last map of at least 7×7 that every path passes, against a search of all paths."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from faithface.errors import NotApplicable
from faithface.model import open_model
from faithface.model._torchvision import import_onnx2pytorch
from faithface.model.dominators import dominators
from faithface.tasks import ClassTarget
from tests.support.graphs import Graph, card_for
from tests.support.networks import export


def passed_by_all(graph: onnx.GraphProto, output: str) -> set[str]:
    """Return the tensors without which the output cannot be reached from the image: one search for each tensor."""

    def reaches(without: str) -> bool:
        seen = {"image"}
        for node in graph.node:
            if node.op_type != "Shape" and any(i in seen for i in node.input):
                seen |= {name for name in node.output if name != without}
        return output in seen

    return {name for node in graph.node for name in node.output if not reaches(name)}


def side_branch() -> onnx.ModelProto:
    """A residual block of stride 2 whose shortcut carries nearly all: 96×96, stem 12×12, block 6×6."""
    g = Graph(size=96, seed=1)
    red = np.zeros((2, 3, 8, 8), np.float32)
    red[0, 0], red[0, 1:] = 1 / 64, -0.5 / 64
    red[1] = 1 / 192
    x = g.op("Relu", g.op("Conv", g.x, g.const(red), strides=[8, 8]), out="stem")
    inner = g.op("Conv", x, g.const(np.float32([[0.02, 1], [0, 1]]).reshape(2, 2, 1, 1)))
    branch = g.op(
        "Conv", g.op("Relu", inner, out="inside"), g.const(np.full((2, 2, 3, 3), 0.01)), strides=[2, 2], pads=[1] * 4
    )
    short = g.op("Conv", x, g.const(np.float32([[4, 0], [0, 0]]).reshape(2, 2, 1, 1)), strides=[2, 2])
    y = g.op("Relu", g.op("Add", branch, short), out="block")
    flat = g.op("Flatten", g.op("GlobalAveragePool", y))
    return g.model(g.op("Gemm", flat, g.const([[0, 0], [40, 0.5]]), g.const([1.0, 0]), transB=1), units=2)


def test_no_layer_inside_one_branch_of_a_block(tmp_path: Path) -> None:
    model = open_model(card_for(side_branch(), tmp_path, kind="logits"))
    image = torch.full((1, 3, 96, 96), 0.6)
    image[0, :, 16:40, 56:80] = torch.tensor([0.86, 0.12, 0.12])[:, None, None]
    found = model.activations(image, ClassTarget(torch.tensor([1])))
    assert found.layer == "stem"
    cam = (found.values * found.gradients.mean(dim=(2, 3), keepdim=True)).sum(1).relu()[0]
    assert cam[2:5, 7:10].sum() / cam.sum() > 0.8


@pytest.mark.parametrize("seed", range(12))
def test_dominators_equal_a_search_of_all_paths(seed: int) -> None:
    rng = np.random.default_rng(seed)
    g = Graph()
    made = ["image"]
    for _ in range(14):
        recent = made[-4:]
        if rng.random() < 0.45 or len(recent) < 2:
            made.append(g.op("Relu", recent[int(rng.integers(len(recent)))]))
        else:
            a, b = rng.choice(len(recent), 2, replace=False)
            made.append(g.op("Add", recent[a], recent[b]))
    g.op("Reshape", made[-1], g.op("Shape", made[2]), out="end")
    graph = g.model("end").graph
    assert set(dominators(graph, "end")) == passed_by_all(graph, "end")


def test_a_path_through_a_shape_is_none() -> None:
    g = Graph()
    a = g.op("Relu", g.x, out="a")
    g.op("Reshape", g.op("Relu", a, out="b"), g.op("Shape", g.x), out="end")
    assert dominators(g.model("end").graph, "end") == ["a", "b", "end"]


def test_two_branches_from_the_image_have_no_such_layer(tmp_path: Path) -> None:
    g = Graph()
    a, b = (g.head(g.op("Tanh", g.conv(g.x, 3, 5)), 5) for _ in range(2))
    model = open_model(card_for(g.model(g.op("Add", a, b)), tmp_path))
    with pytest.raises(NotApplicable, match=r"no layer that every path .* explain.layer"):
        model.activations(torch.rand(1, 3, 16, 16))
    assert model.activations(torch.rand(1, 3, 16, 16), layer="tanh1_0").layer == "tanh1_0"


@pytest.mark.parametrize(
    ("name", "size", "layer"),
    [
        ("resnet18", 112, "/layer3/layer3.1/relu_1/Relu_output_0"),
        ("shufflenet_v2_x0_5", 112, "/stage3/stage3.7/Concat_output_0"),
    ],
)
def test_known_architectures_end_a_stage(name: str, size: int, layer: str, tmp_path: Path) -> None:
    import_onnx2pytorch()
    import torchvision

    torch.manual_seed(0)
    net = getattr(torchvision.models, name)(weights=None, num_classes=4).eval()
    path = export(net, (3, size, size), tmp_path / f"{name}.onnx")
    model = open_model(card_for(onnx.load(path), tmp_path, "net"))
    found = model.twin.find_layer(None)
    assert (found.name, found.grid) == (layer, (7, 7))
