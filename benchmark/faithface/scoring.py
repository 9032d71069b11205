"""Our metrics on a plain torch module and arrays, without a run: :func:`faithface.score`.

Place in the flow: for those who have maps already and do not want the harness. May call ``plugins``,
``model.torch_model``, ``applicability`` and the contract.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from faithface.applicability import metric_applies
from faithface.card import InputCard, ModelCard, OutputCard
from faithface.contract import Clean, Cost, Dataset, Face, Maps, Metric, Pair, Sample, Samples
from faithface.errors import NotApplicable, UsageError
from faithface.lazy import torch
from faithface.plugins import load_registry
from faithface.tasks import class_probabilities, decided, pair_similarity

ArrayMaps = Any


class _Given(Dataset):
    """The images that were given, as a dataset: what fills that need other faces look at."""

    name = "given"

    def __init__(self, task: Any, items: Sequence[Any]) -> None:
        self.task, self._items = task, tuple(items)

    def items(self) -> Any:
        return self._items


def score(
    model: Any,
    images: Any,
    maps: ArrayMaps | Mapping[str, ArrayMaps],
    metric: str | Metric,
    *,
    outputs: Literal["logits", "probabilities"] = "logits",
    same: Sequence[bool] | None = None,
    threshold: float | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Score maps by one of the metrics.

    Args:
        model: a torch module: images N×3×H×W in [0, 1] to class outputs N×C, or to embeddings N×D for pairs. Put the
            normalisation inside.
        images: float N×3×H×W in [0, 1], RGB; for pairs N×2×3×H×W.
        maps: N×H×W for classifiers. For pairs ``{"similarity": N×2×H×W, "dissimilarity": N×2×H×W}``; one array is the
            similarity, and the dissimilarity is then 0.
        metric: ``"gap@1(grid=14)"``, or a metric.
        outputs: what the module gives for classifiers.
        same: for pairs, which are genuine.
        threshold: for pairs, the similarity from which they are accepted; needed by metrics of decisions.
        seed: all random numbers depend on it and on the position of the image.

    Returns:
        float64 N: the headline of each sample; NaN where there is no value, and for samples of a kind that the metric
        is not judged on.

    Raises:
        UsageError: shapes that do not fit, an unknown metric, or pairs without ``same``.
        NotApplicable: the metric needs what a module and arrays do not have: ground truth, an ONNX graph, or an
            explainer that explains again.
    """
    from faithface.model.torch_model import TorchModel

    pixels = torch.as_tensor(images, dtype=torch.float32)
    pairs = pixels.ndim == 5
    if pixels.ndim not in (4, 5) or pixels.shape[-3] != 3:
        raise UsageError(f"images have the shape {tuple(pixels.shape)}; expected N×3×H×W, or N×2×3×H×W for pairs")
    if float(pixels.min()) < 0 or float(pixels.max()) > 1:
        raise UsageError(f"images go from {float(pixels.min()):.3g} to {float(pixels.max()):.3g}; expected [0, 1]")
    if pairs and same is None:
        raise UsageError("pairs need same=[True, False, …]: which of them are genuine")
    chosen = load_registry().metric(metric).object if isinstance(metric, str) else metric
    given = _maps(maps, pixels, pairs)
    with torch.no_grad():
        raw = model.eval()(pixels.flatten(0, 1) if pairs else pixels).flatten(1)
    card = _card((pixels.shape[-2], pixels.shape[-1]), 0 if pairs else raw.shape[1], outputs, threshold)
    opened = TorchModel(model, card, device=str(pixels.device))
    samples = _samples(opened, pixels, raw, same, threshold, seed)
    assert samples.dataset is not None
    if reason := metric_applies(card, samples.dataset, None, chosen):
        raise NotApplicable(f"{chosen.id}: {reason.detail}", reason.code)
    if "explainer" in chosen.protocol.needs:
        raise NotApplicable(
            f"{chosen.id} explains altered images again, and there is no explainer; use faithface.evaluate"
        )
    judged = samples.where(chosen.judged_on)
    found = np.full(len(samples), np.nan)
    if len(judged):
        found[judged] = chosen.score(opened, samples.take(judged), given.take(judged)).values[""]
    return found


def _maps(maps: Any, pixels: Any, pairs: bool) -> Maps:
    named = dict(maps) if isinstance(maps, Mapping) else {"similarity" if pairs else "relevance": maps}
    allowed = ("similarity", "dissimilarity") if pairs else ("relevance",)
    shape = (*pixels.shape[:2], *pixels.shape[-2:]) if pairs else (len(pixels), *pixels.shape[-2:])
    made: dict[str, Any] = {}
    for name, values in named.items():
        if name not in allowed:
            raise UsageError(f'maps hold "{name}"; expected {" and ".join(allowed)}')
        tensor = torch.as_tensor(values, dtype=torch.float32, device=pixels.device)
        if tuple(tensor.shape) != tuple(shape):
            raise UsageError(f"{name} has the shape {tuple(tensor.shape)}; expected {tuple(shape)}")
        if not bool(torch.isfinite(tensor).all()):
            raise UsageError(f"{name} holds values that are not finite")
        if pairs and bool((tensor < 0).any()):
            raise UsageError(f"{name} has negative values; expected >= 0")
        made[name] = tensor
    if pairs:
        first: Any = made.get("similarity", made.get("dissimilarity"))
        made = {name: made.get(name, torch.zeros_like(first)) for name in allowed}
    return Maps(made.get("relevance"), made.get("similarity"), made.get("dissimilarity"), cost=Cost(0.0, 0, 0))


def _card(size: tuple[int, int], classes: int, outputs: Any, threshold: float | None) -> ModelCard:
    output = (
        OutputCard(kind=outputs, classes=tuple(f"class-{i}" for i in range(classes)))
        if classes
        else OutputCard(kind="embedding", threshold=threshold)
    )
    task: Any = "pad" if classes else "verification"
    return ModelCard(name="module", task=task, file="(a torch module)", input=InputCard(size=size), output=output)


def _samples(model: Any, pixels: Any, raw: Any, same: Any, threshold: float | None, seed: int) -> Samples:
    card, n = model.card, len(pixels)

    def face(name: str, image: Any) -> Face:
        return Face(name, lambda: image.permute(1, 2, 0).cpu().numpy().copy())

    items: Any
    if same is None:
        items = tuple(Sample(f"image-{i:05d}", face(f"image-{i:05d}", pixels[i])) for i in range(n))
        scores, predicted = class_probabilities(card, raw).max(dim=1)
        clean = Clean(raw, scores, predicted)
    else:
        items = tuple(
            Pair(f"pair-{i:05d}", face(f"a-{i:05d}", pixels[i, 0]), face(f"b-{i:05d}", pixels[i, 1]), bool(same[i]))
            for i in range(n)
        )
        both = raw.unflatten(0, (n, 2))
        scores = pair_similarity(card, both[:, 0], both[:, 1])
        clean = Clean(both, scores, decided(scores, threshold), threshold)
    return Samples(items, pixels, clean, seed, _Given(card.task, items))
