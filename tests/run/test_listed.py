"""What stands in the place of a dataset says of itself what the dataset says."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from faithface.contract import Dataset
from faithface.plugins import load_registry
from faithface.run.listed import TRAITS, Listed, list_dataset
from faithface.run.readable import Filtered
from faithface.run.reads import Reads, Watched


def listed(dataset: Dataset) -> Dataset:
    return Listed(dataset, (), list_dataset(dataset, lambda: None))


def test_all_that_a_dataset_declares_is_copied() -> None:
    assert set(TRAITS) == set(Dataset.__annotations__)


@pytest.mark.parametrize(
    "stand_in",
    [listed, lambda d: Filtered(d, [0]), lambda d: Watched(d, Reads())],
    ids=["listed", "filtered", "watched"],
)
def test_a_stand_in_says_the_same(stand_in: Callable[[Dataset], Dataset]) -> None:
    planted = load_registry().dataset("planted-pad(n=2)").object
    assert planted.publishable
    found = stand_in(planted)
    assert {name: getattr(found, name) for name in TRAITS} == {name: getattr(planted, name) for name in TRAITS}
