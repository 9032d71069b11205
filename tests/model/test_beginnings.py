"""A graph that normalises its images itself is read, so that a drafted card does not do it once more."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from faithface.card import load_card
from faithface.model import open_model
from faithface.model.beginnings import leading_scaling
from faithface.model.inspect import inspect_model
from tests.support.graphs import Graph, card_for

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def channels(values: object) -> np.ndarray:
    return np.asarray(values, np.float32).reshape(1, -1, 1, 1)


def imagenet(g: Graph, x: str, top: float = 1.0) -> str:
    x = g.op("Div", x, g.const(top)) if top != 1 else x
    return str(g.op("Div", g.op("Sub", x, g.const(channels(IMAGENET[0]))), g.const(channels(IMAGENET[1]))))


def batch_norm(g: Graph, x: str) -> str:
    """What some face networks begin with: (x − 127.5) / 128, as a BatchNormalization."""
    parts = ([1.0] * 3, [0.0] * 3, [127.5] * 3, [128.0**2] * 3)
    return str(g.op("BatchNormalization", x, *(g.const(part) for part in parts), epsilon=0.0))


def turned(g: Graph, x: str, kind: str = "Gather") -> str:
    """The channels in the other order, as a network in OpenCV's order does it."""
    if kind == "Gather":
        return str(g.op("Gather", x, g.const([2, 1, 0], np.int64), axis=1))
    return str(g.op("Slice", x, *(g.const([v], np.int64) for v in (-1, -10, 1, -1))))


BEGINS: dict[str, tuple[Callable[[Graph, str], str], float | None]] = {
    "x / 127.5 - 1": (lambda g, x: g.op("Sub", g.op("Div", x, g.const(127.5)), g.const(1.0)), 255),
    "(x - 127.5) * 0.0078125": (lambda g, x: g.op("Mul", g.op("Sub", x, g.const(127.5)), g.const(1 / 128)), 255),
    "x / 255": (lambda g, x: g.op("Div", x, g.const(255.0)), 255),
    "batch normalisation": (batch_norm, 255),
    "ImageNet, 0..255": (lambda g, x: imagenet(g, x, 255.0), 255),
    "ImageNet, 0..1": (imagenet, 1),
    "2x - 1": (lambda g, x: g.op("Add", g.op("Mul", g.const(2.0), x), g.const(-1.0)), 1),
    "1 - x": (lambda g, x: g.op("Sub", g.const(1.0), x), 1),
    "RGB turned to BGR, then x / 127.5 - 1": (
        lambda g, x: g.op("Sub", g.op("Div", turned(g, x), g.const(127.5)), g.const(1.0)),
        255,
    ),
    "ImageNet's, then turned": (lambda g, x: turned(g, imagenet(g, x, 255.0)), 255),
    "turned by a slice, then ImageNet's": (lambda g, x: imagenet(g, turned(g, x, "Slice"), 255.0), 255),
    "hardly anything": (lambda g, x: g.op("Mul", x, g.const(128 / 127.5)), None),  # the shift is made outside
    "turned only": (lambda g, x: turned(g, x), None),
    "nothing": (lambda g, x: x, None),
    "a convolution first": (lambda g, x: g.op("Mul", g.conv(x, 3, 3), g.const(0.5)), None),
}


def network(begin: str, layout: str = "NCHW") -> onnx.ModelProto:
    g = Graph(layout=layout)
    x = g.op("Transpose", g.x, perm=[0, 3, 1, 2]) if layout == "NHWC" else g.x
    x = BEGINS[begin][0](g, x)
    return g.model(g.head(g.op("Tanh", g.conv(x, 3, 6)), 6, units=32), units=32)


@pytest.mark.parametrize("begin", BEGINS)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_a_drafted_card_gives_the_network_what_it_is_made_for(begin: str, layout: str, tmp_path: Path) -> None:
    onnx.save(network(begin, layout), tmp_path / "net.onnx")
    draft = inspect_model(tmp_path / "net.onnx").draft
    top = BEGINS[begin][1]
    given = tomllib.loads(draft)["input"]
    assert ("turns the channels round" in draft) is ("turned" in begin)
    if top is None:
        assert (given["mean"], given["std"]) == ([0.5], [0.5])  # the usual guess
        return
    (tmp_path / "net.toml").write_text(draft)
    model = open_model(load_card(tmp_path / "net.toml"))
    import torch

    pixels = np.random.default_rng(0).random((2, 3, 16, 16), dtype=np.float32)
    raw = pixels * top if layout == "NCHW" else (pixels * top).transpose(0, 2, 3, 1)
    session = ort.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"image": np.ascontiguousarray(raw)})
    np.testing.assert_allclose(model.outputs(torch.from_numpy(pixels)), expected, atol=2e-5)
    assert f"it takes 0..{top:g} and normalises itself" in draft


def test_scale_and_shift_are_those_of_the_whole_chain() -> None:
    found = leading_scaling(network("ImageNet, 0..255").graph)
    assert found is not None
    np.testing.assert_allclose(found.scale, [1 / (255 * s) for s in IMAGENET[1]], rtol=1e-5)
    np.testing.assert_allclose(found.shift, [-m / s for m, s in zip(*IMAGENET, strict=True)], rtol=1e-5)


def test_scale_and_shift_are_in_the_order_of_the_input() -> None:
    """Behind a turn the graph's numbers belong to the other channels; before it to their own."""
    turn_first = leading_scaling(network("turned by a slice, then ImageNet's").graph)
    turn_last = leading_scaling(network("ImageNet's, then turned").graph)
    assert turn_first is not None
    assert turn_last is not None
    np.testing.assert_allclose(turn_first.scale, [1 / (255 * s) for s in IMAGENET[1][::-1]], rtol=1e-5)
    np.testing.assert_allclose(turn_last.scale, [1 / (255 * s) for s in IMAGENET[1]], rtol=1e-5)
    np.testing.assert_allclose(turn_last.shift, [-m / s for m, s in zip(*IMAGENET, strict=True)], rtol=1e-5)


@pytest.mark.parametrize(("begin", "fits", "differs"), [("x / 127.5 - 1", 1 / 255, 0.5), ("2x - 1", 1.0, 1 / 255)])
def test_a_card_that_normalises_once_more_is_told(begin: str, fits: float, differs: float, tmp_path: Path) -> None:
    def notes(std: float) -> list[str]:
        card = card_for(network(begin), tmp_path, kind="embedding")
        inputs = card.input.model_copy(update={"mean": (0.0,), "std": (std,)})
        return open_model(card.model_copy(update={"input": inputs})).notes

    assert not [note for note in notes(fits) if "normalises itself" in note]
    (note,) = (note for note in notes(differs) if "normalises itself" in note)
    assert "check mean and std" in note
