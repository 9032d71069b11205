"""A hundred odd networks: each is either right, in outputs and gradients, or not applicable for the right reason.

The oracle is ONNX Runtime on the file as it is: outputs on smooth images, and central differences of them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper

from faithface.errors import NotApplicable
from faithface.model import open_model
from faithface.model.twin import preprocess
from tests.support.graphs import Graph, card_for
from tests.support.networks import faces

Maker = Callable[[], onnx.ModelProto]
SWEEP: dict[str, Maker] = {}
# Why a network of the sweep may have no twin, as its message must say; all others must have one.
REFUSED: dict[str, str] = {}


def around(name: str, middle: Callable[[Graph, str], str], channels: int = 6, opset: int = 17) -> None:
    """Add a network: a convolution, the operators under test on its 6×16×16 map, another convolution, a head."""

    def make() -> onnx.ModelProto:
        g = Graph(opset=opset, seed=len(name))
        x = middle(g, g.conv(g.x, 3, 6))
        return g.model(g.head(g.op("Tanh", g.conv(x, channels, 5)), 5))

    SWEEP[name] = make


# --- activations and arithmetic
for kind in (
    "Relu",
    "Elu",
    "Selu",
    "Celu",
    "Sigmoid",
    "Tanh",
    "Softplus",
    "Softsign",
    "HardSigmoid",
    "HardSwish",
    "Erf",
):
    around(kind, lambda g, x, kind=kind: g.op(kind, x))
for kind in ("Abs", "Neg", "Exp", "Sin", "Cos", "Identity", "LeakyRelu"):
    around(kind, lambda g, x, kind=kind: g.op(kind, x))
around("Mish", lambda g, x: g.op("Mish", x), opset=18)
around("Gelu", lambda g, x: g.op("Gelu", x), opset=20)
around("Gelu tanh", lambda g, x: g.op("Gelu", x, approximate="tanh"), opset=20)
around("ThresholdedRelu", lambda g, x: g.op("ThresholdedRelu", x, alpha=0.0))  # elsewhere it jumps
around("PRelu", lambda g, x: g.op("PRelu", x, g.random(6, 1, 1)))
around("LeakyRelu 0.3", lambda g, x: g.op("LeakyRelu", x, alpha=0.3))
around("HardSigmoid of its own", lambda g, x: g.op("HardSigmoid", x, alpha=0.3, beta=0.4))
around("Clip", lambda g, x: g.op("Clip", x, g.const(-0.5), g.const(0.7)))
around("Clip from below", lambda g, x: g.op("Clip", x, g.const(-0.2)))
around("Clip, opset 9", lambda g, x: g.op("Clip", x, min=-0.3, max=0.9), opset=9)
around("Sqrt", lambda g, x: g.op("Sqrt", g.op("Add", g.op("Mul", x, x), g.const(0.1))))
around("Reciprocal", lambda g, x: g.op("Reciprocal", g.op("Add", g.op("Abs", x), g.const(0.5))))
around("Pow", lambda g, x: g.op("Pow", x, g.const(2.0)))
around("Log", lambda g, x: g.op("Log", g.op("Add", g.op("Exp", x), g.const(1.0))))
around("Min and Max", lambda g, x: g.op("Min", g.op("Max", x, g.random(1, 6, 1, 1)), g.const(0.8)))
around("Sum and Mean", lambda g, x: g.op("Sum", g.op("Mean", x, g.op("Tanh", x)), x))
around("Where", lambda g, x: g.op("Where", g.op("Greater", x, g.const(0.1)), x, g.op("Tanh", x)))
around("Sign", lambda g, x: g.op("Mul", x, g.op("Sign", x)))
around("swish", lambda g, x: g.op("Mul", x, g.op("Sigmoid", x)))
around("Dropout", lambda g, x: g.op("Dropout", x))

# --- convolutions and pooling
around("same upper", lambda g, x: g.conv(x, 6, 6, auto_pad="SAME_UPPER", strides=[2, 2]))
around("same lower", lambda g, x: g.conv(x, 6, 6, k=4, auto_pad="SAME_LOWER", strides=[2, 2]))
around("valid", lambda g, x: g.conv(x, 6, 6, auto_pad="VALID"))
around("uneven pads", lambda g, x: g.conv(x, 6, 6, pads=[0, 1, 2, 1]))
around("dilated", lambda g, x: g.conv(x, 6, 6, dilations=[2, 2], pads=[2] * 4))
around("depthwise", lambda g, x: g.conv(x, 6, 6, group=6))
around("grouped without bias", lambda g, x: g.conv(x, 6, 6, group=3, bias=False))
around(
    "ConvTranspose",
    lambda g, x: g.op("ConvTranspose", x, g.random(6, 6, 3, 3, scale=0.2), strides=[2, 2], output_padding=[1, 1]),
)
around("weights by a Constant", lambda g, x: _constant_conv(g, x))
around("weights that are computed", lambda g, x: g.op("Conv", x, g.op("Tanh", g.random(6, 6, 3, 3)), pads=[1] * 4))
around("MaxPool", lambda g, x: g.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4))
around("MaxPool rounded up", lambda g, x: g.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1))
around("MaxPool same", lambda g, x: g.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"))
for included in (0, 1):
    around(
        f"AveragePool include pad {included}",
        lambda g, x, i=included: g.op("AveragePool", x, kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=i),
    )
around("AveragePool same", lambda g, x: g.op("AveragePool", x, kernel_shape=[2, 2], auto_pad="SAME_UPPER"))
around(
    "AveragePool rounded up",
    lambda g, x: g.op("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
)
around("LpPool", lambda g, x: g.op("LpPool", x, kernel_shape=[2, 2], strides=[2, 2], p=2))
around("GlobalMaxPool", lambda g, x: g.op("Mul", x, g.op("GlobalMaxPool", x)))
around(
    "squeeze and excite", lambda g, x: g.op("Mul", x, g.op("Sigmoid", g.conv(g.op("GlobalAveragePool", x), 6, 6, k=1)))
)

# --- normalisation
around("BatchNormalization", lambda g, x: _batch_norm(g, x))
around("BatchNormalization, opset 9", lambda g, x: _batch_norm(g, x), opset=9)
around("InstanceNormalization", lambda g, x: g.op("InstanceNormalization", x, g.random(6), g.random(6)))
around(
    "GroupNormalization", lambda g, x: g.op("GroupNormalization", x, g.random(6), g.random(6), num_groups=3), opset=21
)
around("LayerNormalization", lambda g, x: g.op("LayerNormalization", x, g.random(16), g.random(16), axis=-1))
around("LRN", lambda g, x: g.op("LRN", x, size=3, alpha=0.1))
around("LpNormalization", lambda g, x: g.op("LpNormalization", x, axis=1, p=2))
around("MeanVarianceNormalization", lambda g, x: g.op("MeanVarianceNormalization", x, axes=[2, 3]))
around("layer norm by parts", lambda g, x: _layer_norm(g, x))

# --- shapes and layouts
around("NHWC inside", lambda g, x: _there_and_back(g, x))
around("channel shuffle", lambda g, x: _shuffle(g, x))
around("DepthToSpace", lambda g, x: g.op("DepthToSpace", g.conv(x, 6, 24), blocksize=2))
around("DepthToSpace CRD", lambda g, x: g.op("DepthToSpace", g.conv(x, 6, 24), blocksize=2, mode="CRD"))
around("SpaceToDepth", lambda g, x: g.op("SpaceToDepth", x, blocksize=2), channels=24)
for mode in ("constant", "reflect", "edge"):
    around(f"Pad {mode}", lambda g, x, m=mode: g.op("Pad", x, g.const([0, 0, 1, 2, 0, 0, 2, 1], np.int64), mode=m))
around("Slice", lambda g, x: g.op("Slice", x, *(g.const(v, np.int64) for v in ([1, 2], [-1, 14], [2, 3], [1, 2]))))
around("Slice backwards", lambda g, x: g.op("Slice", x, *(g.const([v], np.int64) for v in (-1, -99, 3, -1))))
around("Split and Concat", lambda g, x: g.op("Concat", *reversed(_split(g, x)), axis=1))
around("Gather", lambda g, x: g.op("Gather", x, g.const([5, 0, 3, 3, 1, 2], np.int64), axis=1))
around("Tile", lambda g, x: g.op("Tile", x, g.const([1, 1, 2, 1], np.int64)))
around("Expand", lambda g, x: g.op("Add", x, g.op("Expand", g.random(1, 6, 1, 1), g.const([1, 6, 16, 16], np.int64))))
around("Squeeze and Unsqueeze", lambda g, x: _squeeze(g, x))
around("Einsum", lambda g, x: g.op("Einsum", x, g.random(6, 6, scale=0.4), equation="nchw,cd->ndhw"))
around("CumSum", lambda g, x: g.op("Mul", g.op("CumSum", x, g.const(2, np.int64)), g.const(0.2)))
around("ReduceMax", lambda g, x: g.op("Mul", x, g.op("ReduceMax", x, axes=[2, 3], keepdims=1)))
around("ReduceL2", lambda g, x: g.op("Div", x, g.op("ReduceL2", x, axes=[1], keepdims=1)))
around("TopK", lambda g, x: g.op("Mul", x, g.op("TopK", x, g.const([1], np.int64), axis=3, outputs=2)[0]))
around("attention", lambda g, x: _attention(g, x))
around("shape arithmetic", lambda g, x: _by_shape(g, x))
for where in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"):
    for mode in ("linear", "cubic", "nearest"):
        around(
            f"Resize {mode} {where}",
            lambda g, x, m=mode, w=where: _resize(g, x, mode=m, coordinate_transformation_mode=w),
        )
for rule in ("floor", "ceil", "round_prefer_ceil"):
    around(
        f"Resize nearest {rule}",
        lambda g, x, r=rule: _resize(g, x, nearest_mode=r, coordinate_transformation_mode="half_pixel"),
    )
around(
    "Resize down", lambda g, x: _resize(g, x, factor=0.6, mode="linear", coordinate_transformation_mode="asymmetric")
)
around("Upsample, opset 9", lambda g, x: g.op("Upsample", x, g.const([1, 1, 2, 2]), mode="linear"), opset=9)
around("GridSample", lambda g, x: g.op("GridSample", x, g.op("Tanh", _grid(g, x)), align_corners=1))

# --- what rounds or chooses: no gradient would be the network's
around("Floor", lambda g, x: g.op("Floor", g.op("Mul", x, g.const(30.0))))
around("Round", lambda g, x: g.op("Round", g.op("Mul", x, g.const(30.0))))
around(
    "Cast to integers",
    lambda g, x: g.op("Cast", g.op("Cast", g.op("Mul", x, g.const(30.0)), to=TensorProto.INT32), to=1),
)
REFUSED["Floor"] = "differences|zero"
REFUSED["Cast to integers"] = "differences|zero"
REFUSED["Round"] = "quantised"


def _constant_conv(g: Graph, x: str) -> str:
    value = helper.make_tensor("k", 1, [6, 6, 3, 3], (g.rng.standard_normal(324) * 0.2).astype(np.float32))
    return g.op("Conv", x, g.op("Constant", value=value), pads=[1] * 4)


def _batch_norm(g: Graph, x: str) -> str:
    return g.op("BatchNormalization", x, g.random(6), g.random(6), g.random(6), g.const(0.5 + g.rng.random(6)))


def _layer_norm(g: Graph, x: str) -> str:
    centred = g.op("Sub", x, g.op("ReduceMean", x, axes=[1], keepdims=1))
    variance = g.op("ReduceMean", g.op("Pow", centred, g.const(2.0)), axes=[1], keepdims=1)
    return g.op("Div", centred, g.op("Sqrt", g.op("Add", variance, g.const(1e-2))))


def _there_and_back(g: Graph, x: str) -> str:
    last = g.op("Transpose", x, perm=[0, 2, 3, 1])
    return g.op("Transpose", g.op("Add", g.op("MatMul", last, g.random(6, 6)), g.random(6)), perm=[0, 3, 1, 2])


def _shuffle(g: Graph, x: str) -> str:
    five = g.op("Reshape", x, g.const([0, 2, 3, 16, 16], np.int64))
    return g.op("Reshape", g.op("Transpose", five, perm=[0, 2, 1, 3, 4]), g.const([0, -1, 16, 16], np.int64))


def _split(g: Graph, x: str) -> list[str]:
    return list(g.op("Split", x, g.const([2, 4], np.int64), axis=1, outputs=2))


def _squeeze(g: Graph, x: str) -> str:
    pooled = g.op("Squeeze", g.op("GlobalAveragePool", x), g.const([2, 3], np.int64))
    return g.op("Add", x, g.op("Unsqueeze", g.op("Tanh", pooled), g.const([2, 3], np.int64)))


def _attention(g: Graph, x: str) -> str:
    flat = g.op("Transpose", g.op("Reshape", x, g.const([0, 6, 256], np.int64)), perm=[0, 2, 1])
    q, k, v = (g.op("MatMul", flat, g.random(6, 6)) for _ in range(3))
    share = g.op("Softmax", g.op("MatMul", q, g.op("Transpose", k, perm=[0, 2, 1])), axis=-1)
    out = g.op("Transpose", g.op("MatMul", share, v), perm=[0, 2, 1])
    return g.op("Add", x, g.op("Reshape", out, g.const([0, 6, 16, 16], np.int64)))


def _by_shape(g: Graph, x: str) -> str:
    batch = g.op("Gather", g.op("Shape", x), g.const([0], np.int64), axis=0)
    flat = g.op("Reshape", x, g.op("Concat", batch, g.const([-1], np.int64), axis=0))
    return g.op("Reshape", g.op("Tanh", flat), g.op("Shape", x))


def _resize(g: Graph, x: str, factor: float = 1.5, **attrs: str) -> str:
    return g.op("Resize", x, "", g.const([1, 1, factor, factor]), **attrs)


def _grid(g: Graph, x: str) -> str:
    return g.op("Transpose", g.conv(x, 6, 2), perm=[0, 2, 3, 1])


# --- whole files
def _file(opset: int = 17, **how: object) -> onnx.ModelProto:
    g = Graph(opset=opset, **how)  # type: ignore[arg-type]
    x = g.op("Transpose", g.x, perm=[0, 3, 1, 2]) if g.layout == "NHWC" else g.x
    return g.model(g.head(g.op("Tanh", g.conv(g.op("Relu", g.conv(x, g.channels, 6)), 6, 5)), 5))


def _names() -> onnx.ModelProto:
    """Two weights whose names differ in a dot and an underscore only."""
    g = Graph()
    a = g.op("Mul", g.conv(g.x, 3, 6), g.random(1, 6, 1, 1, name="block.scale_1"))
    b = g.op("Add", a, g.random(1, 6, 1, 1, name="block_scale.1"))
    return g.model(g.head(g.op("Tanh", g.conv(b, 6, 5)), 5))


def _as_inputs() -> onnx.ModelProto:
    """Weights are listed among the inputs, as files before IR version 4 had to."""
    made = _file(opset=9)
    infos = [helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in made.graph.initializer]
    made.graph.input.extend(infos)
    made.ir_version = 3
    return made


def _half() -> onnx.ModelProto:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    return convert_float_to_float16(_file(), keep_io_types=True)


def _end(kind: str, **attrs: int) -> onnx.ModelProto:
    g = Graph()
    return g.model(g.op(kind, g.head(g.op("Tanh", g.conv(g.x, 3, 5)), 5), **attrs))


def _left_matrix() -> onnx.ModelProto:
    """A constant on the left of a MatMul."""
    g = Graph()
    x = g.op("Reshape", g.op("Tanh", g.conv(g.x, 3, 6)), g.const([0, 6, 256], np.int64))
    x = g.op("ReduceMean", g.op("MatMul", g.random(4, 6), x), axes=[2], keepdims=0)
    return g.model(x)


def _gemm() -> onnx.ModelProto:
    g = Graph()
    flat = g.op("Flatten", g.op("GlobalAveragePool", g.op("Tanh", g.conv(g.x, 3, 6))))
    return g.model(g.op("Gemm", flat, g.random(6, 4), g.random(4), alpha=0.5, beta=2.0))


SWEEP |= {f"opset {v}": (lambda v=v: _file(opset=v)) for v in (9, 11, 13, 18, 20)}
SWEEP |= {
    "NHWC": lambda: _file(layout="NHWC"),
    "grey": lambda: _file(channels=1),
    "batch of 1": lambda: _file(batch=1),
    "batch of 4": lambda: _file(batch=4),
    "names": _names,
    "weights as inputs": _as_inputs,
    "float16": _half,
    "Softmax": lambda: _end("Softmax", axis=1),
    "Sigmoid": lambda: _end("Sigmoid"),
    "LogSoftmax": lambda: _end("LogSoftmax", axis=1),
    "unit embedding": lambda: _end("LpNormalization", axis=1, p=2),
    "constant left of MatMul": _left_matrix,
    "Gemm with alpha and beta": _gemm,
}


@pytest.mark.parametrize("name", SWEEP)
def test_right_or_not_applicable(name: str, tmp_path: Path) -> None:
    proto = SWEEP[name]()
    model = open_model(card_for(proto, tmp_path))
    images = torch.stack([torch.from_numpy(f.read()).permute(2, 0, 1) for f in faces(2, 16, seed=len(name))])
    images = (images + 0.02 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))).clamp(0.05, 0.95)
    # A session that faithface has not opened.
    session = ort.InferenceSession(str(model.card.path), providers=["CPUExecutionProvider"])
    expected = run_file(session, model, images)
    loose = 2e-2 if name == "float16" else 1e-4
    assert np.allclose(model.outputs(images), expected, atol=1e-5 + loose * np.abs(expected).max())
    mix = torch.from_numpy(np.random.default_rng(1).standard_normal((len(images), 1, expected.shape[1]))).float()
    if name in REFUSED and REFUSED[name] != "quantised":
        with pytest.raises(NotApplicable, match=REFUSED[name]):
            model.vjp(images, mix)
        return
    gradient = model.vjp(images, mix)[:, 0].double()
    if name in REFUSED:
        assert any("quantised" in note and "straight through" in note for note in model.notes)
        return
    with torch.no_grad():
        assert np.allclose(model.twin(images), expected, atol=1e-5 + loose * np.abs(expected).max())
    if name != "float16":  # whose outputs are a staircase; its float32 copy is the network of "opset 17"
        assert slope_error(session, model, images, gradient, mix[:, 0].double().numpy()) <= 0.01


def run_file(session: ort.InferenceSession, model, images: torch.Tensor) -> np.ndarray:
    """Return the file's own outputs, in batches that it takes."""
    declared = session.get_inputs()[0].shape[0]
    rows = declared if isinstance(declared, int) else len(images)
    ready = preprocess(images, model.card.input).contiguous().numpy()
    parts = []
    for start in range(0, len(ready), rows):
        part = ready[start : start + rows]
        filled = np.concatenate([part, np.repeat(part[-1:], rows - len(part), axis=0)])
        parts.append(session.run(None, {session.get_inputs()[0].name: filled})[0].reshape(rows, -1)[: len(part)])
    return np.concatenate(parts)


def slope_error(
    session: ort.InferenceSession, model, images: torch.Tensor, gradient: torch.Tensor, mix: np.ndarray
) -> float:
    """Return the error of slopes along eight random directions against central differences, relative to their size.

    The median over directions, at the best of a few steps: a step may cross a kink, or drown in rounding.
    """
    rng = np.random.default_rng(3)
    directions = torch.from_numpy(rng.standard_normal((8, *images.shape[1:])).astype(np.float32))
    errors = []
    for step in (3e-3, 1e-3, 3e-4, 1e-4, 3e-5):
        found = []
        for n in range(len(images)):
            up, down = images[n] + step * directions, images[n] - step * directions
            rise = (run_file(session, model, up).astype(np.float64) - run_file(session, model, down)) @ mix[n]
            slopes = (gradient[n] * (up - down).double()).flatten(1).sum(1).numpy()
            found.append(np.abs(slopes - rise) / np.sqrt(np.mean(rise**2)))
        errors.append(float(np.median(np.concatenate(found))))
        if errors[-1] <= 0.01:
            break
    return min(errors)
