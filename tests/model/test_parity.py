"""A twin that only looks right is refused; face-like images are what they claim to be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from faithface.errors import NotApplicable
from faithface.model import derive, open_model, parity
from faithface.model.parity import face_like
from faithface.model.twin import Twin
from faithface.plugins import load_registry
from faithface.tasks import ClassTarget
from tests.support.graphs import Graph, card_for
from tests.support.networks import sample_batch, tiny


def saturated_on_noise(softmax: bool) -> onnx.ModelProto:
    """A network that is sure of itself on pixel noise (strong edges) and undecided on smooth images."""
    g = Graph(size=24, seed=5)
    kernel = np.zeros((1, 3, 3, 3), np.float32)
    kernel[0, :] = np.array([[0, -1, 0], [-1, 4, -1], [0, -1, 0]]) / 3
    edges = g.op("Flatten", g.op("GlobalAveragePool", g.op("Abs", g.op("Conv", g.x, g.const(kernel)))))
    edges = g.op("Relu", g.op("Sub", edges, g.const(0.4)))
    scores = g.head(g.op("Tanh", g.conv(g.op("Relu", g.conv(g.x, 3, 6)), 6, 5)), 5, units=2)
    scores = g.op("Add", scores, g.op("MatMul", edges, g.const([[400.0, -400.0]])))
    return g.model(g.op("Softmax", scores, axis=1) if softmax else scores, units=2)


class Bent(torch.nn.Module):
    """Tanh with an error that vanishes where its input is small."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.tanh() * 1.05


class Stuck(torch.autograd.Function):
    """The right value, and half of the right gradient."""

    @staticmethod
    def forward(ctx, x):
        y = x.tanh()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, gradient):
        (y,) = ctx.saved_tensors
        return gradient * (1 - y * y) / 2


class HalfGradient(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return Stuck.apply(x)


def replace_tanh(monkeypatch: pytest.MonkeyPatch, other: torch.nn.Module) -> None:
    """Make every twin that is built from now on wrong in its Tanh."""

    class Wrong(Twin):
        def __init__(self, *arguments) -> None:
            super().__init__(*arguments)
            for tensor, name in self.network.mapping.items():
                if tensor.startswith("tanh"):
                    setattr(self.network, name, other)

    monkeypatch.setattr(derive, "Twin", Wrong)


def test_a_difference_behind_a_saturated_softmax_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = card_for(saturated_on_noise(softmax=True), tmp_path, kind="probabilities")
    noise = torch.rand(4, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    good = open_model(card)
    assert good.twin is not None
    outputs = good.outputs(noise)
    assert outputs.max(dim=1).values.min() == 1.0  # on noise no difference before the softmax would show
    assert good.comparison.before is not None
    assert good.comparison.before < 1e-5
    replace_tanh(monkeypatch, Bent())
    with pytest.raises(NotApplicable, match=r"refused: its (outputs|values before the final Softmax) differ"):
        _ = open_model(card).twin


def test_right_values_with_wrong_gradients_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = card_for(saturated_on_noise(softmax=False), tmp_path, kind="logits")
    assert open_model(card).twin is not None
    replace_tanh(monkeypatch, HalfGradient())
    with pytest.raises(NotApplicable, match=r"its gradients differ from differences .* by \d+%"):
        _ = open_model(card).twin


@pytest.mark.parametrize("name", ["planted-pad-traditional-2", "planted-pad-guided-3", "planted-synthetic-guided-4"])
def test_a_network_with_many_kinks_close_to_one_image_is_measured_on_another(name: str) -> None:
    """Networks of the zoo on whose first image differences agree with no derivative, or with none to 5 %."""
    model = open_model(load_registry(only=[]).model(name).object)
    first = face_like(2, model.card.input.size, parity.IMAGES[0])[1:]
    reference = parity.Reference(model.twin, [model.twin.before], "cpu", None)
    alone = parity.compare_slopes(model.twin, reference, first).error
    assert alone is None or alone > parity.GRADIENT_TOLERANCE
    assert model.comparison.gradient <= parity.GRADIENT_TOLERANCE
    assert not model.notes


def flat(scale: float = 1e-7) -> onnx.ModelProto:
    """A network whose outputs depend on the image only by what float32 hardly shows beside a bias of 1."""
    g = Graph(size=24, seed=5)
    x = g.op("Tanh", g.conv(g.op("Relu", g.conv(g.x, 3, 6)), 6, 5))
    weight = g.const(g.rng.standard_normal((2, 5)) * scale)
    flattened = g.op("Flatten", g.op("GlobalAveragePool", x))
    return g.model(g.op("Gemm", flattened, weight, g.const([1.0, -1.0]), transB=1), units=2)


def without_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the outputs alone to judge, as on a network that is flat around the probe."""
    monkeypatch.setattr(parity, "compare_slopes", lambda *_: parity.Slopes(None, "the network is flat here"))


def test_a_flat_network_has_a_twin_and_a_note(tmp_path: Path) -> None:
    model = open_model(card_for(flat(), tmp_path, kind="logits"))
    assert model.twin is not None
    assert model.comparison.gradient is None
    (note,) = model.notes
    assert "could not be compared with differences" in note
    assert "no more than float32's rounding" in note


@pytest.mark.parametrize("scale", [1e-3, 3e-4])
def test_a_wrong_layer_in_a_flat_network_is_refused(
    scale: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One layer is 5 % off; beside the bias, outputs are equal to 1e-4 all the same, and inner layers are not seen."""
    monkeypatch.setattr(parity, "_layer", lambda twin: "")
    card = card_for(flat(scale), tmp_path, kind="logits")
    without_verdict(monkeypatch)
    good = open_model(card)
    assert good.twin is not None
    replace_tanh(monkeypatch, Bent())
    bad = open_model(card)
    with pytest.raises(NotApplicable, match="change from image to image differently"):
        _ = bad.twin
    assert bad.comparison.outputs < 1e-4  # what the plain comparison says


def test_the_gradient_of_an_instance_normalisation_is_right_for_one_image_too(tmp_path: Path) -> None:
    """Against the definition in float64; torch's own is wrong for a batch of one that lies channels last."""
    g = Graph(size=24, seed=5)
    norm = g.op("InstanceNormalization", g.conv(g.x, 3, 6), g.random(6), g.random(6))
    model = open_model(card_for(g.model(g.head(g.op("Tanh", g.conv(norm, 6, 5)), 5)), tmp_path))
    w = [torch.from_numpy(onnx.numpy_helper.to_array(t).copy()).double() for t in model.proto.graph.initializer]
    scale, shift, w1, b1, w2, b2, wh, bh = w if w[0].ndim == 1 else (w[2], w[3], w[0], w[1], *w[4:])
    images, mix = torch.rand(3, 3, 24, 24), torch.randn(3, 1, 4)
    pixels = images.double().requires_grad_(True)
    x = torch.nn.functional.conv2d(2 * pixels - 1, w1, b1, padding=1)
    centred = x - x.mean(dim=(2, 3), keepdim=True)
    x = centred / (centred.square().mean(dim=(2, 3), keepdim=True) + 1e-5).sqrt()
    x = torch.nn.functional.conv2d(x * scale[:, None, None] + shift[:, None, None], w2, b2, padding=1).tanh()
    scores = x.mean(dim=(2, 3)) @ wh.T + bh
    (expected,) = torch.autograd.grad((scores * mix[:, 0]).sum(), pixels)
    assert torch.allclose(model.vjp(images, mix)[:, 0].double(), expected, atol=1e-6)
    alone = torch.cat([model.vjp(images[i : i + 1], mix[i : i + 1])[:, 0] for i in range(3)])
    assert torch.allclose(alone.double(), expected, atol=1e-6)


def test_other_weights_of_a_proven_graph_are_compared_by_outputs_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = card_for(saturated_on_noise(softmax=False), tmp_path, kind="logits")
    model = open_model(card)
    assert model.twin is not None

    def never(*_: object) -> None:
        raise AssertionError("gradients and inner values were compared again")

    changed = onnx.ModelProto()
    changed.CopyFrom(model.proto)
    for tensor in changed.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) * 1.5, tensor.name))
    images = torch.rand(2, 3, 24, 24)
    target = ClassTarget(torch.tensor([0, 1]))
    with monkeypatch.context() as patched:
        patched.setattr(derive, "check_twin", never)
        other = model.with_weights(changed)
        got = other.gradient(images, target)
        assert other._source.proven
    onnx.save(changed, tmp_path / "changed.onnx")
    opened = open_model(card.model_copy(update={"file": "changed.onnx"}))
    assert torch.equal(got, opened.gradient(images, target))
    assert torch.equal(other.outputs(images), opened.outputs(images))
    replace_tanh(monkeypatch, Bent())
    with pytest.raises(NotApplicable, match="its outputs differ"):
        _ = model.with_weights(changed).twin
    # Other operators are another network, and proven anew.
    for node in changed.graph.node:
        if node.op_type == "Relu":
            node.op_type = "Softplus"
    assert model.with_weights(changed)._source.proven is False


