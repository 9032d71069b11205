"""The builtin explainers. :data:`EXPLAINERS` is what the package registers.

Place in the flow: read by ``faithface_plugins``; each module here lists its own explainers in an ``EXPLAINERS`` tuple.
They call the core's contract only, as third-party explainers do.

CAMs: ``cams`` (by gradient, on ``cam_math``), ``score_cam``, ``ablation_cam``, ``cam_head``, ``ensemble`` · gradients:
``gradients`` · black box: ``black_box``, ``surrogates`` · pairs only: ``verification`` · ``controls`` random,
centre-prior, edges, inverted, oracle · ``contributions`` of the model · ``precomputed`` maps made elsewhere ·
``bridges`` to captum and pytorch-grad-cam ·
``common`` shared functions.
"""

from __future__ import annotations

from faithface.contract import Explainer
from faithface_plugins.explainers import (
    ablation_cam,
    black_box,
    bridges,
    cam_head,
    cams,
    contributions,
    controls,
    ensemble,
    gradients,
    precomputed,
    score_cam,
    surrogates,
    verification,
)

EXPLAINERS: tuple[Explainer, ...] = (
    *cams.EXPLAINERS,
    *score_cam.EXPLAINERS,
    *ablation_cam.EXPLAINERS,
    *cam_head.EXPLAINERS,
    *ensemble.EXPLAINERS,
    *gradients.EXPLAINERS,
    *black_box.EXPLAINERS,
    *surrogates.EXPLAINERS,
    *verification.EXPLAINERS,
    *controls.EXPLAINERS,
    *contributions.EXPLAINERS,
    *precomputed.EXPLAINERS,
    *bridges.EXPLAINERS,
)

__all__ = ["EXPLAINERS"]
