"""Networks whose answer is known: additive verifiers, bags of patches, and hand-set detectors of printed tags.

Place in the flow: built by ``loops.py`` (the first two) and ``train_exact.py`` (the tags), written by ``export.py``;
imports torch, numpy and the units of ``networks.py``, and the printed tag of the planted faces. Input N×3×112×112,
pixels normalised as the card says.

Every network returns two values: what the zoo's networks return, and the *contributions* that it is made of.

* :class:`AdditiveFace`: e_p, the unit embedding of patch p, and static weights w = softmax(v). The embedding is the
  concatenation of √w_p · e_p. Its norm is 1, so the cosine of two images is Σ_p w_p ⟨a_p, b_p⟩. Second output: the same
  numbers as N×P×D. The contribution of patch p to a pair is the dot product of row p of both images. After RRFNet
  (arXiv:2510.10753).
* :class:`BagOfPatches`: s_p, one number per patch; logits (−s/2, s/2) with s the mean of s_p. Second output: s_p / P,
  N×P, whose sum is the difference of the two logits. After BagNet (Brendel & Bethge 2019).
* :class:`TagRule`: d_1 and d_2, how much of each tag is printed (1 where it is), and a rule on both. Second output: the
  Shapley values of the 49 patches in closed form (:func:`tag_shapley`), N×P. After AttributionLab (arXiv:2310.06514).

A patch is computed from its own pixels only: patches are moved to the batch axis before the first convolution that is
larger than one pixel, and are padded there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from faithface_plugins.datasets import planted
from training.networks import SIZE, STD, Unit

TINY = 1e-12

Rule = Literal["one", "and", "or", "xor"]
RULES: tuple[Rule, ...] = ("one", "and", "or", "xor")
TAG_PATCH = 16
TAG_CORNERS = ("bottom-right", "bottom-left")
GAIN = 8.0
# Of the same extent for both patch sizes, and never the patches' scores themselves.
BODY_LAYER = "/body.widen/relu"


@dataclass(frozen=True)
class Declared:
    """What the card says of the second output; the fields are those of ``[contributions]``.

    Attributes:
        grid: rows and columns of patches.
        sums_to: what the contributions sum to.
        offset: the score where all contributions are 0.
        interacting: patches whose contributions depend on each other.
        layer: for CAMs, ``[explain]`` of the card; "" = the automatic choice.
    """

    grid: tuple[int, int]
    sums_to: Literal["similarity", "logit-difference"]
    offset: float = 0.0
    interacting: tuple[int, ...] = ()
    layer: str = ""


class PatchBody(nn.Module):
    """Features of each patch from its own pixels: N×3×112×112 to N×F×G×G, F = ``features``, G = 112 / ``patch``.

    Two 3×3 convolutions of stride 2 and a third run with patches on the batch axis (the third of stride 1 where the
    patch is 28 pixels; a patch of 16 pixels is halved twice as well). A 1×1 convolution on the whole grid follows, so
    that class activation maps have a layer of 28×28, and a depthwise convolution over each patch.
    """

    def __init__(self, patch: int, widths: tuple[int, int, int] = (16, 32, 64)) -> None:
        super().__init__()
        if SIZE % patch or patch % 4:
            raise ValueError(f"patch is {patch}; expected a multiple of 4 that divides {SIZE}")
        a, b, c = widths
        self.patch, self.side, self.cells = patch, SIZE // patch, patch // 4
        self.first = Unit(3, a, stride=2, act=nn.ReLU())
        self.second = Unit(a, b, stride=2, act=nn.ReLU())
        self.third = Unit(b, b, act=nn.ReLU())
        self.widen = Unit(b, c, 1, act=nn.ReLU())
        # Where something is seen within a patch matters, so that places are weighted rather than averaged.
        self.pool = Unit(c, 2 * c, self.cells, self.cells, groups=c, act=nn.ReLU())
        self.pool.conv.padding = (0, 0)
        self.features = 2 * c

    def forward(self, x: Tensor) -> Tensor:
        side, patch, cells = self.side, self.patch, self.cells
        x = x.reshape(-1, 3, side, patch, side, patch).permute(0, 2, 4, 1, 3, 5).reshape(-1, 3, patch, patch)
        x = self.third(self.second(self.first(x)))
        channels = x.shape[1]
        x = x.reshape(-1, side, side, channels, cells, cells).permute(0, 3, 1, 4, 2, 5)
        x = x.reshape(-1, channels, side * cells, side * cells)
        return self.pool(self.widen(x))  # type: ignore[no-any-return]


class AdditiveFace(nn.Module):
    """Verification: the cosine of two embeddings is a sum of one term per patch.

    Args:
        patch: side of a patch in pixels.
        each: length of a patch's embedding.

    The convolutions are shared by all patches; each position has its own last layer.
    """

    def __init__(self, patch: int, each: int) -> None:
        super().__init__()
        self.body = PatchBody(patch)
        self.patches, self.each = self.body.side**2, each
        self.dimensions = self.patches * each
        self.head = nn.Conv2d(self.patches * self.body.features, self.dimensions, 1, groups=self.patches)
        self.weight = nn.Parameter(torch.zeros(self.patches))
        self.declared = Declared((self.body.side, self.body.side), "similarity", layer=BODY_LAYER)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the embedding N×(P·D), of norm 1, and the weighted patch embeddings N×P×D: the same numbers."""
        features = self.body(x).permute(0, 2, 3, 1).reshape(-1, self.patches * self.body.features, 1, 1)
        rows = self.head(features).reshape(-1, self.patches, self.each).float()
        rows = rows / (rows * rows).sum(dim=2, keepdim=True).add(TINY).sqrt()
        rows = rows * self.weight.softmax(dim=0).sqrt()[:, None]
        return rows.reshape(-1, self.dimensions), rows


