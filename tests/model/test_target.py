"""Execution targets: named, refused where they are not there, and float16 only where it was asked for."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto

from faithface.errors import UsageError
from faithface.model import open_model, session, target
from faithface.model.target import TARGETS, ExecutionTarget, execution_target, half_precision, providers_for
from tests.support.networks import KINDS, tiny


@pytest.fixture
def gpu(monkeypatch):
    """Pretend that torch and ONNX Runtime see a GPU with everything; undo what a CUDA target sets in torch."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(ort, "get_available_providers", lambda: [one.provider for one in TARGETS])
    monkeypatch.setattr(ort, "preload_dlls", lambda: None, raising=False)
    for module, name in [(torch.backends.cudnn, "allow_tf32"), (torch.backends.cudnn, "deterministic")]:
        monkeypatch.setattr(module, name, getattr(module, name))


def test_a_target_is_found_by_its_name_and_an_unknown_one_lists_them_all():
    assert [execution_target(one.name) for one in TARGETS] == list(TARGETS)
    with pytest.raises(UsageError, match="cpu, cuda, cuda-fp16, tensorrt, tensorrt-fp16"):
        execution_target("fp16")


def test_each_target_asks_for_its_own_provider_first_and_for_half_precision_only_by_name(gpu):
    for one in TARGETS[1:]:
        first, options = providers_for(one.name)[0]
        assert first == one.provider
        if one.provider == "TensorrtExecutionProvider":
            assert options["trt_fp16_enable"] == one.half
        else:
            assert options["use_tf32"] == one.half
            assert options["cudnn_conv_algo_search"] == "HEURISTIC"
    assert providers_for("cpu") == ["CPUExecutionProvider"]


def test_a_cuda_target_keeps_torch_in_float32_and_repeatable(gpu):
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic = True, False
    providers_for("cuda")
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cudnn.deterministic


def test_tensorrt_where_there_is_only_cuda_is_an_error_that_names_what_is_there(gpu, monkeypatch):
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    with pytest.raises(UsageError, match=r"TensorrtExecutionProvider.*it has: CUDAExecutionProvider"):
        providers_for("tensorrt-fp16")
    assert providers_for("cuda-fp16")


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_computes_in_float16_between_float32_ends_and_stays_near(kind, tmp_path, monkeypatch):
    card = tiny(kind, "pad", tmp_path)
    proto = onnx.load(str(card.path))
    before = proto.SerializeToString()
    half = half_precision(proto)
    assert proto.SerializeToString() == before
    assert {i.type.tensor_type.elem_type for i in [*half.graph.input, *half.graph.output]} == {TensorProto.FLOAT}
    weights = [w for w in half.graph.initializer if w.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16)]
    assert sum(w.data_type == TensorProto.FLOAT16 for w in weights) > len(weights) / 2
    # A stand-in target on the host, whose onnxruntime has the same graph run with casts around every operator.
    monkeypatch.setattr(
        target, "TARGETS", (*TARGETS, ExecutionTarget("cpu-fp16", "cpu", "CPUExecutionProvider", half=True))
    )
    exact, rounded = open_model(card), open_model(card, "cpu-fp16")
    images = torch.rand(3, 3, *exact.size, generator=torch.Generator().manual_seed(0))
    a, b = exact.outputs(images), rounded.outputs(images)
    assert rounded.session.execution_target.half
    assert 0 < float((a - b).abs().max() / a.abs().max()) < rounded.execution_target.tolerance
    # The twin computes in float32, and is accepted within what float16 rounds.
    assert rounded.twin(images).dtype == torch.float32
    assert rounded.parity <= rounded.execution_target.tolerance


def test_a_network_given_as_bytes_is_halved_too(tmp_path, monkeypatch):
    monkeypatch.setattr(
        target, "TARGETS", (*TARGETS, ExecutionTarget("cpu-fp16", "cpu", "CPUExecutionProvider", half=True))
    )
    card = tiny("cnn", "pad", tmp_path)
    x = np.random.default_rng(0).random((2, 3, *card.input.size), dtype=np.float32)
    found = [session.Session(given, device="cpu-fp16").run(x) for given in (card.path, card.path.read_bytes())]
    assert np.array_equal(*found)
    assert not np.array_equal(found[0], session.Session(card.path).run(x))
