"""Files with odd batches: a batch built into the graph, rows that mix, failures of ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from faithface.errors import RunError, UsageError
from faithface.model import open_model
from faithface.model.batches import find_batches
from tests.support.graphs import Graph, card_for


def baked(batch: int) -> onnx.ModelProto:
    """A dynamic batch axis, and a Reshape that was traced with so many images."""
    g = Graph()
    flat = g.op("Reshape", g.op("GlobalAveragePool", g.op("Tanh", g.conv(g.x, 3, 6))), g.const([batch, 6], np.int64))
    return g.model(g.op("Gemm", flat, g.random(4, 6), transB=1))


def normalised(training: bool) -> onnx.ModelProto:
    g = Graph()
    parameters = [g.random(6), g.random(6), g.const(np.zeros(6)), g.const(np.ones(6))]
    names = [g.conv(g.x, 3, 6), *parameters]
    if training:
        x = g.op("BatchNormalization", *names, outputs=3, training_mode=1)[0]
    else:
        x = g.op("BatchNormalization", *names)
    return g.model(g.head(g.op("Tanh", x), 6))


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_a_batch_that_is_built_in_is_found_and_explained(batch: int, tmp_path: Path) -> None:
    model = open_model(card_for(baked(batch), tmp_path))
    assert model.fixed_batch == batch
    (note,) = model.notes
    assert f"a batch of {batch} is built into its graph (Reshape" in note
    assert "x.flatten(1)" in note
    assert "dynamic_axes" in note
    images, vectors = torch.rand(3, 3, 16, 16), torch.randn(3, 1, 4)
    free = Graph()
    flat = free.op("Flatten", free.op("GlobalAveragePool", free.op("Tanh", free.conv(free.x, 3, 6))))
    original = open_model(card_for(free.model(free.op("Gemm", flat, _last_weight(free), transB=1)), tmp_path, "free"))
    assert torch.allclose(model.outputs(images), original.outputs(images), atol=1e-5)
    assert torch.allclose(model.vjp(images, vectors), original.vjp(images, vectors), atol=1e-5)


def _last_weight(g: Graph) -> str:
    return g.random(4, 6)  # the same draw of the same seed as in baked()


def test_training_mode_is_named_for_what_it_is(tmp_path: Path) -> None:
    model = open_model(card_for(normalised(training=True), tmp_path))
    (note,) = model.notes
    assert "rows of a batch influence each other: exported in training mode" in note
    assert "model.eval()" in note
    assert "dynamic batch" not in note
    images = torch.rand(3, 3, 16, 16)
    alone = torch.cat([model.outputs(images[i : i + 1]) for i in range(3)])
    assert torch.equal(model.outputs(images), alone)
    assert open_model(card_for(normalised(training=False), tmp_path, "eval")).notes == []


def test_another_operator_across_the_batch_is_not_called_training(tmp_path: Path) -> None:
    g = Graph()
    x = g.op("MeanVarianceNormalization", g.conv(g.x, 3, 6), axes=[0, 2, 3])
    (note,) = open_model(card_for(g.model(g.head(g.op("Tanh", x), 6)), tmp_path)).notes
    assert "an operator works across the batch axis" in note


def test_rows_that_mix_in_a_fixed_batch_have_no_outputs_of_their_own(tmp_path: Path) -> None:
    g = Graph(batch=2)
    x = g.op("MeanVarianceNormalization", g.conv(g.x, 3, 6), axes=[0, 2, 3])
    with pytest.raises(UsageError, match=r"influence each other.* fixed at 2"):
        open_model(card_for(g.model(g.head(g.op("Tanh", x), 6)), tmp_path))


def test_random_outputs_are_refused(tmp_path: Path) -> None:
    g = Graph()
    x = g.conv(g.x, 3, 6)
    x = g.op("Add", x, g.op("RandomNormalLike", x))
    with pytest.raises(UsageError, match=r"other outputs for the same image.*RandomNormalLike.*model\.eval\(\)"):
        open_model(card_for(g.model(g.head(x, 6)), tmp_path))


def dropping(ratio: float, computed: bool) -> onnx.ModelProto:
    """Dropout in training mode, which ONNX Runtime removes where the mode is a constant, and obeys where it is not."""
    g = Graph()
    x = g.conv(g.x, 3, 6)
    mode = g.op("Greater", g.op("ReduceMax", g.x, keepdims=0), g.const(-9.0)) if computed else g.const(True, bool)
    return g.model(g.head(g.op("Tanh", g.op("Dropout", x, g.const(ratio), mode)), 6))


@pytest.mark.parametrize("ratio", [0.5, 0.001])
def test_a_dropout_that_drops_is_refused(ratio: float, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"other outputs for the same image.*training mode \(Dropout\).*model\.eval\(\)"
    ):
        open_model(card_for(dropping(ratio, computed=True), tmp_path))


def test_a_dropout_that_onnx_runtime_removes_gives_the_outputs_of_evaluation_and_a_note(tmp_path: Path) -> None:
    model = open_model(card_for(dropping(0.5, computed=False), tmp_path))
    (note,) = model.notes
    assert "training mode (Dropout), which ONNX Runtime ignores here" in note
    g = Graph()
    plain = open_model(card_for(g.model(g.head(g.op("Tanh", g.conv(g.x, 3, 6)), 6)), tmp_path, "plain"))
    # The same draws of the same seed: constants that are not random take none.
    images, vectors = torch.rand(3, 3, 16, 16), torch.randn(3, 1, 4)
    assert torch.allclose(model.outputs(images), plain.outputs(images), atol=1e-6)
    assert torch.allclose(model.vjp(images, vectors), plain.vjp(images, vectors), atol=1e-6)


def test_a_network_that_runs_in_no_batch_is_one_clear_error(tmp_path: Path) -> None:
    g = Graph()
    flat = g.op("Reshape", g.conv(g.x, 3, 6), g.const([0, 1000], np.int64))
    with pytest.raises(UsageError, match=r"neither with one image nor with several: .*ONNX Runtime cannot run it"):
        open_model(card_for(g.model(flat, units=1000), tmp_path))


@pytest.mark.parametrize("most", [0, 1])
def test_memory_that_runs_out_is_not_taken_for_a_batch_built_into_the_graph(most: int) -> None:
    def run(images: torch.Tensor) -> torch.Tensor:
        if len(images) > most:
            raise RunError("net.onnx: ONNX Runtime cannot run it: Failed to allocate memory for requested buffer")
        return images.flatten(1)[:, :2]

    g = Graph()
    proto = g.model(g.head(g.conv(g.x, 3, 6), 6))
    with pytest.raises(RunError, match="Failed to allocate memory"):
        find_batches(run, lambda n: torch.rand(n, 3, 16, 16), proto, "net.onnx", None, 1e-5)


def test_a_failure_during_a_pass_is_no_internal_error(tmp_path: Path) -> None:
    model = open_model(card_for(normalised(training=False), tmp_path))
    with pytest.raises(RunError, match=r"net\.onnx: ONNX Runtime cannot run it"):
        model.session.run(np.zeros((1, 3, 8, 9, 1), np.float32))
