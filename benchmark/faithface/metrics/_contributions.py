"""A model's own contributions per patch, as the truth that maps are held against.

Place in the flow: called by ``contribution_correlation`` and ``contribution_error``; calls ``model.contributions``,
``perturb.fills``, ``similarity``, ``_maps`` and the contract.

The truth of a sample belongs to its judged map. A classifier's is the contribution of each patch to the score of the
predicted class, which is what explainers explain. A genuine pair's is the contribution to the similarity; an impostor
pair's is its negative, what each patch takes from the similarity. With a fill, it is what the patch contributes more
than the fill in its place would: what a curve with that fill can see.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from faithface.card import ModelCard
from faithface.contract import Dataset, Explainer, FaceModel, Maps, Metric, Samples, Scores, Which
from faithface.lazy import torch
from faithface.metrics import _maps
from faithface.metrics.similarity import spearman
from faithface.reasons import Reason, ReasonCode

if TYPE_CHECKING:
    from torch import Tensor

    from faithface.model.onnx_model import OnnxModel

Beyond = Literal["auto", "stranger", "partner", "blur", "black", "mean", "rise", "none"]
# The fills with which curves judge these maps (protocol rule 5).
FILLS = {"relevance": "blur", "similarity": "stranger", "dissimilarity": "partner"}
# Patches whose sums differ by less than this share of the largest |sum| are tied: rounding errors are no order.
STEP = 2.0**-20
NO_SPREAD = Reason(ReasonCode.UNDEFINED, "all patches contribute the same")


@dataclass(frozen=True)
class Contributions(Metric):
    """A metric that compares a map's sums over the patches with what the patches contribute."""

    fill: Beyond = "auto"
    pairs: Which = "all"

    def check(self, card: ModelCard, dataset: Dataset, explainer: Explainer | None = None) -> None:
        from faithface.perturb.fills import check_fill

        pairs = card.task == "verification"
        if self.fill == "auto":
            check_fill("stranger" if pairs else "blur", dataset, pairs)
        elif self.fill != "none":
            check_fill(self.fill, dataset, pairs)

    @abstractmethod
    def compare(self, sums: np.ndarray, samples: Samples, maps: Maps, model: FaceModel) -> Scores:
        """Return the values of finite maps.

        Args:
            sums: float64 N×P, the judged maps summed over the patches.
        """

    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        judged = _maps.judged(samples, maps)
        invalid = _maps.invalid(judged)
        sums = patch_sums(model.card, _maps.finite(judged))
        spread = np.ptp(self.truth(model, samples), axis=1) > 0
        reasons = {int(i): NO_SPREAD for i in np.flatnonzero(~spread)} | invalid
        found = self.compare(sums, samples, maps, model)
        flat = {int(i): _maps.CONSTANT for i in np.flatnonzero(np.ptp(stepped(sums), axis=1) == 0)}
        done = _maps.result(found.values, reasons, flat)
        return Scores(done.values, {**found.reasons, **reasons}, {}, done.flags)

    def truth(self, model: FaceModel, samples: Samples, plain: bool = False) -> np.ndarray:
        """Return what each patch contributes to what the judged map shows, float64 N×P; ``plain``: without a fill."""
        return samples.cached(_truth, model, "none" if plain else self.fill)


def _truth(samples: Samples, model: FaceModel, fill: str) -> np.ndarray:
    from faithface.model.contributions import contributions, contributions_beyond_fill
    from faithface.perturb.fills import fill_images

    network = cast("OnnxModel", model)
    kinds = np.array(_maps.judged_kinds(samples))
    found: np.ndarray | None = None
    for kind in sorted(set(kinds)):
        at = np.flatnonzero(kinds == kind)
        part = samples.take(at)
        chosen = FILLS[kind] if fill == "auto" else fill
        if chosen == "none":
            values = contributions(network, part, of="predicted")
        else:
            values = contributions_beyond_fill(network, part, fill_images(model, part, chosen), of="predicted")[:, 0]
        rows = _maps.to_numpy(values) * (-1 if kind == "dissimilarity" else 1)
        if found is None:
            found = np.full((len(samples), rows.shape[1]), np.nan)
        found[at] = rows
    assert found is not None  # a batch holds at least one sample
    return found


def patch_sums(card: ModelCard, values: Tensor) -> np.ndarray:
    """Return the sums of maps N×H×W over the patches that the card declares, row by row: float64 N×P."""
    assert card.contributions is not None  # what applies is decided before
    rows, columns = card.contributions.grid
    n, height, width = values.shape
    cells = values.to("cpu", torch.float64).reshape(n, rows, height // rows, columns, width // columns)
    return cells.sum(dim=(2, 4)).flatten(1).numpy()


def stepped(sums: np.ndarray) -> np.ndarray:
    """Return sums N×P in whole steps of 2⁻²⁰ of the row's largest |sum|."""
    largest = np.abs(sums).max(axis=1, keepdims=True)
    return np.rint(sums / np.where(largest > 0, largest, 1) / STEP)


def linear_correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation of the rows of two N×P arrays, float64 N; 0 where a row has no spread."""
    a, b = (x - x.mean(axis=1, keepdims=True) for x in (a, b))
    norm = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return np.clip(np.divide((a * b).sum(axis=1), norm, out=np.zeros(len(a)), where=norm > 0), -1, 1)


def rank_correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return Spearman's correlation of the rows of two N×P arrays, ties by their mean rank; 0 without spread."""
    found = spearman(*(torch.from_numpy(x.astype(np.float32))[:, None] for x in (a, b)))
    return np.where((np.ptp(a, axis=1) > 0) & (np.ptp(b, axis=1) > 0), found, 0.0)
