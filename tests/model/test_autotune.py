"""How a network is driven: divided passes or passes side by side, and that neither changes a number."""

import threading

import numpy as np
import pytest
import torch

from faithface.contract import BatchingPolicy, FaceModel
from faithface.contract.running import is_out_of_memory
from faithface.errors import RunError, UsageError
from faithface.model import autotune as tuning
from faithface.model import open_model
from faithface.model.autotune import autotune, fastest_batch
from tests.support.networks import sample_batch, tiny


@pytest.fixture
def model(tmp_path):
    return open_model(tiny("cnn", "pad", tmp_path, size=16))


@pytest.fixture
def cores(monkeypatch):
    """Pretend to have four cores; the test sets what a policy costs per image."""
    monkeypatch.setattr(tuning, "thread_count", lambda: 4)
    costs = {}
    monkeypatch.setattr(tuning, "seconds_per_image", lambda session, rows, which: costs[which])
    return costs


def rows_for(model):
    return np.zeros((tuning.LARGEST["cpu"], 3, *model.size), dtype=np.float32)


def test_one_pass_per_core_is_taken_with_its_best_number_of_rows_where_it_is_faster(model, cores):
    cores |= {
        BatchingPolicy(32): 1e-3,
        BatchingPolicy(4, 4): 8e-4,
        BatchingPolicy(8, 4): 7e-4,
        BatchingPolicy(16, 4): 9e-4,
    }
    assert autotune(model.session, rows_for(model), BatchingPolicy(32)) == BatchingPolicy(8, 4)
    assert model.session.workers == 4


def test_of_policies_that_are_equally_fast_the_one_with_most_rows_is_taken(model, cores):
    cores |= {
        BatchingPolicy(32): 1e-3,
        BatchingPolicy(4, 4): 7.00e-4,
        BatchingPolicy(8, 4): 7.05e-4,
        BatchingPolicy(16, 4): 7.1e-4,
    }
    assert autotune(model.session, rows_for(model), BatchingPolicy(32)) == BatchingPolicy(16, 4)


def test_what_happens_between_passes_counts_where_a_pass_takes_no_longer(model, cores):
    slower = {BatchingPolicy(4, 4): 1.1e-4, BatchingPolicy(8, 4): 1.1e-4, BatchingPolicy(16, 4): 1.1e-4}
    cores |= {BatchingPolicy(32): 1e-4, **slower}
    assert autotune(model.session, rows_for(model), BatchingPolicy(32)) == BatchingPolicy(16, 4)
    cores |= {BatchingPolicy(32): 1e-2, **dict.fromkeys(slower, 0.011)}
    model.session.share_out(1)
    assert autotune(model.session, rows_for(model), BatchingPolicy(32)) == BatchingPolicy(32)


def test_divided_passes_are_kept_where_they_are_faster(model, cores):
    cores |= {
        BatchingPolicy(32): 1e-3,
        BatchingPolicy(4, 4): 2e-3,
        BatchingPolicy(8, 4): 2e-3,
        BatchingPolicy(16, 4): 2e-3,
    }
    assert autotune(model.session, rows_for(model), BatchingPolicy(32)) == BatchingPolicy(32)
    assert model.session.workers == 1


def test_a_network_that_is_slow_on_one_pass_is_not_tried_side_by_side(model, cores):
    cores |= {BatchingPolicy(8): tuning.SLOW}
    assert autotune(model.session, rows_for(model), BatchingPolicy(8)) == BatchingPolicy(8)
    assert model.session.workers == 1


def test_one_core_has_nothing_to_share_out(model, monkeypatch):
    monkeypatch.setattr(tuning, "thread_count", lambda: 1)
    monkeypatch.setattr(tuning, "seconds_per_image", lambda *_: pytest.fail("measured for nothing"))
    assert autotune(model.session, rows_for(model), BatchingPolicy(16)) == BatchingPolicy(16)


def test_many_cores_get_fewer_rows_each_so_that_their_activations_fit(model, cores, monkeypatch):
    monkeypatch.setattr(tuning, "thread_count", lambda: 48)
    cores |= {BatchingPolicy(32): 1e-3, BatchingPolicy(1, 48): 8e-4, BatchingPolicy(2, 48): 2e-4}
    assert autotune(model.session, rows_for(model), BatchingPolicy(32)) == BatchingPolicy(2, 48)
    assert autotune(model.session, rows_for(model), BatchingPolicy(32), (32,)) == BatchingPolicy(32)


def test_threads_are_divided_among_the_workers_and_given_back(model, monkeypatch):
    opened = []
    real = model.session.__class__.__module__
    monkeypatch.setattr(f"{real}.thread_count", lambda: 6)
    monkeypatch.setattr(f"{real}.open_session", lambda *a: opened.append(a[-1]))
    for workers in (1, 2, 4, 6, 9):
        model.session.share_out(workers)
    assert opened == [6, 3, 1, 1, 1]


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("images", [1, 2, 9, 23])
def test_side_by_side_gives_every_image_its_own_output_in_order(model, workers, images):
    x = sample_batch(model, images).images
    expected = torch.cat([model._forward_chunk(x[i : i + 1]) for i in range(images)])
    before = model.passes.forward
    model.use_batching(BatchingPolicy(4, workers))
    torch.testing.assert_close(model.outputs(x), expected, atol=1e-6, rtol=1e-5)
    assert model.passes.forward - before == images


