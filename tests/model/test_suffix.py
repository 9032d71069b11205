"""The network behind a tensor computes what the whole network makes of that tensor, or does not exist."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from faithface.model import open_model
from faithface.model.dominators import dominators
from tests.support.networks import tiny


@pytest.mark.parametrize("kind", ["cnn", "depthwise", "arcface", "vit", "fixed-batch", "grey", "linear"])
def test_behind_each_tensor_lies_the_rest_of_the_network(kind: str, tiny_folder: Path) -> None:
    """Values of other images are put behind the tensor, so that nothing of the first image may be kept."""
    twin = open_model(tiny(kind, "pad", tiny_folder)).twin
    rows = twin.fixed_batch or 3
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(rows, 3, *twin.card.input.size, generator=generator)
    passed = dominators(twin.prepared.proto.graph, twin.output)
    names = [name for name in passed if name in twin.network.mapping and name != twin.output]
    with torch.no_grad():
        values = twin.values(images, names)
        found = {name: behind(values[name]) for name in names if (behind := twin.behind(name))}
    # Where an operator reads the shape of an earlier tensor, not even an only way of values has all else behind it.
    assert found, "no tensor of this network has all else behind it"
    for name, outputs in found.items():
        torch.testing.assert_close(outputs, values[""], atol=1e-5, rtol=1e-5, msg=name)


def test_there_is_no_network_behind_one_branch_of_a_residual_block(tiny_folder: Path) -> None:
    twin = open_model(tiny("vit", "pad", tiny_folder)).twin
    passed = set(dominators(twin.prepared.proto.graph, twin.output))
    branches = [layer.name for layer in twin.layers() if layer.name not in passed]
    assert branches
    assert [twin.behind(name) for name in branches] == [None] * len(branches)
