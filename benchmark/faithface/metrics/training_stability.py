"""``training-stability@1``: do networks that differ only in their training run look at the same places?

Place in the flow: a family metric; ``run`` calls :meth:`score_family` with the maps of all runs of a family. May call
``similarity``, ``_maps``, ``contract``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from faithface.card import ModelCard
from faithface.contract import Dataset, Explainer, FaceModel, Maps, Metric, Protocol, Samples, Scores, Value
from faithface.errors import NotApplicable, UsageError
from faithface.metrics import _maps
from faithface.metrics.similarity import average_ranks, eight_bit, rank_correlation, ssim
from faithface.reasons import Reason, ReasonCode

if TYPE_CHECKING:
    from torch import Tensor


def native(maps: Maps) -> Tensor:
    """Return the maps as they were before resizing (of pairs the probe's), or the maps themselves."""
    chosen = maps.headline if maps.native is None else maps.native
    return (chosen[:, 0] if chosen.ndim == 4 else chosen).detach()


@dataclass(frozen=True)
class TrainingStability(Metric):
    """Similarity of the maps of independently trained runs of one network.

    Formula
        For each sample, over all pairs of runs (45 for ten runs) of a family:
        value = mean of SSIM(map of run i, map of run j), on native maps (as they were before resizing, such as 7×7) in
        8 bits: scaled to [0, 1] by minimum and maximum, times 255, cut off; data range 255, windows of 7×7. On a 7×7
        map that is one single window.

    Values
        headline: SSIM on native 8-bit maps, as published. ``spearman``: rank correlation on native maps, not reduced to
        8 bits. ``input-size``: SSIM at the model's input size, each map scaled to [0, 1]. ``input-size-spearman``: rank
        correlation at the input size. Curves over the pairs of runs, in the order of ``itertools.combinations`` of
        the sorted model names: ``ssim``, ``spearman``, ``input-size``, ``input-size-spearman``.

    Range and direction
        -1 to 1. Higher is better. The best value is 1.0.

    Which maps
        Classifiers: the relevance map of the class that each run predicts. Pairs: the probe's similarity map, on
        genuine pairs. Explainers without a native map (pixel-level ones) are taken at the input size in its place.

    Special cases
        Constant maps are flagged; two of them count as the same map. Where a run's map is not finite, there is no value
        (the published script leaves such entries out). Maps smaller than 7×7, which scikit-image refuses, are compared
        in one window of their own size.

    Differs from other libraries
        No other library has it. SSIM's default of a 7×7 window makes native CAMs comparable only as a whole: a map that
        is moved by one cell can score near 0, while at the input size it still overlaps.

    Known weaknesses
        An explainer that ignores the network is perfectly stable: the controls ``random`` and ``centre-prior`` stand at
        1. It mixes two questions, whether the runs decide alike and whether they look alike.

    Cost
        No passes beyond the maps of all runs.

    Source
        Explain To Me, arXiv:2303.11969, measure (d).
    """

    protocol = Protocol(
        id="training-stability@1",
        question="Trained again from another seed, does the network look at the same places?",
        better="higher",
        range=(-1.0, 1.0),
        best=1.0,
        needs=frozenset({"family"}),
        family="description",
        values=(
            Value(),
            Value("spearman"),
            Value("input-size"),
            Value("input-size-spearman"),
        ),
        judged_on="genuine",
        source="Explain To Me, arXiv:2303.11969",
    )

    def check(self, card: ModelCard, dataset: Dataset, explainer: Explainer | None = None) -> None:
        if not card.family:
            raise NotApplicable(
                f'metric "{self.id}" compares the training runs of a family; {card.name} names none: '
                "give its card and those of its other runs the same family",
                ReasonCode.SINGLE_RUN,
            )

    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        raise NotApplicable(f'metric "{self.id}" needs the maps of several runs of {model.card.name}; use score_family')

    def score_family(self, runs: Mapping[str, Maps], samples: Samples) -> Scores:
        names = sorted(runs)
        if len(names) < 2:
            raise NotApplicable(
                f'metric "{self.id}" needs at least two runs of a family, '
                f"got {len(names)} ({', '.join(names) or 'none'})",
                ReasonCode.SINGLE_RUN,
            )
        small = {name: native(runs[name]) for name in names}
        large = {name: _maps.pick(runs[name], (_kind(samples),) * len(samples)) for name in names}
        for name in names[1:]:
            if small[name].shape != small[names[0]].shape or large[name].shape != large[names[0]].shape:
                raise UsageError(
                    f"the maps of {names[0]} and {name} differ in size ({_sizes(small, large, names[0])}, and "
                    f"{_sizes(small, large, name)}); a family's runs have one architecture and one input size"
                )
        stored = {name: eight_bit(value) for name, value in small.items()}
        ranks = {name: average_ranks(value) for name, value in small.items()}
        large_ranks = {name: average_ranks(value) for name, value in large.items()}
        measures: dict[str, Callable[[str, str], np.ndarray]] = {
            "ssim": lambda a, b: ssim(stored[a], stored[b], data_range=255),
            "spearman": lambda a, b: rank_correlation(ranks[a], ranks[b]),
            "input-size": lambda a, b: ssim(large[a], large[b]),
            "input-size-spearman": lambda a, b: rank_correlation(large_ranks[a], large_ranks[b]),
        }
        pairs = list(combinations(names, 2))
        curves = {kind: np.stack([of(a, b) for a, b in pairs], axis=1) for kind, of in measures.items()}
        values = {"" if kind == "ssim" else kind: curve.mean(axis=1) for kind, curve in curves.items()}
        reasons: dict[int, Reason] = {}
        flags: dict[int, Reason] = {}
        for name in names:
            for maps in (small[name], large[name]):
                reasons |= _of_run(name, _maps.invalid(maps))
            flags |= _of_run(name, _maps.constant(large[name]))
        return _maps.result(values, reasons, flags, curves)


def _of_run(name: str, reasons: Mapping[int, Reason]) -> dict[int, Reason]:
    return {i: Reason(reason.code, f"{name}: {reason.detail}") for i, reason in reasons.items()}


def _kind(samples: Samples) -> str:
    return "similarity" if samples.are_pairs else "relevance"


def _sizes(small: Mapping[str, Tensor], large: Mapping[str, Tensor], name: str) -> str:
    return " and ".join("×".join(map(str, maps[name].shape)) for maps in (small, large))


METRICS = (TrainingStability(),)
