"""What replaces removed pixels (protocol rule 5): one fill image per altered face, in pixel space.

Place in the flow: ``curves`` makes the fill images of a batch once and shares them between explainers. May call
``contract``, ``loading``, ``errors`` and its siblings ``strangers`` and ``linear``.

All fills but ``linear`` are images that do not depend on the mask:

* ``stranger``: another person's face of the same dataset (aligned datasets only);
* ``partner``: the other image of the pair (aligned datasets only);
* ``blur``: Gaussian, σ = 8 % of the shorter side, reflecting border, exactly ``scipy.ndimage.gaussian_filter``;
* ``black``: 0; ``mean``: the image's own mean colour;
* ``rise``: RISE's 11×11 kernel, applied as RISE does in the network's normalised space with a border of zeros;
* ``linear``: ROAD's noisy linear imputation, a function of image and mask (``linear.py``).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from faithface.card import InputCard
from faithface.contract import Dataset, FaceModel, Samples
from faithface.errors import NotApplicable, UsageError, nearest
from faithface.lazy import torch
from faithface.loading import read_face
from faithface.perturb.strangers import draw_strangers, face_index

if TYPE_CHECKING:
    from torch import Tensor

Fill = Literal["stranger", "partner", "blur", "black", "mean", "rise", "linear"]
ClassFill = Literal["stranger", "blur", "black", "mean", "rise", "linear"]
FILLS: tuple[str, ...] = get_args(Fill)

BLUR = 0.08  # σ as a share of the shorter side
RISE_SIZE, RISE_SIGMA = 11, 5.0


def check_fill(fill: str, dataset: Dataset | None, pairs: bool) -> None:
    """Refuse a fill that cannot be used at all.

    Raises:
        UsageError: no such fill.
        NotApplicable: ``partner`` without pairs; ``stranger`` or ``partner`` on faces that are not aligned;
            ``stranger`` without a dataset to draw from.
    """
    if fill not in FILLS:
        raise UsageError(f'fill is "{fill}"; {nearest(fill, FILLS)}')
    if fill == "partner" and not pairs:
        raise NotApplicable('fill "partner" is the other image of a pair; classifiers have none: use fill=stranger')
    if fill in ("stranger", "partner") and dataset is not None and not dataset.aligned:
        raise NotApplicable(
            f'fill "{fill}" puts another face in place of this one and needs aligned faces; dataset "{dataset.name}" '
            "declares that its faces are not: use fill=blur"
        )
    if fill == "stranger" and dataset is None:
        raise NotApplicable(
            'fill "stranger" draws a face from the dataset, and these samples belong to none; give load_samples the '
            "dataset, or use fill=blur"
        )


def fill_images(model: FaceModel, samples: Samples, fill: str, sides: int = 1) -> Tensor:
    """Return the fill images of a batch, computed once per batch and shared.

    Args:
        sides: altered faces per sample: 1, or 2 where both images of a pair are altered.

    Returns:
        float32 N×sides×3×H×W in [0, 1] (``rise`` may leave the range by a rounding), on the device of the images.

    Raises:
        UsageError: an unknown fill, or ``linear``, which is not an image.
        NotApplicable: the fill does not fit (see :func:`check_fill`).
    """
    check_fill(fill, samples.dataset if fill == "stranger" or samples.dataset else None, samples.are_pairs)
    if fill == "linear":
        raise UsageError("fill linear depends on the mask and has no fill image; use faithface.perturb.linear")
    return samples.cached(_make, model, fill, sides)


def altered_images(samples: Samples, sides: int = 1) -> Tensor:
    """Return the clean images that are altered: N×sides×3×H×W (the probe first)."""
    return samples.images[:, :sides] if samples.are_pairs else samples.images[:, None]


def _make(samples: Samples, model: FaceModel, fill: str, sides: int) -> Tensor:
    images = altered_images(samples, sides)
    if fill == "stranger":
        assert samples.dataset is not None  # check_fill has refused that
        drawn = draw_strangers(face_index(model, samples.dataset), samples, sides)
        pixels = torch.stack([torch.stack([read_face(face, model.size) for face in faces]) for faces in drawn])
        return pixels.to(images.device)
    if fill == "partner":
        return samples.images.flip(1)[:, :sides]
    if fill == "blur":
        return gaussian_blur(images, BLUR * min(images.shape[-2:]))
    if fill == "black":
        return torch.zeros_like(images)
    if fill == "mean":
        return images.mean(dim=(-2, -1), keepdim=True).expand_as(images).contiguous()
    return rise_blur(images, model.card.input)


def gaussian_blur(images: Tensor, sigma: float) -> Tensor:
    """Blur float32 …×H×W as ``scipy.ndimage.gaussian_filter(image, sigma, mode="reflect")``, channel by channel.

    The filter is linear in each axis, so it is two matrix products with the filtered unit matrix: the same numbers to
    float32 rounding, several times faster, and on any device.
    """
    rows, columns = (torch.from_numpy(_blur_matrix(n, sigma)).to(images) for n in images.shape[-2:])
    return rows @ (images @ columns.T)


@lru_cache(maxsize=8)
def _blur_matrix(n: int, sigma: float) -> np.ndarray:
    from scipy import ndimage

    return ndimage.gaussian_filter1d(np.eye(n), sigma, axis=0, mode="reflect")  # type: ignore[no-any-return]


def rise_kernel() -> np.ndarray:
    """Return RISE's 11×11 kernel: a unit impulse smoothed by scipy with σ = 5 inside the 11×11 window.

    The reflecting border folds the tails back, so that it is nearly a box: its centre weighs 1.14 times its corner.
    """
    impulse = np.zeros((RISE_SIZE, RISE_SIZE))
    impulse[RISE_SIZE // 2, RISE_SIZE // 2] = 1
    from scipy import ndimage

    return ndimage.gaussian_filter(impulse, RISE_SIGMA)


def rise_blur(images: Tensor, card: InputCard) -> Tensor:
    """Convolve with RISE's kernel, zero-padded in the network's normalised space.

    There 0 is the card's mean colour, and the division by std cancels: blurred = mean + kernel ∗ (pixels − mean).
    """
    mean = list(card.mean) * 3 if len(card.mean) == 1 else list(card.mean)
    if card.color == "BGR":
        mean = mean[::-1]
    centre = images.new_tensor(mean).reshape(3, 1, 1)
    kernel = torch.from_numpy(rise_kernel()).float().to(images.device)
    flat = (images - centre).reshape(-1, 1, *images.shape[-2:])
    blurred = torch.nn.functional.conv2d(flat, kernel[None, None], padding=RISE_SIZE // 2)
    return blurred.reshape(images.shape) + centre
