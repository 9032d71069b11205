"""Ablation-CAM: channels weighted by how far the score falls without them.

Place in the flow: registered by the package; runs the model's twin with one layer's value exchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from faithface.contract import Explainer, FaceModel, Maps, Method, Samples
from faithface.lazy import torch
from faithface.tasks import Target
from faithface_plugins.explainers.cams import cam_maps
from faithface_plugins.explainers.common import chunks, core_twin

if TYPE_CHECKING:
    from torch import Tensor

# Ablated copies of one image in a pass of the twin.
ABLATION_CHUNK = 32


@dataclass(frozen=True)
class AblationCam(Explainer):
    """Ablation-CAM: each channel weighted by the relative fall of the score when that channel is set to 0.

    Formula: ReLU(Σ_k w_k·A_k), w_k = (y − y_k) / |y|, y_k = score with channel k of the layer set to 0. Scaling and
    resize as for the gradient CAMs. Pairs: the dissimilarity map has the weights −w_k.

    Parameters:
        layer: name of the layer ("" = the card's, else automatic).

    Source: Desai & Ramaswamy, WACV 2020. Cost: 1 + C forward passes per image for a layer of C channels, no backward
    pass. Not specified by the paper, decided here: the paper divides by y, which changes the sign of every weight where
    the logit of the predicted class is negative; dividing by |y| keeps "removing it lowers the score" positive, and a
    factor per image does not change the scaled map otherwise. pytorch-grad-cam, which divides by y, agrees where y > 0
    and the layer's smallest value is 0; for other layers it sets the channel to −1e7 instead of 0.
    """

    layer: str = ""

    method = Method(
        name="ablation-cam",
        needs=frozenset({"activations"}),
        source="Desai & Ramaswamy 2020, doi:10.1109/WACV45572.2020.9093360",
    )

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        views = samples.views()
        seen = model.activations(views.images, None, self.layer or None)
        clean = views.target.score(model.card, samples.clean.outputs.reshape(len(views.images), -1))
        weights = torch.stack(
            [
                y - scores_without_channels(model, image, views.target, i, seen.layer, seen.values.shape[1])
                for i, (image, y) in enumerate(zip(views.images, clean, strict=True))
            ]
        )
        # Any positive factor per image gives the same scaled map. |y| can be 0, so it is omitted.
        cam = (weights[:, :, None, None].to(seen.values) * seen.values).sum(dim=1)
        return cam_maps(samples, model.size, cam, -cam if samples.are_pairs else None, seen.layer)


def scores_without_channels(
    model: FaceModel, image: Tensor, target: Target, row: int, layer: str, channels: int
) -> Tensor:
    """Return the score of one image 3×H×W with each channel of a layer set to 0 in turn: float32 C.

    Where every path passes the layer, only what lies behind it runs again. Each is counted as a forward pass.
    """
    twin = core_twin(model)
    found = twin.find_layer(layer)
    axis = 1 if found.layout == "NCHW" else -1
    size = twin.fixed_batch or ABLATION_CHUNK
    whole = image[None].to(twin.device)
    with torch.no_grad():
        value = twin.values(whole, [found.name])[found.name][:1]
    behind = twin.behind(found.name)
    scores = []
    for part in chunks(channels, size):
        # A fixed-batch network gets full batches; the surplus repeats the last channel and is discarded.
        removed = torch.arange(part.start, part.start + (twin.fixed_batch or part.stop - part.start)).clamp(
            max=channels - 1
        )
        changed = value.repeat(len(removed), *[1] * (value.ndim - 1))
        changed.movedim(axis, 1)[torch.arange(len(removed)), removed] = 0
        with torch.no_grad():
            if behind is not None:
                outputs = behind(changed)
            else:

                def exchange(_name: str, _value: Tensor, changed: Tensor = changed) -> Tensor:
                    return changed

                with twin.hooks(exchange, only=found.name):
                    outputs = twin(whole.expand(len(removed), *image.shape))
        outputs = outputs[: part.stop - part.start]
        model.count(forward=len(outputs))
        rows = torch.full((len(outputs),), row, device=outputs.device)
        scores.append(target.take(rows.to(image.device)).score(model.card, outputs))
    return torch.cat(scores)


EXPLAINERS: tuple[Explainer, ...] = (AblationCam(),)
