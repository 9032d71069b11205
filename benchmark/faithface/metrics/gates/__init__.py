"""The gates: checks that a map passes or fails. Boards show them and never rank by them.

Place in the flow: registered through ``faithface.metrics.METRICS``; each file is one protocol. They may call what
metrics that explain again call, and ``windows`` (networks that see only a part of the image).
"""

from __future__ import annotations

from faithface.contract import Metric
from faithface.metrics.gates.completeness import Completeness
from faithface.metrics.gates.disconnected import Disconnected
from faithface.metrics.gates.own_class import OwnClass
from faithface.metrics.gates.randomised_network import RandomisedNetwork

METRICS: tuple[Metric, ...] = (Disconnected(), RandomisedNetwork(), OwnClass(), Completeness())

__all__ = ["METRICS", "Completeness", "Disconnected", "OwnClass", "RandomisedNetwork"]
