"""What replaces removed pixels (protocol rule 5): one fill image per altered face, in pixel space.

Place in the flow: ``curves`` makes the fill images of a batch once and shares them between explainers. May call
``contract``, ``loading``, ``errors``, ``tasks`` and its siblings ``strangers`` and ``linear``.

All fills but ``linear`` are images that do not depend on the mask:

* ``stranger``: another person's face of the same dataset (aligned datasets only);
* ``partner``: the other image of the pair (aligned datasets only);
* ``blur``: Gaussian, σ = 8 % of the shorter side, reflecting border, exactly ``scipy.ndimage.gaussian_filter``;
* ``black``: 0; ``mean``: the image's own mean colour;
* ``rise``: RISE's 11×11 kernel, applied as RISE does in the network's normalised space with a border of zeros;
* ``linear``: ROAD's noisy linear imputation, a function of image and mask (``linear.py``).

A plugin's fill (:class:`faithface.Fill`) stands wherever the name of a builtin one does. What it returns is checked.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from faithface.card import InputCard
from faithface.contract import Dataset, FaceModel, Fill, Removal, Samples
from faithface.contract.fill import SIDES
from faithface.errors import NotApplicable, RunError, UsageError, nearest
from faithface.lazy import torch
from faithface.loading import read_face
from faithface.perturb.linear import impute_linear
from faithface.perturb.strangers import draw_strangers, face_index
from faithface.tasks import TASKS

if TYPE_CHECKING:
    from torch import Tensor

FillName = Literal["stranger", "partner", "blur", "black", "mean", "rise", "linear"]
ClassFillName = Literal["stranger", "blur", "black", "mean", "rise", "linear"]
FILLS: tuple[str, ...] = get_args(FillName)

BLUR = 0.08  # σ as a share of the shorter side
RISE_SIZE, RISE_SIGMA = 11, 5.0
OUTSIDE = 1e-5
"""How far outside [0, 1] rounding may take a plugin's fill."""


def sees_mask(fill: str | Fill) -> bool:
    """Say whether a fill depends on which pixels are removed, so that there is no one fill image."""
    return fill.filling.sees_mask if isinstance(fill, Fill) else fill == "linear"


def check_fill(fill: str | Fill, dataset: Dataset | None, pairs: bool, masks: bool = True) -> None:
    """Refuse a fill that cannot be used at all.

    Args:
        masks: whether a fill that depends on the mask can be used.

    Raises:
        UsageError: no such fill.
        NotApplicable: ``partner`` without pairs; ``stranger`` or ``partner`` on faces that are not aligned;
            ``stranger`` without a dataset to draw from; a plugin's fill that is for other tasks, or that needs aligned
            faces; one that depends on the mask, where one image per face is needed.
    """
    if not masks and sees_mask(fill):
        raise NotApplicable(
            f'fill "{fill}" depends on which pixels are removed; this metric needs one fill image per face: use a fill '
            "that does not, such as blur"
        )
    if isinstance(fill, Fill):
        _check_plugin_fill(fill, dataset, pairs)
        return
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


def _check_plugin_fill(fill: Fill, dataset: Dataset | None, pairs: bool) -> None:
    told = fill.filling
    mine = set(TASKS[:1] if pairs else TASKS[1:])
    if dataset is not None and dataset.task in mine:
        mine = {dataset.task}
    if not told.tasks & mine:
        raise NotApplicable(f'fill "{fill}" is for {", ".join(sorted(told.tasks))} only')
    if told.aligned and dataset is not None and not dataset.aligned:
        raise NotApplicable(
            f'fill "{fill}" needs aligned faces; dataset "{dataset.name}" declares that its faces are not: use blur'
        )


