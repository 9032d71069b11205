"""The explained scalar as a torch module, for libraries that explain modules.

Place in the flow: used by ``gradients``; a module of its own because its class needs torch when it is defined.
"""

from __future__ import annotations

from torch import Tensor, nn

from faithface.contract import FaceModel, Views


class ExplainedScalar(nn.Module):
    """The explained scalar as a module, captum's way: ``module(images n×3×H×W, rows n) -> n``; counts its passes.

    ``rows`` says which view each image belongs to, so that captum may repeat images as it likes. The scalar is
    ``model.explained``, as in ``model.gradient``: the twin is a submodule only so that captum can set hooks on it.
    """

    def __init__(self, model: FaceModel, views: Views) -> None:
        super().__init__()
        self.twin = model.twin_for(views.images)
        self.model, self.target = model, views.target

    def forward(self, images: Tensor, rows: Tensor) -> Tensor:
        self.model.count(forward=len(images), backward=len(images))
        return self.model.explained(images, self.target.take(rows))
