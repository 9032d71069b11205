"""Inputs and outputs bound to a session, with the host's memory standing in for a device's."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from faithface.model import open_model
from faithface.model.session import Session
from tests.support.networks import tiny


def identity(path, kind):
    ports = [helper.make_tensor_value_info(name, kind, ["n", 3, 4, 4]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "copy", ports[:1], ports[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return Session(path)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_a_bound_run_reads_every_element_type_and_returns_float32(kind, tmp_path):
    session = identity(tmp_path / "copy.onnx", kind)
    numbers = np.random.default_rng(0).random((5, 3, 4, 4)).astype(session.dtype)
    out = session.run_bound(torch.from_numpy(numbers))
    assert out.dtype == torch.float32
    assert np.array_equal(out.numpy(), numbers.astype(np.float32))


def test_the_output_of_a_bound_run_is_the_callers_and_outlives_later_runs(tmp_path):
    model = open_model(tiny("cnn", "pad", tmp_path, size=16))
    generator = np.random.default_rng(1)
    batches = [generator.random((n, 3, 16, 16), dtype=np.float32) for n in (8, 3, 8, 1, 8)]
    kept = [model.session.run_bound(torch.from_numpy(batch)) for batch in batches]
    kept[1] += 1  # nobody else's numbers
    for batch, out in zip(batches, kept, strict=True):
        expected = model.session.run(batch) + (1 if batch is batches[1] else 0)
        np.testing.assert_allclose(out.numpy(), expected, atol=1e-6, rtol=1e-6)


def test_tensors_on_a_device_go_through_the_bound_run_in_the_networks_type_and_memory_order(tmp_path, monkeypatch):
    session = identity(tmp_path / "copy.onnx", TensorProto.FLOAT16)
    monkeypatch.setattr(session, "device", "cuda")  # the branch of a device; the tensors stay on the host
    turned = torch.rand((5, 4, 4, 3), generator=torch.Generator().manual_seed(2)).permute(0, 3, 1, 2)
    assert torch.equal(session.run_tensor(turned), turned.half().float())


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_torch_is_waited_for_before_a_bound_run_on_cuda_and_the_output_before_it_is_copied(
    device, tmp_path, monkeypatch
):
    session, order = identity(tmp_path / "copy.onnx", TensorProto.FLOAT), []

    class Stream:
        def synchronize(self):
            order.append("torch is done")

    class Binding:
        def bind_input(self, name, kind, *_):
            order.append(f"input on {kind}")

        def bind_output(self, name, kind):
            order.append(f"output on {kind}")

        def synchronize_outputs(self):
            order.append("output is there")

        def get_outputs(self):
            order.append("taken")
            raise KeyboardInterrupt

    class Runtime:
        def io_binding(self):
            return Binding()

        def run_with_iobinding(self, binding):
            order.append("run")

    class Batch:
        shape = (1, 3, 4, 4)

        def data_ptr(self):
            return 0

    Batch.device = torch.device(device)
    monkeypatch.setattr(session, "ort", Runtime())
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    with pytest.raises(KeyboardInterrupt):
        session.run_bound(Batch())
    expected = [f"input on {device}", f"output on {device}", "run", "output is there", "taken"]
    assert order == (["torch is done"] if device == "cuda" else []) + expected