def fill_images(model: FaceModel, samples: Samples, fill: str | Fill, sides: int = 1) -> Tensor:
    """Return the fill images of a batch, computed once per batch and shared.

    Args:
        sides: altered faces per sample: 1, or 2 where both images of a pair are altered.

    Returns:
        float32 N×sides×3×H×W in [0, 1] (``rise`` may leave the range by a rounding), on the device of the images.

    Raises:
        UsageError: an unknown fill, or one that depends on the mask, which is no image.
        NotApplicable: the fill does not fit (see :func:`check_fill`).
        RunError: a plugin's fill returned no image.
    """
    check_fill(fill, samples.dataset if fill == "stranger" or samples.dataset else None, samples.are_pairs)
    if sees_mask(fill):
        raise UsageError(f"fill {fill} depends on the mask and has no fill image; use faithface.perturb.inpainted")
    return samples.cached(_make, model, fill, sides)


def inpainted(
    model: FaceModel, samples: Samples, fill: str | Fill, index: int, masks: np.ndarray, side: int = 0
) -> Tensor:
    """Return one face with its removed pixels replaced by a fill that depends on the mask.

    Args:
        index: the sample.
        masks: bool S×H×W, True where pixels are removed.
        side: 0: a classifier's image or the probe; 1: a pair's second image.

    Returns:
        float32 S×3×H×W in [0, 1], on the device of the images; pixels that are not removed are the face's own.

    Raises:
        RunError: a plugin's fill returned no image.
    """
    image = altered_images(samples, side + 1)[index, side]
    if not isinstance(fill, Fill):
        host = image.cpu().numpy()
        made = [impute_linear(host, mask, samples.rng(index, f"linear{SIDES[side]}")) for mask in masks]
        return torch.from_numpy(np.array(made, dtype=np.float32).reshape(len(masks), *image.shape)).to(image.device)
    removed = torch.from_numpy(np.ascontiguousarray(masks)).to(image.device)
    images = image.expand(len(masks), *image.shape).contiguous()
    found = _filled(fill, model, Removal(images, removed, samples, (index,) * len(masks), side))
    return torch.where(removed[:, None], found, images)


def _filled(fill: Fill, model: FaceModel, removal: Removal) -> Tensor:
    """Return what a plugin's fill returns, if it is what the contract promises.

    Raises:
        RunError: it is not.
    """
    if not len(removal):
        return removal.images
    found = fill.fill(model, removal)
    want = tuple(removal.images.shape)
    if not isinstance(found, torch.Tensor):
        got = f"a {type(found).__name__}; expected a torch tensor {'×'.join(map(str, want))}"
    elif tuple(found.shape) != want or found.dtype != torch.float32:
        got = f"{str(found.dtype).removeprefix('torch.')} {tuple(found.shape)}; expected float32 {want}"
    elif found.device != removal.images.device:
        got = f"a tensor on {found.device}; expected one on {removal.images.device}"
    elif not torch.isfinite(found).all():
        got = "values that are not finite; guard divisions and logarithms"
    elif float(found.min()) < -OUTSIDE or float(found.max()) > 1 + OUTSIDE:
        got = f"values from {float(found.min()):.4g} to {float(found.max()):.4g}; expected [0, 1]: clamp them"
    else:
        return found.detach()
    raise RunError(f'fill "{fill}" returned {got}')


def altered_images(samples: Samples, sides: int = 1) -> Tensor:
    """Return the clean images that are altered: N×sides×3×H×W (the probe first)."""
    return samples.images[:, :sides] if samples.are_pairs else samples.images[:, None]


def _make(samples: Samples, model: FaceModel, fill: str | Fill, sides: int) -> Tensor:
    images = altered_images(samples, sides)
    if isinstance(fill, Fill):
        whole = torch.ones((len(images), *images.shape[-2:]), dtype=torch.bool, device=images.device)
        rows = tuple(range(len(images)))
        made = [_filled(fill, model, Removal(images[:, s].clone(), whole, samples, rows, s)) for s in range(sides)]
        return torch.stack(made, dim=1)
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
