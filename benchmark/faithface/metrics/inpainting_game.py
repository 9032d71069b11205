"""``inpainting-game@1``: two faces that differ in one region; does the map of their difference lead there?

Place in the flow: a metric on triplets of faces; called by ``run``. May call ``_reexplain``, ``perturb``,
``loading``, ``tasks``, ``contract``.

A triplet is a genuine pair (probe ``a``, mate ``b``) with ``others["non-mate"]``: the very picture of the mate in
which one region, ``truth["inpainted"]``, belongs to another person.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from faithface.contract import Cache, Clean, Explainer, FaceModel, Maps, Metric, Pair, Protocol, Samples, Scores, Value
from faithface.errors import UsageError
from faithface.lazy import torch
from faithface.loading import read_face
from faithface.metrics import _maps
from faithface.metrics._forward import NO_THRESHOLD
from faithface.metrics._reexplain import AGAIN, need_explainer
from faithface.perturb import Track, plan_tracks, rank, run_masking_plan
from faithface.perturb.finite import require_finite
from faithface.perturb.ranking import unit_counts
from faithface.reasons import Reason, ReasonCode
from faithface.tasks import ON_THRESHOLD, decided, pair_similarity

if TYPE_CHECKING:
    from torch import Tensor

ROLE, TRUTH = "non-mate", "inpainted"
MATE = 1  # the side of the pair that the non-mate is a version of
CURVES = ("outside", "taken", "mate-outside", "mate-taken")
NO_TRIPLET = Reason(ReasonCode.NO_GROUND_TRUTH, f'the pair has no "{ROLE}" face, or no "{TRUTH}" region')
NOTHING_OUTSIDE = Reason(ReasonCode.UNDEFINED, "no pixel lies outside the region")


def is_triplet(item: object) -> bool:
    """Return whether a sample can be played on."""
    return isinstance(item, Pair) and ROLE in item.others and TRUTH in item.truth


def against_non_mate(model: FaceModel, samples: Samples) -> Samples:
    """Return the impostor pairs (probe, non-mate), with the region as the truth of their dissimilarity."""
    images = torch.stack([read_face(item.others[ROLE], model.size) for item in samples]).to(samples.images.device)
    outputs = torch.stack([samples.clean.outputs[:, 0], model.embeddings(images)], dim=1)
    scores = pair_similarity(model.card, outputs[:, 0], outputs[:, 1])
    threshold = samples.clean.threshold
    items = tuple(
        dataclasses.replace(
            item, b=item.others[ROLE], same=False, truth={"dissimilarity": item.truth[TRUTH]}, others={}
        )
        for item in samples.items
        if isinstance(item, Pair)
    )
    pixels = torch.stack([samples.images[:, 0], images], dim=1)
    clean = Clean(outputs, scores, decided(scores, threshold), threshold)
    return dataclasses.replace(samples, items=items, images=pixels, clean=clean, cache=Cache())


def replaced_scores(model: FaceModel, samples: Samples, strange: Samples, orders: Tensor, points: int) -> Tensor:
    """Return the similarity to the probe while the non-mate becomes the mate (0), and the mate the non-mate (1).

    Args:
        samples, strange: the N pairs (probe, mate) and (probe, non-mate).
        orders: int64 2×N×(H·W): the order of the pixels in either direction.

    Returns:
        float32 2×N×points, on the CPU; the two ends are the scores of the pictures as they are.
    """
    n, pixels = orders.shape[1:]
    counts = unit_counts(pixels, points)
    stops = np.unique(counts[(counts > 0) & (counts < pixels)])
    ends = torch.stack([strange.clean.scores.cpu(), samples.clean.scores.cpu()])[:, :, None]
    parts = [ends, ends.flip(0)]
    if len(stops):
        canvases = torch.cat([strange.images[:, MATE], samples.images[:, MATE]])
        tracks = [Track(i, n + i, i, stops) for i in range(n)] + [Track(n + i, i, n + i, stops) for i in range(n)]
        outputs = run_masking_plan(model, plan_tracks(canvases, orders.flatten(0, 1), tracks))
        probe = samples.clean.outputs[:, 0].cpu().repeat(2, 1)[:, None]
        parts.insert(1, pair_similarity(model.card, probe, outputs).unflatten(0, (2, n)))
    at = np.searchsorted(np.concatenate([[0], stops, [pixels]]), counts)
    return torch.cat(parts, dim=2)[:, :, torch.from_numpy(at)]


def share_outside(inside: np.ndarray, orders: np.ndarray, points: int) -> np.ndarray:
    """Return the replaced share of the pixels outside the region at each point: float64 2×N×points.

    Args:
        inside: bool N×(H·W), the region.
        orders: int64 2×N×(H·W).
    """
    pixels = inside.shape[1]
    hits = np.take_along_axis(np.broadcast_to(~inside, orders.shape), orders, axis=2)
    done = np.concatenate([np.zeros((*orders.shape[:2], 1)), np.cumsum(hits, axis=2)], axis=2)
    return done[:, :, unit_counts(pixels, points)] / np.maximum(done[:, :, -1:], 1)


@dataclass(frozen=True)
class InpaintingGame(Metric):
    """The inpainting game: find the one region that makes two faces two persons.

    Formula
        The impostor pair (probe, non-mate) is explained. The pixels of the non-mate are replaced by the mate's, in
        the order of the non-mate's dissimilarity map, in ``points`` − 1 equal steps; x_k is the picture after step k.
        The network takes x_k for the mate where its similarity to the probe is nearer to the mate's than to the
        non-mate's (above the middle of the two). f_k is the share of the pixels *outside* the region that have been
        replaced, all in vain, since there the two pictures are equal;
        value = area under (1 where x_k is taken for the mate, else 0) against f, trapezoid on [0, 1].

    Parameters
        ``points``: points of the curve, both ends included; default 51.
        ``decision``: ``nearest`` (default) as above; ``threshold``: x_k is taken for the mate where its similarity
        reaches the decision threshold. With it only triplets count in which the network accepts the mate and rejects
        the non-mate.

    Values
        headline: the area.
        ``mate``: the published direction: the *mate's* pixels are replaced by the non-mate's in the order of the
        similarity map of probe and mate, and the area counts where x_k is taken for the non-mate.
        Curves over the points: ``outside`` (f), ``taken``; ``mate-outside``, ``mate-taken``.

    Range and direction
        0 to 1. Higher is better. The best value is 1.0: the decision turns before a single pixel outside the region is
        replaced. An inverted true map is at 0. Where a random map lies depends on how little of the region turns the
        decision (0.5 on average over both directions): read the value against the control ``random``.

    Which maps
        Of pairs only: on genuine pairs that carry a triplet, the dissimilarity map of the non-mate's picture and, for
        ``mate``, the similarity map of the mate's. It is image B that is altered here, against the rule of other
        metrics, because it is of B that there are two versions.

    Special cases
        A triplet that the network does not tell apart (the non-mate at least as similar to the probe as the mate) has
        no value. Neither has a pair without a triplet, or one with a map that is not finite. Constant maps are
        scored in the order of the seeded permutation, and flagged.

    Differs from other libraries
        The published game has galleries of mates and of inpainted non-mates, thresholds the map instead of ranking
        its pixels, replaces the mate's pixels by the non-mate's, and plots the rate of non-mate decisions against the
        share of false alarms over all triplets. Here there is one picture of each, so *nearest* takes the place of
        the galleries; each triplet has its own area, whose mean is the area under that plot's counterpart. The
        headline plays from the non-mate to the mate, as the difference of two persons has an answer in one region,
        and the likeness of one person has not.

    Known weaknesses
        The network may well use little of the region, or its border. The map of the mate's likeness (``mate``) has no
        reason to favour the region: read it as a reproduction.

    Cost
        One explanation, ``points`` − 2 forward passes twice (98), and one for the non-mate per triplet.

    Source
        Williford, May and Byrne, Explainable Face Recognition, ECCV 2020, arXiv:2008.00916.
    """

    points: int = 51
    decision: Literal["nearest", "threshold"] = "nearest"

    protocol = Protocol(
        id="inpainting-game@1",
        question=(
            "The non-mate is the mate's own picture with one region of another person. Does the map that says why"
            " probe and non-mate differ lead to that region, and to nothing else first?"
        ),
        better="higher",
        range=(0.0, 1.0),
        best=1.0,
        needs=frozenset({"model", "explainer", "truth"}),
        family="specific",
        values=(
            Value(),
            Value("mate"),
        ),
        judged_on="genuine",
        cost=lambda metric: f"{2 * (metric.points - 2) + 1}, and 1 explanation",
        source="Williford, May and Byrne, ECCV 2020, arXiv:2008.00916",
        tasks=frozenset({"verification"}),
        ground_truth=(TRUTH,),
    )

    def __post_init__(self) -> None:
        if self.points < 2:
            raise ValueError(f"points is {self.points}; expected at least 2, the two ends")
        if self.decision not in ("nearest", "threshold"):
            raise ValueError(f"decision is {self.decision!r}; expected nearest or threshold")

    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        explainer = need_explainer(self.id, explainer)
        able = [i for i, item in enumerate(samples) if is_triplet(item)]
        reasons: dict[int, Reason | str] = {i: NO_TRIPLET for i in range(len(samples)) if i not in able}
        values = {name: np.full(len(samples), np.nan) for name in self.protocol.value_names}
        curves = {name: np.full((len(samples), self.points), np.nan) for name in CURVES}
        flags: dict[int, Reason | str] = {}
        if able:
            played = self._play(model, samples.take(able), maps.take(able), explainer)
            for target, source in ((values, played.values), (curves, played.curves)):
                for name, array in source.items():
                    target[name][able] = array  # type: ignore[index]
            reasons |= {able[i]: text for i, text in played.reasons.items()}
            flags = {able[i]: text for i, text in played.flags.items()}
        return _maps.result(values, reasons, flags, curves)

    def _play(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer) -> Scores:
        """Score a batch in which every sample is a triplet."""
        strange = against_non_mate(model, samples)
        found = explainer.explain(model, strange)
        chosen = [_of_mate(found, "dissimilarity"), _of_mate(maps, "similarity")]
        orders = torch.stack([rank(_maps.finite(m), strange).order.cpu() for m in chosen])
        scores = replaced_scores(model, samples, strange, orders, self.points)
        for direction, of in (("non-mate to mate", 0), ("mate to non-mate", 1)):
            require_finite(model, samples.ids, scores[of], f"the way from {direction}")
        inside = (strange.truth("dissimilarity")[:, MATE] > 0).flatten(1).cpu().numpy()
        outside = share_outside(inside, orders.numpy(), self.points)
        mate, non_mate = samples.clean.scores.cpu(), strange.clean.scores.cpu()
        needed = (mate + non_mate) / 2
        if self.decision == "threshold":
            needed = torch.full_like(needed, samples.threshold or 0.0) - ON_THRESHOLD
        is_mate = (scores >= needed[:, None]).double().numpy()
        taken = np.stack([is_mate[0], 1 - is_mate[1]])
        area = np.trapezoid(taken, outside, axis=2)
        told_apart = ((mate > non_mate) & (mate >= needed) & (non_mate < needed)).numpy()
        alike = Reason(ReasonCode.UNDEFINED, f"the network does not tell mate and non-mate apart ({self.decision})")
        reasons = {int(i): alike for i in np.flatnonzero(~told_apart)}
        reasons |= {int(i): NOTHING_OUTSIDE for i in np.flatnonzero(inside.all(axis=1))}
        reasons |= dict.fromkeys(_maps.invalid(chosen[0]), AGAIN) | _maps.invalid(chosen[1])
        if self.decision == "threshold" and samples.threshold is None:
            reasons = dict.fromkeys(range(len(samples)), NO_THRESHOLD)
        curves = {"outside": outside[0], "taken": taken[0], "mate-outside": outside[1], "mate-taken": taken[1]}
        return _maps.result({"": area[0], "mate": area[1]}, reasons, _maps.constant(chosen[0]), curves)


def _of_mate(maps: Maps, kind: str) -> Tensor:
    """Return the maps of image B, N×H×W."""
    named = maps.named()
    if kind not in named:
        raise UsageError(f"the maps hold {', '.join(named) or 'nothing'}; expected {kind} as well")
    return named[kind][:, MATE].detach()


METRICS = (InpaintingGame(),)
