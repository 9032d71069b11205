"""The engine against a loop that composes and scores one image at a time."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from faithface.contract import MADE, BatchingPolicy, DeviceFeed, FaceModel
from faithface.errors import RunError
from faithface.model import open_model
from faithface.model.autotune import LARGEST
from faithface.perturb.engine import run_masking_plan
from faithface.perturb.lanes import DeviceLanes, HostLanes
from faithface.perturb.masking_plan import Track, plan_tracks
from faithface.threads import one_thread
from tests.perturb.sets import channels_last_card
from tests.support.networks import tiny


class Pixels(FaceModel):
    """Returns its input: what the engine shows the network becomes visible."""

    def __init__(self, size=(4, 5), limit=None):
        self.card = type("Card", (), {"input": type("Input", (), {"size": size}), "name": "pixels"})
        self.device, self.limit, self.batches = "cpu", limit, []

    def outputs(self, images):
        self.batches.append(len(images))
        if self.limit is not None and len(images) > self.limit:
            raise MemoryError("no room")
        self.count(forward=len(images))
        return images.flatten(1).clone()

    scores = embeddings = gradient = vjp = activations = twin = None


Pixels.__abstractmethods__ = frozenset()


def random_plan(size, tracks, seed, canvases=5, orders=3, stops=6):
    rng = np.random.default_rng(seed)
    pixels = size[0] * size[1]
    made = [
        Track(
            int(rng.integers(canvases)),
            int(rng.integers(canvases)),
            int(rng.integers(orders)),
            np.sort(rng.choice(np.arange(1, pixels + 1), stops, replace=False)),
        )
        for _ in range(tracks)
    ]
    images = torch.from_numpy(rng.random((canvases, 3, *size), dtype=np.float32))
    ranks = torch.from_numpy(np.stack([rng.permutation(pixels) for _ in range(orders)]))
    return plan_tracks(images, ranks, made)


def slow_images(plan):
    """Compose every masked image of a plan on its own: T×S×3×H×W."""
    shape = tuple(plan.canvases.shape[-2:])
    rows = []
    for base, other, order, stops in zip(plan.base, plan.other, plan.order, plan.stops, strict=True):
        track = []
        for k in stops:
            image = plan.canvases[base].clone()
            for pixel in plan.orders[order][: int(k)].tolist():
                image[:, pixel // shape[1], pixel % shape[1]] = plan.canvases[other][
                    :, pixel // shape[1], pixel % shape[1]
                ]
            track.append(image)
        rows.append(torch.stack(track))
    return torch.stack(rows)


@given(tracks=st.integers(1, 13), batch=st.integers(1, 9), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_every_masked_image_is_the_one_a_loop_composes_whatever_the_batch(tracks, batch, seed):
    model = Pixels()
    model.use_batching(BatchingPolicy(batch))
    plan = random_plan((4, 5), tracks, seed)
    got = run_masking_plan(model, plan).reshape(tracks, 6, 3, 4, 5)
    assert torch.equal(got, slow_images(plan))
    assert model.passes.forward == plan.passes
    assert max(model.batches) <= batch


@pytest.mark.parametrize("kind", ["cnn", "depthwise", "fixed-batch", "grey", "one-unit"])
@pytest.mark.parametrize("batch", [1, 32])
def test_outputs_equal_one_pass_per_image_on_every_kind_of_file(kind, batch, tmp_path):
    model = open_model(tiny(kind, "pad", tmp_path, size=16), batch_size=batch)
    plan = random_plan((16, 16), 5, seed=2, stops=9)
    got = run_masking_plan(model, plan)
    expected = model.outputs(slow_images(plan).flatten(0, 1)).reshape(got.shape)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_channels_last_files_with_swapped_colours_are_fed_in_their_layout(tmp_path):
    model = open_model(channels_last_card(tmp_path))
    plan = random_plan((16, 16), 4, seed=3)
    got = run_masking_plan(model, plan)
    expected = model.outputs(slow_images(plan).flatten(0, 1)).reshape(got.shape)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("card", ["cnn", "grey", "fixed-batch", "nhwc"])
def test_the_device_path_gives_the_hosts_numbers_with_the_cpu_standing_in(card, tmp_path):
    model = open_model(channels_last_card(tmp_path) if card == "nhwc" else tiny(card, "pad", tmp_path, size=16))
    plan = random_plan((16, 16), 5, seed=4)
    batch = model.fixed_batch or 4
    lanes = plan.base[:batch]
    low, high = np.zeros(len(lanes), dtype=np.int64), plan.stops[: len(lanes), 0]
    host = model.feed()
    made = DeviceLanes(
        plan,
        DeviceFeed(
            prepare=lambda images: torch.from_numpy(host.prepare(images)),
            run=model.session.run_bound,
            channels_last=host.channels_last,
            fixed_batch=host.fixed_batch,
            counts=False,
        ),
    )
    made.start(lanes, batch)
    results = []
    for step in range(2):
        made.replace(low, high, plan.order[: len(lanes)], plan.other[: len(lanes)])
        results.append(made.forward(len(lanes)))
        low, high = high, plan.stops[: len(lanes), step + 1]
    expected = run_masking_plan(model, plan)[: len(lanes), :2]
    torch.testing.assert_close(torch.stack(results, dim=1), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.gpu
def test_a_cuda_device_gives_the_cpus_numbers(tmp_path):
    card = tiny("cnn", "pad", tmp_path, size=32)
    plan = random_plan((32, 32), 7, seed=5)
    on_host = run_masking_plan(open_model(card), plan)
    on_device = plan_tracks(
        plan.canvases.cuda(),
        plan.orders.cuda(),
        [Track(*map(int, t[:3]), t[3]) for t in zip(plan.base, plan.other, plan.order, plan.stops, strict=True)],
    )
    torch.testing.assert_close(run_masking_plan(open_model(card, "cuda"), on_device), on_host, atol=1e-4, rtol=1e-4)


def test_out_of_memory_halves_the_batch_and_goes_on_with_the_same_numbers():
    plan = random_plan((4, 5), 11, seed=6)
    model = Pixels(limit=3)
    model.use_batching(BatchingPolicy(8))
    got = run_masking_plan(model, plan).reshape(11, 6, 3, 4, 5)
    assert torch.equal(got, slow_images(plan))
    assert model.batching.batch == 2
    assert model.passes.forward == plan.passes


def test_out_of_memory_with_one_image_is_one_clear_error():
    with pytest.raises(RunError, match="one image"):
        run_masking_plan(Pixels(limit=0), random_plan((4, 5), 2, seed=7))


def side_by_side(model, batch, workers):
    """Make a model run so many passes at a time, whatever is fastest here."""
    model.use_batching(BatchingPolicy(batch, workers))
    return model


@given(tracks=st.integers(1, 11), stops=st.integers(1, 9), batch=st.integers(1, 5), workers=st.integers(2, 4))
@settings(max_examples=15, deadline=None)
def test_passes_side_by_side_give_the_same_numbers(tracks, stops, batch, workers):
    with tempfile.TemporaryDirectory() as folder:
        model = open_model(tiny("cnn", "pad", Path(folder), size=16))
        plan = random_plan((16, 16), tracks, seed=tracks, stops=stops)
        expected = model.outputs(slow_images(plan).flatten(0, 1)).reshape(tracks, stops, -1)
        before = model.passes.forward
        got = run_masking_plan(side_by_side(model, batch, workers), plan)
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
        assert model.passes.forward - before == plan.passes


def test_a_file_with_a_fixed_batch_runs_side_by_side_too(tmp_path):
    model = open_model(tiny("fixed-batch", "pad", tmp_path, size=16))
    plan = random_plan((16, 16), 5, seed=10, stops=9)
    expected = run_masking_plan(model, plan)
    torch.testing.assert_close(run_masking_plan(side_by_side(model, 1, 3), plan), expected, atol=1e-5, rtol=1e-5)


def test_out_of_memory_in_one_of_several_workers_halves_the_batch_of_all(tmp_path, monkeypatch):
    model = side_by_side(open_model(tiny("cnn", "pad", tmp_path, size=16)), 4, 2)
    plan = random_plan((16, 16), 9, seed=11)
    expected = model.outputs(slow_images(plan).flatten(0, 1)).reshape(9, 6, -1)
    real, rows = HostLanes.forward, []

    def forward(self, active):
        rows.append(active)
        if active > 2:
            raise MemoryError("no room")
        return real(self, active)

    monkeypatch.setattr(HostLanes, "forward", forward)
    torch.testing.assert_close(run_masking_plan(model, plan), expected, atol=1e-5, rtol=1e-5)
    assert max(rows) == 4
    assert model.batching.batch == 2


def test_a_fixed_batch_that_does_not_fit_is_one_clear_error_because_it_cannot_be_halved(tmp_path, monkeypatch):
    model = open_model(tiny("fixed-batch", "pad", tmp_path, size=16))
    monkeypatch.setattr(model, "fixed_batch", 4)
    model.use_batching(BatchingPolicy(4))
    monkeypatch.setattr(HostLanes, "forward", lambda self, active: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(RunError, match="4 images, the only batch that its file accepts"):
        run_masking_plan(model, random_plan((16, 16), 6, seed=12))
    monkeypatch.setattr(model, "_forward_chunk", lambda part: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(RunError, match="4 images, the only batch that its file accepts"):
        model.outputs(torch.rand(9, 3, 16, 16))


def test_the_engine_and_all_other_passes_share_one_policy(tmp_path, monkeypatch):
    model = side_by_side(open_model(tiny("cnn", "pad", tmp_path, size=16)), 6, 1)
    smaller = model.reduce_batch(model.batching, MemoryError())
    assert model.batching == smaller == BatchingPolicy(3)
    seen, real = [], model._forward_chunk
    monkeypatch.setattr(model, "_forward_chunk", lambda part: seen.append(len(part)) or real(part))
    model.outputs(torch.rand(9, 3, 16, 16))
    assert seen == [3, 3, 3]


def test_other_errors_of_the_network_are_not_taken_for_lack_of_memory():
    model = Pixels()
    model.outputs = lambda images: 1 / 0
    with pytest.raises(ZeroDivisionError):
        run_masking_plan(model, random_plan((4, 5), 2, seed=8))


def test_the_users_batch_size_and_a_fixed_one_are_taken_as_they_are(tmp_path):
    assert open_model(tiny("cnn", "pad", tmp_path), batch_size=5).batching.batch == 5
    assert open_model(tiny("fixed-batch", "pad", tmp_path)).batching.batch == 1


def test_otherwise_the_batch_is_measured_once_and_is_no_part_of_the_cost(tmp_path, monkeypatch):
    model = open_model(tiny("cnn", "pad", tmp_path))
    before = model.passes
    found = model.batching
    assert 1 <= found.batch <= LARGEST["cpu"]
    assert model.passes == before
    monkeypatch.setattr(model, "_choose_batching", lambda: pytest.fail("measured twice"))
    model.cache.clear()
    assert model.batching == found


def test_a_model_without_a_policy_of_its_own_gets_batches_of_a_default_size():
    model = Pixels()
    plan = random_plan((4, 5), 50, seed=13)
    assert torch.equal(run_masking_plan(model, plan).reshape(50, 6, 3, 4, 5), slow_images(plan))
    assert max(model.batches) == model.batching.batch == MADE


def test_torch_gets_its_threads_back_even_after_an_error():
    def fail():
        with one_thread():
            seen.append(torch.get_num_threads())
            raise KeyError

    seen, before = [], torch.get_num_threads()
    torch.set_num_threads(2)
    with pytest.raises(KeyError):
        fail()
    assert (seen, torch.get_num_threads()) == ([1], 2)
    torch.set_num_threads(before)