@pytest.mark.parametrize("kind", ["cnn", "fixed-batch"])
@pytest.mark.parametrize("workers", [1, 3])
def test_images_made_on_demand_are_scored_once_each_as_if_they_had_lain_ready(kind, workers, tmp_path):
    model = open_model(tiny(kind, "pad", tmp_path, size=16))
    x, made, threads = torch.rand(21, 3, 16, 16), [], set()
    expected = model.outputs(x)
    model.use_batching(BatchingPolicy(model.fixed_batch or 4, workers))

    def make(part):
        made.extend(range(part.start, part.stop))
        threads.add(threading.get_ident())
        return x[part]

    before = model.passes.forward
    torch.testing.assert_close(model.outputs_of(21, make), expected, atol=1e-6, rtol=1e-5)
    assert sorted(made) == list(range(21))
    assert model.passes.forward - before == 21
    assert (threading.get_ident() in threads) == (workers == 1)


def test_a_model_without_its_own_way_scores_made_images_a_few_at_a_time(model):
    x, sizes = torch.rand(70, 3, 16, 16), []

    def make(part):
        sizes.append(part.stop - part.start)
        return x[part]

    torch.testing.assert_close(FaceModel.outputs_of(model, 70, make), model.outputs(x), atol=1e-6, rtol=1e-5)
    assert sizes == [32, 32, 6]


@pytest.mark.parametrize("workers", [1, 2])
def test_made_images_of_a_wrong_shape_and_none_at_all_are_refused(model, workers):
    model.use_batching(BatchingPolicy(4, workers))
    with pytest.raises(UsageError, match=r"expected N×3×16×16"):
        model.outputs_of(12, lambda part: torch.zeros(part.stop - part.start, 3, 8, 8))
    with pytest.raises(UsageError, match="at least 1"):
        model.outputs_of(0, lambda part: torch.zeros(0, 3, 16, 16))


def test_torch_has_one_thread_beside_other_passes_and_all_of_them_afterwards(model):
    model.use_batching(BatchingPolicy(4, 2))
    before, inside = torch.get_num_threads(), []
    torch.set_num_threads(2)

    def make(part):
        inside.append(torch.get_num_threads())
        return torch.zeros(part.stop - part.start, 3, 16, 16)

    model.outputs_of(20, make)
    assert set(inside) == {1}
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_pass_without_memory_is_halved_until_it_fits(model, workers, monkeypatch):
    x = sample_batch(model, 20).images
    expected = model.outputs(x)
    model.use_batching(BatchingPolicy(16, workers))
    real, seen = model._forward_chunk, []

    def cramped(part):
        seen.append(len(part))
        if len(part) > 3:
            raise MemoryError
        return real(part)

    monkeypatch.setattr(model, "_forward_chunk", cramped)
    torch.testing.assert_close(model.outputs(x), expected, atol=1e-6, rtol=1e-5)
    assert model.batching == BatchingPolicy(2, workers)
    assert max(seen) > 3
    monkeypatch.setattr(model, "_forward_chunk", lambda part: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(RunError, match="batch of one image"):
        model.outputs(x)


def test_a_few_images_are_run_without_measuring_and_many_measure_once(model, monkeypatch):
    x, found = torch.rand(20, 3, *model.size), []
    monkeypatch.setattr(model, "_choose_batching", lambda: found.append(1) or BatchingPolicy(8))
    model.outputs(x[:8])
    assert not found
    model.outputs(x)
    model.outputs(x)
    assert found == [1]


def test_a_named_batch_is_kept_and_nothing_is_measured(tmp_path, monkeypatch):
    model = open_model(tiny("cnn", "pad", tmp_path, size=16), batch_size=5)
    monkeypatch.setattr("faithface.model.onnx_model.autotune", lambda *_: pytest.fail("measured"))
    seen, real = [], model._forward_chunk
    monkeypatch.setattr(model, "_forward_chunk", lambda part: seen.append(len(part)) or real(part))
    model.outputs(sample_batch(model, 12).images)
    assert seen[-3:] == [5, 5, 2]


def test_the_batch_doubles_while_an_image_gets_no_dearer(monkeypatch):
    costs = {8: 1.0, 16: 0.9, 32: 0.95}  # seconds per image; 32 rows outgrow something
    monkeypatch.setattr(tuning, "SLOW", 100)
    monkeypatch.setattr(tuning, "_seconds", lambda run: (lambda n: n * costs[n])(run.args[0]))
    assert fastest_batch(lambda n: None, (16, 16), "cpu") == BatchingPolicy(16)


def test_large_images_are_never_tried_in_batches_beyond_the_buffer(monkeypatch):
    seen = []
    monkeypatch.setattr(tuning, "BUFFER_BYTES", 3 * 16 * 16 * 8 * 20)
    monkeypatch.setattr(tuning, "_seconds", lambda run: seen.append(run.args[0]) or 1e-3)
    assert fastest_batch(lambda n: None, (16, 16), "cuda").batch <= 20
    assert max(seen) <= 20


def test_the_search_ends_at_the_edge_of_memory_and_at_no_other_error():
    def run(rows):
        if rows > 8:
            raise RuntimeError("CUDNN_STATUS_ALLOC_FAILED")

    assert fastest_batch(run, (16, 16), "cpu") == BatchingPolicy(8)
    with pytest.raises(ZeroDivisionError):
        fastest_batch(lambda n: 1 // 0, (16, 16), "cpu")


@pytest.mark.parametrize(
    "text",
    [
        "CUDA out of memory. Tried to allocate 2 GiB",
        "Failed to allocate memory for requested buffer of size 4096",
        "Available memory of 10 is smaller than requested bytes of 20",
        "CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)",
        "std::bad_alloc",
    ],
)
def test_every_library_s_way_of_saying_that_memory_ran_out_is_known(text):
    assert is_out_of_memory(RuntimeError(text))
    assert not is_out_of_memory(RuntimeError("no such file: memory.onnx"))
