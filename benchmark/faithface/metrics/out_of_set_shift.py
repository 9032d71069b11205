"""``out-of-set-shift@1``: does the salience alone tell that an image is of a kind that the network was never shown?

Place in the flow: a metric that explains a second dataset; called by ``run``. May call ``noise_stability`` (the
noise), ``entropy``, ``_reexplain``, ``loading``, ``contract``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from faithface.contract import Dataset, Explainer, FaceModel, Maps, Metric, Protocol, Samples, Scores, Value
from faithface.errors import NotApplicable
from faithface.loading import load_samples
from faithface.metrics import _maps
from faithface.metrics._reexplain import need_explainer, reasons_for
from faithface.metrics.entropy import Entropy
from faithface.metrics.noise_stability import noise_step
from faithface.reasons import ReasonCode
from faithface.seeds import rng_for

STATISTICS = ("entropy", "change")
LEVEL = 0.05  # the published default of the noise
CHUNK = 32  # samples of the second dataset that are held at a time


def statistics(model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer) -> np.ndarray:
    """Return the spatial entropy of each map and its change under noise (1 − SSIM): float64 N×2.

    Rounded to nine decimals: equal maps shall tie, whatever batch they were computed in.
    """
    entropy = Entropy().score(model, samples, maps).values[""]
    change = 1 - noise_step(model, samples, maps, explainer, LEVEL).ssim
    return np.round(np.stack([entropy, change], axis=1), 9)


def chosen_items(dataset: Dataset, n: int, seed: int) -> list[int]:
    """Return which n samples of the out-of-set dataset are explained (all, where it has no more): a seeded choice."""
    count = len(dataset.items())
    if count <= n:
        return list(range(count))
    order = rng_for(seed, "", f"out-of-set-shift/{dataset.name}").permutation(count)
    return sorted(int(i) for i in order[:n])


def placement(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return, for each value, the share of ``others`` above it, ties counting one half; float64 in [0, 1].

    The mean over the values is the area under the ROC curve of telling ``others`` from ``values`` (Mann and Whitney's
    U, divided by the product of the numbers). NaN where a value is NaN.
    """
    ordered = np.sort(others)
    above = len(ordered) - np.searchsorted(ordered, values, side="right")
    equal = len(ordered) - np.searchsorted(ordered, values, side="left") - above
    return np.where(np.isnan(values), np.nan, (above + 0.5 * equal) / len(ordered))


@dataclass(frozen=True)
class OutOfSetShift(Metric):
    """How well salience alone separates an out-of-set dataset from the in-set one (AUC).

    Formula
        Two statistics of each map: its entropy over places (as ``entropy@1``), and its change 1 − SSIM(map of the
        image, map of the image with salt and pepper at 0.05) (as ``noise-stability@1``). For each in-set sample,
        value = (number of out-of-set samples with a larger statistic + half the number with an equal one) / their
        number. The board's number is the mean, which is exactly the area under the ROC curve of calling a sample
        out-of-set because its statistic is large.

    Parameters
        ``n``: how many samples of the out-of-set dataset are explained, a seeded choice; default 200.

    Values
        headline: by entropy.
        ``change``: by the change under noise.
        Curves: ``statistics``, the sample's own entropy and change.

    Range and direction
        0 to 1. Higher is better. The best value is 1.0 (every out-of-set map is more spread, or less stable, than every
        in-set one); 0.5 tells nothing. A value below 0.5 separates in the other direction: out-of-set maps are *more*
        concentrated or *more* stable; it is not turned round, so that boards keep one direction.

    Which maps
        Classifiers: the relevance map. Pairs: the probe's similarity map on genuine pairs, its dissimilarity map on
        impostor pairs, in both datasets.

    Special cases
        Equal statistics, as all of a constant explainer's, count one half: 0.5. Statistics are rounded to nine decimals
        first. Where an in-set map is not finite there is no value; such out-of-set maps are left out.

    Differs from other libraries
        The published work shows the distributions of both statistics on unseen generators and how the scores of noisy
        images fall; the AUC as one number is this protocol's. It takes the entropy of grey levels of the stored 8-bit
        map (``histogram-entropy@1``), here it is the entropy over places.

    Known weaknesses
        The two datasets may differ in more than their kind (sharpness, framing), and every such difference counts. It
        judges model and explainer together.

    Cost
        One explanation and one forward pass per in-set sample (none, where ``noise-stability@1`` is scored on the
        same maps), and, once per model, explainer and worker, two explanations and two forward passes for each of the
        n out-of-set samples (pairs: one more to embed the reference).

    Source
        Explain To Me, arXiv:2303.11969, measure (b). AUC as a mean of placements: Hanley and Hajian-Tilaki, 1997.
    """

    n: int = 200

    protocol = Protocol(
        id="out-of-set-shift@1",
        question=(
            "Shown a kind of attack, generator or capture that it was not made for, does the network's salience "
            "change enough to be noticed without looking at its scores?"
        ),
        better="higher",
        range=(0.0, 1.0),
        best=1.0,
        needs=frozenset({"model", "explainer", "out-of-set"}),
        family="description",
        values=(
            Value(),
            Value("change"),
        ),
        cost=lambda metric: (
            f"1 and 1 explanation; once 2 and 2 explanations for each of at most {metric.n} out-of-set samples"
        ),
        source="Explain To Me, arXiv:2303.11969; AUC as a mean of placements: ours",
    )

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"n is {self.n}; expected at least 1 out-of-set sample")

    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        explainer = need_explainer(self.id, explainer)
        partner = None if samples.dataset is None else samples.dataset.out_of_set()
        if partner is None:
            raise NotApplicable(
                f'metric "{self.id}" needs samples of a dataset with an out-of-set partner; these have none',
                ReasonCode.NO_OUT_OF_SET,
            )
        others = self._of_partner(model, partner, samples, explainer)
        own = statistics(model, samples, maps, explainer)
        values = {
            "" if name == "entropy" else name: placement(own[:, k], others[:, k]) for k, name in enumerate(STATISTICS)
        }
        judged = _maps.judged(samples, maps)
        reasons = reasons_for(judged, own.sum(axis=1))
        return _maps.result(values, reasons, _maps.constant(judged), {"statistics": own})

    def _of_partner(self, model: FaceModel, partner: Dataset, like: Samples, explainer: Explainer) -> np.ndarray:
        """Return the statistics of the out-of-set samples, computed once per model and explainer."""
        found = model.cached(_partner_statistics, partner, self.n, like.seed, like.threshold, explainer)
        if not len(found):
            raise NotApplicable(
                f'metric "{self.id}": no map of the out-of-set dataset "{partner.name}" is finite',
                ReasonCode.NO_OUT_OF_SET,
            )
        return found


def _partner_statistics(
    model: FaceModel, partner: Dataset, n: int, seed: int, threshold: float | None, explainer: Explainer
) -> np.ndarray:
    """Return the finite statistics, float64 n×2, of up to ``n`` samples of a dataset."""
    items = partner.items()
    chosen = chosen_items(partner, n, seed)
    parts = [np.empty((0, 2))]
    for start in range(0, len(chosen), CHUNK):
        some = [items[i] for i in chosen[start : start + CHUNK]]
        samples = load_samples(model, some, seed, threshold, partner)  # type: ignore[arg-type]
        parts.append(statistics(model, samples, explainer.explain(model, samples), explainer))
    found = np.concatenate(parts)
    return found[np.isfinite(found).all(axis=1)]


METRICS = (OutOfSetShift(),)
