"""Quantised networks: gradients are those of the float network that they were made from, and the record says whose."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

from faithface.errors import NotApplicable
from faithface.model import open_model
from faithface.model.prepare import Arithmetic
from faithface.model.quantised import quantising_operators
from tests.support.graphs import Graph, card_for
from tests.support.networks import faces

SIZE = 32


class Pixels(CalibrationDataReader):
    def __init__(self) -> None:
        # Smooth images, as those that are explained: what leaves the calibrated range has no gradient.
        self.batches = iter([{"image": (2 * image[None] - 1).numpy()} for image in smooth(24)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.batches, None)


def network() -> onnx.ModelProto:
    g = Graph(size=SIZE)
    x = g.op("Relu", g.conv(g.x, 3, 8, strides=[2, 2]))
    x = g.op("Add", x, g.op("Relu", g.conv(x, 8, 8)))
    x = g.op("Concat", x, g.op("MaxPool", x, kernel_shape=[3, 3], pads=[1] * 4), axis=1)
    x = g.op("Flatten", g.op("AveragePool", x, kernel_shape=[4, 4], strides=[4, 4]))
    x = g.op("MatMul", x, g.random(256, 8, scale=0.1))
    return g.model(g.op("Add", x, g.random(8, scale=0.1)), units=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network, and what onnxruntime.quantization makes of it."""
    made = tmp_path_factory.mktemp("quantised")
    logging.disable(logging.WARNING)
    source = str(made / "float.onnx")
    onnx.save(network(), source)
    quantize_dynamic(source, str(made / "dynamic.onnx"), weight_type=QuantType.QUInt8)
    for name, how, per_channel in (
        ("qdq", QuantFormat.QDQ, False),
        ("qdq-per-channel", QuantFormat.QDQ, True),
        ("operators", QuantFormat.QOperator, False),
        ("operators-per-channel", QuantFormat.QOperator, True),
    ):
        quantize_static(source, str(made / f"{name}.onnx"), Pixels(), quant_format=how, per_channel=per_channel)
    logging.disable(logging.NOTSET)
    return made


def opened(path: Path):
    return open_model(card_for(onnx.load(path), path.parent, path.stem))


def smooth(count: int) -> torch.Tensor:
    return torch.stack([torch.from_numpy(f.read()).permute(2, 0, 1) for f in faces(count, SIZE)])


class QuantizeLinear(OpRun):
    """The definition without its rounding: x / scale + zero point, saturated to the range of its integers."""

    def _run(self, x, scale, zero=None, **_):  # type: ignore[no-untyped-def, override]
        zero = np.zeros((), np.uint8) if zero is None else zero
        limits = np.iinfo(zero.dtype)
        return (np.clip(x / scale.astype(np.float64) + zero.astype(np.float64), limits.min, limits.max),)


class DequantizeLinear(OpRun):
    """(q − zero point) · scale, per tensor or along an axis; q need not be whole."""

    def _run(self, q, scale, zero=None, axis=1, **_):  # type: ignore[no-untyped-def, override]
        zero = np.zeros((), np.uint8) if zero is None else zero
        per = [1] * q.ndim
        if scale.size > 1:
            per[axis] = -1
            scale, zero = scale.reshape(per), zero.reshape(per)
        return ((q - zero.astype(np.float64)) * scale.astype(np.float64),)


@pytest.mark.parametrize("name", ["qdq", "qdq-per-channel"])
def test_gradients_are_the_slopes_of_the_dequantised_network(name: str, folder: Path) -> None:
    """By the definitions of the operators without their rounding, in float64, outside ONNX Runtime and torch.

    The bound is 1 %, as for float networks: the network that is explained is smooth but for its kinks. Differences of
    the file itself would need a bound that hides faults: its outputs are a staircase, so over a step that is small
    enough for the kinks they are 0 or a jump.
    """
    model = opened(folder / f"{name}.onnx")
    # With noise: in flat regions all values of a MaxPool are equal, and have no slope.
    images = (smooth(2) + 0.02 * torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))).double()
    images = images.clamp(0.05, 0.95)
    network = ReferenceEvaluator(onnx.load(folder / f"{name}.onnx"), new_ops=[QuantizeLinear, DequantizeLinear])
    rng = np.random.default_rng(4)
    mix = rng.standard_normal(8)
    gradient = model.vjp(images.float(), torch.from_numpy(np.tile(mix, (2, 1, 1))).float())[:, 0].double()
    directions = torch.from_numpy(rng.choice([-1.0, 1.0], (6, *images.shape[1:])))
    step = 1e-5
    errors = []
    for image, slope in zip(images, gradient, strict=True):
        ends = [(2 * (image + sign * step * directions) - 1).numpy() for sign in (1, -1)]
        up, down = (network.run(None, {"image": end})[0] @ mix for end in ends)
        rise = (up - down) / (2 * step)
        errors.append(np.abs((slope * directions).flatten(1).sum(1).numpy() - rise) / np.sqrt(np.mean(rise**2)))
    assert np.median(errors) <= 0.01, errors


