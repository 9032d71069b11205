"""A crop whose face sits elsewhere than the set's faces do is named; aligned ones are not."""

from __future__ import annotations

import numpy as np
import pytest

from faithface.answers.alignment import fit, mean_face
from faithface.contract import Dataset, Face, Sample
from faithface_plugins.datasets.planted import keys, render, sample_identities, sample_nuisance

N = 40


def faces(seed: int) -> np.ndarray:
    return render(sample_identities(seed, N), sample_nuisance(keys(seed, "alignment", N), alignment="aligned"))


class Given(Dataset):
    name = "given"
    task = "pad"

    def __init__(self, images: np.ndarray) -> None:
        self.images = images

    def items(self) -> list[Sample]:
        return [Sample(f"s{i}", Face(f"s{i}", lambda i=i: self.images[i])) for i in range(len(self.images))]


@pytest.fixture(scope="module")
def mean() -> np.ndarray:
    found = mean_face(Given(faces(3)), (112, 112))
    assert found is not None
    return found


def test_aligned_faces_of_other_people_are_not_named(mean: np.ndarray) -> None:
    named = [bool(fit(image, mean).problem) for image in faces(4)]
    assert np.mean(named) <= 0.05


@pytest.mark.parametrize(("dx", "dy", "said"), [(20, 0, "right"), (-20, 0, "left"), (0, 20, "down"), (0, -20, "up")])
def test_shifted_crops_are_named_with_their_direction(mean: np.ndarray, dx: int, dy: int, said: str) -> None:
    """By 18 % of the side; what comes into view repeats the edge. Most are named, and nearly all of these rightly."""
    named = right = 0
    for image in faces(4):
        shifted = np.pad(image, ((20, 20), (20, 20), (0, 0)), mode="edge")[20 - dy : 132 - dy, 20 - dx : 132 - dx]
        found = fit(shifted, mean)
        if found.problem:
            named += 1
            right += said in found.problem and np.hypot(found.shift[0] - dx / 112, found.shift[1] - dy / 112) < 0.1
    assert named >= 0.6 * N
    assert right >= 0.85 * named


def test_a_set_of_few_faces_has_no_mean() -> None:
    assert mean_face(Given(faces(3)[:5]), (112, 112)) is None
    assert mean_face(Given(faces(3)[:10]), (112, 112), frozenset({"s0"})) is None
