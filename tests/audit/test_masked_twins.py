"""A twin starts as the network that it is held against: the weights of the committed file, in torch."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch

from faithface.plugins import load_registry
from training.masked_twins import load_weights
from training.recipes import RECIPES


@pytest.mark.parametrize("name", ["planted-mobile-1", "planted-residual-0", "planted-pad-guided-0"])
def test_weights_of_a_file_give_its_outputs(name: str) -> None:
    card = load_registry().model(name).object
    recipe = next(one for one in RECIPES if one.name == name)
    network = load_weights(recipe, card.root / card.file).eval()
    images = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(3)) * 2 - 1
    session = onnxruntime.InferenceSession(str(card.root / card.file), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(network(images).numpy(), expected, atol=1e-5)
