"""Vector-Jacobian products in one batch against a loop of backward passes: what FGGB's speed rests on.

Place in the flow: called by ``suite`` on a CUDA device, where it matters; runs on the CPU as well.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from faithface.bench.subjects import ResNet18, export, with_random_weights
from faithface.bench.timing import paired
from faithface.model import open_model


def vjp_against_loop(device: str, outputs: int = 512, widths: tuple[int, ...] = (64, 128, 256, 512)) -> dict[str, Any]:
    """Return time(one backward pass per output) / time(all products in one call), one image, ResNet-18 size.

    Args:
        device: ``cpu`` or ``cuda``.
        outputs: length of the embedding.
        widths: channels of the four stages; smaller ones for a test.
    """
    with TemporaryDirectory(prefix="faithface-bench-") as folder:
        network = with_random_weights(ResNet18(outputs, widths))
        model = open_model(export(network, "embedding", Path(folder), embedding=True), device)
        image = torch.rand((1, 3, *model.size), generator=torch.Generator().manual_seed(0)).to(device)
        vectors = torch.eye(outputs, device=device)[None]
        twin = model.twin

        def loop() -> None:
            pixels = image.clone().requires_grad_(True)
            out = twin(pixels)
            for k in range(outputs):
                torch.autograd.grad(out[0, k], pixels, retain_graph=True)
            _wait(device)

        def at_once() -> None:
            model.vjp(image, vectors)
            _wait(device)

        found = paired(loop, at_once, 2)
    return {"outputs": outputs, **found.as_dict()}


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
