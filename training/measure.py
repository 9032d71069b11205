"""What a zoo model can do and where it looks, from its committed file: error rates, cost, relevance.

Place in the flow: called by ``evaluate_zoo.py``; sees models through ``faithface.model`` as any user would, so that the
figures are those of the ONNX file and not of the network that it was made from.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from faithface.card import ModelCard
from faithface.contract import FaceModel
from faithface.tasks import ClassTarget, cosine

CHUNK = 100


def megaflops(card: ModelCard) -> float:
    """Return the cost of one image in millions of floating-point operations (a multiply-add counts as two).

    Counted from the graph: convolutions and matrix products; activations and sums are below one per cent.
    """
    model = onnx.shape_inference.infer_shapes(onnx.load(card.path))
    shapes = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*model.graph.value_info, *model.graph.output, *model.graph.input)
    }
    weights = {w.name: tuple(w.dims) for w in model.graph.initializer}
    total = 0.0
    for node in model.graph.node:
        if node.op_type == "Conv":
            # weight: outputs × inputs per group × kernel; each output pixel takes one product per weight
            total += 2 * np.prod(weights[node.input[1]]) * np.prod(shapes[node.output[0]][2:])
        elif node.op_type in ("Gemm", "MatMul"):
            total += 2 * np.prod(weights[node.input[1]])
    return float(total) / 1e6


def _chunks(images: np.ndarray) -> Iterator[Tensor]:
    for start in range(0, len(images), CHUNK):
        part = np.ascontiguousarray(images[start : start + CHUNK])
        yield torch.from_numpy(part).permute(0, 3, 1, 2).to(torch.float32) / 255


def attack_scores(model: FaceModel, images: np.ndarray) -> np.ndarray:
    """Return float64 N: the difference of the two logits (uint8 images N×H×W×3), larger = more the positive class."""
    outputs = torch.cat([model.outputs(part) for part in _chunks(images)])
    return (outputs[:, 1] - outputs[:, 0]).double().numpy()


def auc(model: FaceModel, images: np.ndarray, labels: np.ndarray) -> float:
    """Return the area under the ROC curve."""
    return float(roc_auc_score(labels, attack_scores(model, images)))


def pair_scores(model: FaceModel, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the cosines of pairs of uint8 images N×H×W×3."""
    sides = [torch.cat([model.embeddings(part) for part in _chunks(images)]) for images in (a, b)]
    return cosine(*sides).double().numpy()


def grad_cam(model: FaceModel, images: np.ndarray) -> np.ndarray:
    """Return Grad-CAM of the predicted class at the automatic layer, float32 N×H×W, >= 0, bilinear.

    For a head that is linear on a global average it equals CAM and HiResCAM up to a constant.
    """
    maps = []
    for part in _chunks(images):
        found = model.activations(part, ClassTarget(model.outputs(part).argmax(dim=1)))
        assert found.gradients is not None
        weights = found.gradients.mean(dim=(2, 3), keepdim=True)
        cam = (weights * found.values).sum(dim=1, keepdim=True).clamp(min=0)
        maps.append(torch.nn.functional.interpolate(cam, size=model.size, mode="bilinear", align_corners=False)[:, 0])
    return torch.cat(maps).numpy()


def relevance_mass(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return the share of each map's mass inside its mask, N; NaN for a map that is 0 everywhere.

    Args:
        maps: N×H×W, >= 0.
        masks: bool N×H×W.
    """
    total = maps.sum(axis=(1, 2), dtype=np.float64)
    inside = (maps * masks).sum(axis=(1, 2), dtype=np.float64)
    return np.divide(inside, total, out=np.full(len(maps), np.nan), where=total > 0)
