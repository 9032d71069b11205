"""Two engines for forward passes: equal numbers, the faster one, one choice per machine, and a name in the record."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from faithface.contract import BatchingPolicy
from faithface.contract.running import ONNX_RUNTIME, OPENVINO
from faithface.errors import RunError, UsageError
from faithface.model import engines, open_model
from faithface.model.openvino import OpenVino
from faithface.plugins import load_registry
from faithface.run.executors.local import model_facts
from tests.support.networks import KINDS, sample_batch, tiny

pytest.importorskip("openvino", reason="OpenVINO is the extra 'openvino'")


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FAITHFACE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FAITHFACE_ENGINE", "auto")
    return tmp_path / "cache" / "engines"


@pytest.fixture
def speed(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Seconds per image by engine, as the test sets them."""
    seconds = {ONNX_RUNTIME: 2e-3, OPENVINO: 1e-3}
    monkeypatch.setattr(engines, "seconds_per_image", lambda session, rows, policy: seconds[policy.engine])
    return seconds


def chosen(model, monkeypatch=None):
    rows = np.random.default_rng(0).random((32, 3, *model.size), dtype=np.float32)
    return engines.choose_engine(model.session, rows, BatchingPolicy(8, 2), model.sha256)


@pytest.mark.parametrize("kind", KINDS)
def test_both_engines_give_the_same_outputs(kind, tmp_path):
    model = open_model(tiny(kind, "pad", tmp_path, size=16))
    x = sample_batch(model, 11).images
    expected = model.outputs(x)
    for workers in (1, 3):
        model.use_batching(BatchingPolicy(model.fixed_batch or 4, workers, OPENVINO))
        assert model.session.engine == OPENVINO
        torch.testing.assert_close(model.outputs(x), expected, rtol=1e-5, atol=1e-6)
    model.use_batching(BatchingPolicy(model.fixed_batch or 4, 2))
    assert model.session.engine == ONNX_RUNTIME
    assert torch.equal(model.outputs(x), expected)


@pytest.mark.parametrize("name", ["planted-mobile-0", "planted-residual-0", "planted-pad-guided-0", "exact-pad-28-0"])
def test_builtin_networks_agree_to_1e_6_of_their_largest_output(name):
    model = open_model(load_registry().models[name].object)
    x = torch.rand(6, 3, *model.size, generator=torch.Generator().manual_seed(0))
    expected = model.outputs(x)
    model.use_batching(BatchingPolicy(4, 1, OPENVINO))
    assert (model.outputs(x) - expected).abs().max() <= 2e-6 * expected.abs().max()


def test_the_faster_engine_is_chosen_and_named_in_the_record(own_cache, speed, tmp_path):
    model = open_model(tiny("cnn", "pad", tmp_path, size=16))
    policy = chosen(model)
    assert policy.engine == model.session.engine == OPENVINO
    model.use_batching(policy)
    assert model_facts(model)["provider"] == OPENVINO


@pytest.mark.parametrize("seconds", [1.92e-3, 2e-3, 3e-3])
def test_an_engine_that_is_slower_or_hardly_faster_is_not_chosen(own_cache, speed, tmp_path, seconds):
    speed[OPENVINO] = seconds
    model = open_model(tiny("cnn", "pad", tmp_path, size=16))
    assert chosen(model) == BatchingPolicy(8, 2)
    assert (model.session.engine, model.session.workers) == (ONNX_RUNTIME, 2)


def test_an_engine_whose_outputs_differ_is_refused(own_cache, speed, tmp_path, monkeypatch):
    run = OpenVino.run
    monkeypatch.setattr(OpenVino, "run", lambda self, rows, output: run(self, rows, output) * 1.0001)
    model = open_model(tiny("cnn", "pad", tmp_path, size=16))
    assert chosen(model).engine == model.session.engine == ONNX_RUNTIME
    monkeypatch.setenv("FAITHFACE_ENGINE", OPENVINO)
    with pytest.raises(UsageError, match=r"its outputs differ from ONNX Runtime's by .*; at most 1e-05 is accepted"):
        chosen(model)