def test_the_first_real_images_are_compared_too(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that is another above a brightness that no probe image has."""
    model = open_model(tiny("cnn", "pad", tiny_folder))
    target = ClassTarget(torch.tensor([0]))
    forward = Twin.forward

    def odd(self, images: torch.Tensor) -> torch.Tensor:
        return forward(self, images) * torch.where(images.mean(dim=(1, 2, 3)) > 0.97, 1.1, 1.0)[:, None]

    monkeypatch.setattr(Twin, "forward", odd)
    assert model.twin is not None
    bright = torch.full((1, 3, 32, 32), 0.99)
    for call in (
        lambda: model.gradient(bright, target),
        lambda: model.activations(bright, target),
        lambda: model.vjp(bright, torch.ones(1, 1, 2)),
        lambda: model.gradient(torch.rand(1, 3, 32, 32), target),  # refused once, refused for good
    ):
        with pytest.raises(NotApplicable, match="on images of this run"):
            call()


def test_the_comparison_costs_no_passes_of_the_explainer(tiny_folder: Path) -> None:
    model = open_model(tiny("cnn", "pad", tiny_folder))
    batch = sample_batch(model, 3)
    before = (model.passes.forward, model.passes.backward)
    model.gradient(batch.images, ClassTarget(batch.clean.predicted))
    assert (model.passes.forward - before[0], model.passes.backward - before[1]) == (3, 3)


def test_face_like_images_are_smooth_and_of_several_contrasts() -> None:
    images = face_like(3, (48, 40))
    assert images.shape == (3, 3, 48, 40)
    assert images.min() >= 0.05
    assert images.max() <= 0.95
    deviation = images.flatten(1).std(dim=1)
    assert deviation[0] < deviation[1] < deviation[2]
    # Neighbours are alike, as in a photograph; in noise of the same contrast they differ by √2 deviations.
    steps = images.diff(dim=3).flatten(1).std(dim=1)
    assert (steps[1:] < 0.5 * deviation[1:]).all()
    assert torch.equal(images, face_like(3, (48, 40)))
    assert (images.diff(dim=3) == 0).float().mean() < 0.01  # nothing is flat
