"""What a run will do, and what is not applicable, settled before anything starts.

Place in the flow: :func:`make_plan` resolves the names of a ``request.Request`` through the registry and returns a
:class:`Plan` of groups (model × dataset) and cells (explainer within a group), which ``driver`` carries out. May call
``applicability``, ``hashing``, ``plugins``, ``request``, ``choice`` and the contract. No network is opened and no
pixel is read here.

What applies somewhere is *not applicable* elsewhere, with the reason in the run; what applies nowhere is a usage
error, unless it came with a suite whose other lists were changed.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from faithface.applicability import explainer_applies, family_of, metric_applies
from faithface.card import ModelCard
from faithface.contract import Dataset, Explainer, Fill, Metric
from faithface.errors import UsageError
from faithface.hashing import fingerprint_of, model_digest, modules_fingerprint
from faithface.plugins import Provenance, Registry, Resolved
from faithface.reasons import Reason, ReasonCode
from faithface.run.choice import choose
from faithface.run.inputs import digest, package_versions, parameter_files
from faithface.run.listed import Lister, problem_of, real_of
from faithface.run.request import LISTS, Request
from faithface.specs import canonical, parameters

Named = TypeVar("Named", ModelCard, Dataset, Explainer, Metric)
RUNNER = ("faithface.run.shard", "faithface.model.onnx_model")
"""The modules through which every number goes, whatever explains and scores."""


@dataclass(frozen=True)
class Cell:
    """One explainer on one model and dataset.

    Attributes:
        number: position in the plan; the cell's key in the store.
        metrics: what is scored, by text.
        not_applicable: by metric text, why it does not apply here.
        reason: why the whole cell is not applicable; None if it is.
        fingerprint: of the code of its explainer and metrics, by what each is.
    """

    number: int
    explainer: Resolved[Explainer]
    metrics: Mapping[str, Resolved[Metric]]
    not_applicable: Mapping[str, Reason]
    reason: Reason | None = None
    fingerprint: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """A model on a dataset: the cells that share samples and clean scores.

    Attributes:
        positions: which of the dataset's items are used, in its order.
        fingerprint: of the model's files and card, the code of the dataset and of the runner, package versions.
    """

    number: int
    model: Resolved[ModelCard]
    dataset: Resolved[Dataset]
    positions: tuple[int, ...]
    cells: tuple[Cell, ...]
    fingerprint: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"{self.model.object.name} on {self.dataset.spec}"


@dataclass(frozen=True)
class FamilyJob:
    """A family metric over the runs of one family: the same explainer and dataset, one cell per run."""

    metric: Resolved[Metric]
    dataset: Resolved[Dataset]
    cells: tuple[tuple[Group, Cell], ...]


@dataclass(frozen=True)
class Plan:
    """What will be done.

    Attributes:
        identity: what makes a command the same command, as JSON values: it names the default directory.
    """

    request: Request
    groups: tuple[Group, ...]
    families: tuple[FamilyJob, ...] = ()
    explainers: tuple[Resolved[Explainer], ...] = ()
    metrics: tuple[Resolved[Metric], ...] = ()
    identity: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fixed(self) -> dict[str, Any]:
        """What a run directory holds one of, as JSON values."""
        return {"seed": self.request.seed, "device": self.request.device}

    @property
    def cells(self) -> list[tuple[Group, Cell]]:
        return [(group, cell) for group in self.groups for cell in group.cells]


def make_plan(request: Request, registry: Registry, lister: Lister = lambda found: found) -> Plan:
    """Resolve the names of a request and decide what applies.

    Args:
        lister: gives the dataset that the plan works with; by default the one that was found.

    Raises:
        UsageError: an unknown name, a wrong parameter, an empty dataset, a model without a dataset of its task, or an
            explainer or metric that applies nowhere (of a changed suite: if nothing at all is left).
    """
    for what in LISTS:
        if not getattr(request, what):
            raise UsageError(f"no {what} to run; give at least one --{what.removesuffix('s')}")
    if request.limit is not None and request.limit < 1:
        raise UsageError(f"limit is {request.limit}; expected at least 1")
    by_name = functools.partial(registry.model, allow_outside=request.allow_outside)
    models = _distinct([resolve(m, by_name) for m in request.models], "model", lambda r: r.object.name)
    datasets = _distinct([resolve(d, registry.dataset) for d in request.datasets], "dataset")
    datasets = [lister(dataset) for dataset in datasets]
    explainers = _distinct([resolve(e, registry.explainer) for e in request.explainers], "explainer")
    metrics = _distinct([resolve(m, registry.metric) for m in request.metrics], "metric")
    groups = _groups(request, models, datasets, explainers, metrics)
    refuse_not_applicable(groups, models, datasets, explainers, metrics, request.inherited)
    return Plan(
        request,
        groups,
        _families(groups, metrics),
        tuple(explainers),
        tuple(metrics),
        identity(request, models, datasets, explainers, metrics),
    )


def resolve(asked: str | Named, by_name: Callable[[str], Resolved[Named]]) -> Resolved[Named]:
    """Return what a text names, or an object given by hand, with its class as provenance."""
    if isinstance(asked, str):
        return by_name(asked)
    cls = type(asked)
    provenance = Provenance("(an object)", "", f"{cls.__module__}:{cls.__qualname__}")
    name = asked.id if isinstance(asked, Metric) else asked.name
    try:
        default = cls() if not isinstance(asked, ModelCard) else asked
    except (TypeError, ValueError):
        default = None  # a required parameter: then all of them are part of the name
    parts = {
        name: Provenance("(an object)", "", f"{type(part).__module__}:{type(part).__qualname__}")
        for name, part in parameters(asked).items()
        if isinstance(part, Fill)
    }
    return Resolved(canonical(name, asked, default), asked, provenance, parts)


def _distinct(
    found: Iterable[Resolved[Named]], what: str, key: Callable[[Resolved[Named]], str] = lambda r: r.spec
) -> list[Resolved[Named]]:
    """Drop a name given twice; two different things of one name are an error."""
    seen: dict[str, Resolved[Named]] = {}
    for one in found:
        earlier = seen.setdefault(key(one), one)
        if earlier is not one and earlier.object != one.object:
            raise UsageError(f'two {what}s are named "{key(one)}"; rename one of them')
    return list(seen.values())


def _groups(
    request: Request,
    models: Sequence[Resolved[ModelCard]],
    datasets: Sequence[Resolved[Dataset]],
    explainers: Sequence[Resolved[Explainer]],
    metrics: Sequence[Resolved[Metric]],
) -> tuple[Group, ...]:
    groups: list[Group] = []
    number = 0
    chosen: dict[str, tuple[int, ...]] = {}
    for model in models:
        for dataset in datasets:
            if not dataset.object.fits(model.object.task):
                continue
            if dataset.spec not in chosen:
                items = dataset.object.items()
                if not len(items) and problem_of(dataset.object) is None:
                    raise UsageError(f'dataset "{dataset.spec}" is empty; expected at least one sample')
                refuse_repeated(dataset.spec, items)
                chosen[dataset.spec] = choose(items, request.limit, request.seed)
            cells = []
            for explainer in explainers:
                cells.append(_cell(number, model, dataset, explainer, metrics, models))
                number += 1
            positions, code = chosen[dataset.spec], group_fingerprint(model, dataset)
            groups.append(Group(len(groups), model, dataset, positions, tuple(cells), code))
    return tuple(groups)


def refuse_repeated(spec: str, items: Sequence[Any]) -> None:
    """Refuse a dataset in which two samples have one id.

    Raises:
        UsageError: it names the id.
    """
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise UsageError(f'dataset "{spec}" lists sample "{item.id}" twice; give each sample an id of its own')
        seen.add(item.id)


def _cell(
    number: int,
    model: Resolved[ModelCard],
    dataset: Resolved[Dataset],
    explainer: Resolved[Explainer],
    metrics: Sequence[Resolved[Metric]],
    models: Sequence[Resolved[ModelCard]],
) -> Cell:
    whole = explainer_applies(model.object, dataset.object, explainer.object)
    cards = [m.object for m in models]
    applying: dict[str, Resolved[Metric]] = {}
    not_applicable: dict[str, Reason] = {}
    for metric in metrics:
        # A metric's own reason comes before the explainer's: it may be needed to say why the metric applies nowhere.
        own = metric_applies(model.object, dataset.object, explainer.object, metric.object, cards)
        if reason := own or whole:
            not_applicable[metric.spec] = reason
        else:
            applying[metric.spec] = metric
    if whole is None and not applying:
        spec, first = next(iter(not_applicable.items()))
        whole = Reason(ReasonCode.NO_METRIC, f"no metric applies; {spec}: {first.detail}")
    return Cell(number, explainer, applying, not_applicable, whole, cell_fingerprint(explainer, applying.values()))


def _families(groups: Sequence[Group], metrics: Sequence[Resolved[Metric]]) -> tuple[FamilyJob, ...]:
    jobs: dict[tuple[str, str, str, str, str], list[tuple[Group, Cell]]] = {}
    wanted: dict[tuple[str, str, str, str, str], tuple[Resolved[Metric], Resolved[Dataset]]] = {}
    for metric in metrics:
        if "family" not in metric.object.protocol.needs:
            continue
        for group in groups:
            for cell in group.cells:
                if metric.spec in cell.metrics:
                    card = group.model.object
                    key = (metric.spec, card.task, family_of(card), group.dataset.spec, cell.explainer.spec)
                    jobs.setdefault(key, []).append((group, cell))
                    wanted[key] = (metric, group.dataset)
    return tuple(FamilyJob(*wanted[key], tuple(cells)) for key, cells in jobs.items())


def refuse_not_applicable(
    groups: Sequence[Group],
    models: Sequence[Resolved[ModelCard]],
    datasets: Sequence[Resolved[Dataset]],
    explainers: Sequence[Resolved[Explainer]],
    metrics: Sequence[Resolved[Metric]],
    inherited: frozenset[str],
) -> None:
    """Refuse what applies nowhere, with the reason that its first cell holds.

    Args:
        inherited: see ``Request``; of these lists only so much is asked that something is left to run.

    Raises:
        UsageError: a model, dataset, explainer or metric applies nowhere, or nothing is left.
    """
    for model in models:
        if not any(group.model is model for group in groups):
            have = ", ".join(f"{d.spec} ({d.object.task})" for d in datasets)
            raise UsageError(
                f'model "{model.object.name}" is for {model.object.task}; no such dataset was given: {have}'
            )
    for dataset in datasets:
        if not any(group.dataset is dataset for group in groups):
            have = ", ".join(f"{m.object.name} ({m.object.task})" for m in models)
            raise UsageError(f'dataset "{dataset.spec}" is for {dataset.object.task}; no such model was given: {have}')
    cells = [(group, cell) for group in groups for cell in group.cells]
    if "explainers" not in inherited:
        for explainer in explainers:
            mine = [(group, cell.reason) for group, cell in cells if cell.explainer is explainer]
            if all(reason and reason.code is not ReasonCode.NO_METRIC for _group, reason in mine):
                _refuse(f'explainer "{explainer.spec}"', *mine[0])
    if "metrics" not in inherited:
        for metric in metrics:
            if any(metric.spec in cell.metrics for _group, cell in cells):
                continue
            # The metric's own reason; it has none if no explainer is left that it could score.
            for group, cell in cells:
                reason = cell.not_applicable[metric.spec]
                if reason is not cell.reason:
                    _refuse(f'metric "{metric.spec}"', group, reason)
    if all(cell.reason for _group, cell in cells):
        missing = " and ".join(f"--{what.removesuffix('s')}" for what in sorted(inherited))
        first = cells[0][1]
        raise UsageError(
            f'nothing of the suite is left to run: explainer "{first.explainer.spec}" is not applicable: '
            f"{first.reason}; give {missing} too"
        )


def _refuse(what: str, group: Group, reason: Reason | None) -> None:
    if reason is not None:
        raise UsageError(f"{what} is not applicable to {group.title}: {reason.detail}", reason.code)


# --- what makes a command the same command


def identity(
    request: Request,
    models: Iterable[Resolved[ModelCard]],
    datasets: Iterable[Resolved[Dataset]],
    explainers: Iterable[Resolved[Explainer]],
    metrics: Iterable[Resolved[Metric]],
) -> dict[str, Any]:
    """Return what makes a command the same command, as JSON values.

    Model files and datasets count by their content, so that another content has another default directory.
    """
    return {
        "suite": list(request.suite),
        "models": [f"{m.object.name}#{model_digest(m.object.path)}" for m in models],
        "datasets": [f"{d.spec}#{d.object.revision}" for d in datasets],
        "explainers": [e.spec for e in explainers],
        "metrics": [m.spec for m in metrics],
        "limit": request.limit,
        "seed": request.seed,
        "device": request.device,
        "batch-size": request.batch_size,
        "keep-maps": request.keep_maps,
        "strict": request.strict,
    }


def default_directory(plan: Plan) -> Path:
    """Return ``runs/<suite>-<hash>``: the same command always finds its own directory again."""
    text = json.dumps(plan.identity, sort_keys=True)
    return Path("runs") / f"{plan.request.suite[0]}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def cell_fingerprint(explainer: Resolved[Explainer], metrics: Iterable[Resolved[Metric]]) -> dict[str, str]:
    """Return the fingerprints of a cell's explainer and metrics, by what each is."""
    parts: list[tuple[str, Resolved[Any]]] = [(f'explainer "{explainer.spec}"', explainer)]
    parts += [(f'metric "{metric.spec}"', metric) for metric in metrics]
    return {what: _part_fingerprint(part) for what, part in parts}


def _part_fingerprint(part: Resolved[Any]) -> str:
    """Return the fingerprint of an explainer or metric, and of the files among its parameters."""
    own, files = fingerprint_of(part.object, part.provenance.distribution), parameter_files(part.object)
    return digest([own, files]) if files else own


def group_fingerprint(model: Resolved[ModelCard], dataset: Resolved[Dataset]) -> dict[str, str]:
    """Return the fingerprints of what all cells of a group share, by what each is.

    The model with all its files, its card, the dataset's code and the runner's, and the versions of packages.
    """
    return {
        f'the files of model "{model.object.name}"': model_digest(model.object.path),
        f'the card of model "{model.object.name}"': fingerprint_of(model.object),
        f'dataset "{dataset.spec}"': fingerprint_of(real_of(dataset.object), dataset.provenance.distribution),
        "the code that loads and explains samples": modules_fingerprint(*RUNNER),
        **package_versions(),
    }
