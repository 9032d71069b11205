"""The explainers in the box. :data:`EXPLAINERS` is what the package registers.

Place in the flow: read by ``faithface_plugins``; each module here lists its own explainers in an ``EXPLAINERS`` tuple.
They call the core's contract only, as any third party's would.

``cams`` the gradient CAMs, on ``cam_math`` · ``ensemble`` Ensemble-CAM · ``black_box`` occlusion and RISE ·
``controls`` random, centre-prior, edges, inverted, oracle · ``common`` what they share.
"""

from __future__ import annotations

from faithface.contract import Explainer
from faithface_plugins.explainers import black_box, cams, controls, ensemble

EXPLAINERS: tuple[Explainer, ...] = (
    *cams.EXPLAINERS,
    *ensemble.EXPLAINERS,
    *black_box.EXPLAINERS,
    *controls.EXPLAINERS,
)

__all__ = ["EXPLAINERS"]
