"""The common part of the localisation metrics: which ground truth each sample is compared with, and which has none.

Place in the flow: the base of ``pointing_game``, ``relevance_mass``, ``relevance_rank`` and ``localisation_auc``; calls
``_maps``, ``perturb.ranking`` and the contract.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from faithface.contract import (
    PAIR_MAPS,
    Explainer,
    FaceModel,
    Maps,
    Metric,
    Pair,
    Protocol,
    Sample,
    Samples,
    Scores,
    Value,
)
from faithface.errors import nearest
from faithface.metrics import _maps
from faithface.perturb import rank
from faithface.reasons import Reason, ReasonCode

if TYPE_CHECKING:
    from torch import Tensor

KINDS = ("relevance", "human", "tag", *PAIR_MAPS)
CHANCE = "chance"


def localisation(id: str, question: str, source: str, values: tuple[Value, ...] = (Value(), Value(CHANCE))) -> Protocol:
    """Return the protocol of a localisation metric; its ground truth is that of its parameter ``truth``."""
    return Protocol(
        id=id,
        question=question,
        needs=frozenset({"truth"}),
        family="truth",
        values=values,
        source=source,
        ground_truth=lambda metric: metric.truth,
    )


Masks = tuple[dict[int, tuple[str, np.ndarray]], dict[int, Reason]]


@dataclass(frozen=True)
class Localisation(Metric):
    """A metric that compares a map with a ground truth; its sections hold for every metric built on it.

    Parameters
        ``truth``: the kinds of ground truth to use, joined by ``+``; the first that a sample has. Default
        ``relevance+similarity+dissimilarity``; also ``human`` (an annotator's salience) and ``tag`` (a planted
        shortcut: a high value is then a warning about the model).

    Which maps
        Classifiers: the signed relevance map. Pairs: the probe's map, similarity against similarity truth on genuine
        pairs, dissimilarity against dissimilarity truth on impostor pairs. A pair without that truth is compared
        with the other kind, by its map of that kind.

    Needs
        Ground truth. A pixel belongs to it when its value, resized by area to the model's input size, is at least 0.5.

    Special cases
        A sample without the truth, or whose truth covers all or none of the image, has no value.

    Known weaknesses
        The map explains the predicted class: where a model misses the attack, the attack's pixels are not its reason.

    Cost
        No forward passes.
    """

    truth: tuple[str, ...] = ("relevance", *PAIR_MAPS)

    def __post_init__(self) -> None:
        if not self.truth:
            raise ValueError(f"truth is empty; give one or more of: {', '.join(KINDS)}, joined by +")
        for kind in self.truth:
            if kind not in KINDS:
                raise ValueError(f'truth "{kind}" is not a kind of ground truth; {nearest(kind, KINDS)}')

    @abstractmethod
    def compare(self, relevance: np.ndarray, truth: np.ndarray, order: np.ndarray) -> float:
        """Return the value of one sample.

        Args:
            relevance: float64 P, the finite map's pixels in raster order.
            truth: bool P, with at least one pixel inside and one outside.
            order: int64 P, pixels from the most to the least relevant, ties broken by the sample's seed.
        """

    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        masks, reasons = self.masks(samples)
        values = {name: np.full(len(samples), np.nan) for name in self.protocol.value_names}
        flags: dict[int, Reason] = {}
        for kind in sorted({kind for kind, _ in masks.values()}):
            chosen = [i for i, (name, _) in masks.items() if name == kind]
            part = samples.take(chosen)
            which = kind if samples.are_pairs else "relevance"
            relevance = _maps.pick(maps.take(chosen), (which,) * len(chosen))
            reasons |= {chosen[i]: text for i, text in _maps.invalid(relevance).items()}
            relevance = _maps.finite(relevance)
            flags |= {chosen[i]: text for i, text in self.remarks(relevance).items()}
            order = rank(relevance, part).order.cpu().numpy()
            flat = relevance.flatten(1).double().cpu().numpy()
            for row, i in enumerate(chosen):
                truth = masks[i][1]
                values[""][i] = self.compare(flat[row], truth, order[row])
                if CHANCE in values:
                    values[CHANCE][i] = truth.mean()
        return _maps.result(values, reasons, flags)

    def remarks(self, relevance: Tensor) -> dict[int, Reason]:
        """Return flags, by index, for maps N×H×W that are scored but say little."""
        return _maps.constant(relevance)

    def masks(self, samples: Samples) -> Masks:
        """Return the kind and the truth (bool P) of every sample that has one, and a reason for every other."""
        return samples.cached(_read, self.truth)


def _read(samples: Samples, allowed: tuple[str, ...]) -> Masks:
    items: list[Sample | Pair] = list(samples)
    judged = _maps.judged_kinds(samples)
    kinds = [_kind(item, name, allowed) for item, name in zip(items, judged, strict=True)]
    masks: dict[int, tuple[str, np.ndarray]] = {}
    reasons: dict[int, Reason] = {}
    for i, kind in enumerate(kinds):
        if not kind:
            have = ", ".join(sorted(items[i].truth)) or "none"
            wanted = [name for name in allowed if (name in PAIR_MAPS) == samples.are_pairs] or allowed
            text = f"no {' or '.join(wanted)} ground truth for this sample (it has: {have})"
            reasons[i] = Reason(ReasonCode.NO_GROUND_TRUTH, text)
    for kind in sorted(set(kinds) - {""}):
        chosen = [i for i, name in enumerate(kinds) if name == kind]
        truth = samples.take(chosen).truth(kind)
        probes = truth[:, 0] if samples.are_pairs else truth
        for i, inside in zip(chosen, probes.flatten(1).cpu().numpy() >= 0.5, strict=True):
            if inside.any() and not inside.all():
                masks[i] = (kind, inside)
            else:
                text = f"the {kind} ground truth covers {'all' if inside.any() else 'none'} of the image"
                reasons[i] = Reason(ReasonCode.UNDEFINED, text)
    return masks, reasons


def _kind(item: Sample | Pair, judged: str, allowed: tuple[str, ...]) -> str:
    """Return the kind of truth for a sample, or "": for a pair that of its judged map, if there is one."""
    pair = isinstance(item, Pair)
    fitting = [kind for kind in allowed if (kind in PAIR_MAPS) == pair and kind in item.truth]
    return judged if pair and judged in fitting else next(iter(fitting), "")


def positive(relevance: np.ndarray) -> np.ndarray:
    """Return the positive part of a map; all ones where there is none, so that an empty map is worth a uniform one."""
    part = np.maximum(relevance, 0)
    return part if part.any() else np.ones_like(part)
