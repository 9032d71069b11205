"""``patch-replacement@1``: strange patches are pasted into the probe; can the map find them and correct the decision?

Place in the flow: a metric that explains altered pairs; called by ``run``. May call ``_reexplain``, ``_forward``,
``perturb``, ``tasks``, ``contract``.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from faithface.card import ModelCard
from faithface.contract import Dataset, Explainer, FaceModel, Maps, Metric, Protocol, Samples, Scores, Value
from faithface.errors import NotApplicable
from faithface.lazy import torch
from faithface.metrics import _maps
from faithface.metrics._forward import NO_THRESHOLD
from faithface.metrics._reexplain import altered, need_explainer
from faithface.perturb import Track, fill_images, plan_tracks, rank, run_masking_plan
from faithface.perturb.finite import require_finite
from faithface.reasons import Reason, ReasonCode
from faithface.tasks import accepted, pair_similarity

if TYPE_CHECKING:
    from torch import Tensor

PATCHES = 27
PATCH = 16 / 112  # the published 16 pixels, as a share of the side
SHARES = np.arange(0, 100, 5) / 100  # replaced shares: 0, 5, …, 95 %
PURPOSE = "patch-replacement"


def patch_mask(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Return bool H×W: where the 27 patches lie, corners uniform, overlaps allowed."""
    height, width = size
    tall, wide = (max(1, round(PATCH * side)) for side in size)
    mask = np.zeros(size, dtype=bool)
    for _ in range(PATCHES):
        top, left = int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1))
        mask[top : top + tall, left : left + wide] = True
    return mask


def patched_pairs(model: FaceModel, samples: Samples) -> Samples:
    """Return the pairs with patches of the reference (impostor pairs) or of a stranger (genuine pairs) on the probe.

    The patches are their ground truth: what makes a genuine pair's faces differ, and an impostor pair's alike.
    """
    source = samples.images[:, 1].clone()
    genuine = samples.where("genuine")
    if len(genuine):
        source[genuine] = fill_images(model, samples.take(genuine), "stranger")[:, 0]
    masks = np.stack([patch_mask(samples.rng(i, PURPOSE), model.size) for i in range(len(samples))])
    images = torch.where(torch.from_numpy(masks).to(source.device)[:, None], source, samples.images[:, 0])
    patched = altered(model, samples, images, question="own")
    items = tuple(_with_truth(item, mask) for item, mask in zip(samples.items, masks, strict=True))
    return dataclasses.replace(patched, items=items)


def _with_truth(item: Any, mask: np.ndarray) -> Any:
    kind = "dissimilarity" if item.same else "similarity"
    return dataclasses.replace(item, truth={kind: lambda: np.stack([mask, np.zeros_like(mask)])})


def restoring_scores(model: FaceModel, samples: Samples, patched: Samples, orders: Tensor) -> Tensor:
    """Return the similarity of the pairs while the patched probe gets its original pixels back.

    Args:
        samples, patched: the N original and patched pairs.
        orders: int64 K×N×(H·W): K orders of the pixels for each pair.

    Returns:
        float32 K×N×S, at the S shares of :data:`SHARES`; nothing is run for a share that replaces no further pixel.
    """
    kinds, n, pixels = orders.shape
    counts = np.rint(SHARES * pixels).astype(np.int64)
    stops = np.unique(counts[counts > 0])
    start = patched.clean.scores.cpu()[None, :, None].expand(kinds, n, 1)
    if not len(stops):
        return start.expand(kinds, n, len(counts))
    canvases = torch.cat([patched.images[:, 0], samples.images[:, 0]])
    tracks = [Track(i, n + i, k * n + i, stops) for k in range(kinds) for i in range(n)]
    outputs = run_masking_plan(model, plan_tracks(canvases, orders.flatten(0, 1), tracks))
    reference = samples.clean.outputs[:, 1].cpu().repeat(kinds, 1)[:, None]
    scores = pair_similarity(model.card, outputs, reference).unflatten(0, (kinds, n))
    at = np.searchsorted(np.concatenate([[0], stops]), counts)
    return torch.cat([start, scores], dim=2)[:, :, torch.from_numpy(at)]


