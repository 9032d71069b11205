"""Explain altered images: the step that stability, geometry, degradation and sensitivity metrics have in common.

Place in the flow: used by metrics whose ``needs`` hold ``explainer``. May call ``contract``, ``tasks``,
``_maps``, ``errors``.

Rules that hold wherever images are explained again:

* **The question stays.** The explained class is the one predicted on the clean image, whatever the altered image is
  taken for; a pair keeps its reference face, its decision and its threshold. Only so do two maps answer the same
  question.
* **The answer is fresh.** Raw outputs and scores are those of the altered images, so an explainer that reads them
  sees the network as it is on these pixels.
* **Pairs: the probe only.** Image ``a`` is altered, and only its map is compared: the similarity map of a genuine
  pair, the dissimilarity map of an impostor pair.
* **The same luck.** Ids and the suite's seed stay, so a seeded explainer draws the same masks for both images, and
  what is measured is the alteration and not the draw.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from faithface.contract import Cache, Clean, Explainer, FaceModel, Samples
from faithface.errors import NotApplicable
from faithface.lazy import torch
from faithface.metrics import _maps
from faithface.perturb.finite import require_finite
from faithface.reasons import Reason, ReasonCode
from faithface.tasks import class_probabilities, decided, pair_similarity

if TYPE_CHECKING:
    from torch import Tensor

AGAIN = Reason(ReasonCode.NON_FINITE_MAP, "a map of an altered image is not finite")


def altered(model: FaceModel, samples: Samples, images: Tensor, question: str = "clean") -> Samples:
    """Return the batch with its probes replaced by ``images`` (N×3×H×W) and with the model's answer to them.

    Args:
        question: ``"clean"``: the class or decision predicted on the clean image stays the one that is explained.
            ``"own"``: the altered images are a sample in their own right, with their own prediction.

    One forward pass per image.
    """
    again = _answered(model, samples, images, model.outputs(images), question)
    require_finite(model, samples.ids, again.clean.scores.cpu(), "an altered probe, before it is explained again")
    return again


def rescored(model: FaceModel, samples: Samples) -> Samples:
    """Return the same images with the answer of another model, for the question asked of the first one."""
    if not samples.are_pairs:
        return _answered(model, samples, samples.images, model.outputs(samples.images), "clean")
    both = model.outputs(samples.images.flatten(0, 1)).unflatten(0, (len(samples), 2))
    scores = pair_similarity(model.card, both[:, 0], both[:, 1])
    clean = dataclasses.replace(samples.clean, outputs=both, scores=scores)
    return dataclasses.replace(samples, clean=clean, cache=Cache())


def _answered(model: FaceModel, samples: Samples, images: Tensor, outputs: Tensor, question: str) -> Samples:
    old = samples.clean
    if samples.are_pairs:
        both = torch.stack([outputs, old.outputs[:, 1]], dim=1)
        scores = pair_similarity(model.card, both[:, 0], both[:, 1])
        own = question == "own" and old.threshold is not None
        clean = Clean(both, scores, decided(scores, old.threshold) if own else old.predicted, old.threshold)
        pixels = torch.stack([images, samples.images[:, 1]], dim=1)
        return dataclasses.replace(samples, images=pixels, clean=clean, cache=Cache())
    probabilities = class_probabilities(model.card, outputs)
    predicted = probabilities.argmax(dim=1) if question == "own" else old.predicted
    scores = probabilities.gather(1, predicted[:, None]).squeeze(1)
    return dataclasses.replace(samples, images=images, clean=Clean(outputs, scores, predicted, None), cache=Cache())


def explain_again(
    model: FaceModel, samples: Samples, images: Tensor, explainer: Explainer, question: str = "clean"
) -> tuple[Samples, Tensor]:
    """Explain the batch with altered probes; return the altered batch and its judged maps N×H×W."""
    again = altered(model, samples, images, question)
    return again, _maps.judged(again, explainer.explain(model, again))


def need_explainer(metric_id: str, explainer: Explainer | None) -> Explainer:
    """Return the explainer, or say that this metric cannot do without one that explains altered images."""
    if explainer is None or not explainer.info.reexplains:
        raise NotApplicable(
            f'metric "{metric_id}" explains altered images again and needs an explainer that can; '
            "precomputed maps cannot",
            ReasonCode.CANNOT_REEXPLAIN,
        )
    return explainer


def reasons_for(maps: Tensor, values: np.ndarray) -> dict[int, Reason]:
    """Return why values (float64 N) are NaN: the sample's own map is invalid, or one of an altered image is."""
    own = _maps.invalid(maps)
    return {int(i): own.get(int(i), AGAIN) for i in np.flatnonzero(np.isnan(values))}
