"""Many vector-Jacobian products of one image: the work behind ``FaceModel.vjp``.

Place in the flow: called by ``onnx_model.py``; torch in, torch out, knows nothing of cards or sessions.

The image is repeated in a small batch, that batch goes forward once, and its graph is kept while one batch of vectors
after another goes backward through it. On a CPU that is faster than torch's batched gradients (``is_grads_batched``),
whose vectorised rules leave the convolution kernels' fast paths, and much faster than one vector at a time, which
leaves half of the processor idle. Activations are laid out channels last, as the CPU's convolution kernels want them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Vectors per backward pass. CPU: of 2 to 32, 16 was the fastest on two cores on a MobileFaceNet at 112×112 (8.9 ms a
# product; 12.2 with 4 rows, 19.3 with 32), on the zoo's small one (0.7 ms) and level on resnet29 (5.7 ms). With more
# rows, activations outgrow the allocator's reuse threshold, and every pass pays for fresh pages.
ROWS = {"cpu": 16, "cuda": 64}


def vector_jacobian_products(
    network: Callable[[Tensor], Tensor], images: Tensor, vectors: Tensor, limit: int | None = None
) -> Tensor:
    """Return Σ_k vectors[n, m, k] · ∂outputs[n, k] / ∂images[n] for all n, m.

    Where there are at least as many vectors per image as rows in a pass (:data:`ROWS`), every image is worked on alone,
    so that its products do not depend on which other images are in the batch, bit for bit.

    Args:
        network: maps N×C×H×W to outputs N×K, row by row.
        images: N×C×H×W.
        vectors: N×M×K, on the images' device.
        limit: the largest number of images in one pass; default: :data:`ROWS` alone decides.

    Returns:
        float32 N×M×C×H×W.
    """
    n, m = vectors.shape[:2]
    products = images.new_zeros((n, m, *images.shape[1:]), dtype=torch.float32)
    most = ROWS.get(images.device.type, ROWS["cpu"])
    rows = most if limit is None else max(1, min(most, limit))
    copies = 1 if m < rows else rows
    group = rows // copies
    for first in range(0, n if m else 0, group):
        some = images[first : first + group].detach()
        repeated = some.repeat_interleave(copies, dim=0).contiguous(memory_format=torch.channels_last)
        pixels = repeated.requires_grad_(True)
        with torch.enable_grad():
            outputs = network(pixels)
        for start in range(0, m, copies):
            part = vectors[first : first + group, start : start + copies]
            # The last vectors may be too few for the graph's batch; zeros fill it and their products are dropped.
            filled = torch.nn.functional.pad(part, (0, 0, 0, copies - part.shape[1])).flatten(0, 1)
            (gradient,) = torch.autograd.grad(outputs, pixels, filled.to(outputs.dtype), retain_graph=True)
            products[first : first + group, start : start + copies] = gradient.unflatten(0, (len(some), copies))[
                :, : part.shape[1]
            ]
    return products
