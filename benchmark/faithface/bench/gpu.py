"""What matters on a CUDA device only: vector-Jacobian products at once, and what a changed batch size costs.

Place in the flow: called by ``suite`` on a CUDA device, where it matters; runs on the CPU as well.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from faithface.bench.subjects import ResNet18, export, with_random_weights
from faithface.bench.timing import paired
from faithface.model import OnnxModel, open_model
from faithface.model.twin import preprocess


def vjp_against_loop(device: str, outputs: int = 512, widths: tuple[int, ...] = (64, 128, 256, 512)) -> dict[str, Any]:
    """Return time(one backward pass per output) / time(all products in one call), one image, ResNet-18 size.

    Args:
        device: an execution target's name.
        outputs: length of the embedding.
        widths: channels of the four stages; smaller ones for a test.
    """
    with TemporaryDirectory(prefix="faithface-bench-") as folder:
        network = with_random_weights(ResNet18(outputs, widths))
        model = open_model(export(network, "embedding", Path(folder), embedding=True), device)
        image = torch.rand((1, 3, *model.size), generator=torch.Generator().manual_seed(0)).to(model.device)
        vectors = torch.eye(outputs, device=model.device)[None]
        twin = model.twin

        def loop() -> None:
            pixels = image.clone().requires_grad_(True)
            out = twin(pixels)
            for k in range(outputs):
                torch.autograd.grad(out[0, k], pixels, retain_graph=True)

        def at_once() -> None:
            model.vjp(image, vectors)

        found = paired(loop, at_once, 2)
    return {"outputs": outputs, **found.as_dict()}


def changed_shapes(model: OnnxModel, rows: int = 256, passes: int = 8, repeats: int = 3) -> dict[str, Any]:
    """Return the cost of a pass with a different number of rows than the one before it.

    On CUDA, ONNX Runtime's convolutions hold one cuDNN plan, for the shape that they saw last, and build another one
    whenever the shape changes, also back to one that they have seen. The same passes are timed twice: all of ``rows``
    and then all of half as many, and the two in turns.

    Args:
        model: opened on the device.
        rows: of the larger pass.
        passes: how many of either size.
        repeats: how often both orders are timed.

    Returns:
        ``rows``; ``milliseconds``: of one change of shape; ``passes_lost``: the same in passes of ``rows`` (may be
        slightly negative on a host, where a change costs nothing).
    """
    if model.fixed_batch:
        return {"skipped": f"the file takes batches of {model.fixed_batch} only"}
    images = torch.rand((rows, 3, *model.size), generator=torch.Generator().manual_seed(0)).to(model.device)
    ready = preprocess(images, model.card.input).contiguous()
    large, small = ready, ready[: max(1, rows // 2)]

    def run(batches: list[torch.Tensor]) -> None:
        for batch in batches:
            model.session.run_tensor(batch)

    def blocks() -> None:
        run([large] * passes + [small] * passes)

    def in_turns() -> None:
        run([large, small] * passes)

    found = paired(blocks, in_turns, repeats)
    one = paired(lambda: run([large] * passes), lambda: run([large] * passes), 1).seconds_b / passes
    # In blocks the shape changes twice (from the run before, and in the middle), in turns with every pass.
    change = (found.seconds_b - found.seconds_a) / max(1, 2 * passes - 2)
    return {"rows": rows, "milliseconds": round(change * 1e3, 3), "passes_lost": round(change / one, 3)}
