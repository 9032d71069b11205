"""CAM, the first of its family: for networks that end in global average pooling and a linear layer.

Place in the flow: registered by the package; reads the model's graph to check its head, then calls
``FaceModel.activations``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from faithface.card import ModelCard
from faithface.contract import Explainer, FaceModel, Maps, Method, Samples
from faithface.errors import NotApplicable
from faithface.lazy import torch
from faithface.tasks import ClassTarget, PairTarget, Target
from faithface_plugins.explainers.cam_math import resize
from faithface_plugins.explainers.common import core_twin

if TYPE_CHECKING:
    import onnx
    from torch import Tensor

# Operators that are linear (up to a constant) in their one input that is not a constant.
_ARITHMETIC = frozenset({"Gemm", "MatMul", "Add", "Sub", "Mul", "Div", "BatchNormalization"})
_POOLING = frozenset({"GlobalAveragePool", "AveragePool", "ReduceMean", "ReduceSum"})
_RESHAPING = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Identity", "Dropout", "Cast"})
_LINEAR = _ARITHMETIC | _POOLING | _RESHAPING
_SHAPES_SECOND = frozenset({"Reshape", "Squeeze", "Unsqueeze", "ReduceMean", "ReduceSum"})


@dataclass(frozen=True)
class LinearTarget:
    """A fixed weighting of the raw outputs, Σ_k weights[n, k]·outputs[n, k]: float32 weights M×K."""

    weights: Tensor

    def score(self, card: ModelCard, outputs: Tensor) -> Tensor:
        return (outputs * self.weights.to(outputs.device)).sum(dim=1)

    def take(self, indices: Tensor | slice) -> Target:
        return LinearTarget(self.weights[indices])


@dataclass(frozen=True)
class Cam(Explainer):
    """CAM: the last feature maps weighted by the linear layer's own weights, where the network ends this way.

    Formula: Σ_k W_ck·A_k over the features before global average pooling, bilinear to the input size. Signed, not
    scaled: the mean of the coarse map plus the bias is the logit. Pairs: the cosine decomposed in the same way, Σ_k
    (Wᵀ r)_k·A_k / ‖f‖ with f the face's embedding and r the partner's, normalised: the mean of the coarse map plus the
    bias's part is the cosine; the positive part is similarity, the negative part dissimilarity.

    There is no ``layer``: the head decides it. Embeddings that are compared by distance have no such sum.

    Source: Zhou et al., CVPR 2016, arXiv:1512.04150; for pairs, the decomposition of Stylianou et al., WACV 2019,
    arXiv:1901.00536. Cost: 1 forward pass and 1 backward pass through the head per image. Not specified: the paper has
    no ReLU, torch-cam adds one; without it the map keeps its meaning. Up to scale and sign it is Grad-CAM at that
    layer.

    Raises:
        NotApplicable: something between the last feature maps and the output is not linear, or not an average over
            positions; or the pair's similarity is not the cosine.
    """

    method = Method(
        name="cam",
        needs=frozenset({"activations", "gradients"}),
        source="Zhou et al. 2016, arXiv:1512.04150",
    )

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        if model.card.output.similarity != "cosine" and samples.are_pairs:
            raise NotApplicable(
                f'cam does not apply to model "{model.card.name}": a {model.card.output.similarity} distance is not a '
                "sum over the network's features; use grad-cam"
            )
        layer = pooled_layer(model)
        views = samples.views()
        outputs = samples.clean.outputs.reshape(len(views.images), -1)
        seen = model.activations(views.images, LinearTarget(output_weights(views.target, outputs)), layer)
        assert seen.gradients is not None
        weights = seen.gradients.mean(dim=(2, 3), keepdim=True)
        if (seen.gradients - weights).abs().max() > 1e-4 * weights.abs().max().clamp(min=1e-12):
            raise NotApplicable(
                f'cam does not apply to model "{model.card.name}": its head weighs the positions of "{layer}" '
                "differently, so it is not global average pooling; use grad-cam or hirescam"
            )
        cells = seen.values.shape[2] * seen.values.shape[3]
        native = (weights * cells * seen.values).sum(dim=1)
        maps = Maps.from_views(resize(native, model.size), samples, layer=seen.layer)
        small = native.unflatten(0, (len(samples), 2)).clamp(min=0) if samples.are_pairs else native
        return Maps(maps.relevance, maps.similarity, maps.dissimilarity, native=small, note=maps.note)


def output_weights(target: Target, outputs: Tensor) -> Tensor:
    """Return the weights M×K that make the explained scalar a sum over the raw outputs.

    Classifiers: 1 for the class (one unit: −1 for class 0). Pairs: the partner's direction over the face's own norm;
    zeros where a norm is 0.
    """
    if isinstance(target, ClassTarget):
        if outputs.shape[1] == 1:
            return target.classes[:, None].to(outputs) * 2 - 1
        return torch.nn.functional.one_hot(target.classes, outputs.shape[1]).to(outputs)
    if not isinstance(target, PairTarget):
        raise NotApplicable(f"cam has no linear form of the target {type(target).__name__}; use grad-cam")
    weights = torch.nn.functional.normalize(target.reference.to(outputs), dim=1)
    norms = torch.linalg.vector_norm(outputs, dim=1, keepdim=True)
    return torch.where(norms > 0, weights / norms.clamp(min=1e-12), torch.zeros_like(weights))


def pooled_layer(model: FaceModel) -> str:
    """Return the name of the last feature maps, if everything after them is linear.

    Raises:
        NotApplicable: it is not; the operator in the way is named.
    """
    twin = core_twin(model)
    graph: onnx.GraphProto = twin.network.onnx_model.graph
    spatial = {layer.name for layer in twin.layers() if layer.layout == "NCHW"}
    constants = {t.name for t in graph.initializer} | {n.output[0] for n in graph.node if n.op_type == "Constant"}
    made_by = {name: node for node in graph.node for name in node.output}
    name = twin.output
    while name not in spatial:
        node = made_by.get(name)
        inputs = [] if node is None else _variable_inputs(node, constants)
        if node is None or node.op_type not in _LINEAR or len(inputs) != 1:
            what = "it has no feature maps" if node is None else f"its head has a {node.op_type} that is not linear"
            raise NotApplicable(
                f'cam does not apply to model "{model.card.name}": {what}; expected global average pooling and a '
                "linear layer; use grad-cam"
            )
        name = inputs[0]
    return name


def _variable_inputs(node: onnx.NodeProto, constants: set[str]) -> list[str]:
    used = node.input[:1] if node.op_type in _SHAPES_SECOND else node.input
    if node.op_type == "Div" and node.input[1] not in constants:
        return list(node.input)  # a quotient is linear in its numerator only
    return [name for name in used if name and name not in constants]


EXPLAINERS: tuple[Explainer, ...] = (Cam(),)
