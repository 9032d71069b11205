"""What a driver and its worker processes tell each other, beside the events of a run.

Place in the flow: ``processes`` orders, ``worker`` does. Imports only ``errors`` and ``reasons``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from faithface.errors import FaithfaceError
from faithface.reasons import ReasonCode


@dataclass(frozen=True)
class Order:
    """A shard to do.

    Attributes:
        cells: the metrics that are still to be scored, by cell number.
        threshold: the decision threshold.
        alone: nothing else is read meanwhile, so that there is no doubt who ends the process.
    """

    number: int
    cells: Mapping[int, tuple[str, ...]]
    threshold: float | None
    alone: bool = False


@dataclass(frozen=True)
class Failed:
    """What went wrong in a worker outside of explainers and metrics.

    Attributes:
        error: an exception of ours as it is.
        text: what there is to say; of a ``code``, the end of a sentence about the step, else of an exception.
        code: what happened where nothing was raised.
    """

    error: FaithfaceError | None
    text: str
    code: ReasonCode | None = None
