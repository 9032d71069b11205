"""What a metric is: its :class:`Protocol`, its parameters, and one function from maps to one number per sample.

Place in the flow: plugin authors subclass :class:`Metric`; ``run`` calls :meth:`Metric.score` and boards
:meth:`Metric.summarise`. May call ``errors``, ``reasons``, ``tasks`` and the types beside it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from faithface.card import ModelCard
from faithface.contract.declared import check_literals
from faithface.contract.parameters import Parametrised
from faithface.contract.samples import ClassSide, Which
from faithface.errors import NotApplicable
from faithface.reasons import Reason
from faithface.tasks import TASKS, Task

if TYPE_CHECKING:
    from faithface.contract.dataset import Dataset
    from faithface.contract.explainer import Explainer
    from faithface.contract.maps import Maps
    from faithface.contract.model import FaceModel
    from faithface.contract.samples import Samples

Better = Literal["higher", "lower"]
MetricNeed = Literal["model", "explainer", "twin", "family", "truth", "contributions", "out-of-set"]
Family = Literal["faithful", "specific", "truth", "gate", "description", "cost"]
Range = tuple[float, float]


@dataclass(frozen=True)
class Value:
    """One of the values that a metric gives per sample.

    Attributes:
        name: "" for the headline.
        better: its direction; None: the protocol's.
    """

    name: str = ""
    better: Better | None = None


@dataclass(frozen=True)
class Protocol:
    """What a metric is, apart from how it is set.

    ``range``, ``tolerance``, ``judged_on``, ``cost`` and ``ground_truth`` may be functions where they depend on the
    parameters or the model.

    Attributes:
        id: name and version, such as ``deletion@1``. A change that can move a number makes a new version.
        question: what it asks, in one sentence.
        better: direction of the headline.
        range: smallest and largest possible value of the headline; or a function of (metric, card), where the card
            is None when no model is known.
        best: the best value; None: the end of the range that ``better`` names.
        needs: any of ``model`` (forward passes), ``explainer`` (explains again), ``twin`` (gradients or weights),
            ``family`` (several runs of one model), ``truth`` (ground truth of the dataset), ``contributions`` (the
            model's own mechanism, see the card), ``out-of-set`` (a second dataset). Empty: maps only.
        family: what kind of question it asks, which decides where a board shows it. ``faithful``: does the model depend
            on what the map points at? ``specific``: on this sample's own map more than on another's? ``truth``: does
            the map agree with a known answer? ``gate``: passed or failed. ``description``: a property of maps, never
            ranked as faithfulness. ``cost``: what an explanation costs.
        values: its values; the first is the headline.
        tolerance: how far a sample's value may be from that of a re-run elsewhere, on the scale of the values; or a
            function of the metric. Infinity: it is not expected to come out the same (seconds). ``faithface verify``
            compares with it.
        judged_on: the pairs, or the class, it is judged on (:meth:`Samples.where`); or a function of the metric.
        cost: network passes per sample, in words or a number; or a function of the metric.
        source: the paper.
        tasks: the tasks it can score.
        ground_truth: the kinds of ground truth any one of which is enough (with ``truth`` in ``needs``); or a function
            of the metric.

    Raises:
        TypeError: unknown tasks or needs, no headline among the values, or a direction that is neither.
    """

    id: str
    question: str = ""
    better: Better = "higher"
    range: Range | Callable[[Any, ModelCard | None], Range] = (0.0, 1.0)
    best: float | None = None
    needs: frozenset[MetricNeed] = frozenset()
    family: Family = "description"
    values: tuple[Value, ...] = (Value(),)
    tolerance: float | Callable[[Any], float] = 1e-3
    judged_on: Which | ClassSide | Callable[[Any], Which | ClassSide] = "all"
    cost: str | Callable[[Any], str] = "0"
    source: str = ""
    tasks: frozenset[Task] = frozenset(TASKS)
    ground_truth: tuple[str, ...] | Callable[[Any], tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        what = f"Protocol {self.id!r}"
        check_literals(what, "tasks", self.tasks, Task)
        check_literals(what, "needs", self.needs, MetricNeed)
        check_literals(what, "better", frozenset({self.better}), Better)
        check_literals(what, "family", frozenset({self.family}), Family)
        if not self.values or self.values[0].name:
            raise TypeError(f'{what}: the first of its values is the headline, named ""; got {self.value_names}')
        if len(set(self.value_names)) != len(self.values):
            raise TypeError(f"{what}: two values have one name: {self.value_names}")

    @property
    def value_names(self) -> tuple[str, ...]:
        return tuple(value.name for value in self.values)

    def direction(self, name: str = "") -> Better:
        """Return the direction of a value."""
        return next((value.better for value in self.values if value.name == name), None) or self.better


@dataclass(frozen=True)
class Scores:
    """A metric's values for a batch.

    Attributes:
        values: float64 arrays of N by name; "" is the headline. NaN only with a reason.
        reasons: why the value of a sample (by index) is NaN: a :class:`~faithface.reasons.Reason`, or a text, which
            means one with the code ``undefined``.
        curves: arrays N×P by name, stored with the values for figures and validators.
        flags: remarks on samples (by index) that are scored nevertheless, such as a constant map; a text means a
            reason with the code ``remark``.
    """

    values: Mapping[str, np.ndarray]
    reasons: Mapping[int, Reason | str] = field(default_factory=dict)
    curves: Mapping[str, np.ndarray] = field(default_factory=dict)
    flags: Mapping[int, Reason | str] = field(default_factory=dict)


class Metric(Parametrised, ABC):
    """A written protocol. Concrete metrics are frozen dataclasses; fields are parameters; the docstring is the
    protocol's text.

    Attributes:
        protocol: what the class is.
    """

    protocol: ClassVar[Protocol]
    declared_in = "protocol"
    declared = frozenset(item.name for item in fields(Protocol))

    @property
    def id(self) -> str:
        return self.protocol.id

    @property
    def judged_on(self) -> Which | ClassSide:
        """The pairs, or the class, that this metric, as it is set, is judged on."""
        given = self.protocol.judged_on
        return given(self) if callable(given) else given

    @property
    def ground_truth(self) -> tuple[str, ...]:
        """The kinds of ground truth any one of which is enough for this metric, as it is set."""
        given = self.protocol.ground_truth
        return given(self) if callable(given) else given

    @property
    def tolerance(self) -> float:
        """How far a sample's value of this metric, as it is set, may be from that of a re-run."""
        given = self.protocol.tolerance
        return given(self) if callable(given) else given

    @property
    def cost(self) -> str:
        """What this metric, as it is set, costs in network passes per sample."""
        given = self.protocol.cost
        return given(self) if callable(given) else given

    def range_on(self, card: ModelCard | None = None) -> Range:
        """Return the smallest and largest possible value of the headline on a model (None: on any)."""
        given = self.protocol.range
        return given(self, card) if callable(given) else given

    def best_on(self, card: ModelCard | None = None) -> float:
        """Return the best value of the headline on a model (None: on any)."""
        if self.protocol.best is not None:
            return self.protocol.best
        return self.range_on(card)[1 if self.protocol.better == "higher" else 0]

    @abstractmethod
    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        """Return one float per sample and named value. The batch holds only samples chosen by ``judged_on``."""

    def score_family(self, runs: Mapping[str, Maps], samples: Samples) -> Scores:
        """Family metrics: score the same samples' maps from several training runs (by model name)."""
        raise NotApplicable(f'metric "{self.id}" is not a family metric')

    def summarise(self, values: np.ndarray, name: str = "") -> float:
        """Return the board's number from the finite per-sample values (default: the mean; NaN for none)."""
        return float(np.mean(values)) if len(values) else float("nan")

    def check(self, card: ModelCard, dataset: Dataset, explainer: Explainer | None = None) -> None:
        """Refuse, before the run starts, what this metric's own parameters rule out.

        What follows from ``protocol`` (tasks, ground truth, a second dataset) is checked by the core.

        Raises:
            NotApplicable: it is not applicable; the text gives the reason.
        """
