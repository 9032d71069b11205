"""What the parts of a run tell each other: the values, curves, facts and failures of a shard.

Place in the flow: ``shard`` makes them, an executor passes them on, ``driver`` has them written by ``store``. Imports
only numpy and ``reasons``, so that reading a store loads no model code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from faithface.reasons import Reason, Status

SHARD_SIZE = 16
"""Samples per shard: enough to fill batches across samples, few enough to hold any image size in memory."""

NOT_DETERMINISTIC = "not_deterministic"
"""The key, in a cell's note, of what was found when a sample was explained twice."""


@dataclass(frozen=True)
class ScoredValue:
    """One number: of a metric, a named value and a sample. NaN with a reason; a flag is a remark on a value."""

    metric: str
    name: str
    sample: str
    value: float
    reason: Reason | None = None
    flag: Reason | None = None


@dataclass(frozen=True)
class Curve:
    """The curve behind a number: float32 P."""

    metric: str
    name: str
    sample: str
    points: np.ndarray


@dataclass(frozen=True)
class SampleFacts:
    """What is known of a sample before any explanation: identities, label, clean score, whether the model is right."""

    position: int
    sample: str
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class ShardFailure:
    """Why a cell, or a metric in it, ended in a shard: ``failed`` or ``not applicable``, the reason, the traceback."""

    status: Status
    reason: Reason
    traceback: str = field(default="", compare=False)


@dataclass(frozen=True)
class CellShard:
    """What one cell made of one shard.

    Attributes:
        invalid: by sample id, why its map cannot be scored (values that are not finite).
        failure: why the whole cell ended here; then ``values`` holds what was found before.
        metric_failures: the same for single metrics.
        asked: the metrics that were to be scored; None: all that the cell still needs.
        reads: by metric ("": the explanation), what was read of the dataset beyond the samples (see ``reads``).
        maps: float32 arrays by name (``relevance``, or ``similarity`` and ``dissimilarity``), only where they are kept.
        native: the headline map before it was resized, only where maps are kept and the method has one.
        scored: seconds that each metric took.
    """

    cell: int
    number: int
    ids: tuple[str, ...]
    values: list[ScoredValue] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    invalid: Mapping[str, Reason] = field(default_factory=dict)
    failure: ShardFailure | None = None
    metric_failures: dict[str, ShardFailure] = field(default_factory=dict)
    seconds: float = 0.0
    forward: int = 0
    backward: int = 0
    note: Mapping[str, Any] = field(default_factory=dict)
    maps: Mapping[str, np.ndarray] | None = None
    native: np.ndarray | None = None
    asked: frozenset[str] | None = None
    scored: dict[str, float] = field(default_factory=dict)
    reads: dict[str, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class ShardSamples:
    """What a shard found out about its samples, before the cells."""

    number: int
    facts: tuple[SampleFacts, ...]


@dataclass(frozen=True)
class Opened:
    """What opening a model on a dataset found; written once per group."""

    group: int
    threshold: float | None
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class StepCost:
    """What explaining or scoring one sample takes, by a short measurement.

    Attributes:
        seconds: of wall time.
        forward, backward: passes through the network.
        explained: how many further explanations a metric asks for; their cost is the explainer's.
        whole: whether the network ran for all of it; otherwise the passes are counted, and their time is that of those
            that ran.
    """

    seconds: float
    forward: float = 0.0
    backward: float = 0.0
    explained: float = 0.0
    whole: bool = True


@dataclass(frozen=True)
class Measured:
    """What the steps of a group take for one sample; what could not be measured is not there.

    Attributes:
        explain: by cell.
        score: by metric text.
    """

    group: int
    explain: Mapping[int, StepCost]
    score: Mapping[str, StepCost]


@dataclass(frozen=True)
class Progress:
    """What a process is at, told about once a second.

    Attributes:
        forward, backward: passes of this step so far.
        process: which of several.
    """

    step: Step
    forward: int = 0
    backward: int = 0
    process: int = 0


@dataclass(frozen=True)
class Step:
    """What a process does now: told before each step, so that whoever stops it or loses it knows what it was at.

    Attributes:
        kind: ``list`` (a dataset's samples), ``open`` (a model), ``threshold`` (a dataset's scores), ``read`` (faces,
            ahead of their use), ``load`` (the clean scores), ``measure`` (what steps take), ``explain``, ``again`` (the
            same maps a second time), ``score``, ``call`` (a function), ``rest`` (between two steps).
        cell: of ``measure``, ``explain``, ``again`` and ``score``.
        metric: of ``score``, and of ``measure`` where a metric is measured.
    """

    kind: Literal["list", "open", "threshold", "read", "load", "measure", "explain", "again", "score", "call", "rest"]
    shard: int | None = None
    cell: int | None = None
    metric: str | None = None


Event = Opened | ShardSamples | CellShard | Measured | Progress
"""What an executor yields: for each group first :class:`Opened`, then the shards; before it, where that was asked for,
:class:`Measured`; in between :class:`Progress`."""