def test_a_choice_holds_on_a_machine_whatever_later_timings_say(own_cache, speed, tmp_path):
    model = open_model(tiny("cnn", "pad", tmp_path, size=16))
    assert chosen(model).engine == OPENVINO
    speed[OPENVINO] = 1.0
    assert chosen(open_model(tiny("cnn", "pad", tmp_path, size=16))).engine == OPENVINO
    (kept,) = own_cache.iterdir()
    assert kept.read_text() == OPENVINO
    kept.write_text("nonsense")  # damaged: chosen anew, though it cannot be kept
    assert chosen(model).engine == ONNX_RUNTIME


def test_the_first_of_two_processes_decides(own_cache, speed, tmp_path, monkeypatch):
    model = open_model(tiny("cnn", "pad", tmp_path, size=16))
    read = engines._Kept.read
    answers = iter([None])  # this process looked before the other one wrote
    monkeypatch.setattr(engines._Kept, "read", lambda self: next(answers, None) or read(self))
    engines._Kept(model.sha256, engines.openvino_version()).write(ONNX_RUNTIME)
    assert chosen(model).engine == model.session.engine == ONNX_RUNTIME


def test_another_network_has_a_choice_of_its_own(own_cache, speed, tmp_path):
    assert chosen(open_model(tiny("cnn", "pad", tmp_path, size=16))).engine == OPENVINO
    speed[OPENVINO] = 1.0
    other = open_model(tiny("cnn", "verification", tmp_path, size=16))
    assert chosen(other).engine == ONNX_RUNTIME


def test_a_cache_folder_that_cannot_be_written_is_no_error(own_cache, speed, tmp_path, monkeypatch):
    own_cache.parent.write_text("a file where the folder should be")
    assert chosen(open_model(tiny("cnn", "pad", tmp_path, size=16))).engine == OPENVINO


def test_an_engine_can_be_named_and_a_wrong_name_is_an_error(own_cache, speed, tmp_path, monkeypatch):
    model = open_model(tiny("cnn", "pad", tmp_path, size=16))
    speed[OPENVINO] = 1.0
    monkeypatch.setenv("FAITHFACE_ENGINE", OPENVINO)
    assert chosen(model).engine == OPENVINO
    monkeypatch.setenv("FAITHFACE_ENGINE", ONNX_RUNTIME)
    model.session.use(BatchingPolicy(8, 2))
    assert chosen(model).engine == ONNX_RUNTIME
    monkeypatch.setenv("FAITHFACE_ENGINE", "torch")
    with pytest.raises(UsageError, match="FAITHFACE_ENGINE is 'torch'; expected auto, onnxruntime or openvino"):
        chosen(model)


def test_an_engine_that_is_not_installed_is_an_error_only_if_named(own_cache, tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "openvino_version", lambda: None)
    model = open_model(tiny("cnn", "pad", tmp_path, size=16))
    assert chosen(model) == BatchingPolicy(8, 2)
    monkeypatch.setenv("FAITHFACE_ENGINE", OPENVINO)
    with pytest.raises(UsageError, match=r"pip install 'faithface\[openvino\]'"):
        chosen(model)


def test_what_it_cannot_compile_or_run_is_an_error_that_names_the_network(tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"no network")
    with pytest.raises(RunError, match=r"net\.onnx: OpenVINO cannot compile it: \S"):
        OpenVino(tmp_path / "net.onnx", 1, "net.onnx")
    model = open_model(tiny("cnn", "pad", tmp_path, size=16))
    engine = OpenVino(model.card.path, 1, "net.onnx")
    with pytest.raises(RunError, match=r"net\.onnx: OpenVINO cannot run it: \S"):
        engine.run(np.zeros((1, 3, 16, 17), np.float32), model.session.output)


def test_a_model_opens_and_runs_without_openvino(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("FAITHFACE_ENGINE", "auto")
    model = open_model(tiny("cnn", "pad", tmp_path, size=16))
    assert model.outputs(torch.rand(40, 3, 16, 16)).shape[0] == 40
