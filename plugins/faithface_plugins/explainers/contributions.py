"""``contributions``: a network's own mechanism as a map, which a perfect explainer of that network would return.

Place in the flow: registered by the package; calls the contract, ``model.contributions`` and ``perturb.fills``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

from faithface.contract import Explainer, FaceModel, Maps, Method, Samples
from faithface.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from faithface.model.onnx_model import OnnxModel

Beyond = Literal["auto", "stranger", "partner", "blur", "black", "mean", "rise", "none"]


@dataclass(frozen=True)
class ContributionMaps(Explainer):
    """What each patch contributes to the score, by the model's own output; for models with ``[contributions]`` only.

    Classifiers: the contribution of each patch to the score of the predicted class, minus what the fill contributes in
    its place, spread evenly over the patch; signed. Pairs: the similarity map is that of the similarity, the
    dissimilarity map its negative. Maps of pairs are ≥ 0: where a patch is below 0, the smallest value of the face is
    subtracted everywhere, which keeps order and differences.

    With ``fill=none`` nothing is subtracted, and the maps of pairs are the positive and the negative part, so that
    similarity minus dissimilarity is the contribution itself, for both faces the same.

    Parameters:
        fill: ``auto``, the fills with which curves judge these maps: ``blur`` (classifiers), ``stranger`` (similarity),
            ``partner`` (dissimilarity); one of ``stranger``, ``partner``, ``blur``, ``black``, ``mean``, ``rise`` for
            all; or ``none``. The probe's fill is the one that the curves use.

    Cost: 2 forward passes per sample; 8 per pair.

    Raises:
        NotApplicable: the model's card has no section ``[contributions]``.
    """

    fill: Beyond = "auto"

    method = Method(
        name="contributions",
        needs=frozenset({"contributions"}),
        source="the model's own mechanism",
    )

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        from faithface.model.contributions import contribution_maps, contributions

        if self.fill == "none":
            values = contributions(cast("OnnxModel", model), samples, of="predicted")
            maps = contribution_maps(model.card, values)
            return Maps.from_views(maps.repeat_interleave(2, dim=0) if samples.are_pairs else maps, samples)
        if not samples.are_pairs:
            values = self._beyond(model, samples, "blur")[:, 0]
            return Maps(relevance=contribution_maps(model.card, values))
        similarity = contribution_maps(model.card, self._beyond(model, samples, "stranger"))
        dissimilarity = contribution_maps(model.card, -self._beyond(model, samples, "partner"))
        return Maps(similarity=_from_zero(similarity), dissimilarity=_from_zero(dissimilarity))

    def _beyond(self, model: FaceModel, samples: Samples, usual: str) -> Tensor:
        """Return the contributions beyond the fill, N×S×P; of a pair for the probe and for the reference."""
        from faithface.model.contributions import contributions_beyond_fill
        from faithface.perturb.fills import fill_images

        # With two sides the probe's stranger is the first that is drawn: the same as with one side.
        fills = fill_images(model, samples, usual if self.fill == "auto" else self.fill, 2 if samples.are_pairs else 1)
        return contributions_beyond_fill(cast("OnnxModel", model), samples, fills, of="predicted")


def _from_zero(maps: Tensor) -> Tensor:
    low = maps.amin(dim=(-2, -1), keepdim=True)
    return maps - torch.where(low < 0, low, torch.zeros_like(low))


EXPLAINERS: tuple[Explainer, ...] = (ContributionMaps(),)
