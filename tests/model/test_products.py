"""Vector-Jacobian products in batches: equal to single ones, whatever the number of vectors, images and rows."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from faithface.model.operators import PRelu as _PRelu
from faithface.model.products import ROWS, vector_jacobian_products
from tests.support.networks import build


@pytest.mark.parametrize("vectors", [0, 1, 2, 3, 4, 5, 16])
@pytest.mark.parametrize("limit", [None, 1, 3, 32])
def test_products_equal_single_backward_passes(vectors: int, limit: int | None) -> None:
    net = build("arcface", 6, 16).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(5, 3, 16, 16, generator=generator)
    cotangents = torch.randn(5, vectors, 6, generator=generator)
    got = vector_jacobian_products(net, images, cotangents, limit)
    assert got.shape == (5, vectors, 3, 16, 16)
    for n in range(5):
        for m in range(vectors):
            pixels = images[n : n + 1].clone().requires_grad_(True)
            (expected,) = torch.autograd.grad(net(pixels), pixels, cotangents[n, m][None])
            assert torch.allclose(got[n, m], expected[0], rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_with_many_vectors_an_image_does_not_depend_on_its_neighbours_by_a_single_bit() -> None:
    net = build("depthwise", 9, 16).requires_grad_(False)
    images, cotangents = torch.rand(3, 3, 16, 16), torch.randn(3, ROWS["cpu"] + 1, 9)
    together = vector_jacobian_products(net, images, cotangents)
    for i in range(3):
        assert torch.equal(together[i : i + 1], vector_jacobian_products(net, images[i : i + 1], cotangents[i : i + 1]))


def test_no_pass_is_larger_than_the_limit() -> None:
    seen = []

    def network(x: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        return x.flatten(1)

    vector_jacobian_products(network, torch.rand(5, 1, 2, 2), torch.rand(5, 7, 4), limit=2)
    vector_jacobian_products(network, torch.rand(5, 1, 2, 2), torch.rand(5, 1, 4), limit=3)
    assert max(seen[:5]) == 2
    assert seen[5:] == [3, 2]


def test_the_twins_prelu_has_torchs_value_and_gradient_also_at_zero() -> None:
    x = torch.tensor([[-2.0, -0.5], [0.0, 3.0]]).reshape(1, 2, 2, 1)
    slope = torch.tensor([0.25, -0.1])
    results = []
    for function in (lambda v: _PRelu()(v, slope[:, None, None]), lambda v: nn.functional.prelu(v, slope)):
        leaf = x.clone().requires_grad_(True)
        y = function(leaf)
        results.append((y.detach(), torch.autograd.grad(y.sum(), leaf)[0]))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
