"""Several fills for one face: strangers, the partner, or blurs of several strengths.

Place in the flow: between ``partition`` and ``subsets``. May call ``perturb.strangers``, ``perturb.fills``, ``loading``
and ``contract``.

* ``stranger``: faces of other people of an aligned data set, each of a different person as long as there are enough,
  drawn by the seed and the sample's id; for a classifier, faces of another class where the set has any;
* ``partner``: the other image of the pair (one fill);
* ``blur``: Gaussian blur of the image itself, σ from half to twice the protocols' 8 % of the shorter side, in equal
  ratios (one fill: the 8 % alone).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from faithface.contract import Dataset, Face, FaceModel, Sample, Samples
from faithface.errors import NotApplicable, UsageError, nearest
from faithface.lazy import torch
from faithface.loading import read_face
from faithface.perturb.fills import BLUR, gaussian_blur
from faithface.perturb.strangers import FaceIndex, face_index
from faithface.reasons import ReasonCode
from faithface.tasks import accepted, pair_similarity

if TYPE_CHECKING:
    from torch import Tensor

KINDS = ("stranger", "partner", "blur")


@dataclass(frozen=True)
class FillSet:
    """F fills of one kind: ``images`` float32 F×3×H×W in [0, 1], ``names`` for the page, ``skipped`` strangers."""

    kind: str
    images: Tensor
    names: tuple[str, ...]
    skipped: int = 0


def check_kind(kind: str, pairs: bool, dataset: Dataset | None) -> None:
    """Refuse a kind of fill that cannot be used.

    Raises:
        UsageError: no such kind.
        NotApplicable: ``partner`` without pairs, ``stranger`` without a data set, or faces that are not aligned.
    """
    if kind not in KINDS:
        raise UsageError(f'fill "{kind}" is not known; {nearest(kind, KINDS)}')
    if kind == "partner" and not pairs:
        raise NotApplicable('fill "partner" is the other image of a pair; this model takes one image: use blur')
    if kind == "stranger" and dataset is None:
        raise NotApplicable(
            'fill "stranger" takes its pixels from other people\'s faces: give a data set of aligned faces (--dataset)'
            + ("" if pairs else ", or use blur")
        )
    if kind in ("stranger", "partner") and dataset is not None and not dataset.aligned:
        raise NotApplicable(
            f'data set "{dataset.name}" declares that its faces are not aligned, so fill "{kind}" would put an eye '
            "where a cheek is: align them first, or use blur",
            ReasonCode.NOT_ALIGNED,
        )


def make_fills(
    model: FaceModel, samples: Samples, kind: str, count: int, dataset: Dataset | None, known: tuple[str, ...] = ()
) -> FillSet:
    """Return the fills of one loaded sample or pair (its probe is what they replace).

    Args:
        count: how many, for ``stranger`` and ``blur``.
        known: ids of faces of the data set that are the sample's own images under other names, as where the sample was
            read from files.

    Raises:
        UsageError, NotApplicable: see :func:`check_kind`; or too few strangers.
    """
    check_kind(kind, samples.are_pairs, dataset)
    probe = samples.images[0, 0] if samples.are_pairs else samples.images[0]
    if kind == "partner":
        return FillSet(kind, samples.images[0, 1:2], ("partner",))
    if kind == "blur":
        ratios = np.geomspace(0.5, 2, count) if count > 1 else np.ones(1)
        sigmas = [float(BLUR * ratio) * min(probe.shape[-2:]) for ratio in ratios]
        blurred = torch.stack([gaussian_blur(probe[None], sigma)[0] for sigma in sigmas]).clamp_(0, 1)
        return FillSet(kind, blurred, tuple(f"σ = {sigma:.1f} px" for sigma in sigmas))
    assert dataset is not None  # check_kind has refused that
    index = face_index(model, dataset)
    chosen, skipped = _draw(model, samples, index, count, known)
    return FillSet(
        kind,
        torch.stack([pixels for _, pixels in chosen]).to(probe.device),
        tuple(face.id for face, _ in chosen),
        skipped,
    )


def _draw(
    model: FaceModel, samples: Samples, index: FaceIndex, count: int, known: tuple[str, ...]
) -> tuple[list[tuple[Face, Tensor]], int]:
    """Draw strangers one after another; skip those that the model itself accepts as one of the two people."""
    rng = samples.rng(0, "region strangers")
    faces = {*known, *(face.id for face in samples.items[0].faces)}
    own = [index.number[name] for name in faces if name in index.number]
    order = [int(p) for p in rng.permutation(len(index.faces))]
    order = [p for p in order if p not in own and index.person[p] not in index.person[own]]
    item = samples.items[0]
    if isinstance(item, Sample):
        label = item.label or model.card.output.classes[int(samples.clean.predicted[0])]
        order = [p for p in order if index.labels[p] is not None and index.labels[p] != label] or order
    # One face of each person first, then a second of each: distinct people for as long as there are any.
    seen: dict[int, int] = {}
    rounds = []
    for place in order:
        person = int(index.person[place])
        rounds.append((seen.setdefault(person, 0), place))
        seen[person] += 1
    chosen: list[tuple[Face, Tensor]] = []
    skipped = 0
    for _, place in sorted(rounds, key=lambda entry: entry[0]):
        if len(chosen) == count:
            break
        face = index.faces[place]
        pixels = read_face(face, model.size)
        if _taken_for_the_same(model, samples, pixels):
            skipped += 1
            continue
        chosen.append((face, pixels))
    if len(chosen) < count:
        taken = f" ({skipped} more are not used, because the network takes them for one of the two)" if skipped else ""
        raise NotApplicable(
            f'data set "{index.dataset.name}" has {len(chosen)} faces of other people{taken}; expected {count} fills: '
            "give a larger set, or fewer fills (--fills)"
        )
    return chosen, skipped


def _taken_for_the_same(model: FaceModel, samples: Samples, pixels: Tensor) -> bool:
    if not samples.are_pairs or samples.threshold is None:
        # A copy of the image itself changes nothing, so it is not a fill.
        return bool((samples.images[0] - pixels.to(samples.images.device)).abs().amax(dim=(-3, -2, -1)).min() < 1e-6)
    embedded = model.embeddings(pixels[None].to(samples.images.device)).cpu()
    likeness = pair_similarity(model.card, samples.clean.outputs[0].cpu(), embedded)
    return bool(accepted(likeness, samples.threshold).any())
