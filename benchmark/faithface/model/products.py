"""Many vector-Jacobian products of one image: the work behind ``FaceModel.vjp``.

Place in the flow: called by ``onnx_model.py``; torch in, torch out, knows nothing of cards or sessions.

The image is repeated in a small batch, that batch goes forward once, and its graph is reused while one batch of vectors
after another goes backward through it. On a CPU that is faster than torch's batched gradients (``is_grads_batched``),
whose vectorised rules leave the convolution kernels' fast paths, and much faster than one vector at a time, which
leaves half of the processor idle. Activations are stored channels last, as the CPU's convolution kernels prefer.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Vectors per backward pass. CPU: of 2 to 32, 16 was the fastest on two cores on a MobileFaceNet at 112×112 (8.9 ms a
# product; 12.2 with 4 rows, 19.3 with 32), on the zoo's small one (0.7 ms) and level on resnet29 (5.7 ms). With more
# rows, activations outgrow the allocator's reuse threshold, and every pass pays for fresh pages.
ROWS = {"cpu": 16, "cuda": 64}


class KeptGraph:
    """One forward pass of some images, whose graph serves any number of vector-Jacobian products.

    Args:
        network: maps N×C×H×W to outputs N×K, row by row.
        images: G×C×H×W.
        copies: rows of the pass that each image takes, and so the vectors of each image per backward pass.
    """

    def __init__(self, network: Callable[[Tensor], Tensor], images: Tensor, copies: int) -> None:
        repeated = images.detach().repeat_interleave(copies, dim=0)
        self.images, self.copies = images, copies
        self.pixels = repeated.contiguous(memory_format=torch.channels_last).requires_grad_(True)
        with torch.enable_grad():
            self.outputs = network(self.pixels)

    def products(self, vectors: Tensor, into: Tensor | None = None) -> Tensor:
        """Return Σ_k vectors[g, m, k] · ∂outputs[g, k] / ∂images[g], float32 G×M×C×H×W, from vectors G×M×K.

        Args:
            into: where to write them, if not into new memory.
        """
        shape = (*vectors.shape[:2], *self.images.shape[1:])
        found = self.images.new_empty(shape, dtype=torch.float32) if into is None else into
        for start in range(0, vectors.shape[1], self.copies):
            part = vectors[:, start : start + self.copies]
            # The last vectors may be too few for the graph's batch; zeros fill it and their products are dropped.
            filled = torch.nn.functional.pad(part, (0, 0, 0, self.copies - part.shape[1])).flatten(0, 1)
            (gradient,) = torch.autograd.grad(
                self.outputs, self.pixels, filled.to(self.outputs.dtype), retain_graph=True
            )
            by_image = gradient.unflatten(0, (len(self.images), self.copies))
            found[:, start : start + self.copies] = by_image[:, : part.shape[1]]
        return found


def rows_per_pass(device: str, limit: int | None = None) -> int:
    """Return the rows of one backward pass on a device (``cpu``, ``cuda``), at most ``limit``."""
    most = ROWS.get(device, ROWS["cpu"])
    return most if limit is None else max(1, min(most, limit))


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
    rows = rows_per_pass(images.device.type, limit)
    copies = 1 if m < rows else rows
    group = rows // copies
    for first in range(0, n if m else 0, group):
        graph = KeptGraph(network, images[first : first + group], copies)
        graph.products(vectors[first : first + group], into=products[first : first + group])
    return products
