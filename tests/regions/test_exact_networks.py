"""On mechanism-exact networks the region values are known: what a region's patches contribute beyond the fill's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from faithface.contract import Face, Pair, Sample
from faithface.loading import load_samples
from faithface.model import open_model
from faithface.model.contributions import contributions_beyond_fill, declared
from faithface.plugins import load_registry
from faithface.regions.fills import FillSet
from faithface.regions.shapley import shapley_values
from faithface.regions.subsets import score_subsets
from faithface.regions.values import region_values

FILLS = 2
REGIONS = 6


def some_faces(count: int, size: tuple[int, int]) -> list[np.ndarray]:
    """Return smooth coloured images, float32 H×W×3 in [0, 1]; the contributions are exact for any image."""
    rng = np.random.default_rng(4)
    coarse = torch.from_numpy(rng.random((count, 3, 9, 9), dtype=np.float32))
    images = torch.nn.functional.interpolate(coarse, size=size, mode="bicubic", align_corners=True).clamp(0, 1)
    return [image.numpy().transpose(1, 2, 0) for image in images]


def whole_patches(grid: tuple[int, int], size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the region of each patch, scattered, and the region of each pixel."""
    of_patch = np.random.default_rng(7).permutation(np.arange(grid[0] * grid[1]) % REGIONS)
    down, across = size[0] // grid[0], size[1] // grid[1]
    return of_patch, np.kron(of_patch.reshape(grid), np.ones((down, across), dtype=np.int64))


def as_tensor(images: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy())


def known_values(model, samples, fills: Tensor, of_patch: np.ndarray) -> np.ndarray:
    """Sum, over each region's patches, what they contribute beyond each fill: F×k."""
    rows = [contributions_beyond_fill(model, samples, fill[None, None])[0, 0].numpy() for fill in fills]
    return np.array([[row[of_patch == r].sum() for r in range(REGIONS)] for row in rows])


def test_region_values_of_an_exact_verifier_are_its_contributions_beyond_the_fill() -> None:
    model = open_model(load_registry().model("exact-verifier-28-0").object)
    a, b, *others = some_faces(2 + FILLS, model.size)
    samples = load_samples(model, [Pair("p", Face("a", lambda: a), Face("b", lambda: b), same=True)])
    fills, (of_patch, labels) = as_tensor(others), whole_patches(declared(model.card).grid, model.size)
    (found,) = region_values(model, samples, [FillSet("stranger", fills, ("c", "d"))], labels)
    known = known_values(model, samples, fills, of_patch)
    assert np.abs(known).max() > 0.01  # there is something to find
    np.testing.assert_allclose(found.values, known, atol=1e-4)


def test_region_values_of_an_exact_pad_network_are_its_contributions_beyond_the_fill() -> None:
    model = open_model(load_registry().model("exact-pad-28-0").object)
    image, *others = some_faces(1 + FILLS, model.size)
    samples = load_samples(model, [Sample("s", Face("a", lambda: image))])
    fills, (of_patch, labels) = as_tensor(others), whole_patches(declared(model.card).grid, model.size)
    attack = model.card.output.classes.index("attack")
    # The contributions sum to the difference of the logits; of the probability, patches do interact.
    scores = score_subsets(
        model, samples.images[0], fills, labels, lambda outputs: outputs[:, attack] - outputs[:, 1 - attack]
    )
    known = known_values(model, samples, fills, of_patch)
    assert np.abs(known).max() > 0.1
    np.testing.assert_allclose(shapley_values(scores), known, atol=1e-4)


@pytest.mark.parametrize("shift", [1, 5])
def test_regions_that_cut_patches_do_not_have_these_values(shift: int) -> None:
    """The test above can fail: with the regions moved by some pixels, the values are others."""
    model = open_model(load_registry().model("exact-pad-28-0").object)
    image, *others = some_faces(1 + FILLS, model.size)
    samples = load_samples(model, [Sample("s", Face("a", lambda: image))])
    fills, (of_patch, labels) = as_tensor(others), whole_patches(declared(model.card).grid, model.size)
    scores = score_subsets(
        model, samples.images[0], fills, np.roll(labels, shift, axis=1), lambda outputs: outputs[:, 1] - outputs[:, 0]
    )
    known = known_values(model, samples, fills, of_patch)
    assert np.abs(shapley_values(scores) - known).max() > 1e-3
