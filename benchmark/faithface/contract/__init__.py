"""What a plugin author writes against: Explainer, Metric, Dataset, their samples, and the model that they see.

Place in the flow: every other part of faithface uses these types; this package imports only ``card``, ``errors``,
``lazy``, ``reasons``, ``seeds``, ``specs`` and ``tasks``. Nothing here touches a file, a session or a network.

The types in the order in which a run meets them::

    Dataset.items() -> Sample | Pair            light: an id, where the pixels come from, what is known about them
    load_samples(...) -> Samples                a batch: pixels at the model's input size, clean scores, seeds
    Explainer.explain(model, samples) -> Maps   one relevance map per face
    Metric.score(model, samples, maps) -> Scores    one float per sample and named value
    Fill.fill(model, removal) -> images         what replaces the pixels that a metric removes

What an explainer or a metric *is* is declared in its class value ``method`` (:class:`Method`) or ``protocol``
(:class:`Protocol`). Both are frozen dataclasses, and their fields are their parameters: what users may *set* with
``name(parameter=value)`` (``specs.py``). Images are float32, RGB, in [0, 1].
"""

from faithface.contract.cache import Cache
from faithface.contract.dataset import Dataset, Face, Mask, Pair, Sample
from faithface.contract.explainer import Explainer, Method
from faithface.contract.fill import Fill, Filling, Removal
from faithface.contract.maps import PAIR_MAPS, Cost, Maps
from faithface.contract.metric import Better, Metric, Protocol, Scores, Value
from faithface.contract.model import MADE, Activations, FaceModel
from faithface.contract.running import BatchingPolicy, DeviceFeed, Feed, HostFeed, Passes
from faithface.contract.samples import Both, ClassSide, Clean, Samples, Views, Which, both, judged_by

__all__ = [
    "MADE",
    "PAIR_MAPS",
    "Activations",
    "BatchingPolicy",
    "Better",
    "Both",
    "Cache",
    "ClassSide",
    "Clean",
    "Cost",
    "Dataset",
    "DeviceFeed",
    "Explainer",
    "Face",
    "FaceModel",
    "Feed",
    "Fill",
    "Filling",
    "HostFeed",
    "Maps",
    "Mask",
    "Method",
    "Metric",
    "Pair",
    "Passes",
    "Protocol",
    "Removal",
    "Sample",
    "Samples",
    "Scores",
    "Value",
    "Views",
    "Which",
    "both",
    "judged_by",
]
