"""What was asked for, before any name is resolved.

Place in the flow: ``cli`` and ``api`` make a :class:`Request`, :func:`from_suite` makes one of a suite file;
``plan.make_plan`` resolves it. May call ``suite`` and the contract.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from faithface.card import ModelCard
from faithface.contract import Dataset, Explainer, Metric
from faithface.run.suite import Published, Suite

ADHOC = ("adhoc", 0)
LISTS = ("models", "datasets", "explainers", "metrics")


@dataclass(frozen=True)
class Request:
    """What was asked for. Names are texts as typed, or objects (from the Python API).

    Attributes:
        suite: name and version of the board that the numbers belong to.
        published: figures from papers that the board prints beside its own.
        limit: samples per dataset (see :func:`choose`); None for all.
        batch_size: the largest batch of the network; None for the model's own choice.
        strict: an unreadable image is an error rather than skipped.
        allow_outside: cards may name networks outside their own folders.
        command: the command line as it was typed, so that an unfinished run can say how it is resumed; ""
            for the Python API.
        folder: the folder that the command was given in.
        inherited: which of ``explainers`` and ``metrics`` nobody asked for by name: they are those of a suite of which
            something else was changed. What applies nowhere among them is not applicable rather than refused.
    """

    models: tuple[str | ModelCard, ...]
    datasets: tuple[str | Dataset, ...]
    explainers: tuple[str | Explainer, ...]
    metrics: tuple[str | Metric, ...]
    suite: tuple[str, int] = ADHOC
    description: str = ""
    published: tuple[Published, ...] = ()
    limit: int | None = None
    seed: int = 0
    device: str = "cpu"
    batch_size: int | None = None
    keep_maps: bool = False
    strict: bool = False
    allow_outside: bool = False
    command: str = ""
    folder: str = field(default_factory=os.getcwd, compare=False)
    inherited: frozenset[str] = frozenset()


def from_suite(suite: Suite, /, **changes: Any) -> Request:
    """Return a suite as a request; ``changes`` that are not None win over the suite's own seed, limit and so on."""
    given = {what for what in LISTS if changes.get(what)}
    request = {
        "models": suite.models,
        "datasets": suite.datasets,
        "explainers": suite.explainers,
        "metrics": suite.metrics,
        "suite": (suite.name, suite.version),
        "description": suite.description,
        "published": suite.published,
        "limit": suite.limit,
        "seed": suite.seed,
        "inherited": frozenset({"explainers", "metrics"} - given if given else ()),
    }
    return Request(**{**request, **{k: v for k, v in changes.items() if v is not None}})
