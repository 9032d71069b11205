"""Refuse scores of altered images that are not finite.

Place in the flow: called by ``curves`` and by the metrics that score altered images. May call the contract, ``errors``
and ``reasons``.

A network may give NaN on an unnatural image, for instance an all-black one. The samples without a number are not
a random part of the set, so a mean over the others answers another question: the metric fails and names the sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from faithface.contract import FaceModel
from faithface.errors import RunError
from faithface.reasons import ReasonCode

if TYPE_CHECKING:
    from torch import Tensor


def require_finite(model: FaceModel, ids: Sequence[str], scores: np.ndarray | Tensor, what: str) -> None:
    """Refuse scores that hold a NaN or an infinity.

    Args:
        ids: of the N samples.
        scores: N or N×S, of altered versions of the N samples.
        what: how the images were altered, to follow "on", such as ``"patches of the reference"``.

    Raises:
        RunError: with the model, the first such sample, where along the S versions it is, and how many there are.
    """
    if not len(ids):
        return
    rows = np.asarray(scores, dtype=np.float64).reshape(len(ids), -1)
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if not len(bad):
        return
    first = int(bad[0])
    at = int(np.flatnonzero(~np.isfinite(rows[first]))[0])
    place = f" ({at / (rows.shape[1] - 1):.0%} along)" if rows.shape[1] > 1 else ""
    raise RunError(
        f'model "{model.card.name}" gives {rows[first, at]} for sample "{ids[first]}" on {what}{place}; '
        f"{len(bad)} of {len(rows)} samples: use another fill, or a network that stays finite on such images",
        ReasonCode.NON_FINITE_SCORE,
    )
