"""``randomisation@1``: does the map change when the network's learned weights are destroyed, from the top down?

Place in the flow: a metric that explains another network; called by ``run``. May call ``_reexplain``, ``similarity``,
``contract``.

The weights are replaced in the ONNX graph itself, and the graph is opened as any model is. So its session, its torch
twin and all that is derived from them belong to one and the same randomised network, whatever an explainer uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from faithface.contract import Explainer, FaceModel, Maps, Metric, Protocol, Samples, Scores, Value
from faithface.errors import NotApplicable
from faithface.metrics import _maps
from faithface.metrics._reexplain import need_explainer, reasons_for, rescored
from faithface.metrics.noise_stability import judged_ranks
from faithface.metrics.similarity import average_ranks, rank_correlation, ssim
from faithface.seeds import rng_for

if TYPE_CHECKING:
    import onnx

LEARNED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
PASSES_ON = frozenset({"Identity", "Transpose", "Cast", "Reshape", "Squeeze", "Unsqueeze"})


def learned_layers(graph: onnx.GraphProto) -> list[tuple[str, ...]]:
    """Return the learned layers in graph order, each as the names of its float tensors (weights, and bias if it has
    one).

    A layer is a convolution or matrix product with a stored weight. Normalisation layers are not among them.
    """
    import onnx

    stored = {tensor.name: tensor.data_type for tensor in graph.initializer}
    made_by = {name: node for node in graph.node for name in node.output}
    constants = [node for node in graph.node if node.op_type == "Constant"]
    stored |= {node.output[0]: a.t.data_type for node in constants for a in node.attribute if a.name == "value"}
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)

    def origin(name: str) -> str | None:
        while name in made_by and name not in stored and made_by[name].op_type in PASSES_ON:
            name = made_by[name].input[0]
        return name if stored.get(name) in floats else None

    found = []
    for node in graph.node:
        if node.op_type in LEARNED:
            tensors = tuple(t for t in map(origin, node.input) if t)
            if tensors:
                found.append(tensors)
    return found


def randomised_proto(proto: onnx.ModelProto, layers: int, seed: int) -> onnx.ModelProto:
    """Return a copy of the model whose last ``layers`` learned layers hold random weights.

    Each tensor is drawn from the normal distribution with its own mean and standard deviation, by a generator seeded by
    its name, so that what is random at one level is the same at every deeper one.
    """
    import onnx
    from onnx import numpy_helper

    chosen = {name for tensors in learned_layers(proto.graph)[-layers:] for name in tensors}
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    holders = list(copy.graph.initializer)
    names = [tensor.name for tensor in holders]
    for node in copy.graph.node:
        if node.op_type == "Constant":
            held = [a.t for a in node.attribute if a.name == "value"]
            holders += held
            names += [node.output[0]] * len(held)
    for name, holder in zip(names, holders, strict=True):
        if name in chosen:
            values = numpy_helper.to_array(holder)
            mean, deviation = values.mean(dtype=np.float64), values.std(dtype=np.float64)
            drawn = rng_for(seed, "", f"randomisation/{name}").normal(mean, deviation, values.shape)
            holder.CopyFrom(numpy_helper.from_array(drawn.astype(values.dtype), holder.name))
    return copy


def randomised_model(model: FaceModel, layers: int, seed: int) -> FaceModel:
    """Return the model with its last ``layers`` learned layers randomised; opened once and kept with the model."""
    return model.cached(_randomised_model, layers, seed)


def _randomised_model(model: FaceModel, layers: int, seed: int) -> FaceModel:
    assert model.proto is not None  # score has made sure that there are layers
    return model.with_weights(randomised_proto(model.proto, layers, seed))


def levels(layers: int, steps: int) -> list[int]:
    """Return how many layers are random at each step: from the last one alone to all, evenly spaced.

    Examples:
        >>> levels(54, 5), levels(3, 5)
        ([1, 14, 28, 41, 54], [1, 2, 3])
    """
    return sorted({int(np.floor(v + 0.5)) for v in np.linspace(layers, 1, steps)})


@dataclass(frozen=True)
class Randomisation(Metric):
    """Sanity check by cascading randomisation of the network's weights.

    Formula
        The learned layers (convolutions and matrix products) are randomised from the output downwards: the last one
        alone, then evenly spaced numbers of layers, to all of them, in ``steps`` levels. A weight or bias tensor is
        replaced by draws from the normal distribution with its own mean and standard deviation. At each level the
        images are explained again on the randomised network, for the class that the intact network predicted;
        value = mean over the levels of |Spearman's rank correlation of map and original map|, signs of the maps
        kept.

    Parameters
        ``steps``: number of levels; default 5 (fewer where the network has fewer layers).

    Values
        headline: the mean over the levels.
        ``ssim``: mean SSIM of the two maps over the levels, each scaled to [0, 1]; in [-1, 1].
        ``all-layers``: |Spearman| with all layers random.
        Curves over the levels: ``layers`` (share of the layers that are random), ``spearman`` (with its sign),
        ``ssim``.

    Range and direction
        0 to 1. Lower is better. The best value is 0.0: the map of the randomised network tells nothing about the
        original's. A negative correlation still tells something, hence the absolute value.

    Which maps
        Classifiers: the relevance map. Pairs: both faces are embedded by the randomised network; the probe's
        similarity map on genuine pairs, its dissimilarity map on impostor pairs.

    Special cases
        Two constant maps are the same map (1, the worst) and the sample is flagged; a constant map beside another
        gives 0. Where one of the maps is not finite, there is no value. Normalisation layers keep their parameters
        and running statistics, since fresh ones would switch layers off rather than randomise them.

    Differs from other libraries
        Quantus calls torch's ``reset_parameters`` module by module with one seed, divides maps by their largest
        absolute value, and reports each layer's correlation. Redrawing at the trained scale keeps activations in range,
        which fresh initialisation does not. The weights are replaced in the ONNX file's graph, from which the torch
        twin is derived anew: black-box explainers are tested on the same network as gradient ones.

    Known weaknesses
        A necessary condition only. Maps that depend on the image's edges as much as on the network keep a moderate
        correlation at any level, and smoothing raises it. Explainers that never ask the network stand at 1:
        ``random`` (its seed is the sample's), ``centre-prior``, ``edges``.

    Cost
        ``steps`` explanations and forward passes per sample (pairs: two passes), and once per model the opening of as
        many networks, which stay in memory.

    Source
        Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018, arXiv:1810.03292.
    """

    steps: int = 5

    protocol = Protocol(
        id="randomisation@1",
        question="An explanation of what a network has learned must change when it forgets. Does it?",
        better="lower",
        range=(0.0, 1.0),
        best=0.0,
        needs=frozenset({"model", "explainer"}),
        family="description",
        values=(
            Value(),
            Value("ssim"),
            Value("all-layers"),
        ),
        cost=lambda metric: f"{metric.steps} (pairs: {2 * metric.steps}), and {metric.steps} explanations",
        source="Adebayo et al., NeurIPS 2018, arXiv:1810.03292",
    )

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; expected at least 1")

    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        explainer = need_explainer(self.id, explainer)
        count = len(learned_layers(model.proto.graph)) if model.proto is not None else 0
        if not count:
            raise NotApplicable(
                f'metric "{self.id}" randomises float weights of convolutions and matrix products; '
                f'model "{model.card.name}" has none that are stored as such'
            )
        own = _maps.judged(samples, maps)
        ranks = maps.cached(judged_ranks, samples)
        alike, ordered = [], []
        chosen = levels(count, self.steps)
        for layers in chosen:
            net = randomised_model(model, layers, samples.seed)
            before = net.passes
            again = rescored(net, samples)
            other = _maps.judged(again, explainer.explain(net, again))
            # The randomised network has a meter of its own; what it did is this model's cost.
            spent = net.passes - before
            model.count(spent.forward, spent.backward)
            alike.append(ssim(own, other))
            ordered.append(rank_correlation(ranks, average_ranks(other)))
        spearman = np.stack(ordered, axis=1)
        curves = {
            "layers": np.tile(np.array(chosen) / count, (len(samples), 1)),
            "spearman": spearman,
            "ssim": np.stack(alike, axis=1),
        }
        values = {
            "": np.abs(spearman).mean(axis=1),
            "ssim": curves["ssim"].mean(axis=1),
            "all-layers": np.abs(spearman[:, -1]),
        }
        return _maps.result(values, reasons_for(own, values[""]), _maps.constant(own), curves)


METRICS = (Randomisation(),)
