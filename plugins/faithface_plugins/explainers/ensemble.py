"""Ensemble-CAM: the mean of several explainers' maps, cut at a percentile.

Place in the flow: registered by the package; runs other explainers of the registry (``bind``) and combines their maps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from faithface.contract import Explainer, FaceModel, Maps, Method, Samples
from faithface.errors import UsageError
from faithface.lazy import torch
from faithface.specs import configure, parameters
from faithface_plugins.explainers import cams

if TYPE_CHECKING:
    from torch import Tensor

# Values this close to the threshold tie with it. A resized map has plateaus, equal except for rounding that varies with
# the batch; an exact comparison would keep part of a plateau in one batch and all of it in another.
TIE = 1e-6

_BUILT_IN = {explainer.name: explainer for explainer in cams.EXPLAINERS}


@dataclass(frozen=True)
class EnsembleCam(Explainer):
    """Ensemble-CAM: the mean of Grad-CAM, HiResCAM and Grad-CAM++, of which the top 10 % of the pixels are kept.

    Formula: M_i ← M_i / max(M_i) where max(M_i) > 0; A = mean of the M_i; t = the ``quantile`` of A over all pixels
    (linear interpolation, numpy's default); the map is A where A ≥ t, else 0. It keeps graded values inside the mask.
    Ties at t (to 1e-6) keep more than 10 %; an A that is mostly 0 has t = 0 and is kept entirely.

    Parameters:
        members: names of explainers, in the order of the mean; default (grad-cam, hirescam, grad-cam++).
        quantile: 0.9, the 90th percentile; 0 keeps everything.
        layer: for members that are built-in CAMs: name of the layer ("" = the card's, else automatic).

    Source: Ensemble-CAM, arXiv:2510.19695, and its official notebooks. Cost: that of its members; the three defaults
    share 1 forward and 1 backward pass. Not specified by the paper, decided here: the paper's layer is the last 3×3
    convolution of DenseNet-161's last block (48 of 2208 channels), here it is the layer of every CAM (set ``layer`` to
    reproduce); members with negative values are cut at 0 first; for pairs (not in the paper) a member's two maps of a
    face are divided by the larger of their two maxima, then averaged, and each is cut at its own percentile.
    """

    members: tuple[str, ...] = ("grad-cam", "hirescam", "grad-cam++")
    quantile: float = 0.9
    layer: str = ""
    _bound: tuple[Explainer, ...] = field(default=(), repr=False)

    method = Method(
        name="ensemble-cam",
        needs=frozenset({"gradients", "activations"}),
        source="arXiv:2510.19695",
    )

    def __post_init__(self) -> None:
        if not 0 <= self.quantile < 1:
            raise ValueError(f"quantile is {self.quantile}; expected 0 <= quantile < 1 (0.9 keeps the top 10 %)")
        if not self.members:
            raise ValueError("members is empty; name at least one explainer")

    @property
    def info(self) -> Method:
        """The method follows from the members; ``method`` describes the defaults."""
        if not self._bound:
            return self.method
        members = [member.info for member in self._bound]
        return dataclasses.replace(
            self.method,
            needs=frozenset().union(*(m.needs for m in members)),
            tasks=frozenset.intersection(*(m.tasks for m in members)),
            seeded=any(m.seeded for m in members),
            reexplains=all(m.reexplains for m in members),
        )

    def bind(self, resolve: Callable[[str], Explainer]) -> Explainer:
        bound = tuple(self._with_layer(resolve(name)) for name in self.members)
        return dataclasses.replace(self, _bound=bound)

    def _with_layer(self, member: Explainer) -> Explainer:
        if not self.layer or "layer" not in parameters(member):
            return member
        return configure(member, [("layer", self.layer)], f'explainer "{member.name}"')  # type: ignore[no-any-return]

    def _members(self) -> tuple[Explainer, ...]:
        if self._bound:
            return self._bound
        unknown = [name for name in self.members if name not in _BUILT_IN]
        if unknown:
            raise UsageError(
                f'ensemble-cam does not know its member "{unknown[0]}" yet: names other than '
                f"{', '.join(_BUILT_IN)} are looked up in the registry; call bind(resolve) first"
            )
        return tuple(self._with_layer(_BUILT_IN[name]) for name in self.members)

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        made = [member.explain(model, samples) for member in self._members()]
        note = {"members": list(self.members)}
        layers = sorted({str(m.note["layer"]) for m in made if "layer" in m.note})
        if layers:
            note["layer"] = layers[0] if len(layers) == 1 else layers  # type: ignore[assignment]
        if not samples.are_pairs:
            stack = torch.stack([_over_maximum(_map(m.relevance).clamp(min=0)) for m in made])
            return Maps(relevance=keep_top(stack.mean(dim=0), self.quantile), note=note)
        both = torch.stack(
            [_over_maximum(torch.stack([_map(m.similarity), _map(m.dissimilarity)], dim=2)) for m in made]
        )
        similarity, dissimilarity = keep_top(both.mean(dim=0), self.quantile).unbind(dim=2)
        return Maps(similarity=similarity, dissimilarity=dissimilarity, note=note)


def _map(found: Tensor | None) -> Tensor:
    if found is None:
        raise UsageError("ensemble-cam: a member gave no map of the kind that these samples need")
    return found


def _over_maximum(maps: Tensor) -> Tensor:
    """Divide each face's map (N×H×W), or its two maps together (N×2×K×H×W), by the maximum where that is > 0."""
    axes = (-2, -1) if maps.ndim == 3 else (-3, -2, -1)
    top = maps.amax(dim=axes, keepdim=True)
    return maps / torch.where(top > 0, top, torch.ones_like(top))


def keep_top(maps: Tensor, quantile: float) -> Tensor:
    """Set each map …×H×W to 0 below its own quantile (linear interpolation between order statistics; ties are kept)."""
    flat = maps.flatten(-2).cpu().numpy()
    # numpy's rule in numpy's precision, by numpy itself: a threshold on the wrong side of a tie changes many pixels.
    cut = np.percentile(flat, 100 * quantile, axis=-1, keepdims=True)
    kept = torch.from_numpy(np.where(flat >= cut - TIE, flat, np.float32(0)))
    return kept.unflatten(-1, maps.shape[-2:]).to(maps.device)


EXPLAINERS: tuple[Explainer, ...] = (EnsembleCam(),)