@dataclass(frozen=True)
class PatchReplacement(Metric):
    """Decision-based patch replacement: does the map find the patches that disturb a decision?

    Formula
        27 patches of 16×16 pixels (of a side of 112; a seventh of the side for others), corners uniform, overlaps
        allowed. Impostor pairs: patches of the reference at the same place, which raise the similarity. Genuine pairs:
        patches of another person's face. The patched pair is explained, C = similarity map − dissimilarity map of the
        probe. Rejected at the clean threshold: the pixels with the *lowest* C get their original content back;
        accepted: those with the *highest*. At replaced shares r = 0, 5, …, 95 % the decision is taken again; error = 1
        where a genuine pair is rejected or an impostor pair accepted;
        value = area under error against r, trapezoid, divided by 0.95.

    Values
        headline: the area. Its mean over genuine pairs is the area under FNMR, over impostor pairs the area under FMR.
        ``fnmr``, ``fmr``: the same value, on genuine and on impostor pairs only.
        ``random``: the area where random pixels are replaced (one permutation per pair), the control.
        Curves over r: ``share``, ``error``, ``error-random``. Their means over genuine pairs are FNMR, over impostor
        pairs FMR.

    Range and direction
        0 to 1. Lower is better. The best value is 0.0. Read it against ``random``: with 95 % of the pixels replaced
        nearly every decision is corrected, whatever the map.

    Which maps
        Both maps of the probe, on the patched pair; the maps of the unaltered pair are not used. The patched pairs
        carry their patches as ground truth, so that an oracle can play.

    Special cases
        Equal pixels are replaced in the order of the sample's seeded permutation. A constant C is scored, as that
        random order, and flagged. Where a map of a patched pair is not finite, or no threshold is known, there is no
        value.

    Differs from other libraries
        The published code stores patched faces as JPEG, so that compression is part of its scores; here pixels stay
        floats. It seeds once per class of pairs, here each pair has its seed. It compares with a percentile strictly,
        so that tied pixels (half of a sparse map) are replaced at the end or never; here exactly a share r is. It
        publishes the two curves and no number.

    Known weaknesses
        Patches have sharp edges that a network may notice as such. The decision is a yes or no: pairs far from the
        threshold say nothing, and few pairs give a coarse curve.

    Cost
        One explanation and 39 forward passes per pair: the patched probe, and 19 shares for the map and for the
        control.

    Source
        Huber et al., Efficient Explainable Face Verification based on Similarity Score Argument Backpropagation,
        arXiv:2304.13409 (Patch-LFW).
    """

    protocol = Protocol(
        id="patch-replacement@1",
        question=(
            "Patches of a wrong face lie on the probe. If the pixels that the map blames for the decision get "
            "their original content back, is the decision corrected, and how soon?"
        ),
        better="lower",
        range=(0.0, 1.0),
        best=0.0,
        needs=frozenset({"model", "explainer"}),
        family="faithful",
        values=(
            Value(),
            Value("fnmr"),
            Value("fmr"),
            Value("random"),
        ),
        cost="39, and 1 explanation",
        source="Huber et al., arXiv:2304.13409",
        tasks=frozenset({"verification"}),
    )

    def check(self, card: ModelCard, dataset: Dataset, explainer: Explainer | None = None) -> None:
        if not dataset.aligned:
            raise NotApplicable(
                f'metric "{self.id}" pastes parts of one face into another and needs aligned faces; '
                f'dataset "{dataset.name}" says that its faces are not',
                ReasonCode.NOT_ALIGNED,
            )

    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        explainer = need_explainer(self.id, explainer)
        n, threshold = len(samples), samples.threshold
        if threshold is None:
            blank = np.full(n, np.nan)
            return _maps.result(dict.fromkeys(self.protocol.value_names, blank), dict.fromkeys(range(n), NO_THRESHOLD))
        patched = patched_pairs(model, samples)
        found = explainer.explain(model, patched)
        similar, dissimilar = (_maps.pick(found, (kind,) * n) for kind in ("similarity", "dissimilarity"))
        balance = similar - dissimilar
        invalid = _maps.invalid(balance)
        taken = accepted(patched.clean.scores, threshold)
        blamed = torch.where(taken[:, None, None], balance, -balance)
        order = rank(_maps.finite(blamed), samples).order
        chance = [samples.rng(i, f"{PURPOSE}/control").permutation(order.shape[1]) for i in range(n)]
        orders = torch.stack([order.cpu(), torch.from_numpy(np.stack(chance))])
        scores = restoring_scores(model, samples, patched, orders)
        require_finite(model, samples.ids, scores.transpose(0, 1).flatten(1), "patches of another face")
        after = accepted(scores, threshold).numpy()
        error = (after != samples.genuine[:, None]).astype(np.float64)
        area = np.trapezoid(error, SHARES, axis=2) / SHARES[-1]
        values = {
            "": area[0],
            "fnmr": np.where(samples.genuine, area[0], np.nan),
            "fmr": np.where(samples.genuine, np.nan, area[0]),
            "random": area[1],
        }
        curves = {"share": np.tile(SHARES, (n, 1)), "error": error[0], "error-random": error[1]}
        done = _maps.result(values, invalid, _maps.constant(balance), curves)
        sides = {
            i: Reason(ReasonCode.UNDEFINED, f"{'fmr' if same else 'fnmr'}: of the other kind of pairs")
            for i, same in enumerate(samples.genuine)
        }
        return Scores(done.values, {**sides, **invalid}, done.curves, done.flags)


METRICS = (PatchReplacement(),)
