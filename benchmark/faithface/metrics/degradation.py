"""``degradation@1``: the image is blurred where its map says that nothing matters, and where it says that all matters.

Place in the flow: a metric that explains again; called by ``run``. May call ``_reexplain``, ``similarity``,
``out_of_set_shift`` (AUC by placements), ``tasks``, ``contract``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from faithface.contract import Explainer, FaceModel, Maps, Metric, Protocol, Samples, Scores, Value
from faithface.lazy import torch
from faithface.metrics import _maps
from faithface.metrics._forward import probes, unaltered_scores
from faithface.metrics._reexplain import explain_again, need_explainer, reasons_for
from faithface.metrics.out_of_set_shift import placement
from faithface.metrics.similarity import eight_bit, ssim
from faithface.perturb.fills import gaussian_blur
from faithface.reasons import Reason, ReasonCode
from faithface.tasks import class_probabilities, difference_range, unit_similarity

if TYPE_CHECKING:
    from torch import Tensor

PUBLISHED_SIDE = 224  # the side in pixels for which the published widths of the blur are meant
SMOOTHING = 5.0  # σ of the map's own smoothing, in pixels of the published size
NEGATIVE = 2.0  # what is taken off the score of a negative sample in the AUC values, to mark it


def tenths(maps: Tensor, high: bool) -> np.ndarray:
    """Return the salience that steers the blur, in tenths from 0 to 100 (100 = sharp): int64 N×H×W.

    The published steps: 8-bit map (here: of its positive part), inverted for the high-salience variant; smoothed on
    whole numbers; divided by its maximum, times 10, rounded to one decimal. An empty map is 0 everywhere.
    """
    from scipy import ndimage

    positive = torch.nan_to_num(maps).clamp(min=0)
    grey = eight_bit(positive).cpu().numpy().astype(np.uint8)
    sigma = SMOOTHING * min(grey.shape[1:]) / PUBLISHED_SIDE
    found = []
    for one in grey:
        smooth = ndimage.gaussian_filter(255 - one if high else one, sigma).astype(np.float64)
        found.append(np.rint(10 * (10 * smooth / max(smooth.max(), 1))))
    return np.stack(found).astype(np.int64)


def blur_width(steer: int, side: int) -> float:
    """Return σ in pixels for a steering value in tenths: b⁴/1000 with b = 10 − value, scaled to the side."""
    b = (100 - steer) / 10
    return b**4 / 1000 * side / PUBLISHED_SIDE


def blurred(images: Tensor, steers: list[np.ndarray]) -> list[Tensor]:
    """Blur images N×3×H×W, each pixel with the width that its steering value asks for; one result per steering.

    Each pixel takes its value from the whole image blurred by scipy's ``gaussian_filter`` with that pixel's width;
    there are at most 101 widths, and each blurs the whole batch at once.
    """
    height, width = images.shape[-2:]
    at = [torch.from_numpy(steer).to(images.device)[:, None] for steer in steers]
    results = [images.clone() for _ in steers]
    for value in np.unique(np.concatenate([np.unique(steer) for steer in steers])):
        sigma = blur_width(int(value), min(height, width))
        if int(4 * sigma + 0.5) == 0:
            continue  # the kernel is one pixel wide
        smooth = gaussian_blur(images, sigma)
        results = [torch.where(where == int(value), smooth, out) for where, out in zip(at, results, strict=True)]
    return [out.clamp(0, 1) for out in results]


def marked_scores(model: FaceModel, samples: Samples) -> np.ndarray:
    """Return, for the AUC, each sample's score for the positive side in [0, 1], minus 2 where its label is negative.

    Classifiers: the probability of the positive class. Pairs: the similarity on a scale
    from 0 to 1 (``tasks.unit_similarity``); genuine is positive. NaN where label or positive class are unknown.
    """
    if samples.are_pairs:
        return unit_similarity(model.card, unaltered_scores(samples)) - NEGATIVE * ~samples.genuine
    name = model.card.output.positive or (samples.dataset.positive if samples.dataset is not None else "")
    classes = model.card.output.classes
    if name not in classes:
        return np.full(len(samples), np.nan)
    p = _maps.to_numpy(class_probabilities(model.card, samples.clean.outputs)[:, classes.index(name)])
    labels = [getattr(item, "label", None) for item in samples]
    offset = [np.nan if label is None else 0.0 if label == name else NEGATIVE for label in labels]
    return p - np.array(offset)


NOTHING_BLURRED = Reason(ReasonCode.REMARK, "one of the two variants left every pixel as it was: nothing was blurred")
NO_LABEL = Reason(ReasonCode.UNDEFINED, "AUC: the label or the positive class is unknown")


@dataclass(frozen=True)
class Degradation(Metric):
    """What blur costs the decision, steered by the map to the low- or to the high-salience area.

    Formula
        The positive part of the judged map in 8 bits (minimum to 0, maximum to 255, cut off), C for the *low* variant
        and 255 − C for the *high* one, is smoothed (σ = 5 pixels, whole numbers); v = round(10·C/max C, 1);
        b = 10 − v; each pixel takes its value from the image blurred with σ = b⁴/1000 pixels (10 where v = 0, 0.6 where
        v = 5). So *low* blurs the low-salience area and *high* the high-salience area. Pixels are those of a side
        of 224; for other inputs both σ grow with the shorter side.
        value = score(low) − score(high), the score being the probability of the class predicted on the clean image,
        or the similarity of the pair; for impostor pairs the sign is reversed.

    Values
        headline: the difference.
        ``score-low`` (higher is better), ``score-high`` (lower is better): the two scores.
        ``ssim-low`` (higher is better; the published one), ``ssim-high`` (lower is better): SSIM of the map of the
        degraded image, explained again for the same class, and of the original's map, at the input size.
        ``auc-clean``, ``auc-low`` (higher is better), ``auc-high`` (lower is better): area under the ROC curve of the
        dataset, of positive against negative samples or genuine against impostor pairs. It is a number of the set: the
        value kept per sample is the score for the positive side in [0, 1], minus 2 where the sample is negative, and
        the board's number is the AUC of those.

    Range and direction
        -1 to 1 for classifiers, -2 to 2 for cosines. Higher is better. A random map is near 0. The best value is 2.0
        (1.0 for classifiers): a decision that survives the one blur untouched and reverses under the other.

    Which maps
        Classifiers: the relevance map. Pairs: the probe is blurred, by its similarity map on genuine pairs and its
        dissimilarity map on impostor pairs (where blurring what makes the faces differ should make them more alike).

    Special cases
        A map whose positive part is constant is empty after scaling: *low* blurs the whole image and *high* nothing; it
        is flagged. So is any other map that leaves every pixel of one variant as it was: then nothing was tested. Where
        one of the maps is not finite, there is no value. Without labels, or without a positive class, there is no AUC.

    Differs from other libraries
        The published script resizes the 8-bit image to 224 and blurs on whole numbers; here float pixels at the input
        size. The script scales a map as it is, which puts the zero of a signed map at mid-grey, where hardly anything
        is blurred; here the positive part is taken first. It scores by the sigmoid of one logit, and publishes SSIM for
        the low variant only. The headline difference is this protocol's: like insertion minus deletion, it needs no
        reference.

    Known weaknesses
        The area that is blurred depends on the map's values, not only on its order: a map with one peak lets nearly
        all of the image be blurred in the low variant, and hardly anything in the high one. Blur is no cue-free fill:
        what it leaves may still decide.

    Cost
        Two explanations and two forward passes per sample.

    Source
        Explain To Me, arXiv:2303.11969, measure (e); the difference: ours.
    """

    protocol = Protocol(
        id="degradation@1",
        question=(
            "Is the decision safe when everything that the map calls unimportant is blurred, and lost when "
            "everything that it calls important is?"
        ),
        better="higher",
        range=lambda _, card: difference_range(card),
        needs=frozenset({"model", "explainer"}),
        family="faithful",
        values=(
            Value(),
            Value("score-low"),
            Value("score-high", "lower"),
            Value("ssim-low"),
            Value("ssim-high", "lower"),
            Value("auc-clean"),
            Value("auc-low"),
            Value("auc-high", "lower"),
        ),
        cost="2, and 2 explanations",
        source="Explain To Me, arXiv:2303.11969; the difference of scores: ours",
    )

    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        explainer = need_explainer(self.id, explainer)
        own = _maps.judged(samples, maps)
        steers = [tenths(own, high) for high in (False, True)]
        values: dict[str, np.ndarray] = {"auc-clean": marked_scores(model, samples)}
        flags: dict[int, Reason] = {}
        for name, images in zip(("low", "high"), blurred(probes(samples), steers), strict=True):
            same = (images == probes(samples)).flatten(1).all(dim=1)
            flags |= {int(i): NOTHING_BLURRED for i in torch.nonzero(same).flatten()}
            again, seen = explain_again(model, samples, images, explainer)
            values[f"score-{name}"] = unaltered_scores(again)
            values[f"ssim-{name}"] = ssim(own, seen)
            values[f"auc-{name}"] = marked_scores(model, again)
        sign = np.where(samples.genuine, 1, -1) if samples.are_pairs else 1
        values[""] = sign * (values["score-low"] - values["score-high"])
        reasons = reasons_for(own, values["ssim-low"] + values["ssim-high"])
        flags |= _maps.constant(own.clamp(min=0))
        done = _maps.result({name: values[name] for name in self.protocol.value_names}, reasons, flags)
        blank = np.flatnonzero(np.isnan(values["auc-clean"]))
        unlabelled = dict.fromkeys((int(i) for i in blank), NO_LABEL)
        return Scores(done.values, {**unlabelled, **reasons}, done.curves, done.flags)

    def summarise(self, values: np.ndarray, name: str = "") -> float:
        """Return the mean; for the AUC values the area under the ROC curve, NaN where one side is missing."""
        if not name.startswith("auc"):
            return super().summarise(values, name)
        negative = values < -NEGATIVE / 4
        if not len(values) or negative.all() or not negative.any():
            return float("nan")
        return float(placement(values[negative] + NEGATIVE, values[~negative]).mean())


METRICS = (Degradation(),)
