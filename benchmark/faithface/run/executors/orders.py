"""What a driver and its worker processes tell each other, beside the events of a run.

Place in the flow: ``processes`` orders, ``worker`` does. Imports only ``errors``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from faithface.errors import FaithfaceError


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
    """An exception in a worker outside of explainers and metrics: one of ours as it is, or what there is to say."""

    error: FaithfaceError | None
    text: str
