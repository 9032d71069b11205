"""The explainers made for face verification, which explain pairs only.

Place in the flow: read by the package's ``__init__``, which registers :data:`EXPLAINERS` with all others.
"""

from __future__ import annotations

from faithface.contract import Explainer
from faithface_plugins.explainers import corrrise, fame, fggb, minplus, xface, xssab

EXPLAINERS: tuple[Explainer, ...] = (
    *fggb.EXPLAINERS,
    *corrrise.EXPLAINERS,
    *xssab.EXPLAINERS,
    *xface.EXPLAINERS,
    *minplus.EXPLAINERS,
    *fame.EXPLAINERS,
)

__all__ = ["EXPLAINERS"]