@pytest.mark.parametrize("name", ["dynamic", "qdq", "qdq-per-channel", "operators", "operators-per-channel"])
def test_gradients_are_those_of_the_network_before_quantisation(name: str, folder: Path) -> None:
    model, original = opened(folder / f"{name}.onnx"), opened(folder / "float.onnx")
    images = smooth(3)
    # Whether it is the same network at all; how near quantisation comes to the original is its maker's affair.
    difference = (model.outputs(images) - original.outputs(images)).abs().max() / original.outputs(images).abs().max()
    assert difference < Arithmetic.QUANTISED.tolerance
    vectors = torch.from_numpy(np.random.default_rng(0).standard_normal((3, 2, 8))).float()
    got, expected = (m.vjp(images, vectors).flatten(2) for m in (model, original))
    cosines = torch.nn.functional.cosine_similarity(got, expected, dim=2)
    assert cosines.min() > 0.95, cosines  # weights of 8 bits; a twin that rounds gave 0.01
    sizes = got.norm(dim=2) / expected.norm(dim=2)
    assert ((sizes > 0.9) & (sizes < 1.1)).all()
    (note,) = [note for note in model.notes if "quantised" in note]
    assert "dequantised network (straight through)" in note
    assert model.comparison.gradient is not None
    assert model.comparison.gradient < 0.05


def test_a_float_network_has_no_such_note(folder: Path) -> None:
    model = opened(folder / "float.onnx")
    assert model.twin is not None
    assert model.notes == []
    assert quantising_operators(model.proto.graph) == []


def test_weights_alone_in_integers_have_the_gradients_of_the_same_real_weights(folder: Path, tmp_path: Path) -> None:
    """Weights are stored as integers and a scale; ONNX Runtime rounds the activations of such a MatMul on its own."""
    proto = onnx.load(folder / "float.onnx")
    (stored,) = [t for t in proto.graph.initializer if list(t.dims) == [256, 8]]
    weight, values = stored.name, onnx.numpy_helper.to_array(stored)
    scale = np.float32(np.abs(values).max() / 127)
    stored.CopyFrom(onnx.numpy_helper.from_array(np.round(values / scale).astype(np.int8), "integers"))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(scale, "scale"))
    for node in proto.graph.node:
        renamed = ["real" if name == weight else name for name in node.input]
        del node.input[:]
        node.input.extend(renamed)
    proto.graph.node.insert(0, helper.make_node("DequantizeLinear", ["integers", "scale"], ["real"]))
    model = open_model(card_for(proto, tmp_path))
    assert model.twin is not None
    assert model.parity < 2e-2
    (note,) = model.notes
    assert "quantised (DequantizeLinear)" in note


def test_an_operator_that_is_not_understood_is_named(tmp_path: Path) -> None:
    g = Graph()
    x = g.head(g.conv(g.x, 3, 6), 6)
    scale, zero = g.const(0.1), g.const(0, np.uint8)
    q = g.op("QuantizeLinear", x, scale, zero)
    q = g.op("Cast", g.op("BitShift", q, g.const(1, np.uint8), direction="RIGHT"), to=TensorProto.UINT8)
    model = open_model(card_for(g.model(g.op("DequantizeLinear", q, scale, zero)), tmp_path))
    assert torch.isfinite(model.outputs(torch.rand(1, 3, 16, 16))).all()
    with pytest.raises(NotApplicable, match=r"quantised: .*BitShift"):
        _ = model.twin


def test_a_relu_inside_a_quantiser_is_kept(tmp_path: Path) -> None:
    """The lowest integer stands for 0, so the quantiser clips at 0: gradient 0 below, 1 above."""
    g = Graph()
    scale, zero = g.const(0.05), g.const(0, np.uint8)
    x = g.op("DequantizeLinear", g.op("QuantizeLinear", g.conv(g.x, 3, 6), scale, zero), scale, zero)
    model = open_model(card_for(g.model(g.head(x, 6)), tmp_path))
    h = Graph()
    h.head(h.op("Relu", h.conv(h.x, 3, 6)), 6)
    # The same weights: the float network reads the quantised one's.
    for tensor, other in zip(list(h.weights), [w for w in g.weights if w.name not in (scale, zero)], strict=True):
        tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(other), tensor.name))
    original = open_model(card_for(h.model(h.nodes[-1].output[0]), tmp_path, "relu"))
    images, vectors = torch.rand(2, 3, 16, 16), torch.randn(2, 1, 4)
    assert torch.allclose(model.vjp(images, vectors), original.vjp(images, vectors), atol=1e-5)
