"""Altering images where a map points, and running the network on them.

Place in the flow: ``metrics → perturb → contract``; a model is run through the contract's
:class:`~faithface.contract.FaceModel` alone. :func:`curves` does all of deletion and insertion; the parts
serve others: :func:`rank` (which pixels), :func:`fill_images` and ``linear.impute_linear`` (by what),
:class:`MaskingPlan` and :func:`run_masking_plan` (many altered images through the network at its own speed),
:func:`blended_outputs` and :func:`covered_outputs` (one image under many masks or windows, for explainers).

``ranking.py`` · ``fills.py`` (``strangers.py``, ``linear.py``) · ``masking_plan.py`` · ``engine.py`` (``lanes.py``)
· ``blended.py`` · ``curves.py`` · ``prefetch.py``
"""

from faithface.perturb.blended import blended_outputs, blended_outputs_of_several, covered_outputs
from faithface.perturb.curves import Curves, area, curves
from faithface.perturb.engine import run_masking_plan
from faithface.perturb.fills import FILLS, FillName, fill_images, inpainted
from faithface.perturb.masking_plan import MaskingPlan, Track, plan_tracks
from faithface.perturb.prefetch import prefetch
from faithface.perturb.ranking import Ranking, rank

__all__ = [
    "FILLS",
    "Curves",
    "FillName",
    "MaskingPlan",
    "Ranking",
    "Track",
    "area",
    "blended_outputs",
    "blended_outputs_of_several",
    "covered_outputs",
    "curves",
    "fill_images",
    "inpainted",
    "plan_tracks",
    "prefetch",
    "rank",
    "run_masking_plan",
]
