"""Slow re-derivation of the cascading randomisation test (Adebayo et al., 2018) on the torch network itself, not on
its ONNX file.

The network that was exported is built again, its modules are randomised one after the other from the output, and the
gradient is taken by torch with the normalisation written out.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from faithface.seeds import rng_for


def randomise_top(net: nn.Module, layers: int, seed: int) -> nn.Module:
    """Redraw weight and bias of the last ``layers`` convolutions and linear layers, in place."""
    learned = [(name, m) for name, m in net.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    for name, module in list(reversed(learned))[:layers]:
        for kind in ("weight", "bias"):
            tensor = getattr(module, kind)
            old = tensor.detach().double().numpy()
            rng = rng_for(seed, "", f"randomisation/{name}.{kind}")
            new = rng.normal(float(np.mean(old)), float(np.std(old)), old.shape)
            tensor.data = torch.from_numpy(new.astype(np.float32))
    return net


def class_gradient(net: nn.Module, image: np.ndarray, chosen: int) -> np.ndarray:
    """Return the gradient of a class's logit, summed over colours, H×W; the network wants (pixel − 0.5) / 0.5."""
    pixels = torch.from_numpy(image)[None].requires_grad_(True)
    net((pixels - 0.5) / 0.5)[0, chosen].backward()
    return pixels.grad[0].sum(dim=0).numpy()  # type: ignore[index]


def cosine_gradient(net: nn.Module, image: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the gradient of the cosine to another image's embedding, summed over colours, H×W."""
    pixels = torch.from_numpy(image)[None].requires_grad_(True)
    with torch.no_grad():
        reference = net((torch.from_numpy(other)[None] - 0.5) / 0.5)[0]
    embedding = net((pixels - 0.5) / 0.5)[0]
    (embedding @ reference / (embedding.norm() * reference.norm())).backward()
    return pixels.grad[0].sum(dim=0).numpy()  # type: ignore[index]
