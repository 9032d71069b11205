"""A change of an array is noticed whatever its kind, and arrays are found wherever plugins can share them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from faithface.contract import Face, Sample
from faithface.run.integrity import Seals, arrays_in, digest

KINDS = {
    "plain": lambda: torch.rand(40, 70),
    "small": lambda: torch.rand(3),
    "number": lambda: torch.rand(()),
    "turned": lambda: torch.rand(5, 7).t(),
    "gradient": lambda: torch.rand(4, requires_grad=True),
    "bfloat16": lambda: torch.rand(6).to(torch.bfloat16),
    "conjugated": lambda: torch.rand(6, dtype=torch.complex64).conj(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_has_the_same_digest_and_a_changed_one_has_another(kind: str) -> None:
    array = KINDS[kind]()
    copy = array.detach().clone()
    assert digest(copy) == digest(array)
    copy.reshape(-1)[-1:].add_(1) if copy.ndim == 1 or copy.is_contiguous() else copy[-1, -1].add_(1)
    assert digest(copy) != digest(array)


def test_a_repeated_axis_is_read_once_and_a_change_under_it_is_noticed() -> None:
    base = torch.rand(4, 1, 5)
    shown = base.expand(4, 3, 5)
    before = digest(shown)
    base[2, 0, 1] += 1
    assert digest(shown) != before
    assert digest(torch.zeros(0, 3)) != digest(torch.zeros(3, 0))
    assert digest(np.zeros(3, np.float32)) != digest(np.zeros(3, np.int32))


@dataclass(frozen=True, kw_only=True)
class WithPixels(Sample):
    pixels: Tensor


def test_arrays_are_found_in_containers_and_in_classes_derived_from_items() -> None:
    def read() -> np.ndarray:
        raise AssertionError("nobody reads a face here")

    face, pixels, inner = Face("f", read), torch.rand(3), np.arange(4)
    held = {"a": [(inner, 1, "x"), {"deep": pixels}], "b": Sample("s", face, "attack")}
    assert {id(one) for one in arrays_in(held)} == {id(inner), id(pixels)}
    own = WithPixels(id="s", face=face, label="attack", pixels=pixels)
    seals = Seals()
    assert not seals.changed([own])
    pixels[0] += 1
    assert seals.changed([own])