class BagOfPatches(nn.Module):
    """Classifier: the difference of the two logits is the mean of one number per patch."""

    def __init__(self, patch: int) -> None:
        super().__init__()
        self.body = PatchBody(patch)
        self.patches = self.body.side**2
        self.head = nn.Conv2d(self.body.features, 1, 1)
        self.declared = Declared((self.body.side, self.body.side), "logit-difference", layer=BODY_LAYER)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits N×2 and contributions N×P, which sum to logit 1 − logit 0."""
        each = self.head(self.body(x)).reshape(-1, self.patches).float() / self.patches
        total = each.sum(dim=1, keepdim=True)
        return torch.cat([-total / 2, total / 2], dim=1), each


def tag_value(rule: Rule, one: Tensor, two: Tensor) -> Tensor:
    """Return the rule as a polynomial of how much of each tag is there (0 and 1: the truth table)."""
    if rule == "one":
        return one
    if rule == "and":
        return one * two
    return one + two - (1.0 if rule == "or" else 2.0) * one * two


def tag_shapley(rule: Rule, one: Tensor, two: Tensor) -> tuple[Tensor, Tensor]:
    """Return the Shapley values of both tags, where a tag that is taken away is 0: they sum to :func:`tag_value`.

    The rule is α·(d₁ + d₂) + β·d₁d₂. A sum gives each player its own term, and a product is shared equally:
    φ_i = α·d_i + β·d₁d₂ / 2. So both tags of an AND get a half each, of an OR a half each, of an XOR nothing, while a
    tag alone gets all of an OR or XOR, and nothing of an AND. ``one`` gives the second tag nothing.
    """
    if rule == "one":
        return one, torch.zeros_like(two)
    alone = 0.0 if rule == "and" else 1.0
    both = {"and": 1.0, "or": -1.0, "xor": -2.0}[rule] * one * two / 2
    return alone * one + both, alone * two + both


def tag_template(corner: str) -> tuple[np.ndarray, int]:
    """Return the printed tag in its patch of 16 pixels, float32 3×16×16 in [0, 1] and 0 outside, and the patch's index.

    Raises:
        ValueError: the tag does not lie within one patch.
    """
    blank = np.zeros((1, SIZE, SIZE, 3), np.uint8)
    printed = planted.stamp_tag(blank, np.array([True]), corner)[0].astype(np.float32) / 255
    rows, columns = np.nonzero(planted.tag_mask(corner))
    row, column = rows.min() // TAG_PATCH, columns.min() // TAG_PATCH
    if rows.max() // TAG_PATCH != row or columns.max() // TAG_PATCH != column:
        raise ValueError(f"the tag in the {corner} corner crosses patches of {TAG_PATCH} pixels")
    y, x = row * TAG_PATCH, column * TAG_PATCH
    patch = printed[y : y + TAG_PATCH, x : x + TAG_PATCH].transpose(2, 0, 1)
    return patch, int(row * (SIZE // TAG_PATCH) + column)


class TagRule(nn.Module):
    """Classifier with written weights: is the tag there, are both, is one of them, is exactly one?

    A convolution of 16 pixels and stride 16 correlates each patch with the printed tag, less its mean over the tag's
    pixels, so that brightness alone says nothing: r = 1 on the printed tag, 0 on an even patch. Presence is
    d = ReLU(1 − (1 − r) · ``SHARPNESS``): 1 on the tag, 0 from r = 0.75 down. The logits are (−s/2, s/2) with
    s = ``GAIN`` · (rule(d₁, d₂) − ½).
    """

    SHARPNESS = 4.0

    def __init__(self, rule: Rule) -> None:
        super().__init__()
        if rule not in RULES:
            raise ValueError(f"rule is {rule!r}; expected one of {', '.join(RULES)}")
        self.rule = rule
        self.side = SIZE // TAG_PATCH
        self.patches = self.side**2
        self.correlate = nn.Conv2d(3, len(TAG_CORNERS), TAG_PATCH, TAG_PATCH)
        self.relu = nn.ReLU()
        places = torch.zeros(len(TAG_CORNERS), self.patches)
        with torch.no_grad():
            for at, corner in enumerate(TAG_CORNERS):
                weight, bias = _detector(corner, self.SHARPNESS)
                self.correlate.weight[at].copy_(torch.from_numpy(weight))
                self.correlate.bias[at] = bias  # type: ignore[index]
                places[at, tag_template(corner)[1]] = 1
        self.register_buffer("places", places)
        # A single tag has its patch to itself; of two, each one's share depends on the other.
        interacting = () if rule == "one" else tuple(tag_template(corner)[1] for corner in TAG_CORNERS)
        self.declared = Declared((self.side, self.side), "logit-difference", -GAIN / 2, interacting)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits N×2 and the patches' Shapley values N×49, which sum to logit 1 − logit 0 + GAIN / 2."""
        seen = self.relu(self.correlate(x)).reshape(-1, len(TAG_CORNERS), self.patches)
        # Each detector looks at its own patch only: all others are multiplied by 0.
        one, two = ((seen * self.places).sum(dim=2)).split(1, dim=1)
        shares = torch.cat(tag_shapley(self.rule, one, two), dim=1) * GAIN
        total = tag_value(self.rule, one, two) * GAIN - GAIN / 2
        return torch.cat([-total / 2, total / 2], dim=1), shares @ self.places


def _detector(corner: str, sharpness: float) -> tuple[np.ndarray, float]:
    """Return weight and bias of 1 − (1 − r) · sharpness on normalised pixels."""
    # In float64: the contrast must sum to 0 to the last digit, or the mean of the card would show.
    patch = tag_template(corner)[0].astype(np.float64)
    printed = patch.any(axis=0)
    contrast = (patch - patch[:, printed].mean(axis=1)[:, None, None]) * printed
    # On pixels: r = ⟨contrast, pixels⟩ / ⟨contrast, tag⟩. The contrast sums to 0, so that the card's mean drops out.
    weight = contrast / (contrast * patch).sum() * STD * sharpness
    return weight.astype(np.float32), 1.0 - sharpness


EXACT: dict[str, Callable[[], nn.Module]] = {
    "additive-28": partial(AdditiveFace, 28, 24),
    "additive-16": partial(AdditiveFace, 16, 16),
    "bag-28": partial(BagOfPatches, 28),
    "bag-16": partial(BagOfPatches, 16),
    **{f"tag-{rule}": partial(TagRule, rule) for rule in RULES},
}
