"""``optimum-share@1``: how much of the best possible gap does the map get?

Place in the flow: a metric with forward passes, made once per sample for all explainers; called by ``run``. May call
``perturb.optimum``, ``perturb.ranking``, ``_maps`` and the contract.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from faithface.card import ModelCard
from faithface.contract import (
    ClassSide,
    Dataset,
    Explainer,
    FaceModel,
    Fill,
    Maps,
    Metric,
    Protocol,
    Samples,
    Scores,
    Value,
    Which,
    both,
)
from faithface.metrics import _maps
from faithface.reasons import Reason, ReasonCode

if TYPE_CHECKING:
    from faithface.perturb.optimum import Path

Replacement = Literal["auto", "stranger", "partner", "blur", "black", "mean", "rise"]
FILL_BY_KIND = {"relevance": "blur", "similarity": "stranger", "dissimilarity": "partner"}
MOST_CELLS = 4  # per side
NO_ORDER = Reason(ReasonCode.UNDEFINED, "no order of the cells is worth more than another")


@dataclass(frozen=True, eq=False)
class Achievable:
    """What any map can get on one sample.

    Attributes:
        nodes: float64 2^k: what each subset of cells adds to the gap of an order that passes through it.
        best: the order with the largest oriented gap, and that gap.
        greedy: the oriented gap of the order that takes the best next cell each time.
        shapley: float64 k: the cells' Shapley values, oriented as the map is.
    """

    nodes: np.ndarray
    best: Path
    greedy: float
    shapley: np.ndarray


@dataclass(frozen=True)
class OptimumShare(Metric):
    """The gap of a map as a share of the largest gap that any map could have on the same sample.

    Formula
        The image is divided into G×G cells, ranked by the map's means over them (``grid=G``). S is a set of cells that
        show the fill, v(S) the score: the probability of the class predicted on the clean image, or the similarity of
        the pair. All 2^(G·G) sets are scored. The gap of an order of the cells c_1 … c_k with k + 1 points is
        g = Σ_j w_j·(v(all but {c_1 … c_j}) − v({c_1 … c_j})), j = 0 … k, with w_j = 1/k, and half of that at both ends:
        the area of insertion minus the area of deletion. For impostor pairs g has the opposite sign.
        value = g of the map's order / the largest g of any order.
        The largest is found over all orders at once: the sets are the nodes of a graph, an order is a path from none to
        all, and g is a sum over the nodes of the path.

    Parameters
        ``grid``: G, at most 4 (default): 65,536 sets.
        ``fill``: ``auto`` (default): ``blur`` for classifiers, ``stranger`` for genuine and ``partner`` for impostor
        pairs; or one of ``stranger``, ``partner``, ``blur``, ``black``, ``mean``, ``rise`` for all.
        ``pairs``: ``all`` (default), ``genuine`` or ``impostor``.
        ``which``: of classifiers, the samples that are judged: ``positive`` (default), ``negative`` or ``all``.

    Values
        headline: the share.
        ``gap``: the map's g; ``best``: the largest g; the headline is their ratio.
        ``greedy``: the share of the order that takes at each step the cell with the best next term. On finer grids,
        where the largest is out of reach, such an order is a bound on it.
        ``shapley``: Spearman's rank correlation of the map's cell means with the cells' Shapley values in the game v,
        which follow from the same scores.

    Range and direction
        −1 to 1 where the largest and the smallest gap are each other's negative; the smallest possible value is minus
        the largest g's counterpart over it, and has no bound. Higher is better. The best value is 1.0, and no map
        exceeds it. 0 is the mean of all orders in the long run, so that a random map has expectation 0.

    Which maps
        Classifiers: the relevance map. Pairs: the probe's similarity map on genuine pairs and its dissimilarity map on
        impostor pairs; only the probe is altered.

    Special cases
        Cells of equal means fall in the order of the sample's permutation. A constant map is ranked by it alone, and
        flagged. Where no order has a gap above 0, there is no value; nor where the map is not finite.

    Differs from other libraries
        Others report areas without saying what the best map would get. The optimum of a deletion curve has been
        approximated by search; on few cells it is exact.

    Known weaknesses
        It is the optimum for 16 cells and one fill. A map may know more than which of 16 cells matter. Shares of two
        samples say nothing of how much there was to gain: see ``best``.

    Cost
        2^(G·G) forward passes per sample, once for all explainers.

    Source
        faithface. Dynamic programming over subsets: Held and Karp, 1962. Shapley, A value for n-person games, 1953.
    """

    grid: int = 4
    fill: Replacement | Fill = "auto"
    pairs: Which = "all"
    which: ClassSide = "positive"

    protocol = Protocol(
        id="optimum-share@1",
        question="How much of what the best possible map would get does this one get?",
        better="higher",
        range=(float("-inf"), 1.0),
        best=1.0,
        needs=frozenset({"model"}),
        family="faithful",
        values=(Value(), Value("gap"), Value("best"), Value("greedy"), Value("shapley")),
        judged_on=lambda metric: both(metric.pairs, metric.which),
        cost=lambda metric: f"{2 ** (metric.grid**2)} (each further explainer: 0)",
        source="faithface; Held and Karp, 1962; Shapley, 1953",
    )

    def __post_init__(self) -> None:
        if not 1 < self.grid <= MOST_CELLS:
            raise ValueError(f"grid is {self.grid}; expected 2 to {MOST_CELLS}: all sets of cells are scored")

    def check(self, card: ModelCard, dataset: Dataset, explainer: Explainer | None = None) -> None:
        from faithface.perturb.fills import check_fill

        pairs = card.task == "verification"
        if self.fill != "auto":
            check_fill(self.fill, dataset, pairs, masks=False)
        elif pairs:
            check_fill("stranger", dataset, pairs)

    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        from faithface.metrics.similarity import spearman_of_rows
        from faithface.perturb import rank
        from faithface.perturb.optimum import gap_along

        chosen = _maps.judged(samples, maps)
        reasons: dict[int, Reason | str] = dict(_maps.invalid(chosen))
        chosen = _maps.finite(chosen)
        means = _maps.to_numpy(_maps.on_grid(chosen, self.grid).flatten(1))
        values = {name: np.full(len(samples), np.nan) for name in self.protocol.value_names}
        for i, kind in enumerate(_maps.judged_kinds(samples)):
            one = samples.take([i])
            fill = FILL_BY_KIND[kind] if self.fill == "auto" else self.fill
            sign = -1 if kind == "dissimilarity" else 1
            found = one.cached(_achievable, model, fill, self.grid, sign)
            best = sign * found.best.gap
            if not best > 0:
                reasons[i] = reasons.get(i, NO_ORDER)
                continue
            order = cell_order(rank(chosen[i : i + 1], one, self.grid).order[0].cpu().numpy(), model.size, self.grid)
            gap = sign * gap_along(found.nodes, order)
            values["gap"][i], values["best"][i] = gap, best
            # By whole numbers of the last bit: the best order's own gap is summed in another order than the map's.
            values[""][i], values["greedy"][i] = min(gap / best, 1.0), min(found.greedy / best, 1.0)
            values["shapley"][i] = spearman_of_rows(means[i : i + 1], found.shapley[None])[0]
        return _maps.result(values, reasons, _maps.constant(chosen))


def cell_order(pixels: np.ndarray, size: tuple[int, int], grid: int) -> np.ndarray:
    """Return the cells in the order in which a ranking of pixels reaches them, int64 G²."""
    height, width = size
    cell = (np.arange(height) * grid // height)[:, None] * grid + (np.arange(width) * grid // width)[None, :]
    along = cell.ravel()[pixels]
    _, first = np.unique(along, return_index=True)
    return along[np.sort(first)]


def _achievable(samples: Samples, model: FaceModel, fill: str | Fill, grid: int, sign: int) -> Achievable:
    from faithface.perturb.optimum import greedy_along, node_values, path_of, scorer, shapley_values, subset_scores

    cells = grid * grid
    scores = subset_scores(scorer(model, samples, 0, fill, grid), cells)
    nodes = node_values(scores, cells, cells + 1)
    return Achievable(
        nodes, path_of(scores, cells, cells + 1, sign), sign * greedy_along(nodes, cells, sign),
        sign * shapley_values(scores, cells),
    )  # fmt: skip


METRICS = (OptimumShare(),)
