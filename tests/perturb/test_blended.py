"""Images blended in the network's own array give the outputs of images blended as pixels, on every kind of network."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch

from faithface.contract import BatchingPolicy
from faithface.errors import RunError
from faithface.model import open_model
from faithface.perturb import blended_outputs, blended_outputs_of_several, covered_outputs
from tests.support.networks import KINDS, sample_batch, tiny


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest, tmp_path: Any) -> Any:
    return open_model(tiny(request.param, "pad", tmp_path, size=16))


def color_of(name: str) -> torch.Tensor:
    return {"black": torch.zeros(3, 1, 1), "colour": torch.tensor([0.2, 0.7, 0.4])[:, None, None]}[name]


@pytest.mark.parametrize("color", ["black", "colour"])
@pytest.mark.parametrize(("batch", "workers"), [(4, 1), (3, 2), (64, 2)])
def test_blended_rows_are_blended_pixels(model: Any, color: str, batch: int, workers: int) -> None:
    image = sample_batch(model, 1).images[0]
    masks = torch.rand(23, 16, 16, generator=torch.Generator().manual_seed(1))
    masks[0], masks[1] = 0, 1
    fill = color_of(color)
    altered = torch.stack([fill + mask * (image - fill) for mask in masks])
    expected = torch.cat([model._forward_rows(one[None]) for one in altered])
    model.use_batching(BatchingPolicy(model.fixed_batch or batch, workers))
    before = model.passes.forward
    got = blended_outputs(model, image, fill, 23, masks.__getitem__)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    assert model.passes.forward - before == 23


@pytest.mark.parametrize("color", ["black", "colour"])
@pytest.mark.parametrize(("batch", "workers"), [(4, 1), (3, 2)])
def test_covered_rows_are_covered_pixels(model: Any, color: str, batch: int, workers: int) -> None:
    image = sample_batch(model, 1).images[0]
    windows = [(y, x, y + 5, x + 7) for y in range(0, 16, 3) for x in range(0, 12, 4)]
    altered = image.repeat(len(windows), 1, 1, 1)
    for one, (top, left, bottom, right) in zip(altered, windows, strict=True):
        one[:, top:bottom, left:right] = color_of(color)
    expected = torch.cat([model._forward_rows(one[None]) for one in altered])
    model.use_batching(BatchingPolicy(model.fixed_batch or batch, workers))
    got = covered_outputs(model, image, color_of(color), windows)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("batch", "workers"), [(4, 1), (3, 2), (64, 2)])
def test_several_images_give_bit_for_bit_what_each_gives_alone(model: Any, batch: int, workers: int) -> None:
    images = sample_batch(model, 3).images
    masks = torch.rand(3, 11, 16, 16, generator=torch.Generator().manual_seed(2))
    model.use_batching(BatchingPolicy(model.fixed_batch or batch, workers))
    fill = color_of("colour")
    alone = [blended_outputs(model, image, fill, 11, masks[i].__getitem__) for i, image in enumerate(images)]
    before = model.passes.forward
    got = blended_outputs_of_several(model, images, fill, 11, lambda view, part: masks[view, part])
    assert torch.equal(got, torch.stack(alone))
    assert model.passes.forward - before == 33


def test_masks_are_asked_for_once_each_from_the_threads_that_run_them(tmp_path: Any) -> None:
    model = open_model(tiny("cnn", "pad", tmp_path, size=16))
    model.use_batching(BatchingPolicy(4, 2))
    asked, threads = [], set()

    def masks(part: slice) -> torch.Tensor:
        asked.extend(range(part.start, part.stop))
        threads.add(threading.get_ident())
        return torch.ones(part.stop - part.start, 16, 16)

    blended_outputs(model, torch.rand(3, 16, 16), color_of("black"), 21, masks)
    assert sorted(asked) == list(range(21))
    assert threading.get_ident() not in threads


def test_a_batch_that_does_not_fit_is_halved_and_passes_are_counted_once(tmp_path: Any, monkeypatch: Any) -> None:
    model = open_model(tiny("cnn", "pad", tmp_path, size=16))
    model.use_batching(BatchingPolicy(8, 1))
    run = model.session.run

    def limited(rows: Any, output: str = "") -> Any:
        if len(rows) > 2:
            raise RunError("Failed to allocate memory for requested buffer")
        return run(rows, output)

    monkeypatch.setattr(model.session, "run", limited)
    image, masks = torch.rand(3, 16, 16), torch.rand(9, 16, 16)
    before = model.passes.forward
    got = blended_outputs(model, image, color_of("black"), 9, masks.__getitem__)
    assert (model.batching.batch, model.passes.forward - before) == (2, 9)
    monkeypatch.undo()
    torch.testing.assert_close(got, model.outputs(image * masks[:, None]), rtol=1e-5, atol=1e-5)


def test_a_model_without_a_host_feed_makes_the_images_itself(tmp_path: Any, monkeypatch: Any) -> None:
    model = open_model(tiny("cnn", "pad", tmp_path, size=16))
    image, masks, fill = torch.rand(3, 16, 16), torch.rand(9, 16, 16), color_of("colour")
    windows = [(0, 0, 4, 4), (3, 5, 9, 16)]
    expected = blended_outputs(model, image, fill, 9, masks.__getitem__), covered_outputs(model, image, fill, windows)
    monkeypatch.setattr(model, "feed", lambda: None)
    several = blended_outputs_of_several(
        model, torch.stack([image, image.flip(0)]), fill, 9, lambda _, part: masks[part]
    )
    torch.testing.assert_close(several[0], expected[0])
    torch.testing.assert_close(several[1], model.outputs(fill + masks[:, None] * (image.flip(0) - fill)))
    torch.testing.assert_close(blended_outputs(model, image, fill, 9, masks.__getitem__), expected[0])
    torch.testing.assert_close(covered_outputs(model, image, fill, windows), expected[1])
