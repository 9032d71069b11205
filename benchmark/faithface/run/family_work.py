"""What a driver asks for of a family metric, and what it gets: values that travel between processes.

Place in the flow: ``family`` makes a :class:`FamilyWork`, ``family_shard`` yields a :class:`FamilyShard` for each of
its shards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from faithface.contract import Metric
from faithface.plugins import Resolved
from faithface.run.plan import Cell, Group
from faithface.run.request import Request
from faithface.run.results import CellShard, Curve, ScoredValue, ShardFailure


@dataclass(frozen=True)
class FamilyWork:
    """The shards of a family metric that are still to score.

    Attributes:
        directory: the run directory, in which the maps lie.
        runs: the training runs, with the cell of each.
        threshold: the decision threshold of the first run's model.
        shards: the samples of each shard, by its number.
    """

    directory: Path
    metric: Resolved[Metric]
    runs: tuple[tuple[Group, Cell], ...]
    request: Request
    threshold: float | None
    shards: Mapping[int, tuple[str, ...]]


@dataclass(frozen=True)
class FamilyShard:
    """What a family metric made of one shard: values and curves, or why the metric failed there.

    Attributes:
        reads: what it read of the dataset beyond the samples.
    """

    number: int
    ids: tuple[str, ...] = ()
    values: list[ScoredValue] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    failure: ShardFailure | None = None
    reads: frozenset[str] = frozenset()

    def of_cells(self, cells: tuple[int, ...]) -> list[CellShard]:
        """Return it as the same values for several cells."""
        return [CellShard(cell, self.number, self.ids, self.values, self.curves) for cell in cells]
